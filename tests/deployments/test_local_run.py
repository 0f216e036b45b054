"""Facts about running a verb on this machine, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from deployments.configuration import load_config
from deployments.local_run import finished_report, run_verb
from schemas.config.evaluation import SplitConfig
from schemas.config.ingest import IngestConfig, PhantomConfig
from schemas.config.run import RunConfig, Stage
from schemas.reports.data import IngestReport, SplitCount, SplitReport
from tasks.split import split_patients
from tasks.stage import save_report

Mammo = Callable[..., Any]


def test_a_run_is_found_by_its_tags(prefect_api: str, tmp_path: Path) -> None:
    """The server knows the run by its config's name, its gate profile and its network."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    phantom = PhantomConfig(output_dir=tmp_path / "cohort", patients=1, exams_per_patient=(1, 1), image_size_px=(384, 288))
    ingest = IngestConfig(source_dir=tmp_path / "cohort" / "dicom", profile="phantom")
    config = RunConfig(name="tagged", workspace_dir=tmp_path / "workspace", phantom=phantom, ingest=ingest)

    run_verb("phantom", config)

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["run:tagged"])))
    assert [set(run.tags) for run in runs] == [{"run:tagged", "profile:phantom", "model:gmic"}]


@pytest.mark.e2e
def test_a_locked_database_is_waited_for(prefect_api: str) -> None:
    """Another program holds the server's SQLite file (fault 17): the run that begins meanwhile completes, after it lets go."""
    from prefect import flow, task
    from prefect.client.orchestration import get_client

    @task(persist_result=False)
    def work() -> int:
        return 1

    @flow
    def goes_on() -> int:
        return work()

    script = (
        "import sqlite3, sys; database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
        "database.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read(); database.execute('ROLLBACK')"
    )
    path = Path(os.environ["PREFECT_HOME"]) / "prefect.db"
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert prefect_api and holder.stdout is not None and holder.stdout.readline() == b"held\n"
    let_go_s: list[float] = []

    def let_go() -> None:
        let_go_s.append(time.monotonic())
        assert holder.stdin is not None
        holder.stdin.close()

    Timer(3, let_go).start()
    state = goes_on(return_state=True)
    assert let_go_s and time.monotonic() > let_go_s[0], "the lock held nobody up: nothing is proven"
    assert holder.wait(timeout=60) == 0
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).state.is_completed()


def test_a_finished_stage_is_answered_without_a_server(tmp_path: Path, mammo_process: Mammo) -> None:
    """`mammo split` on splits of this very work prints their counts and makes no run; with another seed there is work."""
    path = tmp_path / "run.yaml"
    path.write_text(f"workspace_dir: {tmp_path / 'workspace'}\ningest: {{source_dir: {tmp_path}}}\n")
    config = load_config(path)
    folder = tmp_path / "workspace" / "exam_store"
    ingested = IngestReport(
        store_dir=folder, data_version="d", files_found=4, images_published=4, images_new=0, exams=1, exams_incomplete=0,
        quarantined_by_reason={}, warnings_by_rule={}, labelled_breasts=2, orphan_labels=0, unlabelled_breasts=0,
    )  # fmt: skip
    save_report(config, Stage.INGEST, ingested)
    splits_path = tmp_path / "workspace" / "split" / "splits.parquet"
    count = SplitCount(patients=7, exams=7, images=28, benign_breasts=0, malignant_breasts=0)
    save_report(config, Stage.SPLIT, SplitReport(splits_path=splits_path, data_version="d", counts={"train": count}))
    splits_path.touch()
    (splits_path.parent / "done").write_text(f"{split_patients.key(config, ingested)} some-run")
    answer = mammo_process("split", path, "--json")
    assert answer.code == 0 and "nothing to do" in answer.stderr and '"patients": 7' in answer.stdout
    assert not (tmp_path / "workspace" / "prefect").exists()
    assert finished_report("split", config) is not None
    assert finished_report("split", config.model_copy(update={"split": SplitConfig(seed=1)})) is None
    assert finished_report("split", config.model_copy(update={"force": (Stage.SPLIT,)})) is None
