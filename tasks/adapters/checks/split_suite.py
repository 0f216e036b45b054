"""The suite of checks on how patients were split: the leakage audit, and whether each split can be measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import pandas as pd

from schemas.errors import ValidationFailed
from schemas.exam import Split
from schemas.layout import SPLIT_NAMES, Severity
from schemas.reports.data import CheckResult
from tasks.adapters.checks.check import (
    Recipe,
    Suite,
    between,
    check_of,
    count_by,
    derived_columns,
    distinct_of,
    has_columns,
    holders,
    table_check,
)


def split_suites(manifest: pd.DataFrame, splits: pd.DataFrame, person_by_patient: Mapping[str, str]) -> tuple[Suite, ...]:
    """Suite ``splits``: on the table itself, on its patients, and on what each split holds."""
    return (
        Suite(name="splits", table=splits, checks=_SPLIT_TABLE_CHECKS),
        Suite(name="splits", table=_patient_table(manifest, splits, person_by_patient), checks=_PATIENT_CHECKS),
        Suite(name="splits", table=_split_sizes(manifest, splits), checks=_SIZE_CHECKS),
    )


def refuse_leaks(checks: Iterable[CheckResult]) -> None:
    """Ends a division in which a patient, exam or image is in two splits.

    Raises:
        ValidationFailed: A check that blocks is not met.
    """
    if failed := [check for check in checks if not check.is_met and check.severity == Severity.BLOCK]:
        raise ValidationFailed(
            "The splits leak",
            expected="every patient, exam and image in one split",
            got="; ".join(f"{check.check}: {check.unexpected_count}" for check in failed),
            remedy="remove images that stand in several patients' exams (docs/reference/data-checks.md), then split again",
        )


def unmeasured(checks: Iterable[CheckResult], parts: Iterable[str]) -> tuple[str, ...]:
    """What splits lack that some metric of theirs needs, in the words of the checks; of these splits alone."""
    asked = {f"{part}_{size}" for part in parts for size in _SIZES}
    return tuple(check.check for check in checks if not check.is_met and check.column in asked)


_SPLIT_TABLE_CHECKS: Final = (
    table_check("the columns are those of the schema", "ExpectTableColumnsToMatchSet", column_set=list(SPLIT_NAMES)),
    check_of("is never empty", "patient_id", "ExpectColumnValuesToNotBeNull", Severity.BLOCK),
    check_of("is never empty", "split", "ExpectColumnValuesToNotBeNull", Severity.BLOCK),
    check_of(
        f"is one of {', '.join(Split)}",
        "split",
        "ExpectColumnValuesToBeInSet",
        Severity.BLOCK,
        value_set=[split.value for split in Split],
    ),
)


_PATIENT_CHECKS: Final = (
    between(
        "R62: every patient has a split",
        "lines_of_patient",
        Severity.BLOCK,
        1,
        None,
        "run `mammo split`: it gives new patients one",
    ),
    between("R62: no patient has two", "lines_of_patient", Severity.BLOCK, None, 1, "the table was edited: restore it"),
    between(
        "R62: the patient's exams are in one split each",
        "splits_of_an_exam",
        Severity.BLOCK,
        None,
        1,
        "an exam has two patients: correct at the source",
    ),
    between(
        "R62: the patient's images are in one split each",
        "splits_of_an_image",
        Severity.BLOCK,
        None,
        1,
        "told by the digest of the pixels: one image under two patients",
    ),
    between(
        "R62: patients of one PatientID are in one split",
        "splits_of_a_person",
        Severity.BLOCK,
        None,
        1,
        "whatever the issuer, or none",
    ),
    between("every patient of the table has an image", "images", Severity.WARN, 1, None, "a patient whose images went"),
)


_SIZES: Final = ("exams", "malignant_breasts", "benign_breasts", "breasts_without_finding")


_SIZE_CHECKS: Final = tuple(
    between(f"{split} has {size.replace('_', ' ')}", f"{split}_{size}", Severity.WARN, 1, None, "a metric will not be defined")
    for split in Split
    for size in _SIZES
)


def _patient_table(manifest: pd.DataFrame, splits: pd.DataFrame, person_by_patient: Mapping[str, str]) -> pd.DataFrame:
    """One line per patient of either table; without the columns to join by, an empty one on which every check errs."""
    if not has_columns(splits, SPLIT_NAMES) or not has_columns(manifest, ("patient_id",)):
        return pd.DataFrame()
    asked = [name for name in ("patient_id", "exam_id", "pixel_sha256") if name in manifest]
    joined = manifest[asked].merge(splits[list(SPLIT_NAMES)], on="patient_id", how="left")
    joined["person"] = joined["patient_id"].map(person_by_patient)  # empty for all others
    recipes = {
        "most_of_person": Recipe(("person",), lambda images: distinct_of(images, "person", "split")),
        "most_of_exam": Recipe(("exam_id",), lambda images: distinct_of(images, "exam_id", "split")),
        "most_of_image": Recipe(("pixel_sha256",), lambda images: holders(images, "split")),
    }
    joined = joined.assign(**derived_columns(joined, recipes))
    most = {
        "splits_of_a_person": Recipe(("most_of_person",), lambda groups: groups["most_of_person"].max()),
        "splits_of_an_exam": Recipe(("most_of_exam",), lambda groups: groups["most_of_exam"].max()),
        "splits_of_an_image": Recipe(("most_of_image",), lambda groups: groups["most_of_image"].max()),
    }
    patients = count_by(["patient_id"], joined, most)
    lines = splits.groupby("patient_id").size()
    patients = patients.reindex(patients.index.union(lines.index))
    images = manifest.groupby("patient_id").size()
    return patients.assign(
        lines_of_patient=lines.reindex(patients.index, fill_value=0), images=images.reindex(patients.index, fill_value=0)
    )


def _split_sizes(manifest: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """One line with what each split holds, a column per split and size: what lacks is named by its column."""
    if not has_columns(splits, SPLIT_NAMES) or not has_columns(
        manifest, ("patient_id", "exam_id", "laterality", "benign", "malignant")
    ):
        return pd.DataFrame()
    breasts = manifest.groupby(["patient_id", "exam_id", "laterality"], as_index=False)[["benign", "malignant"]].first()
    breasts = breasts.merge(splits[list(SPLIT_NAMES)], on="patient_id")
    sizes = {}
    for split in Split:
        own = breasts[breasts["split"] == split.value]
        counts = (
            own["exam_id"].nunique(),
            (own["malignant"] == 1).sum(),
            (own["benign"] == 1).sum(),
            ((own["malignant"] == 0) & (own["benign"] == 0)).sum(),
        )
        sizes.update({f"{split}_{size}": int(count) for size, count in zip(_SIZES, counts, strict=True)})
    return pd.DataFrame([sizes])
