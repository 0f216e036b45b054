"""Bands of curves: against a plain loop over scikit-learn, and what they must be at their ends."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from gmic_model.metrics.bootstrap import Bootstrap, patient_weights
from gmic_model.metrics.curve_bands import pr_band, roc_band

BOOTSTRAP = Bootstrap(resamples=200, confidence=0.9, seed=3)


def breasts(count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, labels, two breasts a patient."""
    rng = np.random.default_rng(1)
    label_B = (rng.random(count) < 0.3).astype(np.int64)
    return np.round(rng.normal(label_B * 1.2), 1), label_B, np.arange(count) // 2


def test_bands_equal_a_loop_over_scikit_learn() -> None:
    """The same resampled patients, each curve from scikit-learn, read at each false positive rate and each recall."""
    score_B, label_B, patient_B = breasts()
    roc, pr = (band(score_B, label_B, patient_B, bootstrap=BOOTSTRAP) for band in (roc_band, pr_band))
    assert roc is not None and pr is not None
    sensitivity, precision = [], []
    for weight_RB in patient_weights(patient_B, resamples=200, seed=3):
        for weight_B in weight_RB:
            false_T, true_T, _ = roc_curve(label_B, score_B, sample_weight=weight_B, drop_intermediate=False)
            sensitivity.append([true_T[false_T <= at + 1e-9].max() for at in roc.at_G])
            precision_T, recall_T, _ = precision_recall_curve(label_B, score_B, sample_weight=weight_B)
            # Thresholds rise: the last one that still reaches the recall; the added end (recall 0) is no threshold.
            reaches = [np.flatnonzero(recall_T[:-1] >= max(at, 1e-6) - 1e-9)[-1] for at in pr.at_G[1:]]
            precision.append(precision_T[reaches])
    for ends, curves in (((roc.low_G, roc.high_G), sensitivity), ((pr.low_G[1:], pr.high_G[1:]), precision)):
        np.testing.assert_allclose(ends, np.quantile(np.array(curves), [0.05, 0.95], axis=0), atol=1e-12)


def test_bands_end_where_every_curve_ends() -> None:
    """Recalling everything finds everything: the ROC band closes at (1, 1), and no band leaves 0 to 1."""
    roc = roc_band(*breasts(), bootstrap=BOOTSTRAP)
    assert roc is not None and roc.low_G[-1] == roc.high_G[-1] == 1.0
    assert (np.diff(roc.low_G) >= 0).all() and (roc.low_G <= roc.high_G).all() and roc.low_G.min() >= 0


@pytest.mark.parametrize("label", [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 255]])
def test_too_few_patients_have_no_band(label: list[int]) -> None:
    """One class, or one patient of a class: nothing to resample."""
    assert roc_band([0.1, 0.2, 0.3, 0.4], label, [0, 1, 2, 3], bootstrap=BOOTSTRAP) is None
    assert pr_band([0.1, 0.2, 0.3, 0.4], label, [0, 1, 2, 3], bootstrap=BOOTSTRAP) is None
