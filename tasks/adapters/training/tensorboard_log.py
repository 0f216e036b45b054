"""What is kept to watch a training: curves, precision-recall, pictures. The only home of TensorBoard.

``tensorboard --logdir WORKSPACE/train`` shows them. Nothing here names a patient, an exam or an image.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.config.training import TrackingConfig
from schemas.exam import FINDINGS, UNKNOWN
from tasks.adapters.training.tuning import TuningResult, ViewPicture

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_PICTURE_ROWS_PX = 480
_LONGEST_WAIT_S = 10.0


class Tracker(Protocol):
    """Where what is worth watching goes."""

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """One point of each curve; None = no point."""
        ...

    def tuning(self, result: TuningResult, epoch: int) -> None:
        """Precision-recall by finding, and pictures."""
        ...


@contextmanager
def tracker(config: TrackingConfig, folder: Path, *, first_epoch: int, first_step: int) -> Iterator[Tracker]:
    """Writes below ``folder``; what an interrupted run wrote after the point it is continued from is taken back."""
    if not config.tensorboard:
        yield _Silent()
        return
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import, for the one process that writes

    _wait_for_a_later_second(folder)
    epochs = SummaryWriter(str(folder / "epochs"), purge_step=first_epoch)
    steps = SummaryWriter(str(folder / "steps"), purge_step=first_step)
    try:
        yield _TensorBoard(epochs, steps)
    finally:
        epochs.close()
        steps.close()


def _wait_for_a_later_second(folder: Path) -> None:
    """Until files made now have names that sort behind those of the run before; at most ten seconds.

    TensorBoard reads the files of a run in the order of their names: the second they were made in, then host, process. Of two
    files of one second the later could be read first, and the points that it takes back would be its own. A clock that was set
    back by more than a few seconds is not waited for: that costs a point of a curve and is not worth a training's time.
    """
    newest_s = max((int(path.name.split(".")[3]) for path in folder.glob("*/events.out.tfevents.*")), default=0)
    until_s = time.monotonic() + _LONGEST_WAIT_S
    while int(time.time()) <= newest_s and time.monotonic() < until_s:
        time.sleep(0.05)


class _Silent:
    """Keeps nothing."""

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Nothing."""

    def tuning(self, result: TuningResult, epoch: int) -> None:
        """Nothing."""


class _TensorBoard:
    """Curves over steps and over epochs are two runs: their horizontal axes count different things."""

    def __init__(self, epochs: SummaryWriter, steps: SummaryWriter) -> None:
        self._epochs, self._steps = epochs, steps

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Names that begin with ``step/`` are points over steps, others over epochs."""
        for name, value in values.items():
            if value is not None:
                writer = self._steps if name.startswith("step/") else self._epochs
                writer.add_scalar(name, value, step)
        self._epochs.flush()
        self._steps.flush()

    def tuning(self, result: TuningResult, epoch: int) -> None:
        """Precision-recall by finding, and pictures."""
        for index, finding in enumerate(FINDINGS):
            label_B = result.label_BC[:, index]
            is_known_B = label_B != UNKNOWN
            if is_known_B.any():
                self._epochs.add_pr_curve(
                    f"tuning/{finding.value}", label_B[is_known_B], result.score_BC[is_known_B, index], epoch
                )
        for index, picture in enumerate(result.pictures):
            self._epochs.add_image(f"tuning view {index}", overlay(picture), epoch, dataformats="HWC")
        self._epochs.flush()


def overlay(picture: ViewPicture) -> NDArray[np.uint8]:
    """The view in gray with its malignant saliency in red, at most 480 rows."""
    rows, columns = picture.image_HW.shape
    scale = min(1.0, _PICTURE_ROWS_PX / rows)
    size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    gray_HW = cv2.resize(picture.image_HW, size, interpolation=cv2.INTER_AREA)
    saliency_HW = cv2.resize(picture.saliency_IJ, size, interpolation=cv2.INTER_NEAREST).clip(0.0, 1.0)
    red_HW = gray_HW + (1.0 - gray_HW) * saliency_HW
    other_HW = gray_HW * (1.0 - saliency_HW)
    return np.asarray(np.stack([red_HW, other_HW, other_HW], axis=-1) * 255.0, np.uint8)  # (H, W, 3)
