"""Predict: score and explain exams with a trained network; no labels needed."""

from __future__ import annotations

from flows.ingest import TWO_BATCHES, ingest_steps
from schemas.config.run import RunConfig
from schemas.reports.pages import PredictReport
from tasks.artifacts import config_flow
from tasks.predict import find_checkpoint, predict_exams
from tasks.stage import require_own_store


@config_flow(name="predict", task_runner=TWO_BATCHES)
def predict(config: RunConfig) -> PredictReport:
    """Exams of ``ingest.source_dir`` through the gate and the network of ``checkpoint``, or of this workspace."""
    require_own_store(config)
    checkpoint_path = find_checkpoint(config)
    return predict_exams(config, ingest_steps(config), checkpoint_path)
