"""What each stage reports: small, JSON-able, free of identifiers beyond pseudonyms. They cross task borders; data does not."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from schemas.layout import Severity


class Report(BaseModel):
    """Frozen; equal results give equal reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Provenance(Report):
    """Where a result comes from."""

    code_version: str
    config_sha256: str
    data_version: str = Field(description="sha256 over the published images, labels and splits it was made from")
    preprocess_version: str
    seed: int
    created_utc: str


class Interval(Report):
    """An estimate with its bootstrap interval; None = not defined on this data (one class only)."""

    value: float | None
    low: float | None
    high: float | None


class PhantomReport(Report):
    """What ``phantom`` wrote."""

    output_dir: Path
    patients: int
    exams: int
    images: int
    malignant_breasts: int
    benign_breasts: int


class IngestReport(Report):
    """What ``ingest`` found, published and refused."""

    store_dir: Path
    data_version: str
    files_found: int
    images_published: int
    images_new: int = Field(description="Published by this run; the rest was there already")
    exams: int
    exams_incomplete: int = Field(description="Exams without all four standard views")
    files_quarantined: int = Field(0, description="Files refused; one may break several rules")
    quarantined_by_reason: dict[str, int]
    warnings_by_rule: dict[str, int]
    labelled_breasts: int
    orphan_labels: int = Field(description="Label rows that join to no exam")
    unlabelled_breasts: int
    advice: str | None = Field(None, description="Which profile fits when everything was refused for one reason")


class CheckResult(Report):
    """One expectation's result; counts only, never data values."""

    suite: str
    check: str
    column: str
    severity: str
    is_met: bool
    unexpected_count: int
    unexpected_percent: float
    error: str | None = None


class ValidationReport(Report):
    """What ``validate`` checked."""

    data_version: str
    images: int
    checks: tuple[CheckResult, ...]

    @property
    def blocking(self) -> tuple[CheckResult, ...]:
        """Failed checks that stop the run."""
        return tuple(check for check in self.checks if not check.is_met and check.severity == Severity.BLOCK)

    @property
    def warnings(self) -> tuple[CheckResult, ...]:
        """Failed checks that do not stop the run."""
        return tuple(check for check in self.checks if not check.is_met and check.severity != Severity.BLOCK)


class SplitCount(Report):
    """Size of one split."""

    patients: int
    exams: int
    images: int
    benign_breasts: int
    malignant_breasts: int


class SplitReport(Report):
    """How patients were divided."""

    splits_path: Path
    data_version: str
    counts: dict[str, SplitCount]


class EpochRecord(Report):
    """One line of the training curve."""

    epoch: int
    train_loss: float
    tuning_malignant_auroc: float | None
    tuning_benign_auroc: float | None
    images_per_s: float
    is_best: bool


class TrainReport(Report):
    """What ``train`` made."""

    checkpoint_path: Path = Field(description="Best weights by tuning malignant AUROC, safetensors with sidecar")
    checkpoint_sha256: str
    run_dir: Path
    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    train_exams: int
    provenance: Provenance


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


class EvaluationReport(Report):
    """What ``evaluate`` measured on the test split."""

    scores_path: Path
    by_finding: dict[str, FindingMetrics]
    exams: int
    images: int
    provenance: Provenance


class ExplainedImage(Report):
    """One Figure 4 panel."""

    image_id: str
    exam_id: str
    laterality: str
    view_position: str
    panel_path: Path
    saliency_path: Path
    scores: dict[str, float]
    labels: dict[str, int]


class ExplainReport(Report):
    """What ``explain`` drew."""

    output_dir: Path
    images: tuple[ExplainedImage, ...]


class ImageScore(Report):
    """Scores of one predicted image."""

    image_id: str
    exam_id: str
    laterality: str
    view_position: str
    scores: dict[str, float]
    gate_warnings: str


class PredictReport(Report):
    """What ``predict`` scored."""

    images: tuple[ImageScore, ...]
    breast_scores: dict[str, dict[str, float]] = Field(description="'<exam_id> <laterality>' -> finding -> score")
    missing: tuple[str, ...] = Field(description="A sentence for each exam without all four standard views")
    quarantined_by_reason: dict[str, int]
    advice: str | None
    panels: tuple[Path, ...]
    scores_path: Path
    report_path: Path | None = None


class PipelineReport(Report):
    """The whole run."""

    ingest: IngestReport
    validation: ValidationReport
    split: SplitReport
    train: TrainReport
    evaluation: EvaluationReport
    explanation: ExplainReport
    report_path: Path
