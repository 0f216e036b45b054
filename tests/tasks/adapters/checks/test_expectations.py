"""Great Expectations runs for real: what cannot be computed is an error of its check, and no value is said."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mammo_tests.manifests import append_line, clean_manifest, clean_splits
from schemas.layout import MANIFEST_COLUMNS, MANIFEST_NAMES
from tasks.adapters.checks.drift_suite import drift_suite
from tasks.adapters.checks.expectations import check_manifest, check_splits
from tasks.adapters.checks.image_suites import manifest_suites
from tasks.adapters.checks.split_suite import split_suites

CANARY = "CANARY^PHI^19470302"


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


def test_splits_without_their_columns_are_reported() -> None:
    """A table of another kind: every check that needs the columns errs, none is met."""
    assert not any(one.is_met for one in check_splits(clean_manifest(), pd.DataFrame({"x": [1]})))


def test_importing_the_adapter_brings_neither_great_expectations_nor_scipy() -> None:
    """The library costs seconds, and a chi squared half of one: only a run of the checks pays them."""
    code = "import sys, tasks.adapters.checks.expectations; sys.exit(bool({'great_expectations', 'scipy'} & {*sys.modules}))"
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
