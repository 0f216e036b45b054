"""Predict: a trained network over every published image of a workspace, with panels and what is missing."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from gmic_model.fit import choose_device
from gmic_model.metrics import breast_scores
from gmic_model.model import GMIC
from schemas.config import RunConfig, Stage
from schemas.errors import ConfigError
from schemas.exam import FINDINGS
from schemas.reports import ExplainedImage, ImageScore, IngestReport, PredictReport, TrainReport
from tasks.adapters.checkpoints import load_checkpoint
from tasks.adapters.exam_store import lines_of, open_store, read_manifest, stored_views
from tasks.adapters.report import render_prediction
from tasks.adapters.workspace import Workspace, write_atomically
from tasks.artifacts import progress, show_link, show_table
from tasks.explain import draw_view, missing_views
from tasks.scoring import ScoredView, load_network, load_trained, score_rows, score_table
from tasks.stages import load_report, report_path
from tasks.train import now

logger = logging.getLogger(__name__)


@task(name="find-checkpoint", cache_policy=NO_CACHE, persist_result=False)
def find_checkpoint(config: RunConfig) -> Path:
    """The weights to predict with: the config's, or those that this workspace trained. Asked before anything is ingested.

    Raises:
        ConfigError: None is named and the workspace has trained none.
        CheckpointError: The checkpoint is missing or was altered.
    """
    if config.checkpoint is not None:
        return load_checkpoint(config.checkpoint).folder
    if not report_path(config.workspace_dir, Stage.TRAIN).exists():
        raise ConfigError(
            "predict needs a trained network",
            expected="checkpoint: FOLDER in the config, or --checkpoint FOLDER",
            got=f"none, and no training in {config.workspace_dir}",
            remedy="name the checkpoint folder that `mammo train` printed",
        )
    trained = load_report(config, Stage.TRAIN, TrainReport)
    load_trained(trained)
    return trained.checkpoint_path


@task(name="predict", cache_policy=NO_CACHE, persist_result=False)
def predict(config: RunConfig, ingested: IngestReport, checkpoint_path: Path) -> PredictReport:
    """Scores and explains every image of the store.

    Raises:
        CheckpointError: The checkpoint is missing or was altered.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    manifest = read_manifest(open_store(ingested.store_dir))
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    folder.mkdir(parents=True, exist_ok=True)
    scored, drawn = _score_and_draw(config, manifest, load_network(checkpoint), folder)
    table = score_table(manifest, scored)
    write_atomically(folder / "scores.parquet", table.to_parquet(index=False))
    write_atomically(folder / "scores.csv", table.to_csv(index=False, float_format="%.6f").encode())
    report = PredictReport(
        images=_image_scores(table),
        breast_scores=_breast_scores(table),
        missing=missing_views(lines_of(manifest)),
        quarantined_by_reason=ingested.quarantined_by_reason,
        advice=ingested.advice,
        panels=tuple(image.panel_path for image in drawn),
        scores_path=folder / "scores.csv",
        report_path=folder / "report.html",
    )
    for sentence in report.missing:
        logger.warning("%s", sentence)
    note = f"Weights {checkpoint.sha256[:12]} of {checkpoint.folder.name}."
    render_prediction(report, config=config, checkpoint_note=note, output_path=folder / "report.html", created=now())
    show_table("scores", [score.model_dump() for score in report.images], f"{len(report.images)} images scored")
    show_link("prediction", folder / "report.html", "Scores and panels")
    write_atomically(folder / "report.json", report.model_dump_json(indent=1).encode())
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _score_and_draw(
    config: RunConfig, manifest: pd.DataFrame, network: GMIC, folder: Path
) -> tuple[list[ScoredView], list[ExplainedImage]]:
    views = stored_views(open_store(Workspace(config.workspace_dir).store_dir), manifest, config.preprocess.window_px)
    lines = {int(line["row"]): line for line in lines_of(manifest)}
    scored, drawn = [], []
    with progress("predict", len(lines), "images") as tracker:
        for view in score_rows(network, views, list(lines), batch_images=1, device=choose_device(config.train)):
            scored.append(view)
            drawn.append(draw_view(view, lines[view.row], views, network.config, folder))
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


def _breast_scores(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    names = [f"{finding.value}_score" for finding in FINDINGS]
    breasts = breast_scores(
        table[names].to_numpy(np.float64), table["exam_id"].to_numpy(str), table["laterality"].to_numpy(str)
    )
    return {
        f"{exam_id} {side}": {finding.value: float(score) for finding, score in zip(FINDINGS, score_C, strict=True)}
        for exam_id, side, score_C in zip(breasts.exam_id_B, breasts.laterality_B, breasts.score_BC, strict=True)
    }
