"""Net benefit: by counting, against its definition at a stated share, and how often its interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.metrics.clinic.net_benefit import net_benefits


def test_it_is_found_less_false_recalls_at_the_weight_of_the_risk() -> None:
    """Of ten breasts two have it. At risk 0.2: two found, three false, each worth a quarter: (2 - 3 / 4) / 10."""
    risk_B = [0.9, 0.3, 0.5, 0.25, 0.2, 0.1, 0.1, 0.05, 0.02, 0.01]
    label_B = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    low, high = net_benefits(risk_B, label_B, np.arange(10), [0.5, 0.2], confidence=0.95)
    assert (low.threshold, high.threshold) == (0.2, 0.5)
    assert low.network.value == pytest.approx((2 - 3 * 0.25) / 10) and low.network.low is None
    assert low.recall_all == pytest.approx((2 - 8 * 0.25) / 10) and low.recalled == pytest.approx(0.5)
    assert high.network.value == pytest.approx((1 - 1 * 1.0) / 10)
    assert high.recall_all == pytest.approx((2 - 8) / 10)  # worse than recalling none


def test_at_a_stated_share_only_the_weights_of_the_rates_change() -> None:
    """Sensitivity 1, a false alarm rate of 3 / 8, at a share of 1 %; unknown labels count nowhere; one class only is empty."""
    risk_B = [0.9, 0.3, 0.5, 0.25, 0.2, 0.1, 0.1, 0.05, 0.02, 0.01, 0.99]
    label_B = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255]
    (point,) = net_benefits(risk_B, label_B, np.arange(11), [0.2], prevalence=0.01, confidence=0.95)
    assert point.network.value == pytest.approx(0.01 - 0.99 * 3 / 8 * 0.25)
    assert point.recall_all == pytest.approx(0.01 - 0.99 * 0.25)
    assert net_benefits([0.1, 0.2], [0, 0], [0, 1], [0.1], confidence=0.95) == ()


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """300 splits of 30 breasts with and 300 without, normal scores a unit and a half apart, at 2 % and risk 0.03."""
    from scipy.stats import norm

    share, at, cut = 0.02, 0.03, 1.2
    truth = share * norm.sf(cut - 1.5) - (1 - share) * norm.sf(cut) * at / (1 - at)
    label_B, patient_B = np.repeat([1, 0], [30, 300]), np.arange(330)
    rng, held = np.random.default_rng(5), 0
    for _ in range(300):
        risk_B = np.where(rng.normal(1.5 * label_B) >= cut, 0.9, 0.001)
        (point,) = net_benefits(risk_B, label_B, patient_B, [at], prevalence=share, confidence=0.95)
        assert point.network.low is not None and point.network.high is not None
        held += point.network.low <= truth <= point.network.high
    assert 0.91 <= held / 300 <= 0.99, held
