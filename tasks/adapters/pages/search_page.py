"""The page about a search: parallel coordinates of all trials, what each parameter explains, the best models. One file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from schemas.config.training import SearchConfig
from schemas.reports.training import SearchReport
from tasks.adapters.pages.render import write_page
from tasks.adapters.training.search_study import TrialRecord

WIDTH_PX: Final = 960
HEIGHT_PX: Final = 380
_TOP_PX, _BOTTOM_PX, _SIDE_PX = 50, 40, 80
_AUROC: Final = "tuning malignant AUROC"


@dataclass(frozen=True, slots=True)
class Axis:
    """One upright axis; ``low`` and ``high`` are the values at its ends."""

    label: str
    x_px: float
    low: float
    high: float
    is_log: bool

    def y_px(self, value: float) -> float:
        """Height of a value; the ends for values outside."""
        low, high, at = (math.log(number) if self.is_log else number for number in (self.low, self.high, value))
        share = 0.5 if high == low else min(max((at - low) / (high - low), 0.0), 1.0)
        return HEIGHT_PX - _BOTTOM_PX - share * (HEIGHT_PX - _TOP_PX - _BOTTOM_PX)


@dataclass(frozen=True, slots=True)
class TrialLine:
    """One trial's way across the axes; the best trials are drawn last and marked."""

    number: int
    points: str
    is_best: bool
    title: str


def write_search_page(
    path: Path, name: str, records: Sequence[TrialRecord], report: SearchReport, created: datetime, search: SearchConfig
) -> None:
    """Writes the page; replaced atomically."""
    ended = [record for record in records if record.auroc is not None]
    axes = _axes(ended, search)
    best = {model.trial for model in report.best}
    lines = [_line(record, axes, search.paths, record.number in best) for record in ended]
    write_page(
        path,
        "search.html.jinja",
        created=created,
        name=name,
        report=report,
        axes=axes,
        lines=sorted(lines, key=lambda line: line.is_best),
        parameters=search.paths,
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
        top_px=_TOP_PX,
        bottom_px=_BOTTOM_PX,
    )


def _axes(records: Sequence[TrialRecord], search: SearchConfig) -> list[Axis]:
    step_px = (WIDTH_PX - 2 * _SIDE_PX) / len(search.paths)
    columns = [([record.parameters[path] for record in records], path, search.ranges[path].is_log) for path in search.paths]
    columns.append(([record.auroc or 0.0 for record in records], _AUROC, False))
    return [
        Axis(label, _SIDE_PX + index * step_px, min(values), max(values), is_log)
        for index, (values, label, is_log) in enumerate(columns)
    ]


def _line(record: TrialRecord, axes: Sequence[Axis], paths: Sequence[str], is_best: bool) -> TrialLine:
    values = [*(record.parameters[path] for path in paths), record.auroc or 0.0]
    points = " ".join(f"{axis.x_px:.1f},{axis.y_px(value):.1f}" for axis, value in zip(axes, values, strict=True))
    words = ", ".join(f"{path} {record.parameters[path]:.3g}" for path in paths)
    return TrialLine(
        record.number,
        points,
        is_best,
        f"trial {record.number}: AUROC {record.auroc:.3f}, weights {record.sha256[:12]}, {words}",
    )
