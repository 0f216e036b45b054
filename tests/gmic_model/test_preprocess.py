"""Crop, window and standardisation against the released numbers, a scipy oracle, and images spoilt on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmic_model.pixels.breast_mask import find_breast, robust_mask
from gmic_model.pixels.window import Jitter, cut_window, draw_jitter, window_placement, working_shape_px
from gmic_model.preprocess import NO_BREAST, PreparedView, crop_like, fit_canvas, network_input, nipple_extent, prepare_view
from schemas.config.ingest import CropMode, PreprocessConfig
from schemas.errors import ConfigError, DicomError, GateRejection
from schemas.exam import Laterality, ViewGeometry, ViewPosition

PARITY_DIR = Path(__file__).parents[1] / "golden" / "parity"
TOYS: list[dict[str, Any]] = json.loads((PARITY_DIR / "units.json").read_text())["crop"]
SMALL = PreprocessConfig(window_px=(320, 224), erosion_iterations=12, crop_buffer_px=10, jitter_shift_px=12, jitter_size_px=12)


@pytest.fixture(scope="module")
def arrays() -> dict[str, NDArray[Any]]:
    """The toy mammograms and their recorded windows."""
    with np.load(PARITY_DIR / "units.npz") as stored:
        return {name: stored[name] for name in stored if name.startswith("crop")}


def toy_view(toy: dict[str, Any]) -> tuple[Laterality, ViewPosition]:
    """The release's "mode" is where the breast points in the file: right is how a left breast is stored."""
    return (Laterality.LEFT if toy["mode"] == "right" else Laterality.RIGHT), ViewPosition(toy["view"][2:])


def toy_settings(toy: dict[str, Any], crop_mode: CropMode) -> PreprocessConfig:
    """The sizes the toy was recorded with."""
    return PreprocessConfig(
        window_px=toy["window"], crop_mode=crop_mode, erosion_iterations=toy["iterations"], crop_buffer_px=toy["buffer"]
    )


def breast_image(laterality: Laterality = Laterality.LEFT, *, rows: int = 480, columns: int = 360) -> NDArray[np.uint16]:
    """Half an ellipse of textured tissue at the chest wall on a background of 0, in the source's orientation."""
    row, column = np.mgrid[:rows, :columns]
    is_breast = ((row - rows * 0.5) / (rows * 0.38)) ** 2 + (column / (columns * 0.7)) ** 2 < 1
    texture = np.random.default_rng(0).integers(900, 3000, (rows, columns))
    image = np.where(is_breast, texture, 0).astype(np.uint16)
    return image if laterality is Laterality.LEFT else np.ascontiguousarray(image[:, ::-1])


@pytest.mark.parametrize("crop_mode", CropMode)
@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy["image"])
def test_geometry_equals_the_released(toy: dict[str, Any], crop_mode: CropMode, arrays: dict[str, NDArray[Any]]) -> None:
    """Crop box, extreme points and best centre equal the release's; the robust mode agrees where the background is 0."""
    side, view = toy_view(toy)
    config = toy_settings(toy, crop_mode)
    image = arrays[toy["image"]]
    prepared = prepare_view(image, side, view, settings=config)
    breast = find_breast(image, side, crop_mode=crop_mode, erosion_iterations=toy["iterations"])
    assert breast is not None
    box = prepared.geometry.crop_box_px
    assert list(box) == toy["window_location"]
    assert list(prepared.geometry.best_center_px) == toy["best_center"]
    rows, column = nipple_extent(breast, box, side)
    assert [list(rows), column] == toy["rightmost_points"]
    first, last = breast.bottom_columns_px
    columns = [first - box[2], last - box[2]] if side is Laterality.LEFT else [box[3] - last, box[3] - first]
    assert [breast.box_px[1] - 1 - box[0], columns] == toy["bottommost_points"]
    away = breast.box_px[2] if side is Laterality.LEFT else image.shape[1] - breast.box_px[3]
    assert away == toy["distance_from_starting_side"]


@pytest.mark.parametrize("crop_mode", CropMode)
@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy["image"])
def test_windows_equal_the_released(toy: dict[str, Any], crop_mode: CropMode, arrays: dict[str, NDArray[Any]]) -> None:
    """Borders of six random windows equal the release's, their pixels too, and the input is those standardised."""
    prepared = prepare_view(arrays[toy["image"]], *toy_view(toy), settings=toy_settings(toy, crop_mode))
    for case in toy["aug"]:
        noise = PreprocessConfig(jitter_shift_px=case["crop_noise"][0], jitter_size_px=case["size_noise"])
        jitter = draw_jitter(np.random.RandomState(case["seed"]), noise)
        placement = window_placement(prepared.geometry, jitter=jitter)
        assert [placement.top_px, placement.bottom_px, placement.left_px, placement.right_px] == case["borders"]
        assert list(placement.padded_shape_px) == case["padded"]
        recorded = arrays[f"{toy['image']}_aug{case['seed']}_{case['size_noise']}"]
        pixels = prepared.pixels_HW.astype(np.float32)
        window = cut_window(pixels, placement, prepared.geometry.window_px, interpolation=cv2.INTER_CUBIC)
        np.testing.assert_allclose(window, recorded, rtol=1e-5, atol=0.05)  # of 4095; 0 where the size is unchanged
        wanted = (recorded - recorded.mean(dtype=np.float64)) / recorded.std(dtype=np.float64)
        np.testing.assert_allclose(network_input(prepared, augment=jitter), wanted, atol=5e-5)


def oracle(mask: NDArray[np.bool_], iterations: int) -> NDArray[np.bool_] | None:
    """The released steps, literally: erode, keep the largest 4-connected part, dilate."""
    eroded = scipy.ndimage.binary_erosion(mask, iterations=iterations) if iterations else mask
    part, count = scipy.ndimage.label(eroded)
    if count == 0:
        return None
    largest = part == 1 + np.bincount(part.ravel())[1:].argmax()
    return scipy.ndimage.binary_dilation(largest, iterations=iterations) if iterations else largest


def test_breast_equals_scipy_on_random_masks() -> None:
    """Box, lowest row and reach of every row equal iterated morphology on 600 random masks, corner touches and ties too."""
    generator = np.random.default_rng(5)
    found = 0
    for _ in range(600):
        shape, iterations = generator.integers(1, 70, 2), int(generator.integers(0, 5))
        mask = generator.random(shape) < generator.choice([0.5, 0.8, 0.95, 0.98, 0.995])
        wanted = oracle(mask, iterations)
        breast = find_breast(
            mask.astype(np.uint16), Laterality.LEFT, crop_mode=CropMode.RELEASED, erosion_iterations=iterations
        )
        assert (wanted is None) == (breast is None)
        if wanted is None or breast is None:
            continue
        found += 1
        rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
        assert breast.box_px == (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
        lowest = np.flatnonzero(wanted[rows[-1]])
        assert breast.bottom_columns_px == (lowest[0], lowest[-1])
        reach = [np.flatnonzero(line)[-1] for line in wanted[rows[0] : rows[-1] + 1]]
        np.testing.assert_array_equal(breast.row_reach_px, reach)
    assert found > 300


def test_breast_equals_scipy_on_smooth_masks() -> None:
    """Smooth breast-like masks: box, lowest row and reach equal morphology, with ties and gaps too."""
    generator = np.random.default_rng(8)
    found = 0
    for _ in range(400):
        rows, columns, iterations = (
            int(generator.integers(1, 60)),
            int(generator.integers(1, 60)),
            int(generator.integers(0, 7)),
        )
        middle = np.cumsum(generator.integers(-4, 5, rows)) + columns // 2
        half = generator.integers(-1, columns, rows) // 2
        half[generator.random(rows) < 0.1] = -1  # an empty row: two parts, often of equal size
        column = np.arange(columns)
        mask = np.abs(column - middle[:, None]) <= half[:, None]
        breast = find_breast(
            mask.astype(np.uint16), Laterality.LEFT, crop_mode=CropMode.RELEASED, erosion_iterations=iterations
        )
        wanted = oracle(mask, iterations)
        assert (wanted is None) == (breast is None)
        if wanted is None or breast is None:
            continue
        found += 1
        top, bottom = np.flatnonzero(wanted.any(1))[[0, -1]]
        lowest = np.flatnonzero(wanted[bottom])
        assert breast.box_px == (top, bottom + 1, np.flatnonzero(wanted.any(0))[0], np.flatnonzero(wanted.any(0))[-1] + 1)
        assert breast.bottom_columns_px == (lowest[0], lowest[-1])
        np.testing.assert_array_equal(breast.row_reach_px, [np.flatnonzero(line)[-1] for line in wanted[top : bottom + 1]])
    assert found > 150


def test_breast_equals_scipy_at_the_paper_depth() -> None:
    """Depths of whole bytes and others, and 260, where 8-bit distances saturate, on a breast with a mark and noise."""
    image = breast_image(rows=900, columns=700)
    image[20:120, 600:690] = 4000
    image[np.random.default_rng(1).random(image.shape) < 1e-5] = 0
    for iterations in (8, 9, 15, 17, 60, 100, 160):
        wanted = oracle(image > 0, iterations)
        breast = find_breast(image, Laterality.LEFT, crop_mode=CropMode.RELEASED, erosion_iterations=iterations)
        assert (wanted is None) == (breast is None)
        if wanted is not None and breast is not None:
            rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
            assert breast.box_px == (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
    full = np.ones((700, 600), np.uint16)  # reaches 300 deep: distances above 255 count
    for iterations in (228, 260):
        deep = find_breast(full, Laterality.LEFT, crop_mode=CropMode.RELEASED, erosion_iterations=iterations)
        wanted = oracle(full > 0, iterations)
        assert deep is not None and wanted is not None
        rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
        assert deep.box_px == (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
        np.testing.assert_array_equal(deep.row_reach_px, [np.flatnonzero(line)[-1] for line in wanted[rows[0] : rows[-1] + 1]])


def test_holes_are_filled_as_scipy_fills_them() -> None:
    """Whatever ones enclose is tissue: islands in holes with holes of their own, walls that touch by a corner only."""
    generator = np.random.default_rng(4)
    nested = np.zeros((60, 60), np.bool_)
    for radius in range(22, 0, -4):
        nested[30 - radius : 31 + radius, 30 - radius : 31 + radius] = radius % 8 != 2
    masks = [nested, *(generator.random((60, 60)) < share for share in np.linspace(0.3, 0.98, 60))]
    filled = 0
    for mask in masks:
        mask[:6] = mask[-6:] = mask[:, -6:] = False  # a background that is 0
        wanted = scipy.ndimage.binary_fill_holes(mask)
        found = robust_mask(mask * np.uint16(1000), Laterality.LEFT)
        np.testing.assert_array_equal(found.is_tissue_HW, wanted)
        filled += int((wanted != mask).sum())
    assert filled > 1000


def spoilt(image: NDArray[np.uint16], fault: str) -> NDArray[np.uint16]:
    """The same breast on a background that the rule "above 0 is breast" fails on."""
    generator = np.random.default_rng(3)
    image = image.copy()
    rows, columns = image.shape
    empty = image == 0
    if fault == "white frame":
        image[:14], image[-14:], image[:, :14], image[:, -14:] = 4095, 4095, 4095, 4095
    elif fault == "white padding":
        image[empty] = 4095
    elif fault == "raised padding":
        image[empty] = 200
    elif fault == "noise":
        image[empty] = np.clip(generator.normal(60, 8, int(empty.sum())), 1, None).astype(np.uint16)
    elif fault == "noise cut at 0":
        image[empty] = np.clip(generator.normal(0, 8, int(empty.sum())), 0, None).astype(np.uint16)
    elif fault == "marks":
        image[30:60, columns - 90 : columns - 40] = 4095
        image[rows - 40 : rows - 20, columns - 60 : columns - 10] = 4095
    elif fault == "dead pixels":
        image[rows // 2, 40:200:7] = 0
    return image


FAULTS = ("white frame", "white padding", "raised padding", "noise", "noise cut at 0", "marks", "dead pixels")


@pytest.mark.parametrize("laterality", Laterality)
@pytest.mark.parametrize("fault", FAULTS)
def test_robust_crop_survives_faults(fault: str, laterality: Laterality) -> None:
    """The crop of a spoilt image is the clean image's within a frame's width; marks do not stay in the pixels."""
    clean = breast_image()
    dirty = spoilt(clean, fault)
    if laterality is Laterality.RIGHT:
        clean, dirty = np.ascontiguousarray(clean[:, ::-1]), np.ascontiguousarray(dirty[:, ::-1])
    wanted = prepare_view(clean, laterality, settings=SMALL)
    prepared = prepare_view(dirty, laterality, settings=SMALL)
    allowed = 20 if fault == "white frame" else 4
    np.testing.assert_allclose(prepared.geometry.crop_box_px, wanted.geometry.crop_box_px, atol=allowed)
    assert prepared.tissue_fraction == pytest.approx(wanted.tissue_fraction, abs=0.04)
    assert prepared.pixels_HW.max() < 3000


@pytest.mark.parametrize("fault", ["white frame", "white padding", "noise"])
def test_released_rule_fails_on_the_faults(fault: str) -> None:
    """These images are hard: above-0 takes the frame or the background for breast."""
    dirty = spoilt(breast_image(), fault)
    released = prepare_view(dirty, Laterality.LEFT, settings=SMALL.model_copy(update={"crop_mode": CropMode.RELEASED}))
    robust = prepare_view(dirty, Laterality.LEFT, settings=SMALL)
    assert released.tissue_fraction > robust.tissue_fraction + 0.02


def test_marks_inside_the_box_are_blanked() -> None:
    """A burned-in letter beside the breast, within its box, becomes 0; every tissue pixel keeps its value."""
    clean = breast_image()
    box = prepare_view(clean, Laterality.LEFT, settings=SMALL).geometry.crop_box_px
    dirty = clean.copy()
    corner = np.s_[box[0] + 6 : box[0] + 36, box[3] - 50 : box[3] - 20]
    assert not dirty[corner].any()
    dirty[corner] = 4095
    prepared = prepare_view(dirty, Laterality.LEFT, settings=SMALL)
    assert prepared.geometry.crop_box_px == box
    np.testing.assert_array_equal(prepared.pixels_HW, clean[box[0] : box[1], box[2] : box[3]])


@pytest.mark.parametrize("crop_mode", CropMode)
@pytest.mark.parametrize("image", [np.zeros((300, 200), np.uint16), np.full((9, 9), 7, np.uint16), np.ones((1, 1), np.uint16)])
def test_no_breast_is_one_rejection(image: NDArray[np.uint16], crop_mode: CropMode) -> None:
    """A blank or tiny image is refused with a reason code, not a crash."""
    with pytest.raises(GateRejection) as caught:
        prepare_view(image, Laterality.RIGHT, settings=PreprocessConfig(crop_mode=crop_mode))
    assert caught.value.reason_codes == (NO_BREAST,)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 9), high=st.sampled_from([1, 2, 300, 65535]),
    laterality=st.sampled_from(Laterality),
)  # fmt: skip
def test_any_image_is_prepared_or_rejected(rows: int, columns: int, seed: int, high: int, laterality: Laterality) -> None:
    """Whatever the pixels, the result is finite input of the window's size or a GateRejection."""
    pixels = np.random.default_rng(seed).integers(0, high, (rows, columns), np.uint16, endpoint=True)
    config = PreprocessConfig(window_px=(16, 12), erosion_iterations=1, crop_buffer_px=2, jitter_shift_px=3, jitter_size_px=3)
    try:
        prepared = prepare_view(pixels, laterality, settings=config)
    except GateRejection:
        return
    window = network_input(prepared, augment=draw_jitter(np.random.default_rng(seed), config))
    assert window.shape == (16, 12) and window.dtype == np.float32 and np.isfinite(window).all()


def test_wrong_arrays_are_named() -> None:
    """A float or colour image is refused with what was expected."""
    with pytest.raises(DicomError, match="uint16"):
        prepare_view(np.zeros((9, 9), np.float32), Laterality.LEFT)


def test_input_is_standardised_with_its_padding() -> None:
    """Mean 0 and deviation 1 over the padded window; a uniform window becomes 0."""
    prepared = prepare_view(breast_image(Laterality.RIGHT), Laterality.RIGHT, settings=SMALL)
    window = network_input(prepared)
    assert window.shape == SMALL.window_px
    assert window.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert window.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    empty = PreparedView(pixels_HW=np.zeros((50, 40), np.uint16), geometry=prepared.geometry, tissue_fraction=0.0)
    assert not network_input(empty).any()


def test_chest_wall_comes_to_column_zero() -> None:
    """A right breast and its mirror image give the same crop, best centre within the release's one pixel."""
    left = prepare_view(breast_image(), Laterality.LEFT, settings=SMALL)
    right = prepare_view(breast_image(Laterality.RIGHT), Laterality.RIGHT, settings=SMALL)
    np.testing.assert_array_equal(left.pixels_HW, right.pixels_HW)
    assert (left.geometry.is_flipped, right.geometry.is_flipped) == (False, True)
    assert right.geometry.best_center_px[1] - left.geometry.best_center_px[1] == 1


def test_oversized_breast_shrinks_to_the_window() -> None:
    """With oversize=shrink the crop fits the window, and a lesion mask follows."""
    config = SMALL.model_copy(update={"window_px": (128, 96), "oversize": "shrink"})
    image = breast_image(Laterality.RIGHT)
    prepared = prepare_view(image, Laterality.RIGHT, settings=config)
    rows, columns = prepared.pixels_HW.shape
    assert rows <= 128 and columns <= 96 and (rows == 128 or columns == 96)
    assert prepared.geometry.scale < 1 and working_shape_px(prepared.geometry) == (rows, columns)
    assert crop_like(image, prepared.geometry).shape == (rows, columns)
    small = prepare_view(
        image, Laterality.RIGHT, settings=SMALL.model_copy(update={"oversize": "shrink", "window_px": (640, 448)})
    )
    assert small.geometry.scale == 1.0


@pytest.mark.parametrize("laterality", Laterality)
def test_the_share_of_the_breast_in_the_window_is_known(laterality: Laterality) -> None:
    """Counted on the source: of a breast larger than the window a part is seen, of one that fits or is shrunk all of it."""
    image = breast_image(laterality)
    prepared = prepare_view(image, laterality, settings=SMALL.model_copy(update={"window_px": (200, 112)}))
    window_HW = network_input(prepared)
    seen = int((window_HW > window_HW.min()).sum())  # background is the least value
    assert prepared.seen_fraction == pytest.approx(seen / int((image > 0).sum()), abs=1e-3)
    assert 0.2 < prepared.seen_fraction < 0.8
    assert fit_canvas(prepared, (248, 160)).seen_fraction == prepared.seen_fraction
    fits, shrunk = ({"window_px": (480, 360)}, {"window_px": (200, 112), "oversize": "shrink"})
    for changes in (fits, shrunk):
        assert prepare_view(image, laterality, settings=SMALL.model_copy(update=changes)).seen_fraction == 1.0


def test_a_common_spacing_gives_a_breast_one_size() -> None:
    """The same breast at 0.1 and at 0.05 mm a pixel fills the same part of the window; without a spacing it is refused."""
    common = SMALL.model_copy(update={"pixel_spacing_mm": 0.1})
    fine = SMALL.model_copy(update={"pixel_spacing_mm": 0.1, "erosion_iterations": 24, "crop_buffer_px": 20})
    image = breast_image()
    twice = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    coarse_view = prepare_view(image, Laterality.LEFT, settings=common, pixel_spacing_mm=0.1)
    fine_view = prepare_view(twice, Laterality.LEFT, settings=fine, pixel_spacing_mm=0.05)
    assert (coarse_view.geometry.scale, fine_view.geometry.scale) == (1.0, 0.5)
    assert np.abs(np.subtract(fine_view.pixels_HW.shape, coarse_view.pixels_HW.shape)).max() <= 2
    assert fine_view.seen_fraction == pytest.approx(coarse_view.seen_fraction, abs=0.02)
    center = np.subtract(fine_view.geometry.best_center_px, coarse_view.geometry.best_center_px)
    assert np.abs(center).max() <= 2
    enlarged = prepare_view(image, Laterality.LEFT, settings=common, pixel_spacing_mm=0.2)
    assert enlarged.geometry.scale == 2.0 and working_shape_px(enlarged.geometry) == enlarged.pixels_HW.shape
    with pytest.raises(GateRejection) as refused:
        prepare_view(image, Laterality.LEFT, settings=common)
    assert refused.value.reason_codes == ("C02",)


@pytest.mark.parametrize("spacing_mm", [0.05, 0.07, 0.13, 0.2])
@pytest.mark.parametrize("laterality", Laterality)
def test_a_scaled_crop_is_cut_to_the_canvas_in_its_place(laterality: Laterality, spacing_mm: float) -> None:
    """Brought to 0.1 mm and cut, a breast shows in its window what the whole of it shows, to a pixel; its geometry says so."""
    row, column = np.mgrid[:480, :360]
    smooth = (np.where(breast_image(laterality) > 0, 1000, 0) + row + 2 * column).astype(np.uint16) * (
        breast_image(laterality) > 0
    )
    config = SMALL.model_copy(
        update={"window_px": (96, 64), "pixel_spacing_mm": 0.1, "jitter_shift_px": 4, "jitter_size_px": 4}
    )
    whole = prepare_view(smooth, laterality, settings=config, pixel_spacing_mm=spacing_mm)
    cut = fit_canvas(whole, config.canvas_px)
    assert cut.pixels_HW.shape == working_shape_px(cut.geometry)
    assert all(length <= canvas for length, canvas in zip(cut.pixels_HW.shape, config.canvas_px, strict=True))
    shown = crop_like(smooth, cut.geometry).astype(float)
    inside = (shown > 0) & (cut.pixels_HW > 0)
    off = float(np.percentile(np.abs(shown - cut.pixels_HW)[inside], 90))  # the rim is blended with background
    assert off <= 3 * 1.5 / whole.geometry.scale + 3, "slopes of 1 and 2, off by more than a pixel and a half"


DRAW = st.floats(-1, 1, exclude_max=True, width=32)


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(st.integers(20, 120), st.integers(12, 90)),
    center=st.tuples(st.integers(-20, 140), st.integers(-40, 110)),
    view=st.sampled_from(ViewPosition),
    is_flipped=st.booleans(),
    draws=st.tuples(*[DRAW] * 6),
    noise=st.sampled_from([(0, 0), (6, 0), (0, 6), (6, 6), (5, 9)]),
)
def test_canvas_cut_changes_no_input(
    shape: tuple[int, int],
    center: tuple[int, int],
    view: ViewPosition,
    is_flipped: bool,
    draws: tuple[float, ...],
    noise: tuple[int, int],
) -> None:
    """Input with and without jitter is the same before and after the cut, which shows the same source pixels."""
    config = PreprocessConfig(window_px=(32, 20), jitter_shift_px=noise[0], jitter_size_px=noise[1])
    source = np.random.default_rng(0).integers(0, 4096, (shape[0] + 5, shape[1] + 9)).astype(np.uint16)
    box = (2, 2 + shape[0], 4, 4 + shape[1])
    geometry = ViewGeometry(
        source_shape_px=source.shape, crop_box_px=box, is_flipped=is_flipped, scale=1.0, best_center_px=center,
        window_px=config.window_px, view_position=view,
    )  # fmt: skip
    whole = PreparedView(pixels_HW=crop_like(source, geometry), geometry=geometry, tissue_fraction=0.5)
    cut = fit_canvas(whole, config.canvas_px)
    assert cut.pixels_HW.shape[0] <= config.canvas_px[0] and cut.pixels_HW.shape[1] <= config.canvas_px[1]
    np.testing.assert_array_equal(cut.pixels_HW, crop_like(source, cut.geometry))
    jitter = Jitter(
        shift_2=draws[:2], size_4=draws[2:], max_shift_px=noise[0], max_size_px=noise[1]  # type: ignore[arg-type]
    )  # fmt: skip
    for augment in (None, jitter):
        np.testing.assert_array_equal(network_input(cut, augment=augment), network_input(whole, augment=augment))


def test_canvas_below_the_window_is_refused() -> None:
    """A canvas that would cut pixels the network sees is an error."""
    prepared = prepare_view(breast_image(), Laterality.LEFT, settings=SMALL)
    with pytest.raises(ConfigError, match="canvas"):
        fit_canvas(prepared, (100, 100))
