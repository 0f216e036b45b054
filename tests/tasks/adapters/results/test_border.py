"""The border: by keyed digests an exam's images are found again in the PACS, and whoever else is there is not taken for her."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from tasks.adapters.pacs.sources import NotThere
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
        self.asked: list[tuple[str, dict[str, str]]] = []

    def ask(self, path: str, keys: Mapping[str, str]) -> list[dict[str, Any]]:
        """A QIDO-RS question, as ``Border`` asks them."""
        self.asked.append((path, dict(keys)))
        first, _, last = keys.get("StudyDate", "00010101-99991231").partition("-")
        images = [one for one in self.images if first <= f"{one[0]:%Y%m%d}" <= (last or first)]
        if path == "/studies":
            return [{"0020000D": {"Value": [study]}} for study in dict.fromkeys(study for _, study, _, _ in images)]
        return [
            {"0020000D": {"Value": [study]}, "00080018": {"Value": [sop]}, "0020000E": {"Value": ["2.25.3"]},
             "00100020": {"Value": [patient]}}
            for _, study, sop, patient in images
            if path.startswith(f"/studies/{study}/") and (not path.endswith("/metadata") or f"/{sop}/" in path)
        ]  # fmt: skip

    def border(self) -> Border:
        """That asks it."""
        return Border(ask=self.ask, pseudonyms=PSEUDONYMS, today=date(2026, 6, 1), search_days=35)


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
    assert archive.asked[0] == ("/studies", {"ModalitiesInStudy": "MG", "StudyDate": "20260504"})
    assert not any("2.25.1/" in path for path, _ in archive.asked)


def test_a_day_is_asked_once_for_all_its_exams() -> None:
    """However many are returned."""
    archive = Archive([(DAY, f"2.25.{n}", f"2.25.{n}0", "A") for n in range(2, 6)])
    border = archive.border()
    for number in range(2, 6):
        border.sources(exam(f"2.25.{number}0", study=f"2.25.{number}"))
    assert sum(path == "/studies" for path, _ in archive.asked) == 1


def test_an_exam_of_several_studies_is_divided_by_them() -> None:
    """A profile joins what a PACS has apart: each study gets the results of its own images."""
    archive = Archive([(DAY, "2.25.2", "2.25.20", "A"), (DAY, "2.25.9", "2.25.90", "A_L")])
    found = archive.border().sources(exam("2.25.20", "2.25.90", study="joined"))
    assert {study: [one.image_id for one in images] for study, images in found.items()} == {
        "2.25.2": [PSEUDONYMS.image_id("2.25.20")],
        "2.25.9": [PSEUDONYMS.image_id("2.25.90")],
    }


def test_an_exam_without_a_date_is_looked_for_in_weeks() -> None:
    """Back from today; nothing is asked for with a limit or an offset."""
    archive = Archive([(DAY, "2.25.2", "2.25.20", "A")])
    assert set(archive.border().sources(exam("2.25.20", day=None))) == {"2.25.2"}
    days = [keys["StudyDate"] for path, keys in archive.asked if path == "/studies"]
    assert days[:2] == ["20260526-20260601", "20260519-20260525"] and len(days) == 6
    assert not any({"limit", "offset"} & keys.keys() for _, keys in archive.asked)


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
    plain = archive.ask

    def swapped(path: str, keys: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = plain(path, keys)
        return [one | {"00080018": {"Value": ["2.25.66"]}} for one in answer] if path.endswith("/metadata") else answer

    border = archive.border()
    border.ask = swapped
    with pytest.raises(NotReturnable, match="another object"):
        border.sources(exam("2.25.20"))


@pytest.mark.parametrize("gone", ["/instances", "/metadata"])
def test_what_is_deleted_while_it_is_asked_for_is_the_exam_s_matter(gone: str) -> None:
    """Its study, or one image: this exam waits, and the run goes on to the next."""
    archive = Archive([(DAY, "2.25.2", "2.25.20", "A")])
    plain = archive.ask

    def deleted(path: str, keys: Mapping[str, str]) -> list[dict[str, Any]]:
        if path.endswith(gone):
            raise NotThere("The server does not have it")
        return plain(path, keys)

    border = archive.border()
    border.ask = deleted
    with pytest.raises(NotReturnable) as missing:
        border.sources(exam("2.25.20"))
    assert not missing.value.is_final
