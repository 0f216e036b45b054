"""From store rows to batches: an exam brings all its views, jitter follows from seed, epoch and row, threads change nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gmic_model.learning.exam_loader import (
    Batch,
    ExamViews,
    batches_of,
    join_exams,
    loaded,
    network_batch,
    one_ahead,
    standardised_on_device,
)
from gmic_model.pixels.window import draw_jitter
from gmic_model.preprocess import PreparedView, network_input
from schemas.config.ingest import PreprocessConfig
from schemas.errors import StoreError
from schemas.exam import ViewGeometry, ViewPosition

WINDOW_PX = (40, 32)
JITTER = PreprocessConfig(window_px=WINDOW_PX, jitter_shift_px=6, jitter_size_px=4)
CPU = torch.device("cpu")


def prepared(seed: int, shape_px: tuple[int, int] = (60, 50), view: ViewPosition = ViewPosition.CC) -> PreparedView:
    """A crop of 16-bit noise."""
    geometry = ViewGeometry(
        source_shape_px=shape_px,
        crop_box_px=(0, shape_px[0], 0, shape_px[1]),
        is_flipped=False,
        scale=1.0,
        best_center_px=(shape_px[0] // 2, min(20, shape_px[1] - 1)),
        window_px=WINDOW_PX,
        view_position=view,
    )
    pixels_HW = np.random.default_rng(seed).integers(1, 2**16, shape_px, dtype=np.uint16)
    return PreparedView(pixels_HW=pixels_HW, geometry=geometry, tissue_fraction=0.5)


@dataclass(frozen=True)
class NoiseViews:
    """A reader whose view of row r is noise seeded by r, larger than the window. Keeps which rows were read, and where.

    Attributes:
        slow_row: Takes a while.
        bad_row: Cannot be read.
        thread_by_row: Name of the thread that read each row.
    """

    slow_row: int | None = None
    bad_row: int | None = None
    thread_by_row: dict[int, str] = field(default_factory=dict)

    def __call__(self, row: int) -> PreparedView:
        """The row's view."""
        self.thread_by_row[row] = threading.current_thread().name
        if row == self.slow_row:
            time.sleep(0.2)
        if row == self.bad_row:
            raise StoreError(f"Row {row} cannot be read")
        return prepared(row)


VIEWS = ExamViews(
    rows_of_exam=[(0, 1, 2, 3), (7,), (5, 4)],
    label_by_row={row: (row % 2, 255) for row in range(8)},
    read_view=NoiseViews(),
)


def single_views(reader: NoiseViews, count: int) -> ExamViews:
    """Exams of one view each."""
    return ExamViews(
        rows_of_exam=[(row,) for row in range(count)], label_by_row=dict.fromkeys(range(count), (0, 1)), read_view=reader
    )


def batch_of(views: ExamViews, *items: int) -> Batch:
    """The items' network inputs."""
    return network_batch(join_exams([views[item] for item in items]), CPU)


# ------------------------------------------------------------------------------------------------------------------ items


def test_an_item_is_an_exam_with_all_its_views_in_order() -> None:
    """Images (views, 1, rows, columns) float32, labels and rows int64; 255 stays 255."""
    assert len(VIEWS) == 3
    batch = batch_of(VIEWS, 2)
    assert batch.image_N1HW.shape == (2, 1, *WINDOW_PX)
    assert batch.image_N1HW.dtype == torch.float32
    assert batch.label_NC.tolist() == [[1, 255], [0, 255]]
    assert batch.row_N.tolist() == [5, 4]
    assert (batch.label_NC.dtype, batch.row_N.dtype) == (torch.int64, torch.int64)


def test_without_jitter_a_view_is_the_networks_input() -> None:
    """The deterministic window of preprocess, whatever seed and epoch say."""
    for views in (VIEWS, replace(VIEWS, seed=3, epoch=9)):
        batch = batch_of(views, 0)
        for index, row in enumerate((0, 1, 2, 3)):
            assert np.array_equal(batch.image_N1HW[index, 0].numpy(), network_input(NoiseViews()(row)))


def test_jitter_depends_on_seed_epoch_and_row_alone() -> None:
    """The same in any order; another epoch, seed or row draws another window."""
    jittered = replace(VIEWS, jitter=JITTER, seed=1, epoch=2)
    first = [batch_of(jittered, index).image_N1HW for index in range(3)]
    for index in (2, 0, 1):
        assert torch.equal(batch_of(jittered, index).image_N1HW, first[index])
    assert not torch.equal(batch_of(replace(jittered, epoch=3), 0).image_N1HW, first[0])
    assert not torch.equal(batch_of(replace(jittered, seed=2), 0).image_N1HW, first[0])
    regrouped = replace(jittered, rows_of_exam=[(3,)])
    assert torch.equal(batch_of(regrouped, 0).image_N1HW[0], first[0][3])


def test_jitter_leaves_the_global_generators_alone() -> None:
    """Drawing a batch changes neither torch's nor numpy's state, so reading ahead does not change the training."""
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    _ = replace(VIEWS, jitter=JITTER)[0]
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state(legacy=False)["state"]["key"] == numpy_state).all()


def test_exams_join_into_one_batch_of_their_views() -> None:
    """Exams of 4, 1 and 2 views make 7 images in that order; labels and rows stay with their images."""
    batch = batch_of(VIEWS, 0, 1, 2)
    assert batch.image_N1HW.shape == (7, 1, *WINDOW_PX)
    assert batch.row_N.tolist() == [0, 1, 2, 3, 7, 5, 4]
    assert batch.label_NC[:, 0].tolist() == [0, 1, 0, 1, 1, 1, 0]
    assert torch.equal(batch.image_N1HW[4], batch_of(VIEWS, 1).image_N1HW[0])


def test_an_item_is_stored_pixels_of_the_window_alone() -> None:
    """uint16 as stored, no more than the window, in the memory that the reader filled: threads do no arithmetic."""
    crop = prepared(0)
    (part_HW,), (placement,), *_ = replace(VIEWS, read_view=lambda _: crop, rows_of_exam=[(3,)])[0]
    top, bottom, left, right = placement.on_crop_px
    assert part_HW.dtype == torch.uint16
    assert np.shares_memory(part_HW.numpy(), crop.pixels_HW)
    np.testing.assert_array_equal(part_HW.numpy(), crop.pixels_HW[top:bottom, left:right])


# ------------------------------------------------------------------------------------------------------------- the device


@given(
    rows=st.integers(20, 80),
    columns=st.integers(16, 64),
    seed=st.integers(0, 2**16),
    view=st.sampled_from(ViewPosition),
    is_jittered=st.booleans(),
)
def test_torch_standardises_as_numpy_does(rows: int, columns: int, seed: int, view: ViewPosition, is_jittered: bool) -> None:
    """What a GPU does, on CPU tensors: crops smaller and larger than the window, with and without a resize, values to 65535.

    Cubic weights differ in float32's last digits only: equal to 2e-5 where pixels are standardised.
    """
    crop = prepared(seed, (rows, columns), view)
    jitter = draw_jitter(np.random.default_rng(seed), JITTER) if is_jittered else None
    views = replace(VIEWS, rows_of_exam=[(3,)], read_view=lambda _: crop, jitter=JITTER if is_jittered else None, seed=seed)
    (part_HW,), (placement,), window_px, *_ = views[0]
    found_HW = standardised_on_device(part_HW, placement, window_px).numpy()
    assert found_HW.dtype == np.float32
    if jitter is None:
        np.testing.assert_allclose(found_HW, network_input(crop), atol=2e-5)
    np.testing.assert_allclose(found_HW, batch_of(views, 0).image_N1HW[0, 0].numpy(), atol=2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_given_what_the_cpu_makes() -> None:
    """Threads pin, the GPU fetches and standardises: inputs and labels are there, rows here, values are the CPU's to 2e-5."""
    views, items, gpu = replace(VIEWS, jitter=JITTER), [(0, 1), (2,)], torch.device("cuda", 0)
    here, there = list(loaded(views, items, CPU)), list(loaded(views, items, gpu, threads=2, ahead=1))
    for one, other in zip(here, there, strict=True):
        assert (other.image_N1HW.device, other.label_NC.device, other.row_N.device) == (gpu, gpu, CPU)
        torch.testing.assert_close(other.image_N1HW.cpu(), one.image_N1HW, rtol=0, atol=2e-5)
        assert torch.equal(other.label_NC.cpu(), one.label_NC)
        assert torch.equal(other.row_N, one.row_N)


def test_torch_makes_a_uniform_window_zero() -> None:
    """No division by a deviation of 0."""
    crop = prepared(0, (40, 32), ViewPosition.MLO)
    crop.pixels_HW[:] = 7
    (part_HW,), (placement,), window_px, *_ = replace(VIEWS, read_view=lambda _: crop, rows_of_exam=[(0,)])[0]
    assert not standardised_on_device(part_HW, placement, window_px).any()


# ----------------------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_batches_come_in_order_however_they_are_read(threads: int, ahead: int) -> None:
    """The first exam is the slowest; the same jittered images, labels and rows, and no random state is touched."""
    views = replace(VIEWS, read_view=NoiseViews(slow_row=0), jitter=JITTER)
    state = torch.get_rng_state()
    batches = list(loaded(views, [(0, 1), (2,), (1, 2)], CPU, threads=threads, ahead=ahead))
    assert [batch.row_N.tolist() for batch in batches] == [[0, 1, 2, 3, 7], [5, 4], [7, 5, 4]]
    for batch, items in zip(batches, [(0, 1), (2,), (1, 2)], strict=True):
        expected = batch_of(views, *items)
        assert all(torch.equal(*pair) for pair in zip(batch[:3], expected[:3], strict=True)) and batch.epoch == expected.epoch
    assert torch.equal(torch.get_rng_state(), state)


def test_exams_are_read_by_threads_only_so_far_ahead() -> None:
    """While batch 0 is in use, batches 1 and 2 are read, and no more; with no thread, the caller reads."""
    reader = NoiseViews()
    batches = loaded(single_views(reader, 20), batches_of(20, 2), CPU, threads=2, ahead=2)
    next(batches)
    deadline = time.monotonic() + 30
    while len(reader.thread_by_row) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)  # time enough to read more, if anything did
    assert sorted(reader.thread_by_row) == [0, 1, 2, 3, 4, 5]
    assert {name.startswith("loader") for name in reader.thread_by_row.values()} == {True}
    here = NoiseViews()
    next(loaded(single_views(here, 20), batches_of(20, 2), CPU))
    assert here.thread_by_row == dict.fromkeys((0, 1), threading.current_thread().name)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_row_that_cannot_be_read_is_told_at_its_batch(threads: int) -> None:
    """Batches before it are whole, the error is the reader's own, and no thread is left."""
    batches = loaded(single_views(NoiseViews(bad_row=5), 20), batches_of(20, 2), CPU, threads=threads, ahead=3)
    assert [next(batches).row_N.tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(StoreError, match="Row 5 cannot be read"):
        next(batches)
    assert _loader_threads() == []


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    """Training that ends within an epoch closes the loader; what was not begun is not read."""
    reader = NoiseViews()
    batches = loaded(single_views(reader, 100), batches_of(100, 2), CPU, threads=2, ahead=4)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert _loader_threads() == []
    assert len(reader.thread_by_row) <= 10


def test_a_batch_is_used_while_the_next_is_made() -> None:
    """On a GPU: the second is begun before the first is given out; what cannot be made is told after those before it."""
    begun = []

    def made() -> Iterator[int]:
        for number in range(3):
            begun.append(number)
            yield number
        raise KeyError("the fourth")

    items = one_ahead(made())
    assert [(next(items), len(begun)) for _ in range(2)] == [(0, 2), (1, 3)]
    assert next(items) == 2
    with pytest.raises(KeyError, match="the fourth"):
        next(items)
    assert list(one_ahead(range(3))) == [0, 1, 2] and list(one_ahead([])) == []


def test_batches_hold_every_index_once_in_order() -> None:
    """Seven, three at a time: 3, 3, 1; none of none."""
    assert [list(batch) for batch in batches_of(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches_of(0, 3) == []


# ---------------------------------------------------------------------------------------------------------------------


def _loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]
