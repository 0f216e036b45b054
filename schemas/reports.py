"""What each stage reports: small, JSON-able, free of identifiers beyond pseudonyms. They cross task borders; data does not."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


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
        return tuple(check for check in self.checks if not check.is_met and check.severity == "critical")

    @property
    def warnings(self) -> tuple[CheckResult, ...]:
        """Failed checks that do not stop the run."""
        return tuple(check for check in self.checks if not check.is_met and check.severity != "critical")


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
