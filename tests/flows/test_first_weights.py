"""When a file of first weights is missing: said before any other work, and only by who would begin a training with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.crossvalidate import crossvalidate
from flows.table1 import table1
from mammo_tests.training_store import make_store, small_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from tasks.stage import NotFinished, without_work


def _config(workspace: Path, **sections: Any) -> RunConfig:
    """No file that it begins with is there."""
    train = {"start": {"patches": workspace / "resnet18.pth"}}
    content = {**small_config(workspace).model_dump(), "train": train, **sections}
    return RunConfig.model_validate(content)


def test_a_cross_validation_asks_for_its_first_weights_before_it_reads_an_image(tmp_path: Path) -> None:
    """The source folder is not there either, which ingest would say."""
    with without_work(), pytest.raises(ConfigError, match=r"no file .*resnet18\.pth to begin the patches with"):
        crossvalidate.fn(_config(tmp_path, split={"folds": 3}))


def test_a_table_of_weights_that_are_there_begins_no_training(tmp_path: Path) -> None:
    """Each row names its weights: nothing is pre-trained for them, and nobody asks for files to begin with."""
    pretrain = {"start": {"localization": tmp_path / "f_d"}}
    named = {"rows": ["gmic", "gmic-loc"], "checkpoints": {"gmic": [tmp_path / "ours"]}, "is_store_ready": True}
    config = _config(tmp_path, pretrain=pretrain, table1=named)
    make_store(config, exams=4)
    with without_work(), pytest.raises(ConfigError, match="resnet18"):
        table1.fn(config.model_copy(update={"table1": config.table1.model_copy(update={"checkpoints": {}})}))
    with without_work(), pytest.raises(NotFinished):  # the first evaluation is asked
        table1.fn(config)
