"""How a store's patients are divided: by the seed, by a file, or not at all where weights of another site are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from gmic_model import sampling
from schemas.config.evaluation import SplitConfig
from schemas.errors import ConfigError
from schemas.exam import FINDINGS, ExamRecord, Split
from schemas.reports.data import SplitCount
from tasks.adapters.allocator import uncollected
from tasks.adapters.labels.split_file import Fold, require_every_fold

DIVIDED_BY = ("patient_id", "exam_id", "laterality", *(finding.value for finding in FINDINGS), "pixel_sha256")
"""Columns of the manifest that say how patients are divided, whether the splits leak, and what they hold."""
MOVED_BECAUSE = {
    "seed": "they share their PatientID with one of another split",
    "file": "split.file says so",
    "external": "every patient is a test patient",
    "folds": "the cohort or its labels have changed, and folds are dealt anew",
}
"""Why a patient leaves the split of an earlier run, by the way of dividing."""


@uncollected()
def divide(
    exams: Sequence[ExamRecord],
    split: SplitConfig,
    *,
    given: Mapping[str, Split | None] | None,
    kept: Mapping[str, Split],
    persons: Mapping[str, str],
) -> dict[str, Split]:
    """The split of each patient, by pseudonym; whom a file leaves out is not there.

    Where a file names nobody who tunes, as most official divisions do, ``tuning_fraction`` of its training patients do, drawn
    like all others: stratified, by the seed, and as an earlier run drew them.

    Args:
        exams: The published ones, of all patients.
        split: How to divide.
        given: What the file says of each patient; None if there is no file.
        kept: What an earlier run with the same settings gave.
        persons: Patients who may be one person are divided as one.

    Raises:
        ConfigError: The shares are out of range.
    """
    if split.external:
        return dict.fromkeys(sorted({exam.patient_id for exam in exams}), Split.TEST)
    fold = fold_of(split)
    if given is None and fold is not None:
        given = _dealt(exams, fold, split.seed, persons)
    if given is None:
        shares = {Split.TUNING: split.tuning_fraction, Split.TEST: split.test_fraction}
        shares[Split.TRAIN] = 1.0 - sum(shares.values())
        return sampling.split_patients(exams, shares, seed=split.seed, kept=kept, person_by_patient=persons)
    divided = {patient_id: part for patient_id, part in sorted(given.items()) if part is not None}
    training = {patient_id for patient_id, part in divided.items() if part is Split.TRAIN}
    if training and Split.TUNING not in divided.values():
        drawn = sampling.split_patients(
            [exam for exam in exams if exam.patient_id in training],
            {Split.TUNING: split.tuning_fraction, Split.TRAIN: 1.0 - split.tuning_fraction},
            seed=split.seed,
            kept={patient_id: part for patient_id, part in kept.items() if patient_id in training and part is not Split.TEST},
            person_by_patient=persons,
        )
        divided |= drawn
    return divided


def fold_of(split: SplitConfig) -> Fold | None:
    """The fold that tests; None where the patients are not divided into folds.

    Raises:
        ConfigError: There are folds, and nobody says which of them tests.
    """
    if split.folds is None:
        return None
    if split.fold is None:
        raise ConfigError(
            f"The patients are divided into {split.folds} folds, and none is named to test",
            expected=f"split.fold from 1 to {split.folds}",
            remedy="run `mammo crossvalidate CONFIG.yaml`, which trains and evaluates them all; or name one in split.fold",
        )
    return Fold(number=split.fold, folds=split.folds)


def _dealt(exams: Sequence[ExamRecord], fold: Fold, seed: int, persons: Mapping[str, str]) -> dict[str, Split]:
    """Folds that are drawn, as a file would give them: of the others, ``divide`` draws who tunes."""
    drawn = sampling.draw_folds(exams, fold.folds, seed=seed, person_by_patient=persons)
    require_every_fold(drawn.values(), fold.folds)
    return {patient_id: fold.split_of(number) for patient_id, number in drawn.items()}


def way_of_dividing(split: SplitConfig) -> Literal["seed", "file", "external", "folds"]:
    """As the split's report says it."""
    if split.external:
        return "external"
    if split.folds is not None:
        return "folds"
    return "seed" if split.file is None else "file"


def settings_sha256(split: SplitConfig) -> str:
    """Names the way of dividing: a patient keeps the split of an earlier run that divided in the same way.

    A file may grow with the cohort, and its place is nobody's business: that there is one counts, and no more.
    """
    return split.sha256() if split.file is None else split.model_copy(update={"file": Path("given")}).sha256()


def count_splits(manifest: pd.DataFrame) -> dict[str, SplitCount]:
    """Sizes by split of a manifest with its ``split`` column."""
    counts, counted = {}, manifest[["split", "patient_id", "exam_id", "laterality", *FINDINGS]]
    for part in Split:
        lines = counted[counted["split"] == part.value]
        breasts = lines.drop_duplicates(["exam_id", "laterality"])
        counts[part.value] = SplitCount(
            patients=lines["patient_id"].nunique(),
            exams=lines["exam_id"].nunique(),
            images=len(lines),
            benign_breasts=int((breasts["benign"] == 1).sum()),
            malignant_breasts=int((breasts["malignant"] == 1).sum()),
        )
    return counts
