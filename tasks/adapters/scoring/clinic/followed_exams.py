"""What became of each exam: cancers by their dates of diagnosis, and whether the original read recalled. No Prefect."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.clinic.programme import FollowedExams
from schemas.exam import UNKNOWN, Finding
from schemas.layout import DAYS_OF_FOLLOWUP, DAYS_TO_DIAGNOSIS
from tasks.adapters.scoring.reviewed.original_read import decided_reads

DAYS_12, DAYS_24 = 365, 730
"""12 and 24 months."""
_STRONGEST = {1: 2, UNKNOWN: 1, 0: 0}
"""Of an exam's breasts the strongest statement counts: yes, then not known, then no."""


def followed_exams(exams: pd.DataFrame, images: pd.DataFrame, recalled_birads: tuple[int, ...]) -> FollowedExams | None:
    """The exams of one score; None where the store records no date of diagnosis.

    A breast with the finding counts from the day of its diagnosis, and as without before it: a cancer of the third year is
    none of the first two. One without a date is not known, and so is an exam of which a cancer was known already. A breast
    without the finding is without for as long as it was followed, and not known beyond. Where no breast's follow-up is
    recorded, all are taken to be followed for two years: that is what 0 in such a labels file says here. A category that is
    no assessment is no read: a cancer that was known before the exam is not one that its read missed.

    Args:
        exams: patient_id, exam_id and score, one line each.
        images: The manifest's lines of these exams.
        recalled_birads: What counts as recalled by the original read.
    """
    if DAYS_TO_DIAGNOSIS not in images or images[DAYS_TO_DIAGNOSIS].isna().all():
        return None
    breasts = images.drop_duplicates(["exam_id", "laterality"])
    days_B = breasts[DAYS_TO_DIAGNOSIS].to_numpy(np.float64, na_value=np.nan)
    followed_B = _followed(images, breasts)
    label_B, birads_B = (breasts[name].to_numpy(np.int64) for name in (Finding.MALIGNANT.value, "birads"))
    told = pd.DataFrame(
        {
            "exam_id": breasts["exam_id"].to_numpy(),
            "cancer_12": _within(label_B, days_B, followed_B, DAYS_12),
            "cancer_24": _within(label_B, days_B, followed_B, DAYS_24),
            "read": decided_reads(pd.Series(birads_B), recalled_birads),
            "was_known": days_B < 0.0,
        }
    )
    columns = ["cancer_12", "cancer_24", "read"]
    ranked = told.assign(**{name: told[name].map(_STRONGEST) for name in columns})
    of_exam = ranked.groupby("exam_id", sort=False).max()
    back = {rank: value for value, rank in _STRONGEST.items()}
    of_exam = of_exam.assign(**{name: of_exam[name].map(back) for name in columns})
    of_exam.loc[of_exam["was_known"], ["cancer_12", "cancer_24"]] = UNKNOWN
    table = exams.merge(of_exam, left_on="exam_id", right_index=True)
    return FollowedExams(
        score_E=table["score"].to_numpy(np.float64),
        cancer_12_E=table["cancer_12"].to_numpy(np.int64),
        cancer_24_E=table["cancer_24"].to_numpy(np.int64),
        read_E=table["read"].to_numpy(np.int64),
        patient_E=table["patient_id"].to_numpy(np.str_),
    )


def _followed(images: pd.DataFrame, breasts: pd.DataFrame) -> NDArray[np.float64]:
    """For how many days each breast is known to be without; where some say it, one that does not say is not known at all."""
    if DAYS_OF_FOLLOWUP not in images or images[DAYS_OF_FOLLOWUP].isna().all():
        return np.full(len(breasts), np.inf)
    return breasts[DAYS_OF_FOLLOWUP].fillna(-1.0).to_numpy(np.float64)


def _within(
    label_B: NDArray[np.int64], days_B: NDArray[np.float64], followed_B: NDArray[np.float64], most: int
) -> NDArray[np.int64]:
    with np.errstate(invalid="ignore"):
        is_dated_B, is_within_B = days_B >= 0.0, (days_B >= 0.0) & (days_B <= most)
    known_B = np.where((label_B == 0) & (followed_B < most), UNKNOWN, label_B)
    return np.where(label_B == 1, np.where(is_dated_B, is_within_B, UNKNOWN), known_B).astype(np.int64)
