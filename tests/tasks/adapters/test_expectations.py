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
from schemas.reports import CheckResult
from tasks.adapters.expectations import check_manifest, check_splits

VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
CANARY = "CANARY^PHI^19470302"


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
        "has_lesion_mask": finding != 2,
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


def set_value(column: str, value: object, *rows: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A breakage: these rows get this value."""

    def broken(manifest: pd.DataFrame) -> pd.DataFrame:
        manifest.loc[list(rows), column] = value
        return manifest

    return broken


def copy_value(column: str, source: int, *rows: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A breakage: these rows get the value of another."""
    return lambda manifest: set_value(column, manifest.loc[source, column], *rows)(manifest)


def test_clean_manifest_meets_every_check() -> None:
    """Nothing fails on a store as the writer makes it, and every declared column is checked in all it declares."""
    results = check_manifest(clean_manifest())
    assert failed(results) == {}
    assert {one.suite for one in results} == {"ingest_images", "exams", "labels"}
    checks = {(one.column, one.check.split()[1]) for one in results if one.suite == "ingest_images"}
    for column in MANIFEST_COLUMNS:
        assert (column.name, "never") in checks or column.is_nullable
        assert (column.name, "unique") in checks or not column.is_unique
        assert (column.name, "one") in checks or column.allowed is None
        assert (column.name, "at") in checks or column.minimum is None


def test_manifest_read_back_from_parquet_meets_every_check(tmp_path: Path) -> None:
    """The table that validate sees went through a file: types survive, also of a column without a single value."""
    clean_manifest().to_parquet(tmp_path / "manifest.parquet", index=False)
    assert failed(check_manifest(pd.read_parquet(tmp_path / "manifest.parquet"))) == {}


# A breach, and what must be found: part of the result's "column check", severity, number of images, exams or breasts.
BREACHES = {
    "empty": (set_value("patient_id", None, 3), "patient_id is never empty", "critical", 1),
    "not unique": (copy_value("image_id", 0, 9), "image_id is unique", "critical", 2),
    "not in set": (set_value("view_position", "ML", 1, 2), "view_position is one of CC, MLO", "critical", 2),
    "label code": (set_value("benign", 2, 0, 2), "benign is one of 0, 1, 255", "critical", 2),
    "limit, blocking": (set_value("bits_stored", 7, 5), "bits_stored is at least 8", "critical", 1),
    "limit, warning": (set_value("tissue_fraction", 0.99, 5), "tissue_fraction is at least 0.03", "warning", 1),
    "age": (set_value("patient_age_years", 17.0, 0, 1, 2, 3), "patient_age_years is at least 18", "warning", 4),
    "type": (lambda table: table.astype({"row": "float64"}), "row is int64", "critical", 1),
    "I04": (set_value("exam_id", "<img onerror=1>", *range(4)), "exam_id I04", "critical", 4),
    "crop order": (set_value("crop_bottom_px", 100, 7), "crop_bottom_px, crop_top_px the crop has rows", "critical", 1),
    "crop outside": (set_value("crop_right_px", 2561, 7), "source_columns_px, crop_right_px the crop ends", "critical", 1),
    "X24": (set_value("pixel_max", 4096, 8), "stored_limit, pixel_max X24", "critical", 1),
    "X25": (set_value("pixel_min", 4095, 8), "pixel_max, pixel_min X25", "critical", 1),
    "no column": (lambda table: table.assign(patient_name="x"), " the columns are those of the schema", "critical", 1),
    "no image": (lambda table: table.iloc[:0], " there is an image", "critical", 1),
    "E01": (lambda table: table.drop(index=[3, 10]), "standard_views E01", "warning", 2),
    "E02": (copy_value("view_position", 0, 2), "images_of_repeated_views E02", "warning", 1),
    "E03 in exam": (copy_value("pixel_sha256", 0, 1), "images_repeated_in_exam E03", "critical", 1),
    "E03 patients": (copy_value("pixel_sha256", 0, 70), "images_of_other_patients E03", "critical", 2),
    "E03 exams": (copy_value("pixel_sha256", 0, 5), "images_of_other_exams E03", "warning", 2),
    "E04 patient": (copy_value("patient_id", 70, 0), "patients E04", "critical", 1),
    "E04 date": (set_value("exam_date", "2020-01-01", 0, 9), "exam_dates E04", "critical", 2),
    "E04 age": (set_value("patient_age_years", 60.0, 0), "patient_ages E04", "warning", 1),
    "acquisition": (set_value("acquisition", "film", 0), "acquisitions the exam", "warning", 1),
    "R60 benign": (set_value("benign", 1, 0), "benign_labels R60", "critical", 1),
    "R60 malignant": (set_value("malignant", 255, 0, 11), "malignant_labels R60", "critical", 2),
    "R60 birads": (set_value("birads", 4, 0), "birads_labels R60", "warning", 1),
    "R60 source": (set_value("label_source", "annotator", 0), "label_sources R60", "warning", 1),
    "R61": (
        lambda table: set_value("benign", 255, 0, 2)(set_value("malignant", 255, 0, 2)(table)),
        "images_with_known_label R61",
        "warning",
        1,
    ),
    "no source": (set_value("label_source", None, 0, 2), "images_without_label_source a known", "warning", 1),
    "other source": (set_value("label_source", "hearsay", 0, 2), "label_source the label's source", "warning", 1),
    "mask": (set_value("has_lesion_mask", True, 1), "masks_without_finding a breast", "warning", 1),
    "birads 1": (set_value("birads", 1, 0, 2), "malignant_but_birads_1 a malignant", "warning", 1),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_breach_is_found_with_its_severity(breach: str) -> None:
    """The named check fails, of the right severity, on as many lines as were broken."""
    break_it, where, severity, count = BREACHES[breach]
    found = failed(check_manifest(break_it(clean_manifest())))
    match = [result for (_, name), result in found.items() if name.startswith(where)]
    assert match == [(severity, count)], found


@pytest.mark.parametrize(
    ("break_it", "found"),
    [
        (set_value("tissue_fraction", 0.99, 5), {"tissue_fraction is at least 0.03 and at most 0.97"}),
        (copy_value("pixel_sha256", 0, 1), {"images_repeated_in_exam E03: no two images of the exam have the same pixels"}),
        (set_value("benign", 1, 0), {"benign_labels R60: the breast's views agree on benign"}),
    ],
)
def test_breach_fails_nothing_else(break_it: Callable[[pd.DataFrame], pd.DataFrame], found: set[str]) -> None:
    """A report with one breach in it points at one thing."""
    assert {name for _, name in failed(check_manifest(break_it(clean_manifest())))} == found


def test_missing_column_is_an_error_of_its_checks_and_no_crash() -> None:
    """What needs pixel_sha256 cannot be computed: not met, with an error; the rest is checked."""
    results = check_manifest(clean_manifest().drop(columns="pixel_sha256"))
    erring = {one.column for one in results if one.error}
    assert erring == {"pixel_sha256", "images_repeated_in_exam", "images_of_other_patients", "images_of_other_exams"}
    assert all(not one.is_met and "is missing or could not be counted" in str(one.error) for one in results if one.error)
    assert ("exams", "patients E04: the exam is of one patient") not in failed(results)


def test_no_columns_at_all_is_reported() -> None:
    """Even a table of another kind gives results, not a traceback."""
    results = check_manifest(pd.DataFrame({"x": [1]}))
    met = {(one.suite, one.check) for one in results if one.is_met}
    assert met == {("ingest_images", "there is an image")}


def test_incomparable_values_err_by_name_of_the_exception() -> None:
    """A text among numbers makes pandas raise with the text in its message: only the kind of error is told."""
    manifest = clean_manifest().astype({"pixel_max": object, "benign": object})
    manifest.loc[4, ["pixel_max", "benign"]] = CANARY
    results = check_manifest(manifest)
    errors = {one.column: one.error for one in results if one.error}
    assert errors["pixel_max"] == "not computed: TypeError"
    assert not any(one.is_met for one in results if one.error)


@pytest.mark.parametrize("column", [column.name for column in MANIFEST_COLUMNS if column.dtype == "string"])
def test_no_value_reaches_results_or_logs(
    column: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A planted name in any text column: not in a result, a log line of any library at any level, or on the terminal."""
    manifest = clean_manifest()
    manifest.loc[[0, 5], column] = CANARY
    with caplog.at_level(logging.DEBUG):
        results = check_manifest(manifest) + check_splits(manifest, clean_splits(clean_manifest()))
    captured = capfd.readouterr()
    said = "".join(one.model_dump_json() for one in results) + caplog.text + captured.out + captured.err
    assert "CANARY" not in said


def test_no_value_of_numbers_columns_reaches_results_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    """The same where a text stands in a number column and checks raise."""
    numbers = [column.name for column in MANIFEST_COLUMNS if column.dtype != "string"]
    manifest = clean_manifest().astype(dict.fromkeys(numbers, object))
    manifest.loc[0, numbers] = CANARY
    with caplog.at_level(logging.DEBUG):
        results = check_manifest(manifest) + check_splits(manifest, clean_splits(manifest))
    assert "CANARY" not in "".join(one.model_dump_json() for one in results) + caplog.text
    assert any(one.error for one in results)


def test_clean_splits_meet_every_check() -> None:
    """Patients divided once, each split with positives and negatives."""
    manifest = clean_manifest()
    assert failed(check_splits(manifest, clean_splits(manifest))) == {}


def append_line(splits: pd.DataFrame, patient_id: object, split: str) -> pd.DataFrame:
    """One more line of the split table."""
    return pd.concat([splits, pd.DataFrame({"patient_id": [patient_id], "split": [split]})], ignore_index=True)


SPLIT_BREACHES = {
    "two splits": (
        lambda splits: append_line(splits, splits["patient_id"][0], "test"),
        "lines_of_patient R62: no",
        "critical",
        1,
    ),
    "its exams": (lambda splits: append_line(splits, splits["patient_id"][0], "test"), "splits_of_an_exam R62", "critical", 1),
    "no split": (lambda splits: splits.iloc[1:], "lines_of_patient R62: every", "critical", 1),
    "other word": (set_value("split", "validation", 4), "split is one of train", "critical", 1),
    "empty word": (set_value("split", None, 4), "split is never empty", "critical", 1),
    "stranger": (lambda splits: append_line(splits, "P0", "test"), "images every patient", "warning", 1),
    "column": (lambda splits: splits.assign(fold=0), " the columns are", "critical", 1),
    "no positives": (set_value("split", "train", 3), "tuning_malignant_breasts tuning has", "warning", 1),
    "no negatives": (
        lambda splits: splits.assign(split=["train"] * 8 + ["test"]).drop(index=8),
        "test_breasts_without_finding",
        "warning",
        1,
    ),
    "empty split": (lambda splits: splits.assign(split="train"), "test_exams test has exams", "warning", 1),
}


@pytest.mark.parametrize("breach", SPLIT_BREACHES)
def test_split_breach_is_found_with_its_severity(breach: str) -> None:
    """The named check fails, of the right severity, on as many patients or splits as were broken."""
    break_it, where, severity, count = SPLIT_BREACHES[breach]
    manifest = clean_manifest()
    found = failed(check_splits(manifest, break_it(clean_splits(manifest))))
    assert [result for (_, name), result in found.items() if name.startswith(where)] == [(severity, count)], found


def test_same_pixels_in_two_splits_block() -> None:
    """An image of a training patient under a test patient's name leaks, though each patient has one split (CBIS, CMMD)."""
    manifest = copy_value("pixel_sha256", 0, 71)(clean_manifest())
    found = failed(check_splits(manifest, clean_splits(manifest)))
    assert found == {("splits", "splits_of_an_image R62: the patient's images are in one split each"): ("critical", 2)}


def test_exam_of_patients_in_two_splits_blocks() -> None:
    """An exam under two patient names is in two splits."""
    manifest = copy_value("patient_id", 71, 0)(clean_manifest())
    found = failed(check_splits(manifest, clean_splits(manifest)))
    assert found == {("splits", "splits_of_an_exam R62: the patient's exams are in one split each"): ("critical", 2)}


def test_splits_without_their_columns_are_reported() -> None:
    """A table of another kind: every check that needs the columns errs, none is met."""
    assert not any(one.is_met for one in check_splits(clean_manifest(), pd.DataFrame({"x": [1]})))


def test_importing_the_adapter_does_not_import_great_expectations() -> None:
    """The library costs seconds: only a run of the checks pays them."""
    code = "import sys, tasks.adapters.expectations; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
