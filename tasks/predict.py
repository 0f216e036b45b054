"""Predict: a trained network over every published image of a workspace, with panels and what is missing."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from schemas.reports.pages import PredictReport
from tasks.adapters.lifecycle.in_use import weights_to_predict_with
from tasks.adapters.lifecycle.said_scores import SaidScores
from tasks.adapters.lock import reading
from tasks.adapters.models.whole_models import load_model
from tasks.adapters.pages.panels import score_and_draw
from tasks.adapters.pages.report_page import render_prediction
from tasks.adapters.provenance import now
from tasks.adapters.scoring.prediction import (
    image_scores,
    kept_recalibration,
    mean_breast_scores,
    score_table,
    scored_before,
    scored_with,
    weights_note,
    write_scores,
)
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import lines_of, read_manifest
from tasks.adapters.store.views import cut_views, missing_views, seen_fractions, stored_views
from tasks.adapters.workspace import Workspace, exam_store_dir
from tasks.artifacts import add_to_run_name, progress, show_link, show_table
from tasks.stage import GPU_TAG, read_workspaces

logger = logging.getLogger(__name__)


@task(name="find-checkpoint", cache_policy=NO_CACHE, persist_result=False)
def find_checkpoint(config: RunConfig) -> Path:
    """The weights to predict with: the config's, those in use here, or what it trained. Asked before anything is ingested.

    Raises:
        ConfigError: None is named and the workspace has trained none.
        CheckpointError: The checkpoint is missing, was altered, or was trained on images of another preprocessing.
    """
    return weights_to_predict_with(config)


@task(name="predict", tags=[GPU_TAG], cache_policy=NO_CACHE, persist_result=False)
def predict_exams(config: RunConfig, ingested: IngestReport, checkpoint_path: Path) -> PredictReport:
    """Scores and explains every image of the store that these weights have not scored yet.

    Raises:
        CheckpointError: The checkpoint is missing or was altered.
        StoreBusy: Images or weights are being taken away.
        StoreError: The prediction log cannot be written: nothing is given out that is not in it.
    """
    with reading(read_workspaces(config)):
        return _predicted(config, ingested, checkpoint_path)


def _predicted(config: RunConfig, ingested: IngestReport, checkpoint_path: Path) -> PredictReport:
    model = load_model(checkpoint_path)
    recalibration = kept_recalibration(model, config.calibrated_prevalence) if config.calibrated else {}
    manifest = read_manifest(open_store(ingested.store_dir))
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    folder.mkdir(parents=True, exist_ok=True)
    weights = scored_with(model.sha256, config)
    known, panels = scored_before(folder, weights, manifest)
    new = manifest[~manifest["row"].isin(known["row"])]
    store, reader = open_store(exam_store_dir(config)), config.train.store_reader
    views = stored_views(store, new, config.preprocess.window_px, reader=reader)
    said = SaidScores.of(config, model, recalibration, ingested.data_version, flow_run.id or "")
    lines = lines_of(new)
    with progress("predict", len(new), "images") as tracker:
        scored, drawn = score_and_draw(config, model.network, views, lines, folder, tracker.advance_to, said.image)
    manifest = manifest.assign(breast_seen_fraction=seen_fractions(manifest, config.preprocess.window_px))
    table = score_table(manifest, known, scored, sha256=model.sha256, data_version=ingested.data_version)
    said.exams(table, set(new["row"]))  # first: no score is given out that is not in the log
    scores_path, page_path = write_scores(folder, weights, table), folder / "report.html"
    report = PredictReport(
        images=image_scores(table),
        breast_scores=mean_breast_scores(table, recalibration),
        missing=(*missing_views(lines_of(manifest)), *cut_views(lines_of(manifest))),
        seen=ingested.seen,
        quarantined_by_reason=ingested.quarantined_by_reason,
        advice=ingested.advice,
        images_new=len(new),
        panels=(*panels, *(image.panel_path for image in drawn)),
        scores_path=scores_path,
        report_path=page_path,
    )
    for sentence in report.missing:
        logger.warning("%s", sentence)
    note = weights_note(model, recalibration, config.calibrated_prevalence)
    render_prediction(report, config=config, checkpoint_note=note, output_path=page_path, created=now())
    new_scores = [score.model_dump() for score in report.images[len(known) :]]
    show_table("scores", new_scores, f"{len(report.images)} images, {len(new)} new")
    add_to_run_name(f"{len(report.images)}-images-{len(new)}-new")
    show_link("prediction", page_path, "Scores and panels")
    Workspace(config.workspace_dir).write_report("predict", report)
    return report
