"""From store rows to batches of network inputs. Knows arrays and indices; where pixels lie is the reader's business."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gmic_model.augment import draw_jitter
from gmic_model.preprocess import PreparedView, network_input
from schemas.config import PreprocessConfig


class Batch(NamedTuple):
    """Views ready for the network.

    Attributes:
        image_N1HW: float32, standardised.
        label_NC: 0 absent, 1 present, 255 not known; int64.
        row_N: Store row of each view; int64.
    """

    image_N1HW: Tensor
    label_NC: Tensor
    row_N: Tensor


@dataclass(frozen=True)
class ExamViews(Dataset[Batch]):
    """One item is one exam: all its views.

    Attributes:
        rows_of_exam: Store rows of each exam's views.
        label_by_row: Row -> label per finding; 255 = not known.
        read_view: Row -> prepared view. Pickled into loader processes, so it opens files lazily.
        jitter: Train-time window jitter (GMIC.md 2.5); None = the deterministic window.
        seed: With ``epoch`` and the row, fixes each view's jitter, whatever process draws it.
    """

    rows_of_exam: Sequence[Sequence[int]]
    label_by_row: Mapping[int, Sequence[int]]
    read_view: Callable[[int], PreparedView]
    jitter: PreprocessConfig | None = None
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.rows_of_exam)

    def __getitem__(self, index: int) -> Batch:
        rows = self.rows_of_exam[index]
        image_N1HW = torch.stack([torch.from_numpy(self._input(row))[None] for row in rows])
        label_NC = torch.tensor([list(self.label_by_row[row]) for row in rows], dtype=torch.int64)
        return Batch(image_N1HW, label_NC, torch.tensor(list(rows), dtype=torch.int64))

    def _input(self, row: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        if self.jitter is None:
            return network_input(self.read_view(row))
        generator = np.random.default_rng((self.seed, self.epoch, row))
        return network_input(self.read_view(row), augment=draw_jitter(generator, self.jitter))


def join_exams(exams: Sequence[Batch]) -> Batch:
    """Collates exams into one batch of their views."""
    return Batch(*(torch.cat(parts) for parts in zip(*exams, strict=True)))
