"""Runs a verb's flow on this machine, against the server that the environment names; or says that nothing is to be done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from deployments.server.prefect_server import PREFECT_DEFAULTS
from schemas.config.run import RunConfig, Stage
from schemas.reports.report import Report
from tasks.adapters.workspace import Workspace

_STAGES_ALONE: Final = frozenset({Stage.VALIDATE, Stage.SPLIT, Stage.PRETRAIN, Stage.TRAIN, Stage.EVALUATE, Stage.EXPLAIN})
"""Verbs whose flow is made of stages only, so that their folders tell whether there is something to do."""


def finished_report(verb: str, config: RunConfig) -> Report | None:
    """The report of a verb of whose work nothing is left; None if there is work. Starts no server and leaves no run.

    Raises:
        StoreError: A stage before it has not run.
    """
    if verb not in _STAGES_ALONE or Stage(verb) in config.force:
        return None
    if not Workspace(config.workspace_dir).done_path(verb).exists():
        return None
    for name, value in PREFECT_DEFAULTS.items():  # Prefect reads them when it is imported
        os.environ.setdefault(name, value)
    from tasks.stage import NotFinished, without_work

    try:
        with without_work():
            report: Report = _flow(verb).fn(config)
    except NotFinished:
        return None
    return report


def run_verb(verb: str, config: RunConfig, **parameters: bool) -> Report:
    """Runs ``flows.<verb>`` with the tags by which its run is found in the UI.

    Args:
        verb: Name of a flow and its module.
        config: The run.
        parameters: The flow's other parameters.
    """
    # Imported late: Prefect reads its environment when imported, and the server sets that up.
    from prefect import tags

    flow: Callable[..., Report] = _flow(verb)
    with (
        _present_environment(),
        tags(f"run:{config.name}", f"profile:{config.ingest.profile}", f"model:{config.model.title}"),
    ):
        return flow(config, **parameters)


def _flow(verb: str) -> Any:
    return getattr(import_module(f"flows.{verb}"), verb)


@contextmanager
def _present_environment() -> Iterator[None]:
    """Prefect with the server that the environment names now: it was imported earlier if ``finished_report`` found work."""
    from prefect import settings

    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "PREFECT_RESULTS_LOCAL_STORAGE_PATH")
    with settings.temporary_settings({getattr(settings, name): os.environ[name] for name in names if os.environ.get(name)}):
        yield
