"""Facts about running a verb on this machine, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments.local_run import run_verb
from schemas.config.ingest import IngestConfig, PhantomConfig
from schemas.config.run import RunConfig


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
    """Another program holds the server's SQLite file for three seconds (fault 17): the run that begins meanwhile completes."""
    from prefect import flow, task
    from prefect.client.orchestration import get_client

    @task(persist_result=False)
    def work() -> int:
        return 1

    @flow
    def goes_on() -> int:
        return work()

    script = (
        "import sqlite3, sys, time; database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
        "database.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(3); database.execute('ROLLBACK')"
    )
    path = Path(os.environ["PREFECT_HOME"]) / "prefect.db"
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert prefect_api and holder.stdout is not None and holder.stdout.readline() == b"held\n"
    began_s = time.monotonic()
    state = goes_on(return_state=True)
    assert holder.wait(timeout=60) == 0
    assert time.monotonic() - began_s > 2.5, "the lock held nobody up: nothing is proven"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).state.is_completed()
