"""Every exam of some days is found or it is an error, whatever a server cuts and however it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import cast

import pytest

from schemas.errors import PeerUnavailable
from tasks.adapters.pacs.sources import Cut, FoundExam, Slice, Source, exams_between, uid_of

FIRST, LAST = date(2026, 1, 1), date(2026, 1, 28)
Exam = tuple[date, str, str]
"""Its day, its time (empty = it has none) and its PatientID."""


@dataclass
class Archive:
    """Answers with at most ``limit`` exams, the first ones; ``how`` it says so."""

    exams: Sequence[Exam]
    limit: int
    how: str
    asked: int = 0

    def exams_of(self, piece: Slice, ending: str = "") -> list[FoundExam]:
        """As servers match: an exam without a time is of no hour."""
        self.asked += 1
        begin, _, end = piece.study_time.partition("-")
        found = [
            FoundExam(study_uid=f"2.25.{number}")
            for number, (day, time, patient) in enumerate(self.exams)
            if piece.first <= day <= piece.last and (not begin or begin <= time <= end) and patient.endswith(ending)
        ]
        if len(found) <= self.limit or self.how == "silent":
            return found[: self.limit]
        raise Cut(found[: self.limit] if self.how == "said" else ())

    def found(self) -> int:
        """How many exams a search for all of them finds."""
        exams = exams_between(cast("Source", self), FIRST, LAST)
        assert len({exam.study_uid for exam in exams}) == len(exams)
        return len(exams)


def _exams(count: int, time: str = "{hour:02}{minute:02}00", day: int = 3, patient: str = "ID{number}") -> list[Exam]:
    return [
        (FIRST + timedelta(days=day), time.format(hour=number % 24, minute=number % 60), patient.format(number=number))
        for number in range(count)
    ]


@pytest.mark.parametrize("how", ["silent", "said", "too broad"])
def test_a_full_day_is_found_whole_with_times_and_without(how: str) -> None:
    """Hours bring no exam without a time: 25 of a day were 11 or none, without an error. Parts are believed if they add up."""
    for exams in (_exams(40), _exams(25, time=""), _exams(12) + _exams(13, time=""), _exams(12, time="101500")):
        archive = Archive(exams, limit=10, how=how)
        assert archive.found() == len(exams)
        assert archive.asked < 1000


@pytest.mark.parametrize("how", ["silent", "said", "too broad"])
def test_what_no_question_divides_is_an_error(how: str) -> None:
    """More exams without a time than the limit, of patients whose numbers end in no sign or all in the same ones."""
    for patient in ("7-", "1007"):
        archive = Archive(_exams(25, time="", patient=patient), limit=10, how=how)
        with pytest.raises(PeerUnavailable, match="no smaller question"):
            archive.found()
        assert archive.asked < 10000


@pytest.mark.parametrize("text", ["", "1..2", ".1", "1.2\n", "1/2", "٣.1", None, 12, "1" * 65])
def test_only_a_uid_is_a_uid(text: object) -> None:
    """As the gate has it, so one with leading zeros, which archives hold, is listed; and one that was padded."""
    assert [uid_of("1.2.003"), uid_of("1.2\0"), uid_of("1.2 ")] == ["1.2.003", "1.2", "1.2"]
    with pytest.raises(PeerUnavailable, match="no UID"):
        uid_of(text)
