"""Train: GMIC on the training split."""

from __future__ import annotations

from flows.pretrain import pretrained
from schemas.config.run import RunConfig
from schemas.reports.training import TrainReport
from tasks.adapters.models.start_files import require_starts
from tasks.artifacts import config_flow
from tasks.split import split_patients
from tasks.stage import load_ingested
from tasks.train import train_network
from tasks.validate import check_manifest


@config_flow(name="train")
def train(config: RunConfig) -> TrainReport:
    """On all that is published: checks and splits are brought up to date; training goes on where an earlier run stopped."""
    require_starts(config)
    ingested = load_ingested(config)
    check_manifest(config, ingested)
    splits = split_patients(config, ingested)
    return train_network(config, splits, pretrained(config, splits))
