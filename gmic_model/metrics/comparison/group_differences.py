"""Is the model worse for some women? One group of breasts less all others, and what many such comparisons leave of a p-value.

The interval of a difference comes from the limits of its two parts (Zou and Donner 2008: "MOVER"; Newcombe 1998 for
proportions), so it holds where theirs do. Its p-value is the level at which it just holds 0, so the two never contradict each
other. Parts that share patients are taken as independent: that makes the interval too wide, never too narrow, where what they
share is alike. Holm 1979 corrects for the number of comparisons, whatever they have to do with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmic_model.metrics.areas import auroc_by_confidence
from gmic_model.metrics.proportions import MINIMUM_PATIENTS, Part, proportion
from schemas.exam import NOT_KNOWN
from schemas.reports.report import Interval
from schemas.reports.reviewed import GroupDifference

ALL_OTHERS: Final = "all others"
MEASURES: Final = ("AUROC", "sensitivity", "specificity")
ByConfidence = Callable[[float], Part]
"""A value with its interval at any level of confidence."""
_SMALLEST_P: Final = 1e-6
_HALVINGS: Final = 18


def group_differences(
    score_B: NDArray[np.float64],
    is_positive_B: NDArray[np.bool_],
    patient_B: NDArray[np.generic],
    group_B: NDArray[np.str_],
    *,
    attribute: str,
    threshold: float | None,
    confidence: float,
    minimum_patients: int,
    measures: Sequence[str] = MEASURES,
) -> tuple[GroupDifference, ...]:
    """Each group against all other breasts of a known group; of two groups once. ``p_adjusted`` is not corrected yet.

    Groups, and their others, need ``minimum_patients`` (and five) with the finding and as many without, as their metrics do;
    where sensitivities alone are compared, with it.

    Args:
        score_B: Of breasts with a known label.
        is_positive_B: With the finding.
        patient_B: Whose they are.
        group_B: Their groups; ``NOT_KNOWN`` ones are on neither side.
        attribute: What divides them.
        threshold: Where sensitivity and specificity are read; None = not read.
        confidence: Of the intervals.
        minimum_patients: See above.
        measures: What is compared.
    """
    patient_index_B = np.unique(patient_B, return_inverse=True)[1]
    classes = [is_positive_B] if set(measures) == {"sensitivity"} else [is_positive_B, ~is_positive_B]
    names, counts = np.unique(group_B[group_B != NOT_KNOWN], return_counts=True)
    ordered = [str(names[place]) for place in np.argsort(-counts, kind="stable")]
    found = []
    for name in ordered[:1] if len(ordered) == 2 else ordered:
        sides = (group_B == name, (group_B != name) & (group_B != NOT_KNOWN))
        if any(_fewest(patient_index_B, classes, side_B) < max(MINIMUM_PATIENTS, minimum_patients) for side_B in sides):
            continue
        for measure in measures:
            if threshold is None and measure != "AUROC":
                continue
            first, second = (
                _measured(measure, score_B[side_B], is_positive_B[side_B], patient_index_B[side_B], threshold)
                for side_B in sides
            )
            difference, p_value = difference_of(first, second, confidence=confidence)
            found.append(
                GroupDifference(
                    attribute=attribute,
                    group=name,
                    other=ordered[1] if len(ordered) == 2 else ALL_OTHERS,
                    measure=measure,
                    difference=difference,
                    p_value=p_value,
                    p_adjusted=p_value,
                )
            )
    return tuple(found)


def adjusted(differences: Sequence[GroupDifference]) -> tuple[GroupDifference, ...]:
    """The same with Holm's p-values over all of them, in the same order."""
    p_adjusted = holm([one.p_value for one in differences])
    return tuple(one.model_copy(update={"p_adjusted": p_value}) for one, p_value in zip(differences, p_adjusted, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down p-values: the smallest times their number, the next times one less, never falling, at most 1."""
    p_M = np.asarray(p_values, dtype=np.float64)
    order_M = np.argsort(p_M, kind="stable")
    stepped_M = np.minimum(1.0, np.maximum.accumulate(p_M[order_M] * np.arange(len(p_M), 0, -1)))
    adjusted_M = np.empty_like(stepped_M)
    adjusted_M[order_M] = stepped_M
    return [float(p_value) for p_value in adjusted_M]


def difference_of(first: ByConfidence, second: ByConfidence, *, confidence: float) -> tuple[Interval, float]:
    """First less second, independent: value, interval, and the two-sided p-value that the interval implies.

    The p-value is found by halving its logarithm; none is told below one in a million.
    """
    interval = _difference(first(confidence), second(confidence))
    value = interval.value or 0.0

    def is_surprising(level: float) -> bool:
        ends = _difference(first(1.0 - level), second(1.0 - level))
        return (ends.low or 0.0) > 0.0 or (ends.high or 0.0) < 0.0

    if value == 0.0:
        return interval, 1.0
    if is_surprising(_SMALLEST_P):
        return interval, _SMALLEST_P
    low, high = np.log(_SMALLEST_P), 0.0  # not surprising at low; at level 1 every difference is
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_surprising(float(np.exp(middle))) else (middle, high)
    return interval, float(np.exp(high))


# ---------------------------------------------------------------------------------------------------------------------


def _fewest(patient_B: NDArray[np.intp], classes: Sequence[NDArray[np.bool_]], side_B: NDArray[np.bool_]) -> int:
    return min(len(np.unique(patient_B[side_B & of_B])) for of_B in classes)


def _measured(
    measure: str,
    score_B: NDArray[np.float64],
    is_positive_B: NDArray[np.bool_],
    patient_B: NDArray[np.intp],
    threshold: float | None,
) -> ByConfidence:
    if measure == "AUROC" or threshold is None:
        return auroc_by_confidence(score_B, is_positive_B, patient_B)
    is_recalled_B = score_B >= threshold
    of_B, hit_B = (is_positive_B, is_recalled_B) if measure == "sensitivity" else (~is_positive_B, ~is_recalled_B)
    return lambda confidence: proportion(hit_B[of_B], patient_B[of_B], confidence=confidence)


def _difference(first: Part, second: Part) -> Interval:
    value = first.value - second.value
    below = np.hypot(first.value - first.low, second.high - second.value)
    above = np.hypot(first.high - first.value, second.value - second.low)
    return Interval(value=value, low=max(-1.0, value - float(below)), high=min(1.0, value + float(above)))
