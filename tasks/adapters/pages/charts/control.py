"""Control charts of a device: its two sums, exam by exam, with the limit at which they raise an alarm."""

from __future__ import annotations

from typing import Final

from schemas.reports.life.watching import WatchedChart, WatchedDevice
from tasks.adapters.pages.charts.frame import Chart, Frame
from tasks.adapters.pages.charts.training_curves import nice_ticks

HIGHER, LOWER = "malignant", "benign"
"""Classes of the two sums: a line drawn through, and a dashed one."""

MOST_LIMITS: Final = 3.0
"""Sums are drawn up to so many times the limit: what is far above it would press the beginning flat."""


def control_chart(device: WatchedDevice, chart: WatchedChart, chart_id: str) -> Chart:
    """Both sums, the limit, and where the device's newest software began."""
    top = min(max(chart.limit * 1.25, *chart.up, *chart.down), chart.limit * MOST_LIMITS)
    y_ticks = nice_ticks(0.0, top)
    shown = [[min(value, y_ticks[-1]) for value in sums] for sums in (chart.up, chart.down)]
    first, last = chart.at[0], max(chart.at[-1], chart.at[0] + 1)
    frame = Frame(width=452.0, height=260.0, x_limits=(float(first), float(last)), y_limits=(0.0, y_ticks[-1]))
    x_ticks = tuple(tick for tick in nice_ticks(float(first), float(last)) if first <= tick <= last)
    newest = device.softwares[-1] if len(device.softwares) > 1 else None
    is_shown = newest is not None and first <= newest.first_exam <= last
    return frame.chart(
        chart_id=chart_id,
        title=chart.name.capitalize(),
        description=_in_words(chart),
        x_title="Exam of this device",
        y_title="Sum",
        series=[
            frame.series(HIGHER, chart.at, shown[0], text="higher than it was"),
            frame.series(LOWER, chart.at, shown[1], text="lower than it was"),
        ],
        guides=((frame.points(frame.x_limits, [chart.limit, chart.limit]), "chance"),),
        x_values=x_ticks,
        y_values=y_ticks,
        marker=(float(newest.first_exam), "newest software") if newest is not None and is_shown else None,
    )


def _in_words(chart: WatchedChart) -> str:
    highest, lowest = max(chart.up), max(chart.down)
    said = f"The sum for higher values reaches {highest:.1f}, that for lower ones {lowest:.1f}; the limit is {chart.limit:g}."
    if chart.alarm is None:
        return f"{said} No alarm."
    return f"{said} Alarm: it became {'higher' if chart.alarm.is_upward else 'lower'}."
