"""What a reader is told at a point of a curve: each function gives words for the point at an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gmic_model.metrics.curve_bands import CurveBand
from gmic_model.metrics.ranking import PrecisionRecallCurve, RocCurve
from schemas.exam import Finding


def roc_reading(finding: Finding, curve: RocCurve, band: CurveBand | None) -> Callable[[int], str]:
    """Sensitivity with its interval, specificity and threshold."""

    def tell(place: int) -> str:
        false_rate, true_rate = float(curve.false_positive_rate_T[place]), float(curve.true_positive_rate_T[place])
        threshold = float(curve.threshold_T[place])
        at = f"score of at least {threshold:.3f}" if np.isfinite(threshold) else "above every score"
        return f"{finding}: sensitivity {true_rate:.2f}{_ends(band, false_rate)} at specificity {1 - false_rate:.2f}, {at}"

    return tell


def pr_reading(finding: Finding, curve: PrecisionRecallCurve, band: CurveBand | None) -> Callable[[int], str]:
    """Precision with its interval, recall and threshold."""

    def tell(place: int) -> str:
        recall, precision = float(curve.recall_T[place]), float(curve.precision_T[place])
        at = f"score of at least {float(curve.threshold_T[place]):.3f}"
        return f"{finding}: precision {precision:.2f}{_ends(band, recall)} at recall {recall:.2f}, {at}"

    return tell


def epoch_reading(finding: Finding, numbers: Sequence[int], values: Sequence[float | None]) -> Callable[[int], str]:
    """The metric of an epoch."""
    return lambda place: f"epoch {numbers[place]}: {finding} AUROC {values[place]:.3f}"


def _ends(band: CurveBand | None, at: float) -> str:
    """`` (0.71–0.95)``, the band's ends at the nearest place of its grid."""
    if band is None:
        return ""
    place = int(np.abs(band.at_G - at).argmin())
    return f" ({band.low_G[place]:.2f}–{band.high_G[place]:.2f})"
