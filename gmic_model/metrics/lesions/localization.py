"""Where saliency points: continuous F1 against lesion masks, the pointing game, lesions reached by patches (paper 3.3).

Arrays in, numbers out. Axes: ``H W`` mask pixels, ``I J`` saliency grid, ``K`` patches. Saliency and mask must be in the same
frame (both the network window's, or both the source image's); ``saliency.py`` maps between frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import MammoError


class ContinuousF1(NamedTuple):
    """The paper's localisation metrics of one image and finding, each in [0, 1]."""

    f1: float
    precision: float
    recall: float


class LesionCount(NamedTuple):
    """Lesions of one mask, and how many of them a patch reaches."""

    reached: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalizationMean:
    """Metrics averaged over images with a mask; None = no image has one."""

    images: int
    f1: float | None
    precision: float | None
    recall: float | None


def continuous_f1(
    saliency_IJ: NDArray[np.floating], mask_HW: NDArray[np.generic], *, lesion_px: int | None = None
) -> ContinuousF1:
    """Continuous precision ``sum_M A / sum A``, recall ``sum_M A / |M|`` and their harmonic mean (paper 3.1).

    The saliency map counts as if upsampled by nearest neighbour to the mask's resolution (paper 3.3), without making that
    array: a cell's value times its pixels, and times its mask pixels. A map of zeros marks nothing: all three are 0.

    Args:
        saliency_IJ: One finding's map in [0, 1]; may already have the mask's resolution.
        mask_HW: Nonzero where the finding is.
        lesion_px: |M|, with the pixels that the window does not hold: they were there to be found, and are missed; None = all
            of them are in the mask.

    Raises:
        MammoError: There is no lesion (recall is not defined), or coarser than the map.
    """
    inside_IJ = _mask_pixels_per_cell(mask_HW, saliency_IJ.shape)
    whole_px = int(inside_IJ.sum()) if lesion_px is None else lesion_px
    if whole_px == 0:
        raise MammoError(
            "Localisation is measured against an empty mask",
            expected="a mask with at least one lesion pixel",
            got=f"a mask of shape {mask_HW.shape} without any",
            remedy="average over the images that have a mask of this finding, as the paper does",
        )
    pixels_I, pixels_J = (
        np.bincount(_cell_of_pixel(n_px, n)) for n_px, n in zip(mask_HW.shape, saliency_IJ.shape, strict=True)
    )
    saliency = saliency_IJ.astype(np.float64)
    total = float(pixels_I @ saliency @ pixels_J)
    inside = float((saliency * inside_IJ).sum())
    precision = inside / total if total > 0.0 else 0.0
    recall = inside / whole_px
    f1 = 2.0 * precision * recall / (precision + recall) if inside > 0.0 else 0.0
    return ContinuousF1(f1=f1, precision=precision, recall=recall)


def mean_localization(image_metrics: Iterable[ContinuousF1]) -> LocalizationMean:
    """Each metric's mean over images: F1 is averaged, not computed from the mean precision and recall (paper 3.1)."""
    metrics = list(image_metrics)
    if not metrics:
        return LocalizationMean(images=0, f1=None, precision=None, recall=None)
    f1, precision, recall = (float(np.mean(column)) for column in zip(*metrics, strict=True))
    return LocalizationMean(images=len(metrics), f1=f1, precision=precision, recall=recall)


def is_pointing_at_lesion(saliency_IJ: NDArray[np.floating], mask_HW: NDArray[np.generic]) -> bool:
    """The pointing game: True if the cell of the largest saliency (the first, on ties) holds a lesion pixel.

    A cell, not a pixel, is the finest the map can point at: lesions smaller than a cell count as hit within it.

    Raises:
        MammoError: The mask is coarser than the map.
    """
    inside_IJ = _mask_pixels_per_cell(mask_HW, saliency_IJ.shape)
    return bool(inside_IJ.ravel()[int(np.argmax(saliency_IJ))] > 0)


def lesions_reached(
    corner_K2: NDArray[np.generic],
    patch_px: tuple[int, int],
    mask_HW: NDArray[np.generic],
    *,
    covered_fraction: float = 0.5,
    size_P: NDArray[np.int64] | None = None,
) -> LesionCount:
    """How many lesions (8-connected parts of the mask) have at least ``covered_fraction`` of their pixels in one patch.

    A lesion larger than a patch counts as reached when it fills that fraction of the patch instead: otherwise no patch
    could ever reach a large mass.

    Args:
        corner_K2: Upper-left (row, column) of each patch in mask pixels; parts outside the mask are ignored.
        patch_px: Patch height and width.
        mask_HW: Nonzero where the finding is.
        covered_fraction: In (0, 1].
        size_P: Pixels of each lesion with those that the mask does not hold; then ``mask_HW`` tells lesions apart, by 1 more
            than their index. None = the mask holds all of them whole.
    """
    if size_P is None:
        count, part_HW = cv2.connectedComponents((np.asarray(mask_HW) != 0).astype(np.uint8), connectivity=8)
        size_P = np.bincount(part_HW.ravel(), minlength=count)[1:]
    else:
        count, part_HW = len(size_P) + 1, np.asarray(mask_HW, np.int32)
    best_P = np.zeros(count - 1, dtype=np.int64)
    for row, column in np.rint(np.asarray(corner_K2, dtype=np.float64)).astype(int):
        patch = part_HW[max(row, 0) : max(row + patch_px[0], 0), max(column, 0) : max(column + patch_px[1], 0)]
        best_P = np.maximum(best_P, np.bincount(patch.ravel(), minlength=count)[1:])
    needed_P = covered_fraction * np.minimum(size_P, patch_px[0] * patch_px[1])
    return LesionCount(reached=int((best_P >= needed_P).sum()), total=count - 1)


class ChanceLocalization(NamedTuple):
    """What a map that knows nothing of the image would have."""

    f1: float
    pointing: float


def chance_localization(
    breast_HW: NDArray[np.generic], mask_HW: NDArray[np.generic], grid: tuple[int, int], *, lesion_px: int | None = None
) -> ChanceLocalization:
    """F1 of a map that is 1 on the whole breast, and how often a peak anywhere on the breast hits a cell with a lesion.

    No map of values up to 1 that was moved about the breast at random has a larger F1 on average: precision is then the
    lesion's share of the breast, recall the map's mean, and the harmonic mean is concave.

    Args:
        breast_HW: Nonzero on the breast, in the frame of the mask.
        mask_HW: Nonzero where the finding is; counts as breast.
        grid: (I, J) of the saliency maps.
        lesion_px: As in ``continuous_f1``.

    Raises:
        MammoError: The mask is coarser than the map.
    """
    is_lesion_HW = np.asarray(mask_HW) != 0
    is_breast_HW = (np.asarray(breast_HW) != 0) | is_lesion_HW
    lesion_IJ, breast_IJ = (_mask_pixels_per_cell(one, grid) for one in (is_lesion_HW, is_breast_HW))
    inside, breast_px = int(lesion_IJ.sum()), int(breast_IJ.sum())
    if not inside:
        return ChanceLocalization(f1=0.0, pointing=0.0)
    precision, recall = inside / breast_px, inside / (inside if lesion_px is None else lesion_px)
    return ChanceLocalization(
        f1=2.0 * precision * recall / (precision + recall),
        pointing=float((lesion_IJ > 0).sum() / (breast_IJ > 0).sum()),
    )


def cell_edges(pixels: int, cells: int) -> NDArray[np.intp]:
    """Where each cell's pixels begin, and where the last one's end.

    Raises:
        MammoError: There are more cells than pixels.
    """
    return np.searchsorted(_cell_of_pixel(pixels, cells), np.arange(cells + 1))


def _cell_of_pixel(pixels: int, cells: int) -> NDArray[np.intp]:
    """The cell that each pixel's centre lies in, in integers: floor((2p + 1) * cells / (2 * pixels))."""
    if cells > pixels:
        raise MammoError(
            "A saliency map is finer than the mask it is compared with",
            expected="a mask with at least one pixel per saliency cell",
            got=f"{cells} cells along {pixels} pixels",
            remedy="take the mask at the network window's resolution",
        )
    return (2 * np.arange(pixels) + 1) * cells // (2 * pixels)


def _mask_pixels_per_cell(mask_HW: NDArray[np.generic], grid: tuple[int, ...]) -> NDArray[np.int64]:
    is_lesion_HW = np.asarray(mask_HW) != 0
    starts_I, starts_J = (
        np.searchsorted(_cell_of_pixel(n_px, n), np.arange(n)) for n_px, n in zip(is_lesion_HW.shape, grid, strict=True)
    )
    inside_IW = np.add.reduceat(is_lesion_HW, starts_I, axis=0, dtype=np.int64)  # (I, W)
    inside_IJ: NDArray[np.int64] = np.add.reduceat(inside_IW, starts_J, axis=1)  # (I, J)
    return inside_IJ
