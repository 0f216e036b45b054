"""From store rows to batches of network inputs. Knows arrays and indices; where pixels lie is the reader's business.

Threads read ahead: they bring the stored uint16 pixels of each window, at most half of the input's bytes and no arithmetic. The
device that trains pastes, resizes and standardises them (docs/decisions/0015).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gmic_model.pixels.window import WindowPlacement, draw_jitter, window_part, window_placement
from gmic_model.preprocess import SMALLEST_STD, PreparedView, standardised
from schemas.config.ingest import PreprocessConfig


class StoredBatch(NamedTuple):
    """Views as the store has them, cut to their windows.

    Attributes:
        parts: Of each view the part of the crop that falls into its window; (rows, columns) uint16.
        placements: Where each window lies on its crop.
        window_px: (rows, columns) of the network's input.
        label_NC: 0 absent, 1 present, 255 not known; int64.
        row_N: Store row of each view; int64.
    """

    parts: tuple[Tensor, ...]
    placements: tuple[WindowPlacement, ...]
    window_px: tuple[int, int]
    label_NC: Tensor
    row_N: Tensor


class Batch(NamedTuple):
    """Views ready for the network, on its device.

    Attributes:
        image_N1HW: float32, standardised.
        label_NC: 0 absent, 1 present, 255 not known; int64.
        row_N: Store row of each view; int64, on the CPU.
    """

    image_N1HW: Tensor
    label_NC: Tensor
    row_N: Tensor


@dataclass(frozen=True)
class ExamViews:
    """One item is one exam: all its views.

    Attributes:
        rows_of_exam: Store rows of each exam's views.
        label_by_row: Row -> label per finding; 255 = not known.
        read_view: Row -> prepared view; called by several threads at once.
        jitter: Train-time window jitter (GMIC.md 2.5); None = the deterministic window.
        seed: With ``epoch`` and the row, fixes each view's jitter, whatever thread draws it.
    """

    rows_of_exam: Sequence[Sequence[int]]
    label_by_row: Mapping[int, Sequence[int]]
    read_view: Callable[[int], PreparedView]
    jitter: PreprocessConfig | None = None
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.rows_of_exam)

    def __getitem__(self, index: int) -> StoredBatch:
        rows = self.rows_of_exam[index]
        prepared_views = [self.read_view(row) for row in rows]
        placements = tuple(self._placement(row, prepared) for row, prepared in zip(rows, prepared_views, strict=True))
        return StoredBatch(
            parts=tuple(
                torch.from_numpy(window_part(prepared.pixels_HW, placement))
                for prepared, placement in zip(prepared_views, placements, strict=True)
            ),
            placements=placements,
            window_px=prepared_views[0].geometry.window_px,
            label_NC=torch.tensor([list(self.label_by_row[row]) for row in rows], dtype=torch.int64),
            row_N=torch.tensor(list(rows), dtype=torch.int64),
        )

    def _placement(self, row: int, prepared: PreparedView) -> WindowPlacement:
        jitter = None
        if self.jitter is not None:
            jitter = draw_jitter(np.random.default_rng((self.seed, self.epoch, row)), self.jitter)
        return window_placement(prepared.geometry, shape_px=prepared.pixels_HW.shape, jitter=jitter)


def join_exams(exams: Sequence[StoredBatch]) -> StoredBatch:
    """Exams as one batch of their views."""
    return StoredBatch(
        parts=tuple(part for exam in exams for part in exam.parts),
        placements=tuple(placement for exam in exams for placement in exam.placements),
        window_px=exams[0].window_px,
        label_NC=torch.cat([exam.label_NC for exam in exams]),
        row_N=torch.cat([exam.row_N for exam in exams]),
    )


def network_batch(stored: StoredBatch, device: torch.device) -> Batch:
    """Makes the inputs on the device: ``preprocess.standardised`` on a CPU, the same arithmetic in torch on a GPU."""
    image_N1HW = torch.empty((len(stored.parts), 1, *stored.window_px), device=device)
    for index, (part_HW, placement) in enumerate(zip(stored.parts, stored.placements, strict=True)):
        if device.type == "cpu":
            image_HW = torch.from_numpy(standardised(part_HW.numpy(), placement, stored.window_px))
        else:
            image_HW = standardised_on_device(part_HW.to(device, non_blocking=True), placement, stored.window_px)
        image_N1HW[index, 0] = image_HW
    return Batch(image_N1HW, stored.label_NC.to(device, non_blocking=True), stored.row_N)


def standardised_on_device(part_HW: Tensor, placement: WindowPlacement, window_px: tuple[int, int]) -> Tensor:
    """``preprocess.standardised`` for a tensor, on the device where it lies; equal to about 1e-5."""
    (row, column), (rows, columns) = placement.corner_px, part_HW.shape
    window_HW = torch.zeros(placement.shape_px, device=part_HW.device)
    window_HW[row : row + rows, column : column + columns] = part_HW
    if placement.shape_px != window_px:
        # the same cubic kernel as OpenCV's: a = -0.75, borders repeated, no smoothing when it shrinks
        window_HW = interpolate(window_HW[None, None], window_px, mode="bicubic", align_corners=False)[0, 0]
    std, mean = torch.std_mean(window_HW, correction=0)
    return (window_HW - mean) / std.clamp_min(SMALLEST_STD)


def loaded(
    views: ExamViews, items_by_batch: Sequence[Sequence[int]], device: torch.device, *, threads: int = 0, ahead: int = 0
) -> Iterator[Batch]:
    """``stored_batches``, made into inputs on ``device`` when they are asked for, in the thread that asks."""
    for stored in stored_batches(views, items_by_batch, threads=threads, ahead=ahead, is_pinned=device.type == "cuda"):
        yield network_batch(stored, device)


def stored_batches(
    views: ExamViews, items_by_batch: Sequence[Sequence[int]], *, threads: int = 0, ahead: int = 0, is_pinned: bool = False
) -> Iterator[StoredBatch]:
    """The named items, batch by batch and in order; touches no random state.

    Args:
        views: Where the items are read.
        items_by_batch: Indices of the exams of each batch.
        threads: How many exams are read at the same time; 0 reads each batch when it is asked for.
        ahead: Batches read while one is in use, if threads read.
        is_pinned: Threads put pixels where a GPU fetches them by itself.
    """
    if not threads:
        yield from (join_exams([views[item] for item in items]) for items in items_by_batch)
        return

    def read(item: int) -> StoredBatch:
        return _pinned(views[item]) if is_pinned else views[item]

    waiting = deque[list[Future[StoredBatch]]]()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
    try:
        for items in items_by_batch:
            waiting.append([pool.submit(read, item) for item in items])
            if len(waiting) > ahead:
                yield join_exams([exam.result() for exam in waiting.popleft()])
        while waiting:
            yield join_exams([exam.result() for exam in waiting.popleft()])
    finally:  # also where the caller stops early, or a row cannot be read
        pool.shutdown(cancel_futures=True)


def batches_of(count: int, size: int) -> list[range]:
    """0 to ``count`` in order, ``size`` at a time."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


# ---------------------------------------------------------------------------------------------------------------------


def _pinned(exam: StoredBatch) -> StoredBatch:
    return exam._replace(
        parts=tuple(torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(part) for part in exam.parts)
    )
