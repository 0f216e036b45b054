"""What a search will take, from what a few steps took."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.training_store import small_config
from tasks.adapters.training.forecast import search_forecast
from tasks.adapters.training.request import Measured


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
