"""Stages: done work is found again by what it depends on, and only while its folder holds these very results."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.runtime import flow_run

from mammo_tests.training_store import make_store, small_config
from schemas.config.run import RunConfig, Stage
from schemas.errors import ConfigError, StoreBusy, StoreError
from schemas.reports.data import SplitCount, SplitReport
from tasks.adapters.lock import LOCK_FILE, held_lock, without_readers
from tasks.adapters.workspace import Workspace, exam_store_dir
from tasks.stage import NotFinished, StageTask, load_ingested, load_report, report_path, save_report, stage, without_work


def _config(workspace: Path, **changes: Any) -> RunConfig:
    return RunConfig.model_validate({"workspace_dir": workspace, "ingest": {"source_dir": "s"}, **changes})


def _report(config: RunConfig, patients: int = 1) -> SplitReport:
    count = SplitCount(patients=patients, exams=1, images=4, benign_breasts=0, malignant_breasts=0)
    path = report_path(config.workspace_dir, Stage.SPLIT).with_name("splits.parquet")
    return SplitReport(splits_path=path, data_version="d", counts={"train": count})


def _stage(version: int) -> StageTask[[str], SplitReport]:
    @stage(Stage.SPLIT, version=version, sections=("split", "preprocess"), reads=lambda config, digest: (digest,))
    def divide(config: RunConfig, digest: str) -> SplitReport:
        return _report(config)

    return divide


def _key(config: RunConfig, digest: str = "d", *, version: int = 1) -> str:
    return _stage(version).key(config, digest)


# ------------------------------------------------------------------------------------------------------------------ keys


def test_a_key_says_its_stage_and_is_the_same_each_time(tmp_path: Path) -> None:
    """No run id, time or object address is in it."""
    assert re.fullmatch(r"split-[0-9a-f]{32}", _key(_config(tmp_path)))
    assert _key(_config(tmp_path)) == _key(_config(tmp_path))


@pytest.mark.parametrize(
    "changes", [{"split": {"seed": 1}}, {"split": {"test_fraction": 0.3}}, {"preprocess": {"crop_mode": "released"}}], ids=str
)
def test_a_key_changes_with_each_of_its_sections(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A stage is done again when its own settings change."""
    assert _key(_config(tmp_path, **changes)) != _key(_config(tmp_path))


@pytest.mark.parametrize("changes", [{"train": {"epochs": 1}}, {"name": "other"}, {"force": ["train"]}], ids=str)
def test_a_key_does_not_change_with_what_its_stage_does_not_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    """More epochs do not divide the patients anew."""
    assert _key(_config(tmp_path, **changes)) == _key(_config(tmp_path))


def test_a_key_changes_with_data_and_code(tmp_path: Path) -> None:
    """Other data or a raised version: done again."""
    config = _config(tmp_path)
    keys = {_key(config), _key(config, "e"), _key(config, version=2)}
    assert len(keys) == 3


def test_no_path_is_part_of_a_key(tmp_path: Path) -> None:
    """Another place of the workspace, and of the weights that a section names: what lies there has a digest in the key."""

    @stage(Stage.EVALUATE, version=1, sections=("evaluate",), reads=lambda config: ("digest of the weights",))
    def judge(config: RunConfig) -> SplitReport:
        return _report(config)

    assert _key(_config(tmp_path)) == _key(_config(tmp_path / "elsewhere"))
    keys = {judge.key(_config(tmp_path, evaluate={"checkpoints": [place]})) for place in ("a/weights", "b/weights")}
    assert len(keys) == 1


def test_a_report_file_holds_no_place(tmp_path: Path) -> None:
    """Paths inside the workspace are relative in the file and whole when it is read, wherever the workspace is by then."""
    here, there = _config(tmp_path / "here"), _config(tmp_path / "there")
    save_report(here, Stage.SPLIT, _report(here))
    assert str(tmp_path) not in report_path(here.workspace_dir, Stage.SPLIT).read_text()
    here.workspace_dir.rename(there.workspace_dir)
    assert load_report(there, Stage.SPLIT, SplitReport).splits_path == there.workspace_dir / "split" / "splits.parquet"


def test_a_path_that_leads_out_of_the_workspace_stays_whole(tmp_path: Path) -> None:
    """The weights of another workspace do not move with ours."""
    config = _config(tmp_path / "ours")
    outside = _report(config).model_copy(update={"splits_path": tmp_path / "theirs" / "splits.parquet"})
    save_report(config, Stage.SPLIT, outside)
    assert load_report(config, Stage.SPLIT, SplitReport) == outside


# --------------------------------------------------------------------------------------------------------------- reports


def test_a_saved_report_is_read_again(tmp_path: Path) -> None:
    """Saving returns the report; loading finds it in the stage's folder."""
    config = _config(tmp_path)
    report = _report(config)
    assert save_report(config, Stage.SPLIT, report) is report
    assert report_path(tmp_path, Stage.SPLIT) == tmp_path / "split" / "report.json"
    assert load_report(config, Stage.SPLIT, SplitReport) == report


def test_a_stage_that_has_not_run_says_what_to_run(tmp_path: Path) -> None:
    """The remedy is the stage's own verb, or the pipeline."""
    with pytest.raises(StoreError, match=r"Stage split has not run.*`mammo split CONFIG.yaml`.*`mammo pipeline"):
        load_report(_config(tmp_path), Stage.SPLIT, SplitReport)


@pytest.mark.parametrize("content", ["", "{}", '{"splits_path": 1}', '{"old": "version"}'])
def test_a_report_of_another_version_says_so(tmp_path: Path, content: str) -> None:
    """A file that pydantic refuses is a StoreError with a remedy."""
    path = report_path(tmp_path, Stage.SPLIT)
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(StoreError, match=r"report of stage split cannot be read.*mammo split"):
        load_report(_config(tmp_path), Stage.SPLIT, SplitReport)


# ----------------------------------------------------------------------------------------------------------- done or not

executed: list[int] = []


@stage(Stage.SPLIT, version=1, sections=("split",), reads=lambda config, digest: (digest,))
def _divide(config: RunConfig, digest: str) -> SplitReport:
    """Stands for a stage: writes a file, and is counted."""
    executed.append(config.split.seed)
    if digest == "bad":
        raise StoreError("The stage fails")
    report = _report(config, patients=config.split.seed)
    report.splits_path.parent.mkdir(exist_ok=True, parents=True)
    report.splits_path.write_text(f"splits of seed {config.split.seed}")
    return report


Run = Callable[..., list[int]]


@pytest.fixture
def run(prefect_api: str, tmp_path: Path) -> Run:
    """``run(seed, ...)`` asks for the stage and returns the seeds that were executed for it."""
    assert prefect_api

    def ask(seed: int, digest: str = "d", **changes: Any) -> list[int]:
        executed.clear()
        config = _config(tmp_path, split={"seed": seed}, **changes)
        report = _divide(config, digest)
        assert report.counts["train"].patients == seed
        assert report.splits_path.read_text() == f"splits of seed {seed}"
        return list(executed)

    return ask


def test_done_work_is_not_done_again(run: Run) -> None:
    """The second time nothing is executed and the same report comes back; new data are new work."""
    assert run(1) == [1]
    assert run(1) == []
    assert run(1, "other data") == [1]


def test_the_server_shows_what_was_executed_and_what_was_not(prefect_api: str, tmp_path: Path) -> None:
    """Two runs of the same work: the task of the first is *Completed*, of the second *Cached*; the reports are equal."""
    assert prefect_api
    config = _config(tmp_path, split={"seed": 1})

    @flow
    def twice() -> tuple[SplitReport, SplitReport, str]:
        return _divide(config, "d"), _divide(config, "d"), str(flow_run.id)

    first, second, run_id = twice()
    assert first == second
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while True:  # a task's states reach the server through its event queue, some time after the flow has ended
            ran = client.read_task_runs(flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run_id]}}))
            shown = sorted((each.name.partition("-")[0], str(each.state_name)) for each in ran)
            if shown == [("split", "Cached"), ("split", "Completed")] or time.monotonic() > deadline:
                break
            time.sleep(0.2)
    assert shown == [("split", "Cached"), ("split", "Completed")]


def test_a_forced_stage_is_done_again_and_then_rests(run: Run) -> None:
    """``force`` names the stage; another stage's force is not its business."""
    assert run(1) == [1]
    assert run(1, force=["split"]) == [1]
    assert run(1, force=["train"]) == []


def test_going_back_to_an_earlier_config_does_the_work_again(run: Run) -> None:
    """A, B, A: the folder holds B's files, so A's remembered result would speak of files that are not there."""
    assert run(1) == [1]
    assert run(2) == [2]
    assert run(1) == [1]
    assert run(1) == []


def test_work_whose_files_are_gone_is_done_again(run: Run, tmp_path: Path) -> None:
    """The report or a file it names was deleted: remembered, but not there."""
    for name in ("splits.parquet", "report.json"):
        run(1)
        assert run(1) == []
        (tmp_path / "split" / name).unlink()
        assert run(1) == [1]


def test_work_is_still_done_where_its_workspace_was_moved_or_copied(run: Run, tmp_path: Path) -> None:
    """Nothing is executed in the copy, and its report names the copy's files, not those of the original."""
    assert run(1) == [1]
    shutil.copytree(tmp_path / "split", tmp_path / "copied" / "split")
    report = _divide(_config(tmp_path / "copied", split={"seed": 1}), "d")
    assert executed == [1]
    assert report.splits_path == tmp_path / "copied" / "split" / "splits.parquet"


@pytest.mark.parametrize("old", ["then/ws", "then/here"], ids=["renamed", "its folder renamed"])
def test_a_row_of_a_former_table1_is_still_done_where_its_workspace_was_moved(tmp_path: Path, old: str) -> None:
    """Its workspace lies in the table's and names weights beside it: the key holds both places, as they were."""

    @stage(Stage.EVALUATE, version=1, sections=("evaluate",), reads=lambda config: ("digest of the weights",))
    def judge(config: RunConfig) -> SplitReport:
        raise StoreError("It is done again")

    def row_of(table_dir: Path) -> RunConfig:
        weights = table_dir / "table1" / "gmic-seed-0" / "train" / "run" / "epoch-0001"
        return _config(table_dir / "table1" / "row-gmic", evaluate={"checkpoints": [weights]})

    then, now = row_of(Path("/gone") / old), row_of(tmp_path / "now" / "here")
    report = _report(then).model_copy(update={"splits_path": then.workspace_dir / "evaluate" / "scores.parquet"})
    parts = [1, str(then.workspace_dir), {"evaluate": then.evaluate.identity_content()}, ["digest of the weights"]]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    folder = now.workspace_dir / "evaluate"
    folder.mkdir(parents=True)
    (folder / "scores.parquet").touch()
    (folder / "report.json").write_text(report.model_dump_json())
    (folder / "done").write_text(f"evaluate-{digest} some-run")
    with without_work():
        assert judge(now).splits_path == folder / "scores.parquet"
        with pytest.raises(NotFinished):
            judge(_config(now.workspace_dir, evaluate={"checkpoints": [tmp_path / "others"]}))


def test_work_that_failed_half_way_does_not_count_as_done(run: Run) -> None:
    """A failed execution leaves a mixture in the folder: the earlier result is made again."""
    assert run(1) == [1]
    with pytest.raises(StoreError, match="The stage fails"):
        run(1, "bad")
    assert run(1) == [1]


def test_a_stage_does_not_begin_while_something_is_taken_away(run: Run, tmp_path: Path) -> None:
    """What it would read is going, and it would write it down again: busy, and what its folder holds stays."""
    assert run(1) == [1]
    with without_readers(tmp_path, purpose="withdraw"):
        with pytest.raises(StoreBusy, match="is being taken away"):
            run(2)
        assert executed == [] and run(1) == []
    assert run(2) == [2]


@stage(Stage.TRAIN, version=1, sections=(), reads=lambda config: ())
def _learn(config: RunConfig) -> SplitReport:
    """Stands for a training of hours: meanwhile somebody wants to take images out of the store's workspace."""
    with without_readers(exam_store_dir(config).parent, purpose="withdraw"):
        return _report(config)


@pytest.mark.parametrize("below", ["", "crossvalidate/fold-1"])
def test_a_training_on_another_workspaces_store_is_known_there(prefect_api: str, tmp_path: Path, below: str) -> None:
    """That one cannot ask for the lock of a folder that it does not know; of its own and its folds' trainings it can."""
    assert prefect_api
    for name in ("ours", "other"):
        (tmp_path / name / "exam_store").mkdir(parents=True)
    store_dir = tmp_path / "other" / "exam_store"
    with pytest.raises(StoreBusy, match="is being read"):
        _learn(_config(tmp_path / "ours", store_dir=store_dir))
    assert _learn(_config(tmp_path / "other" / below, store_dir=store_dir if below else None)).data_version == "d"


def test_a_retry_does_not_force_again_what_its_run_has_forced(prefect_api: str, tmp_path: Path) -> None:
    """A run that is to force split fails later and is retried: split rests; the next run that forces it executes it."""
    assert prefect_api
    fails = [True]

    @flow(retries=1, retry_delay_seconds=0)
    def forced() -> None:
        config = _config(tmp_path, split={"seed": 1}, force=["split"])
        _divide(config, "d")
        if fails.pop():
            fails.append(False)
            raise StoreError("A later stage fails")

    executed.clear()
    forced()
    assert executed == [1]
    fails[:] = [False]
    forced()
    assert executed == [1, 1]


# ---------------------------------------------------------------------------------------------------- the store of another


@pytest.mark.parametrize("verb", ["pipeline", "predict", "crossvalidate", "table1"])
def test_what_ingests_goes_on_with_that_store_only(tmp_path: Path, verb: str) -> None:
    """With ``store_dir`` the pixels of one store would be scored under the names of another: refused, nothing is made."""
    run = getattr(import_module(f"flows.{verb}"), verb)
    config = _config(tmp_path / "here", store_dir=tmp_path / "there" / "exam_store", split={"folds": 2})
    with pytest.raises(ConfigError, match=r"ingest into one store and go on with another.*leave out store_dir"):
        run.fn(config)
    assert not list(tmp_path.iterdir())


def test_a_store_in_another_folder_says_itself_what_is_published(tmp_path: Path) -> None:
    """As one in a bucket: no ingest has taken place in the workspace that reads it, and none is asked for."""
    there = small_config(tmp_path / "there")
    made = make_store(there, exams=2)
    store_dir = Workspace(there.workspace_dir).store_dir
    told = load_ingested(small_config(tmp_path / "here").model_copy(update={"store_dir": store_dir}))
    assert (told.store_dir, told.data_version, told.images_published) == (store_dir, made.data_version, 8)
    with pytest.raises(StoreError, match="has not run"):
        load_ingested(small_config(tmp_path / "here"))


@pytest.mark.parametrize("name", [Stage.EVALUATE, Stage.EXPLAIN])
def test_two_executions_that_write_tables_or_pages_go_one_after_the_other(
    prefect_api: str, tmp_path: Path, name: Stage
) -> None:
    """Of other weights the second would write among the first's; it is refused, and what is there stays finished."""
    assert prefect_api
    done = 0

    @stage(name, version=1, sections=(), reads=lambda config, digest: (digest,))
    def write(config: RunConfig, digest: str) -> SplitReport:
        nonlocal done
        done += 1
        return _report(config)

    @flow
    def run(digest: str) -> None:
        write(_config(tmp_path), digest)

    Workspace(tmp_path).stage_dir(Stage.SPLIT.value).mkdir(parents=True)
    (tmp_path / "split" / "splits.parquet").touch()
    run("one")
    folder = Workspace(tmp_path).stage_dir(name.value)
    with held_lock(folder, purpose=name.value):
        with pytest.raises(StoreBusy, match=f"{name.value} by pid"):
            run("other")
        run("one")  # finished: nothing is written
    assert done == 1 and (folder / "done").exists()


def test_who_waited_for_another_execution_of_the_same_work_does_not_do_it_again(prefect_api: str, tmp_path: Path) -> None:
    """Two runs of one evaluation at once: the second waits for the scoring of the first, and finds it finished."""
    assert prefect_api
    executions, is_held, has_looked = [], threading.Event(), threading.Event()

    def read(config: RunConfig) -> tuple[str, ...]:
        has_looked.set()
        return ()

    @stage(Stage.EVALUATE, version=1, sections=(), reads=read)
    def judge(config: RunConfig) -> SplitReport:
        executions.append(1)
        return _report(config)

    @flow
    def run() -> None:
        judge(_config(tmp_path, ingest={"source_dir": "s", "lock_wait_s": 600}))

    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "splits.parquet").touch()
    run()
    done_path = Workspace(tmp_path).done_path("evaluate")
    finished = done_path.read_bytes()

    def other_run() -> None:
        with held_lock(done_path.parent, purpose="evaluate"):
            is_held.set()
            has_looked.wait(600)  # ours has read what other weights left, and now waits for this one
            done_path.write_bytes(finished)

    has_looked.clear()
    done_path.write_text("evaluate-of-other-weights run")
    other = threading.Thread(target=other_run)
    other.start()
    assert is_held.wait(600)
    run()
    other.join()
    assert executions == [1] and done_path.read_bytes() == finished


def test_the_folder_is_given_back_finished(prefect_api: str, tmp_path: Path) -> None:
    """Whoever waits for the lock sees ``done`` the moment that he has it."""
    assert prefect_api
    folder, seen = Workspace(tmp_path).stage_dir("evaluate"), list[bool]()

    def wait() -> None:
        with (folder / LOCK_FILE).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            seen.append((folder / "done").exists())

    waiting = threading.Thread(target=wait)

    @stage(Stage.EVALUATE, version=1, sections=(), reads=lambda config: ())
    def judge(config: RunConfig) -> SplitReport:
        waiting.start()
        return _report(config)

    @flow
    def run() -> None:
        judge(_config(tmp_path))

    run()
    waiting.join()
    assert seen == [True]
