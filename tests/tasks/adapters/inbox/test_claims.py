"""Same pixels under other identifiers (fault 11): one is used, the rest is listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imagecodecs
import pydicom
import pytest

from mammo_tests import hostile
from schemas.layout import MANIFEST_NAMES
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.gate.admission import accept_image
from tasks.adapters.inbox.claims import NOT_COMPARED, one_of_each, publishable, refusals, write_leakage_list
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.pseudonyms import Pseudonyms

WriteSound = Callable[..., Path]


LABEL_NAMES = frozenset(("benign", "malignant", "birads", "label_source", "density", "finding_type", "lesion_boxes"))


def line(row: int, image: str, exam: str, patient: str, digest: str) -> LedgerLine:
    """What of a stored image matters here."""
    stored: dict[str, object] = {
        "row": row,
        "image_id": image,
        "exam_id": exam,
        "patient_id": patient,
        "pixel_sha256": digest,
    }
    return LedgerLine(file_id=image.replace("I", "F"), stored=stored)


def test_the_first_stored_is_kept_and_the_others_say_what_they_share() -> None:
    """Rows decide, not the order of the lines; the same exam is a double export."""
    lines = [
        line(1, "I1", "E1", "P1", "same"), line(2, "I2", "E1", "P1", "same"),
        line(3, "I3", "E1", "P1", "other"), line(4, "I4", "E2", "P1", "same"),
    ]  # fmt: skip
    kept, twins = one_of_each(lines)
    assert [item.image_id for item in kept] == ["I1", "I3"]
    assert {twin.left_out_image_id: twin.shares for twin in twins} == {"I2": "exam", "I4": "patient"}
    assert {twin.kept_image_id for twin in twins} == {"I1"}


def test_of_two_patients_images_none_is_used() -> None:
    """Nobody can tell whose it is, whichever came first; who shares a PatientID but for the issuer is one patient."""
    shared = [line(1, "I1", "E1", "P1", "same"), line(2, "I2", "E2", "P2", "same"), line(3, "I3", "E1", "P1", "other")]
    kept, twins = one_of_each(shared)
    assert [item.image_id for item in kept] == ["I3"]
    assert [(twin.left_out_image_id, twin.kept_image_id, twin.shares) for twin in twins] == [
        ("I1", "", "nothing"),
        ("I2", "", "nothing"),
    ]
    one_woman = [replace(item, stored={**item.stored, "bare_patient_id": "P1"}) for item in shared]
    assert [item.image_id for item in one_of_each(one_woman)[0]] == ["I1", "I3"]


def test_an_exam_of_two_patients_or_dates_is_left_out_alone() -> None:
    """E04: every image of that exam is quarantined, the other exams are published; a missing date contradicts nothing."""

    def dated(item: LedgerLine, day: str | None) -> LedgerLine:
        return replace(item, stored={**item.stored, "exam_date": day})

    found = publishable([
        dated(line(1, "I1", "E1", "P1", "a"), "2020-01-01"), dated(line(2, "I2", "E1", "P2", "b"), "2020-01-01"),
        dated(line(3, "I3", "E2", "P3", "c"), "2020-01-01"), dated(line(4, "I4", "E2", "P3", "d"), "2020-01-02"),
        dated(line(5, "I5", "E3", "P4", "e"), "2020-01-01"), dated(line(6, "I6", "E3", "P4", "f"), None),
    ])  # fmt: skip
    assert [item.image_id for item in found.lines] == ["I5", "I6"]
    assert [(file.file_id, file.reason_codes) for file in found.refused] == [(f"F{n}", ("E04",)) for n in range(1, 5)]


def test_later_copies_do_not_change_what_is_used() -> None:
    """A copy that comes in a later ingest gets a later row: the published image stays."""
    first = [line(1, "I5", "E1", "P1", "same")]
    kept, _ = one_of_each([*first, line(20, "I1", "E9", "P1", "same")])
    assert kept == first


def test_twins_are_refused_and_listed(tmp_path: Path) -> None:
    """E03 for the file that is left out, and a list with leakage between patients first."""
    lines = [
        line(1, "I1", "E1", "P1", "a"), line(2, "I2", "E1", "P1", "a"),
        line(3, "I3", "E3", "P3", "b"), line(4, "I4", "E9", "P9", "b"),
    ]  # fmt: skip
    _, twins = one_of_each(lines)
    assert [(file.file_id, file.reason_codes) for file in refusals(twins)] == [
        ("F2", ("E03",)),
        ("F3", ("E03",)),
        ("F4", ("E03",)),
    ]
    write_leakage_list(tmp_path / "leakage.csv", twins)
    assert (tmp_path / "leakage.csv").read_text().splitlines() == [
        "shares,kept_image_id,left_out_image_id,pixel_sha256",
        "nothing,,I3,b",
        "nothing,,I4,b",
        "exam,I1,I2,a",
    ]


def test_another_header_and_compression_hide_no_twin(tmp_path: Path, write_sound: WriteSound) -> None:
    """The same values under a new patient, new UIDs and JPEG-LS have the same pixel digest and other pseudonyms."""
    path = write_sound(tmp_path / "a.dcm")
    stream = bytes(imagecodecs.jpegls_encode(pydicom.dcmread(path).pixel_array))
    copied = hostile.recoded(path.read_bytes(), "1.2.840.10008.1.2.4.80", stream)
    copied = hostile.edited(copied, {"PatientID": "OTHER", "StudyInstanceUID": "2.25.9", "SOPInstanceUID": "2.25.99"})
    (tmp_path / "b.dcm").write_bytes(copied)
    (first, first_pixels), (second, second_pixels) = (
        accept_image(tmp_path / name, source_dir=tmp_path, profile=profile_named("phantom"), pseudonyms=Pseudonyms(b"k" * 32))
        for name in ("a.dcm", "b.dcm")
    )
    assert first_pixels.pixel_sha256 == second_pixels.pixel_sha256
    assert first.image_id != second.image_id and first.patient_id != second.patient_id
    assert first.source_sha256 != second.source_sha256


@pytest.mark.parametrize("name", sorted(set(MANIFEST_NAMES) - LABEL_NAMES - NOT_COMPARED - {"image_id"}))
def test_a_claim_that_differs_in_anything_published_is_a_contradiction(name: str) -> None:
    """One column after the other: none of the two is used, and the message names the file that is the other one."""
    one, other = line(1, "I1", "E1", "P1", "same"), line(2, "I1", "E1", "P1", "same")
    stored = {**one.stored, "laterality": "R", name: "x"}
    claims = [replace(one, file_id="F1", stored=stored), replace(other, file_id="F2", stored={**stored, "row": 2, name: "y"})]
    found = publishable(claims)
    assert (found.lines, found.contested) == ((), 1)
    assert "F2" in found.refused[0].refusal.what


def test_warnings_of_what_an_image_shows_are_compared_and_those_of_its_file_are_not() -> None:
    """An implant in one claim alone is a contradiction; how the file was coded is none."""
    one = line(1, "I1", "E1", "P1", "same")
    for warnings, contested in (("V08 V09", 1), ("V09", 1), ("X16 V14", 0)):
        claims = [
            replace(one, stored={**one.stored, "gate_warnings": "X15 V08"}),
            replace(one, file_id="F2", stored={**one.stored, "row": 2, "gate_warnings": f"{warnings} P01"}),
        ]
        if not contested:
            claims[0] = replace(one, stored={**one.stored, "gate_warnings": "X15"})
        assert publishable(claims).contested == contested


@pytest.mark.parametrize("name", sorted(NOT_COMPARED - {"row"}))
def test_a_copy_may_differ_in_where_and_how_it_was_stored(name: str) -> None:
    """Another compression, another crop by another release: the first stored is used."""
    one = line(1, "I1", "E1", "P1", "same")
    claims = [
        replace(one, stored={**one.stored, name: "x"}),
        replace(one, file_id="F2", stored={**one.stored, "row": 2, name: "y"}),
    ]
    assert [kept.row for kept in publishable(claims).lines] == [1]
