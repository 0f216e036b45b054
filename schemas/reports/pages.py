"""What each stage reports: small, JSON-able, free of identifiers beyond pseudonyms. They cross task borders; data does not."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.reports.data import IngestReport, SeenBreasts, SplitReport, ValidationReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.report import ADDED_TO_REPORT, Report, ReportPath
from schemas.reports.training import TrainReport


class ExplainedImage(Report):
    """One Figure 4 panel."""

    image_id: str
    exam_id: str
    laterality: str
    view_position: str
    panel_path: ReportPath
    saliency_path: ReportPath
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

    output_dir: ReportPath
    images: tuple[ExplainedImage, ...]
    failures: tuple[Failure, ...] = Field((), description="The worst first, within each finding and kind")
    gallery_path: ReportPath | None = Field(
        None, description="The gallery's index page; an exam's page is <exam_id>.html beside it"
    )
    model_sha256: str = Field(
        "", description="SHA-256 of the weights whose maps and patches are drawn; empty = a former release's"
    )
    mapped_sha256: tuple[str, ...] = Field(
        (),
        json_schema_extra=ADDED_TO_REPORT,
        description="SHA-256 of each of several weights the mean of whose maps is drawn; empty = the maps are those of "
        "model_sha256 alone",
    )
    scored_sha256: str = Field(
        "", description="SHA-256 of the weights whose scores stand beside them: those that were evaluated"
    )


class ImageScore(Report):
    """Scores of one predicted image."""

    image_id: str
    exam_id: str
    laterality: str
    view_position: str
    scores: dict[str, float]
    gate_warnings: str
    breast_seen: float | None = Field(
        None, description="Share of the breast that the network's window holds; None = cut by a version that did not say"
    )


class PredictReport(Report):
    """What ``predict`` scored."""

    images: tuple[ImageScore, ...] = Field(description="The last ones, 10,000 or a few more: all stand in the table of scores")
    images_scored: int = Field(
        0, json_schema_extra=ADDED_TO_REPORT, description="In the table of scores; 0 = a former release's, all are in images"
    )
    images_new: int = Field(0, description="Scored by this run; the rest had been scored by the same weights")
    breast_scores: dict[str, dict[str, float]] = Field(description="'<exam_id> <laterality>' -> finding -> score")
    missing: tuple[str, ...] = Field(
        description="A sentence for each exam without all four standard views, and for each image whose breast was cut"
    )
    seen: SeenBreasts | None = Field(None, description="What the network's window holds of the breasts in the store")
    quarantined_by_reason: dict[str, int]
    advice: str | None
    panels: tuple[ReportPath, ...]
    scores_path: ReportPath
    report_path: ReportPath | None = None
    log_number: int = Field(
        0, json_schema_extra=ADDED_TO_REPORT, description="Last line of the prediction log by then; 0 = a former release's"
    )
    log_sha256: str = Field("", json_schema_extra=ADDED_TO_REPORT, description="Its digest")


class ReturnedExam(Report):
    """What a run of ``return_results`` came to for an exam."""

    exam_id: str
    state: str = Field(description="delivered, queued (it is tried again) or dead (given up, until somebody sends it again)")
    objects_sent: int = 0
    objects_there: int = Field(0, description="Those that an earlier try had brought there")
    reason: str = ""


class ReturnReport(Report):
    """What ``return_results`` sent back to a peer."""

    peer: str = Field("", description="Its name in the config; empty = no peer is configured, and nothing goes back")
    queued_new: int = Field(0, description="Exams that were predicted since the last run")
    exams: tuple[ReturnedExam, ...] = Field((), description="Those that were tried now")
    waiting: int = Field(0, description="Exams in the outbox that are tried by a later run")
    dead: int = Field(0, description="Exams that were given up: mammo pacs return --list names them with their reasons")
    stopped: str = Field("", description="Why the run did not try the rest; empty = it did")


class PipelineReport(Report):
    """The whole run."""

    ingest: IngestReport
    validation: ValidationReport
    split: SplitReport
    train: TrainReport
    evaluation: EvaluationReport
    explanation: ExplainReport
    report_path: ReportPath
    pdf_path: ReportPath | None = Field(None, description="None = not wanted, or there is no Chromium to print it")
    reporting_path: ReportPath | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="The page of reporting guidelines; None = a former release's"
    )
