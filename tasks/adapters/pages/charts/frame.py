"""Charts as coordinates: the plot area with its axes, lines and what a reader is told at their points. No markup here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_LEFT, _TOP, _BOTTOM, _RIGHT = 52.0, 12.0, 46.0, 14.0
"""Margins around the plot area, in SVG units (CSS pixels at 1:1)."""


MOST_READINGS: Final = 200
"""Points of a line that the page's script can read out."""


_UNIT_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A tick: where on its axis, in SVG units, and what it says."""

    position: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart.

    Attributes:
        kind: CSS class: colour and dash.
        lines: ``points`` of one polyline per unbroken run.
        dots: Points to mark, (x, y).
        text: What the legend says.
        readings: (x, y, what a reader is told there).
    """

    kind: str
    lines: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    text: str
    readings: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart ready to draw; ``description`` says in words what it shows.

    Attributes:
        bands: Areas under the lines, each ``(points, css class)``.
        guides: Reference lines, each ``(points, css class)``.
        marker: A vertical line ``(x, text)``, or None.
    """

    chart_id: str
    title: str
    description: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    series: tuple[Series, ...]
    bands: tuple[tuple[str, str], ...] = ()
    guides: tuple[tuple[str, str], ...] = ()
    marker: tuple[float, str] | None = None

    @property
    def readings_json(self) -> str:
        """What can be read off the lines, for the page's script; empty if nothing can."""
        lines = [{"kind": one.kind, "points": one.readings} for one in self.series if one.readings]
        return json.dumps(lines, separators=(",", ":"), ensure_ascii=False) if lines else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The plot area and its two scales."""

    width: float
    height: float
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]

    def x(self, value: float) -> float:
        """SVG position of a value on the horizontal axis."""
        low, high = self.x_limits
        return round(_LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        """SVG position of a value on the vertical axis."""
        low, high = self.y_limits
        return round(self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _TOP - _BOTTOM), 1)

    def points(self, x_values: Iterable[float], y_values: Iterable[float]) -> str:
        """A polyline's ``points``."""
        pairs = [(self.x(x), self.y(y)) for x, y in zip(x_values, y_values, strict=True)]
        return " ".join(f"{x:g},{y:g}" for x, y in _without_straight_runs(pairs))

    def series(
        self,
        kind: str,
        x_values: Iterable[float],
        y_values: Iterable[float | None],
        *,
        text: str | None = None,
        is_dotted: bool = False,
        tell: Callable[[int], str] | None = None,
    ) -> Series:
        """A line that breaks where a value is None; ``tell`` says in words what its point at an index is."""
        x_values, y_values = list(x_values), list(y_values)
        runs: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(x_values, y_values, strict=True):
            if y is None or not np.isfinite(y):
                runs.append([])
            else:
                runs[-1].append((float(x), float(y)))
        kept = [run for run in runs if run]
        return Series(
            kind=str(kind),
            lines=tuple(self.points(*zip(*run, strict=True)) for run in kept),
            dots=tuple((self.x(x), self.y(y)) for run in kept for x, y in run) if is_dotted else (),
            text=str(kind) if text is None else text,
            readings=() if tell is None else self._readings(x_values, y_values, tell),
        )

    def _readings(
        self, x_values: Sequence[float], y_values: Sequence[float | None], tell: Callable[[int], str]
    ) -> tuple[tuple[float, float, str], ...]:
        """Evenly chosen points, at most ``MOST_READINGS``, the first and the last among them."""
        places = np.unique(np.linspace(0, len(x_values) - 1, min(len(x_values), MOST_READINGS)).round().astype(np.intp))
        points = [(place, x_values[place], y_values[place]) for place in places.tolist()]
        return tuple((self.x(x), self.y(y), tell(place)) for place, x, y in points if y is not None and np.isfinite(y))

    def chart(
        self,
        *,
        chart_id: str,
        title: str,
        description: str,
        x_title: str,
        y_title: str,
        series: Iterable[Series],
        bands: tuple[tuple[str, str], ...] = (),
        guides: tuple[tuple[str, str], ...] = (),
        x_values: Iterable[float] = _UNIT_TICKS,
        y_values: Iterable[float] = _UNIT_TICKS,
        marker: tuple[float, str] | None = None,
    ) -> Chart:
        """The chart with this frame's axes."""
        return Chart(
            chart_id=chart_id,
            title=title,
            description=description,
            width=self.width,
            height=self.height,
            left=_LEFT,
            right=self.width - _RIGHT,
            top=_TOP,
            bottom=self.height - _BOTTOM,
            x_title=x_title,
            y_title=y_title,
            x_ticks=tuple(Tick(position=self.x(value), text=f"{value:g}") for value in x_values),
            y_ticks=tuple(Tick(position=self.y(value), text=f"{round(value, 6):g}") for value in y_values),
            series=tuple(series),
            bands=bands,
            guides=guides,
            marker=None if marker is None else (self.x(marker[0]), marker[1]),
        )


def _without_straight_runs(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Drops points inside straight stretches: a curve over 28,000 breasts keeps only its corners."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if kept and point == kept[-1]:
            continue
        if len(kept) >= 2:
            (ax, ay), (bx, by) = kept[-2], kept[-1]
            first, second = (bx - ax, by - ay), (point[0] - bx, point[1] - by)
            is_straight = abs(first[0] * second[1] - first[1] * second[0]) < 1e-9
            if is_straight and first[0] * second[0] + first[1] * second[1] > 0:
                kept.pop()
        kept.append(point)
    return kept
