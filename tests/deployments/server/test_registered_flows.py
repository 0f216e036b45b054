"""What the server is told of a flow is what Prefect itself would say of it, and it holds runs to it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import ValidationError, validate

from deployments.server.registered_flows import form_of
from deployments.server.registration import deployments_for
from schemas.config.run import RunConfig

FLOWS = sorted({path.stem for path in (Path(__file__).parents[3] / "flows").glob("*.py")} - {"__init__"})


@pytest.mark.parametrize("name", FLOWS)
def test_a_form_is_what_prefect_makes_of_the_flow(name: str) -> None:
    """Read from the source alone; Prefect imports the flow, and says the same of its parameters and what they mean."""
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    assert form_of(f"flows.{name}.{name}") == flow.parameters.model_dump(exclude_unset=True)


@pytest.mark.parametrize(
    ("change", "accepted"),
    [({}, True), ({"train": {"epochs": 3}}, True), ({"train": {"epochs": "three"}}, False), ({"tarin": {}}, False)],
)
def test_a_form_refuses_what_is_no_config(change: dict[str, Any], accepted: bool) -> None:
    """What the server asks of every run: a misspelt section and a word for a number are refused before anything starts."""
    config = RunConfig.model_validate({"name": "ward", "workspace_dir": "/data/ward", "ingest": {"source_dir": "/data/in"}})
    row = next(each for each in deployments_for(config)["deployments"] if each["name"] == "train")
    given = {"config": row["parameters"]["config"] | change}
    try:
        validate(given, form_of(row["entrypoint"]), raise_on_error=True)
    except ValidationError:
        assert not accepted
    else:
        assert accepted
