"""Train: GMIC on the training split."""

from __future__ import annotations

from prefect import flow

from flows.pretrain import pretrained
from schemas.config.run import RunConfig, Stage
from schemas.reports.data import IngestReport
from schemas.reports.training import TrainReport
from tasks.artifacts import run_name
from tasks.split import split
from tasks.stage import load_report, when_needed
from tasks.train import train as train_task
from tasks.validate import validate


@flow(name="train", flow_run_name=run_name)
def train(config: RunConfig) -> TrainReport:
    """On all that is published: checks and splits are brought up to date; training goes on where an earlier run stopped."""
    ingested = load_report(config, Stage.INGEST, IngestReport)
    when_needed(validate, Stage.VALIDATE, config)(config, ingested)
    splits = when_needed(split, Stage.SPLIT, config)(config, ingested)
    return when_needed(train_task, Stage.TRAIN, config)(config, splits, pretrained(config, splits))
