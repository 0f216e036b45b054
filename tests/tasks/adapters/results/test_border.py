"""The border: by keyed digests an exam's images are found again in the PACS, and whoever else is there is not taken for her."""

from __future__ import annotations

from datetime import date
from typing import Any, cast

import pytest

from tasks.adapters.pacs.sources import FoundExam, FoundImage, NotThere, Slice, Source
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.results.border import Border, NotReturnable
from tasks.adapters.results.kept_prediction import PredictedExam

PSEUDONYMS = Pseudonyms(b"b" * 32)
DAY = date(2026, 5, 4)
PATIENT = "P" + "0" * 24


class Archive:
    """What a PACS holds, and what it was asked."""

    def __init__(self, images: list[tuple[date, str, str, str]]) -> None:
        self.images = images
        """Day, study, SOP and patient."""
        self.asked: list[str | Slice] = []
        self.gone = ""
        """Deleted when it is asked for: images or header."""
        self.swapped_uid: str | None = ""
        """Of the header that is answered with instead."""

    def exams_of(self, piece: Slice, ending: str = "") -> list[FoundExam]:
        """Of some days."""
        self.asked.append(piece)
        found = dict.fromkeys(study for day, study, _, _ in self.images if piece.first <= day <= piece.last)
        return [FoundExam(study_uid=study) for study in found]

    def images_of(self, exam: FoundExam) -> list[FoundImage]:
        """Of a study."""
        self.asked.append(exam.study_uid)
        if self.gone == "images":
            raise NotThere("The server does not have it")
        return [
            FoundImage(study_uid=study, series_uid="2.25.3", sop_uid=sop)
            for _, study, sop, _ in self.images
            if study == exam.study_uid
        ]

    def header_of(self, image: FoundImage) -> dict[str, Any]:
        """As it is now."""
        if self.gone == "header":
            raise NotThere("The server does not have it")
        (patient,) = [patient for _, _, sop, patient in self.images if sop == image.sop_uid]
        values = {
            "0020000D": image.study_uid,
            "00080018": image.sop_uid if self.swapped_uid == "" else self.swapped_uid,
            "00100020": patient,
        }
        return {tag: {"Value": [value]} for tag, value in values.items()}

    def days(self) -> list[tuple[date, date]]:
        """What was asked for, first and last."""
        return [(piece.first, piece.last) for piece in self.asked if isinstance(piece, Slice)]

    def border(self) -> Border:
        """That asks it."""
        return Border(archive=cast("Source", self), pseudonyms=PSEUDONYMS, today=date(2026, 6, 1), search_days=35)


def exam(*sops: str, study: str = "2.25.2", day: date | None = DAY) -> PredictedExam:
    """As a prediction names it."""
    return PredictedExam(
        exam_id=PSEUDONYMS.exam_id(study),
        weights_sha256="ab" * 32,
        image_ids=tuple(sorted(PSEUDONYMS.image_id(sop) for sop in sops)),
        patient_id=PATIENT,
        shifted_date=None if day is None else PSEUDONYMS.shifted_date(PATIENT, day),
    )


def test_an_exam_is_found_on_its_own_day() -> None:
    """The shifted date is brought back by the key; of that day's exams its own is asked first, and no other is."""
    archive = Archive([(DAY, "2.25.1", "2.25.10", "A"), (DAY, "2.25.2", "2.25.20", "B"), (DAY, "2.25.2", "2.25.21", "B")])
    found = archive.border().sources(exam("2.25.20", "2.25.21"))
    assert {study: len(images) for study, images in found.items()} == {"2.25.2": 2}
    assert archive.asked == [Slice(DAY, DAY), "2.25.2"]


def test_a_day_is_asked_once_for_all_its_exams() -> None:
    """However many are returned."""
    archive = Archive([(DAY, f"2.25.{n}", f"2.25.{n}0", "A") for n in range(2, 6)])
    border = archive.border()
    for number in range(2, 6):
        border.sources(exam(f"2.25.{number}0", study=f"2.25.{number}"))
    assert len(archive.days()) == 1


def test_an_exam_of_several_studies_is_divided_by_them() -> None:
    """A profile joins what a PACS has apart: each study gets the results of its own images."""
    archive = Archive([(DAY, "2.25.2", "2.25.20", "A"), (DAY, "2.25.9", "2.25.90", "A_L")])
    found = archive.border().sources(exam("2.25.20", "2.25.90", study="joined"))
    assert {study: [one.image_id for one in images] for study, images in found.items()} == {
        "2.25.2": [PSEUDONYMS.image_id("2.25.20")],
        "2.25.9": [PSEUDONYMS.image_id("2.25.90")],
    }


@pytest.mark.parametrize("day", [DAY, date(2026, 6, 2)], ids=["of a month ago", "of tomorrow"])
def test_an_exam_without_a_date_is_looked_for_among_the_last_days(day: date) -> None:
    """Also where the device's clock, or its time zone, is ahead of ours."""
    archive = Archive([(day, "2.25.2", "2.25.20", "A")])
    assert set(archive.border().sources(exam("2.25.20", day=None))) == {"2.25.2"}
    assert (archive.days()[0][0], archive.days()[-1][1]) == (date(2026, 4, 27), date(2026, 6, 2))


def test_an_image_that_is_gone_is_told_without_a_name() -> None:
    """It may come back: it is tried again. No UID is in the sentence."""
    archive = Archive([(DAY, "2.25.2", "2.25.20", "A")])
    with pytest.raises(NotReturnable, match=r"2 images.*1 in 1 exams") as gone:
        archive.border().sources(exam("2.25.20", "2.25.21"))
    assert not gone.value.is_final and "2.25." not in str(gone.value)


def test_two_patients_in_one_study_are_never_returned_to() -> None:
    """Whose results would they be?"""
    archive = Archive([(DAY, "2.25.2", "2.25.20", "ANN"), (DAY, "2.25.2", "2.25.21", "BETH")])
    with pytest.raises(NotReturnable, match="different patients") as mixed:
        archive.border().sources(exam("2.25.20", "2.25.21"))
    assert mixed.value.is_final and "ANN" not in str(mixed.value)


def test_an_answer_about_another_object_is_refused() -> None:
    """A server that answers with what was not asked for is not believed."""
    archive = Archive([(DAY, "2.25.2", "2.25.20", "A")])
    for swapped in ("2.25.66", None):
        archive.swapped_uid = swapped
        with pytest.raises(NotReturnable, match="another object"):
            archive.border().sources(exam("2.25.20"))


@pytest.mark.parametrize("gone", ["images", "header"])
def test_what_is_deleted_while_it_is_asked_for_is_the_exam_s_matter(gone: str) -> None:
    """Its study, or one image: this exam waits, and the run goes on to the next."""
    archive = Archive([(DAY, "2.25.2", "2.25.20", "A")])
    archive.gone = gone
    with pytest.raises(NotReturnable) as missing:
        archive.border().sources(exam("2.25.20"))
    assert not missing.value.is_final
