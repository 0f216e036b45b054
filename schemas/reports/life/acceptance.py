"""What ``mammo accept`` says of a model on a site's exams: a verdict, the rules behind it, and a threshold for each device."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.config.evaluation import AcceptanceRule
from schemas.reports.evaluation import EvaluationReport, JudgedPatients
from schemas.reports.pages import Failure
from schemas.reports.report import Interval, Provenance, Report, ReportPath, measured


class Verdict(StrEnum):
    """What the rules say together."""

    ACCEPTED = "accepted"
    WITH_REMARKS = "accepted with remarks"
    NOT_ENOUGH = "not enough to decide"
    REFUSED = "refused"


class RuleResult(Report):
    """One rule on this cohort."""

    rule: AcceptanceRule
    is_met: bool | None = Field(description="None = these exams do not decide it")
    is_remark: bool = Field(description="True if the config lets it decide nothing")
    reason: str = Field(description="Why, in sentences")


class GroupRecall(Report):
    """Who is recalled among the exams of one group."""

    attribute: str
    group: str
    exams: int
    recall_rate: Interval
    is_within: bool | None = Field(description="Within the margin of the target; None = not decided, or no target")


class DeviceRecall(Report):
    """One device with one software version: what the locked threshold recalls, and which threshold would recall the target."""

    name: str = Field(description="Manufacturer, model, and the pseudonym of the serial number")
    software: str
    exams: int
    patients: int
    mean_score: float
    recall_rate: Interval = Field(description="At the locked threshold")
    is_within: bool | None = Field(description="Within the margin of the target; None = not decided, or no target")
    proposed: float | None = Field(
        description="Threshold that would recall the target here; None = too few exams, or no target"
    )
    expected: Interval = Field(description="Share of later exams that it would recall")
    found: Interval = Field(description="Of exams with the finding, the share that it recalls; not defined without labels")
    unlike: tuple[str, ...] = Field(description="Columns of numbers in which its images are unlike the training's")
    needed_patients: int = Field(description="That are missing before a threshold can be proposed; 0 = none, or no target")


class ImageShift(Report):
    """One column of the images, held against those that the weights learnt from."""

    column: str
    excess: float | None = Field(description="Population stability index less what chance gives; None = too few exams")
    is_shifted: bool
    here: str = Field(description="What the images here are like, in words")
    there: str = Field(description="What the training images were like, in words")


class CohortCounts(Report):
    """The exams that judged, and what is known of them."""

    exams: int = measured("Exams", "Published here, of patients whom the weights are not known to have seen")
    patients: int = measured("Patients", "Whose exams these are")
    images: int = measured("Images", "Of these exams")
    left_out_patients: int = measured("Patients left out", "The weights were trained or tuned on them")
    labelled_exams: int = measured("Exams with a label", "Of the finding, in every breast or present in one")
    positive_exams: int = measured("Exams with the finding", "Of these")
    read_exams: int = measured("Exams with a reader's decision", "By the BI-RADS categories of evaluate.recalled_birads")
    recall_rate: Interval = measured("Recall rate", "Share of exams with a breast at or above the locked threshold")
    read_recall_rate: Interval = measured("Readers' recall rate", "Share of the exams with a decision that readers recalled")
    recall_less_readers: Interval = measured("Recall rate less the readers'", "On the exams with a decision, paired")
    read_recalled: Interval = measured(
        "Recalled of those that readers recalled", "Share of the exams recalled by readers that the network recalls too"
    )
    read_not_recalled: Interval = measured(
        "Recalled of those that readers did not", "Share of the exams not recalled by readers that the network recalls"
    )


class AcceptanceReport(Report):
    """What ``mammo accept`` found; beside it lie the page, the tables of scores and the gallery."""

    model_sha256: str
    model_dir: ReportPath
    verdict: Verdict
    rules: tuple[RuleResult, ...]
    finding: str
    threshold: float | None = Field(description="Locked; None = above every score of the own site, or none is kept")
    threshold_basis: str = Field(description="Where it comes from, in words; empty = none is kept")
    target: float | None = Field(description="Recall rate that is wanted; None = nobody says")
    target_basis: str
    cohort: CohortCounts
    groups: tuple[GroupRecall, ...]
    devices: tuple[DeviceRecall, ...]
    images: tuple[ImageShift, ...]
    image_note: str = Field(description="Why images were not held against those of the training; empty = they were")
    failures: tuple[Failure, ...] = Field(description="Breasts on the wrong side of the locked threshold, the worst first")
    evaluation: EvaluationReport | None = Field(description="What labels allow to measure; None = no breast has one")
    patients: JudgedPatients
    provenance: Provenance
    page_path: ReportPath
    gallery_path: ReportPath | None = None
