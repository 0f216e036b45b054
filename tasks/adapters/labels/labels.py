"""The labels of a file by breast, packed: those of a million breasts take some 120 MB.

What is said of breasts repeats, so it is kept once and each breast holds a number. Lines that contradict each other are kept
too: whether they matter depends on whether their exam is published, which is not known while the file is read.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final

from schemas.errors import LabelError
from schemas.exam import BreastLabel, Laterality

Breast = tuple[str, Laterality]
"""Exam pseudonym and side."""

_SIDES: Final = tuple(Laterality)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two lines of the file of which one must be wrong; ``columns`` is empty where an exam has two patients."""

    line: int
    first_line: int
    columns: tuple[str, ...]

    def error(self) -> LabelError:
        """What to raise where it matters."""
        if not self.columns:
            return LabelError(
                f"Labels line {self.line}, column patient_id",
                expected=f"the patient of line {self.first_line}, which is of the same exam",
                got="another patient",
                remedy="an exam belongs to one patient: correct patient_id or the exam of one of the two lines",
            )
        return LabelError(
            f"Labels line {self.line} contradicts line {self.first_line}, which is of the same breast",
            expected="one line per breast, or identical ones",
            got=f"other values in {', '.join(self.columns)}",
            remedy="write one line per breast; a breast with findings of both kinds has benign 1 and malignant 1",
        )


class Labels:
    """Labels by breast, in the order in which their exams came; the first line of a breast counts."""

    def __init__(self) -> None:
        self._place_of_exam: dict[str, int] = {}
        self._patients: list[str] = []  # by place
        self._exam_lines = array("Q")  # by place: the line that named the patient
        self._lines = array("Q")  # by place and side: the line that came first; 0 = none
        self._kinds = array("Q")  # by place and side: number of the label
        self._label_by_kind: list[BreastLabel] = []
        self._kind_by_label: dict[BreastLabel, int] = {}
        self._breasts = 0
        self.contradictions: dict[tuple[str, Laterality | None], Contradiction] = {}
        """The first of each breast; of an exam (``None``) if it has two patients."""

    def __len__(self) -> int:
        """Breasts that have a label."""
        return self._breasts

    def kind_of(self, label: BreastLabel) -> int:
        """The number that stands for this label in ``add``."""
        kind = self._kind_by_label.setdefault(label, len(self._label_by_kind))
        if kind == len(self._label_by_kind):
            self._label_by_kind.append(label)
        return kind

    def add(self, line: int, patient_id: str, exam_id: str, laterality: Laterality, kind: int) -> None:
        """Takes a line, ``kind_of`` what it says; one that says the same as an earlier one changes nothing."""
        place = self._place_of_exam.get(exam_id)
        if place is None:
            place = self._place_of_exam[exam_id] = len(self._patients)
            self._patients.append(patient_id)
            self._exam_lines.append(line)
            self._lines.extend((0, 0))
            self._kinds.extend((0, 0))
        elif self._patients[place] != patient_id:
            self.contradictions.setdefault((exam_id, None), Contradiction(line, self._exam_lines[place], ()))
        side = 2 * place + (laterality is Laterality.LEFT)
        if not self._lines[side]:
            self._lines[side], self._kinds[side] = line, kind
            self._breasts += 1
        elif self._kinds[side] != kind:
            columns = _differing(self._label_by_kind[self._kinds[side]], self._label_by_kind[kind])
            self.contradictions.setdefault((exam_id, laterality), Contradiction(line, self._lines[side], columns))

    def label_of(self, breast: Breast) -> BreastLabel | None:
        """What the file says of a breast."""
        exam_id, laterality = breast
        place = self._place_of_exam.get(exam_id)
        if place is None:
            return None
        side = 2 * place + (laterality is Laterality.LEFT)
        return self._label_by_kind[self._kinds[side]] if self._lines[side] else None

    def patient_of(self, exam_id: str) -> str | None:
        """Whose exam the file says it is."""
        place = self._place_of_exam.get(exam_id)
        return None if place is None else self._patients[place]

    def __iter__(self) -> Iterator[tuple[Breast, BreastLabel]]:
        """Every breast with its label."""
        for exam_id in self._place_of_exam:
            for laterality in _SIDES:
                label = self.label_of((exam_id, laterality))
                if label is not None:
                    yield (exam_id, laterality), label


def contradictions_among(
    contradictions: Mapping[tuple[str, Laterality | None], Contradiction], breasts: frozenset[Breast]
) -> list[Contradiction]:
    """Those about one of these breasts, or about the patient of one of their exams; by line."""
    exam_ids = {exam_id for exam_id, _ in breasts}
    found = [
        contradiction
        for (exam_id, laterality), contradiction in contradictions.items()
        if ((exam_id, laterality) in breasts if laterality is not None else exam_id in exam_ids)
    ]
    return sorted(found, key=lambda contradiction: contradiction.line)


def _differing(one: BreastLabel, other: BreastLabel) -> tuple[str, ...]:
    return tuple(field.name for field in fields(BreastLabel) if getattr(one, field.name) != getattr(other, field.name))
