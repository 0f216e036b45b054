"""What a screening programme counts, by exam: cancers within 12 and 24 months, recalls, detection rate, PPV1, NPV.

Unlike in ``operating_points.py`` the share of cancers is an outcome: exams are taken as they came. Each number is a proportion
of exams by Wilson's interval with patients as clusters (``proportions.py``). Axis ``E`` exams.

Sources of the words: BI-RADS Atlas 2013, follow-up and outcome monitoring (PPV1: of all recalls; audit within 12 months);
European guidelines for quality assurance in breast cancer screening, 4th edition, 2006 (interval cancer, detection rate).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmic_model.metrics.areas import has_enough
from gmic_model.metrics.proportions import mean_interval
from schemas.exam import UNKNOWN
from schemas.reports.clinic import ProgrammeReport
from schemas.reports.report import Interval

_UNDEFINED = Interval(value=None, low=None, high=None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FollowedExams:
    """Exams with what became of them; 0 no, 1 yes, 255 not known.

    Attributes:
        score_E: The higher one of the breasts'.
        cancer_12_E: A cancer was diagnosed within 12 months.
        cancer_24_E: Within 24 months.
        read_E: The original read recalled the exam.
        patient_E: Whose exams.
    """

    score_E: NDArray[np.float64]
    cancer_12_E: NDArray[np.int64]
    cancer_24_E: NDArray[np.int64]
    read_E: NDArray[np.int64]
    patient_E: NDArray[np.str_]


def programme_report(
    exams: FollowedExams, *, threshold: float | None, basis: str, recalled_birads: tuple[int, ...], confidence: float
) -> ProgrammeReport:
    """Counts and rates at a threshold; without one, the counts and the original read's rates.

    Numbers that cancers make have no ends where fewer than five patients have one, or lack one.
    """
    is_known_E, is_known_24_E = exams.cancer_12_E != UNKNOWN, exams.cancer_24_E != UNKNOWN
    cancer_E, cancer_24_E, is_read_E = exams.cancer_12_E == 1, exams.cancer_24_E == 1, exams.read_E != UNKNOWN
    detected_E = cancer_E & (exams.read_E == 1)
    interval_E = cancer_24_E & is_read_E & ~detected_E
    is_recalled_E = np.zeros(len(cancer_E), bool) if threshold is None else exams.score_E >= threshold
    by_read_E = exams.read_E == 1
    rates = _Rates(exams=exams, confidence=confidence)
    ours = _Rates(exams=exams, confidence=confidence, is_defined=threshold is not None)
    return ProgrammeReport(
        threshold=threshold,
        threshold_basis=basis,
        recalled_birads=recalled_birads,
        exams=int(is_known_E.sum()),
        exam_patients=len(np.unique(exams.patient_E[is_known_E])),
        exams_24=int(is_known_24_E.sum()),
        cancers_12=int(cancer_E.sum()),
        cancers_24=int(cancer_24_E.sum()),
        screen_detected=int(detected_E.sum()),
        interval_cancers=int(interval_E.sum()),
        without_read=int((cancer_24_E & ~is_read_E).sum()),
        undated=int((~is_known_E).sum()),
        recall_rate=ours.of_all(is_recalled_E, is_known_E),
        detection_rate=_per_1000(ours.of(is_recalled_E & cancer_E, is_known_E)),
        ppv1=ours.of(cancer_E, is_known_E & is_recalled_E),
        npv_12=ours.of(~cancer_E, is_known_E & ~is_recalled_E),
        npv_24=ours.of(~cancer_24_E, is_known_24_E & ~is_recalled_E, within_24=True),
        sensitivity_12=ours.of(is_recalled_E, cancer_E),
        sensitivity_24=ours.of(is_recalled_E, cancer_24_E, within_24=True),
        specificity_12=ours.of(~is_recalled_E, is_known_E & ~cancer_E),
        of_screen_detected=ours.of_all(is_recalled_E, detected_E),
        of_interval_cancers=ours.of_all(is_recalled_E, interval_E),
        read_recall_rate=rates.of_all(by_read_E, is_known_E & is_read_E),
        read_detection_rate=_per_1000(rates.of(by_read_E & cancer_E, is_known_E & is_read_E)),
        read_ppv1=rates.of(cancer_E, is_known_E & by_read_E),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rates:
    exams: FollowedExams
    confidence: float
    is_defined: bool = True

    def of_all(self, is_hit_E: NDArray[np.bool_], is_member_E: NDArray[np.bool_]) -> Interval:
        """Share of hits among the members; no ends below five patients; not defined where there is no threshold."""
        if not self.is_defined:
            return _UNDEFINED
        return mean_interval(is_hit_E[is_member_E], self.exams.patient_E[is_member_E], confidence=self.confidence)

    def of(self, is_hit_E: NDArray[np.bool_], is_member_E: NDArray[np.bool_], *, within_24: bool = False) -> Interval:
        """The same of what cancers make: no ends with fewer than five patients of a kind among all that were followed."""
        cancer_E = self.exams.cancer_24_E if within_24 else self.exams.cancer_12_E
        is_known_E = cancer_E != UNKNOWN
        found = self.of_all(is_hit_E, is_member_E)
        if has_enough(cancer_E[is_known_E] == 1, self.exams.patient_E[is_known_E]):
            return found
        return Interval(value=found.value, low=None, high=None)


def _per_1000(share: Interval) -> Interval:
    value, low, high = (None if one is None else 1000.0 * one for one in (share.value, share.low, share.high))
    return Interval(value=value, low=low, high=high)
