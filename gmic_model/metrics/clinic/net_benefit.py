"""Decision curves: is it worth recalling by the network, for who would bear so many false recalls to find one?

At a risk ``t`` somebody recalls who weighs one finding found as ``(1 - t) / t`` false recalls. Net benefit is findings found
less false recalls at that weight, of one breast: ``share * sensitivity - (1 - share) * (1 - specificity) * t / (1 - t)``.
Recalling nobody has 0. A network is worth using at the risks where it lies above 0 and above recalling everybody.

The share of findings is taken as known, so that curves of a test split can be read at a clinic's own share; the interval is
made of those of sensitivity and specificity. Axis ``B`` breasts.

Sources: Vickers and Elkin 2006 (Medical Decision Making 26, 565); Zou and Donner 2008 (limits of a difference from its parts).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmic_model.metrics.areas import has_enough
from gmic_model.metrics.proportions import Part, complement, proportion
from gmic_model.metrics.ranking import known_breasts
from schemas.reports.clinic import NetBenefit
from schemas.reports.report import Interval


def net_benefits(
    risk_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    thresholds: Sequence[float],
    *,
    prevalence: float | None = None,
    confidence: float,
) -> tuple[NetBenefit, ...]:
    """The curve at these risks, with intervals over patients; none below five patients of a class, empty if one class only.

    Args:
        risk_B: Probabilities that are right for ``prevalence``: recalibrated, and shifted if it is stated.
        label_B: 0 absent, 1 present, 255 not known.
        patient_B: Whose breasts.
        thresholds: Between 0 and 1.
        prevalence: Share of findings that the curve is for; None = of these breasts.
        confidence: Of the intervals.

    Raises:
        MammoError: A risk of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    known = known_breasts(risk_B, label_B)
    if known.is_positive_B.all() or not known.is_positive_B.any():
        return ()
    patients_B = np.asarray(patient_B)[known.index_B]
    share = float(known.is_positive_B.mean()) if prevalence is None else prevalence
    has_ends = has_enough(known.is_positive_B, patients_B)
    return tuple(
        _at(threshold, known.score_B >= threshold, known.is_positive_B, patients_B, share, has_ends, confidence)
        for threshold in sorted(thresholds)
    )


def _at(
    threshold: float,
    is_recalled_B: NDArray[np.bool_],
    is_positive_B: NDArray[np.bool_],
    patient_B: NDArray[np.generic],
    share: float,
    has_ends: bool,
    confidence: float,
) -> NetBenefit:
    found = _rate(is_recalled_B[is_positive_B], patient_B[is_positive_B], has_ends, confidence)
    alarms = complement(_rate(~is_recalled_B[~is_positive_B], patient_B[~is_positive_B], has_ends, confidence))
    gain, price = share, (1.0 - share) * threshold / (1.0 - threshold)
    value = gain * found.value - price * alarms.value
    below = float(np.hypot(gain * (found.value - found.low), price * (alarms.high - alarms.value)))
    above = float(np.hypot(gain * (found.high - found.value), price * (alarms.value - alarms.low)))
    ends = (value - below, value + above) if has_ends else (None, None)
    return NetBenefit(
        threshold=threshold,
        network=Interval(value=value, low=ends[0], high=ends[1]),
        recall_all=gain - price,
        recalled=share * found.value + (1.0 - share) * alarms.value,
    )


def _rate(is_hit_B: NDArray[np.bool_], patient_B: NDArray[np.generic], has_ends: bool, confidence: float) -> Part:
    if has_ends:
        return proportion(is_hit_B, patient_B, confidence=confidence)
    share = float(is_hit_B.mean())
    return Part(value=share, low=share, high=share)
