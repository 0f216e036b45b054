"""Train: GMIC on the training split."""

from __future__ import annotations

from prefect import flow

from schemas.config import RunConfig, Stage
from schemas.reports import SplitReport, TrainReport
from tasks.stages import load_report, when_needed
from tasks.train import train as train_task


@flow(name="train", flow_run_name="train-{config.name}")
def train(config: RunConfig) -> TrainReport:
    """Continues where an earlier run of the same config stopped."""
    splits = load_report(config, Stage.SPLIT, SplitReport)
    return when_needed(train_task, Stage.TRAIN, config)(config, splits)
