"""Runs a verb's flow on this machine, against the server that the environment names; or says that nothing is to be done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, Final

from deployments.server.prefect_server import PREFECT_DEFAULTS
from deployments.verbs import ONE_STAGE, VERBS
from schemas.config.run import RunConfig, Stage
from schemas.reports.report import Report
from tasks.adapters.interpreter import imported_at_once
from tasks.adapters.workspace import Workspace

STAGES_ALONE: Final = frozenset(verb.name for verb in VERBS if verb.can_force and verb.group == ONE_STAGE)
"""Verbs whose flow is made of stages only, so that their folders tell whether there is something to do."""


def finished_report(verb: str, config: RunConfig) -> Report | None:
    """The report of a verb of whose work nothing is left; None if there is work. Starts no server and leaves no run.

    Raises:
        StoreError: A stage before it has not run.
    """
    if verb not in STAGES_ALONE or Stage(verb) in config.force:
        return None
    if not Workspace(config.workspace_dir).done_path(verb).exists():
        return None
    for name, value in PREFECT_DEFAULTS.items():  # Prefect reads them when it is imported
        os.environ.setdefault(name, value)
    flow = _flow(verb)
    from tasks.stage import NotFinished, without_work

    try:
        with without_work():
            report: Report = flow.fn(config)
    except NotFinished:
        return None
    return report


def run_verb(verb: str, config: RunConfig, **parameters: bool | str) -> Report:
    """Runs ``flows.<verb>`` with the tags by which its run is found in the UI.

    Args:
        verb: Name of a flow and its module.
        config: The run.
        parameters: The flow's other parameters.
    """
    # Imported late: Prefect reads its environment when imported, and the server sets that up.
    is_settled = "prefect" in sys.modules
    flow: Callable[..., Report] = _flow(verb)
    from prefect import tags

    with (
        _present_environment() if is_settled else nullcontext(),
        tags(f"run:{config.name}", f"profile:{config.ingest.profile}", f"model:{config.model.title}"),
    ):
        return flow(config, **parameters)


def _flow(verb: str) -> Any:
    with imported_at_once():
        return getattr(import_module(f"flows.{verb}"), verb)


@contextmanager
def _present_environment() -> Iterator[None]:
    """Prefect, imported earlier, with the server that the environment names now: ``finished_report`` found work."""
    from prefect import settings

    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "PREFECT_RESULTS_LOCAL_STORAGE_PATH")
    with settings.temporary_settings({getattr(settings, name): os.environ[name] for name in names if os.environ.get(name)}):
        yield
