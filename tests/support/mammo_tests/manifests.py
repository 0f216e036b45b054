"""Manifests that meet every check, and ways to break them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pandas as pd

from schemas.layout import MANIFEST_COLUMNS, MANIFEST_NAMES, VIEWS_PER_EXAM
from schemas.reports.data import CheckResult

VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
Breakage = Callable[[pd.DataFrame], pd.DataFrame]


def digest(*words: object) -> str:
    """A digest of anything."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


def line_of(row: int) -> dict[str, object]:
    """One image of a clean store: 4 views an exam, 2 exams a patient; exams 0-2 of 6 malignant, benign, without by turns.

    What does not vary is the example of its column.
    """
    exam, (laterality, view_position) = row // VIEWS_PER_EXAM, VIEWS[row % VIEWS_PER_EXAM]
    patient = exam // 2
    finding = patient % 3 if laterality == "R" else 2
    return {
        **{column.name: column.example for column in MANIFEST_COLUMNS},
        "row": row,
        "image_id": "I" + digest("image", row)[:24],
        "exam_id": "E" + digest("exam", exam)[:24],
        "patient_id": "P" + digest("patient", patient)[:24],
        "laterality": laterality,
        "view_position": view_position,
        "benign": int(finding == 1),
        "malignant": int(finding == 0),
        "birads": 5 if finding == 0 else 2,
        "finding_type": None,
        "lesion_boxes": None,
        "has_lesion_mask": finding != 2,
        "mask_sha256": digest("mask", row) if finding != 2 else None,
        "written_sha256": digest("stored", row),
        "source_sha256": digest("file", row),
        "pixel_sha256": digest("pixels", row),
        "exam_date": f"2019-0{1 + exam % 2}-01",
        "patient_age_years": 50.0 + exam % 2,
        "gate_warnings": "",
        "is_flipped": laterality == "R",
    }


def as_manifest(lines: list[dict[str, object]]) -> pd.DataFrame:
    """Typed as the store's writer types it."""
    manifest = pd.DataFrame(lines, columns=list(MANIFEST_NAMES))
    return manifest.astype({column.name: column.dtype for column in MANIFEST_COLUMNS})


def clean_manifest(images: int = 72) -> pd.DataFrame:
    """18 exams of 9 patients: 3 each with malignant, benign and no findings."""
    return as_manifest([line_of(row) for row in range(images)])


def clean_splits(manifest: pd.DataFrame) -> pd.DataFrame:
    """Each split gets one patient of each kind: patients 0-2, 3-5, 6-8."""
    patients = list(dict.fromkeys(manifest["patient_id"]))
    return pd.DataFrame({"patient_id": patients, "split": ["train"] * 3 + ["tuning"] * 3 + ["test"] * 3})


def failed(results: tuple[CheckResult, ...]) -> dict[tuple[str, str], tuple[str, int]]:
    """(suite, start of the check or column) of what is not met."""
    return {(one.suite, f"{one.column} {one.check}"): (one.severity, one.unexpected_count) for one in results if not one.is_met}


def set_value(column: str, value: str | float | None, *rows: int) -> Breakage:
    """A breakage: these rows get this value."""

    def broken(manifest: pd.DataFrame) -> pd.DataFrame:
        return manifest.assign(**{column: manifest[column].where(~manifest.index.isin(rows), value)})

    return broken


def copy_value(column: str, source: int, *rows: int) -> Breakage:
    """A breakage: these rows get the value of another."""
    return lambda manifest: set_value(column, manifest[column][source], *rows)(manifest)


def append_line(splits: pd.DataFrame, patient_id: object, split: str) -> pd.DataFrame:
    """One more line of the split table."""
    return pd.concat([splits, pd.DataFrame({"patient_id": [patient_id], "split": [split]})], ignore_index=True)


def described_images(seed: int, exams: int = 400, *, brighter: float = 0.0, maker: str = "ACME") -> pd.DataFrame:
    """Four images an exam, with what a summary of images counts."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "exam_id": np.repeat([f"E{exam}" for exam in range(exams)], 4),
            "view_position": ["CC", "MLO", "CC", "MLO"] * exams,
            "manufacturer": np.where(rng.random(4 * exams) < 0.97, maker, None),
            "model_name": np.where(rng.random(4 * exams) < 0.001, "Rare", "One"),
            "pixel_mean": np.repeat(rng.normal(1000 + brighter, 100, exams), 4),
            "tissue_fraction": np.repeat(rng.beta(4, 6, exams), 4),
            "patient_age_years": np.where(rng.random(4 * exams) < 0.1, np.nan, 55.0),
            "malignant": 1,
        }
    )
