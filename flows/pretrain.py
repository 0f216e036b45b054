"""Pretrain: the localisation network on categories or on hidden tissue, before train or search."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.data import SplitReport
from schemas.reports.training import PretrainReport
from tasks.artifacts import config_flow
from tasks.pretrain import pretrain_network
from tasks.stage import load_splits


@config_flow(name="pretrain")
def pretrain(config: RunConfig) -> PretrainReport:
    """Continues where an earlier run of the same config stopped."""
    return pretrain_network(config, load_splits(config))


def pretrained(config: RunConfig, splits: SplitReport) -> PretrainReport | None:
    """The step of train, search and pipeline: what the config asks to begin with, None = fresh weights."""
    is_asked = config.pretrain is not None and not config.train.start.from_scratch
    return pretrain_network(config, splits) if is_asked else None
