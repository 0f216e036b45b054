"""A workspace of an earlier release: what is finished there is finished for us too, and its store can be read."""

from __future__ import annotations

import fcntl
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.configuration import load_config
from deployments.local_run import finished_report
from schemas.config.run import Stage
from schemas.errors import StoreError
from schemas.reports.data import IngestReport
from tasks.adapters.inbox.store_ledger import StoreLedger, adopted
from tasks.adapters.store.exam_store import crop_digest, open_store, read_row
from tasks.adapters.store.manifest import lines_of, read_manifest
from tasks.adapters.store.parts import manifest_table, write_arrays_id, write_manifest
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.workspace import StoreFolder, Workspace, named_paths
from tasks.stage import load_report, save_report

ARCHIVE = Path(__file__).parents[1] / "golden" / "workspace" / "workspace.tar.xz"
PLACE = Path("/tmp/mammo-golden-workspace")  # noqa: S108  the keys of that release hold the path it was made at
STAGES = ("validate", "split", "train", "evaluate", "explain")

Mammo = Callable[..., Any]


@pytest.fixture(scope="module")
def old_config() -> Iterator[Path]:
    """The config of the unpacked workspace. One test run at a time has the place."""
    with PLACE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(PLACE, ignore_errors=True)
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(PLACE, filter="data")
        (PLACE / "workspace" / "pseudonym.key").chmod(0o600)
        yield PLACE / "run.yaml"
        shutil.rmtree(PLACE, ignore_errors=True)


def test_every_stage_of_an_old_workspace_is_finished(old_config: Path) -> None:
    """The keys are made of the same parts, and the reports can still be read: nothing is trained again."""
    config = load_config(old_config)
    assert [stage for stage in STAGES if finished_report(stage, config) is None] == []


def test_what_an_old_evaluation_lacks_is_said(old_config: Path, mammo: Mammo) -> None:
    """It is not made again by itself; the terminal says what this release would measure besides, and how."""
    answer = mammo("evaluate", old_config)
    assert answer.code == 0 and "Finished before" in answer.stderr
    assert "percentile bootstrap" in answer.stdout and "mammo evaluate CONFIG.yaml --force evaluate" in answer.stdout


def test_an_old_workspace_that_was_moved_is_finished_too(old_config: Path, tmp_path: Path) -> None:
    """Its keys and reports hold the place it was made at. The copy is asked beside the original, and reads its own files."""
    shutil.copytree(old_config.parent, tmp_path / "moved")
    moved_config = tmp_path / "moved" / old_config.name
    moved_config.write_text(old_config.read_text().replace(str(PLACE), str(tmp_path / "moved")))
    config = load_config(moved_config)
    reports = {stage: finished_report(stage, config) for stage in STAGES}
    assert [stage for stage, report in reports.items() if report is None] == []
    named = [path for report in reports.values() if report is not None for path in named_paths(report.model_dump())]
    named.append(load_report(config, Stage.INGEST, IngestReport).store_dir)
    assert len(named) > 10 and all(path.is_relative_to(tmp_path) and path.exists() for path in named)


def test_labels_that_came_since_are_evaluated(old_config: Path, tmp_path: Path) -> None:
    """Ingest has published corrected labels, and nobody divided anew: numbers of the former labels are not given for theirs.

    The gallery is of the evaluation, and waits for it.
    """
    shutil.copytree(old_config.parent, tmp_path / "moved")
    moved_config = tmp_path / "moved" / old_config.name
    moved_config.write_text(old_config.read_text().replace(str(PLACE), str(tmp_path / "moved")))
    config = load_config(moved_config)
    ingested = load_report(config, Stage.INGEST, IngestReport)
    save_report(config, Stage.INGEST, ingested.model_copy(update={"data_version": "of other labels"}))
    assert finished_report("evaluate", config) is None and finished_report("explain", config) is not None


def test_an_old_ledger_leaves_nothing_to_ingest(old_config: Path, mammo: Mammo) -> None:
    """Every file is settled: none is opened (they hold zeros here), and the same images are published."""
    manifest_path = Workspace(load_config(old_config).workspace_dir).store_dir / "manifest.parquet"
    before = read_manifest(open_store(manifest_path.parent))
    answer = mammo("ingest", old_config)
    assert answer.code == 0, answer.stderr
    after = read_manifest(open_store(manifest_path.parent))
    assert len(after) == 20 and after.equals(before)


@pytest.mark.parametrize("marked", [(), ("ledger",), ("ledger", "arrays")], ids=str)
def test_an_old_store_is_given_an_id_even_if_that_was_cut(old_config: Path, tmp_path: Path, marked: tuple[str, ...]) -> None:
    """Readers take it as it is until every part carries the id; a killed adoption is finished with the id it began with."""
    shutil.copytree(old_config.parent / "workspace" / "exam_store", tmp_path / "exam_store")
    files = StoreFolder(tmp_path / "exam_store")
    files.settings_path.write_text(_without_id(files))
    store = open_store(files.root)
    with StoreLedger(store) as ledger:
        ledger.carry("begun" if "ledger" in marked else "")
    write_arrays_id(files, "begun" if "arrays" in marked else "")
    write_manifest(files, manifest_table(files, ""), "")
    assert len(read_manifest(open_store(files.root))) == 20

    store_id = adopted(store).store_id
    assert store_id and (store_id == "begun" or not marked)
    opened = open_store(files.root)
    with StoreLedger(opened) as ledger:
        assert ledger.store_id == opened.store_id == store_id
    assert len(read_manifest(opened)) == 20


def test_an_old_store_whose_ledger_was_emptied_is_refused(old_config: Path, tmp_path: Path) -> None:
    """It would give out rows that the manifest names."""
    shutil.copytree(old_config.parent / "workspace" / "exam_store", tmp_path / "exam_store")
    files = StoreFolder(tmp_path / "exam_store")
    files.settings_path.write_text(_without_id(files))
    write_manifest(files, manifest_table(files, ""), "")
    files.ledger_path.write_bytes(b"")
    with pytest.raises(StoreError, match="does not know the images that the manifest names"):
        adopted(open_store(files.root))


def _without_id(files: StoreFolder) -> str:
    return read_settings(files).model_copy(update={"store_id": ""}).model_dump_json()


def test_an_old_store_is_read(old_config: Path) -> None:
    """The images of its last shard have the digests that were taken when they were written."""
    store = open_store(Workspace(load_config(old_config).workspace_dir).store_dir)
    lines = [line for line in lines_of(read_manifest(store)) if line["row"] // store.rows_per_shard == 2]
    assert len(lines) == 4
    for line in lines:
        crop_HW = read_row(store, line["row"], size_px=(line["stored_rows_px"], line["stored_columns_px"]))
        assert crop_digest(crop_HW) == line["written_sha256"]
