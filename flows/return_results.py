"""Return results: objects of predicted exams go back into their studies; what cannot go now is tried by a later run."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.pages import ReturnReport
from tasks.artifacts import config_flow
from tasks.return_results import return_results as send_back


@config_flow(name="return_results")
def return_results(config: RunConfig) -> ReturnReport:
    """What ``predict`` scored, to ``pacs.results.peer``; nothing where no such peer is configured."""
    return send_back(config)
