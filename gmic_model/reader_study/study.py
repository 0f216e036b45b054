"""Readers, models and both together on the same breasts: the paper's Figure 3 and its text (section 3.2), with intervals.

Reading the file is ``tasks.adapters.scoring.reader_study_file``'s business, the analysis of variance is in ``mrmc.py``.

Axes: ``B`` breasts, ``J`` readers, ``M`` models, ``R`` resamples, ``F`` false positive rates. Exams are the clusters
everywhere, as the file names no patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from gmic_model.metrics.bootstrap import Bootstrap, percentile_ends
from gmic_model.metrics.operating_points import points_at_sensitivity, points_at_specificity
from gmic_model.metrics.proportions import ratio_interval
from gmic_model.metrics.ranking import Metric, RocCurve, auprc, auroc, bootstrap_values, roc_curve
from gmic_model.reader_study.mrmc import (
    CovarianceMethod,
    Inference,
    auroc_covariance,
    contrast,
    reader_mean,
    variance_components,
)
from schemas.errors import ConfigError
from schemas.exam import UNKNOWN
from schemas.reports.evaluation import OperatingPoint
from schemas.reports.reader_study import (
    HybridWeight,
    MrmcComparison,
    MrmcTest,
    ReaderResult,
    ReaderStudyReport,
    RocPoints,
    SystemResult,
)
from schemas.reports.report import Interval

SPECIFICITIES = (0.80, 0.90, 0.95)
BI_RADS_4_ABOVE = 0.02
"""ACR BI-RADS 5th edition: category 3 means a likelihood of malignancy of at most 2%, category 4 (biopsy) of more."""
WEIGHT_GRID = tuple(round(0.05 * step, 2) for step in range(21))
DEFAULT_BOOTSTRAP = Bootstrap(resamples=2000, confidence=0.95, seed=0)
PAPER_NUMBERS: Mapping[str, float] = {"mean_reader": 0.778, "best_reader": 0.860, "model": 0.876, "mean_hybrid": 0.883}
"""Figure 3 of the paper."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReaderStudy:
    """The study's scores; every reader and every model scored every breast.

    Attributes:
        label_B: 0 absent, 1 present, 255 not known.
        exam_B: The exam of each breast.
        reader_JB: Probability of malignancy, 0 to 1, by reader name.
        model_MB: Score, 0 to 1, by model name.
    """

    label_B: NDArray[np.int64]
    exam_B: NDArray[np.generic]
    reader_JB: Mapping[str, NDArray[np.float64]]
    model_MB: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """What is computed.

    Attributes:
        model: Which model readers are compared and averaged with.
        hybrid_weight: Share of the reader in the hybrid; the paper's is one half.
        recall_above: A reader recalls a breast above this probability: the file holds no recall decisions.
    """

    model: str
    hybrid_weight: float = 0.5
    recall_above: float = BI_RADS_4_ABOVE
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP


def analyse_reader_study(
    study: ReaderStudy, options: StudyOptions, *, source_sha256: str = "", notes: tuple[str, ...] = ()
) -> ReaderStudyReport:
    """Everything of Figure 3: readers, models, hybrids, weight curve, operating points, and the multi-reader comparison.

    With one class only, metrics are reported as not defined.

    Raises:
        ConfigError: The model is not among the study's.
        MammoError: A score is not finite.
    """
    if options.model not in study.model_MB:
        raise ConfigError(
            f"The study has no model {options.model}", expected=f"one of {', '.join(study.model_MB)}", got=options.model
        )
    table = _ScoreTable.of(study, options)
    readers = tuple(study.reader_JB)
    results = _reader_results(study, table, options)
    is_known_B = study.label_B != UNKNOWN
    is_positive_B = study.label_B == 1
    curve = _weight_curve(study, options)
    recall_B = np.mean([score_B > options.recall_above for score_B in study.reader_JB.values()], axis=0)
    sensitivity, specificity = _recall_rates(study, recall_B, options)
    return ReaderStudyReport(
        source_sha256=source_sha256,
        notes=notes,
        breasts=int(is_known_B.sum()),
        exams=len(np.unique(study.exam_B[is_known_B])),
        positive_breasts=int(is_positive_B.sum()),
        positive_exams=len(np.unique(study.exam_B[is_positive_B])),
        unlabelled_breasts=int((~is_known_B).sum()),
        model=options.model,
        hybrid_weight=options.hybrid_weight,
        recall_above=options.recall_above,
        **asdict(options.bootstrap),
        readers=results,
        systems=tuple(table.system(name, [name]) for name in study.model_MB),
        mean_reader=table.system("mean of readers", readers),
        mean_hybrid=table.system("mean of hybrids", [_hybrid(reader) for reader in readers]),
        best_reader=_best(results, "auroc"),
        best_hybrid=_best(results, "hybrid_auroc"),
        reader_panel=table.system("readers' mean score", [_PANEL]),
        panel_hybrid=table.system("readers' mean score with model", [_PANEL_HYBRID]),
        readers_mean_sensitivity=sensitivity,
        readers_mean_specificity=specificity,
        model_points=_model_points(study, options, sensitivity.value, specificity.value),
        weight_curve=curve,
        best_weight=_best_weight(curve),
        **_comparisons(study, options),
        curves=_curves(study, options, results),
    )


# --------------------------------------------------------------------------------------------------- scores and intervals

_PANEL, _PANEL_HYBRID = " panel", " panel hybrid"


def _hybrid(reader: str) -> str:
    return f" hybrid {reader}"


def _mixed(study: ReaderStudy, options: StudyOptions, weight: float) -> dict[str, NDArray[np.float64]]:
    model_B = study.model_MB[options.model]
    return {reader: weight * score_B + (1.0 - weight) * model_B for reader, score_B in study.reader_JB.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ScoreTable:
    """Every score with its AUROC and AUPRC on the data and in the same resamples: means and differences get intervals too."""

    value: Mapping[Metric, Mapping[str, float | None]]
    resampled_R: Mapping[Metric, Mapping[str, NDArray[np.float64]]]
    confidence: float

    @classmethod
    def of(cls, study: ReaderStudy, options: StudyOptions) -> _ScoreTable:
        panel_B = np.mean(list(study.reader_JB.values()), axis=0)
        weight = options.hybrid_weight
        score_B = {
            **study.reader_JB,
            **study.model_MB,
            **{_hybrid(name): mixed_B for name, mixed_B in _mixed(study, options, weight).items()},
            _PANEL: panel_B,
            _PANEL_HYBRID: weight * panel_B + (1.0 - weight) * study.model_MB[options.model],
        }
        resampled: dict[Metric, dict[str, NDArray[np.float64]]] = {}
        for metric in Metric:
            value_SR = bootstrap_values(
                metric,
                np.stack(list(score_B.values())),
                study.label_B,
                study.exam_B,
                resamples=options.bootstrap.resamples,
                seed=options.bootstrap.seed,
            )
            resampled[metric] = {} if value_SR is None else dict(zip(score_B, value_SR, strict=True))
        point = {
            metric: {name: measure(values_B, study.label_B) for name, values_B in score_B.items()}
            for metric, measure in ((Metric.AUROC, auroc), (Metric.AUPRC, auprc))
        }
        return cls(value=point, resampled_R=resampled, confidence=options.bootstrap.confidence)

    def mean(self, metric: Metric, names: list[str] | tuple[str, ...], *, minus: str | None = None) -> Interval:
        """Interval of the mean of several scores' metric, less that of one."""
        values = [self.value[metric][name] for name in names]
        lessened = None if minus is None else self.value[metric][minus]
        value = _mean(values)
        if value is None or (minus is not None and lessened is None):
            return Interval(value=None, low=None, high=None)
        low, high = None, None
        if self.resampled_R[metric]:
            value_R = np.mean([self.resampled_R[metric][name] for name in names], axis=0)
            value_R = value_R - (0.0 if minus is None else self.resampled_R[metric][minus])
            low, high = percentile_ends(value_R, confidence=self.confidence)
        return Interval(value=value - (lessened or 0.0), low=low, high=high)

    def system(self, title: str, names: list[str] | tuple[str, ...]) -> SystemResult:
        return SystemResult(name=title, auroc=self.mean(Metric.AUROC, names), auprc=self.mean(Metric.AUPRC, names))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _reader_results(study: ReaderStudy, table: _ScoreTable, options: StudyOptions) -> tuple[ReaderResult, ...]:
    results = []
    for reader, score_B in study.reader_JB.items():
        sensitivity, specificity = _recall_rates(study, (score_B > options.recall_above).astype(np.float64), options)
        results.append(
            ReaderResult(
                reader=reader,
                auroc=table.mean(Metric.AUROC, [reader]),
                auprc=table.mean(Metric.AUPRC, [reader]),
                hybrid_auroc=table.mean(Metric.AUROC, [_hybrid(reader)]),
                hybrid_auprc=table.mean(Metric.AUPRC, [_hybrid(reader)]),
                hybrid_gain=table.mean(Metric.AUROC, [_hybrid(reader)], minus=reader),
                sensitivity=sensitivity,
                specificity=specificity,
            )
        )
    return tuple(results)


def _recall_rates(study: ReaderStudy, recall_B: NDArray[np.float64], options: StudyOptions) -> tuple[Interval, Interval]:
    """Sensitivity and specificity of recalls, or of the share of readers who recall: then these are the readers' means."""
    is_known_B = study.label_B != UNKNOWN
    is_positive_B, recalls_B, exams_B = study.label_B[is_known_B] == 1, recall_B[is_known_B], study.exam_B[is_known_B]
    return (
        ratio_interval(recalls_B * is_positive_B, is_positive_B, exams_B, confidence=options.bootstrap.confidence),
        ratio_interval((1.0 - recalls_B) * ~is_positive_B, ~is_positive_B, exams_B, confidence=options.bootstrap.confidence),
    )


def _best(results: tuple[ReaderResult, ...], attribute: str) -> str | None:
    defined = {result.reader: getattr(result, attribute).value for result in results}
    known = {reader: value for reader, value in defined.items() if value is not None}
    return max(known, key=lambda reader: known[reader]) if known else None


def _model_points(
    study: ReaderStudy, options: StudyOptions, sensitivity: float | None, specificity: float | None
) -> tuple[OperatingPoint, ...]:
    score_B, confidence = study.model_MB[options.model], options.bootstrap.confidence
    points = points_at_specificity(score_B, study.label_B, study.exam_B, SPECIFICITIES, confidence=confidence)
    if specificity is not None and sensitivity is not None:
        points += points_at_specificity(
            score_B, study.label_B, study.exam_B, [specificity], confidence=confidence, basis="the readers' mean specificity"
        )
        points += points_at_sensitivity(
            score_B, study.label_B, study.exam_B, [sensitivity], confidence=confidence, basis="the readers' mean sensitivity"
        )
    return points


def _weight_curve(study: ReaderStudy, options: StudyOptions) -> tuple[HybridWeight, ...]:
    """Mean AUROC at each weight; its interval is over cases, with these readers (clustered DeLong)."""
    curve = []
    share_J = np.full(len(study.reader_JB), 1.0 / len(study.reader_JB))
    reach = float(ndtri((1.0 + options.bootstrap.confidence) / 2.0))
    for weight in WEIGHT_GRID:
        score_JB = np.stack(list(_mixed(study, options, weight).values()))
        value = _mean([auroc(score_B, study.label_B) for score_B in score_JB])
        covariance = auroc_covariance(score_JB, study.label_B, study.exam_B, method=CovarianceMethod.DELONG)
        interval = Interval(value=value, low=None, high=None)
        if value is not None and covariance is not None:
            deviation = reach * float(np.sqrt(contrast(covariance, share_J[None]).covariance_MM[0, 0]))
            interval = Interval(value=value, low=value - deviation, high=value + deviation)
        curve.append(HybridWeight(reader_weight=weight, mean_auroc=interval))
    return tuple(curve)


def _best_weight(curve: tuple[HybridWeight, ...]) -> HybridWeight | None:
    defined = [point for point in curve if point.mean_auroc.value is not None]
    return max(defined, key=lambda point: point.mean_auroc.value or 0.0) if defined else None


# ------------------------------------------------------------------------------------------- multi-reader multi-case


def _comparisons(study: ReaderStudy, options: StudyOptions) -> dict[str, object]:
    """Mean AUROCs and the three comparisons, by both covariances and all three inferences."""
    readers = len(study.reader_JB)
    hybrids = _mixed(study, options, options.hybrid_weight)
    score_SB = np.stack([*study.reader_JB.values(), *hybrids.values(), study.model_MB[options.model]])
    eye_JJ, zero_JJ, one_J1 = np.eye(readers), np.zeros((readers, readers)), np.ones((readers, 1))
    weights_JS = {
        ("readers", ""): np.hstack([eye_JJ, zero_JJ, 0 * one_J1]),
        ("hybrids", ""): np.hstack([zero_JJ, eye_JJ, 0 * one_J1]),
        ("readers", "model"): np.hstack([eye_JJ, zero_JJ, -one_J1]),
        ("readers", "hybrids"): np.hstack([eye_JJ, -eye_JJ, 0 * one_J1]),
        ("hybrids", "model"): np.hstack([zero_JJ, eye_JJ, -one_J1]),
    }
    tests: dict[tuple[str, str], list[MrmcTest]] = {key: [] for key in weights_JS}
    components: dict[str, float] = {}
    for method in CovarianceMethod:
        covariance = auroc_covariance(score_SB, study.label_B, study.exam_B, method=method)
        if covariance is None:
            continue
        if method is CovarianceMethod.JACKKNIFE and readers > 1:
            pairs = contrast(covariance, np.eye(2 * readers + 1)[: 2 * readers])
            components = asdict(variance_components(pairs, 2))
        for key, weight_JS in weights_JS.items():
            for inference in Inference:
                mean = reader_mean(
                    contrast(covariance, weight_JS), inference=inference, confidence=options.bootstrap.confidence
                )
                if mean is not None:
                    values = asdict(mean)
                    difference = values.pop("estimate")
                    tests[key].append(
                        MrmcTest(inference=inference.value, covariance=method.value, difference=difference, **values)
                    )
    return {
        "mrmc_means": {first: tuple(found) for (first, second), found in tests.items() if not second},
        "comparisons": tuple(
            MrmcComparison(
                first=first,
                second=second,
                tests=tuple(found),
                variance_components=components if (first, second) == ("readers", "hybrids") else {},
            )
            for (first, second), found in tests.items()
            if second
        ),
    }


# ------------------------------------------------------------------------------------------------------------- curves


def _curves(study: ReaderStudy, options: StudyOptions, results: tuple[ReaderResult, ...]) -> tuple[RocPoints, ...]:
    """The lines of Figure 3: model, mean reader, best reader, mean hybrid; then each reader."""
    best = _best(results, "auroc")
    if best is None:
        return ()
    hybrids = _mixed(study, options, options.hybrid_weight)
    return (
        _mean_curve("model", [study.model_MB[options.model]], study.label_B),
        _mean_curve("mean reader", list(study.reader_JB.values()), study.label_B),
        _mean_curve("best reader", [study.reader_JB[best]], study.label_B),
        _mean_curve("mean hybrid", list(hybrids.values()), study.label_B),
        *(_mean_curve(reader, [score_B], study.label_B) for reader, score_B in study.reader_JB.items()),
    )


def _mean_curve(name: str, score_JB: list[NDArray[np.float64]], label_B: NDArray[np.int64]) -> RocPoints:
    """Mean sensitivity at every false positive rate where any curve turns: its area is the mean of the areas."""
    curves = [curve for curve in (roc_curve(score_B, label_B) for score_B in score_JB) if curve is not None]
    rate_F = np.unique(np.concatenate([curve.false_positive_rate_T for curve in curves]))
    # A curve rises upright at some rates: its lowest and its highest point there, so that the mean rises upright too.
    low_F, high_F = (
        np.mean([_sensitivity_at(curve, rate_F, is_first=is_first) for curve in curves], axis=0) for is_first in (True, False)
    )
    return RocPoints(
        name=name,
        false_positive_rate=tuple(np.repeat(rate_F, 2).tolist()),
        true_positive_rate=tuple(np.stack([low_F, high_F], axis=1).ravel().tolist()),
    )


def _sensitivity_at(curve: RocCurve, rate_F: NDArray[np.float64], *, is_first: bool) -> NDArray[np.float64]:
    """Straight lines between the curve's corners; at a corner's own rate its first or its last sensitivity."""
    rate_T, sensitivity_T = curve.false_positive_rate_T, curve.true_positive_rate_T
    first_F = np.searchsorted(rate_T, rate_F, side="left")
    last_F = np.searchsorted(rate_T, rate_F, side="right") - 1
    corner_F = np.minimum(first_F if is_first else last_F, len(rate_T) - 1)
    return np.where(first_F <= last_F, sensitivity_T[corner_F], np.interp(rate_F, rate_T, sensitivity_T))
