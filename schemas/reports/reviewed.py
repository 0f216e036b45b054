"""What a reviewer asks beyond metrics: the original read beside the model, lesions, groups, what a training brought."""

from __future__ import annotations

from pydantic import Field

from schemas.reports.report import Interval, Report, measured


class ReadPoint(Report):
    """The model at one threshold beside the original read of the same breasts, exams or patients.

    Differences are the model's less the read's. A rate that the choice of the threshold makes equal to the read's has none.
    """

    name: str = Field(description="How the threshold was chosen, in words")
    threshold: float | None = Field(description="None = above every score: nothing is recalled")
    sensitivity: Interval = measured("Sensitivity of the model", "Share of those with the finding that it recalls")
    specificity: Interval = measured("Specificity of the model", "Share of those without the finding that it does not recall")
    sensitivity_difference: Interval | None = measured(
        "Sensitivity, model less read", "Paired, on those with the finding; counts that the threshold was chosen on them"
    )
    sensitivity_decision: str = Field("", description="What that says of the margin, in words; empty = not compared")
    specificity_difference: Interval | None = measured(
        "Specificity, model less read", "Paired, on those without the finding; counts that the threshold was chosen on them"
    )
    specificity_decision: str = Field("", description="What that says of the margin, in words; empty = not compared")


class ReadLevel(Report):
    """Reads and scores of one unit: breast, exam or patient."""

    name: str = Field(description="``breast``, ``exam`` or ``patient``")
    units: int = measured("Compared", "Those of which read and finding are known")
    positive_units: int = measured("Compared, with the finding", "Of these")
    patients: int = measured("Compared patients", "Whose they are")
    positive_patients: int = measured("Compared patients with the finding", "Of these, in something compared")
    recalled_units: int = measured("Recalled by the original read", "Of those compared")
    read_sensitivity: Interval = measured(
        "Sensitivity of the original read", "Share of those with the finding that the recorded BI-RADS recalls"
    )
    read_specificity: Interval = measured(
        "Specificity of the original read", "Share of those without the finding that the recorded BI-RADS does not recall"
    )
    points: tuple[ReadPoint, ...] = Field((), description="Empty where one class only is there, or nobody was recalled")


class OriginalRead(Report):
    """The recorded BI-RADS category of each test breast as a reader, beside the model, for the malignant finding."""

    recalled: tuple[int, ...] = Field(description="BI-RADS categories that count as recalled")
    margin: float = Field(description="Non-inferiority margin of both rates")
    without_read: int = measured("Breasts without a read", "Test breasts with a known finding and no BI-RADS category")
    off_scale: int = measured(
        "Breasts of BI-RADS 0 or 6 left out", "Incomplete, or known cancer: no read, unless the config counts it as recalled"
    )
    labelled_by_read: int = measured(
        "Breasts labelled by the read itself", "Their finding is known from BI-RADS alone: a read cannot be judged by itself"
    )
    levels: tuple[ReadLevel, ...] = ()


class FrocPoint(Report):
    """Lesions found while so many marks an image fall on images without the finding."""

    false_marks_allowed: float = Field(description="At most so many an image, over the images of exams without the finding")
    false_marks: float = Field(description="How many there are: fewer where no threshold gives more")
    threshold: float | None = Field(description="Marks rated above it count; None = all marks count")
    sensitivity: Interval = Field(description="Share of lesions with a mark that counts")


class FreeResponse(Report):
    """Marks on lesions and on images without the finding: one counting of lesions."""

    name: str = Field(description="Which lesions are counted, in words")
    lesions: int = measured("Lesions counted", "Of masks and boxes; with those that no mark is on")
    unmarked: int = measured("Lesions without any mark", "Not found at any threshold")
    patients: int = measured("Patients with a lesion", "Whose lesions these are")
    units_without: int = measured("Counted without the finding", "Images, or breasts where lesions are joined over views")
    patients_without: int = measured("Patients without the finding", "Whose these are")
    points: tuple[FrocPoint, ...] = ()
    jafroc: Interval = measured(
        "JAFROC figure of merit",
        "Probability that a lesion is rated above the highest mark on an image (or breast) without the finding; 0.5: no better",
    )


class LesionLevel(Report):
    """What the network's saliency map marks, lesion by lesion (FROC); false marks are those on exams without the finding."""

    images_without: int = measured("Images of exams without the finding", "Where every mark is false")
    false_marks_at_most: float | None = measured(
        "False marks an image, all counted", "On these images: the curve ends here", digits=2
    )
    joined_lesions: int = measured("Lesions seen in several views", "Joined into one, because masks or boxes say so")
    single_lesions: int = measured("Lesions not joined", "Seen in one view, or in several that do not say which is which")
    counted: tuple[FreeResponse, ...] = Field((), description="Lesions of each image by itself, and joined over views")


class GroupDifference(Report):
    """One group of breasts less all other breasts whose group is known, of one attribute."""

    attribute: str
    group: str
    other: str = Field(description="The other group, or in words all others")
    measure: str = Field(description="``AUROC``, ``sensitivity`` or ``specificity``")
    difference: Interval = Field(description="For itself: its ends are not corrected for the number of comparisons")
    p_value: float = Field(description="Two-sided, for itself: the level at which the interval just holds 0")
    p_adjusted: float = Field(description="After Holm, over all comparisons of the finding")


class BeforeAndAfter(Report):
    """Trained weights beside those that their training began with, on the test breasts that both scored."""

    sha256: str = Field(description="SHA-256 of the weights that the training began with")
    source: str = Field(description="Name of their checkpoint, without its place")
    scored_utc: str = Field(description="When these were evaluated")
    compared: int = measured("Breasts that both scored", "Test breasts with a known label")
    positive_compared: int = measured("Breasts with the finding that both scored", "Of these")
    compared_patients: int = measured("Patients whom both scored", "Whose breasts these are")
    positive_compared_patients: int = measured("Patients with the finding whom both scored", "Of these, in some breast")
    auroc_before: Interval = measured("AUROC before the training", "Of the weights that the training began with")
    auroc_after: Interval = measured("AUROC after the training", "Of the trained weights, on the same breasts")
    auroc_gain: Interval = measured("AUROC, after less before", "Paired: the same breasts, with patients as clusters")
    gain_p_value: float | None = measured(
        "p of after less before", "Two-sided, DeLong's test with patients as clusters", digits=4
    )
