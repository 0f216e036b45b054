"""What a task tells a training process, and how the process marks what it answers.

Each line that is meant for the task begins with ``MARK``; anything else on standard output is some library talking.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from schemas.config.run import RunConfig
from schemas.config.section import Config
from schemas.config.training import FitConfig, PretrainConfig
from schemas.reports.data import SplitReport

MARK: Final = "@mammo "


class Purpose(StrEnum):
    """What a training process is for."""

    TRAIN = "train"
    PRETRAIN = "pretrain"
    MEASURE = "measure"


class TrainingRequest(Config):
    """All that a training process is told; it crosses as a JSON file.

    Attributes:
        identity: Digest of all that the curve depends on.
        about: What each checkpoint says of itself.
        pretrained: Checkpoint of BI-RADS pre-training to begin with.
    """

    purpose: Purpose
    config: RunConfig
    splits: SplitReport
    run_dir: Path
    identity: str
    about: dict[str, Any]
    pretrained: Path | None = None
    is_forced: bool = False

    @property
    def fit(self) -> FitConfig:
        """The section that says how to optimise."""
        if self.purpose is Purpose.PRETRAIN:
            return self.config.pretrain or PretrainConfig()
        return self.config.train
