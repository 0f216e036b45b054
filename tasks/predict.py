"""Predict: a trained network over every published image of a workspace, with panels and what is missing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from schemas.reports.pages import PredictReport
from tasks.adapters.lifecycle.in_use import weights_to_predict_with
from tasks.adapters.lifecycle.said_scores import DEVICE_ASKED, IMAGE_ASKED, SaidScores
from tasks.adapters.lock import held_lock, reading
from tasks.adapters.models.whole_models import load_model
from tasks.adapters.pages.gallery.drawn_views import score_and_draw
from tasks.adapters.pages.report_page import render_prediction
from tasks.adapters.provenance import now
from tasks.adapters.scoring.prediction import (
    TABLE_ASKED,
    begin_scores,
    image_scores,
    kept_recalibration,
    numbers_of,
    score_table,
    scored_before,
    scored_with,
    weights_note,
    what_is_missing,
    window_note,
    write_scores,
)
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import all_but, read_manifest
from tasks.adapters.store.objects.bucket_store import store_of_run
from tasks.adapters.store.views import VIEWED_COLUMNS, seen_fractions, stored_views
from tasks.adapters.workspace import Workspace
from tasks.artifacts import ROWS_SHOWN, add_to_run_name, progress, show_link, show_table
from tasks.stage import GPU_TAG, read_workspaces

logger = logging.getLogger(__name__)

_DRAWN: Final = frozenset({"row", "has_lesion_mask"})
_KEPT: Final = TABLE_ASKED | IMAGE_ASKED | _DRAWN
_ASKED: Final = _KEPT | DEVICE_ASKED | VIEWED_COLUMNS
"""Of the manifest: of a million images all columns take a gigabyte, those of ``_KEPT`` a fifth of it."""


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
        StoreBusy: Images or weights are being taken away; or another prediction goes on here: their scores would mix.
        StoreError: The prediction log cannot be written: nothing is given out that is not in it.
    """
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    with reading(read_workspaces(config)), held_lock(folder, purpose="predict", wait_s=config.ingest.lock_wait_s):
        return _predicted(config, ingested, checkpoint_path, folder)


def _predicted(config: RunConfig, ingested: IngestReport, checkpoint_path: Path, folder: Path) -> PredictReport:
    model = load_model(checkpoint_path)
    recalibration = kept_recalibration(model, config.calibrated_prevalence) if config.calibrated else {}
    store, window_px = store_of_run(config), config.preprocess.window_px
    manifest = read_manifest(open_store(ingested.store_dir), without=all_but(_ASKED))
    views = stored_views(store, manifest, window_px, reader=config.train.store_reader)
    said = SaidScores.of(config, model, recalibration, ingested.data_version, flow_run.id or "", manifest)
    manifest = manifest.assign(breast_seen_fraction=seen_fractions(manifest, window_px))
    manifest = manifest[[name for name in manifest if name in _KEPT]]
    begin_scores(folder, scored_with(model.sha256, config))
    known = scored_before(folder, manifest, with_panels=config.predicted_panels)
    is_new = ~manifest["row"].isin(known["row"])
    new_rows_N = manifest.loc[is_new, "row"].to_numpy()
    with progress("predict", len(new_rows_N), "images") as tracker:
        score_and_draw(config, model.network, views, manifest[is_new], folder, tracker.advance_to, said.images)
    kept = scored_before(folder, manifest, with_panels=False)
    table = score_table(manifest, kept, sha256=model.sha256, data_version=ingested.data_version)
    said.exams(table, kept.loc[~kept["is_entered"], "row"].to_numpy())  # first: no score is given out that is not in the log
    scores_path, page_path = write_scores(folder, table), folder / "report.html"
    logged = said.log.last()
    report = PredictReport(
        **numbers_of(table, recalibration, panels_in=folder if config.predicted_panels else None),
        missing=what_is_missing(manifest, ingested.not_fetched),
        seen=ingested.seen,
        quarantined_by_reason=ingested.quarantined_by_reason,
        advice=ingested.advice,
        images_new=len(new_rows_N),
        scores_path=scores_path,
        report_path=page_path,
        log_number=logged.number,
        log_sha256=logged.sha256,
    )
    of_other_window = window_note(model, window_px)
    for sentence in filter(None, (of_other_window, *report.missing)):
        logger.warning("%s", sentence)
    note = f"{weights_note(model, recalibration, config.calibrated_prevalence)} {of_other_window}".strip()
    render_prediction(report, config=config, checkpoint_note=note, output_path=page_path, created=now())
    fresh = table[table["row"].isin(new_rows_N)].head(ROWS_SHOWN)
    show_table("scores", [score.model_dump() for score in image_scores(fresh)], f"{len(table)} images, {len(new_rows_N)} new")
    add_to_run_name(f"{len(table)}-images-{len(new_rows_N)}-new")
    show_link("prediction", page_path, "Scores and panels")
    Workspace(config.workspace_dir).write_report("predict", report)
    return report
