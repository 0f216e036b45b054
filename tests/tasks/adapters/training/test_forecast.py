"""What a search will take, from what a few steps took."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.training_store import small_config
from schemas.reports.training import SearchForecast
from tasks.adapters.training.forecast import forecast_text, search_forecast
from tasks.adapters.training.request import Measured
from tasks.artifacts import duration


def test_a_forecast_counts_all_that_a_trial_does(tmp_path: Path) -> None:
    """Steps, tuning, statistics measured anew and a checkpoint in each epoch; once the process, and reading who trains."""
    config = small_config(tmp_path)
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 10})})
    measured = Measured(
        seconds_per_image=0.5, images_per_epoch=100, tuning_seconds_per_image=0.1, tuning_images=40, tuning_malignant=1,
        remeasure_seconds=5.0, checkpoint_seconds=1.0, reading_seconds=20.0, checkpoint_bytes=1, device="cpu",
        measuring_seconds=30.0,
    )  # fmt: skip
    forecast = search_forecast(config, measured, 4, tmp_path, begin_s=10.0)
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
