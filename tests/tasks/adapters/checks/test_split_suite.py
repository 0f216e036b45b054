"""The checks of the table of splits, by Great Expectations: patients once, images once, each split with findings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mammo_tests.manifests import Breakage, append_line, clean_manifest, clean_splits, copy_value, failed, set_value
from tasks.adapters.checks.check import distinct_of
from tasks.adapters.checks.expectations import check_splits

SIZES = ("exams", "malignant_breasts", "benign_breasts", "breasts_without_finding")


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


def test_distinct_values_are_counted_as_pandas_counts_them() -> None:
    """Of each line the values among those with its key; an empty key has no number, an empty value is none."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame({name: generator.choice(["a", "b", "c", None], 60) for name in ("key", "counted")})
    for kind in ("object", "string"):
        typed = table.astype(kind)
        expected = typed.groupby("key")["counted"].transform("nunique")
        assert distinct_of(typed, "key", "counted").equals(expected.astype("float64"))
    assert distinct_of(table.iloc[:0], "key", "counted").empty
    with pytest.raises(TypeError):
        distinct_of(pd.DataFrame({"key": [[]], "counted": [1]}), "key", "counted")
