"""What a clinic asks of a finding's scores: stated shares of findings, decision curves, a programme's counts. No Prefect.

The arithmetic is in ``gmic_model.metrics.clinic``; here is which threshold and which recalibration are in use.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from gmic_model.metrics.calibration import recalibrated, to_logit
from gmic_model.metrics.clinic.net_benefit import net_benefits
from gmic_model.metrics.clinic.programme import programme_report
from gmic_model.metrics.clinic.restated import restated
from schemas.config.evaluation import EvaluateConfig
from schemas.exam import Finding
from schemas.reports.clinic import DecisionCurve, RestatedPoint
from schemas.reports.evaluation import FindingMetrics, OperatingPoint, RecalibrationFit
from tasks.adapters.scoring.clinic.fixed_elsewhere import ITS_OWN_SITE, FixedElsewhere
from tasks.adapters.scoring.clinic.followed_exams import followed_exams


def with_clinic_metrics(
    metrics: FindingMetrics,
    finding: Finding,
    breasts: pd.DataFrame,
    exams: pd.DataFrame,
    images: pd.DataFrame,
    config: EvaluateConfig,
    fixed: FixedElsewhere,
) -> FindingMetrics:
    """The finding's metrics with what a clinic asks.

    Args:
        metrics: With operating points, recalibration and the threshold of use.
        finding: Which.
        breasts: Test breasts with a known label: patient_id, score, label.
        exams: Test exams of the score, with unknown labels too: patient_id, exam_id, score.
        images: The manifest's lines of the test split.
        config: Stated shares, risks, confidence.
        fixed: What the weights' own site fixed: its recalibration is in use before this tuning split's.
    """
    in_use = fixed.fit or metrics.recalibration
    shares = config.clinic.prevalences.get(finding, ())
    points: list[RestatedPoint] = []
    for share in shares:
        for point in _points_of_use(metrics):
            told = restated(point, share, in_use)
            points += [] if told is None else [told]
    followed = followed_exams(exams, images, config.recalled_birads) if finding is Finding.MALIGNANT else None
    programme = None
    if followed is not None:
        programme = programme_report(
            followed,
            threshold=metrics.subgroup_threshold,
            basis=metrics.subgroup_threshold_basis,
            recalled_birads=config.recalled_birads,
            confidence=config.confidence,
        )
    where = ITS_OWN_SITE if fixed.fit is not None else "on this site's tuning split"
    return metrics.model_copy(
        update={
            "restated": tuple(points),
            "decision_curves": tuple(_curves(breasts, in_use, where, shares, config)),
            "programme": programme,
        }
    )


def _points_of_use(metrics: FindingMetrics) -> list[OperatingPoint]:
    """Thresholds that were fixed before: at the own site, else on the tuning split."""
    if metrics.locked is not None and metrics.locked.points:
        return list(metrics.locked.points)
    return [point for point in metrics.operating_points if point.criterion == "threshold"]


def _curves(
    breasts: pd.DataFrame, fit: RecalibrationFit | None, where: str, shares: tuple[float, ...], config: EvaluateConfig
) -> Iterator[DecisionCurve]:
    """At this data's share, then at each stated one; none where no recalibration makes risks of scores."""
    if fit is None or fit.intercept is None or fit.slope is None:
        return
    label_B, patient_B = breasts["label"].to_numpy(np.int64), breasts["patient_id"].to_numpy(np.str_)
    if not len(label_B):
        return
    risk_B = recalibrated(breasts["score"].to_numpy(np.float64), fit.intercept, fit.slope)
    for share in (None, *shares):
        moved_B, basis = risk_B, f"recalibrated {where}"
        if share is not None:
            if not fit.prevalence or fit.prevalence >= 1.0:
                continue
            moved_B = expit(to_logit(risk_B) + logit(share) - logit(fit.prevalence))
            basis += f", moved from a share of {fit.prevalence:.4g} to {share:.4g}"
        points = net_benefits(
            moved_B, label_B, patient_B, config.clinic.decision_thresholds, prevalence=share, confidence=config.confidence
        )
        if points:
            own = float((label_B == 1).mean())
            yield DecisionCurve(prevalence=share or own, is_stated=share is not None, basis=basis, points=points)
