"""What each stage reports: small, JSON-able, free of identifiers beyond pseudonyms. They cross task borders; data does not."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from schemas.layout import Severity
from schemas.reports.report import BoxLocalization, EnsembleMember, LocalizationIntervals, ModelMetrics, ModelSpread
from schemas.reports.report import Interval as Interval
from schemas.reports.report import Report as Report


class Provenance(Report):
    """Where a result comes from."""

    code_version: str
    config_sha256: str
    data_version: str = Field(description="sha256 over the published images, labels and splits it was made from")
    preprocess_version: str
    seed: int
    created_utc: str


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
    files_still_copied: int = Field(0, description="Files that somebody was writing; left for the next run")
    images_copied: int = Field(0, description="Images that came again in another file with the same pixels; one is used")
    images_contested: int = Field(0, description="SOPInstanceUIDs with different images, patients or exams: none is used")
    images_withdrawn: int = Field(0, description="Published before this run and not any more")
    images_without_source: int = Field(0, description="Published, their file gone from the source folder: kept")
    contact_sheet_path: Path | None = Field(None, description="Every refused file with its reasons and a small picture")


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
    page_path: Path

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
    settings_sha256: str = Field("", description="Digest of the split section: earlier splits are kept only under the same")
    patients_kept: int = Field(0, description="Patients whose split was given by an earlier run")


class EpochRecord(Report):
    """One line of the training curve."""

    epoch: int
    train_loss: float
    tuning_malignant_auroc: float | None
    tuning_benign_auroc: float | None
    images_per_s: float
    is_best: bool
    tuning_localization_f1: float | None = Field(None, description="Mean over findings of the F1 on tuning views with a mask")
    is_best_localization: bool = False
    memory_mib: float = Field(0.0, description="Most memory taken so far: of the GPU if there is one, else of the process")


class PretrainEpoch(Report):
    """One line of the pre-training curve."""

    epoch: int
    train_loss: float
    tuning_loss: float | None = Field(description="Mean cross-entropy of tuning views with a category; None = there are none")
    tuning_accuracy: float | None
    images_per_s: float
    is_best: bool
    is_best_localization: bool = False
    memory_mib: float = 0.0


class PretrainReport(Report):
    """What ``pretrain`` made."""

    checkpoint_path: Path = Field(description="Weights of the lowest tuning loss")
    checkpoint_sha256: str
    run_dir: Path
    epochs: tuple[PretrainEpoch, ...]
    best_epoch: int
    train_exams: int
    provenance: Provenance


class TrainReport(Report):
    """What ``train`` made."""

    checkpoint_path: Path = Field(description="Best weights by tuning malignant AUROC, safetensors with sidecar")
    checkpoint_sha256: str
    run_dir: Path
    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    train_exams: int
    splits_sha256: str = Field("", description="Of the splits it was trained on: only their test part may judge it")
    provenance: Provenance
    localization_checkpoint_path: Path | None = Field(
        None, description="Best weights by tuning localisation F1; None = no tuning view has a lesion mask"
    )


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


class FailureKind(StrEnum):
    """How a breast was misjudged at a threshold."""

    FALSE_NEGATIVE = "false negative"
    FALSE_POSITIVE = "false positive"


class Failure(Report):
    """A test breast on the wrong side of the threshold; its exam has a page in the gallery."""

    finding: str
    kind: FailureKind
    exam_id: str
    laterality: str
    score: float
    threshold: float


class ExplainReport(Report):
    """What ``explain`` drew."""

    output_dir: Path
    images: tuple[ExplainedImage, ...]
    failures: tuple[Failure, ...] = Field((), description="The worst first, within each finding and kind")
    gallery_path: Path | None = Field(None, description="The gallery's index page; an exam's page is <exam_id>.html beside it")


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
    images_new: int = Field(0, description="Scored by this run; the rest had been scored by the same weights")
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
    pdf_path: Path | None = Field(None, description="None = not wanted, or there is no Chromium to print it")


class SearchForecast(Report):
    """What a search will take, from a few measured steps."""

    device: str
    trials: int = Field(description="Trials still to run")
    seconds_per_image: float = Field(description="Of a training step, forward and backward")
    tuning_seconds_per_image: float
    trial_hours: float
    total_hours: float = Field(description="Of all workers together: GPU-hours on GPUs")
    wall_hours: float
    disk_gib: float
    disk_free_gib: float


class SearchedModel(Report):
    """One of the best trials."""

    trial: int
    tuning_malignant_auroc: float
    checkpoint_path: Path
    checkpoint_sha256: str
    parameters: dict[str, float]


class SearchReport(Report):
    """What ``search`` found."""

    study_dir: Path
    ensemble_path: Path = Field(description="The best trials' weights, for evaluate.ensemble")
    page_path: Path
    best: tuple[SearchedModel, ...]
    trials_complete: int
    trials_pruned: int
    trials_failed: int
    importance: dict[str, float] = Field(description="Share of the AUROC's variance by parameter; empty = too few trials")
    forecast: SearchForecast | None = Field(description="None = nothing was left to run")
    next_command: str
