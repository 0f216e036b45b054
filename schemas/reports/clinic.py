"""What is asked beyond one test split of one site: thresholds fixed elsewhere, a clinic's own rates, the folds of a cohort."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.reports.report import ADDED_TO_REPORT, Interval, Provenance, Report, ReportPath, measured


class KeptThreshold(Report):
    """A threshold that keeps a specificity on a tuning split, and what it does to that split's breasts."""

    specificity: float = Field(description="The target")
    threshold: float | None = Field(description="A breast is recalled at or above it; None = above every score")
    sensitivity: float | None = Field(description="On the tuning breasts that have the finding")
    kept_specificity: float | None = Field(description="On the tuning breasts that lack it: at least the target")
    breasts: int
    positive_breasts: int
    patients: int
    positive_patients: int


class OperatingPointsFile(Report):
    """``operating_points.json`` beside the weights: what another site uses as it is. ``form`` is raised with its meaning."""

    form: Literal[1] = 1
    checkpoint_sha256: str
    chosen_on: str = "breast-level scores of the tuning split"
    provenance: Provenance = Field(description="Of the evaluation that chose them: code, data, splits, preprocessing, time")
    by_finding: dict[str, tuple[KeptThreshold, ...]]


class RestatedPoint(Report):
    """What a threshold would do in a population with a stated share of findings; its sensitivity and specificity as measured.

    Intervals hold the uncertainty of sensitivity and specificity; the share is taken as it was stated.
    """

    basis: str = Field(description="Where the threshold comes from, in words")
    threshold: float
    prevalence: float = Field(description="The stated share of breasts with the finding")
    recall_rate: Interval
    positive_predictive_value: Interval
    negative_predictive_value: Interval
    found_per_1000: Interval = Field(description="Breasts with the finding that are recalled, of 1,000 breasts")
    missed_per_1000: Interval = Field(description="Breasts with the finding that are not recalled, of 1,000 breasts")
    shifted_intercept: float | None = Field(
        None, description="Of the recalibration in use, moved to this share of findings (Saerens 2002); None = there is none"
    )


class NetBenefit(Report):
    """What recalling at one risk is worth, in breasts with the finding found for nothing, of one breast."""

    threshold: float = Field(
        description="Recalled at or above this risk: as many false recalls as its odds say weigh one found"
    )
    network: Interval
    recall_all: float
    recalled: float = Field(description="Share of breasts at or above it, at this share of findings")


class DecisionCurve(Report):
    """Net benefit over a range of risks (Vickers and Elkin 2006); recalling none has a net benefit of 0."""

    prevalence: float = Field(description="Share of breasts with the finding")
    is_stated: bool = Field(description="True if the config states it; False = these breasts' own")
    basis: str = Field(description="How scores became risks, in words")
    points: tuple[NetBenefit, ...]


class ProgrammeReport(Report):
    """What a screening programme counts: exams, with cancers by their dates of diagnosis, at one threshold.

    The share of cancers is an outcome here: of a test split that was divided by finding these are not a programme's numbers.
    """

    threshold: float | None = Field(description="An exam is recalled if a breast is; None = none is defined")
    threshold_basis: str = Field("", description="Where the threshold comes from, in words")
    recalled_birads: tuple[int, ...] = Field(description="BI-RADS categories by which the original read recalled")
    exams: int = measured("Exams followed", "Of which it is known whether a cancer was diagnosed within 12 months")
    exam_patients: int = measured("Patients of these", "Whose exams they are")
    exams_24: int = measured(
        "Exams followed, 24 months", "Of which it is known whether a cancer was diagnosed within 24 months"
    )
    cancers_12: int = measured("Cancers within 12 months", "Exams with a cancer diagnosed within 365 days of them")
    cancers_24: int = measured("Cancers within 24 months", "Exams with a cancer diagnosed within 730 days of them")
    screen_detected: int = measured("Screen-detected cancers", "Recalled by the original read, and diagnosed within 12 months")
    interval_cancers: int = measured(
        "Interval cancers", "All others within 24 months of which an original read is recorded: it did not lead to them"
    )
    without_read: int = measured(
        "Cancers without a read",
        "Within 24 months, with no BI-RADS category recorded for the exam, or 0 or 6 where these are not said to recall",
    )
    undated: int = measured(
        "Exams left out",
        "With a cancer without a date or before the exam, without a known label, or not followed for 12 months",
    )
    recall_rate: Interval = measured("Recall rate", "Share of exams that the network recalls")
    detection_rate: Interval = measured(
        "Cancers detected per 1,000",
        "Exams that the network recalls and that had a cancer within 12 months, of 1,000 exams",
        digits=1,
    )
    ppv1: Interval = measured("PPV1", "Share of the network's recalls that had a cancer within 12 months")
    npv_12: Interval = measured("NPV, 12 months", "Share of exams not recalled that had no cancer within 12 months")
    npv_24: Interval = measured("NPV, 24 months", "Share of exams not recalled that had no cancer within 24 months")
    sensitivity_12: Interval = measured(
        "Sensitivity, 12 months", "Share of exams with a cancer within 12 months that it recalls"
    )
    sensitivity_24: Interval = measured(
        "Sensitivity, 24 months", "Share of exams with a cancer within 24 months that it recalls"
    )
    specificity_12: Interval = measured("Specificity, 12 months", "Share of exams without one that it does not recall")
    of_screen_detected: Interval = measured("Screen-detected cancers recalled", "Share of these exams that the network recalls")
    of_interval_cancers: Interval = measured("Interval cancers recalled", "Share of these exams that the network recalls")
    read_recall_rate: Interval = measured("Recall rate of the original read", "Of the exams whose read is recorded")
    read_detection_rate: Interval = measured(
        "Cancers detected per 1,000 by the original read", "Of the exams whose read is recorded", digits=1
    )
    read_ppv1: Interval = measured("PPV1 of the original read", "Share of its recalls that had a cancer within 12 months")


class FoldMetrics(Report):
    """One fold: a network that was trained on all others, on the patients of this one."""

    name: str
    model_sha256: str
    patients: int = measured("Patients", "Test patients of the fold with a known label")
    positive_patients: int = measured("Patients with the finding", "In some breast")
    breasts: int = measured("Breasts", "Test breasts with a known label")
    positive_breasts: int = measured("Breasts with the finding", "Of these")
    auroc: Interval = measured("AUROC", "Of the fold's network on its test patients")
    auprc: Interval = measured("AUPRC", "Of the fold's network on its test patients")
    threshold: float | None = measured(
        "Threshold", "Chosen on the fold's tuning split; not defined also where it is above every score there"
    )
    sensitivity: Interval = measured("Sensitivity", "At that threshold")
    specificity: Interval = measured("Specificity", "At that threshold")


class PooledMetrics(Report):
    """One finding over all folds. Every patient was judged once, by a network that never saw her."""

    folds: tuple[FoldMetrics, ...]
    patients: int = measured("Patients", "Of all folds; each is judged once")
    positive_patients: int = measured("Patients with the finding", "In some breast")
    breasts: int = measured("Breasts", "Of all folds, with a known label")
    positive_breasts: int = measured("Breasts with the finding", "Of these")
    auroc: Interval = measured(
        "AUROC, pooled", "All folds' breasts in one ranking; a scale that differs between networks lowers it"
    )
    mean_auroc: float | None = measured("AUROC, mean of folds", "Each fold ranked by its own network")
    auroc_deviation: float | None = measured(
        "Standard deviation of AUROC", "Over folds, with n - 1: of the luck of patients and of training alike"
    )
    auprc: Interval = measured("AUPRC, pooled", "All folds' breasts in one ranking")
    sensitivity: Interval = measured(
        "Sensitivity, pooled", "Each breast at the threshold that its own fold's tuning split gave"
    )
    specificity: Interval = measured(
        "Specificity, pooled", "Each breast at the threshold that its own fold's tuning split gave"
    )


class CrossValidationReport(Report):
    """What ``crossvalidate`` measured."""

    folds: int
    specificity: float
    by_finding: dict[str, PooledMetrics]
    data_version: str
    page_path: ReportPath
    provenance: Provenance
    ensemble_path: ReportPath | None = Field(
        None,
        json_schema_extra=ADDED_TO_REPORT,
        description="The folds' networks as one model, the mean of their scores; None = of a former release",
    )
