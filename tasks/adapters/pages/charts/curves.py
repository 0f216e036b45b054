"""Charts as coordinates: what the report's SVG templates draw. No markup here, no numbers computed in the templates.

Drawn as plain SVG so that the page's own colours, dark mode and print styles apply to them and text stays text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmic_model.metrics.curve_bands import CurveBand
from gmic_model.metrics.ranking import PrecisionRecallCurve, RocCurve, pr_curve, roc_curve
from schemas.exam import Finding
from schemas.reports.report import Interval
from tasks.adapters.pages.charts.frame import Chart, Frame

_SLACK: Final = 1e-9
"""A rate that lies on the band's grid must not miss its place by the last bit."""
_ALIKE: Final = 0.005
"""Two values that a reader is told with two digits are the same."""


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


def whisker(interval: Interval, reference: float) -> Whisker | None:
    """The interval's drawing; None if there is no value."""
    if interval.value is None:
        return None
    low, high = (None if end is None else 100.0 * end for end in (interval.low, interval.high))
    return Whisker(value=100.0 * interval.value, low=low, high=high, reference=100.0 * reference)


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


def roc_reading(finding: Finding, curve: RocCurve, band: CurveBand | None) -> Callable[[int], str]:
    """Sensitivity with its interval, specificity and threshold."""

    def tell(place: int) -> str:
        false_rate, true_rate = float(curve.false_positive_rate_T[place]), float(curve.true_positive_rate_T[place])
        threshold = float(curve.threshold_T[place])
        at = f"score of at least {threshold:.3f}" if np.isfinite(threshold) else "above every score"
        ends = "" if band is None else _ends(band, int(np.searchsorted(band.at_G, false_rate - _SLACK)), true_rate)
        return f"{finding}: sensitivity {true_rate:.2f}{ends} at specificity {1 - false_rate:.2f}, {at}"

    return tell


def pr_reading(finding: Finding, curve: PrecisionRecallCurve, band: CurveBand | None) -> Callable[[int], str]:
    """Precision with its interval, recall and threshold."""

    def tell(place: int) -> str:
        recall, precision = float(curve.recall_T[place]), float(curve.precision_T[place])
        at = f"score of at least {float(curve.threshold_T[place]):.3f}"
        place_at = 0 if band is None else int(np.searchsorted(band.at_G, recall + _SLACK, side="right")) - 1
        ends = "" if band is None else _ends(band, place_at, precision)
        return f"{finding}: precision {precision:.2f}{ends} at recall {recall:.2f}, {at}"

    return tell


def _ends(band: CurveBand, place: int, value: float) -> str:
    """`` (0.71–0.95)``, the band's ends at a place of its grid; nothing where they are of another value.

    Of a curve's upright pieces only the end is an operating point that the band is of: the others have no interval in it.
    """
    if not abs(band.value_G[place] - value) < _ALIKE:
        return ""
    return f" ({band.low_G[place]:.2f}–{band.high_G[place]:.2f})"
