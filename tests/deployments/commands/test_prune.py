"""Housekeeping: what is older than the age goes, what is younger or in use stays, and without --delete nothing is touched."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments.commands.prune import Pruned, prune_workspace
from schemas.config.run import RunConfig, Stage
from schemas.errors import CheckpointError, StoreBusy, StoreError
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.report import Provenance
from schemas.reports.training import EnsembleMember, TrainReport
from tasks.adapters.lock import held_lock, reading
from tasks.adapters.models.model_files import write_ensemble
from tasks.stage import save_report

AGE = timedelta(days=30)
OLD_S = 100 * 86400.0
PROVENANCE = Provenance(
    code_version="0", config_sha256="0", data_version="0", preprocess_version="0", seed=0, created_utc="2026-01-01"
)


@pytest.fixture
def history(prefect_api: str) -> Iterator[dict[str, UUID]]:
    """Flow runs on the server by what they are: ended long ago, ended today, and one that began long ago and goes on."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Completed, Failed, Running

    @flow(name="housekeeping")
    def nothing() -> None:
        """Is never called."""

    ages: dict[str, tuple[Callable[..., State[Any]], float]] = {
        "old": (Completed, OLD_S),
        "old failure": (Failed, OLD_S),
        "young": (Completed, 0.0),
        "young failure": (Failed, 0.0),
        "under way": (Running, OLD_S),
    }
    with get_client(sync_client=True) as client:
        ids = {}
        for name, (state, _) in ages.items():
            ids[name] = client.create_flow_run(nothing, name=name).id
            client.set_flow_run_state(ids[name], state(), force=True)
        _set_back(ids, {name: age_s for name, (_, age_s) in ages.items()})
        yield ids
        for run_id in _left(ids):
            client.delete_flow_run(ids[run_id])


@pytest.fixture
def config(tmp_path: Path, make_config: Callable[..., RunConfig]) -> RunConfig:
    """A workspace with old and young trainings; of the old ones some are in use."""
    train = tmp_path / "ws" / "train"
    changes = {"checkpoint": train / "named" / "epoch-0001", "evaluate.ensemble": tmp_path / "ws" / "ensemble.json"}
    config = make_config(tmp_path / "ws", tmp_path / "cohort", **changes)
    for name in ("named", "in-force", "evaluated", "in-ensemble", "superseded", "young"):
        (tmp_path / "ws" / "train" / name / "epoch-0001").mkdir(parents=True)
        (tmp_path / "ws" / "train" / name / "epoch-0001" / "weights").touch()
    _grow_old(tmp_path / "ws", but=("young",))
    run_dir = tmp_path / "ws" / "train" / "in-force"
    report = _trained(run_dir)
    save_report(config, Stage.TRAIN, report)
    write_ensemble(tmp_path / "ws" / "ensemble.json", [EnsembleMember(path=train / "in-ensemble" / "epoch-0001", sha256="")])
    evaluated = EvaluationReport(
        scores_path=tmp_path / "ws" / "evaluate" / "scores.parquet",
        models=(EnsembleMember(path=train / "evaluated" / "epoch-0001", sha256=""),),
        by_finding={},
        exams=1,
        images=4,
        provenance=PROVENANCE,
    )
    save_report(config, Stage.EVALUATE, evaluated)
    return config


def test_without_delete_nothing_is_touched(config: RunConfig, history: dict[str, UUID]) -> None:
    """It says what would go: two ended runs, one training."""
    before = sorted(config.workspace_dir.rglob("*"))
    assert _counted(prune_workspace(config, AGE, is_dry=True)) == (2, {"superseded"})
    assert sorted(config.workspace_dir.rglob("*")) == before and _left(history) == set(history)


def test_what_is_old_goes_and_what_is_young_or_in_use_stays(config: RunConfig, history: dict[str, UUID]) -> None:
    """A run that goes on, and the weights in force, evaluated or named, are kept at any age."""
    assert _counted(prune_workspace(config, AGE, is_dry=False)) == (2, {"superseded"})
    assert _left(history) == {"young", "young failure", "under way"}
    trainings = {path.name for path in (config.workspace_dir / "train").iterdir() if path.is_dir()}
    assert trainings == {"named", "in-force", "evaluated", "in-ensemble", "young"}
    assert _counted(prune_workspace(config, AGE, is_dry=False)) == (0, set())


@pytest.mark.parametrize("named", ["elsewhere/ensemble.json", "elsewhere"])
def test_the_networks_of_an_ensemble_that_predicts_are_kept(config: RunConfig, named: str, prefect_api: str) -> None:
    """``checkpoint`` may be an ensemble's file, or its folder: its networks are weights that the config names."""
    folder = config.workspace_dir / "elsewhere"
    folder.mkdir()
    member = config.workspace_dir / "train" / "superseded" / "epoch-0001"
    write_ensemble(folder / "ensemble.json", [EnsembleMember(path=member, sha256="")])
    predicting = config.model_copy(update={"checkpoint": config.workspace_dir / named})
    assert "superseded" not in _counted(prune_workspace(predicting, AGE, is_dry=True))[1]


def test_trainings_of_folds_and_rows_go_too_and_what_they_use_stays(config: RunConfig, prefect_api: str) -> None:
    """A workspace below has trainings of its own; a row may be evaluated with weights that nothing else names any more."""
    fold, row = (config.workspace_dir / name for name in ("crossvalidate/fold-1", "table1/row-gmic"))
    for name in ("in-force", "in-the-ensemble", "replaced"):
        (fold / "train" / name / "epoch-0001").mkdir(parents=True)
    run_dir = fold / "train" / "in-force"
    trained = _trained(run_dir)
    save_report(config.model_copy(update={"workspace_dir": fold}), Stage.TRAIN, trained)
    of_folds = EnsembleMember(path=fold / "train" / "in-the-ensemble" / "epoch-0001", sha256="")
    write_ensemble(config.workspace_dir / "crossvalidate" / "ensemble.json", [of_folds])
    evaluated = EvaluationReport(
        scores_path=row / "evaluate" / "scores.parquet",
        models=(EnsembleMember(path=config.workspace_dir / "train" / "superseded" / "epoch-0001", sha256=""),),
        by_finding={},
        exams=1,
        images=4,
        provenance=PROVENANCE,
    )
    save_report(config.model_copy(update={"workspace_dir": row}), Stage.EVALUATE, evaluated)
    _grow_old(config.workspace_dir, but=("young",))
    assert _counted(prune_workspace(config, AGE, is_dry=False))[1] == {"replaced"}
    assert {path.name for path in (fold / "train").iterdir() if path.is_dir()} == {"in-force", "in-the-ensemble"}
    assert (config.workspace_dir / "train" / "superseded").is_dir()


@pytest.mark.parametrize("damaged", ["train/report.json", "evaluate/report.json", "ensemble.json"])
def test_what_cannot_be_read_lets_no_weights_go(config: RunConfig, damaged: str, prefect_api: str) -> None:
    """It may name any of them: those in force, too, would be taken for superseded."""
    (config.workspace_dir / damaged).write_text("{")
    with pytest.raises((StoreError, CheckpointError), match=r"cannot be read|is no ensemble file"):
        prune_workspace(config, AGE, is_dry=False)
    assert len([path for path in (config.workspace_dir / "train").iterdir() if path.is_dir()]) == 6


def test_a_training_that_goes_on_is_kept_at_any_age(config: RunConfig, history: dict[str, UUID]) -> None:
    """Its process holds the lock of its folder, and has written nothing for long."""
    with held_lock(config.workspace_dir / "train" / "superseded", purpose="train"):
        _grow_old(config.workspace_dir, but=("young",))
        assert _counted(prune_workspace(config, AGE, is_dry=False)) == (2, set())
    _grow_old(config.workspace_dir, but=("young",))
    with reading([config.workspace_dir]), pytest.raises(StoreBusy, match="is being read"):  # perhaps with these weights
        prune_workspace(config, AGE, is_dry=False)
    assert _counted(prune_workspace(config, AGE, is_dry=True)) == (0, {"superseded"})


# ---------------------------------------------------------------------------------------------------------------------


def _counted(pruned: Pruned) -> tuple[int, set[str]]:
    return pruned.runs, {path.name for path in pruned.trainings}


def _left(ids: dict[str, UUID]) -> set[str]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(ids.values()))))
    return {run.name for run in found}


def _set_back(ids: dict[str, UUID], ages_s: dict[str, float]) -> None:
    """The server takes its own clock's word for when a run ended; its database takes ours."""
    with closing(sqlite3.connect(Path(os.environ["PREFECT_HOME"]) / "prefect.db", timeout=60)) as database, database:
        for name, run_id in ids.items():
            then = (datetime.now(UTC) - timedelta(seconds=ages_s[name])).strftime("%Y-%m-%d %H:%M:%S.%f")
            changed = database.execute(
                "UPDATE flow_run SET start_time = ?, end_time = iif(end_time IS NULL, NULL, ?) WHERE id = ?",
                (then, then, str(run_id)),
            )
            assert changed.rowcount == 1


def _trained(run_dir: Path) -> TrainReport:
    return TrainReport(
        checkpoint_path=run_dir / "epoch-0001",
        checkpoint_sha256="",
        run_dir=run_dir,
        epochs=(),
        best_epoch=1,
        train_exams=1,
        provenance=PROVENANCE,
    )


def _grow_old(folder: Path, *, but: tuple[str, ...]) -> None:
    then_s = time.time() - OLD_S
    for path in folder.rglob("*"):
        if not set(but) & set(path.parts):
            os.utime(path, (then_s, then_s))
