"""Labels put to breasts (rule R60): orphans on either side are counted, never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.errors import LabelError
from schemas.exam import BreastLabel
from tasks.adapters.labels.breast_label import Breast


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelJoin:
    """Labels and breasts put together.

    Attributes:
        matched: The label of each breast that has one, be it "not known".
        orphans: Labels whose exam, or whose side of that exam, is not there.
        unlabelled: Breasts without a label.
    """

    matched: Mapping[Breast, BreastLabel]
    orphans: int
    unlabelled: int


def join_labels(
    labels: Iterable[BreastLabel], breasts: Iterable[Breast], *, patient_by_exam: Mapping[str, str] | None = None
) -> LabelJoin:
    """Put labels and breasts together (rule R60): orphans on either side are counted, never guessed.

    Args:
        labels: At most one per breast, as ``read_labels`` gives them.
        breasts: (exam, side) of every breast that has an image; repetitions do not matter.
        patient_by_exam: If given, a label must name the patient its exam belongs to.

    Raises:
        LabelError: There are labels and exams, and not one label finds its breast; or labels name other patients than the
            exams they join to, as they do where a column of the labels file has slipped.
    """
    present = set(breasts)
    all_labels = {(label.exam_id, label.laterality): label for label in labels}
    matched = {breast: label for breast, label in all_labels.items() if breast in present}
    if all_labels and present and not matched:
        raise LabelError(
            "Labels join to no exam",
            expected=f"StudyInstanceUIDs (0020,000D) of {len({exam_id for exam_id, _ in present})} exams",
            got=f"{len(all_labels)} labels, none for a breast of these exams",
            remedy="check that labels_csv and source_dir are of the same data set, and that study_instance_uid was not rounded "
            "or cut by a spreadsheet; every label must be for an exam, and a side of it, that was published",
        )
    _check_patients(matched.values(), patient_by_exam or {})
    return LabelJoin(matched=matched, orphans=len(all_labels) - len(matched), unlabelled=len(present - matched.keys()))


def _check_patients(labels: Iterable[BreastLabel], patient_by_exam: Mapping[str, str]) -> None:
    strangers = sum(patient_by_exam.get(label.exam_id, label.patient_id) != label.patient_id for label in labels)
    if strangers:
        raise LabelError(
            "Labels name another patient than their exam does",
            expected="patient_id (and issuer_of_patient_id, where the images carry one) as in the DICOM files",
            got=f"{strangers} labels of another patient",
            remedy="check that the columns of the labels file have not slipped, and that patient_id kept its leading zeros",
        )
