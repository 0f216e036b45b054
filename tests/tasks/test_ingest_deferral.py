"""Ingest when the environment fails: nothing is settled as a file's fault, nothing is withdrawn, a rerun mends all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from deployments.cli import app
from flows.scrub import scrub_steps
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, SourceUnavailable, TooManyWithdrawn
from schemas.reports.data import IngestReport
from tasks.adapters.inbox.batches import comparison_batches, header_batches, shard_batches
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.workspace import Workspace
from tasks.ingest import ingest_batch, inspect_batch, scan_source
from tasks.publish import publish_exams
from tasks.retries import is_transient

IngestHere = Callable[[RunConfig], IngestReport]
MakeConfig = Callable[..., RunConfig]


def images(folder: Path) -> list[Path]:
    """The cohort's DICOM files."""
    return sorted((folder / "dicom").rglob("*.dcm"))


def published(config: RunConfig) -> int:
    """Images that readers see."""
    return len(read_manifest(open_store(Workspace(config.workspace_dir).store_dir)))


def states(config: RunConfig) -> dict[str, int]:
    """How many files the ledger calls what."""
    path = Workspace(config.workspace_dir).store_dir / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM files GROUP BY state").fetchall())


@pytest.fixture
def config(tmp_path: Path, two_exams: Path, make_config: MakeConfig) -> RunConfig:
    """Eight images of two exams."""
    return make_config(tmp_path / "workspace", two_exams)


def test_a_share_that_goes_away_between_scan_and_read_settles_nothing(
    config: RunConfig, two_exams: Path, scheduler: str, ingest_here: IngestHere
) -> None:
    """Eight files: a transient error, nothing refused; when the share is back, all eight are published."""
    scan = scan_source.fn(config)
    away = two_exams.rename(two_exams.with_name("away"))
    (batch,) = header_batches(config, scan)
    with pytest.raises(SourceUnavailable) as caught:
        inspect_batch.fn(config, scheduler, batch)
    assert is_transient(caught.value) and caught.value.exit_code == 75
    assert "ENOENT: 8" in str(caught.value) and str(two_exams) not in str(caught.value)
    assert states(config) == {}
    away.rename(two_exams)
    report = ingest_here(config)
    assert (report.images_published, report.files_deferred, report.files_quarantined) == (8, 0, 0)


@pytest.mark.parametrize("moment", ["headers", "pixels"])
def test_what_is_published_stays_when_the_share_goes_away(
    config: RunConfig, two_exams: Path, scheduler: str, ingest_here: IngestHere, moment: str
) -> None:
    """Eight published images whose files were touched since: no claim is dropped, before or after their headers are read."""
    first = ingest_here(config)
    for path in images(two_exams):
        os.utime(path)
    scan = scan_source.fn(config)
    assert len(scan.unsettled) == 8
    if moment == "pixels":  # what the mask changes is written anew, from the file
        for path in (two_exams / "masks").glob("*.png"):
            cv2.imwrite(str(path), np.zeros_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
        for batch in (*header_batches(config, scan), *comparison_batches(config, scan)):
            inspect_batch.fn(config, scheduler, batch)
        scan = scan_source.fn(config)
        assert scan.unsettled
    shards = shard_batches(config, scan) if moment == "pixels" else ()
    away = two_exams.rename(two_exams.with_name("away"))
    with pytest.raises(SourceUnavailable):
        if moment == "headers":
            inspect_batch.fn(config, scheduler, header_batches(config, scan)[0])
        else:
            ingest_batch.fn(config, scheduler, shards[0])
    away.rename(two_exams)
    report = publish_exams.fn(config, scan)
    assert (report.images_published, report.images_withdrawn) == (8, 0)
    assert report.data_version == first.data_version and report.files_deferred == len(scan.unsettled)
    assert ingest_here(config).files_deferred == 0


def test_a_few_files_that_cannot_be_read_do_not_stop_the_run(
    config: RunConfig, two_exams: Path, scheduler: str, ingest_here: IngestHere
) -> None:
    """One of eight: the others are published, the report counts it by what failed, and the next run reads it."""
    scan = scan_source.fn(config)
    one = images(two_exams)[0]
    aside = one.rename(two_exams / "aside")
    for batch in header_batches(config, scan):
        inspect_batch.fn(config, scheduler, batch)
    for shards in shard_batches(config, scan):
        ingest_batch.fn(config, scheduler, shards)
    report = publish_exams.fn(config, scan)
    assert (report.images_published, report.files_deferred, report.deferred_by_reason) == (7, 1, {"ENOENT": 1})
    assert report.files_quarantined == 0
    aside.rename(one)
    second = ingest_here(config)
    assert (second.images_published, second.images_new, second.files_deferred) == (8, 1, 0)


def test_a_refusal_is_settled_for_profile_limits_and_rules(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """Read once under these; once more under another limit, and once more after an upgrade of an older release's ledger."""
    (two_exams / "dicom" / "letter.dcm").write_text("no mammogram " * 500)
    ingest_here(config)
    assert scan_source.fn(config).unsettled == ()
    slower = config.model_copy(update={"ingest": config.ingest.model_copy(update={"file_timeout_s": 90.0})})
    assert len(scan_source.fn(slower).unsettled) == 1
    path = Workspace(config.workspace_dir).store_dir / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection:  # as the release before wrote it: size, time and profile
        (fingerprint,) = connection.execute("SELECT fingerprint FROM files WHERE state = 'quarantined'").fetchone()
        old = " ".join(fingerprint.split()[:2])
        connection.execute("UPDATE files SET fingerprint = ? WHERE state = 'quarantined'", (old,))
        connection.commit()
    assert len(scan_source.fn(config).unsettled) == 1
    assert ingest_here(config).files_quarantined == 1 and scan_source.fn(config).unsettled == ()


def test_a_manifest_that_would_lose_much_is_not_published_without_a_flag(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """Half of the files were written over: what is published stays, again and again, until somebody says that they may go."""
    lenient = config.model_copy(update={"ingest": config.ingest.model_copy(update={"max_failed_fraction": 1.0})})
    ingest_here(lenient)
    for path in images(two_exams)[:4]:
        path.write_text("no mammogram " * 500)
    for _ in range(2):
        with pytest.raises(TooManyWithdrawn, match="4 of 8 published images would be withdrawn") as caught:
            ingest_here(lenient)
        assert caught.value.exit_code == 8 and published(config) == 8
    allowed = lenient.model_copy(update={"ingest": lenient.ingest.model_copy(update={"allow_withdrawals": True})})
    report = ingest_here(allowed)
    assert (report.images_published, report.images_withdrawn, published(config)) == (4, 4, 4)


def test_a_file_that_is_empty_now_and_held_an_image_is_not_refused(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """A share that goes away can show files without their content: the image stays. A file that was never more is F03."""
    first = ingest_here(config)
    emptied = images(two_exams)[0]
    content = emptied.read_bytes()
    emptied.write_bytes(b"")
    (two_exams / "dicom" / "never.dcm").write_bytes(b"")
    lenient = config.model_copy(update={"ingest": config.ingest.model_copy(update={"max_failed_fraction": 1.0})})
    report = ingest_here(lenient)
    assert (report.images_published, report.data_version) == (8, first.data_version)
    assert report.deferred_by_reason == {"empty, and held an image": 1} and set(report.quarantined_by_reason) == {"F03", "F05"}
    emptied.write_bytes(content)
    again = ingest_here(lenient)
    assert (again.images_published, again.files_deferred, again.data_version) == (8, 0, first.data_version)


def test_what_a_person_took_away_may_go(config: RunConfig, two_exams: Path, ingest_here: IngestHere) -> None:
    """Discarding is a decision: it needs no flag beside it."""
    ingest_here(config)
    with Ledger(open_store(Workspace(config.workspace_dir).store_dir).ledger_path) as ledger:
        lines = ledger.manifest_lines()[:4]
        for line in lines:
            ledger._database.query("UPDATE files SET state = 'discarded' WHERE file_id = ?", (line.file_id,))
            ledger._database.query("DELETE FROM images WHERE file_id = ?", (line.file_id,))
    assert ingest_here(config).images_published == 4


def test_a_source_folder_that_cannot_be_opened_is_no_empty_one(config: RunConfig, ingest_here: IngestHere) -> None:
    """A link that leads round in a circle stands where the share was: try again later, and no path in the message."""
    ingest_here(config)
    loop = config.workspace_dir.with_name("loop-of-JANE")
    loop.symlink_to(loop)
    section = config.ingest.model_copy(update={"source_dir": loop})
    with pytest.raises(SourceUnavailable) as caught:
        scan_source.fn(config.model_copy(update={"ingest": section}))
    assert "ELOOP" in str(caught.value) and "JANE" not in str(caught.value)
    assert published(config) == 8


def test_a_workspace_inside_the_source_folder_is_refused_at_once(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """Pages and pictures of the workspace would be read as exams; also where a link hides it. Nothing is written there."""
    inside = two_exams / "dicom" / "workspace"
    link = two_exams / "elsewhere"
    link.symlink_to(two_exams / "dicom")
    for workspace in (inside, link / "workspace"):
        misplaced = config.model_copy(update={"workspace_dir": workspace})
        for use in (scan_source.fn, ingest_here, scrub_steps):
            with pytest.raises(ConfigError, match="inside the source folder"):
                use(misplaced)
        path = two_exams / "run.json"
        path.write_text(misplaced.model_dump_json())
        for verb in ("ingest", "pipeline", "predict", "scrub", "serve"):
            said = CliRunner().invoke(app, [verb, str(path)])
            assert isinstance(said.exception, ConfigError) and "inside the source folder" in str(said.exception), verb
        demo = CliRunner().invoke(app, ["demo", "--workspace", str(workspace), "--dicom", str(two_exams / "dicom")])
        assert isinstance(demo.exception, ConfigError) and "inside the source folder" in str(demo.exception)
    assert not inside.exists()
