"""Where the breast is in an image: the largest part that survives a deep erosion, its box and its extreme points.

Holds both ways of telling breast from background (``CropMode``). The flip, the window and the scaling are in ``preprocess``.

The released code erodes ``n`` times with a 3x3 cross, keeps the largest part and dilates ``n`` times. Here the erosion takes
log n steps (``erosion``), and the dilation is never done: its box and extreme points follow from the eroded outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.erosion import eroded_by_ball
from schemas.config.ingest import CropMode
from schemas.exam import Laterality

RIGHTMOST_IGNORES_TOP: Final = 3
"""The nipple column is searched below the top 1/3 of the crop, where an MLO view shows the armpit (GMIC.md 2.1)."""

_FRAME_UNIFORM_SHARE = 0.98  # of a line's pixels are one value, if the line belongs to a frame
_FRAME_TOLERANCE = 0.02  # of the brightest value: what still counts as one value
_FRAME_DARKEST = 0.25  # of the brightest value: darker lines are background, not frame
_FRAME_WIDEST_SHARE = 0.2  # of the image's side
_SAMPLE_ROWS = 400  # rows of the thinned image that background is judged on
_BORDER_SHARE = 0.06  # width of the border strips that background is judged on
_PADDING_SHARE = 0.3  # of the border strips: an exact value this frequent is the background's
_FOG_PERCENTILE = 90  # of the dark border pixels: fog that would join the breast to a film's edge lies below
_FLOOR_PERCENTILE = 10  # of the dark border pixels: what the background is at least
_NOISE_SIGMAS = 6.0
_MAD_TO_SIGMA = 1.4826
_THINNING = 8  # rows and columns skipped where only a bound is wanted
_HIGHEST_THRESHOLD = 0.05  # of the way from background to bright tissue: a threshold never eats into fat


@dataclass(frozen=True, slots=True, kw_only=True)
class Breast:
    """The breast in an image, in pixels of the image as given. Boxes are half open.

    Attributes:
        is_tissue_HW: uint8, 1 where a pixel is not background.
        box_px: (top, bottom, left, right) of the breast without any margin.
        bottom_columns_px: First and last breast column in the lowest breast row.
        row_reach_px: Per row of the box, the breast column nearest the nipple.
        area_px: Pixels of tissue in the box.
        inside_px: (top, bottom, left, right) of the image within a bright frame; the whole image if it has none.
        has_raised_background: True if the background is not 0.
        padding: The background's exact value, where the image was padded with one.
    """

    is_tissue_HW: NDArray[np.uint8]
    box_px: tuple[int, int, int, int]
    bottom_columns_px: tuple[int, int]
    row_reach_px: NDArray[np.int64]
    area_px: int
    inside_px: tuple[int, int, int, int]
    has_raised_background: bool
    padding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueMask:
    """Tissue told from background; see ``Breast`` for the attributes."""

    is_tissue_HW: NDArray[np.uint8]
    inside_px: tuple[int, int, int, int]
    has_raised_background: bool
    padding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Background:
    """What the borders away from the chest wall show.

    Attributes:
        padding: Their exact value if one is frequent, else 0.
        floor: What the rest is at least, but for a few pixels.
        threshold: What noise and fog stay below.
    """

    padding: int
    floor: int
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A connected part by its area and the points (column, row) of its outlines."""

    area_px: int
    outline_L2: NDArray[np.int32]

    @property
    def first_pixel(self) -> tuple[int, int]:
        """Row and column, both negated, of the first pixel in reading order: larger is earlier."""
        rows = self.outline_L2[:, 1]
        return -int(rows.min()), -int(self.outline_L2[rows == rows.min(), 0].min())


def find_breast(
    pixels_HW: NDArray[np.uint16], laterality: Laterality, *, crop_mode: CropMode, erosion_iterations: int
) -> Breast | None:
    """Find the breast.

    Args:
        pixels_HW: The image; chest wall at column 0 for a left breast, at the last column for a right one.
        laterality: Side of the breast.
        crop_mode: RELEASED takes every pixel above 0 for breast; ROBUST judges the background first.
        erosion_iterations: Cross-shaped erosions before the largest part is taken (100 in the release).

    Returns:
        The breast, or None if nothing survives the erosion (GMIC.md 2.1, "Failure").
    """
    mask = released_mask(pixels_HW) if crop_mode is CropMode.RELEASED else robust_mask(pixels_HW, laterality)
    core = _largest_core(mask.is_tissue_HW, erosion_iterations)
    if core is None:
        return None
    columns, rows = core
    n = erosion_iterations
    top, bottom = int(rows.min()) - n, int(rows.max()) + 1 + n
    left, right = int(columns.min()) - n, int(columns.max()) + 1 + n
    lowest = columns[rows == rows.max()]
    return Breast(
        is_tissue_HW=mask.is_tissue_HW,
        box_px=(top, bottom, left, right),
        bottom_columns_px=(int(lowest.min()), int(lowest.max())),
        row_reach_px=_row_reach(columns, rows, n, points_right=laterality is Laterality.LEFT),
        area_px=int(cv2.countNonZero(mask.is_tissue_HW[top:bottom, left:right])),
        inside_px=mask.inside_px,
        has_raised_background=mask.has_raised_background,
        padding=mask.padding,
    )


def released_mask(pixels_HW: NDArray[np.uint16]) -> TissueMask:
    """Every pixel above 0 is tissue, as in the release."""
    inside_px = (0, pixels_HW.shape[0], 0, pixels_HW.shape[1])
    return TissueMask(is_tissue_HW=(pixels_HW > 0).view(np.uint8), inside_px=inside_px, has_raised_background=False, padding=0)


def robust_mask(pixels_HW: NDArray[np.uint16], laterality: Laterality) -> TissueMask:
    """Tell tissue from background without relying on a background of 0.

    A uniform bright frame is taken off; the frequent exact value along the borders away from the chest wall is background
    whatever it is (pixel padding); what is left of those borders gives the noise level. Where that is 0 the result is
    ``pixels > 0`` inside the frame, with holes filled: a dead pixel in the breast is no background. Burned-in marks stay in the
    mask: they do not survive the erosion, or are not the largest part.
    """
    top, bottom, left, right = inside_px = _inside_frame(pixels_HW)
    inner_HW = pixels_HW[top:bottom, left:right]
    background = _judge_background(inner_HW, laterality)
    is_tissue_HW = (inner_HW > background.threshold).view(np.uint8)
    if background.padding > background.threshold:
        is_tissue_HW &= (inner_HW != background.padding).view(np.uint8)
    if max(background.threshold, background.padding) > 0:
        # Single noisy pixels would join the outline, and slow down the next step.
        is_tissue_HW = np.asarray(cv2.morphologyEx(is_tissue_HW, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    _fill_holes(is_tissue_HW)
    if is_tissue_HW.shape != pixels_HW.shape:
        frame_px = (top, pixels_HW.shape[0] - bottom, left, pixels_HW.shape[1] - right)
        is_tissue_HW = np.asarray(cv2.copyMakeBorder(is_tissue_HW, *frame_px, cv2.BORDER_CONSTANT, value=0), np.uint8)
    has_raised_background = max(background.floor, background.padding) > 0
    return TissueMask(
        is_tissue_HW=is_tissue_HW,
        inside_px=inside_px,
        has_raised_background=has_raised_background,
        padding=background.padding,
    )


def _fill_holes(mask_HW: NDArray[np.uint8]) -> None:
    """Sets to 1 what ones enclose, be it that they touch by a corner."""
    outlines, tree = cv2.findContours(mask_HW, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return
    parents = tree[0][:, 3]
    # Holes in the outermost parts only: drawn together, one within another would be left empty.
    is_hole = (parents >= 0) & (parents[parents] < 0)
    holes = [outlines[int(index)] for index in np.flatnonzero(is_hole)]
    cv2.drawContours(mask_HW, holes, -1, 1, cv2.FILLED)  # a hole's outline runs over the ones around it


def _inside_frame(pixels_HW: NDArray[np.uint16]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the image within a uniform bright frame, the whole image if it has none.

    White lines that have more white behind them are no frame but a white background.
    """
    brightest = float(pixels_HW[::4, ::4].max())
    edges = [_frame_width(lines, brightest) for lines in (pixels_HW, pixels_HW[::-1], pixels_HW.T, pixels_HW.T[::-1])]
    top, bottom, left, right = edges[0], pixels_HW.shape[0] - edges[1], edges[2], pixels_HW.shape[1] - edges[3]
    inner_HW = pixels_HW[top:bottom, left:right]
    if inner_HW.size:
        behind = np.concatenate([inner_HW[0], inner_HW[-1], inner_HW[:, 0], inner_HW[:, -1]])
        if not any(edges) or np.mean(behind >= (1.0 - _FRAME_TOLERANCE) * brightest) < _PADDING_SHARE:
            return top, bottom, left, right
    return 0, pixels_HW.shape[0], 0, pixels_HW.shape[1]


def _frame_width(lines: NDArray[np.uint16], brightest: float) -> int:
    """Number of first lines that are uniformly bright. As many as may be looked at: bright background, not a frame, so 0."""
    widest = int(len(lines) * _FRAME_WIDEST_SHARE)
    for width in range(widest):
        line = lines[width]
        if line[len(line) // 2] < _FRAME_DARKEST * brightest and line[len(line) // 4] < _FRAME_DARKEST * brightest:
            return width  # the usual end, without sorting the line
        value = float(np.median(line))
        is_uniform = np.mean(np.abs(line - value) <= _FRAME_TOLERANCE * brightest) >= _FRAME_UNIFORM_SHARE
        if value < _FRAME_DARKEST * brightest or not is_uniform:
            return width
    return 0


def _judge_background(pixels_HW: NDArray[np.uint16], laterality: Laterality) -> _Background:
    step = max(1, pixels_HW.shape[0] // _SAMPLE_ROWS)
    sample_HW = np.ascontiguousarray(pixels_HW[::step, ::step])
    if laterality is Laterality.RIGHT:
        sample_HW = sample_HW[:, ::-1]
    rows, columns = (max(1, round(_BORDER_SHARE * side)) for side in sample_HW.shape)
    half = sample_HW.shape[1] // 2
    strips = np.concatenate(
        [sample_HW[:, -columns:].ravel(), sample_HW[:rows, half:-columns].ravel(), sample_HW[-rows:, half:-columns].ravel()]
    )
    counts = np.bincount(strips)
    padding = int(counts.argmax()) if counts.max() >= _PADDING_SHARE * strips.size else 0
    others_HW = np.where(sample_HW == padding, np.uint16(0), sample_HW)
    strips = np.where(strips == padding, np.uint16(0), strips)
    dark = strips[strips <= _otsu(others_HW)].astype(np.float64)
    floor, middle, fog = np.percentile(dark, (_FLOOR_PERCENTILE, 50, _FOG_PERCENTILE)) if dark.size else np.zeros(3)
    noise = middle + _NOISE_SIGMAS * _MAD_TO_SIGMA * (np.median(np.abs(dark - middle)) if dark.size else 0.0)
    bright = float(np.percentile(others_HW[::2, ::2], 99))
    highest = middle + _HIGHEST_THRESHOLD * max(0.0, bright - middle)
    return _Background(padding=padding, floor=int(floor), threshold=int(min(max(fog, noise), highest)))


def _otsu(pixels_HW: NDArray[np.uint16]) -> float:
    """Otsu's threshold on the square root of the values, where dark fat and dense tissue are nearer to each other."""
    root_HW = np.sqrt(pixels_HW.astype(np.float32))
    highest = float(root_HW.max())
    if highest == 0.0:
        return 0.0
    level, _ = cv2.threshold((root_HW * (255.0 / highest)).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float((level * highest / 255.0) ** 2)


def _largest_core(is_tissue_HW: NDArray[np.uint8], iterations: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Outline (columns, rows) of the largest 4-connected part that is more than ``iterations`` (L1) from any background."""
    box = _core_bounds(is_tissue_HW, iterations)
    if box is None:
        return None
    top, bottom, left, right = box
    core_HW = eroded_by_ball(is_tissue_HW[top:bottom, left:right], iterations)
    outlines, tree = cv2.findContours(core_HW, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    points = _largest_part_outline(
        core_HW, [np.asarray(outline[:, 0], np.int32) for outline in outlines], np.asarray(tree[0], np.int32)
    )
    return points[:, 0] + left, points[:, 1] + top


def _core_bounds(is_tissue_HW: NDArray[np.uint8], iterations: int) -> tuple[int, int, int, int] | None:
    """A box outside of which no pixel matters: any core is in it with its surroundings. Exact, and small on noisy film.

    A core pixel is more than ``iterations`` from every zero, so also from the zeros on every eighth row and column.
    """
    step = _THINNING
    thin_HW = cv2.copyMakeBorder(is_tissue_HW[::step, ::step], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # A pixel is at most 2 (step - 1) from the thinned one above and left of it.
    away = (iterations - 2 * (step - 1)) / step
    may_be_core_HW = (_distance_to_zero(thin_HW, int(away)) > away).view(np.uint8) if away > 0 else thin_HW
    x, y, width, height = cv2.boundingRect(may_be_core_HW)
    if away <= 0:
        x, y, width, height = 1, 1, thin_HW.shape[1] - 2, thin_HW.shape[0] - 2
    if width == 0:
        return None
    reach = iterations + 1
    top, left = max(0, (y - 1) * step - reach), max(0, (x - 1) * step - reach)
    bottom, right = (y - 1 + height) * step + reach, (x - 1 + width) * step + reach
    return top, min(bottom, is_tissue_HW.shape[0]), left, min(right, is_tissue_HW.shape[1])


def _distance_to_zero(mask_HW: cv2.typing.MatLike, needed: int) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Exact L1 distance to the nearest zero, as 8-bit numbers saturated at 255 if ``needed`` is below that."""
    kind = cv2.CV_8U if needed < 255 else cv2.CV_32F
    distance_HW = cv2.distanceTransform(mask_HW, cv2.DIST_L1, 3, dstType=kind)
    return np.asarray(distance_HW, np.uint8) if needed < 255 else np.asarray(distance_HW, np.float32)


def _largest_part_outline(
    core_HW: NDArray[np.uint8], outlines: list[NDArray[np.int32]], tree: NDArray[np.int32]
) -> NDArray[np.int64]:
    """(L, 2) outline points (column, row) of the largest 4-connected part; of equals the first in reading order.

    Outlines join pixels that touch only by a corner, scipy's labels do not: an outline with such a touch is flood-filled with 4
    neighbours to take it apart. The others' areas follow from their outlines alone.
    """
    parts: list[_Part] = []
    joined = [
        [outlines[index], *(outlines[hole] for hole in np.flatnonzero(tree[:, 3] == index))]
        for index in np.flatnonzero(tree[:, 3] < 0)
    ]
    for area, own in sorted(((_area(own), own) for own in joined), key=lambda pair: -pair[0]):
        if parts and area < max(part.area_px for part in parts):
            break
        points = np.concatenate(own)
        if any(_touches_diagonally(core_HW, outline) for outline in own):
            parts += _taken_apart(core_HW, points)
        else:
            parts.append(_Part(area_px=area, outline_L2=points))
    return max(parts, key=lambda part: (part.area_px, *part.first_pixel)).outline_L2.astype(np.int64)


def _area(outlines: list[NDArray[np.int32]]) -> int:
    """Pixels of an 8-connected part, from its outer outline and its holes' outlines, by Pick's theorem."""
    insides = [cv2.contourArea(outline[:, None]) for outline in outlines]
    steps = [len(outline) if len(outline) > 1 else 0 for outline in outlines]
    whole = insides[0] + steps[0] / 2 + 1
    # A hole's outline runs over the pixels around it: the hole is what lies strictly inside.
    return round(whole - sum(inside - step / 2 + 1 for inside, step in zip(insides[1:], steps[1:], strict=True)))


def _touches_diagonally(core_HW: NDArray[np.uint8], outline: NDArray[np.int32]) -> bool:
    """True if the outline passes between two pixels that touch only by a corner."""
    column, row = outline.T
    next_column, next_row = np.roll(column, -1), np.roll(row, -1)
    is_diagonal = (column != next_column) & (row != next_row)
    return bool(np.any(is_diagonal & (core_HW[row, next_column] == 0) & (core_HW[next_row, column] == 0)))


def _taken_apart(core_HW: NDArray[np.uint8], points: NDArray[np.int32]) -> list[_Part]:
    """The 4-connected parts of an 8-connected one."""
    parts: list[_Part] = []
    unfilled_HW = core_HW.copy()
    columns, rows = points.T
    while (is_left := unfilled_HW[rows, columns] == 1).any():
        seed = points[int(is_left.argmax())]
        area, *_ = cv2.floodFill(unfilled_HW, None, (int(seed[0]), int(seed[1])), 0, flags=4)
        own = points[is_left & (unfilled_HW[rows, columns] == 0)]
        parts.append(_Part(area_px=area, outline_L2=own))
    return parts


def _row_reach(columns: NDArray[np.int64], rows: NDArray[np.int64], n: int, *, points_right: bool) -> NDArray[np.int64]:
    """Per row of the dilated part, its column nearest the nipple."""
    sign = 1 if points_right else -1
    lowest_reach = -(2**40)
    reach = np.full(int(rows.max() - rows.min()) + 1, lowest_reach, np.int64)
    np.maximum.at(reach, rows - rows.min(), sign * columns)
    # An L1 ball reaches n - |row difference| columns, up to n rows away: the upper envelope of such tents.
    padded = np.pad(reach, 2 * n, constant_values=lowest_reach)
    tent = n - np.abs(np.arange(-n, n + 1))
    envelope = (np.lib.stride_tricks.sliding_window_view(padded, 2 * n + 1) + tent).max(axis=1)  # rows + 2 n
    return np.asarray(sign * envelope, np.int64)
