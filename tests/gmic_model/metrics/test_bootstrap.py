"""Means and ratios over images: patients stay together in every resample."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.metrics.bootstrap import Bootstrap, mean_interval, patient_weights, ratio_interval

BOOTSTRAP = Bootstrap(resamples=60, confidence=0.8, seed=5)


def test_the_interval_is_that_of_written_out_resamples() -> None:
    """The mean over images, and lesions reached of all lesions, in each draw of patients."""
    rng = np.random.default_rng(2)
    patient_N, reached_N, total_N = rng.integers(0, 9, 30), rng.integers(0, 3, 30), rng.integers(3, 5, 30)
    ratios, means = [], []
    for weight_RN in patient_weights(patient_N, resamples=60, seed=5):
        for weight_N in weight_RN:
            drawn = np.repeat(np.arange(30), weight_N)
            ratios.append(reached_N[drawn].sum() / total_N[drawn].sum())
            means.append(reached_N[drawn].mean())
    for found, values, value in (
        (ratio_interval(reached_N, total_N, patient_N, bootstrap=BOOTSTRAP), ratios, reached_N.sum() / total_N.sum()),
        (mean_interval(reached_N, patient_N, bootstrap=BOOTSTRAP), means, reached_N.mean()),
    ):
        assert (found.value, found.low, found.high) == pytest.approx((value, *np.quantile(values, [0.1, 0.9])))


def test_one_patient_has_a_value_and_no_interval() -> None:
    """Nothing to resample; without images, or with nothing to take a share of, there is no value either."""
    found = mean_interval([0.2, 0.4], ["P", "P"], bootstrap=BOOTSTRAP)
    assert (found.value, found.low, found.high) == (pytest.approx(0.3), None, None)
    assert mean_interval([], [], bootstrap=BOOTSTRAP).value is None
    assert ratio_interval([0, 0], [0, 0], ["P", "Q"], bootstrap=BOOTSTRAP).value is None
