"""``mammo rerun``: a run of the past once more, as a retry of what failed or with chosen stages forced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from deployments.console import shown_progress
from deployments.local_run import run_verb
from deployments.server.prefect_server import prefect_server
from deployments.verbs import VERBS
from schemas.config.run import RunConfig, Stage
from schemas.errors import ConfigError
from tasks.adapters.workspace import whole_path

RunName = Annotated[str, typer.Argument(help="Name or id of the run, as the UI shows it")]
Stages = Annotated[list[Stage] | None, typer.Option("--stage", help="Run this stage again although it is done; repeatable")]
WorkspaceDir = Annotated[Path, typer.Option(help="The workspace whose server knows the run")]


def rerun(run: RunName, stage: Stages = None, workspace: WorkspaceDir = Path("demo")) -> None:
    """Retry a failed run, or with --stage start it anew with these stages forced.

    A retry keeps the run and executes only what is not finished. With --stage a new run with the same settings begins; stages
    that are not named, and do not read what these make, are skipped as always. A run of a deployment is executed by its
    worker, others here.
    """
    with prefect_server(whole_path(workspace)) as address:
        found = find_run(run)
        require_forces(flow_name(found), stage or ())
        if found.deployment_id is not None:
            name = retry(found) if not stage else run_again(found, stage)
            typer.echo(f"{name}: {address}/runs/flow-run/{found.id if not stage else ''}".rstrip("/"))
            return
        with shown_progress():
            run_verb(flow_name(found), forced_config(found.parameters, stage or []), **other_parameters(found.parameters))


def find_run(run: str) -> Any:
    """The flow run of a name or an id; of several with one name the newest.

    Raises:
        ConfigError: There is none.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    try:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run)]))
    except ValueError:
        wanted = FlowRunFilter(name=FlowRunFilterName(any_=[run]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=1)
    if not found:
        raise ConfigError(
            f"There is no run {run!r}",
            expected="a run's name or id",
            remedy="see the names in the UI, and that --workspace is right",
        )
    return found[0]


def flow_name(run: Any) -> str:
    """The verb of a run."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow(run.flow_id).name)


def require_forces(verb_name: str, stages: Sequence[Stage]) -> None:
    """Refuses stages that the verb of a run does not run; of a flow that takes no ``--force`` its config decides.

    Raises:
        ConfigError: A stage is none of the verb's.
    """
    for verb in VERBS:
        if verb.name == verb_name:
            verb.require_forces(stages)


def forced_config(parameters: dict[str, Any], stages: Sequence[Stage]) -> RunConfig:
    """The config of a run with other stages forced.

    Raises:
        ConfigError: The run has no config of this version.
    """
    try:
        return RunConfig.model_validate({**parameters["config"], "force": [stage.value for stage in stages]})
    except (KeyError, ValueError) as other:
        raise ConfigError(
            "The run cannot be started again", expected="a config of this version", got=type(other).__name__
        ) from other


def other_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was asked for besides its config: the model to judge, whether to repair."""
    return {name: value for name, value in parameters.items() if name != "config"}


def retry(run: Any) -> str:
    """Schedules the same run again, as the UI's Retry does; returns its name.

    Raises:
        ConfigError: It has not ended.
    """
    from prefect.client.orchestration import get_client
    from prefect.states import AwaitingRetry

    if run.state is None or not run.state.is_final():
        raise ConfigError(
            f"Run {run.name} has not ended", expected="a failed, crashed, cancelled or completed run", got=run.state_name
        )
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    return str(run.name)


def run_again(run: Any, stages: Sequence[Stage]) -> str:
    """Starts a new run of the same deployment with stages forced; returns its name."""
    from prefect.client.orchestration import get_client

    config = forced_config(run.parameters, stages)
    with get_client(sync_client=True) as client:
        new = client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters={**other_parameters(run.parameters), "config": config.model_dump(mode="json")},
            tags=[f"rerun:{stage.value}" for stage in stages],
        )
    return str(new.name)
