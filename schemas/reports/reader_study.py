"""What ``mammo reproduce reader-study`` reports: readers, models and both together, as in Figure 3 of the paper."""

from __future__ import annotations

from pydantic import Field

from schemas.reports.evaluation import OperatingPoint
from schemas.reports.report import Interval, Report


class ReaderResult(Report):
    """One reader, alone and averaged with the model."""

    reader: str
    auroc: Interval
    auprc: Interval
    hybrid_auroc: Interval
    hybrid_auprc: Interval
    hybrid_gain: Interval = Field(description="AUROC of the hybrid minus that of the reader, same resamples")
    sensitivity: Interval = Field(description="Sensitivity of the reader's recalls; see ``recall_above``")
    specificity: Interval


class SystemResult(Report):
    """A set of scores that stands alone: a model, or a mean over readers."""

    name: str
    auroc: Interval
    auprc: Interval


class HybridWeight(Report):
    """Mean over readers of the AUROC of ``reader_weight`` x reader + the rest x model."""

    reader_weight: float
    mean_auroc: Interval


class MrmcTest(Report):
    """One Obuchowski-Rockette test; None = not defined."""

    inference: str = Field(description="What is random: to whom the result applies")
    covariance: str = Field(description="``jackknife`` or ``delong``")
    difference: float
    standard_error: float
    degrees_of_freedom: float | None = Field(description="None = normal distribution")
    statistic: float | None
    p_value: float
    low: float
    high: float


class MrmcComparison(Report):
    """Mean over readers of AUROC of ``first`` minus that of ``second``."""

    first: str
    second: str
    tests: tuple[MrmcTest, ...]
    variance_components: dict[str, float] = Field(
        default_factory=dict, description="Factorial comparisons only, by jackknife: MS and Cov terms"
    )


class RocPoints(Report):
    """A ROC curve as drawn; the mean over readers is taken of sensitivities at equal false positive rates."""

    name: str
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


class ReaderStudyReport(Report):
    """Figure 3 of the paper and its text, on any site's readers."""

    source_sha256: str
    notes: tuple[str, ...]
    breasts: int
    exams: int
    positive_breasts: int
    positive_exams: int
    unlabelled_breasts: int = Field(description="Left out everywhere")
    model: str
    hybrid_weight: float = Field(description="Share of the reader in the hybrid")
    recall_above: float = Field(description="A reader recalls a breast above this probability of malignancy")
    confidence: float
    resamples: int
    seed: int
    readers: tuple[ReaderResult, ...]
    systems: tuple[SystemResult, ...]
    mean_reader: SystemResult
    mean_hybrid: SystemResult
    best_reader: str | None
    best_hybrid: str | None
    reader_panel: SystemResult = Field(description="The mean of all readers' scores, as one system")
    panel_hybrid: SystemResult
    readers_mean_sensitivity: Interval
    readers_mean_specificity: Interval
    model_points: tuple[OperatingPoint, ...]
    weight_curve: tuple[HybridWeight, ...]
    best_weight: HybridWeight | None
    mrmc_means: dict[str, tuple[MrmcTest, ...]] = Field(description="Mean AUROC of readers, of hybrids; no p-value is meant")
    comparisons: tuple[MrmcComparison, ...]
    curves: tuple[RocPoints, ...]
