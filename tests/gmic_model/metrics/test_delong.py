"""DeLong's paired test: equal to its definition written out, and wider where breasts of a patient move together."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from gmic_model.metrics.delong import delong_test


def _cohort(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    label_B = (rng.random(60) < 0.3).astype(np.int64)
    shared_B = rng.normal(size=60)
    score_a_B = np.round(shared_B + 1.4 * label_B, 1).astype(np.float64)  # rounding makes ties
    score_b_B = np.round(shared_B + 0.6 * label_B + rng.normal(size=60), 1)
    return score_a_B, score_b_B, label_B


def _written_out(score_MB: NDArray[np.float64], label_B: NDArray[np.int64]) -> NDArray[np.float64]:
    """DeLong, DeLong and Clarke-Pearson 1988, equations 4 to 6, pair by pair."""
    placements_positive, placements_negative = [], []
    for score_B in score_MB:
        positive, negative = score_B[label_B == 1], score_B[label_B == 0]
        psi = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
        placements_positive.append(psi.mean(axis=1))
        placements_negative.append(psi.mean(axis=0))
    covariance: NDArray[np.float64] = np.cov(placements_positive) / (label_B == 1).sum()
    covariance += np.cov(placements_negative) / (label_B == 0).sum()
    return covariance


@pytest.mark.parametrize("seed", range(4))
def test_variance_is_delongs_where_every_breast_is_alone(seed: int) -> None:
    """The interval's half width over 1.96 is the square root of var(a) + var(b) - 2 cov(a, b)."""
    score_a_B, score_b_B, label_B = _cohort(seed)
    result = delong_test(score_a_B, score_b_B, label_B)
    assert result is not None
    covariance = _written_out(np.stack([score_a_B, score_b_B]), label_B)
    deviation = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Obuchowski's cross term over single-breast clusters is zero: no cluster holds both classes.
    assert (result.high - result.low) / 2 == pytest.approx(1.959963985 * deviation, rel=1e-9)
    assert result.auroc_a == pytest.approx(roc_auc_score(label_B, score_a_B))
    assert result.auroc_b == pytest.approx(roc_auc_score(label_B, score_b_B))
    assert result.difference == pytest.approx(result.auroc_a - result.auroc_b)


@pytest.mark.parametrize(
    ("seed", "auroc_a", "auroc_b", "variance", "p_value"),
    [
        (0, 0.7530779753761969, 0.5465116279069767, 0.0060377493821948975, 0.007851022080873939),
        (1, 0.7826704545454546, 0.47585227272727276, 0.005465959642674099, 3.3247826022378836e-05),
        (2, 0.8362962962962963, 0.6711111111111111, 0.0023795699499403206, 0.0007084908794140402),
        (3, 0.7227214377406932, 0.5256739409499358, 0.004335986142443682, 0.0027674751681149136),
    ],
)
def test_another_implementation_finds_the_same(
    seed: int, auroc_a: float, auroc_b: float, variance: float, p_value: float
) -> None:
    """MLstatkit 0.1.91 on the same 60 breasts, ``Delong_test(label, score_a, score_b)``: areas, ``var_diff`` and p."""
    result = delong_test(*_cohort(seed))
    assert result is not None
    assert (result.auroc_a, result.auroc_b) == pytest.approx((auroc_a, auroc_b), rel=1e-12)
    assert ((result.high - result.low) / 2 / 1.959963984540054) ** 2 == pytest.approx(variance, rel=1e-9)
    assert result.p_value == pytest.approx(p_value, rel=1e-9)


def test_copied_breasts_of_a_patient_add_no_certainty() -> None:
    """Each breast given three times under one patient: the clustered interval stays as wide as with one copy."""
    score_a_B, score_b_B, label_B = _cohort(0)
    single = delong_test(score_a_B, score_b_B, label_B)
    copies = [np.repeat(array, 3) for array in (score_a_B, score_b_B, label_B)]
    naive = delong_test(*copies)
    clustered = delong_test(*copies, patient_B=np.repeat(np.arange(60), 3))
    assert single is not None and naive is not None and clustered is not None
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=1e-9)
    assert naive.high - naive.low < 0.62 * (single.high - single.low)  # 1 / sqrt(3) = 0.58


def test_p_value_holds_its_level_under_no_difference() -> None:
    """Two equally noisy copies of one score: about 5% of 400 cohorts fall below 0.05 (binomial 99.9%: 2% to 9%)."""
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(400):
        label_B = (np.arange(120) < 40).astype(np.int64)
        truth_B = rng.normal(label_B)
        result = delong_test(truth_B + rng.normal(size=120), truth_B + rng.normal(size=120), label_B)
        assert result is not None
        hits += result.p_value < 0.05
    assert 8 <= hits <= 36


def test_equal_scores_differ_by_nothing() -> None:
    """The same scores twice: difference 0, p 1."""
    score_a_B, _, label_B = _cohort(1)
    result = delong_test(score_a_B, score_a_B, label_B)
    assert result is not None
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("label_B", [[0, 0, 0, 0], [1, 0, 0, 0], [1, 255, 0, 0]])
def test_too_few_of_a_class_is_not_defined(label_B: list[int]) -> None:
    """A variance needs two positives and two negatives."""
    assert delong_test([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], label_B) is None
