"""What a flow refuses before any work, and what it does not ask for where nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.crossvalidate import crossvalidate
from flows.pretrain import pretrain
from flows.search import search
from flows.table1 import table1
from flows.train import train
from mammo_tests.training_store import ingested, make_store, small_config
from schemas.config.run import RunConfig, Stage
from schemas.errors import ConfigError
from tasks.adapters.labels.division import settings_sha256
from tasks.pretrain import pretrain_network
from tasks.stage import NotFinished, load_splits, save_report, without_work


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


@pytest.mark.parametrize("flow", [search, pretrain])
def test_a_division_by_another_section_is_not_trained_on(flow: Any, tmp_path: Path) -> None:
    """Whoever raises a share and forgets to divide anew would train on the patients of before, and read nothing of it."""
    config = RunConfig.model_validate({**small_config(tmp_path).model_dump(), "pretrain": {}})
    splits = make_store(config, exams=4)
    save_report(config, Stage.SPLIT, splits.model_copy(update={"settings_sha256": settings_sha256(config.split)}))
    assert load_splits(config).splits_path == splits.splits_path
    other = config.model_copy(update={"split": config.split.model_copy(update={"tuning_fraction": 0.3})})
    with without_work(), pytest.raises(ConfigError, match=r"divided by another split section.*`mammo split CONFIG\.yaml`"):
        flow.fn(other)
    save_report(config, Stage.SPLIT, splits)  # of a release that kept no digest
    assert load_splits(other).splits_path == splits.splits_path


def test_labels_that_came_since_the_division_are_another_pretraining(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As ``train`` has it: who pre-trains or searches alone reads what is published now, and goes by its version."""
    config = RunConfig.model_validate({**small_config(tmp_path).model_dump(), "pretrain": {}})
    splits = make_store(config, exams=4)
    before = load_splits(config)
    assert before == splits and not caplog.records
    save_report(config, Stage.INGEST, ingested(tmp_path / "exam_store", "labels have changed", 4))
    now = load_splits(config)
    assert now.data_version == "labels have changed" and "since the patients were divided" in caplog.text
    assert pretrain_network.key(config, now) != pretrain_network.key(config, before)


@pytest.mark.parametrize("scratch", [True, False])
def test_a_pretraining_that_no_run_begins_with_is_not_forced_in_silence(scratch: bool, tmp_path: Path) -> None:
    """There is no section, or the weights are to be random: nothing of it would be done again."""
    sections: dict[str, Any] = {"train": {"start": {"from_scratch": scratch}}, "force": ["pretrain"]}
    config = _config(tmp_path, **sections, **({"pretrain": {}} if scratch else {}))
    with without_work(), pytest.raises(ConfigError, match=r"does not pre-train.*leave pretrain out of what is forced") as told:
        train.fn(config)
    assert ("add a section `pretrain: {}`" in str(told.value)) != scratch  # it is there, and would be left unused
