"""A batch that looks like those before it raises nothing; another device, age, prevalence, size or pause does (R63, R64)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from schemas.layout import MANIFEST_COLUMNS, WATCHED_COLUMNS, Watch
from tasks.adapters.checks.drift_suite import drift_suite, stability_index
from tasks.adapters.checks.expectations import check_manifest

BATCHES, EXAMS = 8, 40


def cohort(seed: int = 0) -> pd.DataFrame:
    """Eight weekly batches of 40 exams of four images, all of one population."""
    draw = np.random.default_rng(seed)
    exams = pd.DataFrame(
        {
            "exam_id": [f"E{number}" for number in range(BATCHES * EXAMS)],
            "batch": np.repeat(np.arange(1, BATCHES + 1), EXAMS),
            "manufacturer": draw.choice(["GE", "HOLOGIC", None], BATCHES * EXAMS),
            "malignant": draw.choice([0, 1, 255], BATCHES * EXAMS, p=[0.8, 0.1, 0.1]),
            "patient_age_years": draw.normal(58, 9, BATCHES * EXAMS).round(),
        }
    )
    weeks = pd.to_datetime("2026-01-01") + pd.to_timedelta(7 * (exams["batch"] - 1), unit="D")
    exams["batch_date"] = weeks.dt.strftime("%Y-%m-%d")
    return exams.loc[exams.index.repeat(4)].reset_index(drop=True)


def high(manifest: pd.DataFrame) -> set[str]:
    """Measures beyond their check's limit."""
    suite = drift_suite(manifest)
    limits = {check.column: check.arguments["max_value"] for check in suite.checks}
    return {name for name, value in suite.table.iloc[0].items() if value > limits[str(name)]}


def test_one_population_does_not_drift() -> None:
    """Twenty cohorts of chance: no alarm in any."""
    assert [high(cohort(seed)) for seed in range(20)] == [set()] * 20


@pytest.mark.parametrize(
    ("column", "value"), [("manufacturer", "NEW"), ("malignant", 1), ("malignant", 255), ("patient_age_years", 41.0)]
)
def test_another_population_is_noticed(column: str, value: object) -> None:
    """Every second exam of the newest batch differs: that column alone is reported."""
    manifest = cohort()
    changed = (manifest["batch"] == BATCHES) & (manifest.index % 8 < 4)
    manifest[column] = manifest[column].where(~changed, value)
    assert high(manifest) == {f"{column}_shift"}


def test_a_small_feed_and_a_pause_are_noticed() -> None:
    """Five exams instead of forty, two months after the last: both R64 checks; five earlier batches are needed to say so."""
    manifest = cohort()
    kept = manifest[(manifest["batch"] < BATCHES) | (manifest["exam_id"].str[1:].astype(int) % EXAMS < 5)]
    late = kept.assign(batch_date=kept["batch_date"].where(kept["batch"] < BATCHES, "2026-04-22"))
    assert high(late) == {"batch_size_sigma", "batch_gap_ratio"}
    assert high(late[late["batch"].isin([6, 7, 8])]) == set()


def test_a_first_batch_has_nothing_to_be_compared_with() -> None:
    """No measure, no alarm."""
    assert drift_suite(cohort().assign(batch=1)).table.isna().all(axis=None)


def test_the_index_is_the_textbook_s() -> None:
    """(0.75 - 0.25) ln 3 twice, with counts so large that half a count does not matter."""
    assert stability_index(np.array([750_000, 250_000]), np.array([250_000, 750_000])) == pytest.approx(np.log(3), rel=1e-4)


def test_watched_columns_are_of_their_kind() -> None:
    """Numbers are watched by tenths, the rest as categories; identifiers and digests never."""
    dtypes = {column.name: column.dtype for column in MANIFEST_COLUMNS}
    assert all(dtypes[name] == "float64" for name, watch in WATCHED_COLUMNS.items() if watch is Watch.NUMBER)
    assert not [name for name in WATCHED_COLUMNS if name.endswith(("_id", "_sha256", "_date"))]


def test_the_suite_runs_and_warns() -> None:
    """Through Great Expectations: the shifted column is not met, as a warning."""
    manifest = cohort()
    manifest["manufacturer"] = manifest["manufacturer"].where(manifest["batch"] < BATCHES, "NEW")
    results = check_manifest(manifest, suites=["batch_drift"])
    assert {one.column: one.severity for one in results if not one.is_met and one.error is None} == {
        "manufacturer_shift": "warning"
    }
