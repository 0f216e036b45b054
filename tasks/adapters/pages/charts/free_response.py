"""The free-response curve: lesions found against false marks an image, as coordinates; markup is the templates'."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schemas.reports.evaluation import EvaluationReport, FindingMetrics
from schemas.reports.reviewed import FreeResponse, FrocPoint
from tasks.adapters.pages.charts.frame import Chart, Frame, Series
from tasks.adapters.pages.render import PAGE_FINDINGS

_UNIT_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def froc_charts(evaluated: EvaluationReport) -> list[Chart]:
    """One for each finding whose lesions are marked, in the order of a page."""
    by_finding = evaluated.by_finding
    drawn = [froc_chart(finding.value, by_finding[finding.value]) for finding in PAGE_FINDINGS if finding.value in by_finding]
    return [chart for chart in drawn if chart is not None]


def froc_chart(finding: str, metrics: FindingMetrics) -> Chart | None:
    """Both countings of lesions, false marks doubling from tick to tick; None where there is no curve."""
    level = metrics.lesion_level
    drawn = [one for one in level.counted if one.points] if level is not None else []
    if not drawn:
        return None
    allowed = [point.false_marks_allowed for point in drawn[0].points]
    frame = Frame(width=452.0, height=440.0, x_limits=(_place(allowed[0]), _place(allowed[-1])), y_limits=(0.0, 1.0))
    kinds = (finding, "scaled")
    chart = frame.chart(
        chart_id=f"froc-{finding}",
        title=f"Free-response curve, {finding}",
        description=" ".join(_describe(one) for one in drawn),
        x_title="False marks an image, at most (exams without the finding)",
        y_title="Lesions found",
        series=[line for kind, one in zip(kinds, drawn, strict=False) for line in _lines(frame, kind, one)],
        x_values=[_place(value) for value in allowed],
        y_values=_UNIT_TICKS,
    )
    ticks = tuple(replace(tick, text=f"{value:g}") for tick, value in zip(chart.x_ticks, allowed, strict=True))
    return replace(chart, x_ticks=ticks)


def _place(false_marks: float) -> float:
    return float(np.log2(false_marks))


def _lines(frame: Frame, kind: str, one: FreeResponse) -> tuple[Series, Series]:
    """The curve, and its intervals as upright bars."""
    curve = frame.series(
        kind,
        [_place(point.false_marks_allowed) for point in one.points],
        [point.sensitivity.value for point in one.points],
        text=one.name,
        is_dotted=True,
        tell=lambda place: _tell(one, one.points[place]),
    )
    bars = tuple(
        frame.points([_place(point.false_marks_allowed)] * 2, [point.sensitivity.low, point.sensitivity.high])
        for point in one.points
        if point.sensitivity.low is not None and point.sensitivity.high is not None
    )
    return Series(kind=f"{kind} bar", lines=bars, dots=(), text=""), curve


def _tell(one: FreeResponse, point: FrocPoint) -> str:
    found = point.sensitivity
    ends = "" if found.low is None or found.high is None else f" ({found.low:.2f}–{found.high:.2f})"
    value = "not defined" if found.value is None else f"{found.value:.2f}{ends}"
    return f"{one.name}: {value} of lesions at {point.false_marks:.3g} false marks an image"


def _describe(one: FreeResponse) -> str:
    at_one = next((point for point in one.points if point.false_marks_allowed == 1.0), one.points[-1])
    value = "not defined" if at_one.sensitivity.value is None else f"{at_one.sensitivity.value:.2f}"
    return f"{one.name.capitalize()}: {value} of lesions found at one false mark an image or fewer."
