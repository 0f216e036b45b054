"""Predict: a trained network over every published image of a workspace, with panels and what is missing."""

from __future__ import annotations

import logging

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from gmic_model.metrics import breast_scores
from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.exam import FINDINGS
from schemas.reports import ImageScore, IngestReport, PredictReport
from tasks.adapters.checkpoints import load_checkpoint
from tasks.adapters.exam_store import lines_of, open_store, read_manifest, stored_views
from tasks.adapters.report import render_prediction
from tasks.adapters.workspace import Workspace, write_atomically
from tasks.artifacts import progress, show_link, show_table
from tasks.explain import draw_view, missing_views
from tasks.scoring import ScoredView, choose_device, load_network, score_rows, score_table
from tasks.train import now

logger = logging.getLogger(__name__)


@task(name="predict", cache_policy=NO_CACHE, persist_result=False)
def predict(config: RunConfig, ingested: IngestReport) -> PredictReport:
    """Scores and explains every image of the store.

    Raises:
        ConfigError: No checkpoint is named.
        CheckpointError: The checkpoint is missing or was altered.
    """
    if config.checkpoint is None:
        raise ConfigError("predict needs a trained network", expected="checkpoint: FOLDER", remedy="name it in the config")
    checkpoint = load_checkpoint(config.checkpoint)
    store = open_store(ingested.store_dir)
    manifest = read_manifest(store)
    views = stored_views(store, manifest, config.preprocess.window_px)
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    folder.mkdir(parents=True, exist_ok=True)
    lines = {int(line["row"]): line for line in lines_of(manifest)}
    scored: list[ScoredView] = []
    drawn = []
    with progress("predict", len(lines), "images") as tracker:
        for view in score_rows(
            load_network(checkpoint), views, list(lines), batch_images=1, device=choose_device(config.train)
        ):
            scored.append(view)
            drawn.append(draw_view(view, lines[view.row], views, config.model, folder))
            tracker.advance_to(len(scored))
    table = score_table(manifest, scored)
    write_atomically(folder / "scores.parquet", table.to_parquet(index=False))
    write_atomically(folder / "scores.csv", table.to_csv(index=False, float_format="%.6f").encode())
    names = [f"{finding.value}_score" for finding in FINDINGS]
    breasts = breast_scores(
        table[names].to_numpy(np.float64), table["exam_id"].to_numpy(str), table["laterality"].to_numpy(str)
    )
    report = PredictReport(
        images=tuple(
            ImageScore(
                image_id=line["image_id"],
                exam_id=line["exam_id"],
                laterality=line["laterality"],
                view_position=line["view_position"],
                scores={finding.value: line[f"{finding.value}_score"] for finding in FINDINGS},
                gate_warnings=line["gate_warnings"],
            )
            for line in lines_of(table)
        ),
        breast_scores={
            f"{exam_id} {side}": {finding.value: float(score) for finding, score in zip(FINDINGS, score_C, strict=True)}
            for exam_id, side, score_C in zip(breasts.exam_id_B, breasts.laterality_B, breasts.score_BC, strict=True)
        },
        missing=missing_views(list(lines.values())),
        quarantined_by_reason=ingested.quarantined_by_reason,
        advice=ingested.advice,
        panels=tuple(image.panel_path for image in drawn),
        scores_path=folder / "scores.csv",
        report_path=folder / "report.html",
    )
    for sentence in report.missing:
        logger.warning("%s", sentence)
    note = f"Weights {checkpoint.sha256[:12]} of {config.checkpoint.name}."
    render_prediction(report, config=config, checkpoint_note=note, output_path=folder / "report.html", created=now())
    show_table("scores", [score.model_dump() for score in report.images], f"{len(report.images)} images scored")
    show_link("prediction", folder / "report.html", "Scores and panels")
    write_atomically(folder / "report.json", report.model_dump_json(indent=1).encode())
    return report
