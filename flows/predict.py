"""Predict: score and explain exams with a trained network; no labels needed."""

from __future__ import annotations

from flows.ingest import TWO_BATCHES, ingest_what_is_here, told_at_the_end
from schemas.config.run import RunConfig
from schemas.reports.pages import PredictReport
from tasks.artifacts import config_flow
from tasks.predict import find_checkpoint, predict_exams
from tasks.stage import require_own_store


@config_flow(name="predict", task_runner=TWO_BATCHES)
def predict(config: RunConfig) -> PredictReport:
    """Exams of ``ingest.source_dir`` through the gate and the network of ``checkpoint``, or of this workspace.

    Raises:
        PeerUnavailable: The source of exams cannot be asked. What is here is predicted.
        PeerRefused: It does not accept us; likewise.
    """
    require_own_store(config)
    checkpoint_path = find_checkpoint(config)
    ingested, silent = ingest_what_is_here(config)
    predicted = predict_exams(config, ingested, checkpoint_path)
    if silent is not None:
        raise told_at_the_end(silent, f"predicted: {predicted.report_path}") from silent
    return predicted
