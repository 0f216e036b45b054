"""Suite ``batch_drift``: does the newest ingest look like those before it (rules R63, R64)? Pure pandas and words.

Which columns are watched is said in ``schemas.layout``. Exam dates are shifted per patient, so a gap in the feed shows in the
days of the ingests, not of the exams. With too little history a measure is empty, which meets its check.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from schemas.layout import WATCHED_COLUMNS, Severity, Watch
from tasks.adapters.checks.check import Check, Suite

logger = logging.getLogger(__name__)

LARGEST_INDEX: Final = 0.25
"""Population stability index above which a distribution is called changed; 0.1 to 0.25 is usual between years."""
FEWEST_EXAMS: Final = 25
"""On either side; with fewer a distribution is not compared."""
_EARLIER_BATCHES: Final = 5
_BINS: Final = 10
_LARGEST_SIGMA: Final = 3.0
_LONGEST_GAP: Final = 3.0


def drift_suite(manifest: pd.DataFrame) -> Suite:
    """One line with the measures of the newest batch against all earlier ones."""
    if not {"batch", "batch_date", "exam_id"} <= set(manifest.columns):
        return Suite(name="batch_drift", table=pd.DataFrame(), checks=_CHECKS)
    # What is no number belongs to no batch here; the column's own check counts it.
    manifest = manifest.assign(batch=pd.to_numeric(manifest["batch"], errors="coerce"))
    newest = manifest["batch"] == manifest["batch"].max()
    measures: dict[str, float] = {}
    for name, watch in WATCHED_COLUMNS.items():
        if name in manifest.columns:
            try:
                measures[f"{name}_shift"] = _excess_index(manifest, newest, name, watch)
            except (TypeError, ValueError) as error:  # another type than the schema's; that is a failed check, not a crash
                logger.warning("The drift of %s could not be counted: %s", name, type(error).__name__)
    return Suite(name="batch_drift", table=pd.DataFrame([{**measures, **_feed_measures(manifest)}]), checks=_CHECKS)


def stability_index(new_B: NDArray[np.int64], old_B: NDArray[np.int64]) -> float:
    """Population stability index of two histograms: sum of (p - q) ln(p / q), half a count added to every bin."""
    p_B = (new_B + 0.5) / (new_B + 0.5).sum()
    q_B = (old_B + 0.5) / (old_B + 0.5).sum()
    return float(((p_B - q_B) * np.log(p_B / q_B)).sum())


def excess_over_chance(new_B: NDArray[np.int64], old_B: NDArray[np.int64], new_exams: int, old_exams: int) -> float:
    """The index of two histograms less what chance gives exams of one population in 999 of 1000 cases."""
    from scipy.special import gammaincinv  # paid where data are checked, not by each command that could; scipy.stats is slower

    degrees = max(1, len(new_B) - 1)
    chance = 2.0 * float(gammaincinv(degrees / 2.0, 0.999))  # 99.9 % point of chi squared
    return stability_index(new_B, old_B) - chance * (1 / new_exams + 1 / old_exams)


def _excess_index(manifest: pd.DataFrame, newest: pd.Series[Any], name: str, watch: Watch) -> float:
    """The index less what chance gives exams of one population in 999 of 1000 cases; NaN with too few exams.

    Of one population, index / (1 / new + 1 / old) follows chi-squared with bins - 1 degrees of freedom.
    """
    exams, others = (int(manifest.loc[part, "exam_id"].nunique()) for part in (newest, ~newest))
    if min(exams, others) < FEWEST_EXAMS:
        return float("nan")
    values = manifest[name]
    if watch is Watch.NUMBER:
        edges = np.unique(values[~newest].dropna().astype(float).quantile(np.linspace(0, 1, _BINS + 1)[1:-1]))
        values = pd.Series(np.digitize(values.astype(float), edges), index=values.index).where(values.notna())
    counts = pd.crosstab(values.astype("string").fillna("not given"), newest.to_numpy())
    return excess_over_chance(counts[True].to_numpy(), counts[False].to_numpy(), exams, others)


def _feed_measures(manifest: pd.DataFrame) -> dict[str, float]:
    """How far the batch's size is from the earlier ones', in their standard deviations; its gap in usual gaps."""
    batches = manifest.groupby("batch").agg(exams=("exam_id", "nunique"), day=("batch_date", "first"))
    sizes, days = batches["exams"].to_numpy(float), pd.to_datetime(batches["day"], errors="coerce")
    gaps = (days.diff().dt.total_seconds() / 86_400).to_numpy(float)[1:]
    measures = {"batch_size_sigma": float("nan"), "batch_gap_ratio": float("nan")}
    if len(sizes) > _EARLIER_BATCHES:
        spread = max(float(np.std(sizes[:-1], ddof=1)), 1.0, 0.05 * float(np.mean(sizes[:-1])))
        measures["batch_size_sigma"] = float(abs(sizes[-1] - np.mean(sizes[:-1])) / spread)
        measures["batch_gap_ratio"] = float(gaps[-1] / max(float(np.median(gaps[:-1])), 1.0))
    return measures


def _at_most(name: str, column: str, limit: float) -> Check:
    return Check(
        name=name,
        column=column,
        expectation="ExpectColumnValuesToBeBetween",
        arguments={"column": column, "max_value": limit},
        severity=Severity.WARN,
    )


_CHECKS: Final = (
    *(_at_most(f"R63: {name} is distributed as before", f"{name}_shift", LARGEST_INDEX) for name in WATCHED_COLUMNS),
    _at_most("R64: as many exams as usual", "batch_size_sigma", _LARGEST_SIGMA),
    _at_most("R64: no longer gap than usual", "batch_gap_ratio", _LONGEST_GAP),
)
