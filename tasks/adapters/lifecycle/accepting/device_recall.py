"""Each device with each of its software versions: what the locked threshold recalls there, and which would recall the target.

Published: with one threshold for all, recall differed between sites by a factor, and tripled when software was updated.
"""

from __future__ import annotations

import pandas as pd

from gmic_model.metrics.clinic.site_threshold import is_within, needed_patients, threshold_for
from schemas.config.evaluation import AcceptanceConfig
from schemas.reports.life.acceptance import DeviceRecall
from schemas.reports.report import Interval
from schemas.reports.training import ImageReference
from tasks.adapters.lifecycle.accepting.image_shifts import image_shifts
from tasks.adapters.lifecycle.accepting.judging_exams import Cohort

_UNDEFINED = Interval(value=None, low=None, high=None)


def device_recalls(
    cohort: Cohort, config: AcceptanceConfig, reference: ImageReference | None = None
) -> tuple[DeviceRecall, ...]:
    """Every device and software of the cohort, the one with most exams first.

    A threshold is proposed where the share of later exams that it recalls is known to within the margin.

    Args:
        cohort: The exams.
        config: Margins.
        reference: Of the training images; None = nobody says what they were like.
    """
    needed = None
    if cohort.target is not None:
        needed = needed_patients(cohort.target, config.recall_margin, confidence=cohort.confidence)
    lines = []
    for (name, software), members in cohort.exams.groupby(["device", "software"], sort=True):
        patients, found = members["patient_id"].nunique(), None
        if cohort.target is not None:
            found = threshold_for(members["score"], members["patient_id"], cohort.target, confidence=cohort.confidence)
            limits = (cohort.target - config.recall_margin, cohort.target + config.recall_margin)
            if found is not None and not is_within(found.expected, *limits):
                found = None
        positive = members[members["label"] == 1]
        is_judged = len(members) >= config.subgroup_minimum_exams
        lines.append(
            DeviceRecall(
                name=str(name),
                software=str(software),
                exams=len(members),
                patients=patients,
                mean_score=float(members["score"].mean()),
                recall_rate=cohort.rate(members),
                is_within=cohort.recall(members, config.subgroup_margin).is_within if is_judged else None,
                proposed=None if found is None else found.threshold,
                expected=_UNDEFINED if found is None else found.expected,
                found=_UNDEFINED if found is None else cohort.share(positive["score"] >= found.threshold, positive),
                unlike=() if reference is None else _unlike(cohort, members["exam_id"], reference),
                needed_patients=0 if needed is None or found is not None else max(1, needed - patients),
            )
        )
    return tuple(sorted(lines, key=lambda line: -line.exams))


def _unlike(cohort: Cohort, exam_ids: pd.Series[str], reference: ImageReference) -> tuple[str, ...]:
    """Its maker and model are other ones than those of all training images together; numbers need not be."""
    images = cohort.images[cohort.images["exam_id"].isin(exam_ids)]
    numbers = reference.model_copy(update={"categories": {}})
    return tuple(shift.column for shift in image_shifts(images, numbers) if shift.is_shifted)
