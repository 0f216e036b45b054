"""The free-response curve (FROC) and the JAFROC figure of merit, from ratings of marks; patients are clusters. No resampling.

False marks are counted on images without the finding only: on an image with one, a mark beside the marked lesion may be on a
lesion that nobody outlined. The figure of merit is the probability that a lesion is rated above the highest mark on a unit
without the finding; a lesion or unit without any mark is rated below all marks, and a tie counts one half. That is a
Mann-Whitney statistic, so its variance and interval are those of an AUROC with patients as clusters.

Sources: Chakraborty and Berbaum 2004 (Medical Physics 31, 2313: JAFROC); Chakraborty 2006 (Academic Radiology 13, 1187: false
marks on normal cases only); Bunch and others 1978 (FROC); Obuchowski 1997 (clusters). Axes: ``L`` lesions, ``U`` units without
the finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from gmic_model.metrics.areas import area_interval
from gmic_model.metrics.lesions.lesion_marks import UNMARKED
from gmic_model.metrics.proportions import MINIMUM_PATIENTS, clustered_variance, proportion, widened
from gmic_model.metrics.ranking import Metric
from schemas.reports.report import Interval
from schemas.reports.reviewed import FrocPoint

FALSE_MARKS: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""False marks an image at which sensitivities are told: those of the field's challenges."""
_SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatedLesions:
    """The best mark on each lesion.

    Attributes:
        rating_L: ``UNMARKED`` where there is none.
        patient_L: Whose it is.
    """

    rating_L: NDArray[np.float32]
    patient_L: NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FalseMarks:
    """The marks of every image without the finding, one image after the other.

    Attributes:
        rating_M: All ratings.
        image_M: Index of each mark's image.
        patient_N: Whose each image is, also of those without a mark.
    """

    rating_M: NDArray[np.float32]
    image_M: NDArray[np.intp]
    patient_N: NDArray[np.generic]

    @classmethod
    def of(cls, false_of_image: Sequence[NDArray[np.float32]], patient_N: ArrayLike) -> FalseMarks:
        """Those of images, each with its marks' ratings."""
        counts = [len(rating_M) for rating_M in false_of_image]
        return cls(
            rating_M=np.concatenate(false_of_image) if false_of_image else np.zeros(0, np.float32),
            image_M=np.repeat(np.arange(len(counts)), counts),
            patient_N=np.asarray(patient_N),
        )

    @property
    def per_image(self) -> float | None:
        """All of them, an image; None without images."""
        return len(self.rating_M) / len(self.patient_N) if len(self.patient_N) else None

    def highest(self, unit_N: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
        """The highest rating of each unit's images, ``UNMARKED`` without any, and whose the unit is.

        Args:
            unit_N: The unit that each image is of: itself, or its breast.
        """
        _, first_U, unit_index_N = np.unique(np.asarray(unit_N), return_index=True, return_inverse=True)
        highest_U = np.full(len(first_U), UNMARKED, np.float32)
        np.maximum.at(highest_U, unit_index_N[self.image_M], self.rating_M)
        return highest_U, self.patient_N[first_U]


def froc_points(lesions: RatedLesions, false: FalseMarks, *, confidence: float) -> tuple[FrocPoint, ...]:
    """Sensitivity where at most ``FALSE_MARKS`` an image are false; empty without lesions or without images.

    The interval counts that these patients' lesions were seen, and that other images without the finding would have given
    another threshold. Without ends where fewer than five patients have a lesion, or have images without the finding.
    """
    if not len(lesions.rating_L) or not len(false.patient_N):
        return ()
    falling_M = np.sort(false.rating_M)[::-1]
    return tuple(_point(lesions, false, falling_M, allowed, confidence) for allowed in FALSE_MARKS)


def jafroc(
    lesions: RatedLesions, highest_U: NDArray[np.float32], patient_U: NDArray[np.generic], *, confidence: float
) -> Interval:
    """The figure of merit, with its interval over patients; None without lesions or without units.

    Args:
        lesions: The best mark on each.
        highest_U: The highest mark on each unit without the finding.
        patient_U: Whose the unit is.
        confidence: Of the interval.
    """
    rating_B = np.concatenate([lesions.rating_L, highest_U]).astype(np.float64)
    label_B = np.repeat([1, 0], [len(lesions.rating_L), len(highest_U)])
    patient_B = np.concatenate([lesions.patient_L, patient_U])
    return area_interval(Metric.AUROC, rating_B, label_B, patient_B, confidence=confidence)


# ---------------------------------------------------------------------------------------------------------------------


def _point(
    lesions: RatedLesions, false: FalseMarks, falling_M: NDArray[np.float32], allowed: float, confidence: float
) -> FrocPoint:
    threshold = _threshold(falling_M, allowed * len(false.patient_N))
    is_found_L = lesions.rating_L > threshold
    is_counted_M = false.rating_M > threshold
    return FrocPoint(
        false_marks_allowed=allowed,
        false_marks=float(is_counted_M.sum()) / len(false.patient_N),
        threshold=None if threshold <= UNMARKED else threshold,
        sensitivity=_sensitivity(lesions, false, falling_M, allowed, is_found_L, is_counted_M, confidence),
    )


def _sensitivity(
    lesions: RatedLesions,
    false: FalseMarks,
    falling_M: NDArray[np.float32],
    allowed: float,
    is_found_L: NDArray[np.bool_],
    is_counted_M: NDArray[np.bool_],
    confidence: float,
) -> Interval:
    value = float(is_found_L.mean())
    if min(len(np.unique(patients)) for patients in (lesions.patient_L, false.patient_N)) < MINIMUM_PATIENTS:
        return Interval(value=value, low=None, high=None)
    found = proportion(is_found_L, lesions.patient_L, confidence=confidence)
    images = len(false.patient_N)
    count_N = np.bincount(false.image_M[is_counted_M], minlength=images).astype(np.float64)
    observed, _ = clustered_variance((count_N - count_N.mean()) / images, false.patient_N)
    # So many marks, were they independent, vary as a Poisson's: no less where too few fall to show it.
    reach = float(ndtri((1.0 + confidence) / 2.0)) * max(observed, allowed / images) ** 0.5
    ends = [
        float((lesions.rating_L > _threshold(falling_M, max(0.0, allowed + end) * images)).mean()) for end in (-reach, reach)
    ]
    return widened(found, min(ends[0], value), max(ends[1], value)).interval()


def _threshold(falling_M: NDArray[np.float32], allowed: float) -> float:
    """The lowest rating above which at most so many false marks lie."""
    count = int(allowed + _SLACK)
    return float(falling_M[count]) if count < len(falling_M) else UNMARKED
