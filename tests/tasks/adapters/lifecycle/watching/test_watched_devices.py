"""Devices of the log: the one whose software changed is told, the others are not; clocks and few exams mislead nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from schemas.reports.life.watching import WatchedDevice, WatchReport
from tasks.adapters.lifecycle.watching.device_streams import MISSING_VIEWS, RECALLED, SCORE, device_streams
from tasks.adapters.lifecycle.watching.watched_devices import watched

VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))


def exam(number: int, score: float, **changes: Any) -> dict[str, Any]:
    """A line of the log."""
    line = {
        "kind": "exam", "exam_id": f"E{number}", "model": "m", "when_utc": f"2026-01-01T{number:06d}",
        "scores": {"L": {"malignant": score}, "R": {"malignant": 0.0}}, "recalled": {"malignant": score > 0.5},
    }  # fmt: skip
    return line | changes


def look(lines: list[dict[str, Any]], manifest: pd.DataFrame, *, since: str = "", baseline: int = 200) -> WatchReport:
    """What is said of them."""
    streams = device_streams(lines, manifest, since=since)
    return watched(streams, now=datetime(2026, 3, 4, tzinfo=UTC), since=since, baseline=baseline)


def by_name(report: WatchReport) -> dict[str, WatchedDevice]:
    """The devices."""
    return {device.name: device for device in report.devices}


def test_the_device_whose_software_changed_is_told_and_no_other() -> None:
    """Three devices in turn; one gets new software and higher scores. Rescoring, other weights and images count nothing."""
    rng = np.random.default_rng(0)
    numbers = np.arange(1500)
    manifest = pd.DataFrame(
        {
            "exam_id": [f"E{number}" for number in numbers], "manufacturer": "ACME", "model_name": "One",
            "device_id": [f"D{number % 3}" if number < 1490 else None for number in numbers],
            "software_versions": ["2" if number >= 900 and number % 3 == 1 else "1" for number in numbers],
        }
    )  # fmt: skip
    logit_E = rng.normal(size=1500) - 1.0 + np.where(manifest["software_versions"] == "2", 1.0, 0.0)
    lines = [exam(number, 1 / (1 + np.exp(-logit_E[number]))) for number in numbers]
    lines = [exam(0, 0.9, model="before"), {"kind": "image", "exam_id": "E1"}, *lines, exam(0, 0.99), exam(4000, 0.5)]
    report = look(lines, manifest)
    found = by_name(report)
    assert sorted(found) == ["ACME One", "ACME One D0", "ACME One D1", "ACME One D2"]
    changed = found["ACME One D1"]
    assert report.alarmed == (changed,) and {chart.name for chart in changed.alarms} <= {SCORE, RECALLED}
    (chart,) = [chart for chart in changed.alarms if chart.name == SCORE]
    assert chart.alarm is not None and chart.alarm.is_upward and chart.later > chart.baseline
    began = (int(chart.alarm.began_exam[1:]) - 1) // 3
    assert 290 <= began <= 310 and chart.alarm.began_utc == f"2026-01-01T{3 * began + 1:06d}"
    assert max(chart.up) > chart.limit > max(chart.down) and chart.at[-1] == changed.exams == 497
    assert [(one.name, one.first_exam, one.exams) for one in changed.softwares] == [("1", 1, 300), ("2", 301, 197)]
    before, after = (one.means[RECALLED] or 0.0 for one in changed.softwares)
    assert after > 2 * before
    assert found["ACME One"].needed == 191 and not found["ACME One"].charts
    since = look(lines, manifest, since="2026-01-01T000900", baseline=150)
    assert not since.alarmed and not look([], manifest).devices
    (bare,) = look([exam(0, 0.5, recalled={})], manifest[["exam_id"]]).devices
    assert bare.softwares[0].means[RECALLED] is None and bare.name == "not known"


def _three_hundred(**columns: Any) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Exams whose scores go on as they began, four images each, and a column changed in the images of the last hundred."""
    rng = np.random.default_rng(1)
    lines = [exam(number, score) for number, score in enumerate(rng.random(300))]
    rows = [
        {"exam_id": f"E{number}", "device_id": "D0", "laterality": side, "view_position": view}
        for number in range(300)
        for side, view in VIEWS
    ]
    manifest = pd.DataFrame(rows)
    return lines, manifest.assign(**{name: make(rng, manifest.index.to_numpy() // 4) for name, make in columns.items()})


def test_pictures_that_change_are_told_though_scores_do_not() -> None:
    """From the 200th exam on pixels are brighter: the chart of their mean tells it, those of the others stay quiet."""
    lines, manifest = _three_hundred(
        pixel_mean=lambda rng, exam_N: rng.normal(1000.0, 50.0, 1200) + np.where(exam_N >= 200, 40.0, 0.0),
        tissue_fraction=lambda rng, exam_N: rng.normal(0.4, 0.05, 1200),
        background_median=lambda rng, exam_N: np.zeros(1200),
    )
    (device,) = look(lines, manifest, baseline=150).devices
    assert [chart.name for chart in device.alarms] == ["mean pixel value"]
    assert [chart.name for chart in device.charts if chart.name not in (SCORE, RECALLED, MISSING_VIEWS)] == [
        "mean pixel value", "background", "breast's share of the image",
    ]  # fmt: skip


def test_views_that_begin_to_be_missing_are_told() -> None:
    """No exam lacked a view, then each second one does; a view that comes twice replaces no other."""
    lines, manifest = _three_hundred()
    is_gone = (manifest.index % 4 == 3) & (manifest.index // 4 >= 200) & (manifest.index // 4 % 2 == 1)
    repeated = manifest[manifest["exam_id"] == "E250"].head(1)
    (device,) = look(lines, pd.concat([manifest[~is_gone], repeated]), baseline=150).devices
    (chart,) = device.alarms
    assert chart.name == MISSING_VIEWS and chart.alarm is not None and chart.alarm.began_exam == "E201"
    assert chart.baseline == 0.0 and chart.later == 50 / 150


def test_a_clock_that_goes_back_moves_no_exam() -> None:
    """The log's order counts: times that fall back by a day change no chart, are counted, and hide no exam from ``since``."""
    lines, manifest = _three_hundred()
    back = [line | {"when_utc": "2025-12-31T23"} if 250 <= number < 260 else line for number, line in enumerate(lines)]
    plain, told = look(lines, manifest), look(back, manifest)
    assert plain.devices == told.devices and (plain.clock_went_back, told.clock_went_back) == (0, 1)
    since = look(back, manifest, since="2026-01-01T000200")
    assert since.devices[0].exams == 100


def test_detectors_of_one_device_are_told_apart() -> None:
    """Another detector under the same software is another line of the table, for its pictures may be others."""
    lines, manifest = _three_hundred(detector_id=lambda rng, exam_N: np.where(exam_N < 100, "T1234567890", "T9876543210"))
    manifest = manifest.assign(software_versions="3.1", institution_id="N12")
    (device,) = look(lines, manifest).devices
    assert [(one.name, one.exams) for one in device.softwares] == [
        ("3.1, detector T123456", 100),
        ("3.1, detector T987654", 200),
    ]
    assert device.institution == "N12"
