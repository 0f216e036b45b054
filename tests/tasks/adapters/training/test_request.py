"""Which run a config goes on with: what changes nothing that is learnt begins no other, and new data are no secret."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from gmic_model.learning.processes import ALONE
from mammo_tests.training_store import curve, divided, small_config, with_baseline
from schemas.config.run import RunConfig, Stage
from schemas.errors import CheckpointError, TrainingError
from schemas.exam import Split
from schemas.reports.data import SplitReport
from schemas.reports.training import PretrainEpoch
from tasks.adapters.models.checkpoints import epoch_dir
from tasks.adapters.models.seen_patients import read_seen_patients
from tasks.adapters.training.process_main import serve
from tasks.adapters.training.request import (
    Run,
    TrainingRequest,
    data_of,
    identities,
    judged_pretraining,
    run_of,
    training_identity,
    training_request,
)

PARTS = [Split.TUNING if exam in (0, 3, 7, 11) else Split.TRAIN for exam in range(12)]


def config_of(workspace: Path, **train: Any) -> RunConfig:
    """The quickest network."""
    return with_baseline(small_config(workspace, **{"epochs": 1, **train}))


def served(config: RunConfig, splits: SplitReport, folder: Path) -> Run:
    """Trains as the stage does; the run."""
    run = run_of(folder, config, splits, None)
    request: TrainingRequest = training_request(config, splits, None, run.folder).going_on(run)
    serve(request, ALONE)
    return run


def test_where_and_how_it_runs_is_no_other_run(stored: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """Reader, threads, device, compiler, loader, processes that share their statistics: one identity.

    What former releases took for it is known, and gone on with.
    """
    workspace, splits = stored
    config = config_of(workspace)
    own = training_identity(config, splits, None)
    for change in ({"store_reader": "zarr"}, {"num_threads": 7}, {"device": "auto"}, {"compile": True}, {"loader_workers": 5}):
        assert training_identity(config_of(workspace, **change), splits, None) == own, change
    assert training_identity(config_of(workspace, processes=2, sync_batch_norm=True), splits, None) == own
    assert training_identity(config_of(workspace, processes=2), splits, None) != own  # each normalises by its own half
    assert training_identity(config_of(workspace, learning_rate=2e-3), splits, None) != own
    former = list(identities(config, data_of(splits), None))[1]
    assert former != own  # they counted device and threads
    (tmp_path / former[:12]).mkdir()
    assert run_of(tmp_path, config, splits, None).identity == former
    (tmp_path / own[:12]).mkdir()
    assert run_of(tmp_path, config, splits, None).identity == own


def test_more_epochs_go_on_with_the_run_of_fewer(stored: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """One epoch, then two in the same folder: the curve of two from the beginning. One then is fewer than there are."""
    workspace, splits = stored
    first = served(config_of(workspace, keep_checkpoints=2), splits, tmp_path / "train")
    again = served(config_of(workspace, epochs=2, keep_checkpoints=2), splits, tmp_path / "train")
    assert again == first
    served(config_of(workspace, epochs=2), splits, tmp_path / "whole")
    assert curve(first.folder) == curve(next((tmp_path / "whole").iterdir())) and len(curve(first.folder)) == 2
    with pytest.raises(TrainingError, match=r"gone on to more epochs than are asked for\. Expected: train\.epochs: 2.*Got: 1"):
        served(config_of(workspace), splits, tmp_path / "train")
    forced = config_of(workspace, epochs=2).model_copy(update={"force": (Stage.TRAIN,)})
    assert run_of(tmp_path / "train", forced, splits, None).folder != first.folder
    cosine = config_of(workspace, epochs=2, recipe={"schedule": "cosine"})
    begun = run_of(tmp_path / "cosine", config_of(workspace, recipe={"schedule": "cosine"}), splits, None)
    begun.folder.mkdir(parents=True)
    assert run_of(tmp_path / "cosine", cosine, splits, None).folder != begun.folder  # its rates follow from their number


def test_new_exams_are_named_and_the_run_goes_on_if_asked(stored: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """Four of twelve patients come after the first epoch. Unasked: another run, and the former is named.

    Asked: the second epoch of the former, on its own patients.
    """
    workspace, splits = stored
    before = divided(tmp_path / "before" / "splits.parquet", PARTS[:8], "before")
    first = served(config_of(workspace), before, tmp_path / "train")
    seen = read_seen_patients(epoch_dir(first.folder, 0))
    assert run_of(tmp_path / "train", config_of(workspace), splits, None) == begun_beside(splits, workspace, tmp_path, first)
    config = config_of(workspace, epochs=2, continues=True)
    again = served(config, splits, tmp_path / "train")
    assert again == first and len(curve(first.folder)) == 2
    assert read_seen_patients(epoch_dir(first.folder, 1)) == seen
    assert run_of(tmp_path / "train", config, splits, None) == first  # its checkpoints still say what it began on


def test_a_damaged_checkpoint_of_another_run_hinders_no_training(
    stored: tuple[Path, SplitReport], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log; the run of other data beside it is still found."""
    workspace, splits = stored
    before = divided(tmp_path / "before" / "splits.parquet", PARTS[:8], "before")
    first = served(config_of(workspace), before, tmp_path / "train")
    damaged = tmp_path / "train" / "0123456789ab" / "epoch-0003"
    shutil.copytree(epoch_dir(first.folder, 0), damaged)
    (damaged / "checkpoint.json").write_text("{")
    assert run_of(tmp_path / "train", config_of(workspace), splits, None).other == first.folder
    assert "0123456789ab" in caplog.text


def test_a_run_does_not_go_on_to_be_judged_by_whom_it_has_learnt_from(stored: tuple[Path, SplitReport], tmp_path: Path) -> None:
    """Divided anew after the first epoch: one who trained tests now, one tunes. Who only left the splits stays on the list."""
    workspace, splits = stored
    before = divided(tmp_path / "before" / "splits.parquet", PARTS, splits.data_version)
    first = served(config_of(workspace), before, tmp_path / "train")
    seen = read_seen_patients(epoch_dir(first.folder, 0))
    config = config_of(workspace, epochs=2, continues=True)
    parts = [{1: Split.TEST, 2: Split.TUNING}.get(exam, part) for exam, part in enumerate(PARTS)]
    other = divided(tmp_path / "other" / "splits.parquet", parts, splits.data_version)
    with pytest.raises(CheckpointError, match=r"has seen 1 of 1 test .* 1 of 5 tuning patients.*leave out --continue"):
        served(config, other, tmp_path / "train")
    assert len(curve(first.folder)) == 1
    fewer = divided(tmp_path / "fewer" / "splits.parquet", PARTS[:11], splits.data_version)
    assert served(config, fewer, tmp_path / "train") == first
    assert read_seen_patients(epoch_dir(first.folder, 1)) == seen


def begun_beside(splits: SplitReport, workspace: Path, tmp_path: Path, first: Run) -> Run:
    """The run that a config begins beside one of other data."""
    own = training_identity(config_of(workspace), splits, None)
    return Run(own, tmp_path / "train" / own[:12], data_of(splits), first.folder)


@pytest.mark.parametrize(
    ("loss", "baseline", "auroc", "expected"),
    [
        (1.1, 1.3, 0.7, (True, "tuning loss 1.100, of who has learnt nothing 1.300; AUROC 0.700, of chance 0.5")),
        (0.9, 1.2, None, (True, "tuning loss 0.900, of who has learnt nothing 1.200")),
        (1.4, 1.3, 0.5, (False, "AUROC 0.500, of chance 0.5: by its loss it has learnt nothing")),
        (1.3, 0.0, None, (False, "of who has learnt nothing 0.000: by its loss it has learnt nothing")),
        (None, None, None, (False, "no tuning view")),
    ],
)
def test_pretraining_is_judged_beside_who_has_learnt_nothing(
    loss: float | None, baseline: float | None, auroc: float | None, expected: tuple[bool, str]
) -> None:
    """Two numbers in a line of many say nothing to whoever does not know which of them has to be the lower."""
    epoch = PretrainEpoch(
        epoch=3, train_loss=1.0, tuning_loss=loss, tuning_accuracy=None, images_per_s=1.0, is_best=True, tuning_auroc=auroc,
        baseline_loss=baseline,
    )  # fmt: skip
    is_worth_it, said = judged_pretraining(epoch)
    assert is_worth_it is expected[0] and expected[1] in said
