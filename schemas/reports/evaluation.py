"""What evaluate measured: ranking, operating points, calibration, subgroups, localisation, several models."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from schemas.reports.report import Interval, Provenance, Report
from schemas.reports.training import EnsembleMember


class AurocDifference(Report):
    """Of two scores of the same breasts: DeLong's test with patients as clusters; None = not defined."""

    difference: float
    low: float
    high: float
    p_value: float


class ModelMetrics(Report):
    """One model of several, alone, on one finding."""

    name: str
    sha256: str
    auroc: Interval
    auprc: Interval
    localization_f1: float | None
    localization_precision: float | None
    localization_recall: float | None
    minus_ensemble: AurocDifference | None = Field(description="AUROC of this model less that of the mean score")


class ModelSpread(Report):
    """Mean over models of a metric, as Table 1 gives it for its five."""

    mean: Interval = Field(description="Its interval is over patients, with these models")
    standard_deviation: float | None = Field(description="Over models, n - 1; None = one model, or not defined")


class LocalizationIntervals(Report):
    """Means over images with a mask, with intervals over patients."""

    f1: Interval
    precision: Interval
    recall: Interval
    pointing: Interval
    lesions_reached: Interval = Field(description="Share of lesions that one of the K patches holds")


class BoxLocalization(Report):
    """Where lesions are marked by boxes only."""

    images: int
    mass_inside: Interval = Field(description="Mean share of an image's saliency that lies in its boxes")
    area_inside: float = Field(description="Mean share of the window that boxes cover: what an even map would have inside")
    pointing: Interval
    lesions: int = Field(description="Boxes; those that overlap count as one")
    lesions_reached: int


class OperatingPoint(Report):
    """What one threshold does: a breast is recalled if its score is at or above it.

    An interval of a point chosen by a target counts the choice: every resample picks its threshold anew.
    """

    criterion: str = Field(description="``specificity``, ``sensitivity`` or ``threshold``: what was fixed")
    target: float = Field(description="The fixed value")
    basis: str = Field("", description="Where the target or threshold comes from, in words")
    threshold: float | None = Field(description="None = above every score: nothing is recalled")
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: Interval
    specificity: Interval
    recall_rate: Interval
    positive_predictive_value: Interval = Field(description="Of the recalled breasts; the prevalence of the data is in it")


class CalibrationBin(Report):
    """One point of the reliability curve."""

    lowest_score: float
    highest_score: float
    breasts: int
    positive_breasts: int
    mean_score: float
    observed: Interval = Field(description="Share of the bin's breasts that have the finding")


class CalibrationReport(Report):
    """Do scores mean probabilities?"""

    binning: str = Field(description="How breasts were put into bins, in words")
    bins: tuple[CalibrationBin, ...]
    brier: Interval
    brier_of_prevalence: float | None = Field(description="Brier score of giving every breast the prevalence")
    expected_calibration_error: Interval
    mean_score: float | None
    prevalence: float | None


class TemperatureFit(Report):
    """One number that divides logits; fitted on the tuning split, kept beside the weights, never fitted on test."""

    temperature: float | None = Field(description="None = not determined by these breasts; ``reason`` says why")
    reason: str = ""
    breasts: int
    positive_breasts: int
    log_loss_before: float | None = None
    log_loss_after: float | None = None


class TemperatureFile(Report):
    """``temperature.json`` beside the weights: which weights, fitted on what."""

    checkpoint_sha256: str
    data_version: str
    fitted_on: str = "breast-level scores of the tuning split"
    by_finding: dict[str, TemperatureFit]


class SubgroupMetrics(Report):
    """One group of breasts. Where it is too small, counts only."""

    attribute: str
    group: str
    breasts: int
    patients: int
    positive_breasts: int
    too_few: str | None = Field(None, description="Why no metric is given; None = enough")
    auroc: Interval
    sensitivity: Interval = Field(description="At the threshold of the whole test split, not of the group")
    specificity: Interval


class FindingMetrics(Report):
    """Breast-level and localisation metrics of one finding."""

    breasts: int
    positive_breasts: int
    auroc: Interval
    auprc: Interval
    localization_images: int
    localization_f1: float | None
    localization_precision: float | None
    localization_recall: float | None
    pointing_fraction: float | None = Field(None, description="Share of masked images whose saliency peaks on a lesion")
    lesions: int = Field(0, description="Lesions in the masks of the test split")
    lesions_reached: int = Field(0, description="Of these, lesions that one of the K patches holds")
    operating_points: tuple[OperatingPoint, ...] = ()
    calibration: CalibrationReport | None = None
    calibration_scaled: CalibrationReport | None = Field(None, description="After division by the fitted temperature")
    temperature: TemperatureFit | None = None
    subgroups: tuple[SubgroupMetrics, ...] = ()
    subgroup_threshold: float | None = Field(None, description="Where subgroup sensitivity and specificity are read")
    subgroups_not_recorded: tuple[str, ...] = Field((), description="Attributes that the store does not record")
    exams: int = Field(0, description="Exams with a known label: present if it is in a breast")
    positive_exams: int = 0
    exam_auroc: Interval | None = Field(None, description="Exam score = the higher one of its breasts'")
    exam_auprc: Interval | None = None
    models: tuple[ModelMetrics, ...] = Field((), description="Each model alone, where several are evaluated")
    auroc_of_models: ModelSpread | None = None
    auprc_of_models: ModelSpread | None = None
    localization_intervals: LocalizationIntervals | None = None
    boxes: BoxLocalization | None = Field(None, description="Images that have boxes and no mask")


class EvaluationReport(Report):
    """What ``evaluate`` measured on the test split. With several models, ``by_finding`` is of their mean score."""

    scores_path: Path
    model_sha256: str = Field("", description="Of the weights; of several, sha256 over theirs")
    models: tuple[EnsembleMember, ...] = ()
    localization_model: str = Field("", description="Whose saliency is measured: best malignant F1 on tuning (paper 3.3)")
    by_finding: dict[str, FindingMetrics]
    exams: int
    images: int
    provenance: Provenance
