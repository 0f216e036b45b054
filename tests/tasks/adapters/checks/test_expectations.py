"""Great Expectations runs for real, on clean and on broken manifests: each broken rule is found, and says no value."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from schemas.layout import MANIFEST_COLUMNS, MANIFEST_NAMES, VIEWS_PER_EXAM
from schemas.reports.data import CheckResult
from tasks.adapters.checks.drift_suite import drift_suite
from tasks.adapters.checks.expectations import check_manifest, check_splits
from tasks.adapters.checks.image_suites import MANIFEST_SUITES, manifest_suites
from tasks.adapters.checks.split_suite import split_suites

VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
CANARY = "CANARY^PHI^19470302"
E03 = "E03: no"
SIZES = ("exams", "malignant_breasts", "benign_breasts", "breasts_without_finding")
Breakage = Callable[[pd.DataFrame], pd.DataFrame]


def digest(*words: object) -> str:
    """A digest of anything."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


def line_of(row: int) -> dict[str, object]:
    """One image of a clean store: 4 views an exam, 2 exams a patient, exams 0-2 of 6 malignant, benign, without by turns."""
    exam, (laterality, view_position) = row // VIEWS_PER_EXAM, VIEWS[row % VIEWS_PER_EXAM]
    patient = exam // 2
    finding = patient % 3 if laterality == "R" else 2
    return {
        "row": row,
        "image_id": "I" + digest("image", row)[:24],
        "exam_id": "E" + digest("exam", exam)[:24],
        "patient_id": "P" + digest("patient", patient)[:24],
        "laterality": laterality,
        "view_position": view_position,
        "acquisition": "ffdm",
        "benign": int(finding == 1),
        "malignant": int(finding == 0),
        "birads": 5 if finding == 0 else 2,
        "label_source": "biopsy",
        "density": "b",
        "finding_type": None,
        "lesion_boxes": None,
        "has_lesion_mask": finding != 2,
        "mask_sha256": digest("mask", row) if finding != 2 else None,
        "written_sha256": digest("stored", row),
        "batch": 1,
        "batch_date": "2026-01-02",
        "source_sha256": digest("file", row),
        "pixel_sha256": digest("pixels", row),
        "source_rows_px": 3328,
        "source_columns_px": 2560,
        "bits_stored": 12,
        "photometric": "MONOCHROME2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.4.70",
        "pixel_spacing_mm": 0.07,
        "manufacturer": None,
        "model_name": "Phantom",
        "exam_date": f"2019-0{1 + exam % 2}-01",
        "patient_age_years": 50.0 + exam % 2,
        "gate_warnings": "",
        "crop_top_px": 100,
        "crop_bottom_px": 3000,
        "crop_left_px": 0,
        "crop_right_px": 1500,
        "is_flipped": laterality == "R",
        "scale": 1.0,
        "best_center_row_px": 1450,
        "best_center_column_px": -200,
        "stored_rows_px": 2900,
        "stored_columns_px": 1500,
        "pixel_min": 0,
        "pixel_max": 4095,
        "pixel_mean": 1200.5,
        "background_median": 0.0,
        "tissue_fraction": 0.4,
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


def test_clean_manifest_meets_every_check(tmp_path: Path) -> None:
    """Nothing fails on a store as the writer makes it and a reader gets it, and every column is checked in all it declares."""
    clean_manifest().to_parquet(tmp_path / "manifest.parquet", index=False)
    results = check_manifest(pd.read_parquet(tmp_path / "manifest.parquet"))
    assert failed(results) == {}
    assert list(dict.fromkeys(one.suite for one in results)) == list(MANIFEST_SUITES)
    checks = {(one.column, one.check.split()[1]) for one in results if one.suite == "ingest_images"}
    for column in MANIFEST_COLUMNS:
        assert (column.name, "never") in checks or column.is_nullable
        assert (column.name, "unique") in checks or not column.is_unique
        assert (column.name, "one") in checks or column.allowed is None
        assert (column.name, "at") in checks or (column.minimum is None and column.maximum is None)


# Breaches of one suite that do not touch each other stand in one manifest (row r: exam r // 4, patient r // 8).
# Breach, then what must be found: "column check", severity, number of images, exams or breasts. Nothing else may be found.
BREACHES: dict[str, list[tuple[Breakage, str, str, int]]] = {
    "ingest_images 1": [
        (set_value("patient_id", None, 3), "patient_id is never empty", "critical", 1),
        (copy_value("image_id", 0, 9), "image_id is unique", "critical", 2),
        (set_value("view_position", "ML", 1, 2), "view_position is one of CC, MLO", "critical", 2),
        (set_value("benign", 2, 0, 2), "benign is one of 0, 1, 255", "critical", 2),
        (set_value("bits_stored", 7, 5), "bits_stored is at least 8 and at most 16", "critical", 1),
        (set_value("pixel_max", 127, 5), "", "", 0),
        (set_value("tissue_fraction", 0.99, 5), "tissue_fraction is at least 0.03 and at most 0.97", "warning", 1),
        (set_value("background_median", 4097, 5), "background_median is at most 4096", "warning", 1),
        (set_value("patient_age_years", 17.0, 0, 1, 2, 3), "patient_age_years is at least 18 and at most 90", "warning", 4),
        (set_value("exam_id", "<img onerror=1>", *range(4)), "exam_id I04: is a plain name", "critical", 4),
        (set_value("crop_bottom_px", 100, 7), "crop_bottom_px, crop_top_px the crop has rows", "critical", 1),
        (set_value("crop_left_px", 1500, 8), "crop_right_px, crop_left_px the crop has columns", "critical", 1),
        (set_value("crop_bottom_px", 3329, 9), "source_rows_px, crop_bottom_px the crop ends inside the source", "critical", 1),
        (
            set_value("crop_right_px", 2561, 7),
            "source_columns_px, crop_right_px the crop ends inside the source",
            "critical",
            1,
        ),
        (set_value("pixel_max", 4096, 8), "stored_limit, pixel_max X24: values fit BitsStored", "critical", 1),
        (set_value("pixel_min", 4095, 9), "pixel_max, pixel_min X25: the image is not constant", "critical", 1),
        (lambda table: table.astype({"row": "float64"}), "row is int64", "critical", 1),
        (lambda table: table.assign(patient_name="x"), " the columns are those of the schema", "critical", 1),
    ],
    "ingest_images 2": [(lambda table: table.iloc[:0], " there is an image", "critical", 1)],
    "exams 1": [
        (lambda table: table.drop(index=[3, 10]), "standard_views E01: the exam has the four standard views", "warning", 3),
        (copy_value("view_position", 16, 18), "images_of_repeated_views E02: no view comes twice", "warning", 1),
        (
            copy_value("pixel_sha256", 20, 21),
            f"images_repeated_in_exam {E03} two images of the exam have the same pixels",
            "critical",
            1,
        ),
        (
            copy_value("pixel_sha256", 24, 28),
            f"images_of_other_exams {E03} image has the pixels of another exam's",
            "warning",
            2,
        ),
        (copy_value("patient_id", 70, 32), "patients E04: the exam is of one patient", "critical", 1),
        (set_value("exam_date", "2020-01-01", 36, 40), "exam_dates E04: the exam is of one date", "critical", 2),
        (set_value("patient_age_years", 60.0, 44), "patient_ages E04: the patient has one age", "warning", 1),
        (set_value("acquisition", "film", 48), "acquisitions the exam was acquired in one way", "warning", 1),
    ],
    "exams 2": [
        (
            copy_value("pixel_sha256", 0, 70),
            f"images_of_other_patients {E03} image has the pixels of another patient's",
            "critical",
            2,
        ),
        (lambda table: table, f"images_of_other_exams {E03} image has the pixels of another exam's", "warning", 2),
    ],
    "labels": [
        (set_value("benign", 1, 0), "benign_labels R60: the breast's views agree on benign", "critical", 1),
        (set_value("malignant", 255, 4, 11), "malignant_labels R60: the breast's views agree on malignant", "critical", 2),
        (set_value("birads", 4, 16), "birads_labels R60: the breast's views agree on BI-RADS", "warning", 1),
        (
            set_value("label_source", "annotator", 20),
            "label_sources R60: the breast's views agree on the label's source",
            "warning",
            1,
        ),
        (set_value("benign", 255, 24, 26), "images_with_known_label R61: benign or malignant is known", "warning", 1),
        (set_value("malignant", 255, 24, 26), "", "", 0),
        (set_value("label_source", None, 24, 26), "", "", 0),
        (set_value("label_source", None, 28, 30), "images_without_label_source a known label has a source", "warning", 1),
        (set_value("label_source", "hearsay", 32, 34), "label_source the label's source is of the schema", "warning", 1),
        (
            set_value("has_lesion_mask", True, 37),
            "masks_without_finding a breast without finding has no lesion mask",
            "warning",
            1,
        ),
        (set_value("birads", 1, 48, 50), "malignant_but_birads_1 a malignant breast is not BI-RADS 1", "warning", 1),
    ],
}


@pytest.mark.parametrize("group", BREACHES)
def test_breaches_are_found_with_their_severity_and_nothing_else(group: str) -> None:
    """Each broken rule fails its check, of the right severity, on as many lines as were broken; no other check fails."""
    manifest, suite = clean_manifest(), group.split()[0]
    for break_it, *_ in BREACHES[group]:
        manifest = break_it(manifest)
    expected = {(suite, name): (severity, count) for _, name, severity, count in BREACHES[group] if name}
    assert failed(check_manifest(manifest, suites=[suite])) == expected


def test_a_column_that_some_images_need_is_checked_where_it_is() -> None:
    """A manifest with turned images meets every check; five quarter turns are none."""
    turned = clean_manifest().assign(quarter_turns=2)
    assert failed(check_manifest(turned, suites=["ingest_images"])) == {}
    broken = failed(check_manifest(set_value("quarter_turns", 5, 0)(turned), suites=["ingest_images"]))
    assert broken == {("ingest_images", "quarter_turns is one of 0, 1, 2, 3"): ("critical", 1)}


def test_missing_column_is_an_error_of_its_checks_and_no_crash() -> None:
    """What needs pixel_sha256 cannot be computed: not met, with an error; the rest is checked."""
    results = check_manifest(clean_manifest().drop(columns="pixel_sha256"), suites=["exams"])
    erring = {one.column for one in results if one.error}
    assert erring == {"images_repeated_in_exam", "images_of_other_patients", "images_of_other_exams"}
    assert all("is missing or could not be counted" in str(one.error) for one in results if one.error)
    assert {one.column for one in results if not one.is_met} == erring


def test_no_columns_at_all_is_reported() -> None:
    """Even a table of another kind gives results, not a traceback."""
    results = check_manifest(pd.DataFrame({"x": [1]}), suites=["exams", "labels"])
    assert results
    assert all(one.error and not one.is_met for one in results)


def test_no_value_reaches_results_or_logs(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """A name planted in every column, where pandas raises with the name in its message too: told is only the kind of error."""
    numbers = [column.name for column in MANIFEST_COLUMNS if column.dtype != "string"]
    manifest = clean_manifest().astype(dict.fromkeys(numbers, object))
    for row, column in enumerate(MANIFEST_NAMES):
        manifest.loc[[row, row + 1], column] = CANARY
    splits = append_line(clean_splits(clean_manifest()), CANARY, CANARY)
    with caplog.at_level(logging.INFO):
        results = check_manifest(manifest) + check_splits(manifest, splits)
    captured = capfd.readouterr()
    assert "CANARY" not in "".join(one.model_dump_json() for one in results) + caplog.text + captured.out + captured.err
    errors = {(one.column, one.check.split()[1]): one.error for one in results if one.error}
    assert errors["pixel_max", "at"] == "not computed: TypeError"
    assert not any(one.is_met for one in results if one.error)


def test_clean_splits_meet_every_check() -> None:
    """Patients divided once, each split with positives and negatives."""
    manifest = clean_manifest()
    assert failed(check_splits(manifest, clean_splits(manifest))) == {}


# Each breach of the split table stands alone: what must be found, and nothing else.
SPLIT_BREACHES: dict[str, tuple[Breakage, dict[str, tuple[str, int]]]] = {
    "patient in two splits": (
        lambda splits: append_line(splits, splits["patient_id"][0], "test"),
        {
            "lines_of_patient R62: no patient has two": ("critical", 1),
            "splits_of_an_exam R62: the patient's exams are in one split each": ("critical", 1),
            "splits_of_an_image R62: the patient's images are in one split each": ("critical", 1),
        },
    ),
    "patient without split": (
        lambda splits: splits.iloc[1:],
        {
            "lines_of_patient R62: every patient has a split": ("critical", 1),
            "train_malignant_breasts train has malignant breasts": ("warning", 1),
        },
    ),
    "other word": (
        set_value("split", "validation", 5),
        {"split is one of train, tuning, test": ("critical", 1)},
    ),
    "no word, a stranger": (
        lambda splits: append_line(set_value("split", None, 5)(splits), "P0", "test"),
        {"split is never empty": ("critical", 1), "images every patient of the table has an image": ("warning", 1)},
    ),
    "other column, no positives": (
        lambda splits: set_value("split", "train", 3)(splits).assign(fold=0),
        {
            " the columns are those of the schema": ("critical", 1),
            "tuning_malignant_breasts tuning has malignant breasts": ("warning", 1),
        },
    ),
    "empty split": (
        lambda splits: splits.assign(
            split=["train", "train", "train", "tuning", "tuning", "tuning", "train", "train", "train"]
        ),
        {f"test_{size} test has {size.replace('_', ' ')}": ("warning", 1) for size in SIZES},
    ),
}


@pytest.mark.parametrize("breach", SPLIT_BREACHES)
def test_split_breach_is_found_with_its_severity(breach: str) -> None:
    """The named checks fail, of the right severity, on as many patients or splits as were broken; no other check fails."""
    break_it, expected = SPLIT_BREACHES[breach]
    manifest = clean_manifest()
    found = failed(check_splits(manifest, break_it(clean_splits(manifest))))
    assert found == {("splits", name): result for name, result in expected.items()}


def test_same_pixels_in_two_splits_block() -> None:
    """An image of a training patient under a test patient's name leaks, though each patient has one split (CBIS, CMMD)."""
    manifest = copy_value("pixel_sha256", 0, 71)(clean_manifest())
    found = failed(check_splits(manifest, clean_splits(manifest)))
    assert found == {("splits", "splits_of_an_image R62: the patient's images are in one split each"): ("critical", 2)}


def test_exam_of_patients_in_two_splits_blocks() -> None:
    """An exam under two patient names is in two splits."""
    manifest = copy_value("patient_id", 71, 0)(clean_manifest())
    found = failed(check_splits(manifest, clean_splits(clean_manifest())))
    assert found == {("splits", "splits_of_an_exam R62: the patient's exams are in one split each"): ("critical", 2)}


def test_splits_without_their_columns_are_reported() -> None:
    """A table of another kind: every check that needs the columns errs, none is met."""
    assert not any(one.is_met for one in check_splits(clean_manifest(), pd.DataFrame({"x": [1]})))


def test_importing_the_adapter_does_not_import_great_expectations() -> None:
    """The library costs seconds: only a run of the checks pays them."""
    code = "import sys, tasks.adapters.checks.expectations; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_check_is_documented() -> None:
    """docs/reference/data-checks.md names each rule; the checks made from the schema's columns it describes by kind."""
    pages = " ".join((Path(__file__).parents[4] / "docs" / "reference" / "data-checks.md").read_text(encoding="utf-8").split())
    suites = (*manifest_suites(clean_manifest()), *split_suites(clean_manifest(), clean_splits(clean_manifest()), {}))
    names = {
        check.name for suite in suites for check in suite.checks if check.column not in MANIFEST_NAMES or ":" in check.name
    }
    sentences = {name for name in names if " has " not in name or name.startswith(("a ", "the ", "every ", "E0", "R6"))}
    assert all(check.name.startswith("R63: ") or check.name in pages for check in drift_suite(clean_manifest()).checks)
    shared = "R60: the breast's views agree on "
    missing = {
        name
        for name in sentences
        if name.removeprefix(shared) not in pages or (name.startswith(shared) and shared not in pages)
    }
    assert missing == set()
