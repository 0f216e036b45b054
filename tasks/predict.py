"""Predict: a trained network over every published image of a workspace, with panels and what is missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from gmic_model.learning.learner import choose_device
from gmic_model.metrics.calibration import apply_temperature
from gmic_model.metrics.ranking import breast_scores
from gmic_model.networks.network import FindingsNetwork
from gmic_model.networks.registry import config_of
from gmic_model.preprocess import preprocess_version
from schemas.config.run import RunConfig, Stage
from schemas.errors import ConfigError
from schemas.exam import FINDINGS
from schemas.reports.data import IngestReport
from schemas.reports.pages import ExplainedImage, ImageScore, PredictReport
from schemas.reports.training import TrainReport
from tasks.adapters.models.checkpoints import Checkpoint, load_checkpoint
from tasks.adapters.models.model_files import read_temperature
from tasks.adapters.models.networks import load_network, load_trained, require_preprocessing
from tasks.adapters.pages.panels import draw_view
from tasks.adapters.pages.report_page import render_prediction
from tasks.adapters.provenance import config_preprocessing, now
from tasks.adapters.scoring.score_tables import SCORE_COLUMNS, image_table
from tasks.adapters.scoring.scored_views import ScoredView, ViewsReadOnce, score_rows
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import lines_of, read_manifest
from tasks.adapters.store.views import stored_views
from tasks.adapters.workspace import Workspace, exam_store_dir, write_atomically
from tasks.artifacts import add_to_run_name, progress, show_link, show_table
from tasks.explain import missing_views
from tasks.stage import GPU_TAG, load_report, report_path

logger = logging.getLogger(__name__)


@task(name="find-checkpoint", cache_policy=NO_CACHE, persist_result=False)
def find_checkpoint(config: RunConfig) -> Path:
    """The weights to predict with: the config's, or those that this workspace trained. Asked before anything is ingested.

    Raises:
        ConfigError: None is named and the workspace has trained none.
        CheckpointError: The checkpoint is missing, was altered, or was trained on images of another preprocessing.
    """
    if config.checkpoint is not None:
        checkpoint = load_checkpoint(config.checkpoint)
        require_preprocessing(checkpoint, config_preprocessing(config.preprocess))
        return checkpoint.folder
    if not report_path(config.workspace_dir, Stage.TRAIN).exists():
        raise ConfigError(
            "predict needs a trained network",
            expected="checkpoint: FOLDER in the config, or --checkpoint FOLDER",
            got=f"none, and no training in {config.workspace_dir}",
            remedy="name the checkpoint folder that `mammo train` printed",
        )
    trained = load_report(config, Stage.TRAIN, TrainReport)
    load_trained(trained, preprocessing=config_preprocessing(config.preprocess))
    return trained.checkpoint_path


@task(name="predict", tags=[GPU_TAG], cache_policy=NO_CACHE, persist_result=False)
def predict_exams(config: RunConfig, ingested: IngestReport, checkpoint_path: Path) -> PredictReport:
    """Scores and explains every image of the store that these weights have not scored yet.

    Raises:
        CheckpointError: The checkpoint is missing or was altered.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    temperatures = _temperatures(checkpoint) if config.calibrated else {}
    manifest = read_manifest(open_store(ingested.store_dir))
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    folder.mkdir(parents=True, exist_ok=True)
    weights = f"{checkpoint.sha256} {preprocess_version(config.preprocess)}"
    known, panels = _scored_before(folder, weights, manifest)
    new = manifest[~manifest["row"].isin(known["row"])]
    scored, drawn = _score_and_draw(config, new, load_network(checkpoint), folder)
    table = _score_table(manifest, known, scored, sha256=checkpoint.sha256, data_version=ingested.data_version)
    write_atomically(folder / "weights", weights.encode())
    write_atomically(folder / "scores.parquet", table.to_parquet(index=False))
    write_atomically(folder / "scores.csv", table.to_csv(index=False, float_format="%.6f").encode())
    report = PredictReport(
        images=_image_scores(table),
        breast_scores=_breast_scores(table, temperatures),
        missing=missing_views(lines_of(manifest)),
        quarantined_by_reason=ingested.quarantined_by_reason,
        advice=ingested.advice,
        images_new=len(new),
        panels=(*panels, *(image.panel_path for image in drawn)),
        scores_path=folder / "scores.csv",
        report_path=folder / "report.html",
    )
    for sentence in report.missing:
        logger.warning("%s", sentence)
    note = f"Weights {checkpoint.sha256[:12]} of {checkpoint.folder.name}."
    if temperatures:
        note += (
            " Breast scores are calibrated by temperature " + ", ".join(f"{k} {v:.2f}" for k, v in temperatures.items()) + "."
        )
    render_prediction(report, config=config, checkpoint_note=note, output_path=folder / "report.html", created=now())
    show_table(
        "scores", [score.model_dump() for score in report.images[len(known) :]], f"{len(report.images)} images, {len(new)} new"
    )
    add_to_run_name(f"{len(report.images)}-images-{len(new)}-new")
    show_link("prediction", folder / "report.html", "Scores and panels")
    Workspace(config.workspace_dir).write_report("predict", report)
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _scored_before(folder: Path, weights: str, manifest: pd.DataFrame) -> tuple[pd.DataFrame, tuple[Path, ...]]:
    """Rows, scores and panels of images that these very weights have scored and that are still in the store.

    A row is given out once (``inbox.ledger``): the same row is the same image. Anything odd means: score all again.
    """
    columns = ["row", *SCORE_COLUMNS]
    nothing = pd.DataFrame(columns=columns), ()
    try:
        if (folder / "weights").read_text() != weights:
            return nothing
        table = pd.read_parquet(folder / "scores.parquet")
        report = Workspace(folder.parent).read_report(folder.name, PredictReport)
    except (OSError, ValueError):
        return nothing
    if "row" not in table or len(report.panels) != len(table) or not all(path.exists() for path in report.panels):
        return nothing
    kept = table["row"].isin(manifest["row"])
    return table.loc[kept, columns], tuple(path for path, is_kept in zip(report.panels, kept, strict=True) if is_kept)


def _score_table(
    manifest: pd.DataFrame, known: pd.DataFrame, scored: Sequence[ScoredView], *, sha256: str, data_version: str
) -> pd.DataFrame:
    """Known images, then new ones, as their panels are; labels and warnings are the manifest's of today."""
    rows = [*known["row"].tolist(), *(view.row for view in scored)]
    new_NC = np.array([view.score_C for view in scored]).reshape(-1, len(FINDINGS))
    score_NC = np.concatenate([known[list(SCORE_COLUMNS)].to_numpy(np.float64), new_NC])
    ordered = manifest.set_index("row").loc[rows].reset_index()
    return image_table(ordered, rows, score_NC, model="model", sha256=sha256, data_version=data_version)


def _score_and_draw(
    config: RunConfig, manifest: pd.DataFrame, network: FindingsNetwork, folder: Path
) -> tuple[list[ScoredView], list[ExplainedImage]]:
    views = ViewsReadOnce(stored_views(open_store(exam_store_dir(config)), manifest, config.preprocess.window_px))
    lines = {int(line["row"]): line for line in lines_of(manifest)}
    scored, drawn = [], []
    with progress("predict", len(lines), "images") as tracker:
        for view in score_rows(network, views, list(lines), batch_images=1, device=choose_device(config.train)):
            scored.append(view)
            drawn.append(draw_view(view, lines[view.row], views, config_of(network), folder))
            views.let_go(view.row)
            tracker.advance_to(len(scored))
    return scored, drawn


def _image_scores(table: pd.DataFrame) -> tuple[ImageScore, ...]:
    return tuple(
        ImageScore(
            image_id=line["image_id"],
            exam_id=line["exam_id"],
            laterality=line["laterality"],
            view_position=line["view_position"],
            scores={finding.value: line[f"{finding.value}_score"] for finding in FINDINGS},
            gate_warnings=line["gate_warnings"],
        )
        for line in lines_of(table)
    )


def _temperatures(checkpoint: Checkpoint) -> dict[str, float]:
    """The fitted temperature of each finding that has one, of these very weights."""
    kept = read_temperature(checkpoint.folder, checkpoint.sha256)
    return {finding: fit.temperature for finding, fit in kept.by_finding.items() if fit.temperature is not None}


def _breast_scores(table: pd.DataFrame, temperatures: Mapping[str, float]) -> dict[str, dict[str, float]]:
    names = [f"{finding.value}_score" for finding in FINDINGS]
    breasts = breast_scores(
        table[names].to_numpy(np.float64), table["exam_id"].to_numpy(str), table["laterality"].to_numpy(str)
    )
    score_BC = np.stack(
        [
            apply_temperature(breasts.score_BC[:, index], temperatures[finding.value])
            if finding.value in temperatures
            else breasts.score_BC[:, index]
            for index, finding in enumerate(FINDINGS)
        ],
        axis=1,
    )
    return {
        f"{exam_id} {side}": {finding.value: float(score) for finding, score in zip(FINDINGS, score_C, strict=True)}
        for exam_id, side, score_C in zip(breasts.exam_id_B, breasts.laterality_B, score_BC, strict=True)
    }
