"""An encoded object is walked by its lengths: what it is comes from its own level, and where it was cut is seen."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from mammo_tests.other_systems import data_set_bytes, rewritten, write_exam
from tasks.adapters.pacs.encoded_object import Incomplete, name_of, whole_file

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def _with_other_exams(dataset: pydicom.Dataset) -> None:
    """Sequences that come before the exam's own UID and hold another's, of a length that is not given, nested."""
    inner = Dataset()
    inner.StudyInstanceUID = "2.25.999"
    inner.ReferencedSOPInstanceUID = "2.25.998"
    outer = Dataset()
    outer.ReferencedSeriesSequence = Sequence([inner])
    outer["ReferencedSeriesSequence"].is_undefined_length = True
    inner.is_undefined_length_sequence_item = True  # type: ignore[attr-defined]  # read by pydicom's writer
    dataset.ReferencedStudySequence = Sequence([outer, inner])
    dataset["ReferencedStudySequence"].is_undefined_length = True
    dataset.add_new(0x00090010, "LO", "private")
    dataset.add_new(0x00091001, "UN", b"\x20\x00\x0d\x00 2.25.997")


@pytest.mark.parametrize("syntax", [*UNCOMPRESSED, JPEGLSLossless, RLELossless], ids=str)
def test_an_object_says_what_it_is(tmp_path: Path, syntax: str) -> None:
    """Of sequences that name other exams nothing is taken; where its data set begins is found."""
    (sound,) = write_exam(tmp_path, 1)
    path = rewritten(sound, tmp_path / "sent.dcm", syntax, _with_other_exams)
    content = memoryview(path.read_bytes())
    named, start = whole_file(content)
    assert (named.study_uid, named.sop_uid) == ("2.25.8100001", "2.25.830000100")
    assert content[start:] == data_set_bytes(path)
    assert name_of(content[start:], syntax) == named
    assert "2.25" not in repr(named)


@pytest.mark.parametrize("syntax", [*UNCOMPRESSED, JPEGLSLossless, RLELossless], ids=str)
def test_a_file_that_was_cut_is_never_whole(tmp_path: Path, syntax: str) -> None:
    """Wherever it was cut; pydicom reads what is left without a word."""
    (sound,) = write_exam(tmp_path, 1, side_px=8)
    content = rewritten(sound, tmp_path / "sent.dcm", syntax, _with_other_exams).read_bytes()
    whole_file(memoryview(content))
    for length in range(0, len(content) - 1, 7):
        with pytest.raises(Incomplete):
            whole_file(memoryview(content)[:length])
    with pytest.raises(Incomplete):
        whole_file(memoryview(content)[:-1])


def test_a_deflated_file_is_named_by_its_meta_information(tmp_path: Path) -> None:
    """It is not inflated: the gate refuses it."""
    (sound,) = write_exam(tmp_path, 1)
    dataset = pydicom.dcmread(sound)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm")
    content = memoryview((tmp_path / "deflated.dcm").read_bytes())
    named, start = whole_file(content)
    assert (named.sop_uid, named.study_uid) == ("2.25.830000100", "")
    with pytest.raises(Incomplete, match="deflated"):
        name_of(content[start:], DeflatedExplicitVRLittleEndian)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(UNCOMPRESSED))
def test_any_bytes_are_a_name_or_incomplete(content: bytes, syntax: str) -> None:
    """Whatever a peer sends, nothing else comes of it, and it ends."""
    for walk in (lambda: name_of(memoryview(content), syntax), lambda: whole_file(memoryview(b"\0" * 128 + b"DICM" + content))):
        try:
            walk()
        except Incomplete:
            continue


def test_sequences_nested_without_end_are_refused() -> None:
    """A thousand levels are no recursion without bound."""
    level = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(Incomplete, match="nested too deep"):
        name_of(memoryview(level * 1000), ExplicitVRLittleEndian)
