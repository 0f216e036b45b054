"""Return results: objects of predicted exams go back into their studies; what cannot go now is tried by a later run."""

from __future__ import annotations

from prefect import flow

from schemas.config.run import RunConfig
from schemas.reports.pages import ReturnReport
from tasks.artifacts import run_name
from tasks.return_results import return_results as send_back


@flow(name="return_results", flow_run_name=run_name)
def return_results(config: RunConfig) -> ReturnReport:
    """What ``predict`` scored, to ``pacs.results.peer``; nothing where no such peer is configured."""
    return send_back(config)
