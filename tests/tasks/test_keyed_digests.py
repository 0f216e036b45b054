"""Digests of source files need the key: who has a file cannot find its line. An older release's plain ones are understood."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pydicom
import pytest

from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from tasks.adapters.dicom.dicom_file import read_pixels
from tasks.adapters.inbox.source_folder import source_files
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.workspace import Workspace

IngestHere = Callable[[RunConfig], IngestReport]
MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def config(tmp_path: Path, two_exams: Path, make_config: MakeConfig, ingest_here: IngestHere) -> RunConfig:
    """Two exams of four views, ingested."""
    made = make_config(tmp_path / "workspace", two_exams)
    assert ingest_here(made).images_published == 8
    return made


def _plain(path: Path) -> dict[str, str]:
    """What anybody computes who has the file."""
    pixels = read_pixels(path).astype("<u2")
    return {
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "pixel_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
    }


def _sources(config: RunConfig) -> dict[str, Path]:
    """File id -> file."""
    listing = source_files(config.ingest.source_dir, open_key(Workspace(config.workspace_dir).key_path))
    return {file.file_id: file.path for file in listing.files}


def test_who_has_a_file_cannot_find_its_line(config: RunConfig) -> None:
    """No file of the workspace holds the plain digest of a source file or of its pixels; the manifest holds keyed ones."""
    plain = {digest for path in _sources(config).values() for digest in _plain(path).values()}
    assert len(plain) == 16
    for path in config.workspace_dir.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert [digest for digest in plain if digest.encode() in content] == [], path.name
    manifest = read_manifest(open_store(Workspace(config.workspace_dir).store_dir))
    assert plain.isdisjoint(manifest.to_csv().replace("\n", ",").split(","))
    pseudonyms = open_key(Workspace(config.workspace_dir).key_path)
    keyed = {pseudonyms.source_digest(_plain(path)["source_sha256"]) for path in _sources(config).values()}
    assert set(manifest["source_sha256"]) == keyed
    assert keyed.isdisjoint(pseudonyms.pixel_digest(_plain(path)["source_sha256"]) for path in _sources(config).values())


def _as_an_older_release_left_it(config: RunConfig) -> None:
    """Plain digests in the ledger, in its lines and, published from them, in the manifest."""
    with closing(sqlite3.connect(Workspace(config.workspace_dir).store.ledger_path)) as ledger:
        for file_id, path in _sources(config).items():
            plain = _plain(path)
            (line,) = ledger.execute("SELECT manifest FROM images WHERE file_id = ?", (file_id,)).fetchone()
            ledger.execute("UPDATE files SET source_sha256 = ? WHERE file_id = ?", (plain["source_sha256"], file_id))
            ledger.execute(
                "UPDATE images SET pixel_sha256 = ?, manifest = ? WHERE file_id = ?",
                (plain["pixel_sha256"], json.dumps({**json.loads(line), **plain}), file_id),
            )
        ledger.execute("PRAGMA user_version = 0")
        ledger.commit()


def _states(config: RunConfig) -> list[str]:
    with closing(sqlite3.connect(Workspace(config.workspace_dir).store.ledger_path)) as ledger:
        return [state for (state,) in ledger.execute("SELECT state FROM files ORDER BY state")]


def _altered(path: Path, name: str, **attributes: str) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path.with_name(name))


def test_plain_digests_of_an_older_release_are_understood_beside_keyed_ones(config: RunConfig, ingest_here: IngestHere) -> None:
    """The data version stays, also when images are written again; copies, twins and contradictions are found as ever."""
    _as_an_older_release_left_it(config)
    sources = _sources(config)
    published = ingest_here(config)
    manifest = read_manifest(open_store(published.store_dir))
    assert set(manifest["source_sha256"]) == {_plain(path)["source_sha256"] for path in sources.values()}

    first, second, third, *_ = sorted(sources.values())
    shutil.copy2(first, first.with_name("a copy.dcm"))
    first_id = next(file_id for file_id, path in sources.items() if path == first)
    assert ingest_here(config).images_copied == 0 and _states(config) == ["accepted"] * 8 + ["duplicate"]
    first.unlink()
    with StoreLedger(open_store(published.store_dir)) as ledger:
        ledger.mark_damaged(list(sources))
    again = ingest_here(config)  # all are written again, the first from its copy
    assert (again.images_published, again.data_version) == (8, published.data_version)
    assert _states(config) == ["accepted"] * 8 + ["duplicate"] and first_id not in _sources(config)

    _altered(second, "a twin.dcm", SOPInstanceUID="2.25.1")
    _altered(third, "another age.dcm", PatientAge="031Y")
    report = ingest_here(config)
    assert report.quarantined_by_reason == {"I06": 2, "E03": 1} and report.images_published == 7
    quarantine = Workspace(config.workspace_dir).store.quarantine_path.read_text()
    assert "has the same SOPInstanceUID and an age:" in quarantine
