"""What evaluate measured: ranking, operating points, calibration, subgroups, localisation, several models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.config.network import NetworkConfig
from schemas.reports.clinic import DecisionCurve, KeptThreshold, ProgrammeReport, RestatedPoint
from schemas.reports.report import ADDED_TO_REPORT, Interval, Provenance, Report, ReportPath, measured
from schemas.reports.reviewed import BeforeAndAfter, GroupDifference, LesionLevel, OriginalRead
from schemas.reports.training import EnsembleMember


class AurocDifference(Report):
    """Of two scores of the same breasts: DeLong's test with patients as clusters; None = not defined."""

    difference: float = measured("Difference of AUROC", "Of the first score less the second")
    low: float = measured("Its lower end", "Of its interval over patients")
    high: float = measured("Its upper end", "Of its interval over patients")
    p_value: float = measured("p", "Two-sided, DeLong's test with patients as clusters", digits=4)


class ModelMetrics(Report):
    """One model of several, alone, on one finding."""

    name: str
    sha256: str
    auroc: Interval = measured("AUROC", "Probability that a positive breast ranks above a negative one, by this model alone")
    auprc: Interval = measured("AUPRC", "Average precision over breasts, by this model alone")
    localization_f1: float | None = measured("Localisation F1", "Mean over images with a mask")
    localization_precision: float | None = measured("Localisation precision", "Mean over images with a mask")
    localization_recall: float | None = measured("Localisation recall", "Mean over images with a mask")
    minus_ensemble: AurocDifference | None = Field(description="AUROC of this model less that of the mean score")


class ModelSpread(Report):
    """Mean over models of a metric, as Table 1 gives it for its five."""

    mean: Interval = measured("Mean over models", "Its interval is over patients, with these models")
    standard_deviation: float | None = measured("Standard deviation over models", "With n - 1; not defined for one model")


class LocalizationIntervals(Report):
    """Means over images with a mask, with intervals over patients."""

    patients: int = measured("Patients with a mask", "Whose images these are", default=0, is_added=True)
    f1: Interval = measured("F1", "Harmonic mean of precision and recall of the saliency, mean over images with a mask")
    precision: Interval = measured("Precision", "How much of the saliency falls on the lesion")
    recall: Interval = measured("Recall", "How much of the lesion the saliency covers")
    pointing: Interval = measured("Saliency peaks on a lesion", "Share of images with a mask")
    lesions_reached: Interval = measured(
        "Lesions in a patch", "Share of lesions of which one of the K patches holds at least half"
    )
    chance_f1: float | None = measured(
        "F1 by chance",
        "Of a map that is 1 on the whole breast: no map that ignores the image has more",
        default=None,
        is_added=True,
    )
    chance_pointing: float | None = measured(
        "Peak on a lesion by chance", "Share of the breast's cells that hold a lesion", default=None, is_added=True
    )


class BoxLocalization(Report):
    """Where lesions are marked by boxes only."""

    images: int = measured("Images with boxes", "Images that have boxes and no mask")
    patients: int = measured("Patients with boxes", "Whose images these are", default=0, is_added=True)
    mass_inside: Interval = measured("Saliency inside boxes", "Mean share of an image's saliency that lies in its boxes")
    area_inside: float = measured("Area of boxes", "Mean share of the window that boxes cover: an even map has so much inside")
    pointing: Interval = measured("Saliency peaks in a box", "Share of images with boxes")
    lesions: int = measured("Boxes", "Those that overlap count as one")
    lesions_reached: int = measured("Boxes in a patch", "Boxes of which one of the K patches holds at least half")
    chance_pointing: float | None = measured(
        "Peak in a box by chance", "Share of the breast's cells that hold a part of a box", default=None, is_added=True
    )


class LesionsSeen(Report):
    """What the network's window holds of the marked lesions: what it lost counts as missed wherever lesions are measured."""

    lesions: int = measured("Marked lesions", "Of masks and of boxes, with those outside the window")
    cut: int = measured("Cut by the window", "Lesions of which the window holds a part")
    lost: int = measured("Outside the window", "Lesions of which the window holds nothing: nobody could find them in it")
    mean_seen: float = measured("Lesion seen, mean", "Mean share of a lesion inside the window")
    least_seen: float = measured("Lesion seen, least", "Share inside the window of the lesion that has least of it there")


class OperatingPoint(Report):
    """What one threshold does: a breast is recalled if its score is at or above it.

    Intervals are over patients; without ends where fewer than five patients have, or lack, the finding. Of a point chosen by a
    target on the same breasts, the interval of the other rate counts the choice.
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
    positive_predictive_value: Interval = Field(
        description="Share of recalled breasts that have the finding, at this data's prevalence"
    )
    negative_predictive_value: Interval | None = Field(
        None,
        json_schema_extra=ADDED_TO_REPORT,
        description="Share of breasts not recalled that lack it, at this data's prevalence",
    )
    patients: int = Field(0, json_schema_extra=ADDED_TO_REPORT, description="Whose breasts these are")
    positive_patients: int = Field(
        0, json_schema_extra=ADDED_TO_REPORT, description="Of these, with the finding in some breast"
    )


class CalibrationBin(Report):
    """One point of the reliability curve."""

    lowest_score: float
    highest_score: float
    breasts: int
    positive_breasts: int
    patients: int = Field(0, json_schema_extra=ADDED_TO_REPORT)
    positive_patients: int = Field(0, json_schema_extra=ADDED_TO_REPORT)
    mean_score: float
    observed: Interval = Field(description="Share of the bin's breasts that have the finding")


class CalibrationReport(Report):
    """Do scores mean probabilities?"""

    binning: str = Field(description="How breasts were put into bins, in words")
    bins: tuple[CalibrationBin, ...]
    intercept: Interval | None = measured(
        "Calibration intercept",
        "Logit by which findings are more (above 0) or fewer than the scores say on the whole; 0 is right",
        default=None,
        is_added=True,
    )
    slope: Interval | None = measured(
        "Calibration slope",
        "How much of a difference of scores (logits) is a difference of risk; 1 is right, below 1 scores are too extreme",
        default=None,
        is_added=True,
    )
    observed_to_expected: Interval | None = measured(
        "Observed to expected", "Breasts with the finding over the sum of scores; 1 is right", default=None, is_added=True
    )
    brier: Interval = measured("Brier score", "Mean squared distance of a score from what was there; lower is better")
    brier_of_prevalence: float | None = measured("Brier score of the prevalence", "Of giving every breast the prevalence")
    brier_skill: float | None = measured(
        "Brier skill", "Share of the prevalence's Brier score that is saved; below 0 is worse", default=None, is_added=True
    )
    expected_calibration_error: Interval = measured(
        "Calibration error", "Mean distance of score and observed share over bins; never 0 by chance, so without an interval"
    )
    mean_score: float | None = measured("Mean score", "Of all breasts with a known label")
    prevalence: float | None = measured("Prevalence", "Share of these breasts that have the finding")


class RecalibrationFit(Report):
    """``sigmoid(intercept + slope * logit(score))``; fitted on the tuning split, never on test, kept beside the weights."""

    intercept: float | None = measured(
        "Intercept", "Added to the scaled logit; not defined where these breasts do not determine it"
    )
    slope: float | None = measured("Slope", "Multiplies the logit of a score")
    reason: str = ""
    breasts: int = measured("Tuning breasts", "With a known label: what it was fitted on")
    positive_breasts: int = measured("Of these with the finding", "Tuning breasts that have the finding")
    patients: int = measured("Tuning patients", "Whose breasts these are")
    positive_patients: int = measured("Of these with the finding", "Tuning patients with the finding in some breast")
    prevalence: float | None = measured(
        "Share on tuning", "Of these breasts that have the finding: what the result is right for"
    )
    log_loss_before: float | None = measured("Log loss before", "On the tuning split, of scores as they are", default=None)
    log_loss_after: float | None = measured("Log loss after", "On the tuning split, after recalibration", default=None)


class LockedMetrics(Report):
    """What was fixed at the weights' own site does here: neither threshold nor recalibration knows one of these patients."""

    points: tuple[OperatingPoint, ...] = Field((), description="At the thresholds that were chosen there")
    calibration_locked: CalibrationReport | None = Field(None, description="After the recalibration that was fitted there")
    intercept: float | None = measured("Locked intercept", "Of the recalibration that was fitted at the weights' own site")
    slope: float | None = measured("Locked slope", "Of the recalibration that was fitted at the weights' own site")


class LockedSettings(Report):
    """Where thresholds and recalibration come from."""

    is_own_site: bool = Field(description="True if they were chosen on this very tuning split, on which the weights were tuned")
    kept: Provenance | None = Field(None, description="Where and when they were chosen; None = nothing is kept")
    missing: str = Field("", description="Why nothing is locked, in words; empty = something is, or this is the own site")


class RecalibrationFile(Report):
    """``recalibration.json`` beside the weights: which weights, fitted on what. ``form`` is raised when its meaning changes."""

    form: Literal[1] = 1
    checkpoint_sha256: str
    data_version: str
    fitted_on: str = "breast-level scores of the tuning split"
    by_finding: dict[str, RecalibrationFit]


class TemperatureFit(Report):
    """What former releases fitted in place of ``RecalibrationFit``: one number that divides logits."""

    temperature: float | None = measured("Temperature", "Divides logits; not defined where these breasts do not determine it")
    reason: str = ""
    breasts: int = measured("Tuning breasts", "With a known label: what the temperature was fitted on")
    positive_breasts: int = measured("Of these with the finding", "Tuning breasts that have the finding")
    log_loss_before: float | None = measured("Log loss before", "On the tuning split, of scores as they are", default=None)
    log_loss_after: float | None = measured("Log loss after", "On the tuning split, after division", default=None)


class TemperatureFile(Report):
    """``temperature.json`` beside the weights, of former releases: still read, no longer written."""

    checkpoint_sha256: str
    data_version: str
    fitted_on: str = Field("breast-level scores of the tuning split", description="Also whether the weights had seen these")
    by_finding: dict[str, TemperatureFit]


class SubgroupMetrics(Report):
    """One group of breasts. Where it is too small, counts only."""

    attribute: str
    group: str
    breasts: int
    patients: int
    positive_breasts: int
    positive_patients: int = Field(0, json_schema_extra=ADDED_TO_REPORT)
    too_few: str | None = Field(None, description="Why no metric is given; None = enough")
    auroc: Interval
    sensitivity: Interval = Field(description="At one threshold for all groups, as in use")
    specificity: Interval


class FindingMetrics(Report):
    """Breast-level and localisation metrics of one finding."""

    breasts: int = measured("Breasts", "Test breasts with a known label")
    positive_breasts: int = measured("Breasts with the finding", "Of these")
    patients: int = measured("Patients", "Whose breasts these are", default=0, is_added=True)
    positive_patients: int = measured(
        "Patients with the finding",
        "In some breast; below five, as below five without it, there is no interval",
        default=0,
        is_added=True,
    )
    auroc: Interval = measured("AUROC", "Probability that a positive breast ranks above a negative one (Mann-Whitney)")
    auprc: Interval = measured("AUPRC", "Average precision over breasts; by chance it is the prevalence")
    localization_images: int = measured("Images with a mask", "Test images with a lesion mask of the finding")
    localization_f1: float | None = measured("Localisation F1", "Mean over these images")
    localization_precision: float | None = measured("Localisation precision", "Mean over these images")
    localization_recall: float | None = measured("Localisation recall", "Mean over these images")
    pointing_fraction: float | None = measured(
        "Saliency peaks on a lesion", "Share of masked images whose saliency peaks on a lesion", default=None
    )
    lesions: int = measured("Lesions", "Lesions in the masks of the test split", default=0)
    lesions_reached: int = measured(
        "Lesions in a patch", "Lesions of which one of the K patches holds at least half", default=0
    )
    operating_points: tuple[OperatingPoint, ...] = ()
    calibration: CalibrationReport | None = None
    calibration_scaled: CalibrationReport | None = Field(None, description="After recalibration")
    temperature: TemperatureFit | None = Field(None, description="Of former releases")
    recalibration: RecalibrationFit | None = Field(None, json_schema_extra=ADDED_TO_REPORT)
    tuning_thresholds: tuple[KeptThreshold, ...] = Field(
        (), json_schema_extra=ADDED_TO_REPORT, description="Chosen on this tuning split, with what they do there"
    )
    locked: LockedMetrics | None = Field(
        None,
        json_schema_extra=ADDED_TO_REPORT,
        description="By what the weights' own site fixed; None = this is it, or nothing is kept",
    )
    subgroups: tuple[SubgroupMetrics, ...] = ()
    subgroup_threshold: float | None = measured(
        "Threshold of subgroups", "Where subgroup sensitivity and specificity are read, and errors told", default=None
    )
    subgroup_threshold_basis: str = Field(
        "",
        json_schema_extra=ADDED_TO_REPORT,
        description="In words, where that comes from; empty in former reports: the test breasts",
    )
    subgroups_not_recorded: tuple[str, ...] = Field((), description="Attributes that the store does not record")
    exams: int = measured("Exams", "With a known label: present if it is in a breast", default=0)
    positive_exams: int = measured("Exams with the finding", "Of these", default=0)
    exam_auroc: Interval | None = measured("AUROC of exams", "An exam's score is the higher one of its breasts'", default=None)
    exam_auprc: Interval | None = measured("AUPRC of exams", "Average precision over exams", default=None)
    models: tuple[ModelMetrics, ...] = Field((), description="Each model alone, where several are evaluated")
    auroc_of_models: ModelSpread | None = None
    auprc_of_models: ModelSpread | None = None
    localization_intervals: LocalizationIntervals | None = None
    boxes: BoxLocalization | None = Field(None, description="Images that have boxes and no mask")
    lesions_seen: LesionsSeen | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="None = no test image is marked, or a former release measured"
    )
    original_read: OriginalRead | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="Of the malignant finding; None = no BI-RADS category is recorded"
    )
    lesion_level: LesionLevel | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="None = the network has no map, or no lesion is marked"
    )
    before_and_after: BeforeAndAfter | None = Field(
        None,
        json_schema_extra=ADDED_TO_REPORT,
        description="None = the training began with no weights that were evaluated on these breasts",
    )
    group_differences: tuple[GroupDifference, ...] = Field(
        (), json_schema_extra=ADDED_TO_REPORT, description="Every comparison of groups of this finding, corrected together"
    )
    restated: tuple[RestatedPoint, ...] = Field(
        (), json_schema_extra=ADDED_TO_REPORT, description="Thresholds of use at the shares of findings that the config states"
    )
    decision_curves: tuple[DecisionCurve, ...] = Field(
        (), json_schema_extra=ADDED_TO_REPORT, description="Empty = no risks are known"
    )
    programme: ProgrammeReport | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="Of malignant findings, where dates of diagnosis are recorded"
    )


class JudgedPatients(Report):
    """Whether the weights had seen the patients whom they are judged on, and who was left out for it."""

    is_checked: bool = Field(description="True if every patient was looked up, and no weights were trained or tuned on them")
    not_checked: str = Field("", description="Why it is not known, in words")
    test_left_out: int = Field(0, description="Test patients left out, because weights were trained or tuned on them")
    tuning_left_out: int = Field(0, description="Tuning patients left out, because weights were trained on them")


class TestScoring(Report):
    """One line of the log of test scorings: when, by which weights, of which division."""

    __test__ = False  # no test, whatever pytest takes the name for

    when_utc: str
    model_sha256: str = Field(description="SHA-256 of the weights; for an ensemble, of its members' digests in order")
    models: int = Field(description="How many weights; their mean score is reported")
    read_as: str = Field("", description="Row of Table 1 as which they are read; empty = as they are")
    splits_sha256: str
    test_patients: int


class EvaluationReport(Report):
    """What ``evaluate`` measured on the test split. With several models, ``by_finding`` is of their mean score."""

    scores_path: ReportPath
    model_sha256: str = Field("", description="SHA-256 of the weights; for an ensemble, of its members' digests in order")
    models: tuple[EnsembleMember, ...] = ()
    localization_model: str = Field("", description="Whose saliency is measured: best malignant F1 on tuning (paper 3.3)")
    by_finding: dict[str, FindingMetrics]
    interval_method: str = Field(
        "", json_schema_extra=ADDED_TO_REPORT, description="Of its intervals; empty in former reports: percentile bootstrap"
    )
    exams: int
    images: int
    repeated_view_breasts: int | None = Field(
        None, description="Test breasts that have a view more than once: all their images count alike; None = not said"
    )
    provenance: Provenance
    patients: JudgedPatients = Field(
        JudgedPatients(is_checked=False, not_checked="the release that evaluated them did not look"),
        description="Whether the weights had seen them",
    )
    networks: tuple[NetworkConfig, ...] = Field((), description="Network of each model, as it was read; empty = not said")
    scorings: tuple[TestScoring, ...] = Field((), description="Every time these test patients were scored, this one last")
    locked: LockedSettings | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="Where thresholds and recalibration come from; None = not said"
    )
    terms: tuple[str, ...] = Field(
        (),
        json_schema_extra=ADDED_TO_REPORT,
        description="What the terms of the data forbid to pass on that the weights learnt from, or that they are judged on",
    )
    page_path: ReportPath | None = Field(None, json_schema_extra=ADDED_TO_REPORT, description="The page of these numbers")
    reporting_path: ReportPath | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="The page of reporting guidelines; None = no ingest was found"
    )
