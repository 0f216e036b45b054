"""What the server is told of a flow is what Prefect itself would say of it, and it holds runs to it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from deployments.server.registered_flows import form_of
from deployments.server.registration import deployments_for
from schemas.config.run import RunConfig

FLOWS = sorted({path.stem for path in (Path(__file__).parents[3] / "flows").glob("*.py")} - {"__init__"})


@pytest.mark.parametrize("name", FLOWS)
def test_a_form_is_what_prefect_makes_of_the_flow(name: str) -> None:
    """Read from the source alone; Prefect imports the flow, and says the same of its parameters and what they mean."""
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    assert form_of(f"flows.{name}.{name}") == parameter_schema(flow).model_dump(exclude_unset=True)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_that_is_imported_has_no_form_and_takes_only_a_config(name: str) -> None:
    """Each process would write the form of every flow that it imports. What a run is given is checked all the same."""
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    assert flow.parameters.definitions == {} and "config" in flow.parameters.properties
    sent = {"workspace_dir": "/data/ward", "ingest": {"source_dir": "/data/in"}, "force": ["train"]}
    others = dict.fromkeys(set(flow.parameters.required) - {"config"}, "Ada")
    assert flow.validate_parameters({"config": sent, **others})["config"] == RunConfig.model_validate(sent)
    with pytest.raises(ParameterTypeError, match="tarin"):
        flow.validate_parameters({"config": {**sent, "tarin": {}}, **others})


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
