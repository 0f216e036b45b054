"""TensorBoard's files, read back: curves, precision-recall and pictures are there by default, each point once after a kill."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gmic_model.learning.processes import ALONE
from mammo_tests.training_store import WINDOW_PX, make_store, request, small_config, with_baseline
from schemas.config.training import TrackingConfig
from tasks.adapters.models.checkpoints import latest_checkpoint
from tasks.adapters.training.process import run_training
from tasks.adapters.training.process_main import serve
from tasks.adapters.training.tensorboard_log import overlay, tracker
from tasks.adapters.training.tuning import ViewPicture


def events(folder: Path) -> EventAccumulator:
    """All events of a folder, as TensorBoard's own reader takes them."""
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    read.Reload()
    return read


def test_a_run_continued_within_the_same_second_is_read_behind_the_first(tmp_path: Path) -> None:
    """However quickly a run goes on, and whichever process number it has: its points come after those it goes on from."""
    config = TrackingConfig(scalar_steps=1)
    with tracker(config, tmp_path, first_epoch=0, first_step=0) as first:
        for step in (1, 2, 3):
            first.scalars({"step/loss": float(step)}, step)
    for path in tmp_path.glob("*/events.out.tfevents.*"):  # of a process with a high number, one second from now
        parts = path.name.split(".")
        path.rename(path.with_name(".".join([*parts[:3], str(int(time.time()) + 1), "z-host", "9999999", "0"])))
    with tracker(config, tmp_path, first_epoch=1, first_step=3) as second:
        for step in (3, 4):
            second.scalars({"step/loss": 10.0 * step}, step)
    read = events(tmp_path / "steps").Scalars("step/loss")
    assert [(point.step, point.value) for point in read] == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]


def test_a_training_that_was_killed_has_every_point_once(tmp_path: Path) -> None:
    """Killed within its second epoch, after points of it were written; run again: two epochs, every step once, equal losses.

    Curves, precision-recall of both findings and as many pictures as the default asks for, with no word in the config.
    """
    config = small_config(tmp_path, epochs=2, tracking={"scalar_steps": 1})
    config = with_baseline(config)
    asked = request(config, make_store(config))
    folder = asked.run_dir / "tensorboard"

    def stop(message: Mapping[str, Any]) -> None:
        if message["kind"] == "epoch":
            deadline = time.monotonic() + 120
            while len(events(folder / "steps").Scalars("step/loss")) < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # answered with a SIGKILL of the whole group
        run_training(asked, stop)
    serve(asked, ALONE)

    steps, epochs = events(folder / "steps"), events(folder / "epochs")
    assert [point.step for point in steps.Scalars("step/loss")] == [1, 2, 3, 4]  # four exams an epoch, two a step
    checkpoint = latest_checkpoint(asked.run_dir)
    assert checkpoint is not None
    for tag, name in (("train/loss", "train_loss"), ("tuning/malignant_auroc", "tuning_malignant_auroc")):
        assert [point.step for point in epochs.Scalars(tag)] == [0, 1]
        kept = [epoch[name] for epoch in checkpoint.sidecar["epochs"]]
        assert [point.value for point in epochs.Scalars(tag)] == pytest.approx(kept, rel=1e-6)
    for tag in ("tuning/malignant", "tuning/benign"):
        assert epochs.SummaryMetadata(tag).plugin_data.plugin_name == "pr_curves"
        assert [curve.step for curve in epochs.Tensors(tag)] == [0, 1]
    assert TrackingConfig().pictures == 2
    for tag in ("tuning view 0", "tuning view 1"):
        pictures = epochs.Images(tag)
        assert [picture.step for picture in pictures] == [0, 1]
        picture_HWC = cv2.imdecode(np.frombuffer(pictures[0].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        assert picture_HWC is not None and picture_HWC.shape == (*WINDOW_PX, 3)


def test_saliency_is_red_over_a_gray_view_of_at_most_480_rows() -> None:
    """960 x 640 pixels of 0.5 with saliency 1 above and 0 below: red on top, gray beneath, half the size."""
    saliency_IJ = np.array([[1.0], [0.0]], np.float32)
    picture_HWC = overlay(ViewPicture(image_HW=np.full((960, 640), 0.5, np.float32), saliency_IJ=saliency_IJ))
    assert picture_HWC.shape == (480, 320, 3)
    assert picture_HWC[0, 0].tolist() == [255, 0, 0] and picture_HWC[-1, 0].tolist() == [127, 127, 127]
