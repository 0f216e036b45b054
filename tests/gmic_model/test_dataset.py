"""From store rows to batches: an exam brings all its views, and a view's jitter depends on nothing but seed, epoch and row."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import torch

from gmic_model.dataset import Batch, ExamViews, join_exams
from gmic_model.preprocess import PreparedView, network_input
from schemas.config import PreprocessConfig
from schemas.exam import ViewGeometry, ViewPosition

WINDOW_PX = (40, 32)
JITTER = PreprocessConfig(window_px=WINDOW_PX, jitter_shift_px=6, jitter_size_px=4)


@dataclass(frozen=True)
class NoiseViews:
    """A reader whose view of row r is noise seeded by r, larger than the window."""

    def __call__(self, row: int) -> PreparedView:
        """The row's view."""
        pixels_HW = np.random.default_rng(row).integers(1, 4096, (60, 50), dtype=np.uint16)
        geometry = ViewGeometry(
            source_shape_px=(60, 50),
            crop_box_px=(0, 60, 0, 50),
            is_flipped=False,
            scale=1.0,
            best_center_px=(30, 20),
            window_px=WINDOW_PX,
            view_position=ViewPosition.CC,
        )
        return PreparedView(pixels_HW=pixels_HW, geometry=geometry, tissue_fraction=0.5)


VIEWS = ExamViews(
    rows_of_exam=[(0, 1, 2, 3), (7,), (5, 4)],
    label_by_row={row: (row % 2, 255) for row in range(8)},
    read_view=NoiseViews(),
)


def test_an_item_is_an_exam_with_all_its_views_in_order() -> None:
    """Images (views, 1, rows, columns) float32, labels and rows int64; 255 stays 255."""
    assert len(VIEWS) == 3
    batch = VIEWS[2]
    assert batch.image_N1HW.shape == (2, 1, *WINDOW_PX)
    assert batch.image_N1HW.dtype == torch.float32
    assert batch.label_NC.tolist() == [[1, 255], [0, 255]]
    assert batch.row_N.tolist() == [5, 4]
    assert (batch.label_NC.dtype, batch.row_N.dtype) == (torch.int64, torch.int64)


def test_without_jitter_a_view_is_the_networks_input() -> None:
    """The deterministic window of preprocess, whatever seed and epoch say."""
    for views in (VIEWS, replace(VIEWS, seed=3, epoch=9)):
        batch = views[0]
        for index, row in enumerate((0, 1, 2, 3)):
            assert np.array_equal(batch.image_N1HW[index, 0].numpy(), network_input(NoiseViews()(row)))


def test_jitter_depends_on_seed_epoch_and_row_alone() -> None:
    """The same in any order and in another process's copy; another epoch, seed or row draws another window."""
    jittered = replace(VIEWS, jitter=JITTER, seed=1, epoch=2)
    first = [jittered[index] for index in range(3)]
    copy = pickle.loads(pickle.dumps(jittered))  # noqa: S301  made on this line
    for index in (2, 0, 1):
        assert torch.equal(copy[index].image_N1HW, first[index].image_N1HW)
    assert not torch.equal(replace(jittered, epoch=3)[0].image_N1HW, first[0].image_N1HW)
    assert not torch.equal(replace(jittered, seed=2)[0].image_N1HW, first[0].image_N1HW)
    regrouped = replace(jittered, rows_of_exam=[(3,)])
    assert torch.equal(regrouped[0].image_N1HW[0], first[0].image_N1HW[3])


def test_jitter_leaves_the_global_generators_alone() -> None:
    """Drawing a batch changes neither torch's nor numpy's state, so loader processes do not change the training."""
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    _ = replace(VIEWS, jitter=JITTER)[0]
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state(legacy=False)["state"]["key"] == numpy_state).all()


def test_exams_join_into_one_batch_of_their_views() -> None:
    """Exams of 4, 1 and 2 views make 7 images in that order; labels and rows stay with their images."""
    batch = join_exams([VIEWS[0], VIEWS[1], VIEWS[2]])
    assert isinstance(batch, Batch)
    assert batch.image_N1HW.shape == (7, 1, *WINDOW_PX)
    assert batch.row_N.tolist() == [0, 1, 2, 3, 7, 5, 4]
    assert batch.label_NC[:, 0].tolist() == [0, 1, 0, 1, 1, 1, 0]
    assert torch.equal(batch.image_N1HW[4], VIEWS[1].image_N1HW[0])
