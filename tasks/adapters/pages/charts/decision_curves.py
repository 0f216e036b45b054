"""The decision curve: net benefit of the network over risks, beside recalling all and recalling none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor, log10

from schemas.reports.clinic import DecisionCurve, NetBenefit
from tasks.adapters.pages.charts.frame import Chart, Frame, Series, Tick

PER = 1000.0
"""Net benefit is drawn of so many breasts: of one it is a number with many zeros."""
_MOST_TICKS = 6


def decision_chart(finding: str, curve: DecisionCurve) -> Chart | None:
    """The curve with its intervals as upright bars; None with fewer than two risks. Risks are drawn by their logarithm."""
    points = curve.points
    if len(points) < 2:
        return None
    risks = [log10(point.threshold) for point in points]
    low, high = _limits(curve)
    frame = Frame(width=452.0, height=440.0, x_limits=(risks[0], risks[-1]), y_limits=(low, high))
    bars = tuple(
        frame.points([risk, risk], [max(low, PER * point.network.low), min(high, PER * point.network.high)])
        for risk, point in zip(risks, points, strict=True)
        if point.network.low is not None and point.network.high is not None and PER * point.network.high > low
    )
    values = [None if point.network.value is None else PER * point.network.value for point in points]
    line = frame.series(
        finding,
        risks,
        [None if value is None or value < low else value for value in values],
        text="network",
        is_dotted=True,
        tell=lambda place: _describe(points[place]),
    )
    recall_all = [(risk, PER * point.recall_all) for risk, point in zip(risks, points, strict=True)]
    drawn = [(risk, value) for risk, value in recall_all if value >= low]
    step = next((size for size in _STEPS if (high - low) / size <= _MOST_TICKS), _STEPS[-1])
    chart = frame.chart(
        chart_id=f"decision-{finding}-{'stated' if curve.is_stated else 'own'}-{curve.prevalence:.6f}".replace(".", "-"),
        title=f"Net benefit, {finding}, {100.0 * curve.prevalence:.3g}% with the finding",
        description=_told(points),
        x_title="Risk at or above which a breast is recalled",
        y_title="Net benefit per 1,000 breasts",
        series=(Series(kind=f"{finding} bar", lines=bars, dots=(), text=""), line),
        guides=(
            (frame.points([risks[0], risks[-1]], [0.0, 0.0]), "chance"),
            (frame.points([risk for risk, _ in drawn], [value for _, value in drawn]), "chance"),
        ),
        x_values=(),
        y_values=[step * place for place in range(ceil(low / step), floor(high / step) + 1)],
    )
    ticks = tuple(
        Tick(position=frame.x(risk), text=f"{point.threshold:g}")
        for place, (risk, point) in enumerate(zip(risks, points, strict=True))
        if place % 2 == 0 or place == len(points) - 1
    )
    return replace(chart, x_ticks=ticks)


_STEPS = tuple(digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 5))


def _limits(curve: DecisionCurve) -> tuple[float, float]:
    """From a little above the best to half of it below 0: what lies deeper is worth nothing, whatever it is."""
    drawn = [PER * end for point in curve.points for end in (point.network.value, point.network.low, point.network.high) if end]
    high = 1.1 * max([*drawn, PER * curve.points[0].recall_all, 0.1 * PER * curve.prevalence])
    return max(min([0.0, *drawn]), -0.5 * high) - 0.1 * high, high


def _told(points: Sequence[NetBenefit]) -> str:
    better = [
        f"{point.threshold:g}"
        for point in points
        if point.network.value is not None and point.network.value > max(0.0, point.recall_all)
    ]
    if not better:
        return "At none of these risks does the network lie above both recalling all and recalling none."
    return f"The network lies above recalling all and recalling none at the risks {', '.join(better)}."


def _describe(point: NetBenefit) -> str:
    ends = ""
    if point.network.low is not None and point.network.high is not None:
        ends = f" ({PER * point.network.low:.2f} to {PER * point.network.high:.2f})"
    value = "not defined" if point.network.value is None else f"{PER * point.network.value:.2f}{ends}"
    return f"risk {point.threshold:g}: network {value}, recall all {PER * point.recall_all:.2f}, recall none 0"
