"""The page of the watching: device by device what its exams are like, by software, and the control charts. One file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from schemas.config.run import RunConfig
from schemas.reports.life.watching import WatchedChart, WatchReport
from tasks.adapters.lifecycle.watching.device_streams import MEASURES, RATES
from tasks.adapters.pages.charts.control import control_chart
from tasks.adapters.pages.render import known_text, write_page
from tasks.adapters.workspace import WATCH, Workspace


def leave_watch(config: RunConfig, report: WatchReport, *, created: datetime) -> WatchReport:
    """Leaves page and report in the workspace, where ``mammo doctor`` and the service look for an alarm that stands."""
    workspace = Workspace(config.workspace_dir)
    left = report.model_copy(update={"page_path": workspace.stage_dir(WATCH) / "devices.html"})
    write_watch_page(left, output_path=left.page_path or Path(), created=created)
    workspace.write_report(WATCH, left)
    return left


def write_watch_page(report: WatchReport, *, output_path: Path, created: datetime) -> None:
    """Writes the page, devices with an alarm first; replaced atomically."""
    devices = sorted(report.devices, key=lambda device: not device.alarms)
    write_page(
        output_path,
        "watch.html.jinja",
        report=report,
        devices=[
            (
                device,
                [
                    (chart, control_chart(device, chart, f"device-{place}-chart-{number}"))
                    for number, chart in enumerate(device.charts)
                ],
            )
            for place, device in enumerate(devices)
        ],
        measures=MEASURES,
        value_text=_value_text,
        shift_text=shift_text,
        created=created,
    )


def shift_text(chart: WatchedChart) -> str:
    """How far a chart with an alarm has moved, in words."""
    if chart.alarm is None:
        return "as it began"
    way = "higher" if chart.alarm.is_upward else "lower"
    far = (
        f"{100.0 * abs(chart.alarm.shift):.1f} points" if chart.is_rate else f"{abs(chart.alarm.shift):.1f} standard deviations"
    )
    return f"{way} by {far}"


def _value_text(measure: str, value: float | None) -> str:
    if value is None:
        return known_text(None)
    if measure in RATES:
        return f"{100.0 * value:.1f}%"
    return f"{value:.3f}" if abs(value) < 10.0 else f"{value:,.0f}"
