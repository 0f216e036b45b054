"""A run of the past once more: with all that it was asked for, not with its config alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.commands.rerun import rerun
from schemas.config.run import RunConfig
from schemas.errors import ConfigError


def test_a_run_is_tried_again_with_the_model_that_it_was_asked_for(
    prefect_api: str, tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    """Without it ``accept`` would judge the one in use, and leave its verdict in the place of the other's."""
    from prefect.client.orchestration import get_client
    from prefect.states import Failed

    from flows.accept import accept

    assert prefect_api
    config = make_config(tmp_path / "ws", tmp_path / "cohort")
    parameters = {"config": config.model_dump(mode="json"), "model": "abcd1234"}
    with get_client(sync_client=True) as client:
        asked = client.create_flow_run(accept, parameters=parameters, name="asked", state=Failed())
    with pytest.raises(ConfigError, match="'abcd1234' names no model"):
        rerun(str(asked.id), workspace=config.workspace_dir)
