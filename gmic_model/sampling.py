"""Which patients train, tune and test, and which exams an epoch shows.

Patients are split, never exams or images. Both draws take their seed as an argument and work on records and integers only;
files, label tables and pixels do not belong here.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum

import numpy as np

from schemas.errors import ConfigError, TrainingError
from schemas.exam import ExamRecord, Finding, Split

logger = logging.getLogger(__name__)


def split_patients(
    exams: Sequence[ExamRecord], fractions: Mapping[Split, float], *, seed: int, kept: Mapping[str, Split] | None = None
) -> dict[str, Split]:
    """Give every patient one split, stratified by the worst finding known of any of the patient's breasts.

    Strata, worst first: malignant, benign, known to be without a finding, nothing known. Within each, patients are ordered by
    a digest of seed and pseudonym and divided by largest remainder, so a split is off its exact share by less than one patient
    per stratum. A stratum with at least as many patients as there are splits gives each of them at least one: the smallest
    split of a small cohort would otherwise have no positive to measure on.

    Args:
        exams: In any order; a patient may have several.
        fractions: Share of patients by split, adding to 1; a split of share 0 or left out gets nobody.
        seed: Another seed, another division; nothing else but the set of patients and their findings matters.
        kept: Splits given earlier, when the cohort was smaller. They stay; new patients go where most are lacking.

    Returns:
        Split by patient pseudonym, in the order of the pseudonyms.

    Raises:
        ConfigError: A fraction is negative, or they do not add to 1.
    """
    _check_fractions(fractions)
    strata: dict[_Stratum, list[str]] = defaultdict(list)
    for patient_id, stratum in _stratum_by_patient(exams).items():
        strata[stratum].append(patient_id)
    split_by_patient: dict[str, Split] = {}
    for patients in strata.values():
        patients.sort(key=lambda patient_id: _keyed_order(patient_id, seed))
        earlier = {patient_id: kept[patient_id] for patient_id in patients if kept and patient_id in kept}
        split_by_patient.update(earlier)
        new = [patient_id for patient_id in patients if patient_id not in earlier]
        start = 0
        for split, count in _lacking(_apportion(len(patients), fractions), earlier.values(), len(new)).items():
            split_by_patient.update(dict.fromkeys(new[start : start + count], split))
            start += count
    return dict(sorted(split_by_patient.items()))


class EpochSampler:
    """All exams with a finding and as many random exams known to be without one, drawn anew each epoch (paper section 3.1).

    An exam is a negative only if every breast of it is known to hold nothing: not known is never shown as absent. The
    draw depends on ``(seed, epoch)`` alone, so a resumed epoch goes on where it stopped.

    Args:
        exams: The training exams, in the order of the data set that the indices address.
        negatives_per_positive: Exams without a finding per exam with one. Drawn without replacement: never more than there are.
        seed: With the epoch, the whole state of the draw; not negative.

    Raises:
        TrainingError: No exam has a known finding.
    """

    def __init__(self, exams: Sequence[ExamRecord], *, negatives_per_positive: float = 1.0, seed: int) -> None:
        self._positives_N = np.array([i for i, exam in enumerate(exams) if exam.has_finding], dtype=np.int64)
        self._negatives_N = np.array([i for i, exam in enumerate(exams) if _is_without_finding(exam)], dtype=np.int64)
        if not len(self._positives_N):
            raise TrainingError(
                "No training exam has a finding",
                expected="at least one exam labelled benign or malignant in the train split",
                got=f"{len(exams)} exams, {len(self._negatives_N)} known to be without a finding, the rest not labelled",
                remedy="check that the labels file joins to these exams (see the ingest report), or add labelled exams",
            )
        wanted = math.floor(len(self._positives_N) * negatives_per_positive + 0.5)
        self._negatives_drawn = min(wanted, len(self._negatives_N))
        if self._negatives_drawn < wanted:
            logger.warning(
                "An epoch has %d exams without a finding instead of %d: no more are known to be without one",
                self._negatives_drawn,
                wanted,
            )
        self._seed = seed

    def draw(self, epoch: int) -> list[int]:
        """The exams of an epoch as indices into ``exams``, shuffled."""
        rng = np.random.default_rng((self._seed, epoch))
        negatives_N = rng.choice(self._negatives_N, size=self._negatives_drawn, replace=False)
        drawn: list[int] = rng.permutation(np.concatenate([self._positives_N, negatives_N])).tolist()
        return drawn


class _Stratum(IntEnum):
    """What is known of a patient; a larger value outweighs a smaller one."""

    UNKNOWN = 0
    NO_FINDING = 1
    BENIGN = 2
    MALIGNANT = 3


def _is_without_finding(exam: ExamRecord) -> bool:
    return bool(exam.findings) and all(found is not None and not found for found in exam.findings.values())


def _stratum(exam: ExamRecord) -> _Stratum:
    found = frozenset[Finding]().union(*(findings for findings in exam.findings.values() if findings))
    if Finding.MALIGNANT in found:
        return _Stratum.MALIGNANT
    if Finding.BENIGN in found:
        return _Stratum.BENIGN
    return _Stratum.NO_FINDING if _is_without_finding(exam) else _Stratum.UNKNOWN


def _stratum_by_patient(exams: Sequence[ExamRecord]) -> dict[str, _Stratum]:
    stratum_by_patient: dict[str, _Stratum] = {}
    for exam in exams:
        before = stratum_by_patient.get(exam.patient_id, _Stratum.UNKNOWN)
        stratum_by_patient[exam.patient_id] = max(before, _stratum(exam))
    return stratum_by_patient


def _keyed_order(patient_id: str, seed: int) -> tuple[bytes, str]:
    return hashlib.sha256(f"{seed}\0{patient_id}".encode()).digest(), patient_id


def _apportion(patients: int, fractions: Mapping[Split, float]) -> dict[Split, int]:
    """Whole patients per split by largest remainder; at least one each where there are enough. Ties go to the earlier split."""
    shares = {split: patients * fractions[split] for split in Split if fractions.get(split, 0.0) > 0.0}
    # 60 * 0.15 is 8.999...: rounding first keeps an exact share exact.
    counts = {split: math.floor(round(share, 9)) for split, share in shares.items()}
    by_remainder = sorted(shares, key=lambda split: round(counts[split] - shares[split], 9))
    for split in by_remainder[: patients - sum(counts.values())]:
        counts[split] += 1
    if patients >= len(shares):
        for split in shares:
            if counts[split] == 0:
                counts[max(counts, key=lambda other: counts[other])] -= 1
                counts[split] = 1
    return counts


def _lacking(wanted: Mapping[Split, int], have: Collection[Split], new: int) -> dict[Split, int]:
    """How many of the ``new`` patients each split gets; where earlier ones already hold too many, the others get fewer."""
    lacking = {split: max(0, count - sum(held is split for held in have)) for split, count in wanted.items()}
    while sum(lacking.values()) > new:
        lacking[max(lacking, key=lambda split: lacking[split])] -= 1
    return lacking


def _check_fractions(fractions: Mapping[Split, float]) -> None:
    total = math.fsum(fractions.values())
    if any(not fraction >= 0.0 for fraction in fractions.values()) or abs(total - 1.0) > 1e-9:
        raise ConfigError(
            "The split fractions cannot divide the patients",
            expected="shares of at least 0 that add to 1",
            got=", ".join(f"{split.value} {fraction}" for split, fraction in fractions.items()) or "none",
            remedy="set split.tuning_fraction and split.test_fraction; training takes the rest",
        )
