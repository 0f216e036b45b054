"""What a search will take, from what a few steps took."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.training_store import small_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.reports.training import SearchForecast
from tasks.adapters.training.forecast import (
    forecast_text,
    idle_pruning,
    refuse_search,
    require_searchable,
    search_forecast,
)
from tasks.adapters.training.request import Measured
from tasks.artifacts import duration

MEASURED = Measured(
    seconds_per_image=0.5, images_per_epoch=100, tuning_seconds_per_image=0.1, tuning_images=40, tuning_malignant=1,
    remeasure_seconds=5.0, checkpoint_seconds=1.0, reading_seconds=20.0, checkpoint_bytes=1, device="cpu",
    measuring_seconds=30.0,
)  # fmt: skip


def test_a_forecast_counts_all_that_a_trial_does(tmp_path: Path) -> None:
    """Steps, tuning, statistics measured anew and a checkpoint in each epoch; once the process, and reading who trains."""
    config = small_config(tmp_path)
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 10})})
    forecast = search_forecast(config, MEASURED, 4, tmp_path, begin_s=10.0)
    assert forecast.trial_hours == pytest.approx((10.0 + 20.0 + 10 * (50.0 + 4.0 + 5.0 + 1.0)) / 3600)
    assert forecast.total_hours == pytest.approx(4 * forecast.trial_hours)


@pytest.mark.parametrize(
    ("device", "trial_s", "expected"),
    [
        ("cpu", 31.0, "2 min of CPU process time (31 s each), 62 s by the clock"),
        ("cuda", 18000.0, "20.0 h of GPU time (5.0 h each), 10.0 h by the clock"),
    ],
)  # fmt: skip
def test_a_forecast_is_said_as_long_as_it_is(device: str, trial_s: float, expected: str) -> None:
    """A search of a small cohort takes minutes: in hours it would take none."""
    forecast = SearchForecast(
        device=device, trials=4, seconds_per_image=0.1, tuning_seconds_per_image=0.1, trial_hours=trial_s / 3600,
        total_hours=4 * trial_s / 3600, wall_hours=2 * trial_s / 3600, disk_gib=2.0, disk_free_gib=43.0,
    )  # fmt: skip
    assert forecast_text(forecast, duration) == f"4 trials will take about {expected}, and up to 2.0 GiB of 43 free"


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"pruning": "median"}, "first 10 epochs, and train.epochs is 3"),
        (
            {"pruning": "median", "pruning_warmup_epochs": 2, "trials": 5},
            "5 trials are completed first, and search.trials is 5",
        ),
        ({"pruning": "median", "pruning_warmup_epochs": 2}, ""),
        ({"pruning": "none"}, ""),
    ],
)
def test_a_pruning_that_can_end_no_trial_says_so(tmp_path: Path, search: dict[str, object], said: str) -> None:
    """The defaults are of long trainings: a search of a few epochs would run all of each trial, and say nothing."""
    config = RunConfig.model_validate({**small_config(tmp_path).model_dump(), "search": search})
    told = idle_pruning(config)
    assert said in told and bool(told) == bool(said)


def _searching(folder: Path, path: str, searched: dict[str, list[float]], **sections: object) -> RunConfig:
    return RunConfig.model_validate({**small_config(folder).model_dump(), "search": {"ranges": {path: searched}}, **sections})


@pytest.mark.parametrize(
    ("path", "searched", "said"),
    [
        ("train.augment.scaling", {"linear": [0.0, 0.6]}, r"train\.augment\.scaling cannot be 0\.6"),
        ("train.accumulation", {"whole": [1, 8]}, r"train\.accumulation cannot be 2.*exams that a process has"),
        ("train.batch_exams", {"whole": [2, 4]}, r"train\.batch_exams cannot be 3.*multiple of processes"),
        ("model.K", {"whole": [2, 8]}, r"fewer patches than K.*at most 6.*Got: 7"),
        ("pretrain.learning_rate", {"log10": [-5, -3]}, r"pretrain\.learning_rate would give every trial the same training"),
        ("split.seed", {"whole": [0, 4]}, r"split\.seed would give every trial the same training"),
    ],
)
def test_what_a_trial_could_not_do_is_said_before_the_first(
    path: str, searched: dict[str, list[float]], said: str, tmp_path: Path
) -> None:
    """A value that is refused would stop the search at the trial that drew it, each time anew."""
    config = _searching(tmp_path, path, searched, pretrain={}, train={"batch_exams": 2, "processes": 2})
    with pytest.raises(ConfigError, match=said):
        refuse_search(config, MEASURED, search_forecast(config, MEASURED, 4, tmp_path), said="")


def test_an_end_that_is_never_drawn_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """Below 1 every decay is one; and what all trials of the paper draw is."""
    require_searchable(_searching(tmp_path, "train.ema_decay", {"linear": [0.5, 1.0]}))
    require_searchable(_searching(tmp_path, "model.K", {"whole": [2, 6]}))
    require_searchable(small_config(tmp_path))
