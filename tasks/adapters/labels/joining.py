"""Labels put to breasts (rule R60): orphans on either side are counted, never guessed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import LabelError
from schemas.exam import BreastLabel
from tasks.adapters.labels.labels import Breast, Labels, contradictions_among

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelJoin:
    """Labels and breasts put together.

    Attributes:
        labels: What the file says, also of breasts that are not there.
        matched: Breasts that have a label, be it "not known".
        orphans: Labels whose exam, or whose side of that exam, is not there.
        orphan_contradictions: Breasts and exams among the orphans of which two lines say different things.
        unlabelled: Breasts without a label.
    """

    labels: Labels
    matched: int
    orphans: int
    orphan_contradictions: int
    unlabelled: int

    def label_of(self, breast: Breast) -> BreastLabel | None:
        """The label of a breast; None = it has none."""
        return self.labels.label_of(breast)


def join_labels(
    labels: Labels,
    breasts: Iterable[Breast],
    *,
    patients_by_exam: Mapping[str, Sequence[str | None]] | None = None,
    may_all_be_orphans: bool = False,
) -> LabelJoin:
    """Put labels and breasts together (rule R60): orphans on either side are counted, never guessed.

    Args:
        labels: As ``read_labels`` gives them.
        breasts: (exam, side) of every breast that has an image; repetitions do not matter.
        patients_by_exam: If given, a label must name the patient its exam belongs to, by one of these pseudonyms: with the
            issuer, or the PatientID alone where the labels file gives none.
        may_all_be_orphans: True where images were withdrawn: they may be all that was labelled.

    Raises:
        LabelError: Lines contradict each other about a breast that has an image, or about the patient of its exam; there are
            labels and exams, and not one label finds its breast; or labels name other patients than the exams they join to,
            as they do where a column of the labels file has slipped.
    """
    present = frozenset(breasts)
    contradictions = contradictions_among(labels.contradictions, present)
    if contradictions:
        raise contradictions[0].error()
    matched = [breast for breast in present if labels.label_of(breast) is not None]
    if labels and present and not matched and not may_all_be_orphans:
        raise LabelError(
            "Labels join to no exam",
            expected=f"StudyInstanceUIDs (0020,000D) of {len({exam_id for exam_id, _ in present})} exams",
            got=f"{len(labels)} labels, none for a breast of these exams",
            remedy="check that labels_csv and source_dir are of the same data set, and that study_instance_uid was not rounded "
            "or cut by a spreadsheet; lines that name an exam by study_date need issuer_of_patient_id where the images carry "
            "one; every label must be for an exam, and a side of it, that was published",
        )
    _check_patients(labels, matched, patients_by_exam or {})
    return LabelJoin(
        labels=labels,
        matched=len(matched),
        orphans=len(labels) - len(matched),
        orphan_contradictions=len(labels.contradictions),
        unlabelled=len(present) - len(matched),
    )


def _check_patients(labels: Labels, breasts: Iterable[Breast], patients_by_exam: Mapping[str, Sequence[str | None]]) -> None:
    strangers = 0
    for exam_id, _ in breasts:
        named = labels.patient_of(exam_id)
        strangers += exam_id in patients_by_exam and named not in patients_by_exam[exam_id]
    if strangers:
        raise LabelError(
            "Labels name another patient than their exam does",
            expected="patient_id (and issuer_of_patient_id, where the images carry one) as in the DICOM files",
            got=f"{strangers} labels of another patient",
            remedy="check that the columns of the labels file have not slipped, and that patient_id kept its leading zeros",
        )
