"""Do groups differ: limits from the parts' limits, p-values that agree with them, Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from gmic_model.metrics.comparison.group_differences import ALL_OTHERS, adjusted, difference_of, group_differences, holm
from gmic_model.metrics.proportions import wilson
from gmic_model.metrics.ranking import auroc
from schemas.exam import NOT_KNOWN


def test_holm_steps_down() -> None:
    """Of 0.01, 0.04, 0.03: 3 x 0.01, then 2 x 0.03, then 1 x 0.04, which may not fall below 0.06; never above 1."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_a_difference_has_newcombes_limits() -> None:
    """Newcombe 1998 (Statistics in Medicine 17, 873), Table II, method 10: 56 of 70 less 48 of 80 is 0.2 (0.0524 to 0.3339)."""
    first, second = (
        lambda confidence, hits=hits, count=count: wilson(hits / count, count, float(ndtri((1.0 + confidence) / 2.0)))
        for hits, count in ((56, 70), (48, 80))
    )
    found, p_value = difference_of(first, second, confidence=0.95)
    assert found.value == pytest.approx(0.2) and (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    touching, _ = difference_of(first, second, confidence=1.0 - p_value)
    assert 0.001 < p_value < 0.05 and touching.low == pytest.approx(0.0, abs=1e-4)


def _cohort() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(7)
    is_positive_B = np.arange(400) % 4 == 0
    group_B = np.where(
        np.arange(400) < 150, "a", np.where(np.arange(400) < 300, "b", np.where(np.arange(400) < 390, "c", NOT_KNOWN))
    )
    # Group a is scored at random, the others are told apart.
    return rng.normal(size=400) + np.where(group_B == "a", 0.0, 2.5) * is_positive_B, is_positive_B, group_B


def test_each_group_stands_against_all_others() -> None:
    """AUROC of a less that of b and c together; who is not known is on neither side; the group that is worse is found."""
    score_B, is_positive_B, group_B = _cohort()
    found = adjusted(
        group_differences(
            score_B, is_positive_B, np.arange(400), group_B,
            attribute="vendor", threshold=1.2, confidence=0.95, minimum_patients=10,
        )
    )  # fmt: skip
    assert [(one.group, one.measure) for one in found][:3] == [("a", "AUROC"), ("a", "sensitivity"), ("a", "specificity")]
    assert {one.group for one in found} == {"a", "b", "c"} and {one.other for one in found} == {ALL_OTHERS}
    of_a, others = group_B == "a", (group_B == "b") | (group_B == "c")
    expected = (auroc(score_B[of_a], is_positive_B[of_a].astype(int)) or 0) - (
        auroc(score_B[others], is_positive_B[others].astype(int)) or 0
    )
    assert found[0].difference.value == pytest.approx(expected) and found[0].p_adjusted < 0.001
    assert all(one.p_adjusted >= one.p_value for one in found) and found[2].p_adjusted > 0.05


def test_two_groups_are_compared_once_and_small_ones_not_at_all() -> None:
    """Of a and b one difference is enough; below five patients of a class nothing is compared, whatever the config says."""
    score_B, is_positive_B, group_B = _cohort()
    asked = {"attribute": "x", "threshold": None, "confidence": 0.95}
    two_B = np.where(group_B == "c", "b", group_B)
    (once,) = group_differences(score_B, is_positive_B, np.arange(400), two_B, minimum_patients=10, **asked)  # type: ignore[arg-type]
    assert (once.group, once.other, once.measure) == ("b", "a", "AUROC")
    few_B = np.where(np.arange(400) < 16, "few", "many")  # 4 with the finding
    assert group_differences(score_B, is_positive_B, np.arange(400), few_B, minimum_patients=1, **asked) == ()  # type: ignore[arg-type]


def test_kinds_of_findings_are_compared_by_sensitivity_alone() -> None:
    """Only breasts with the finding have a kind: no negative is asked for."""
    score_B, hits = np.concatenate([np.linspace(0, 1, 40), np.linspace(0.5, 1, 40)]), 0.5
    found = group_differences(
        score_B, np.ones(80, bool), np.arange(80), np.repeat(["mass", "calcification"], 40), attribute="finding type",
        threshold=hits, confidence=0.95, minimum_patients=10, measures=("sensitivity",),
    )  # fmt: skip
    (one,) = found
    assert abs(one.difference.value or 0) == pytest.approx(0.5) and one.p_value < 0.001
