"""Whether each device goes on as it began: a control chart of each measure of its exams.

Published: at one site recall tripled when the mammographs' software was updated. A network's threshold holds for the pictures
that it was chosen on, so whoever makes them otherwise must be seen before recall is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd

from gmic_model.metrics.clinic.control_chart import BASELINE, ControlChart, rate_chart, value_chart
from schemas.config.run import RunConfig
from schemas.errors import ValidationFailed
from schemas.reports.life.watching import ChartAlarm, OfSoftware, WatchedChart, WatchedDevice, WatchReport
from tasks.adapters.lifecycle.prediction_log import PredictionLog, lines_as_written
from tasks.adapters.lifecycle.watching.device_streams import (
    MEASURES,
    RATES,
    DeviceStream,
    StreamedExam,
    Streams,
    device_streams,
)
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.objects.bucket_store import mirrored_url
from tasks.adapters.workspace import StoreFolder, Workspace, exam_store_dir

MOST_POINTS: Final = 240
"""Points of a chart that a report keeps: of the exams between two, the highest sums."""


def look(config: RunConfig, *, now: datetime) -> WatchReport:
    """The devices of a workspace, as ``config.watch`` says; none where nothing was predicted yet.

    Raises:
        StoreError: A line of the log is none, or exams were predicted and none is published.
    """
    asked, log = config.watch, PredictionLog(Workspace(config.workspace_dir).prediction_log_dir)
    since = "" if asked.since is None else asked.since.isoformat()
    streams = Streams(model="", clock_went_back=0, devices=())
    if log.files():
        store_dir = exam_store_dir(config)
        # Who only scores folders has none; of one in a bucket nothing need be here yet.
        has_store = StoreFolder(store_dir).settings_path.exists() or mirrored_url(store_dir) != ""
        manifest = read_manifest(open_store(store_dir)) if has_store else pd.DataFrame({"exam_id": []})
        with lines_as_written():
            streams = device_streams(log.lines(), manifest, since=since)
    return watched(streams, now=now, since=since, baseline=asked.baseline_exams)


def watched(streams: Streams, *, now: datetime, since: str = "", baseline: int = BASELINE) -> WatchReport:
    """The charts of every device.

    Args:
        streams: Their exams.
        now: When it is looked.
        since: Which exams the streams begin with, as it was asked for.
        baseline: Exams by which the later ones of a device are judged.
    """
    return WatchReport(
        created_utc=now.isoformat(timespec="seconds"),
        model_sha256=streams.model,
        since=since,
        baseline_exams=baseline,
        clock_went_back=streams.clock_went_back,
        devices=tuple(_watched(stream, baseline) for stream in streams.devices),
    )


def refuse_alarms(report: WatchReport) -> None:
    """Raises where a device is not as it began.

    Raises:
        ValidationFailed: One is.
    """
    if report.alarmed:
        raise ValidationFailed(
            f"{len(report.alarmed)} of {len(report.devices)} devices are not as they began",
            expected="scores, recalls, pictures and views that go on as they began",
            got="; ".join(f"{one.name}: {', '.join(chart.name for chart in one.alarms)}" for one in report.alarmed),
            remedy="look at its images and at what was changed on it, choose thresholds anew, then set watch.since to that day",
        )


# ---------------------------------------------------------------------------------------------------------------------


def _watched(stream: DeviceStream, baseline: int) -> WatchedDevice:
    charts = [_charted(name, stream.exams, baseline) for name in MEASURES]
    return WatchedDevice(
        name=stream.name,
        institution=", ".join(sorted(stream.institutions)),
        exams=len(stream.exams),
        needed=max(0, baseline + 1 - len(stream.exams)),
        softwares=_softwares(stream.exams),
        charts=tuple(chart for chart in charts if chart is not None),
    )


def _softwares(exams: Sequence[StreamedExam]) -> tuple[OfSoftware, ...]:
    places: dict[str, list[int]] = {}
    for place, exam in enumerate(exams):
        places.setdefault(exam.software, []).append(place)
    return tuple(
        OfSoftware(
            name=name,
            first_exam=chosen[0] + 1,
            exams=len(chosen),
            means={measure: _mean([exams[place] for place in chosen], measure) for measure in MEASURES},
        )
        for name, chosen in places.items()
    )


def _mean(exams: Sequence[StreamedExam], measure: str) -> float | None:
    values = [exam.values[measure] for exam in exams if measure in exam.values]
    return float(np.mean(values)) if values else None


def _charted(name: str, exams: Sequence[StreamedExam], baseline: int) -> WatchedChart | None:
    """Of the exams of which the measure is known; None = these are too few."""
    known = [place for place, exam in enumerate(exams) if name in exam.values]
    values = [exams[place].values[name] for place in known]
    chart = (rate_chart if name in RATES else value_chart)(values, baseline=baseline)
    if chart is None:
        return None
    later = known[baseline:]
    chosen = _chosen(chart)
    return WatchedChart(
        name=name,
        is_rate=name in RATES,
        baseline=float(np.mean(values[:baseline])),
        later=float(np.mean(values[baseline:])),
        limit=chart.limit,
        up=tuple(round(float(chart.up_E[place]), 3) for place in chosen),
        down=tuple(round(float(chart.down_E[place]), 3) for place in chosen),
        at=tuple(later[place] + 1 for place in chosen),
        alarm=_alarm(chart, [exams[place] for place in known]),
    )


def _chosen(chart: ControlChart) -> list[int]:
    """Of each run of exams the one with the highest sum, and the last of all."""
    highest_E = np.maximum(chart.up_E, chart.down_E)
    runs = np.array_split(np.arange(len(highest_E)), min(MOST_POINTS, len(highest_E)))
    return sorted({int(run[np.argmax(highest_E[run])]) for run in runs} | {len(highest_E) - 1})


def _alarm(chart: ControlChart, exams: Sequence[StreamedExam]) -> ChartAlarm | None:
    if chart.alarm is None:
        return None
    began = exams[chart.alarm.began]
    return ChartAlarm(
        is_upward=chart.alarm.is_upward,
        shift=chart.alarm.shift,
        began_exam=began.exam_id,
        began_utc=began.when_utc,
        told_after=chart.alarm.exam - chart.alarm.began + 1,
    )
