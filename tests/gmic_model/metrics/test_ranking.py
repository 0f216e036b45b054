"""Breast scores, AUROC, AUPRC, curves and bootstrap intervals: equal to scikit-learn, honest where nothing is defined."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle

from gmic_model.metrics.bootstrap import patient_weights
from gmic_model.metrics.ranking import auprc, auroc, bootstrap_interval, breast_scores, pr_curve, roc_curve
from schemas.errors import MammoError

REFERENCE_DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="module")
def reader_study() -> pd.DataFrame:
    """The public reader study: 1,440 breasts, 14 readers, 7 systems (BSD-2)."""
    path = REFERENCE_DATA / "reader_study" / "results.csv"
    if not path.exists():
        pytest.skip("reference data absent: set MAMMO_REFERENCE_DATA to the folder that holds reader_study/results.csv")
    return pd.read_csv(path)


@st.composite
def scored_breasts(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores from a coarse grid, so that ties are the rule, with both classes present."""
    size = draw(st.integers(2, 60))
    levels = draw(st.integers(1, 12))
    score_B = np.array(draw(st.lists(st.integers(0, levels), min_size=size, max_size=size))) / levels
    label_B = np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    label_B[:2] = (0, 1)
    return score_B, label_B


@given(scored_breasts())
@settings(max_examples=150, deadline=None)
def test_metrics_equal_scikit_learn_on_tied_scores(breasts: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    """A tie counts half in AUROC and is one threshold in average precision, exactly as in scikit-learn."""
    score_B, label_B = breasts
    assert auroc(score_B, label_B) == pytest.approx(oracle.roc_auc_score(label_B, score_B), abs=1e-12)
    assert auprc(score_B, label_B) == pytest.approx(oracle.average_precision_score(label_B, score_B), abs=1e-12)


def test_metrics_equal_scikit_learn_on_continuous_scores() -> None:
    """Without ties, on 3,000 breasts."""
    rng = np.random.default_rng(1)
    label_B = rng.random(3000) < 0.07
    score_B = rng.normal(label_B * 1.2)
    assert auroc(score_B, label_B) == pytest.approx(oracle.roc_auc_score(label_B, score_B), abs=1e-12)
    assert auprc(score_B, label_B) == pytest.approx(oracle.average_precision_score(label_B, score_B), abs=1e-12)


def test_reader_study_gives_the_published_aurocs(reader_study: pd.DataFrame) -> None:
    """Mean of 14 readers 0.778 in the paper, best 0.860; the file's GMIC top-5 (the 2020 network) has 0.8812."""
    readers = [auroc(reader_study[f"Reader{index:02d}_POM"], reader_study["label"]) for index in range(1, 15)]
    assert np.mean([value for value in readers if value is not None]) == pytest.approx(0.7788, abs=5e-5)
    assert max(value for value in readers if value is not None) == pytest.approx(0.8598, abs=5e-5)
    assert auroc(reader_study["AI_GMIC_top5_POM"], reader_study["label"]) == pytest.approx(0.8812, abs=5e-5)


def test_reader_study_operating_points_and_precision(reader_study: pd.DataFrame) -> None:
    """Sensitivity at specificity 0.80, 0.90, 0.95 and average precision of the file's GMIC top-5 (NUMBERS.md)."""
    score_B, label_B = reader_study["AI_GMIC_top5_POM"], reader_study["label"]
    assert auprc(score_B, label_B) == pytest.approx(0.407, abs=5e-4)
    curve = roc_curve(score_B, label_B)
    assert curve is not None
    assert [round(curve.sensitivity_at(specificity), 3) for specificity in (0.80, 0.90, 0.95)] == [0.820, 0.607, 0.459]


def test_unknown_labels_are_left_out() -> None:
    """255 is neither positive nor negative: the value is that of the known breasts."""
    assert auroc([0.9, 0.1, 0.5, 0.99, 0.0], [1, 0, 0, 255, 255]) == 1.0
    # Positives 0.9 (rank 1) and 0.1 (rank 3): precision 1/1 and 2/3, each worth half the recall.
    assert auprc([0.9, 0.1, 0.5, 0.99], [1, 1, 0, 255]) == pytest.approx((1.0 + 2.0 / 3.0) / 2.0)


def test_an_unknown_breast_may_lack_a_score() -> None:
    """Only scores that count must be finite."""
    assert auroc([0.9, 0.1, np.nan], [1, 0, 255]) == 1.0


@pytest.mark.parametrize("label_B", [[0, 0, 0], [1, 1, 1], [255, 255, 1], [255, 255, 255]])
def test_one_class_only_is_not_defined(label_B: list[int]) -> None:
    """None, never 0.5 and never a crash."""
    score_B, patient_B = [0.1, 0.2, 0.3], ["a", "b", "c"]
    assert auroc(score_B, label_B) is None
    assert auprc(score_B, label_B) is None
    assert roc_curve(score_B, label_B) is None
    assert pr_curve(score_B, label_B) is None
    interval = bootstrap_interval("auroc", score_B, label_B, patient_B, resamples=20, confidence=0.95, seed=0)
    assert (interval.value, interval.low, interval.high) == (None, None, None)


def test_no_breasts_is_not_defined() -> None:
    """An empty test split gives None too."""
    assert auroc([], []) is None
    interval = bootstrap_interval("auprc", [], [], [], resamples=20, confidence=0.95, seed=0)
    assert interval.value is None


def test_an_interval_needs_two_patients_in_each_class() -> None:
    """With one malignant patient the value stands, but resampling would only move the negatives."""
    interval = bootstrap_interval(
        "auroc", [0.9, 0.8, 0.1, 0.2], [1, 1, 0, 0], ["a", "a", "b", "c"], resamples=50, confidence=0.95, seed=0
    )
    assert (interval.value, interval.low, interval.high) == (1.0, None, None)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_cannot_be_ranked_is_refused(bad: float) -> None:
    """NaN sorts somewhere in any library; here it is an error that says what to do."""
    with pytest.raises(MammoError, match=r"1 NaN or infinite values among 2.*Remedy"):
        auroc([0.5, bad], [0, 1])
    with pytest.raises(MammoError, match="cannot be ranked"):
        breast_scores([[bad]], ["e"], ["L"])


def test_a_label_without_meaning_is_refused() -> None:
    """A label of 2 is a fault of the reader, not a negative."""
    with pytest.raises(MammoError, match=r"Expected: 0 \(absent\), 1 \(present\)"):
        auroc([0.5, 0.6], [0, 2])


def test_breast_score_is_the_mean_of_its_views() -> None:
    """One, two or three images of a breast each give their mean; breasts stand in order of first appearance."""
    scores = breast_scores(
        score_NC=[[0.2, 0.8], [0.4, 0.6], [0.1, 0.1], [0.9, 0.3], [0.3, 0.2], [0.6, 0.1]],
        exam_id_N=["e2", "e2", "e1", "e2", "e1", "e1"],
        laterality_N=["L", "L", "R", "R", "R", "R"],
    )
    assert scores.exam_id_B.tolist() == ["e2", "e1", "e2"]
    assert scores.laterality_B.tolist() == ["L", "R", "R"]
    assert scores.view_count_B.tolist() == [2, 3, 1]
    assert scores.first_image_B.tolist() == [0, 2, 3]
    # (0.2 + 0.4) / 2, (0.8 + 0.6) / 2; (0.1 + 0.3 + 0.6) / 3, (0.1 + 0.2 + 0.1) / 3; alone.
    np.testing.assert_allclose(scores.score_BC, [[0.3, 0.7], [1.0 / 3.0, 0.4 / 3.0], [0.9, 0.3]])


def test_no_images_give_no_breasts() -> None:
    """An empty folder's scores are empty, with the class axis kept."""
    assert breast_scores(np.zeros((0, 2)), [], []).score_BC.shape == (0, 2)


@given(scored_breasts(), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_intervals_agree_with_a_plain_loop(breasts: tuple[NDArray[np.float64], NDArray[np.int64]], seed: int) -> None:
    """Each resample's weights, spelt out as repeated breasts and given to scikit-learn, give the same percentiles."""
    score_B, label_B = breasts
    patient_B = np.arange(len(label_B)) // 2
    is_defined = all(len(set(patient_B[label_B == value])) >= 2 for value in (0, 1))
    for metric, reference in (("auroc", oracle.roc_auc_score), ("auprc", oracle.average_precision_score)):
        interval = bootstrap_interval(metric, score_B, label_B, patient_B, resamples=25, confidence=0.9, seed=seed)
        values = []
        for weight_RB in patient_weights(patient_B, resamples=25, seed=seed):
            for weight_B in weight_RB:
                drawn = np.repeat(np.arange(len(label_B)), weight_B)
                if len(set(label_B[drawn])) == 2:
                    values.append(reference(label_B[drawn], score_B[drawn]))
        if is_defined and values:
            assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=1e-12)
        else:
            assert (interval.low, interval.high) == (None, None)


def test_a_patients_breasts_are_drawn_together() -> None:
    """Every breast of a patient has the patient's weight, and each resample draws as many patients as there are."""
    patient_B = np.array(["a", "b", "a", "c", "b", "b"])
    (weight_RB,) = patient_weights(patient_B, resamples=200, seed=3)
    assert weight_RB.shape == (200, 6)
    assert (weight_RB[:, 0] == weight_RB[:, 2]).all()
    assert (weight_RB[:, [1]] == weight_RB[:, [4, 5]]).all()
    assert (weight_RB[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(weight_RB, axis=0)) > 5


def test_chunks_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many resamples are held at once is a matter of memory only."""
    rng = np.random.default_rng(0)
    label_B = rng.integers(0, 2, 40)
    arguments = ("auroc", rng.random(40), label_B, np.arange(40) // 4)
    whole = bootstrap_interval(*arguments, resamples=50, confidence=0.95, seed=7)
    monkeypatch.setattr("gmic_model.metrics.bootstrap.COUNTS_PER_CHUNK", 120)
    assert bootstrap_interval(*arguments, resamples=50, confidence=0.95, seed=7) == whole
    assert bootstrap_interval(*arguments, resamples=50, confidence=0.95, seed=8) != whole


def test_reader_study_interval_and_its_speed(reader_study: pd.DataFrame) -> None:
    """Exam-clustered 95% interval 0.836-0.919 (NUMBERS.md), at least 50 times faster than a loop over scikit-learn."""
    score_B, label_B = reader_study["AI_GMIC_top5_POM"].to_numpy(), reader_study["label"].to_numpy()
    exam_B = reader_study["case_ID"].to_numpy()
    seconds = []
    for _ in range(5):
        started = time.process_time()
        interval = bootstrap_interval("auroc", score_B, label_B, exam_B, resamples=2000, confidence=0.95, seed=0)
        seconds.append(time.process_time() - started)
    assert interval.low == pytest.approx(0.836, abs=0.004)
    assert interval.high == pytest.approx(0.919, abs=0.004)
    started = time.process_time()
    for weight_B in next(patient_weights(exam_B, resamples=60, seed=0)):
        drawn = np.repeat(np.arange(len(label_B)), weight_B)
        oracle.roc_auc_score(label_B[drawn], score_B[drawn])
    loop_s = (time.process_time() - started) / 60
    assert 2000 * loop_s / min(seconds) > 50  # measured 235, and 118 for AUPRC: the margin is for a busy machine


def test_roc_curve_equals_scikit_learn() -> None:
    """Every distinct score is a point, from (0, 0) at an infinite threshold to (1, 1)."""
    rng = np.random.default_rng(2)
    label_B, score_B = rng.integers(0, 2, 80), rng.integers(0, 15, 80) / 15
    curve = roc_curve(score_B, label_B)
    assert curve is not None
    false_T, true_T, threshold_T = oracle.roc_curve(label_B, score_B, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate_T, false_T)
    np.testing.assert_allclose(curve.true_positive_rate_T, true_T)
    np.testing.assert_allclose(curve.threshold_T, threshold_T)


def test_pr_curve_equals_scikit_learn_and_its_steps_are_average_precision() -> None:
    """The area under the steps is the AUPRC that is reported."""
    rng = np.random.default_rng(4)
    label_B, score_B = rng.integers(0, 2, 80), rng.integers(0, 15, 80) / 15
    curve = pr_curve(score_B, label_B)
    assert curve is not None
    precision, recall, threshold = oracle.precision_recall_curve(label_B, score_B)
    np.testing.assert_allclose(curve.precision_T, precision[:-1][::-1])
    np.testing.assert_allclose(curve.recall_T, recall[:-1][::-1])
    np.testing.assert_allclose(curve.threshold_T, threshold[::-1])
    steps = np.diff(np.concatenate([[0.0], curve.recall_T])) @ curve.precision_T
    assert auprc(score_B, label_B) == pytest.approx(steps)


def test_sensitivity_at_an_exactly_reached_specificity_counts() -> None:
    """Ten negatives, one above the positive: specificity 0.9 is reached, 0.95 is not."""
    score_B, label_B = [0.5, 0.9, *np.linspace(0, 0.4, 9)], [1, 0, *[0] * 9]
    curve = roc_curve(score_B, label_B)
    assert curve is not None
    assert curve.sensitivity_at(0.9) == 1.0
    assert curve.sensitivity_at(0.95) == 0.0
