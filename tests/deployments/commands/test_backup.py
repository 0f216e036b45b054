"""Backup and restore: what was there is there again, and an altered archive is refused."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import stat
import tarfile
from pathlib import Path

import pytest

from deployments.commands.backup import backup, restore
from schemas.errors import ConfigError, StoreBusy, StoreError
from schemas.exam import QuarantinedFile
from schemas.refusal import Refusal
from schemas.reports.report import Provenance
from schemas.reports.training import EnsembleMember, TrainReport
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.lock import held_lock, reading
from tasks.adapters.models.model_files import read_ensemble, write_ensemble
from tasks.adapters.workspace import Workspace, aside_of


def _workspace(folder: Path) -> Path:
    with Ledger(folder / "exam_store" / "ledger.sqlite") as ledger:
        ledger.add_quarantined([(_refused("a"), "1")])
    (folder / "exam_store" / "manifest.parquet").write_bytes(b"manifest of the day")
    (folder / "pseudonym.key").write_bytes(b"key")
    (folder / "prefect").mkdir()
    with sqlite3.connect(folder / "prefect" / "prefect.db") as database:
        database.execute("CREATE TABLE flow_run (name TEXT)")
        database.execute("INSERT INTO flow_run VALUES ('before')")
    return folder


def _refused(name: str) -> QuarantinedFile:
    return QuarantinedFile(file_id=name, refusal=Refusal(rules=("F05",), what="m"))


def _runs(workspace: Path) -> list[str]:
    with sqlite3.connect(workspace / "prefect" / "prefect.db") as database:
        return [name for (name,) in database.execute("SELECT name FROM flow_run")]


def test_what_happened_after_the_backup_is_undone(tmp_path: Path) -> None:
    """Ledger, manifest, key and server database are those of the backup; its file is the owner's only."""
    workspace, archive = _workspace(tmp_path / "ws"), tmp_path / "day.tar"
    with Ledger(workspace / "exam_store" / "ledger.sqlite") as in_use:
        in_use.add_quarantined([(_refused("b"), "1")])  # in the write-ahead log, not yet in the file
        backup(workspace, archive)
        in_use.add_quarantined([(_refused("c"), "1")])
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600 and set(tmp_path.iterdir()) == {workspace, archive}
    (workspace / "exam_store" / "manifest.parquet").write_bytes(b"damaged")
    (workspace / "pseudonym.key").unlink()
    with sqlite3.connect(workspace / "prefect" / "prefect.db") as database:
        database.execute("INSERT INTO flow_run VALUES ('after')")
    restore(archive, workspace)
    with Ledger(workspace / "exam_store" / "ledger.sqlite") as ledger:
        assert [file.file_id for file in ledger.quarantined()] == ["a", "b"]
    assert (workspace / "exam_store" / "manifest.parquet").read_bytes() == b"manifest of the day"
    assert (workspace / "pseudonym.key").read_bytes() == b"key" and _runs(workspace) == ["before"]
    assert stat.S_IMODE((workspace / "pseudonym.key").stat().st_mode) == 0o600


def test_a_cross_validations_networks_and_former_names_of_patients_come_back(tmp_path: Path) -> None:
    """The ensemble of all folds may be what predicts; without former names, patients whom weights know pass for unseen."""
    workspace, archive = _workspace(tmp_path / "ws"), tmp_path / "day.tar"
    folder, former = workspace / "crossvalidate", workspace / "exam_store" / "former_patients.csv"
    member = folder / "fold-1" / "train" / "run" / "epoch-0001"
    member.mkdir(parents=True)
    (member / "weights.safetensors").write_bytes(b"weights")
    write_ensemble(folder / "ensemble.json", [EnsembleMember(path=member, sha256="")])
    former.write_text("patient_id,former_patient_id\nP1,P0\n")
    backup(workspace, archive)
    shutil.rmtree(folder)
    former.unlink()
    restore(archive, workspace)
    assert [each.path for each in read_ensemble(folder / "ensemble.json")] == [member]
    assert (member / "weights.safetensors").read_bytes() == b"weights" and former.read_text().endswith("P1,P0\n")


@pytest.mark.parametrize("place", ["crossvalidate/fold-1", "table1/gmic-seed-0"])
def test_what_folds_and_rows_trained_comes_back_and_counts_as_done(tmp_path: Path, place: str) -> None:
    """Reports, keys and splits with the weights, though no ensemble names them yet: nothing is trained again."""
    workspace, archive = _workspace(tmp_path / "ws"), tmp_path / "day.tar"
    below = Workspace(workspace / place)
    member = below.stage_dir("train") / "run" / "epoch-0001"
    member.mkdir(parents=True)
    below.stage_dir("split").mkdir()
    made = {
        member / "weights.safetensors": b"weights",
        below.done_path("train"): b"key run",
        below.done_path("split"): b"key run",
        below.splits_path: b"which patient is where",
    }
    for path, content in made.items():
        path.write_bytes(content)
    trained = TrainReport(
        checkpoint_path=member,
        checkpoint_sha256="",
        run_dir=member.parent,
        epochs=(),
        best_epoch=1,
        train_exams=1,
        provenance=Provenance(
            code_version="0", config_sha256="0", data_version="0", preprocess_version="0", seed=0, created_utc="2026-01-01"
        ),
    )
    below.write_report("train", trained)
    backup(workspace, archive)
    shutil.rmtree(workspace / place)
    restore(archive, workspace)
    assert {path: path.read_bytes() for path in made} == made
    assert below.read_report("train", TrainReport).checkpoint_path == member


def test_what_somebody_is_still_writing_is_not_in_it(tmp_path: Path) -> None:
    """It lies beside its place under a hidden name, and is gone at any moment: the log's head, while exams are predicted."""
    workspace, archive = _workspace(tmp_path / "ws"), tmp_path / "day.tar"
    log = Workspace(workspace).prediction_log_dir
    log.mkdir()
    for path in (log / "head.json", aside_of(log / "head.json", "1-1")):
        path.write_bytes(b"{}")
    backup(workspace, archive)
    with tarfile.open(archive) as tar:
        assert [name for name in tar.getnames() if "head" in name] == ["prediction_log/head.json"]


def test_a_place_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The folder of the archive is not made: it may be a share that is not mounted."""
    workspace = _workspace(tmp_path / "ws")
    with pytest.raises(ConfigError, match=r"day\.tar cannot be written"):
        backup(workspace, tmp_path / "not-there" / "day.tar")


def test_half_of_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """Whoever compressed it gets an error of ours, with what to do."""
    workspace, archive = _workspace(tmp_path / "ws"), tmp_path / "day.tar"
    (workspace / "pseudonym.key").write_bytes(os.urandom(2**18))
    backup(workspace, archive)
    packed = tmp_path / "day.tar.gz"
    packed.write_bytes(gzip.compress(archive.read_bytes())[: 2**17])
    with pytest.raises(StoreError, match="is no backup") as refused:
        restore(packed, workspace)
    assert "copy it here anew" in str(refused.value)


def test_a_workspace_that_somebody_reads_or_trains_in_is_not_restored(tmp_path: Path) -> None:
    """An evaluation, and a training of a fold: splits and weights would change under them. Nothing is replaced."""
    workspace, archive = _workspace(tmp_path / "ws"), tmp_path / "day.tar"
    backup(workspace, archive)
    (workspace / "pseudonym.key").write_bytes(b"new")
    with reading([workspace]), pytest.raises(StoreBusy, match="is being read"):
        restore(archive, workspace)
    training = workspace / "crossvalidate" / "fold-1" / "train" / "abc"
    with held_lock(training, purpose="train"), pytest.raises(StoreBusy, match="no training"):
        restore(archive, workspace)
    assert (workspace / "pseudonym.key").read_bytes() == b"new"


def test_a_workspace_in_use_is_not_restored(tmp_path: Path) -> None:
    """Somebody writes the store: the restore waits for no one and changes nothing."""
    workspace, archive = _workspace(tmp_path / "ws"), tmp_path / "day.tar"
    backup(workspace, archive)
    (workspace / "pseudonym.key").write_bytes(b"new")
    with held_lock(workspace / "exam_store", purpose="ingest"), pytest.raises(StoreBusy):
        restore(archive, workspace)
    assert (workspace / "pseudonym.key").read_bytes() == b"new"


def test_altered_archives_and_foreign_files_are_refused(tmp_path: Path) -> None:
    """One byte, a name that leads out of the workspace, and a file that is no archive."""
    workspace, archive = _workspace(tmp_path / "ws"), tmp_path / "day.tar"
    backup(workspace, archive)
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"manifest of the day", b"manifest of the dax"))
    with pytest.raises(StoreError, match="is damaged"):
        restore(archive, workspace)
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(workspace / "pseudonym.key", "../escaped")
    for name in ("evil.tar", "ws/pseudonym.key"):
        with pytest.raises(StoreError, match="is no backup"):
            restore(tmp_path / name, workspace)
    assert not (tmp_path / "escaped").exists()
    with pytest.raises(ConfigError, match="no ledger"):
        backup(tmp_path / "empty", archive)
