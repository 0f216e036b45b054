"""The contact sheet: every refused file with its reasons, pictures where pixels decode, and nobody's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.config.ingest import GateLimits, IngestConfig
from schemas.exam import QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.inbox.sources.exam_source import find_sources
from tasks.adapters.pages import contact_sheet
from tasks.adapters.pages.contact_sheet import write_contact_sheet
from tasks.adapters.pseudonyms import Pseudonyms

WriteSound = Callable[..., Path]
PSEUDONYMS = Pseudonyms(b"k" * 32)
CREATED = datetime(2026, 1, 2, tzinfo=UTC)


def refused(file_id: str, *codes: str, message: str = "The gate refuses this file.") -> QuarantinedFile:
    """A refusal."""
    return QuarantinedFile(file_id=file_id, refusal=Refusal(rules=codes, what=message))


def sheet(folder: Path, files: list[QuarantinedFile], sources: dict[str, Path]) -> str:
    """The page's text."""
    found = {name: SourceFile(file_id=name, lies_at=path, fingerprint="") for name, path in sources.items()}
    path = write_contact_sheet(
        files, found, source_dir=folder / "in", output_path=folder / "out" / "sheet.html", created=CREATED,
        limits=GateLimits(timeout_s=20),
    )  # fmt: skip
    return path.read_text(encoding="utf-8")


def test_every_refused_file_is_shown_with_its_reasons(tmp_path: Path, write_sound: WriteSound) -> None:
    """A picture where the pixels decode, a sentence where they do not or may name somebody; all ids, rules and demands."""
    (tmp_path / "in").mkdir()
    sound = write_sound(tmp_path / "in" / "CANARYFILE.dcm")
    (tmp_path / "in" / "text.dcm").write_text("CANARYNAME " * 400)
    files = [
        refused("F1", "V05"), refused("F2", "F14"), refused("F3", "D01"), refused("F4", "X26", "X28"), refused("F5", "F11"),
        refused("F6", "C01"), refused("F7", "X26"), refused("F8", "X26"), refused("F9", "X21"), refused("F10", "F05"),
    ]  # fmt: skip
    sources = dict.fromkeys(("F1", "F3", "F5", "F6", "F9", "F10"), sound) | {"F2": tmp_path / "in" / "text.dcm"}
    sources |= {"F7": tmp_path / "in" / "CANARY-taken-away", "F8": tmp_path / ("CANARY" * 50)}
    page = sheet(tmp_path, files, sources)
    for text in (
        "F1",
        "F2",
        "F3",
        "F4",
        "F5",
        "F6",
        "F7",
        "F8",
        "F9",
        "F10",
        "V05",
        "X28",
        "No magnification, spot compression or tangential view",
    ):
        assert text in page
    # F1 and F6; F3 may show a name, F5 broke the reader, F2, F9 and F10 cannot be drawn, the others are gone.
    assert page.count("<img ") == 2
    for text in ("text is burned in", "its pixels do not decode", "too few or too many bytes", "not a DICOM file"):
        assert text in page
    assert not re.search("CANARY|" + re.escape(str(tmp_path)), page)


def test_the_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    """A message that is hostile all the same is shown as text; the policy forbids everything but embedded pictures."""
    page = sheet(tmp_path, [refused("F1", "X22", message="<script>alert(1)</script>")], {})
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)


def test_a_page_of_very_many_files_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit files are counted, not drawn."""
    monkeypatch.setattr(contact_sheet, "MOST_CARDS", 3)
    page = sheet(tmp_path, [refused(f"F{number}", "F05") for number in range(10)], {})
    assert page.count("<article") == 3
    assert "The first 3 of 10 files" in page


def test_an_empty_quarantine_is_a_page_too(tmp_path: Path) -> None:
    """No file refused is said, not an error."""
    assert "No file is refused" in sheet(tmp_path, [], {})


def test_files_are_found_by_their_keyed_id(tmp_path: Path) -> None:
    """By the path below the source folder, names with newlines and other bytes included; a file that is gone is left out."""
    names = ["a/one.dcm", "b\nc.dcm", "latin-\udce9.dcm"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    ids = {PSEUDONYMS.file_id(name): tmp_path / name for name in names}
    ingest = IngestConfig(source_dir=tmp_path)
    found = find_sources(ingest, [*ids, "F" + "0" * 24], PSEUDONYMS)
    assert {name: file.path for name, file in found.items()} == ids
    assert find_sources(ingest, list(ids), Pseudonyms(b"other key" * 4)) == {}


def test_the_page_is_accessible(
    tmp_path: Path, write_sound: WriteSound, accessibility_faults: Callable[[Path], list[str]]
) -> None:
    """axe-core finds nothing serious."""
    (tmp_path / "in").mkdir()
    sheet(tmp_path, [refused("F1", "V05"), refused("F3", "D01")], {"F1": write_sound(tmp_path / "in" / "a.dcm")})
    assert accessibility_faults(tmp_path / "out" / "sheet.html") == []
