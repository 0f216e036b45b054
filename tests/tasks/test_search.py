"""A trial as its task runs it: on the GPU it is given, ended early when the study says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from mammo_tests.training_store import make_store, small_config, with_baseline
from schemas.config.run import RunConfig
from schemas.errors import StoreBusy
from schemas.reports.data import SplitReport
from tasks import search
from tasks.adapters.lock import without_readers
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import TrainingRequest


def test_a_trial_below_the_median_ends_on_its_gpu_and_leaves_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one trial before it reached 1.1, which no AUROC does: ended after its first epoch of fifty, by the study's rule.

    Its process saw GPU 3 and no other; that there is none here matters to nobody, the config says CPU.
    """
    config: RunConfig = with_baseline(small_config(tmp_path, epochs=50))
    rule = {"pruning": "median", "pruning_startup_trials": 1, "pruning_warmup_epochs": 0}
    changes = {
        "search": {
            "trials": 2,
            "ranges": {"train.learning_rate": {"log10": [-5.5, -3.8]}},
            "workers": {"kind": "gpu", "devices": [3]},
            **rule,
        },
    }
    config = RunConfig.model_validate({**config.model_dump(), **changes})
    splits = make_store(config)
    study = search.search_study(config)
    study.prepare("identity")
    with study.claimed_trial() as first:
        assert first is not None
        first.report(0, 1.1)
        first.complete(1.1, checkpoint=tmp_path, sha256="")
    seen: list[str] = []

    def watched(request: TrainingRequest, on_message: Callable[[Mapping[str, Any]], None], *, gpu: int | None = None) -> None:
        def listen(message: Mapping[str, Any]) -> None:
            (child,) = (child for child in psutil.Process().children() if "process_main" in " ".join(child.cmdline()))
            seen.append(child.environ()["CUDA_VISIBLE_DEVICES"])
            on_message(message)

        run_training(request, listen, gpu=gpu)

    monkeypatch.setattr("tasks.adapters.training.search_study.run_training", watched)
    assert search.run_trial.fn(config, splits, None, 3) == "trial 1 pruned"
    assert set(seen) == {"3"}
    second = study.records()[1]
    assert second.state == "pruned" and len(second.curve) == 1 and second.auroc is None
    assert not list((study.folder / "trial-0001").rglob("*.safetensors"))
    assert search.run_trial.fn(config, splits, None, 3) == "nothing left"


def test_no_trial_begins_while_its_store_loses_images_in_another_workspace(tmp_path: Path) -> None:
    """Withdrawing there cannot ask for the lock of a study that it does not know."""
    other = tmp_path / "other"
    (other / "exam_store").mkdir(parents=True)
    config = small_config(tmp_path / "ours").model_copy(update={"store_dir": other / "exam_store"})
    splits = SplitReport(splits_path=tmp_path / "splits.parquet", data_version="", counts={})
    with without_readers(other, purpose="withdraw"), pytest.raises(StoreBusy, match="is being taken away"):
        search.run_trial.fn(config, splits, None, None)
