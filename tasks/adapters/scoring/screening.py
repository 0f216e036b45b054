"""What a reviewer asks beyond AUROC, from breast tables: operating points, calibration, recalibration, subgroups. No Prefect.

The arithmetic is in ``gmic_model``, which columns make groups in ``reviewed/groups.py``; here is what is chosen on which split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.calibration import calibration_report, fit_recalibration, recalibrated
from gmic_model.metrics.operating_points import point_at_threshold, points_at_sensitivity, points_at_specificity
from schemas.config.evaluation import EvaluateConfig
from schemas.reports.evaluation import FindingMetrics, OperatingPoint
from tasks.adapters.scoring.clinic.fixed_elsewhere import ITS_OWN_SITE, FixedElsewhere, kept_thresholds
from tasks.adapters.scoring.reviewed.groups import measured_groups

NOTHING_FIXED = FixedElsewhere()
"""For weights that are judged where they were tuned, or of which nothing is kept."""


def with_screening_metrics(
    metrics: FindingMetrics,
    breasts: pd.DataFrame,
    tuning: pd.DataFrame,
    manifest: pd.DataFrame,
    config: EvaluateConfig,
    fixed: FixedElsewhere = NOTHING_FIXED,
) -> FindingMetrics:
    """The finding's metrics with operating points, calibration, recalibration and subgroups.

    Args:
        metrics: What was measured so far.
        breasts: Test breasts with a known label: patient_id, exam_id, laterality, score, label.
        tuning: The same of the tuning split: recalibration and thresholds are chosen there; may be empty.
        manifest: The test split's images, for the groups.
        config: Targets, bins, confidence.
        fixed: What the weights' own site fixed, if this is another one: groups and errors are told at its threshold.
    """
    score_B, label_B, patient_B = _arrays(breasts)
    fitted = fit_recalibration(*_arrays(tuning))
    on_tuning = points_at_specificity(*_arrays(tuning), config.specificities, confidence=config.confidence)
    chosen = {point.target: point.threshold for point in on_tuning}
    points = _operating_points(breasts, chosen, config)
    threshold, basis = threshold_of_use(chosen, fixed, config.subgroup_specificity)
    drawn: dict[str, Any] = {"bins": config.calibration_bins, "confidence": config.confidence}
    scaled = None
    if fitted.slope is not None and fitted.intercept is not None:
        scaled = calibration_report(recalibrated(score_B, fitted.intercept, fitted.slope), label_B, patient_B, **drawn)
    return metrics.model_copy(
        update={
            "operating_points": points,
            "calibration": calibration_report(score_B, label_B, patient_B, **drawn),
            "calibration_scaled": scaled,
            "recalibration": fitted,
            "tuning_thresholds": kept_thresholds(on_tuning),
            "locked": fixed.measured(breasts, config),
            "subgroup_threshold": threshold,
            "subgroup_threshold_basis": basis,
            **measured_groups(breasts, manifest, threshold, config),
        }
    )


def _arrays(breasts: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    return (
        breasts["score"].to_numpy(np.float64),
        breasts["label"].to_numpy(np.int64),
        breasts["patient_id"].to_numpy(np.str_),
    )


def _on_tuning(specificity: float) -> str:
    return f"specificity {specificity:.2f} on the tuning split"


def threshold_of_use(
    chosen: Mapping[float, float | None], fixed: FixedElsewhere, specificity: float
) -> tuple[float | None, str]:
    """The threshold that use would have had, and where it comes from in words: the own site's before this tuning split's."""
    locked = fixed.threshold(specificity)
    if locked is not None:
        return locked, f"specificity {specificity:.2f} {ITS_OWN_SITE}"
    return chosen.get(specificity), _on_tuning(specificity)


def _operating_points(
    breasts: pd.DataFrame, chosen: Mapping[float, float | None], config: EvaluateConfig
) -> tuple[OperatingPoint, ...]:
    """Targets met on the test split, then thresholds chosen on the tuning split: what use would have given."""
    test = _arrays(breasts)
    points = points_at_specificity(*test, config.specificities, confidence=config.confidence)
    if config.readers_specificity is not None:
        basis = f"specificity {config.readers_specificity:g}, the readers' as the config names it"
        points += points_at_specificity(*test, [config.readers_specificity], confidence=config.confidence, basis=basis)
    points += points_at_sensitivity(*test, config.sensitivities, confidence=config.confidence)
    if not points:
        return ()
    for specificity, threshold in chosen.items():
        if threshold is not None:
            point = point_at_threshold(*test, threshold, confidence=config.confidence, basis=_on_tuning(specificity))
            points += (point,) if point is not None else ()
    return points
