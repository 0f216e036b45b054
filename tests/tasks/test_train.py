"""What a training says while it runs."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from tasks.adapters.training.request import Measured
from tasks.artifacts import duration, progress
from tasks.train import show_message

RECORD: dict[str, Any] = {"epoch": 0, "train_loss": 2.5, "images_per_s": 1.5, "memory_mib": 700.0}


@pytest.mark.parametrize(
    ("epochs", "done", "epoch_s", "expected"),
    [
        (60, 0, 10.0, "train: 1 of 60 epochs, 10 s each, 10 min left, loss 2.500, 1.5 images/s, 700 MiB"),
        (8, 5, 100.0, "train: 6 of 8 epochs, 100 s each, 3 min left, loss 2.500, 1.5 images/s, 700 MiB"),
    ],
    ids=["from the beginning", "going on after five"],
)
def test_what_is_left_is_said_once_and_counts_the_epochs_of_this_run_alone(
    epochs: int, done: int, epoch_s: float, expected: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process took 1,000 s to begin: that is no part of an epoch, and neither are the epochs of an earlier run."""
    caplog.set_level(logging.INFO)
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    with progress("train", epochs, "epochs") as tracker:
        clock += 1000.0
        show_message(tracker, {"kind": "start", "device": "cpu", "epochs_done": done, "epochs": epochs})
        clock += epoch_s
        show_message(tracker, {"kind": "epoch", "record": RECORD | {"epoch": done}})
    assert caplog.messages[-1] == expected


def test_a_forecast_is_said_before_the_first_epoch(caplog: pytest.LogCaptureFixture) -> None:
    """100 s of steps, 20 s of statistics, 50 s of tuning and 10 s for the checkpoint, sixty times."""
    caplog.set_level(logging.INFO)
    measured = Measured(
        device="cpu", seconds_per_image=0.5, images_per_epoch=200, tuning_seconds_per_image=0.25, tuning_images=200,
        tuning_malignant=9, remeasure_seconds=20.0, checkpoint_seconds=10.0, checkpoint_bytes=1, reading_seconds=900.0,
        measuring_seconds=950.0,
    )  # fmt: skip
    with progress("train", 60, "epochs") as tracker:
        show_message(tracker, {"kind": "measured", "measured": measured.model_dump(mode="json")})
    assert caplog.messages[-1] == "forecast from a few steps: 60 epochs will take about 3.0 h, each 3 min"


def test_durations_are_read_as_they_are_long() -> None:
    """Seconds, minutes, hours."""
    assert [duration(seconds) for seconds in (3.4, 119.0, 600.0, 86400.0)] == ["3 s", "119 s", "10 min", "24.0 h"]
