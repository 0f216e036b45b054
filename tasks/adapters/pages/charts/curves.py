"""Charts as coordinates: what the report's SVG templates draw. No markup here, no numbers computed in the templates.

Drawn as plain SVG so that the page's own colours, dark mode and print styles apply to them and text stays text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmic_model.metrics.curve_bands import CurveBand
from gmic_model.metrics.ranking import PrecisionRecallCurve, RocCurve, pr_curve, roc_curve
from schemas.exam import Finding
from schemas.reports.report import Interval
from schemas.reports.training import EpochRecord
from tasks.adapters.pages.charts.readings import epoch_reading, pr_reading, roc_reading

_LEFT, _TOP, _BOTTOM, _RIGHT = 52.0, 12.0, 46.0, 14.0
"""Margins around the plot area, in SVG units (CSS pixels at 1:1)."""
MOST_READINGS: Final = 200
"""Points of a line that the page's script can read out."""
_UNIT_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FindingScores:
    """Test scores of one finding: what its curves are drawn from.

    Attributes:
        score_B: Breast-level scores.
        label_B: 0 absent, 1 present, 255 not known.
        roc_band, pr_band: Intervals around the curves; None = not defined.
    """

    finding: Finding
    score_B: ArrayLike
    label_B: ArrayLike
    roc_band: CurveBand | None = None
    pr_band: CurveBand | None = None


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
class Whisker:
    """An interval on the scale 0 to 1, as percentages of the scale's length.

    Attributes:
        reference: Where a score that knows nothing would stand: 0.5 for AUROC, the prevalence for AUPRC.
    """

    value: float
    low: float | None
    high: float | None
    reference: float


def roc_chart(scores: Sequence[FindingScores]) -> Chart:
    """ROC curves of all findings, with the diagonal of chance."""
    frame = Frame(width=452.0, height=440.0, x_limits=(0.0, 1.0), y_limits=(0.0, 1.0))
    curves = [(scored.finding, roc_curve(scored.score_B, scored.label_B)) for scored in scores]
    series = [
        frame.series(
            finding, curve.false_positive_rate_T, curve.true_positive_rate_T, tell=roc_reading(finding, curve, scored.roc_band)
        )
        for (finding, curve), scored in zip(curves, scores, strict=True)
        if curve is not None
    ]
    return frame.chart(
        chart_id="roc",
        title="ROC curve",
        description=" ".join(_describe_roc(finding, curve) for finding, curve in curves),
        x_title="False positive rate (1 − specificity)",
        y_title="True positive rate (sensitivity)",
        series=series,
        bands=_bands(frame, [(scored.finding, scored.roc_band) for scored in scores]),
        guides=((frame.points([0.0, 1.0], [0.0, 1.0]), "chance"),),
    )


def pr_chart(scores: Sequence[FindingScores]) -> Chart:
    """Precision-recall steps of all findings, each with its prevalence as the line of chance."""
    frame = Frame(width=452.0, height=440.0, x_limits=(0.0, 1.0), y_limits=(0.0, 1.0))
    series, guides, sentences = [], [], []
    for scored in scores:
        curve = pr_curve(scored.score_B, scored.label_B)
        if curve is None:
            sentences.append(f"{scored.finding.capitalize()}: not defined, one class only.")
            continue
        steps = frame.series(scored.finding, *_steps(curve))
        told = frame.series(
            scored.finding, curve.recall_T, curve.precision_T, tell=pr_reading(scored.finding, curve, scored.pr_band)
        )
        series.append(replace(steps, readings=told.readings))
        prevalence = float(curve.precision_T[-1])  # everything called positive: precision is the prevalence
        guides.append((frame.points([0.0, 1.0], [prevalence, prevalence]), f"chance {scored.finding}"))
        half = float(curve.precision_T[curve.recall_T >= 0.5].max())
        sentences.append(
            f"{scored.finding.capitalize()}: precision {half:.2f} at recall 0.5 or more; prevalence {prevalence:.2f}."
        )
    return frame.chart(
        chart_id="pr",
        title="Precision-recall curve",
        description=" ".join(sentences),
        x_title="Recall (sensitivity)",
        y_title="Precision (positive predictive value)",
        series=series,
        bands=_bands(frame, [(scored.finding, scored.pr_band) for scored in scores]),
        guides=tuple(guides),
    )


def loss_chart(epochs: Sequence[EpochRecord], best_epoch: int) -> Chart:
    """Training loss by epoch."""
    losses = [record.train_loss for record in epochs]
    y_ticks = _nice_ticks(min(losses, default=0.0), max(losses, default=1.0))
    frame = Frame(width=452.0, height=300.0, x_limits=_epoch_limits(epochs), y_limits=(y_ticks[0], y_ticks[-1]))
    change = f"from {losses[0]:.3g} in the first epoch to {losses[-1]:.3g} in the last" if losses else "no epoch was trained"
    return frame.chart(
        chart_id="loss",
        title="Training loss",
        description=f"Mean training loss by epoch: {change}.",
        x_title="Epoch",
        y_title="Training loss",
        series=[
            frame.series(
                "loss",
                [record.epoch for record in epochs],
                losses,
                text="training loss",
                is_dotted=True,
                tell=lambda place: f"epoch {epochs[place].epoch}: training loss {losses[place]:.4g}",
            )
        ],
        x_values=_epoch_ticks(epochs),
        y_values=y_ticks,
        marker=(best_epoch, f"best epoch {best_epoch}"),
    )


def tuning_chart(epochs: Sequence[EpochRecord], best_epoch: int) -> Chart:
    """AUROC on the tuning split by epoch, for both findings."""
    by_finding = {
        Finding.MALIGNANT: [record.tuning_malignant_auroc for record in epochs],
        Finding.BENIGN: [record.tuning_benign_auroc for record in epochs],
    }
    known = [value for values in by_finding.values() for value in values if value is not None]
    floor = min(0.4, np.floor(min(known, default=0.4) * 10.0) / 10.0)
    ticks = tuple(float(tick) for tick in np.linspace(floor, 1.0, 1 + round((1.0 - floor) / (0.1 if floor >= 0.4 else 0.2))))
    frame = Frame(width=452.0, height=300.0, x_limits=_epoch_limits(epochs), y_limits=(floor, 1.0))
    numbers = [record.epoch for record in epochs]
    sentences = [
        f"{finding.capitalize()}: best {max(found):.3f}."
        if (found := [v for v in values if v is not None])
        else f"{finding.capitalize()}: not defined, one class only."
        for finding, values in by_finding.items()
    ]
    return frame.chart(
        chart_id="tuning",
        title="AUROC on the tuning split",
        description="AUROC by epoch. " + " ".join(sentences),
        x_title="Epoch",
        y_title="Tuning AUROC",
        series=[
            frame.series(finding, numbers, values, is_dotted=True, tell=epoch_reading(finding, numbers, values))
            for finding, values in by_finding.items()
        ],
        guides=((frame.points(frame.x_limits, [0.5, 0.5]), "chance"),),
        x_values=_epoch_ticks(epochs),
        y_values=ticks,
        marker=(best_epoch, f"best epoch {best_epoch}"),
    )


def whisker(interval: Interval, reference: float) -> Whisker | None:
    """The interval's drawing; None if there is no value."""
    if interval.value is None:
        return None
    low, high = (None if end is None else 100.0 * end for end in (interval.low, interval.high))
    return Whisker(value=100.0 * interval.value, low=low, high=high, reference=100.0 * reference)


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


def _steps(curve: PrecisionRecallCurve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each precision holds back to the recall before it: the area under these steps is the average precision."""
    recall_X = np.repeat(np.concatenate([[0.0], curve.recall_T]), 2)[1:-1]
    return recall_X, np.repeat(curve.precision_T, 2)


def _bands(frame: Frame, bands: Iterable[tuple[Finding, CurveBand | None]]) -> tuple[tuple[str, str], ...]:
    """Each band as one closed outline: along its upper end, and back along its lower one."""
    return tuple(
        (frame.points([*band.at_G, *band.at_G[::-1]], [*band.high_G, *band.low_G[::-1]]), finding.value)
        for finding, band in bands
        if band is not None
    )


def _describe_roc(finding: Finding, curve: RocCurve | None) -> str:
    if curve is None:
        return f"{finding.capitalize()}: not defined, one class only."
    return f"{finding.capitalize()}: sensitivity {curve.sensitivity_at(0.9):.2f} at specificity 0.90."


def _epoch_limits(epochs: Sequence[EpochRecord]) -> tuple[float, float]:
    numbers = [record.epoch for record in epochs] or [0]
    first, last = min(numbers), max(numbers)
    return (first - 0.5, last + 0.5) if first == last else (float(first), float(last))


def _epoch_ticks(epochs: Sequence[EpochRecord]) -> list[float]:
    numbers = sorted(record.epoch for record in epochs)
    step = max(1, -(-len(numbers) // 10))
    return [float(number) for number in numbers[::step]]


def _nice_ticks(low: float, high: float) -> tuple[float, ...]:
    """Four to eight round numbers that enclose the values."""
    span = high - low if high > low else max(abs(high), 1.0)
    raw = span / 5.0
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(power * next(factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= raw * 0.999))
    first, last = np.floor(low / step), np.ceil(high / step)
    return tuple(float(index * step) for index in np.arange(first, max(last, first + 1) + 1))
