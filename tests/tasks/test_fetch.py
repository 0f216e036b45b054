"""Ingest with a source: exams of a PACS are fetched, published, and not asked for again, whatever became of their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from flows.ingest import ingest_steps
from mammo_tests.other_systems import Orthanc, arrived, orthanc, pacs_config, write_exam
from mammo_tests.plain_tasks import PlainSubmit
from schemas.config.run import RunConfig
from schemas.errors import NoExamsFound, PeerUnavailable
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.store.exam_store import open_store
from tasks.fetch import fetch_exams
from tasks.stage import load_ingested

DAY = date(2021, 5, 4)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Orthanc]:
    """A PACS with one exam of four views."""
    with orthanc(tmp_path / "orthanc") as server:
        server.take(*write_exam(tmp_path / "exams", 1, images=4, side_px=300, day=DAY))
        yield server


@pytest.fixture
def config(archive: Orthanc, tmp_path: Path, make_config: Callable[..., RunConfig]) -> RunConfig:
    """A run whose exams come from the PACS."""
    content: dict[str, Any] = make_config(tmp_path / "ws", tmp_path / "none").model_dump(mode="json")
    pacs = pacs_config(archive.listener_port, archive=archive).model_dump(mode="json")
    pacs["peers"]["web"] |= {"attempts": 1}
    content["ingest"] |= {
        "source_dir": str(tmp_path / "inbox"), "labels_csv": None, "masks_dir": None, "settle_s": 0,
        "source": {"peer": "web", "since": str(DAY)},
    }  # fmt: skip
    return RunConfig.model_validate(content | {"pacs": pacs})


def test_what_ingest_knows_is_not_fetched_again(archive: Orthanc, config: RunConfig, tmp_path: Path) -> None:
    """Two runs publish an exam once; its files deleted, or the exam withdrawn, it is not fetched; a new one is."""
    report = ingest_steps(config, PlainSubmit())
    assert (report.images_published, report.images_new) == (4, 4)
    assert len(arrived(config.ingest.source_dir)) == 4
    for path in arrived(config.ingest.source_dir):
        path.unlink()
    archive.take(*write_exam(tmp_path / "exams", 2, images=1, side_px=300, day=DAY))
    report = ingest_steps(config, PlainSubmit())
    assert (report.images_published, report.images_new, len(arrived(config.ingest.source_dir))) == (5, 1, 1)
    (path,) = arrived(config.ingest.source_dir)
    path.unlink()
    with StoreLedger(open_store(config.workspace_dir / "exam_store")) as ledger:
        exams = {exam_id for _, _, exam_id in ledger.claims()}
        ledger.enter_withdrawals([("a line", exams)])
        ledger.withdraw([], [image_id for _, image_id, _ in ledger.claims()])
    assert (
        fetch_exams.fn(config).counts() | {"images": 5, "images_here": 5, "images_fetched": 0}
        == fetch_exams.fn(config).counts()
    )


def test_a_pacs_that_is_away_is_a_transient_failure(archive: Orthanc, config: RunConfig) -> None:
    """Which Prefect tries again, and the next run makes up for."""
    archive.end()
    with pytest.raises(PeerUnavailable):
        fetch_exams.fn(config)
    archive.start()
    assert fetch_exams.fn(config).images_fetched == 4


def test_a_pacs_that_is_away_keeps_nothing_out_that_was_pushed(
    archive: Orthanc, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """What is in the inbox is published; the failure is told in the report and at the end, and is made up for by the next run.

    With nothing in the inbox it is this failure that is told, not the empty folder; that all files were refused is in the log.
    """
    archive.end()
    with pytest.raises(PeerUnavailable):
        ingest_steps(config, PlainSubmit())
    (config.ingest.source_dir / "letter.txt").write_text("Dear colleague, " * 500)
    with pytest.raises(PeerUnavailable):
        ingest_steps(config, PlainSubmit())
    assert "can be used" in caplog.text
    write_exam(config.ingest.source_dir, 7, images=4, side_px=300, day=DAY)
    with pytest.raises(PeerUnavailable) as told:
        ingest_steps(config, PlainSubmit())
    report = load_ingested(config)
    assert report.images_published == 4
    assert str(told.value) == f"{report.not_fetched} What is here was ingested: 4 images are published, 4 of them new"
    archive.start()
    report = ingest_steps(config, PlainSubmit())
    assert (report.images_published, report.images_new, report.not_fetched) == (8, 4, "")


def test_a_pacs_without_exams_is_told(archive: Orthanc, config: RunConfig) -> None:
    """As an empty folder is."""
    archive.forget_all()
    with pytest.raises(NoExamsFound):
        ingest_steps(config, PlainSubmit())
