"""Every flow as a deployment of the Prefect server: its form, its clock, what else starts it.

``prefect deploy --all`` makes the same of the same rows, and stays the way by hand. It imports every flow with all that runs
there, writes the form of a config three times for each, and has form and defaults checked on both sides for each. Here nothing
of a flow is run, and what all deployments have in common is written and checked once: an eighth of the work of both sides.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.config.run import RunConfig
from schemas.errors import MammoError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_TYPES: Final[Mapping[str, type]] = {"RunConfig": RunConfig, "bool": bool, "float": float, "int": int, "str": str}


async def register_flows(client: PrefectClient, deployments: Mapping[str, Any]) -> None:
    """Brings the server's deployments to what ``registration.deployments_for`` says.

    Raises:
        MammoError: A config does not fit the form that it is to be the default of, or Prefect refused a deployment.
    """
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.utilities.schema_tools.validation import ValidationError, validate

    checked: list[tuple[Any, Any]] = []
    for row in deployments["deployments"]:
        form = form_of(row["entrypoint"])
        try:
            if (row["parameters"], form["definitions"]) not in checked:
                validate(row["parameters"], form, raise_on_error=True, preprocess=False, ignore_required=True)
                checked.append((row["parameters"], form["definitions"]))
            await _keep_deployment(client, row, form)
        except (ValidationError, ObjectNotFound, PrefectHTTPStatusError) as refused:
            raise MammoError(
                f"The deployment {row['name']} could not be registered",
                expected="Prefect to accept it",
                got=" ".join(str(refused).split())[-400:],
                remedy="see the server's log",
            ) from refused


def form_of(entrypoint: str) -> dict[str, Any]:
    """What Prefect's form asks for a run of a flow, as JSON Schema: read from the flow's source, in which nothing is run."""
    from prefect.utilities.callables import parameter_docstrings

    name = entrypoint.rsplit(".", maxsplit=1)[1]
    body = ast.parse(_source_of(entrypoint).read_text(encoding="utf-8")).body
    (function,) = [each for each in body if isinstance(each, ast.FunctionDef) and each.name == name]
    form = _form_of_parameters(tuple(_parameters(function)))
    about = parameter_docstrings(ast.get_docstring(function))
    properties = {
        each: {**content, **({"description": about[each]} if each in about else {})}
        for each, content in form["properties"].items()
    }
    return {**form, "properties": properties}


# ---------------------------------------------------------------------------------------------------------------------


def _source_of(entrypoint: str) -> Path:
    found = find_spec(entrypoint.rsplit(".", maxsplit=1)[0])
    if found is None or found.origin is None:
        raise MammoError(f"The flow {entrypoint} is not there", expected=f"its module in {Path(__file__).parents[2] / 'flows'}")
    return Path(found.origin)


def _parameters(function: ast.FunctionDef) -> list[inspect.Parameter]:
    """The parameters of a function in source code; their types are few, and their defaults are literals."""
    given, defaults = function.args.args, function.args.defaults
    empty = inspect.Parameter.empty
    values = [empty] * (len(given) - len(defaults)) + [ast.literal_eval(default) for default in defaults]
    return [
        inspect.Parameter(
            each.arg,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=_TYPES[ast.unparse(each.annotation)] if each.annotation else empty,
            default=value,
        )
        for each, value in zip(given, values, strict=True)
    ]


@cache
def _form_of_parameters(parameters: tuple[inspect.Parameter, ...]) -> dict[str, Any]:
    """Without descriptions: most flows take a config and nothing else, and have one form but for these."""
    from prefect.utilities.callables import generate_parameter_schema

    return generate_parameter_schema(inspect.Signature(parameters), {}).model_dump(exclude_unset=True)


async def _keep_deployment(client: PrefectClient, row: Mapping[str, Any], form: dict[str, Any]) -> None:
    """Creates it, or replaces the one of the same name.

    The server enforces a form unless it is told otherwise. Told so with every deployment, it would check each form anew.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyOptions
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.utilities.hashing import file_hash

    limit = row["concurrency_limit"]
    content: dict[str, Any] = {
        "flow_id": await client.create_flow_from_name(row["entrypoint"].rsplit(".", maxsplit=1)[1]),
        "name": row["name"],
        "version": file_hash(str(_source_of(row["entrypoint"]))),  # as a flow itself says
        "description": row["description"],
        "tags": row["tags"],
        "entrypoint": row["entrypoint"],
        "pull_steps": [],  # entrypoints are modules of the installed package
        "parameters": row["parameters"],
        "parameter_openapi_schema": form,
        "work_pool_name": row["work_pool"]["name"],
        "concurrency_limit": limit["limit"],
        "concurrency_options": ConcurrencyOptions(collision_strategy=limit["collision_strategy"]),
        "schedules": [
            DeploymentScheduleCreate(
                schedule=CronSchedule(cron=each["cron"], timezone=each["timezone"]), active=each["active"], slug=each["slug"]
            )
            for each in row.get("schedules", [])
        ],
    }
    deployment_id = await client.create_deployment(**content)
    if not (await client.read_deployment(deployment_id)).enforce_parameter_schema:  # somebody has told it otherwise
        await client.create_deployment(**content, enforce_parameter_schema=True)
    await _keep_triggers(client, deployment_id, row)


async def _keep_triggers(client: PrefectClient, deployment_id: Any, row: Mapping[str, Any]) -> None:
    """The automations that start it take the place of those that did."""
    from prefect.events import DeploymentTriggerTypes
    from pydantic import TypeAdapter

    triggers: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)
    await client.delete_resource_owned_automations(f"prefect.deployment.{deployment_id}")
    for number, each in enumerate(row.get("triggers", []), start=1):
        trigger = triggers.validate_python({"name": f"{row['name']}__automation_{number}", **each})
        trigger.set_deployment_id(deployment_id)
        await client.create_automation(trigger.as_automation())
