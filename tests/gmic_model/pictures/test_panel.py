"""What a reader sees in Figure 4: colours, sides, order."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gmic_model.pictures.panel import FINDING_COLORS, figure4_panel
from schemas.exam import Finding, Laterality, ViewPosition

ROWS, COLUMNS, GAP, TITLE = 300, 196, 8, 88  # 300 / 736 * 480 = 196 columns a view


def panel(laterality: Laterality = Laterality.LEFT, **changes: Any) -> NDArray[np.uint8]:
    """A panel of a bright block with one lesion and one salient cell per finding."""
    image = np.zeros((736, 480), np.float32)
    image[200:500, :300] = 1.0  # chest wall at column 0
    mask = np.zeros((736, 480), np.uint8)
    mask[100:200, 50:150], mask[500:600, 50:150] = 1, 2
    saliency = np.zeros((2, 12, 8), np.float32)
    saliency[0, 1, 0], saliency[1, 10, 0] = 1.0, 1.0
    given: dict[str, Any] = {
        "image_HW": image, "saliency_CIJ": saliency, "corner_K2": np.array([[0, 0], [300, 100], [700, 400]]),
        "attention_K": np.array([0.5, 0.3, 0.2]), "patch_size": (128, 128), "lesion_mask_HW": mask, "laterality": laterality,
        "view_position": ViewPosition.CC, "scores": {Finding.BENIGN: 0.25, Finding.MALIGNANT: 0.75}, "rows_px": ROWS,
    }  # fmt: skip
    return figure4_panel(**(given | changes))


def view(picture: NDArray[np.uint8], index: int) -> NDArray[np.int64]:
    """One of the whole-view pictures."""
    left = GAP + index * (COLUMNS + GAP)
    return picture[TITLE : TITLE + ROWS, left : left + COLUMNS].astype(np.int64)


def is_color(picture: NDArray[np.int64], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    """True where a pixel is nearly the colour."""
    return np.asarray(np.abs(picture - np.array(color)).sum(axis=2) < 60)


def test_lesions_are_outlined_in_their_colors() -> None:
    """Benign above is green, malignant below is red, on the input only."""
    shown = view(panel(), 0)
    green, red = (np.argwhere(is_color(shown, FINDING_COLORS[finding])) for finding in Finding)
    scale = ROWS / 736
    assert abs(green[:, 0].min() - 100 * scale) < 4 and abs(green[:, 0].max() - 200 * scale) < 4
    assert abs(red[:, 0].min() - 500 * scale) < 4 and abs(red[:, 1].max() - 150 * scale) < 4
    assert not is_color(view(panel(lesion_mask_HW=None), 0), FINDING_COLORS[Finding.BENIGN]).any()


def test_saliency_is_green_then_red_and_keeps_its_cells() -> None:
    """The third picture is benign, the fourth malignant; a cell of saliency 1 is its colour, all others are grey."""
    picture = panel()
    for index, (finding, row) in enumerate(zip(Finding, (1, 10), strict=True), start=2):
        colored = np.ptp(view(picture, index), axis=2) > 30
        places = np.argwhere(colored)
        np.testing.assert_allclose(places.min(axis=0), [row * ROWS / 12, 0], atol=1)
        np.testing.assert_allclose(places.max(axis=0) + 1, [(row + 1) * ROWS / 12, COLUMNS / 8], atol=1)
        assert is_color(view(picture, index)[colored][None], FINDING_COLORS[finding]).mean() > 0.9


def test_a_right_breast_points_left() -> None:
    """The R panel's views are the L panel's mirrored, but for the marker and the patch numbers."""
    left, right = panel(), panel(Laterality.RIGHT)
    for index in (2, 3):
        np.testing.assert_array_equal(view(left, index), view(right, index)[:, ::-1])
    bright = view(right, 2)[:, :, 0] > 200
    assert np.argwhere(bright)[:, 1].min() > COLUMNS * 0.3 and bright[ROWS // 2, -1]


@pytest.mark.parametrize("laterality", Laterality)
def test_the_marker_is_on_the_nipple_side(laterality: Laterality) -> None:
    """Side and view are written in the upper corner away from the chest wall."""
    corner = view(panel(laterality), 0)[:30]
    white = np.argwhere((corner > 240).all(axis=2))
    assert len(white) > 20
    assert (white[:, 1].mean() > COLUMNS / 2) == (laterality is Laterality.LEFT)


@pytest.mark.parametrize("patches", [0, 1, 6, 9])
def test_any_number_of_patches(patches: int) -> None:
    """K patches give K blue squares beside the views; none is an empty map."""
    generator = np.random.default_rng(0)
    picture = panel(corner_K2=generator.integers(0, 400, (patches, 2)), attention_K=np.full(patches, 1 / max(1, patches)))
    views_end = GAP + 4 * (COLUMNS + GAP)
    is_blue = is_color(picture[:, views_end:].astype(np.int64), (40, 110, 255))
    side = ROWS // 2 - TITLE // 2
    assert is_blue.sum() == patches * (4 * 2 * side - 4 * 4)  # a frame two pixels wide
    assert is_color(view(picture, 1), (40, 110, 255)).any() == (patches > 0)


def test_patches_are_numbered_as_on_the_exam_s_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1, on the map and above the patches: who goes from the page to the panel means the same patch."""
    written: list[str] = []
    monkeypatch.setattr(cv2, "putText", lambda _picture, text, *_args: written.append(text))
    panel(corner_K2=np.array([[10, 10], [200, 100]]), attention_K=np.array([0.7, 0.3]))
    assert [text for text in written if text.isdigit()] == ["1", "2"]
    assert {"1: attention 0.70", "2: attention 0.30"} <= set(written)


def test_uniform_image_and_full_size_are_drawn() -> None:
    """A blank input is black, not an error; the default height is 600 pixels."""
    picture = panel(
        image_HW=np.zeros((2944, 1920), np.float32), lesion_mask_HW=None, rows_px=600, labels={Finding.BENIGN: None}
    )
    assert picture.dtype == np.uint8 and picture.shape[0] == 600 + TITLE + GAP
