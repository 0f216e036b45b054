"""Return results: what was predicted goes back to its PACS as objects in the exam's own study; who is not done waits."""

from __future__ import annotations

import logging
from importlib.metadata import version

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.pacs import PacsConfig, ResultsConfig
from schemas.config.run import RunConfig
from schemas.reports.pages import ReturnReport
from tasks.adapters.lifecycle.in_use import points_in_use
from tasks.adapters.lock import held_lock, reading
from tasks.adapters.provenance import now
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.workspace import Workspace
from tasks.artifacts import add_to_run_name, progress, show_table
from tasks.stage import read_workspaces

logger = logging.getLogger(__name__)


@task(name="return-results", cache_policy=NO_CACHE, persist_result=False)
def return_results(config: RunConfig) -> ReturnReport:
    """Queues exams that were predicted since the last run, and delivers what is due.

    Raises:
        PeerRefused: The peer does not accept us; the outbox is as it was.
        StoreBusy: Another run returns results.
    """
    if config.pacs is None or config.pacs.results is None:
        return ReturnReport()
    workspace = Workspace(config.workspace_dir)
    folder = workspace.stage_dir("return_results")
    with reading(read_workspaces(config)), held_lock(folder, purpose="return results", wait_s=config.ingest.lock_wait_s):
        report = _returned(config, config.pacs, config.pacs.results)
    for exam in report.exams:
        if exam.reason:
            logger.warning("results of %s are %s: %s", exam.exam_id, exam.state, exam.reason)
    if report.stopped:
        logger.warning("no more results are sent now: %s", report.stopped)
    show_table("results", [exam.model_dump() for exam in report.exams], f"{len(report.exams)} exams for {report.peer}")
    add_to_run_name(f"{sum(exam.state == 'delivered' for exam in report.exams)}-exams-returned")
    workspace.write_report("return_results", report)
    return report


def _returned(config: RunConfig, pacs: PacsConfig, settings: ResultsConfig) -> ReturnReport:
    from tasks.adapters.results.kept_prediction import kept_prediction  # late: pandas and zarr, and pydicom behind it

    prediction = kept_prediction(config)
    if prediction is None:
        return ReturnReport(peer=settings.peer)
    from tasks.adapters.results.returning import Returning, return_due

    run = Returning(
        pacs=pacs,
        settings=settings,
        pseudonyms=open_key(Workspace(config.workspace_dir).key_path),
        network=config.model.title.upper(),
        code_version=version("mammography-gmic"),
        points=points_in_use(config, next((exam.weights_sha256 for exam in prediction.exams.values()), "")),
        now=now().astimezone().replace(tzinfo=None),
    )
    outbox_path = Workspace(config.workspace_dir).outbox_path
    with progress("return", len(prediction.exams), "exams") as tracker:
        return return_due(run, outbox_path, prediction, tracker.advance_to)
