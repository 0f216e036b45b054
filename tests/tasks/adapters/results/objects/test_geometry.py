"""Every object shows a mark of the source image in its place: on either side, mirrored, turned, cropped and scaled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from gmic_model.pixels.frames import corners_to_source
from gmic_model.pixels.orientation import UPRIGHT, Turn
from gmic_model.pixels.window import cut_window, window_placement
from gmic_model.preprocess import prepare_view
from mammo_tests.results import MAKER, WINDOW_PX, breast_px, read_header, view_result, write_view
from schemas.config.ingest import PreprocessConfig
from schemas.config.pacs import ResultKind
from schemas.exam import Box, Laterality, ViewPosition
from tasks.adapters.results.exam_result import Patch, ViewResult
from tasks.adapters.results.objects.result_objects import result_objects

BRIGHT = 4000
SHRUNK = PreprocessConfig(window_px=(160, 100), crop_buffer_px=8, erosion_iterations=3, oversize="shrink")
CUT = PreprocessConfig(window_px=WINDOW_PX, crop_buffer_px=8, erosion_iterations=3)
TURNS = (UPRIGHT, Turn(is_mirrored=True), Turn(quarter_turns=1), Turn(quarter_turns=2, is_mirrored=True), Turn(quarter_turns=3))


def marked_view(laterality: Laterality, turn: Turn, settings: PreprocessConfig) -> tuple[NDArray[np.uint16], Box, ViewResult]:
    """A source image with a bright block off its middle, where it lies, and a result whose saliency and patch are that block.

    The map is read off the very window that a network gets, so the way there is the one that images go.
    """
    upright_HW = breast_px(laterality).copy()
    rows, columns = slice(160, 190), slice(30, 70)
    columns = columns if laterality is Laterality.LEFT else slice(301 - columns.stop, 301 - columns.start)
    upright_HW[rows, columns] = BRIGHT
    source_HW = np.rot90(upright_HW[:, ::-1] if turn.is_mirrored else upright_HW, turn.quarter_turns)
    there = np.argwhere(source_HW == BRIGHT)
    (top, left), (bottom, right) = there.min(axis=0).tolist(), (there.max(axis=0) + 1).tolist()
    prepared = prepare_view(turn(np.ascontiguousarray(source_HW)), laterality, settings=settings)
    prepared = replace(prepared, geometry=turn.source_geometry(prepared.geometry))
    placement = window_placement(prepared.geometry)
    window_HW = cut_window(prepared.pixels_HW, placement, settings.window_px, interpolation=cv2.INTER_NEAREST_EXACT)
    hot_HW = window_HW >= 0.8 * BRIGHT
    seen = np.argwhere(hot_HW)
    corner, size = seen.min(axis=0), seen.max(axis=0) + 1 - seen.min(axis=0)
    box = corners_to_source(corner[None], (int(size[0]), int(size[1])), prepared.geometry)[0].tolist()
    view = replace(
        view_result(laterality, ViewPosition.CC, prepared),
        saliency_CIJ=np.stack([np.zeros(hot_HW.shape), hot_HW]).astype(np.float32),
        patches=(Patch(0.9, tuple(box)),),
    )
    return np.ascontiguousarray(source_HW), (top, bottom, left, right), view


def extent(mask_HW: NDArray[np.bool_]) -> Box:
    """The box around what is true."""
    there = np.argwhere(mask_HW)
    (top, left), (bottom, right) = there.min(axis=0).tolist(), (there.max(axis=0) + 1).tolist()
    return top, bottom, left, right


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: f"{turn.quarter_turns}{'m' if turn.is_mirrored else ''}")
@pytest.mark.parametrize("laterality", list(Laterality))
def test_a_mark_comes_back_in_its_place(tmp_path: Path, laterality: Laterality, turn: Turn) -> None:
    """Pixel by pixel in both segmentations, to the corner in the presentation state and both reports, to a pixel in the SC."""
    source_HW, box, view = marked_view(laterality, turn, CUT)
    header = read_header(write_view(tmp_path / "source.dcm", laterality, ViewPosition.CC))
    header.Rows, header.Columns = source_HW.shape
    kinds = [kind for kind in ResultKind if kind is not ResultKind.PANEL]
    made = {one.kind: one.dataset for one in result_objects([header], [view], MAKER, kinds=kinds, cad_at_least=0.1)}
    benign_HW, malignant_HW = made[ResultKind.SALIENCY].pixel_array
    assert not benign_HW.any()
    assert (malignant_HW == np.where(source_HW == BRIGHT, 255, 0)).all()
    for plane_HW in made[ResultKind.LEVELS].pixel_array:
        assert ((plane_HW == 1) == (source_HW == BRIGHT)).all()
    top, bottom, left, right = box
    corners = {(left, top), (right, top), (right, bottom), (left, bottom)}
    drawn = made[ResultKind.PRESENTATION].GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    assert points(drawn.GraphicData) == corners
    assert corners in [points(found) for found in outlines(made[ResultKind.MEASUREMENTS])]
    assert corners in [points(found) for found in outlines(made[ResultKind.CAD])]
    picture_HW3 = made[ResultKind.PICTURE].pixel_array.astype(int)
    red_HW = picture_HW3[..., 0] - picture_HW3[..., 2] > 60  # the heat, and the yellow outline around it
    assert red_HW.shape == source_HW.shape
    assert np.abs(np.subtract(extent(red_HW), box)).max() <= 1


@pytest.mark.parametrize("laterality", list(Laterality))
def test_a_breast_that_was_shrunk_comes_back_at_its_size(tmp_path: Path, laterality: Laterality) -> None:
    """The map of a smaller window lies over the source's own pixels, to one pixel of that window."""
    _, box, view = marked_view(laterality, UPRIGHT, SHRUNK)
    assert view.geometry.scale < 0.7
    header = read_header(write_view(tmp_path / "source.dcm", laterality, ViewPosition.CC))
    (made,) = result_objects([header], [view], MAKER, kinds=[ResultKind.SALIENCY], cad_at_least=0.5)
    found = extent(made.dataset.pixel_array[1] > 0)
    assert np.abs(np.subtract(found, box)).max() <= 1 / view.geometry.scale


def points(data: object) -> set[tuple[int, int]]:
    """(x, y) of a flat list."""
    flat = [round(float(one)) for one in data]  # type: ignore[attr-defined]
    return set(zip(flat[::2], flat[1::2], strict=True))


def outlines(item: pydicom.Dataset) -> list[list[float]]:
    """Every polyline of a report."""
    found = [list(item.GraphicData)] if item.get("GraphicType") == "POLYLINE" else []
    return found + [line for child in item.get("ContentSequence", ()) for line in outlines(child)]
