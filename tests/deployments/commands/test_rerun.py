"""``mammo rerun``: what failed is asked for again, with all that it was asked with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from flows.accept import accept
from schemas.config.run import RunConfig
from schemas.errors import ConfigError

pytestmark = pytest.mark.e2e


def test_a_rerun_judges_the_model_that_was_named(prefect_api: str, tmp_path: Path) -> None:
    """Not the one in use, which is what ``accept`` takes where none is named: its verdict would be of another model."""
    from prefect.client.orchestration import get_client

    assert prefect_api
    config = RunConfig.model_validate({"workspace_dir": tmp_path / "ws", "ingest": {"source_dir": tmp_path / "inbox"}})
    state: Any = accept(config, model="abc123", return_state=True)
    said = str(state.result(raise_on_failure=False))
    assert "abc123" in said
    with get_client(sync_client=True) as client:
        name = client.read_flow_run(state.state_details.flow_run_id).name
    again = CliRunner().invoke(app, ["rerun", name, "--workspace", str(tmp_path / "ws")])
    assert isinstance(again.exception, ConfigError) and str(again.exception) == said
