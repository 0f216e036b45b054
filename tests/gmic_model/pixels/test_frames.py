"""The way back: a place in the source image, through the network's window, comes back to itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmic_model.pixels.frames import boxes_in_crop, corners_to_source, mask_to_window, to_source_frame
from gmic_model.pixels.window import Jitter, window_placement, working_shape_px
from gmic_model.preprocess import PreparedView, crop_like, fit_canvas, network_input, prepare_view
from schemas.config.ingest import PreprocessConfig
from schemas.errors import ConfigError
from schemas.exam import Laterality, LesionBox, ViewGeometry, ViewPosition

GEOMETRIES = st.builds(
    lambda rows, columns, top, left, below, beside, is_flipped, turns, scale, center, window, view: ViewGeometry(
        source_shape_px=(top + rows + below, left + columns + beside),
        crop_box_px=(top, top + rows, left, left + columns),
        is_flipped=is_flipped,
        scale=scale,
        best_center_px=center,
        window_px=window,
        view_position=view,
        quarter_turns=turns,
    ),
    rows=st.integers(8, 90),
    columns=st.integers(8, 90),
    top=st.integers(0, 20),
    left=st.integers(0, 20),
    below=st.integers(0, 20),
    beside=st.integers(0, 20),
    is_flipped=st.booleans(),
    turns=st.integers(0, 3),
    scale=st.sampled_from([1.0, 1.0, 0.5, 0.73]),
    center=st.tuples(st.integers(-10, 90), st.integers(-10, 90)),
    window=st.tuples(st.integers(16, 60), st.integers(16, 60)),
    view=st.sampled_from(ViewPosition),
)


@settings(max_examples=200, deadline=None)
@given(geometry=GEOMETRIES)
def test_full_resolution_saliency_round_trips(geometry: ViewGeometry) -> None:
    """A map with one cell per window pixel that holds source coordinates comes back as these coordinates."""
    rows, columns = geometry.source_shape_px
    row_HW, column_HW = np.mgrid[:rows, :columns].astype(np.float32) + 1  # 0 is "outside"
    window_CHW = np.stack([mask_to_window(crop_like(field, geometry), geometry) for field in (row_HW, column_HW)])
    back_CHW = to_source_frame(window_CHW, geometry, (rows, columns))
    inside = back_CHW[0] > 0
    tolerance = 0 if geometry.scale == 1.0 else np.ceil(1 / geometry.scale)
    np.testing.assert_allclose(back_CHW[0][inside], row_HW[inside], atol=tolerance)
    np.testing.assert_allclose(back_CHW[1][inside], column_HW[inside], atol=tolerance)
    if geometry.scale == 1.0:  # every source pixel the window shows, and no other
        assert inside.sum() == (window_CHW[0] > 0).sum()


@settings(max_examples=100, deadline=None)
@given(geometry=GEOMETRIES, at=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)))
def test_patches_and_saliency_agree(geometry: ViewGeometry, at: tuple[float, float]) -> None:
    """A patch of one saliency cell covers the source pixels that get that cell's value."""
    grid = (geometry.window_px[0], geometry.window_px[1])
    corner = (int(at[0] * grid[0]), int(at[1] * grid[1]))
    saliency = np.zeros((1, *grid))
    saliency[0, corner[0], corner[1]] = 1.0
    lit = np.argwhere(to_source_frame(saliency, geometry, geometry.source_shape_px)[0])
    top, bottom, left, right = corners_to_source(np.array([corner]), (1, 1), geometry)[0]
    if len(lit):
        assert top - 1 <= lit[:, 0].min() and lit[:, 0].max() < bottom + 1
        assert left - 1 <= lit[:, 1].min() and lit[:, 1].max() < right + 1
    if geometry.scale == 1.0 and len(lit):
        np.testing.assert_array_equal(lit, [[top, left]])


@pytest.mark.parametrize("oversize", ["cut", "shrink", "0.1 mm", "0.1 mm and shrink"])
@pytest.mark.parametrize("view", ViewPosition)
@pytest.mark.parametrize("laterality", Laterality)
@pytest.mark.parametrize("window", [(640, 448), (256, 192)])
def test_a_bright_square_comes_back_in_its_corner(
    laterality: Laterality, view: ViewPosition, oversize: str, window: tuple[int, int]
) -> None:
    """A lesion marked in the upper nipple-side part of an L and an R image is found there again, cut, scaled or padded."""
    rows, columns = 480, 360
    row, column = np.mgrid[:rows, :columns]
    image = np.where(((row - 240) / 200) ** 2 + (column / 280) ** 2 < 1, 1000, 0).astype(np.uint16)
    lesion = np.s_[200:230, 170:200]
    if laterality is Laterality.RIGHT:
        image, lesion = np.ascontiguousarray(image[:, ::-1]), np.s_[200:230, 160:190]  # 360 - 200 = 160
    image[lesion] = 60000
    config = PreprocessConfig(
        window_px=window,
        erosion_iterations=20,
        crop_buffer_px=10,
        oversize="shrink" if "shrink" in oversize else "cut",
        pixel_spacing_mm=0.1 if "mm" in oversize else None,
        jitter_shift_px=8,
        jitter_size_px=8,
    )
    prepared = fit_canvas(prepare_view(image, laterality, view, settings=config, pixel_spacing_mm=0.08), config.canvas_px)
    window_HW = network_input(prepared)
    bright = np.argwhere(window_HW > window_HW.max() / 2)
    assert len(bright), "the window does not show the lesion"
    cells = np.stack([bright // 8], axis=0)[0]
    saliency = np.zeros((2, window[0] // 8, window[1] // 8), np.float32)
    saliency[1, cells[:, 0], cells[:, 1]] = 1.0
    back = to_source_frame(saliency, prepared.geometry, image.shape)
    assert back.shape == (2, *image.shape) and not back[0].any()
    lit = np.argwhere(back[1])
    slack = 8 / prepared.geometry.scale + 1  # one cell
    for axis in (0, 1):
        assert abs(lit[:, axis].min() - lesion[axis].start) <= slack
        assert abs(lit[:, axis].max() + 1 - lesion[axis].stop) <= slack
    corner = bright.min(axis=0)
    size = tuple((bright.max(axis=0) + 1 - corner).tolist())
    box = corners_to_source(corner[None], size, prepared.geometry)[0]
    wanted = [lesion[0].start, lesion[0].stop, lesion[1].start, lesion[1].stop]
    np.testing.assert_allclose(box, wanted, atol=0 if prepared.geometry.scale == 1 else 2 / prepared.geometry.scale)


def test_saliency_is_zero_outside_the_window_and_whole_inside() -> None:
    """The release's grid on a full frame: 64 x 64 pixel cells, each as it was, 0 outside the crop."""
    geometry = ViewGeometry(
        source_shape_px=(3328, 2560), crop_box_px=(100, 3044, 640, 2560), is_flipped=True, scale=1.0, best_center_px=(0, 0),
        window_px=(2944, 1920), view_position=ViewPosition.CC,
    )  # fmt: skip
    saliency = np.arange(1, 46 * 30 + 1, dtype=np.float32).reshape(1, 46, 30)
    back = to_source_frame(saliency, geometry, (3328, 2560))[0]
    wanted = np.zeros((3328, 2560), np.float32)
    wanted[100:3044, 640:] = np.kron(saliency[0], np.ones((64, 64), np.float32))[:, ::-1]
    np.testing.assert_array_equal(back, wanted)
    np.testing.assert_array_equal(to_source_frame(saliency, geometry, (416, 320))[0], wanted[4::8, 4::8])


def test_a_window_beside_the_crop_gives_zero() -> None:
    """An empty wanted frame is an error; a mask of another jitter still has the window's size."""
    geometry = ViewGeometry(
        source_shape_px=(60, 50), crop_box_px=(10, 40, 0, 30), is_flipped=False, scale=1.0, best_center_px=(0, 0),
        window_px=(20, 20), view_position=ViewPosition.MLO,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="empty"):
        to_source_frame(np.ones((1, 2, 2)), geometry, (0, 5))
    jitter = Jitter(shift_2=(0.3, 0.3), size_4=(0.5, 0.9, -0.4, 0.7), max_shift_px=4, max_size_px=4)
    assert mask_to_window(np.ones((30, 30), np.uint8), geometry, jitter=jitter).shape == (20, 20)


def test_stored_shape_and_geometry_agree() -> None:
    """The shape that the geometry implies is the stored one, so the manifest alone is enough to go back."""
    prepared = PreparedView(
        pixels_HW=np.zeros((22, 22), np.uint16),
        geometry=ViewGeometry(
            source_shape_px=(60, 50), crop_box_px=(10, 40, 0, 30), is_flipped=False, scale=0.73, best_center_px=(0, 0),
            window_px=(22, 22), view_position=ViewPosition.MLO,
        ),
        tissue_fraction=0.1,
    )  # fmt: skip
    assert working_shape_px(prepared.geometry) == prepared.pixels_HW.shape
    assert window_placement(prepared.geometry) == window_placement(prepared.geometry, shape_px=(22, 22))


@given(geometry=GEOMETRIES, data=st.data())
def test_a_box_of_the_source_covers_what_a_mask_of_it_covers(geometry: ViewGeometry, data: st.DataObject) -> None:
    """A box drawn as a mask in the source, cropped, turned and flipped as ingest does, is the box brought into the crop."""
    rows, columns = geometry.source_shape_px
    top, left = data.draw(st.integers(0, rows - 2)), data.draw(st.integers(0, columns - 2))
    bottom, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, columns))
    mask_HW = np.zeros((rows, columns), np.uint8)
    mask_HW[top:bottom, left:right] = 1
    first_row, last_row, first_column, last_column = geometry.crop_box_px
    crop_HW = np.rot90(mask_HW[first_row:last_row, first_column:last_column], -geometry.quarter_turns)
    crop_HW = crop_HW[:, ::-1] if geometry.is_flipped else crop_HW
    box = LesionBox(finding=None, top_px=top, bottom_px=bottom, left_px=left, right_px=right)
    assert (boxes_in_crop([box], geometry, crop_HW.shape) == crop_HW).all()
    halved_px = (crop_HW.shape[0] // 2, crop_HW.shape[1] // 2)
    halved = boxes_in_crop([box], geometry, halved_px)
    assert abs(halved.mean() - crop_HW.mean()) <= 2.0 / min(halved_px)
