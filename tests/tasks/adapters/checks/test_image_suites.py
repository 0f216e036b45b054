"""The checks of images, exams and labels, by Great Expectations: a clean manifest meets all, each broken rule is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mammo_tests.manifests import Breakage, clean_manifest, copy_value, failed, set_value
from schemas.layout import MANIFEST_COLUMNS
from tasks.adapters.checks.expectations import check_manifest
from tasks.adapters.checks.image_suites import MANIFEST_SUITES

E03 = "E03: no"


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


def test_breasts_and_lesions_that_the_window_cuts_are_counted() -> None:
    """Below 95 % is a warning with its count; images that fit into the window say nothing and are no breach."""
    cut = clean_manifest().assign(breast_seen_fraction=np.nan, lesion_seen_fraction=np.nan)
    cut.loc[:2, "breast_seen_fraction"], cut.loc[0, "lesion_seen_fraction"] = [0.49, 0.74, 0.96], 0.5
    share = "_seen_fraction the network's window holds at least 0.95 of"
    assert failed(check_manifest(cut, suites=["ingest_images"])) == {
        ("ingest_images", f"breast{share} the breast"): ("warning", 2),
        ("ingest_images", f"lesion{share} each lesion"): ("warning", 1),
    }
