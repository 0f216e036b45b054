"""What the weights' own site fixed does to other breasts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from schemas.config.evaluation import EvaluateConfig
from schemas.reports.clinic import KeptThreshold
from schemas.reports.evaluation import RecalibrationFit
from tasks.adapters.scoring.clinic.fixed_elsewhere import FixedElsewhere


def _kept(specificity: float, threshold: float | None) -> KeptThreshold:
    return KeptThreshold(
        specificity=specificity, threshold=threshold, sensitivity=0.5, kept_specificity=1.0, breasts=4, positive_breasts=1,
        patients=4, positive_patients=1,
    )  # fmt: skip


def test_a_threshold_that_recalled_nothing_there_recalls_nothing_here() -> None:
    """It is kept as such and has its row: sensitivity 0, specificity 1; leaving it out would hide what the network does."""
    label_B = np.array([1, 1, 0, 0, 0])
    breasts = pd.DataFrame({"patient_id": list("ABCDE"), "score": [0.9, 0.2, 0.6, 0.1, 0.3], "label": label_B})
    found = FixedElsewhere(thresholds=(_kept(0.5, 0.6), _kept(0.99, None))).measured(breasts, EvaluateConfig())
    assert found is not None and found.calibration_locked is None
    low, high = found.points
    assert (low.true_positives, low.false_positives, low.threshold) == (1, 1, 0.6)
    assert (high.true_positives, high.false_positives, high.threshold) == (0, 0, None)
    assert high.sensitivity.value == 0.0 and high.specificity.value == 1.0 and "0.99" in high.basis
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_a_kept_fit_is_applied_as_it_is() -> None:
    """The mean risk is that of the kept intercept and slope, whatever these breasts hold."""
    fit = RecalibrationFit(
        intercept=-1.0, slope=2.0, breasts=4, positive_breasts=1, patients=4, positive_patients=1, prevalence=0.2
    )
    breasts = pd.DataFrame({"patient_id": list("ABCD"), "score": [0.9, 0.2, 0.6, 0.1], "label": [1, 0, 0, 0]})
    found = FixedElsewhere(fit=fit).measured(breasts, EvaluateConfig())
    odds = np.exp(-1.0) * (breasts["score"] / (1 - breasts["score"])) ** 2
    assert found is not None and found.calibration_locked is not None and (found.intercept, found.slope) == (-1.0, 2.0)
    assert found.calibration_locked.mean_score == pytest.approx((odds / (1 + odds)).mean())
    assert FixedElsewhere().measured(breasts, EvaluateConfig()) is None
