"""Bands of curves: what operating points have at the same places, and how often they hold the true curve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from sklearn.metrics import precision_recall_curve, roc_curve

from gmic_model.metrics.curve_bands import pr_band, roc_band
from gmic_model.metrics.operating_points import points_at_specificity


def breasts(count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, labels, two breasts a patient."""
    rng = np.random.default_rng(1)
    label_B = (rng.random(count) < 0.3).astype(np.int64)
    return np.round(rng.normal(label_B * 1.2), 1), label_B, np.arange(count) // 2


def test_bands_are_around_the_curves_of_scikit_learn() -> None:
    """At each place the curve as scikit-learn has it lies inside; no band is of no width or leaves 0 to 1."""
    score_B, label_B, patient_B = breasts()
    roc, pr = (band(score_B, label_B, patient_B, confidence=0.9) for band in (roc_band, pr_band))
    assert roc is not None and pr is not None
    false_T, true_T, _ = roc_curve(label_B, score_B, drop_intermediate=False)
    sensitivity_G = np.array([true_T[false_T <= at + 1e-9].max() for at in roc.at_G])
    precision_T, recall_T, _ = precision_recall_curve(label_B, score_B)
    reached = [np.flatnonzero(recall_T[:-1] >= max(at, 1e-6) - 1e-9)[-1] for at in pr.at_G]
    for band, curve_G in ((roc, sensitivity_G), (pr, precision_T[reached])):
        assert (band.low_G <= curve_G + 1e-12).all() and (curve_G <= band.high_G + 1e-12).all()
        assert band.low_G.min() >= 0.0 and band.high_G.max() <= 1.0 and (band.high_G - band.low_G).min() > 0.01


def test_a_band_says_what_the_table_of_operating_points_says() -> None:
    """At specificity 0.90 and 0.80 the ROC band's ends are those of the sensitivity there."""
    roc = roc_band(*breasts(), confidence=0.95)
    points = points_at_specificity(*breasts(), [0.90, 0.80], confidence=0.95)
    assert roc is not None
    for place, point in zip((10, 20), points, strict=True):
        assert (point.sensitivity.low, point.sensitivity.high) == (roc.low_G[place], roc.high_G[place])


def test_bands_of_few_patients_hold_the_true_curve() -> None:
    """Ten positive patients, AUROC 0.95: at eight places the truth is inside in 0.93 or more of 30 cohorts, all together.

    The percentile bootstrap held 0.0 to 0.6 at the same places: most of such cohorts have perfect parts.
    """
    rng, held = np.random.default_rng(0), []
    at_G = np.array([10, 20, 50, 70])
    shift, share = np.sqrt(2.0) * ndtri(0.95), 10 / 110
    sensitivity = ndtr(shift - ndtri(1.0 - at_G / 100.0))
    false_alarms = ndtr(-(shift + ndtri(1.0 - at_G / 100.0)))
    precision = share * at_G / 100.0 / (share * at_G / 100.0 + (1.0 - share) * false_alarms)
    label_B = np.repeat([1, 0], [10, 100])
    for _ in range(30):
        score_B = rng.normal(shift * label_B)
        for make, truth_G in ((roc_band, sensitivity), (pr_band, precision)):
            band = make(score_B, label_B, np.arange(110), confidence=0.95)
            assert band is not None
            held.append((band.low_G[at_G] <= truth_G) & (truth_G <= band.high_G[at_G]))
    assert np.mean(held) >= 0.93 and np.mean(held, axis=0).min() >= 0.9


@pytest.mark.parametrize("label", [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 255]])
def test_too_few_patients_have_no_band(label: list[int]) -> None:
    """One class, or fewer than five patients of a class."""
    assert roc_band([0.1, 0.2, 0.3, 0.4], label, [0, 1, 2, 3], confidence=0.95) is None
    assert pr_band([0.1, 0.2, 0.3, 0.4], label, [0, 1, 2, 3], confidence=0.95) is None
