"""The reader study: the public file's numbers, scikit-learn's areas, hybrids, and any site's small study."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from gmic_model.metrics.bootstrap import Bootstrap
from gmic_model.reader_study.mrmc import CovarianceMethod, Inference
from gmic_model.reader_study.study import ReaderStudy, StudyOptions, analyse_reader_study
from schemas.config.evaluation import EvaluateConfig
from schemas.errors import ConfigError
from schemas.reports.reader_study import ReaderStudyReport

REFERENCE_DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", Path(__file__).parents[4] / "shared" / "data"))
QUICK = Bootstrap(resamples=60, confidence=0.95, seed=0)


@pytest.fixture(scope="module")
def public_table() -> pd.DataFrame:
    """The public file: 720 exams, 14 readers, 7 models."""
    path = REFERENCE_DATA / "reader_study" / "results.csv"
    if not path.exists():
        pytest.skip("reference data are absent (MAMMO_REFERENCE_DATA)")
    return pd.read_csv(path)


@pytest.fixture(scope="module")
def public(public_table: pd.DataFrame) -> ReaderStudyReport:
    """Its analysis."""
    columns = [str(column) for column in public_table.columns]
    study = ReaderStudy(
        label_B=public_table["label"].to_numpy(np.int64),
        exam_B=public_table["case_ID"].to_numpy(),
        reader_JB={name: public_table[name].to_numpy(np.float64) for name in columns if name.startswith("Reader")},
        model_MB={name: public_table[name].to_numpy(np.float64) for name in columns if name.startswith("AI_")},
    )
    return analyse_reader_study(study, StudyOptions(model="AI_GMIC_top5_POM", bootstrap=QUICK))


def _small_study(seed: int = 0, *, exams: int = 60, readers: int = 3, skill: float = 1.0) -> ReaderStudy:
    rng = np.random.default_rng(seed)
    label_B = (rng.random(2 * exams) < 0.25).astype(np.int64)
    truth_B = rng.normal(size=2 * exams) + skill * label_B
    score_SB = 1 / (1 + np.exp(-(truth_B + rng.normal(size=(readers + 1, 2 * exams)))))
    return ReaderStudy(
        label_B=label_B,
        exam_B=np.repeat(np.arange(exams), 2),
        reader_JB={f"R{index}": np.round(score_SB[index], 1) for index in range(readers)},
        model_MB={"net": score_SB[readers]},
    )


def test_public_numbers_are_reproduced(public: ReaderStudyReport) -> None:
    """Mean reader 0.7788, best 0.8598, GMIC 0.8812, hybrids 0.8871; best weight 0.8902 at 0.25 reader + 0.75 model."""
    assert (public.breasts, public.exams, public.positive_breasts, public.positive_exams) == (1440, 720, 61, 60)
    best = next(result for result in public.readers if result.reader == public.best_reader)
    model = next(system for system in public.systems if system.name == public.model)
    assert public.mean_reader.auroc.value == pytest.approx(0.7788, abs=5e-5)
    assert best.auroc.value == pytest.approx(0.8598, abs=5e-5)
    assert model.auroc.value == pytest.approx(0.8812, abs=5e-5)
    assert public.mean_hybrid.auroc.value == pytest.approx(0.8871, abs=5e-5)
    assert public.best_weight is not None and public.best_weight.reader_weight == 0.25
    assert public.best_weight.mean_auroc.value == pytest.approx(0.8902, abs=5e-5)
    assert public.reader_panel.auroc.value == pytest.approx(0.8946, abs=5e-5)
    assert public.panel_hybrid.auroc.value == pytest.approx(0.9082, abs=5e-5)
    assert [round(point.sensitivity.value or 0, 3) for point in public.model_points[:3]] == [0.820, 0.607, 0.459]
    systems = [round(system.auroc.value or 0, 4) for system in public.systems]
    assert systems == [0.8812, 0.8567, 0.8532, 0.7788, 0.7145, 0.5860, 0.4540]


def test_every_area_is_scikit_learns(public: ReaderStudyReport, public_table: pd.DataFrame) -> None:
    """AUROC and average precision of 14 readers, 14 hybrids and 7 models, to the last digits."""
    label_B, model_B = public_table["label"], public_table["AI_GMIC_top5_POM"]
    for result in public.readers:
        reader_B = public_table[result.reader]
        hybrid_B = 0.5 * reader_B + 0.5 * model_B
        assert result.auroc.value == pytest.approx(roc_auc_score(label_B, reader_B), abs=1e-12)
        assert result.auprc.value == pytest.approx(average_precision_score(label_B, reader_B), abs=1e-12)
        assert result.hybrid_auroc.value == pytest.approx(roc_auc_score(label_B, hybrid_B), abs=1e-12)
        assert result.hybrid_auprc.value == pytest.approx(average_precision_score(label_B, hybrid_B), abs=1e-12)
    for system in public.systems:
        assert system.auroc.value == pytest.approx(roc_auc_score(label_B, public_table[system.name]), abs=1e-12)


def test_readers_differ_from_model_and_from_hybrids(public: ReaderStudyReport) -> None:
    """Both differences are about -0.1, certain for random readers and cases; hybrids and model do not differ."""
    comparisons = {(one.first, one.second): one.tests for one in public.comparisons}
    assert set(comparisons) == {("readers", "model"), ("readers", "hybrids"), ("hybrids", "model")}
    for tests in comparisons.values():
        assert {(test.inference, test.covariance) for test in tests} == {(i, m) for i in Inference for m in CovarianceMethod}
        jackknife, delong = (
            next(test for test in tests if (test.inference, test.covariance) == (Inference.RANDOM_READERS_RANDOM_CASES, method))
            for method in CovarianceMethod
        )
        assert jackknife.standard_error == pytest.approx(delong.standard_error, rel=0.02)
    p_value = {key: max(test.p_value for test in tests[:1]) for key, tests in comparisons.items()}
    assert p_value["readers", "model"] < 1e-4 and p_value["readers", "hybrids"] < 1e-6
    assert p_value["hybrids", "model"] > 0.2


def test_readers_points_are_counts_of_their_recalls(public: ReaderStudyReport, public_table: pd.DataFrame) -> None:
    """Recall above 0.02, where BI-RADS 4 begins; the model is read at the readers' mean specificity."""
    is_positive = public_table["label"] == 1
    for result in public.readers[:3]:
        is_recalled = public_table[result.reader] > 0.02
        assert result.sensitivity.value == pytest.approx(is_recalled[is_positive].mean())
        assert result.specificity.value == pytest.approx((~is_recalled)[~is_positive].mean())
    point = next(point for point in public.model_points if point.basis == "the readers' mean specificity")
    assert point.target == public.readers_mean_specificity.value == pytest.approx(0.8527, abs=5e-5)
    assert (point.specificity.value or 0) >= point.target
    for rate in (public.readers[0].specificity, public.readers_mean_sensitivity):
        assert rate.low is not None and rate.high is not None and rate.low < (rate.value or 0) < rate.high
    assert EvaluateConfig().readers_specificity is None, "these readers' specificity stands beside their study alone"


def test_mean_curve_has_the_mean_area() -> None:
    """Sensitivities averaged at equal false positive rates: the area under the drawn line is the mean AUROC."""
    study = _small_study()
    report = analyse_reader_study(study, StudyOptions(model="net", bootstrap=QUICK))
    curve = {one.name: one for one in report.curves}
    for name, expected in (("mean reader", report.mean_reader.auroc.value), ("mean hybrid", report.mean_hybrid.auroc.value)):
        area = np.trapezoid(curve[name].true_positive_rate, curve[name].false_positive_rate)
        assert area == pytest.approx(expected, abs=1e-12)
        assert (np.diff(curve[name].true_positive_rate) >= -1e-12).all()
        assert (curve[name].true_positive_rate[0], curve[name].true_positive_rate[-1]) == (0.0, 1.0)
    assert len(report.curves) == 4 + 3


def test_intervals_resample_exams_together_for_all() -> None:
    """The mean reader's interval equals a loop that draws exams, scores each reader on the draw and averages."""
    study = _small_study(seed=5)
    report = analyse_reader_study(study, StudyOptions(model="net", bootstrap=QUICK))
    rng = np.random.default_rng(QUICK.seed)
    means, gains = [], []
    for drawn_G in rng.integers(60, size=(QUICK.resamples, 60)):
        index = np.concatenate([[2 * exam, 2 * exam + 1] for exam in drawn_G])
        label_B = study.label_B[index]
        areas = [roc_auc_score(label_B, score_B[index]) for score_B in study.reader_JB.values()]
        hybrid_B = 0.5 * study.reader_JB["R0"] + 0.5 * study.model_MB["net"]
        means.append(np.mean(areas))
        gains.append(roc_auc_score(label_B, hybrid_B[index]) - areas[0])
    mean, gain = report.mean_reader.auroc, report.readers[0].hybrid_gain
    assert (mean.low, mean.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert (gain.low, gain.high) == pytest.approx(tuple(np.quantile(gains, [0.025, 0.975])))


def test_weights_one_and_zero_are_readers_and_model() -> None:
    """The ends of the weight curve: the model alone, and the mean of readers alone."""
    report = analyse_reader_study(_small_study(), StudyOptions(model="net", bootstrap=QUICK))
    assert report.weight_curve[0].mean_auroc.value == pytest.approx(report.systems[0].auroc.value)
    assert report.weight_curve[-1].mean_auroc.value == pytest.approx(report.mean_reader.auroc.value)
    for point in report.weight_curve:
        interval = point.mean_auroc
        assert interval.low is not None and interval.value is not None and interval.high is not None
        assert interval.low < interval.value < interval.high


def test_a_study_without_cancer_is_reported_as_undefined() -> None:
    """One class only: every area is None, nothing is compared, nothing raises."""
    study = _small_study()
    blank = ReaderStudy(
        label_B=np.zeros_like(study.label_B), exam_B=study.exam_B, reader_JB=study.reader_JB, model_MB=study.model_MB
    )
    report = analyse_reader_study(blank, StudyOptions(model="net", bootstrap=QUICK))
    assert report.mean_reader.auroc.value is None and report.best_reader is None and report.best_weight is None
    assert report.curves == () and report.model_points == ()
    assert all(not comparison.tests for comparison in report.comparisons)
    assert report.readers[0].sensitivity.value is None and report.readers[0].specificity.value is not None


def test_one_reader_is_compared_as_a_fixed_reader_only() -> None:
    """A single reader is no sample of readers."""
    report = analyse_reader_study(_small_study(readers=1), StudyOptions(model="net", bootstrap=QUICK))
    assert {test.inference for one in report.comparisons for test in one.tests} == {Inference.FIXED_READERS_RANDOM_CASES}


def test_unlabelled_breasts_are_left_out_everywhere() -> None:
    """Breasts of unknown label change no number but their own count."""
    study = _small_study()
    longer = ReaderStudy(
        label_B=np.concatenate([study.label_B, [255, 255]]),
        exam_B=np.concatenate([study.exam_B, [60, 60]]),
        reader_JB={name: np.concatenate([score_B, [1.0, 0.0]]) for name, score_B in study.reader_JB.items()},
        model_MB={name: np.concatenate([score_B, [0.0, 1.0]]) for name, score_B in study.model_MB.items()},
    )
    options = StudyOptions(model="net", bootstrap=QUICK)
    short, long = analyse_reader_study(study, options), analyse_reader_study(longer, options)
    assert long.unlabelled_breasts == 2
    assert long.model_copy(update={"unlabelled_breasts": 0}) == short


def test_an_unknown_model_is_named() -> None:
    """The message lists the models there are."""
    with pytest.raises(ConfigError, match="one of net"):
        analyse_reader_study(_small_study(), StudyOptions(model="other"))
