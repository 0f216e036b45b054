"""From store rows to batches of network inputs. Knows arrays and indices; where pixels lie is the reader's business.

Threads read ahead: they bring the stored uint16 pixels of each window, at most half of the input's bytes and no arithmetic. The
device that trains pastes, resizes and standardises them (docs/decisions/0015).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gmic_model.learning.augmentation import (
    NO_FACTS,
    Purpose,
    ViewFacts,
    changed,
    draw_change,
    draw_mixing,
    generator_of,
    kept_rows,
)
from gmic_model.pixels.window import WindowPlacement, draw_jitter, window_part, window_placement
from gmic_model.preprocess import SMALLEST_STD, PreparedView, standardised
from schemas.config.ingest import PreprocessConfig
from schemas.config.recipe import AugmentConfig
from schemas.exam import UNKNOWN

ItemT = TypeVar("ItemT")


class Partner(NamedTuple):
    """Another view that one is mixed with: its window, its labels, and the share of the first."""

    part: Tensor
    placement: WindowPlacement
    label_C: Tensor
    share: float


class StoredBatch(NamedTuple):
    """Views as the store has them, cut to their windows.

    Attributes:
        parts: Of each view the part of the crop that falls into its window; (rows, columns) uint16.
        placements: Where each window lies on its crop.
        window_px: (rows, columns) of the network's input.
        label_NC: 0 absent, 1 present, 255 not known; int64.
        row_N: Store row of each view; int64.
        partners: What each view is mixed with; empty = nothing is mixed.
    """

    parts: tuple[Tensor, ...]
    placements: tuple[WindowPlacement, ...]
    window_px: tuple[int, int]
    label_NC: Tensor
    row_N: Tensor
    partners: tuple[Partner, ...] = ()


class Batch(NamedTuple):
    """Views ready for the network, on its device.

    Attributes:
        image_N1HW: float32, standardised.
        label_NC: 0 absent, 1 present, 255 not known; int64. Of mixed views float32, between 0 and 1 or 255.
        row_N: Store row of each view; int64, on the CPU.
        epoch: That shows them: with the row it fixes what is drawn of a view.
    """

    image_N1HW: Tensor
    label_NC: Tensor
    row_N: Tensor
    epoch: int = 0


@dataclass(frozen=True)
class ExamViews:
    """One item is one exam: all its views.

    Attributes:
        rows_of_exam: Store rows of each exam's views.
        label_by_row: Row -> label per finding; 255 = not known.
        read_view: Row -> prepared view; called by several threads at once.
        jitter: Train-time window jitter (GMIC.md 2.5); None = the deterministic window.
        seed: With ``epoch`` and the row, fixes each view's jitter, whatever thread draws it.
        augment: Further random changes; None = none.
        facts: What these need to know of the views.
    """

    rows_of_exam: Sequence[Sequence[int]]
    label_by_row: Mapping[int, Sequence[int]]
    read_view: Callable[[int], PreparedView]
    jitter: PreprocessConfig | None = None
    seed: int = 0
    epoch: int = 0
    augment: AugmentConfig | None = None
    facts: ViewFacts = NO_FACTS

    def of_epoch(self, epoch: int) -> ExamViews:
        """The views that an epoch shows."""
        rows_of_exam, augment = self.rows_of_exam, self.augment
        if augment is not None and (augment.drop_views or augment.drop_breasts):
            rows_of_exam = [kept_rows(augment, rows, self.facts, seed=self.seed, epoch=epoch) for rows in rows_of_exam]
        return replace(self, epoch=epoch, rows_of_exam=rows_of_exam)

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
            partners=tuple(self._partner(row, self.augment) for row in rows) if self.augment and self.augment.mixup else (),
        )

    def changed(self, batch: Batch) -> Batch:
        """The batch with each image changed as ``augment`` says, where it lies."""
        batch = batch._replace(epoch=self.epoch)
        if self.augment is None:
            return batch
        for index, row in enumerate(batch.row_N.tolist()):
            rng = generator_of(self.seed, self.epoch, row, Purpose.IMAGE)
            change = draw_change(self.augment, self.facts.position_of_row[row], rng)
            batch.image_N1HW[index, 0] = changed(batch.image_N1HW[index, 0], change)
        return batch

    def _partner(self, row: int, augment: AugmentConfig) -> Partner:
        drawn = draw_mixing(augment, row, self.facts, generator_of(self.seed, self.epoch, row, Purpose.MIXING))
        prepared = self.read_view(drawn.row)
        placement = self._placement(drawn.row, prepared)
        return Partner(
            torch.from_numpy(window_part(prepared.pixels_HW, placement)),
            placement,
            torch.tensor(list(self.label_by_row[drawn.row]), dtype=torch.int64),
            drawn.share,
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
        partners=tuple(partner for exam in exams for partner in exam.partners),
    )


def network_batch(stored: StoredBatch, device: torch.device) -> Batch:
    """Makes the inputs on the device: ``preprocess.standardised`` on a CPU, the same arithmetic in torch on a GPU."""
    image_N1HW = torch.empty((len(stored.parts), 1, *stored.window_px), device=device)
    for index, (part_HW, placement) in enumerate(zip(stored.parts, stored.placements, strict=True)):
        image_N1HW[index, 0] = _input(part_HW, placement, stored.window_px, device)
    label_NC = stored.label_NC
    if stored.partners:
        for index, partner in enumerate(stored.partners):
            image_N1HW[index, 0].lerp_(_input(partner.part, partner.placement, stored.window_px, device), 1.0 - partner.share)
        label_NC = _mixed_labels(label_NC, stored.partners)
    return Batch(image_N1HW, label_NC.to(device, non_blocking=True), stored.row_N)


def standardised_on_device(part_HW: Tensor, placement: WindowPlacement, window_px: tuple[int, int]) -> Tensor:
    """``preprocess.standardised`` for a tensor, on the device where it lies.

    Equal to 2e-5 in the mean. Both say in fp32 where a pixel lies: a resized window of full size that is white noise differs
    by 1e-3 of a standard deviation at most, a breast by much less.
    """
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
    """``stored_batches``, made into inputs on ``device`` when they are asked for, in the thread that asks.

    A GPU copies and makes them on a stream of their own, each while the one before it is used: two batches are in its memory.
    """
    if device.type != "cuda":
        for stored in stored_batches(views, items_by_batch, threads=threads, ahead=ahead):
            yield views.changed(network_batch(stored, device))
        return
    copies = _copies(device)

    def begun() -> Iterator[tuple[Batch, torch.cuda.Event]]:
        for stored in stored_batches(views, items_by_batch, threads=threads, ahead=ahead, is_pinned=True):
            with torch.cuda.stream(copies):
                batch = views.changed(network_batch(stored, device))
            yield batch, copies.record_event()

    for batch, is_made in one_ahead(begun()):
        _hand_over(batch, is_made, torch.cuda.current_stream(device))
        yield batch


def one_ahead(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """The items in order, each when the one after it has been begun; an error of one comes after those before it."""
    begun = deque[ItemT]()
    try:
        for item in items:
            begun.append(item)
            if len(begun) > 1:
                yield begun.popleft()
    except Exception:
        yield from begun
        raise
    yield from begun


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


@cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    """One a device: memory that was freed on a stream is used again on that stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _hand_over(batch: Batch, is_made: torch.cuda.Event, asking: torch.cuda.Stream) -> None:
    """The stream that asks waits until the batch is made; its memory is not used again before that stream is done with it."""
    asking.wait_event(is_made)
    for made in (batch.image_N1HW, batch.label_NC):
        made.record_stream(asking)


def _input(part_HW: Tensor, placement: WindowPlacement, window_px: tuple[int, int], device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.from_numpy(standardised(part_HW.numpy(), placement, window_px))
    return standardised_on_device(part_HW.to(device, non_blocking=True), placement, window_px)


def _mixed_labels(label_NC: Tensor, partners: Sequence[Partner]) -> Tensor:
    """As much of each label as of its image; what is not known of one is not known of both."""
    other_NC = torch.stack([partner.label_C for partner in partners])
    share_N1 = torch.tensor([partner.share for partner in partners])[:, None]
    is_known_NC = (label_NC != UNKNOWN) & (other_NC != UNKNOWN)
    return torch.where(is_known_NC, share_N1 * label_NC + (1.0 - share_N1) * other_NC, float(UNKNOWN))


def _pinned(exam: StoredBatch) -> StoredBatch:
    return exam._replace(
        parts=tuple(torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(part) for part in exam.parts)
    )
