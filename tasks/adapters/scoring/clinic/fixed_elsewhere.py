"""What the weights' own site fixed, applied to the breasts of another: nothing here looks at a label to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gmic_model.metrics.calibration import calibration_report, recalibrated
from gmic_model.metrics.operating_points import point_at_threshold
from schemas.config.evaluation import EvaluateConfig
from schemas.exam import Finding
from schemas.reports.clinic import KeptThreshold
from schemas.reports.evaluation import LockedMetrics, OperatingPoint, RecalibrationFit
from tasks.adapters.models.locking import Locked

ITS_OWN_SITE = "on the tuning split of the weights' own site"


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedElsewhere:
    """Thresholds and recalibration of one finding, as they lie beside the weights; neither where nothing is kept."""

    thresholds: Sequence[KeptThreshold] = ()
    fit: RecalibrationFit | None = None

    @classmethod
    def of(cls, locked: Locked, finding: Finding) -> FixedElsewhere:
        """Those of a finding."""
        return cls(thresholds=locked.thresholds.get(finding.value, ()), fit=locked.recalibrations.get(finding.value))

    def threshold(self, specificity: float) -> float | None:
        """The one that kept a specificity there."""
        return next((one.threshold for one in self.thresholds if one.specificity == specificity), None)

    def measured(self, breasts: pd.DataFrame, config: EvaluateConfig) -> LockedMetrics | None:
        """What it does to these breasts; None where nothing is kept.

        Args:
            breasts: Test breasts with a known label: patient_id, score, label.
            config: Bins, confidence.
        """
        if not self.thresholds and self.fit is None:
            return None
        score_B, label_B = breasts["score"].to_numpy(np.float64), breasts["label"].to_numpy(np.int64)
        patient_B = breasts["patient_id"].to_numpy(np.str_)
        points: list[OperatingPoint] = []
        for kept in self.thresholds:
            basis = f"specificity {kept.specificity:.2f} {ITS_OWN_SITE}"
            at = float("inf") if kept.threshold is None else kept.threshold  # above every score there: nothing is recalled
            point = point_at_threshold(score_B, label_B, patient_B, at, confidence=config.confidence, basis=basis)
            target = kept.specificity if kept.threshold is None else kept.threshold
            points += [] if point is None else [point.model_copy(update={"target": target})]
        calibration = None
        if self.fit is not None and self.fit.intercept is not None and self.fit.slope is not None:
            calibration = calibration_report(
                recalibrated(score_B, self.fit.intercept, self.fit.slope),
                label_B,
                patient_B,
                bins=config.calibration_bins,
                confidence=config.confidence,
            )
        return LockedMetrics(
            points=tuple(points),
            calibration_locked=calibration,
            intercept=None if self.fit is None else self.fit.intercept,
            slope=None if self.fit is None else self.fit.slope,
        )


def kept_thresholds(points: Sequence[OperatingPoint]) -> tuple[KeptThreshold, ...]:
    """Points at specificities, met on a tuning split, as they are kept for other sites."""
    return tuple(
        KeptThreshold(
            specificity=point.target,
            threshold=point.threshold,
            sensitivity=point.sensitivity.value,
            kept_specificity=point.specificity.value,
            breasts=point.true_positives + point.false_negatives + point.false_positives + point.true_negatives,
            positive_breasts=point.true_positives + point.false_negatives,
            patients=point.patients,
            positive_patients=point.positive_patients,
        )
        for point in points
    )
