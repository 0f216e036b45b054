"""Multi-reader multi-case analysis: equal to MRMCaov and RJafroc on their standard data, and honest under no difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from gmic_model.metrics.delong import AurocCovariance, delong_covariance
from gmic_model.reader_study.mrmc import (
    CovarianceMethod,
    Inference,
    auroc_covariance,
    contrast,
    reader_mean,
    variance_components,
)

VAN_DYKE = Path(__file__).parents[2] / "golden" / "van_dyke" / "ratings.csv"
READERS = 5
BOTH = np.hstack([np.eye(READERS), -np.eye(READERS)])  # modality 0 minus modality 1, reader by reader


@pytest.fixture(scope="module")
def van_dyke() -> AurocCovariance:
    """AUROCs of five readers with two modalities, and their jackknife covariance."""
    table = np.loadtxt(VAN_DYKE, delimiter=",", skiprows=1)
    covariance = auroc_covariance(table[:, 2:].T, table[:, 1].astype(np.int64), table[:, 0], method=CovarianceMethod.JACKKNIFE)
    assert covariance is not None
    return covariance


def _cohort(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Four scores of 90 breasts, two to an exam, with ties."""
    rng = np.random.default_rng(seed)
    label_B = (rng.random(90) < 0.3).astype(np.int64)
    score_SB = np.round(rng.normal(size=(4, 90)) + rng.normal(size=90) + 1.2 * label_B, 1)
    return score_SB, label_B, np.arange(90) // 2


def test_variance_components_are_mrmcaovs(van_dyke: AurocCovariance) -> None:
    """MRMCaov 0.1.5, README: mean squares, Cov1 to Cov3, error variance, reader and treatment-by-reader variance."""
    found = variance_components(van_dyke, 2)
    assert found.ms_modality == pytest.approx(0.004796171, abs=5e-10)
    assert found.ms_modality_reader == pytest.approx(0.0005510306, abs=5e-11)
    assert found.ms_reader == pytest.approx(0.0038362000, abs=5e-11)  # RJafroc
    assert found.variance == pytest.approx(0.0008022883, abs=5e-11)
    assert found.cov1 == pytest.approx(0.0003466137, abs=5e-11)
    assert found.cov2 == pytest.approx(0.0003440748, abs=5e-11)
    assert found.cov3 == pytest.approx(0.0002390284, abs=5e-11)
    assert found.reader_variance == pytest.approx(0.0015349993, abs=5e-11)
    assert found.modality_reader_variance == pytest.approx(0.0002004025, abs=5e-11)


@pytest.mark.parametrize(
    ("inference", "standard_error", "freedom", "statistic", "p_value", "low", "high"),
    [
        # MRMCaov README; F = 4.456319 is the square of t.
        (Inference.RANDOM_READERS_RANDOM_CASES, 0.02074862, 15.25967, -2.110999, 0.05166569, -0.0879594986, 0.0003588544),
        # RJafroc book, FRRC and RRFC.
        (Inference.FIXED_READERS_RANDOM_CASES, 0.018717483, None, -2.3400755, 0.019279843, -0.080485914, -0.0071147303),
        (Inference.RANDOM_READERS_FIXED_CASES, 0.014846287, 4.0, -2.9502542, 0.041958752, -0.085020224, -0.0025804202),
    ],
)
def test_difference_of_modalities_is_mrmcaovs(
    van_dyke: AurocCovariance,
    inference: Inference,
    standard_error: float,
    freedom: float | None,
    statistic: float,
    p_value: float,
    low: float,
    high: float,
) -> None:
    """Difference, error, Hillis' degrees of freedom, t, p and interval, to every digit that is printed there."""
    found = reader_mean(contrast(van_dyke, BOTH), inference=inference)
    assert found is not None
    assert found.estimate == pytest.approx(-0.04380032, abs=5e-9)
    assert found.standard_error == pytest.approx(standard_error, abs=5e-9)
    assert found.degrees_of_freedom == (None if freedom is None else pytest.approx(freedom, abs=5e-6))
    assert found.statistic == pytest.approx(statistic, abs=5e-7)
    assert found.p_value == pytest.approx(p_value, abs=5e-9)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-9), pytest.approx(high, abs=5e-9))


@pytest.mark.parametrize(
    ("modality", "estimate", "standard_error", "freedom", "low", "high"),
    [(0, 0.8970370, 0.03317360, 12.74465, 0.8252236, 0.9688505), (1, 0.9408374, 0.02156637, 12.71019, 0.8941378, 0.9875369)],
)
def test_mean_of_one_modality_is_mrmcaovs(
    van_dyke: AurocCovariance, modality: int, estimate: float, standard_error: float, freedom: float, low: float, high: float
) -> None:
    """MRMCaov README, "each analysis based only on data for the specified treatment"."""
    one = contrast(van_dyke, np.eye(2 * READERS)[modality * READERS : (modality + 1) * READERS])
    found = reader_mean(one, inference=Inference.RANDOM_READERS_RANDOM_CASES)
    assert found is not None
    assert found.estimate == pytest.approx(estimate, abs=5e-8)
    assert found.standard_error == pytest.approx(standard_error, abs=5e-9)
    assert found.degrees_of_freedom == pytest.approx(freedom, abs=5e-6)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-8), pytest.approx(high, abs=5e-8))


@pytest.mark.parametrize("seed", range(3))
def test_jackknife_is_leaving_exams_out_one_by_one(seed: int) -> None:
    """The closed form equals 45 calls of scikit-learn, each without one exam of two breasts."""
    score_SB, label_B, exam_B = _cohort(seed)
    found = auroc_covariance(score_SB, label_B, exam_B, method=CovarianceMethod.JACKKNIFE)
    assert found is not None
    without = np.array(
        [[roc_auc_score(label_B[exam_B != exam], score_B[exam_B != exam]) for exam in range(45)] for score_B in score_SB]
    )
    np.testing.assert_allclose(found.covariance_MM, np.cov(without) * 44.0**2 / 45.0, rtol=1e-9)
    np.testing.assert_allclose(found.auroc_M, [roc_auc_score(label_B, score_B) for score_B in score_SB], rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_delong_of_many_scores_is_delong_of_each_pair(seed: int) -> None:
    """The covariance matrix of four scores holds the 2 by 2 matrix of any two, and is near the jackknife's."""
    score_SB, label_B, exam_B = _cohort(seed)
    found = auroc_covariance(score_SB, label_B, exam_B, method=CovarianceMethod.DELONG)
    pair = delong_covariance(score_SB[[1, 3]], label_B, patient_B=exam_B)
    jackknife = auroc_covariance(score_SB, label_B, exam_B, method=CovarianceMethod.JACKKNIFE)
    assert found is not None and pair is not None and jackknife is not None
    np.testing.assert_allclose(found.covariance_MM[np.ix_([1, 3], [1, 3])], pair.covariance_MM, rtol=1e-12)
    np.testing.assert_allclose(np.diag(found.covariance_MM), np.diag(jackknife.covariance_MM), rtol=0.15)


def test_readers_against_a_model_hold_their_level() -> None:
    """Readers and a model of equal expected AUROC: p < 0.05 in about 5% of 300 studies (binomial 99.9%: 1.3% to 10%)."""
    rng = np.random.default_rng(11)
    hits = 0
    weight_JS = np.hstack([np.eye(6), -np.ones((6, 1))])
    for _ in range(300):
        label_B = (np.arange(100) < 40).astype(np.int64)
        truth_B = rng.normal(size=100)
        skill_S = 1.2 + np.append(rng.normal(0.0, 0.25, size=6), 0.0)  # readers differ, the model is the mean reader
        score_SB = truth_B + rng.normal(size=(7, 100)) + skill_S[:, None] * label_B
        found = auroc_covariance(score_SB, label_B, np.arange(100), method=CovarianceMethod.DELONG)
        assert found is not None
        test = reader_mean(contrast(found, weight_JS), inference=Inference.RANDOM_READERS_RANDOM_CASES)
        assert test is not None
        hits += test.p_value < 0.05
    assert 4 <= hits <= 30


def test_one_reader_has_no_random_reader_result() -> None:
    """A variance between readers needs two; with that reader fixed, it is DeLong's paired test."""
    score_SB, label_B, exam_B = _cohort(0)
    found = auroc_covariance(score_SB[:2], label_B, exam_B, method=CovarianceMethod.DELONG)
    assert found is not None
    difference = contrast(found, [[1.0, -1.0]])
    assert reader_mean(difference, inference=Inference.RANDOM_READERS_RANDOM_CASES) is None
    assert reader_mean(difference, inference=Inference.RANDOM_READERS_FIXED_CASES) is None
    fixed = reader_mean(difference, inference=Inference.FIXED_READERS_RANDOM_CASES)
    assert fixed is not None
    variance = found.covariance_MM[0, 0] + found.covariance_MM[1, 1] - 2 * found.covariance_MM[0, 1]
    assert fixed.standard_error == pytest.approx(np.sqrt(variance))


def test_equal_readers_differ_by_nothing() -> None:
    """The same scores as both modalities: difference 0, p 1, an interval of no width."""
    score_SB, label_B, exam_B = _cohort(1)
    found = auroc_covariance(np.vstack([score_SB, score_SB]), label_B, exam_B, method=CovarianceMethod.DELONG)
    assert found is not None
    same = contrast(found, np.hstack([np.eye(4), -np.eye(4)]))
    for inference in Inference:
        result = reader_mean(same, inference=inference)
        assert result is not None
        assert (result.estimate, result.p_value, result.low, result.high) == (0.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("method", CovarianceMethod)
def test_too_few_exams_of_a_class_are_not_defined(method: CovarianceMethod) -> None:
    """Both positives in one exam: no covariance over exams."""
    score_SB = np.random.default_rng(0).normal(size=(2, 8))
    label_B = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    assert auroc_covariance(score_SB, label_B, np.arange(8) // 2, method=method) is None
