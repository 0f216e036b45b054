"""What a training says while it runs."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from tasks.artifacts import duration, progress
from tasks.train import show_message

RECORD: dict[str, Any] = {"epoch": 0, "train_loss": 2.5, "images_per_s": 1.5, "memory_mib": 700.0}


def test_what_is_left_is_said_once_and_getting_ready_does_not_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process took 1,000 s to begin and an epoch 10 s: 59 epochs more take some ten minutes, not sixteen hours."""
    caplog.set_level(logging.INFO)
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    with progress("train", 60, "epochs") as tracker:
        clock += 1000.0
        show_message(tracker, {"kind": "start", "device": "cpu", "epochs_done": 0, "epochs": 60})
        clock += 10.0
        show_message(tracker, {"kind": "epoch", "record": RECORD})
    said = caplog.messages[-1]
    assert said == "train: 1 of 60 epochs, 10 s each, 10 min left, loss 2.500, 1.5 images/s, 700 MiB"


def test_a_training_that_goes_on_counts_its_own_epochs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Five were there already."""
    caplog.set_level(logging.INFO)
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    with progress("train", 8, "epochs") as tracker:
        show_message(tracker, {"kind": "start", "device": "cpu", "epochs_done": 5, "epochs": 8})
        clock += 100.0
        show_message(tracker, {"kind": "epoch", "record": RECORD | {"epoch": 5}})
    assert "6 of 8 epochs, 100 s each, 3 min left" in caplog.messages[-1]


def test_durations_are_read_as_they_are_long() -> None:
    """Seconds, minutes, hours."""
    assert [duration(seconds) for seconds in (3.4, 119.0, 600.0, 86400.0)] == ["3 s", "119 s", "10 min", "24.0 h"]
