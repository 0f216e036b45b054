"""Runs a verb's flow on this machine, against the server that the environment names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from schemas.config.run import RunConfig
from schemas.reports.report import Report


def run_verb(verb: str, config: RunConfig, **parameters: bool) -> Report:
    """Runs ``flows.<verb>`` with the tags by which its run is found in the UI.

    Args:
        verb: Name of a flow and its module.
        config: The run.
        parameters: The flow's other parameters.
    """
    # Imported late: Prefect reads its environment when imported, and the server sets that up.
    from prefect import tags

    flow: Callable[..., Report] = getattr(import_module(f"flows.{verb}"), verb)
    with tags(f"run:{config.name}", f"profile:{config.ingest.profile}", f"model:{config.model.variant.value}"):
        return flow(config, **parameters)
