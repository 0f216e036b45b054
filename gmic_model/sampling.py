"""Which patients train, tune and test, and which exams an epoch shows.

Patients are split, never exams or images. Both draws take their seed as an argument and work on records and integers only;
files, label tables and pixels do not belong here.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum

import numpy as np

from schemas.errors import ConfigError, TrainingError
from schemas.exam import ExamRecord, Finding, Split

logger = logging.getLogger(__name__)


def split_patients(
    exams: Sequence[ExamRecord],
    fractions: Mapping[Split, float],
    *,
    seed: int,
    kept: Mapping[str, Split] | None = None,
    person_by_patient: Mapping[str, str] | None = None,
) -> dict[str, Split]:
    """Give every patient one split, stratified by the worst finding known of any of the patient's breasts.

    Strata, worst first: malignant, benign, known to be without any finding that the labels speak of, known to be without a part
    of them, nothing known. Within each, patients are ordered by a digest of seed and pseudonym and divided by largest
    remainder, so a split is off its exact share by less than one patient per stratum. A stratum with at least as many patients
    as there are splits gives each of them at least one: the smallest split of a small cohort would otherwise have no positive
    to measure on. A cohort of a few patients, each in another stratum, still gives every split somebody, test before tuning.

    Args:
        exams: In any order; a patient may have several.
        fractions: Share of patients by split, adding to 1; a split of share 0 or left out gets nobody.
        seed: Another seed, another division; nothing else but the set of patients and their findings matters.
        kept: Splits given earlier, when the cohort was smaller. They stay; new patients go where most are lacking.
        person_by_patient: Patients who may be one person under several pseudonyms: they are divided as one. If they were given
            different splits earlier, all go where a network may have seen them: train before tuning before test.

    Returns:
        Split by patient pseudonym, in the order of the pseudonyms.

    Raises:
        ConfigError: A fraction is negative, or they do not add to 1.
    """
    _check_fractions(fractions)
    persons = person_by_patient or {}
    patient_ids = {exam.patient_id for exam in exams}
    kept = _kept_by_person(kept or {}, persons)
    strata: dict[_Stratum, list[str]] = defaultdict(list)
    for person_id, stratum in _stratum_by_person(exams, persons).items():
        strata[stratum].append(person_id)
    split_by_person: dict[str, Split] = {}
    for patients in strata.values():
        patients.sort(key=lambda patient_id: _keyed_order(patient_id, seed))
        earlier = {patient_id: kept[patient_id] for patient_id in patients if kept and patient_id in kept}
        split_by_person.update(earlier)
        new = [patient_id for patient_id in patients if patient_id not in earlier]
        start = 0
        for split, count in _lacking(_apportion(len(patients), fractions), earlier.values(), len(new)).items():
            split_by_person.update(dict.fromkeys(new[start : start + count], split))
            start += count
    _give_every_split_somebody(split_by_person, strata, fractions, kept)
    return {patient_id: split_by_person[persons.get(patient_id, patient_id)] for patient_id in sorted(patient_ids)}


def draw_folds(
    exams: Sequence[ExamRecord], folds: int, *, seed: int, person_by_patient: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Give every patient one of the folds 1 to ``folds``, in the strata of ``split_patients``.

    The patients of all strata, worst finding first, are dealt one by one: any two folds differ by one patient at the most, of
    every stratum and of all. A fold has no memory: where patients come to the cohort, all are dealt anew.

    Args:
        exams: In any order; a patient may have several.
        folds: How many.
        seed: Another seed, another deal.
        person_by_patient: Patients who may be one person under several pseudonyms get one fold.
    """
    persons = person_by_patient or {}
    strata: dict[_Stratum, list[str]] = defaultdict(list)
    for person_id, stratum in _stratum_by_person(exams, persons).items():
        strata[stratum].append(person_id)
    dealt = [
        person_id
        for stratum in sorted(strata, reverse=True)
        for person_id in sorted(strata[stratum], key=lambda person_id: _keyed_order(person_id, seed))
    ]
    fold_by_person = {person_id: place % folds + 1 for place, person_id in enumerate(dealt)}
    patient_ids = sorted({exam.patient_id for exam in exams})
    return {patient_id: fold_by_person[persons.get(patient_id, patient_id)] for patient_id in patient_ids}


class EpochSampler:
    """All exams with a finding and as many random exams known to be without one, drawn anew each epoch (paper section 3.1).

    Of a finding that no label speaks of, nothing is asked: with the labels of a cancer registry, which leave out benign ones,
    an exam without cancer is a negative. Where some exams are labelled for all findings and others for a part of them, the
    former are drawn first and the latter fill up; the loss counts of each breast only what is known. Not known is never shown
    as absent. The draw depends on ``(seed, epoch)`` alone, so a resumed epoch goes on where it stopped.

    Args:
        exams: The training exams, in the order of the data set that the indices address.
        negatives_per_positive: Exams without a finding per exam with one. Drawn without replacement: never more than there are.
        shortfall: Share of a finding's negatives that may lack. For each finding an epoch shows exams known to be without it,
            ``negatives_per_positive`` for each exam with it; exams with another finding count.
        seed: With the epoch, the whole state of the draw; not negative.

    Raises:
        TrainingError: No exam has a known finding, or too many negatives of one lack.
    """

    def __init__(
        self, exams: Sequence[ExamRecord], *, negatives_per_positive: float = 1.0, shortfall: float = 0.5, seed: int
    ) -> None:
        known = known_findings(exams)
        without = [i for i, exam in enumerate(exams) if not exam.has_finding]
        lacked = {i: sum(exams[i].lacks(finding) for finding in known) for i in without}
        whole = [i for i in without if known and lacked[i] == len(known)]
        partly = [i for i in without if 0 < lacked[i] < len(known)]
        self._positives_N = np.array([i for i, exam in enumerate(exams) if exam.has_finding], dtype=np.int64)
        self._pools = [np.array(pool, dtype=np.int64) for pool in (whole, partly)]
        if not len(self._positives_N):
            raise TrainingError(
                "No training exam has a finding",
                expected="at least one exam labelled benign or malignant in the train split",
                got=f"{len(exams)} exams, {len(self._pools[0])} known to be without a finding, the rest not labelled",
                remedy="check that the labels file joins to these exams (see the ingest report), or add labelled exams",
            )
        wanted = math.floor(len(self._positives_N) * negatives_per_positive + 0.5)
        self._drawn = [min(wanted, len(self._pools[0])), 0]
        self._drawn[1] = min(wanted - self._drawn[0], len(self._pools[1]))
        self._seed = seed
        for finding in known:
            self._require_negatives(exams, finding, negatives_per_positive, shortfall)
        if sum(self._drawn) < wanted:
            logger.warning(
                "An epoch has %d exams without a finding instead of %d: no more are known to be without one",
                sum(self._drawn),
                wanted,
            )

    def _require_negatives(self, exams: Sequence[ExamRecord], finding: Finding, ratio: float, shortfall: float) -> None:
        """A network that is shown no exam without a finding learns that every breast holds it."""
        positives = sum(exam.holds(finding) for exam in exams)
        others = sum(exams[i].lacks(finding) for i in self._positives_N)
        partly_N = self._pools[1]
        lacking_partly = sum(exams[i].lacks(finding) for i in partly_N) / max(len(partly_N), 1) * self._drawn[1]
        negatives = others + self._drawn[0] + round(lacking_partly)
        if negatives < math.ceil(positives * ratio * (1.0 - shortfall) - 1e-9):
            raise TrainingError(
                f"An epoch would show too few exams known to be without a {finding.value} finding",
                expected=f"{ratio:g} for each of the {positives} with one, of which a share of {shortfall:g} may lack",
                got=f"{negatives}",
                remedy="label more exams without a finding (0, not empty, in the labels file), or set "
                "train.negatives_per_positive lower or train.negatives_shortfall higher",
            )

    def draw(self, epoch: int) -> list[int]:
        """The exams of an epoch as indices into ``exams``, shuffled."""
        rng = np.random.default_rng((self._seed, epoch))
        shown = [self._positives_N]
        for pool_N, count in zip(self._pools, self._drawn, strict=True):
            if count or pool_N is self._pools[0]:  # a pool that is not needed does not move the generator
                shown.append(rng.choice(pool_N, size=count, replace=False))
        drawn: list[int] = rng.permutation(np.concatenate(shown)).tolist()
        return drawn


def measured_exams(exams: Sequence[ExamRecord], negatives_per_positive: float, *, seed: int) -> frozenset[str]:
    """Ids of all exams with a finding, and of so many for each of them that are known to be without one.

    These are drawn without replacement. The draw depends on the seed and on which exams there are, not on their order: every
    epoch is measured on the same exams. An AUROC of all positives and of negatives drawn at random estimates that of all; it is
    less exact by what the other negatives would say.
    """
    known = known_findings(exams)
    positives = [exam.exam_id for exam in exams if exam.has_finding]
    without = sorted(exam.exam_id for exam in exams if not exam.has_finding and any(exam.lacks(finding) for finding in known))
    count = min(len(without), math.floor(len(positives) * negatives_per_positive + 0.5))
    drawn = np.random.default_rng(seed).choice(len(without), size=count, replace=False)
    return frozenset([*positives, *(without[place] for place in drawn.tolist())])


def known_findings(exams: Sequence[ExamRecord]) -> tuple[Finding, ...]:
    """The findings that at least one breast is known to hold or not to hold."""
    spoken_of = frozenset[Finding]().union(
        *(found for exam in exams for found in exam.findings.values() if found),
        *(exam.absent_of(laterality) for exam in exams for laterality in exam.findings),
    )
    return tuple(finding for finding in Finding if finding in spoken_of)


class _Stratum(IntEnum):
    """What is known of a patient; a larger value outweighs a smaller one."""

    UNKNOWN = 0
    PARTLY_KNOWN = 1
    NO_FINDING = 2
    BENIGN = 3
    MALIGNANT = 4


_MOVES_FIRST = (_Stratum.NO_FINDING, _Stratum.PARTLY_KNOWN, _Stratum.BENIGN, _Stratum.UNKNOWN, _Stratum.MALIGNANT)


def _stratum(exam: ExamRecord, known: Sequence[Finding]) -> _Stratum:
    if exam.holds(Finding.MALIGNANT):
        return _Stratum.MALIGNANT
    if exam.holds(Finding.BENIGN):
        return _Stratum.BENIGN
    lacking = [exam.lacks(finding) for finding in known]
    if any(lacking):
        return _Stratum.NO_FINDING if all(lacking) else _Stratum.PARTLY_KNOWN
    return _Stratum.UNKNOWN


def _stratum_by_person(exams: Sequence[ExamRecord], persons: Mapping[str, str]) -> dict[str, _Stratum]:
    """Of every person, who is the patient unless ``persons`` says that several patients are one."""
    alike = {_said_of(exam): exam for exam in exams}  # of a million exams some ten different things are said
    known = known_findings(tuple(alike.values()))
    strata = {said: _stratum(exam, known) for said, exam in alike.items()}
    stratum_by_person: dict[str, _Stratum] = {}
    for exam in exams:
        person_id = persons.get(exam.patient_id, exam.patient_id)
        stratum_by_person[person_id] = max(stratum_by_person.get(person_id, _Stratum.UNKNOWN), strata[_said_of(exam)])
    return stratum_by_person


def _said_of(exam: ExamRecord) -> tuple[object, ...]:
    """Equal for exams of whose breasts the same is known."""
    return *exam.findings.items(), *(exam.absent or {}).items(), exam.absent is None


def _kept_by_person(kept: Mapping[str, Split], persons: Mapping[str, str]) -> dict[str, Split]:
    """The earlier split of each person: the one of which most was seen, where its patients were divided."""
    seen_first = tuple(Split).index
    by_person: dict[str, Split] = {}
    for patient_id, split in kept.items():
        person_id = persons.get(patient_id, patient_id)
        by_person[person_id] = min(by_person.get(person_id, split), split, key=seen_first)
    return by_person


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


def _give_every_split_somebody(
    split_by_person: dict[str, Split],
    strata: Mapping[_Stratum, Sequence[str]],
    fractions: Mapping[Split, float],
    kept: Mapping[str, Split],
) -> None:
    """Moves a new patient into each split that has a share and nobody: rounding in strata of one or two can leave it so.

    One moves out of a split that has more than its share of the stratum, if there is such a one; then in the order of
    ``_MOVES_FIRST``: whoever is known measures something, and the worst findings are learnt from.
    """
    for split in reversed(Split):
        held = Counter(split_by_person.values())
        if held[split] or not fractions.get(split, 0.0) > 0.0:
            continue
        movable: list[tuple[bool, int, int, str]] = []
        for stratum, patients in strata.items():
            in_stratum = Counter(split_by_person[person] for person in patients)
            for place, person in enumerate(patients):
                giver = split_by_person[person]
                if person not in kept and held[giver] > 1:
                    is_above_share = in_stratum[giver] > len(patients) * fractions.get(giver, 0.0)
                    movable.append((not is_above_share, _MOVES_FIRST.index(stratum), place, person))
        if movable:
            split_by_person[min(movable)[-1]] = split


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
