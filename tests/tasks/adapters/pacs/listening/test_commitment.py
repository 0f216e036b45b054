"""A PACS asks whether what it pushed is safe, and is told the truth of the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest

from mammo_tests.other_systems import ListenerProcess, Orthanc, arrived, push_as_stored, until, write_exam

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")


def test_a_pacs_is_told_what_is_safe(archive: Orthanc, listener: ListenerProcess, tmp_path: Path) -> None:
    """Orthanc asks of an image that is there and of one that is not; then of the first again, which somebody took away."""
    here, missing = write_exam(tmp_path, 31, images=2)
    assert push_as_stored(listener.port, here) == [0]
    named = [pydicom.dcmread(path, stop_before_pixels=True) for path in (here, missing)]
    asked = [[str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)] for dataset in named]
    first = _answer(archive, asked)
    assert (first["Status"], len(first["Success"])) == ("Failure", 1)
    assert first["Success"][0]["SOPInstanceUID"] == named[0].SOPInstanceUID
    assert [(each["SOPInstanceUID"], each["Description"]) for each in first["Failures"]] == [
        (named[1].SOPInstanceUID, "One or more of the elements in the Referenced SOP Instance Sequence was not available")
    ]
    assert _answer(archive, asked[:1])["Status"] == "Success"
    for path in arrived(listener.inbox_dir):
        path.unlink()
    assert _answer(archive, asked[:1])["Status"] == "Failure"


def _answer(archive: Orthanc, asked: list[list[str]]) -> Any:
    request = json.dumps({"DicomInstances": asked}).encode()
    transaction = archive.ask("/modalities/mammo/storage-commitment", request)
    assert transaction is not None, (archive.home / "orthanc.log").read_text()[-1500:]
    path = transaction["Path"]
    assert until(lambda: archive.ask(path)["Status"] != "Pending"), archive.ask(path)
    return archive.ask(path)
