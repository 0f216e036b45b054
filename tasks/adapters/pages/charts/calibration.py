"""The reliability curve, and what the operating-point slider moves over: coordinates and counts; markup is the templates'."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from gmic_model.metrics.operating_points import threshold_table
from schemas.reports.evaluation import CalibrationBin, CalibrationReport, FindingMetrics
from tasks.adapters.pages.charts.curves import FindingScores
from tasks.adapters.pages.charts.frame import Chart, Frame, Series

SLIDER_STEPS = 500
"""A page holds at most this many thresholds of a finding, however many breasts there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slider:
    """Thresholds of one finding with what they recall.

    Attributes:
        points_json: ``threshold``, ``true``, ``false``, ``positives``, ``negatives``; the first threshold, null, recalls none.
        steps: Number of thresholds.
        start: The threshold shown first: specificity 0.90.
    """

    finding: str
    points_json: str
    steps: int
    start: int


def slider(scored: FindingScores) -> Slider | None:
    """The finding's slider; None if one class only."""
    table = threshold_table(scored.score_B, scored.label_B)
    if table is None:
        return None
    count = len(table.threshold_T)
    kept_T = np.unique(np.linspace(0, count - 1, min(count, SLIDER_STEPS)).round().astype(np.intp))
    true_T, false_T = table.true_positives_T[kept_T], table.false_positives_T[kept_T]
    points = {
        "threshold": [None, *(round(value, 6) for value in table.threshold_T[kept_T][1:].tolist())],
        "true": true_T.tolist(),
        "false": false_T.tolist(),
        "positives": int(true_T[-1]),
        "negatives": int(false_T[-1]),
    }
    start = int((false_T <= 0.1 * false_T[-1] + 1e-9).sum()) - 1
    return Slider(
        finding=str(scored.finding), points_json=json.dumps(points, separators=(",", ":")), steps=len(kept_T), start=start
    )


def calibration_chart(finding: str, metrics: FindingMetrics) -> Chart | None:
    """Observed share against mean score by bin, before and after recalibration, a locked one first; None if not measured."""
    if metrics.calibration is None or not metrics.calibration.bins:
        return None
    drawn = [(finding, "as scored", metrics.calibration)]
    locked = None if metrics.locked is None else metrics.locked.calibration_locked
    if locked is not None and locked.bins:
        drawn.append(("scaled", "recalibrated (locked)", locked))
    elif metrics.calibration_scaled is not None:
        former = metrics.temperature
        told = "recalibrated" if former is None or former.temperature is None else f"temperature {former.temperature:.2f}"
        drawn.append(("scaled", told, metrics.calibration_scaled))
    high = _upper_limit([report for _, _, report in drawn])
    frame = Frame(width=452.0, height=440.0, x_limits=(0.0, high), y_limits=(0.0, high))
    series = [line for kind, text, report in drawn for line in _reliability(frame, kind, text, report)]
    ticks = [round(high * step / 5, 3) for step in range(6)]
    return frame.chart(
        chart_id=f"calibration-{finding}",
        title=f"Reliability, {finding}",
        description=" ".join(_describe(text, report) for _, text, report in drawn),
        x_title="Mean score of the bin",
        y_title="Share of breasts with the finding",
        series=series,
        guides=((frame.points([0.0, high], [0.0, high]), "chance"),),
        x_values=ticks,
        y_values=ticks,
    )


def _reliability(frame: Frame, kind: str, text: str, report: CalibrationReport) -> tuple[Series, Series]:
    """The curve, and the bins' intervals as upright bars."""
    curve = frame.series(
        kind,
        [one.mean_score for one in report.bins],
        [one.observed.value for one in report.bins],
        text=text,
        is_dotted=True,
        tell=lambda place: _describe_bin(text, report.bins[place]),
    )
    bars = tuple(
        frame.points([one.mean_score, one.mean_score], [one.observed.low, one.observed.high])
        for one in report.bins
        if one.observed.low is not None and one.observed.high is not None
    )
    return Series(kind=f"{kind} bar", lines=bars, dots=(), text=""), curve


def _describe_bin(text: str, one: CalibrationBin) -> str:
    ends = "" if one.observed.low is None or one.observed.high is None else f" ({one.observed.low:.2f}–{one.observed.high:.2f})"
    share = "not defined" if one.observed.value is None else f"{one.observed.value:.2f}{ends}"
    counted = f"{one.positive_breasts} of {one.breasts} breasts"
    if one.patients:
        counted += f" ({one.positive_patients} of {one.patients} patients)"
    return f"{text}: mean score {one.mean_score:.3f}, {counted}, share {share}"


def _upper_limit(reports: list[CalibrationReport]) -> float:
    """The smallest of a few round limits that holds every score, share and interval end."""
    values = [
        value
        for report in reports
        for one in report.bins
        for value in (one.mean_score, one.observed.value, one.observed.high)
        if value is not None
    ]
    return next((limit for limit in (0.05, 0.1, 0.2, 0.5) if max(values) <= limit), 1.0)


def _describe(text: str, report: CalibrationReport) -> str:
    error = report.expected_calibration_error.value
    told = "not defined" if error is None else f"{error:.3f}"
    return (
        f"{text.capitalize()}: mean score {report.mean_score:.3f}, observed {report.prevalence:.3f}, calibration error {told}."
    )
