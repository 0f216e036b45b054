"""Running a flow in this process, and asking the real server what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from mammo_tests.trained_here import trained_here
from schemas.config.ingest import LocalDask
from schemas.config.run import RunConfig
from tasks.adapters.cluster import open_cluster

_TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Ran:
    """A finished flow run: its report and what the server knows of it."""

    report: Any
    flow_run_id: UUID
    client: Any

    @property
    def name(self) -> str:
        """The flow run's name."""
        return str(self.client.read_flow_run(self.flow_run_id).name)

    def task_states(self, *expected: str) -> dict[str, str]:
        """Task run name, without its number, to the name of its final state; waits until the expected ones are among them.

        A task's states reach the server through its event queue, some time after the flow has ended.
        """
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        deadline = time.monotonic() + 300
        while True:
            runs = self.client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[self.flow_run_id])))
            states = {run.name.rsplit("-", 1)[0]: str(run.state_name) for run in runs}
            is_settled = set(expected) <= set(states) and all(
                run.state_type and run.state_type.value in _TERMINAL for run in runs
            )
            if is_settled or time.monotonic() > deadline:
                return states
            time.sleep(0.2)

    def artifacts(self) -> dict[str, Any]:
        """Artifact key to artifact."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        found = self.client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self.flow_run_id])), limit=200
        )
        return {artifact.key: artifact for artifact in found if artifact.key}


RunFlow = Callable[[Any, RunConfig], Ran]


@pytest.fixture(scope="session")
def run_flow(prefect_api: str) -> Iterator[RunFlow]:
    """``run_flow(flow, config)``: the flow on the real server; its own error if it fails."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:

        def run(flow: Any, config: RunConfig) -> Ran:
            state = flow(config, return_state=True)
            return Ran(report=state.result(), flow_run_id=state.state_details.flow_run_id, client=client)

        yield run


@pytest.fixture
def trains_here() -> Iterator[None]:
    """Trainings run in this process, which has imported what they need."""
    with trained_here():
        yield


@pytest.fixture
def read_here() -> Iterator[dict[str, str]]:
    """``{"ingest.dask": read_here}``: a thread of this process reads what an ingest or a scrub has to read.

    A scrub else starts workers: one that does is in ``test_pipeline.py``.
    """
    with open_cluster(LocalDask(n_workers=1), files=1) as address:
        yield {"kind": "address", "address": address}
