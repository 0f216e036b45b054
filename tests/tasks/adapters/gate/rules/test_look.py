"""What the pixels are asked: a large, a small and a narrow breast are as welcome as any, and bright air is not."""

from __future__ import annotations

import os
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from mammo_tests.mammograms import accept, both, breast, rejection, setting, write
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.dicom.dicom_file import read_pixels
from tasks.adapters.gate.rules.look import look_at
from tasks.adapters.gate.rules.table import broken_rules

REFERENCE_DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", Path(__file__).parents[6] / "shared" / "data"))
INVERSE = setting(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")


@cache
def noise(shape_px: tuple[int, int]) -> NDArray[np.float64]:
    """The same for every tissue of the shape."""
    return np.random.default_rng(0).normal(0, 82, shape_px)


def textured(shape_px: tuple[int, int], height: float, depth: float) -> NDArray[np.uint16]:
    """Half an ellipse of noisy tissue, brighter towards the chest wall at column 0; air is 0."""
    rows, columns = np.indices(shape_px)
    radius = np.hypot((rows - shape_px[0] / 2) / (height * shape_px[0]), columns / (depth * shape_px[1]))
    values = 0.9 * 4096 * (0.7 - 0.35 * radius) + noise(shape_px)
    return np.where(radius < 1, np.clip(values, 1, 4094), 0).astype(np.uint16)


def refusing(pixels_HW: NDArray[np.uint16], laterality: Laterality, view_position: ViewPosition) -> list[str]:
    """Rules on side, polarity and tissue that an image breaks."""
    looked = look_at(pixels_HW, 12, laterality=laterality, view_position=view_position, spacing_mm=0.1)
    return [rule.rule_id for rule in broken_rules(looked) if rule.rule_id in ("L04", "L07", "X26", "X28")]


@pytest.mark.parametrize("shape_px", [(900, 820), (1914, 780)])
def test_no_size_of_breast_is_refused(shape_px: tuple[int, int]) -> None:
    """From 15 % of the height and 20 % of the width to one that leaves no air: only a bright background is refused.

    Each in all four views.
    """
    for height in (0.15, 0.42, 0.6, 1.0):
        for depth in (0.2, 0.7, 0.95, 0.99, 1.05, 1.4):
            left_HW = textured(shape_px, height, depth)
            for laterality, view_position in product(Laterality, ViewPosition):
                pixels_HW = left_HW if laterality is Laterality.LEFT else np.ascontiguousarray(left_HW[:, ::-1])
                case = height, depth, laterality, view_position
                assert refusing(pixels_HW, laterality, view_position) == [], case
                inverted_HW = (4095 - pixels_HW).astype(np.uint16)
                assert refusing(inverted_HW, laterality, view_position) == ["X26"] or depth > 1.0, case


def test_a_real_breast_is_accepted_however_little_air_is_beside_it() -> None:
    """GE, R MLO, cut from 300 pixels beyond the nipple to 600 before it: accepted; inverted, refused for its polarity alone."""
    path = REFERENCE_DATA / "ge_ffdm" / "GH133.dcm"
    if not path.is_file():
        pytest.skip("reference data are absent: ge_ffdm/GH133.dcm (MAMMO_REFERENCE_DATA)")
    raw_HW = read_pixels(path)
    pixels_HW = np.where(raw_HW <= 30, np.uint16(0), raw_HW)
    nipple = int(np.flatnonzero((pixels_HW > 0).sum(axis=0) > 5)[0])
    for air in (300, 40, 5, 3, 1, 0, -20, -100, -300, -600):
        cut_HW = np.ascontiguousarray(pixels_HW[:, nipple - air :])
        assert refusing(cut_HW, Laterality.RIGHT, ViewPosition.MLO) == [], air
        assert refusing((4095 - cut_HW).astype(np.uint16), Laterality.RIGHT, ViewPosition.MLO) == ["X26"], air


def test_a_white_image_of_sixteen_bits_is_refused_for_its_polarity() -> None:
    """Its background is the largest number there is: nothing overflows."""
    pixels_HW = (65535 - breast().astype(np.uint32) * 16).astype(np.uint16)
    looked = look_at(pixels_HW, 16, laterality=Laterality.LEFT, view_position=ViewPosition.CC)
    assert looked.is_inverted and "X26" in [rule.rule_id for rule in broken_rules(looked)]


def test_a_small_breast_on_a_large_detector_is_a_breast(tmp_path: Path) -> None:
    """Two per cent of 24 x 30 cm are a breast, two per cent of a small crop are a speck: square centimetres tell."""
    pixels_HW = np.zeros((3000, 2400), np.uint16)
    pixels_HW[1300:1750, :330] = breast(shape_px=(450, 330)) + np.uint16(500)
    assert (pixels_HW > 0).mean() < 0.03
    _, gated = accept(write(tmp_path / "a.dcm", pixels_HW, edit=setting(ImagerPixelSpacing=["0.1", "0.1"])))
    assert "X28" not in gated.warnings


def test_a_narrow_crop_is_accepted(tmp_path: Path) -> None:
    """1914 x 780 pixels, as sets of crops have them."""
    record, _ = accept(write(tmp_path / "a.dcm", breast(shape_px=(1914, 780))))
    assert (record.rows_px, record.columns_px) == (1914, 780)


@pytest.mark.parametrize(("stored", "used"), [(16, 12), (16, 14), (16, 10), (14, 12), (12, 12)])
def test_unused_bits_do_not_turn_black_to_white(tmp_path: Path, stored: int, used: int) -> None:
    """MONOCHROME1 whose upper bits are never set is inverted within the bits that it uses."""
    dark_HW = breast() >> np.uint16(max(12 - used, 0))
    inverted_HW = (2**used - 1 - dark_HW).astype(np.uint16)

    def inverted(dataset: pydicom.Dataset) -> None:
        dataset.PixelData = inverted_HW.tobytes()

    edit = both(INVERSE, setting(BitsStored=stored, HighBit=stored - 1), inverted)
    _, gated = accept(write(tmp_path / "a.dcm", edit=edit))
    np.testing.assert_array_equal(gated.pixels_HW, dark_HW)


@pytest.mark.parametrize("turned", [1, 2, 3])
def test_an_image_that_lies_otherwise_without_a_word_is_refused(tmp_path: Path, turned: int) -> None:
    """PatientOrientation says upright, or nothing at all, and the pixels do not."""
    pixels_HW = np.ascontiguousarray(np.rot90(breast(), turned))
    assert rejection(write(tmp_path / "a.dcm", pixels_HW)).reason_codes == ("L04",)
    path = write(tmp_path / "b.dcm", pixels_HW, edit=setting(PatientOrientation=[]))
    assert rejection(path).reason_codes == ("L04",)
