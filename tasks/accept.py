"""Accept: is a model fit for this site, by the rules of the config on the exams that are published here?

It keeps no memory: what it says holds for the exams, the rules and the weights of the day on which it is asked.
"""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.reports.life.acceptance import AcceptanceReport
from tasks.adapters.lifecycle.accepting.judging import SiteTrial
from tasks.adapters.lifecycle.accepting.model_source import model_folder
from tasks.adapters.lock import empty_held, held_lock, reading
from tasks.adapters.pages.evaluations.acceptance_page import acceptance_text, with_gallery, write_acceptance_page
from tasks.adapters.scoring.evaluation import Evaluation
from tasks.adapters.workspace import REPORT_FILE, Workspace
from tasks.artifacts import add_to_run_name, progress, show_link, show_markdown, show_table
from tasks.stage import GPU_TAG, read_workspaces

logger = logging.getLogger(__name__)


@task(name="accept", tags=[GPU_TAG], cache_policy=NO_CACHE, persist_result=False)
def accept_model(config: RunConfig, model: str = "") -> AcceptanceReport:
    """Scores every published exam of patients whom the weights have not seen, and asks the rules.

    Args:
        config: The run; its section ``accept`` holds the rules.
        model: A pack, a checkpoint folder, an ``ensemble.json``, or first digits of a digest; "" = the one in use.

    Raises:
        ConfigError: No model, or several, are named so.
        CheckpointError: The model is damaged, or was trained on images of another preprocessing or size.
        StoreError: Nothing is published, or no exam is left to judge by.
        StoreBusy: Images or weights are being taken away; or another acceptance goes on here: their tables would mix.
    """
    home = model_folder(config, model)
    folder = Workspace(config.workspace_dir).stage_dir("accept")
    with reading(read_workspaces(config)), held_lock(folder, purpose="accept", wait_s=config.ingest.lock_wait_s):
        report = _accepted(config, SiteTrial.of(config, home), folder)
    logger.info("model %s is %s", report.model_sha256[:12], report.verdict.value)
    show_markdown("verdict", f"```\n{acceptance_text(report)}\n```", "What the rules say of the model")
    show_table("devices", [device.model_dump(mode="json") for device in report.devices], "Devices and thresholds")
    show_link("acceptance", report.page_path, report.verdict.value)
    add_to_run_name(report.verdict.value.replace(" ", "-"))
    return report


def _accepted(config: RunConfig, trial: SiteTrial, folder: Path) -> AcceptanceReport:
    with progress("accept", len(trial.images), "images") as tracker:
        evaluation = Evaluation.of(trial.config, trial.members, trial.images, trial.data_version, tracker.advance_to)
    empty_held(folder, first=REPORT_FILE)  # only now: a model that does not fit leaves what was said before
    report, cohort = trial.judged(evaluation, evaluation.write_tables(folder))
    report = write_acceptance_page(trial.config, with_gallery(trial, evaluation, report, cohort))
    Workspace(config.workspace_dir).write_report("accept", report)
    return report
