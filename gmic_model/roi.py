"""The detection module: where the patches are (Algorithm 1) and their pixels.

Everything runs on the device of its inputs, without a host synchronisation and without a loop over images; the one loop is
over K, because Algorithm 1 is greedy. There is no gradient through the choice of patches. A GPU is told the search's hundred
small kernels once for each shape, and then by one launch (``CapturedSearch``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache, partial

import torch
import torch.nn.functional as F  # noqa: N812  torch's own spelling
from torch import Tensor


def find_corners(saliency_NCIJ: Tensor, *, K: int, patch_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """Algorithm 1: the K most salient patches of each image, best first.

    Args:
        saliency_NCIJ: Saliency maps in [0, 1], any float type; read in fp32.
        K: Patches per image.
        patch_size: Rows and columns of a patch, in pixels.
        image_size: Rows and columns of the network input, in pixels.

    Returns:
        corner_NK2: int64 (row, column) of each patch's upper-left pixel, >= 0. At the paper's sizes a multiple of 64 and the
        patch lies inside the image; at other sizes rounding may let it overhang (``gather_patches`` defines the pixels).
        Where nothing is salient any more (constant maps, K beyond what the grid holds) the corner is (0, 0).
    """
    if can_capture(saliency_NCIJ):
        stream, shape = torch.cuda.current_stream(saliency_NCIJ.device), tuple(saliency_NCIJ.shape)
        return captured_search(stream, shape, saliency_NCIJ.dtype, K, patch_size, image_size)(saliency_NCIJ)
    return searched_corners(saliency_NCIJ, K=K, patch_size=patch_size, image_size=image_size)


def searched_corners(saliency_NCIJ: Tensor, *, K: int, patch_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """What ``find_corners`` finds, operation by operation."""
    grid_size = (saliency_NCIJ.shape[2], saliency_NCIJ.shape[3])
    window = window_cells(patch_size=patch_size, image_size=image_size, grid_size=grid_size)
    return cells_to_pixels(greedy_cells(saliency_NCIJ, K=K, window=window), grid_size=grid_size, image_size=image_size)


def can_capture(saliency_NCIJ: Tensor) -> bool:
    """A GPU's own tensor (not one that only stands for it), outside of what is compiled or captured as a whole."""
    if torch.compiler.is_compiling() or type(saliency_NCIJ) is not Tensor:
        return False
    return saliency_NCIJ.is_cuda and not torch.cuda.is_current_stream_capturing()


class CapturedSearch:
    """Algorithm 1 as a CUDA graph: the same kernels on the same numbers, launched at once.

    One by one the host needs longer to launch them than the device to run them, and small batches wait for it.

    Args:
        stream: Where it is used: one graph's memory must not be written by two streams at a time.
        shape: Of the saliency maps.
        dtype: Of the saliency maps.
        search: Corners of such maps, kernel by kernel.
    """

    def __init__(
        self, stream: torch.cuda.Stream, shape: tuple[int, ...], dtype: torch.dtype, search: Callable[[Tensor], Tensor]
    ) -> None:
        self._graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream(stream.device)  # type: ignore[no-untyped-call]  # the default stream cannot be captured
        # What inference mode makes cannot be written outside of it.
        with torch.inference_mode(False), torch.no_grad():
            self._given_NCIJ = torch.zeros(shape, dtype=dtype, device=stream.device)
        aside.wait_stream(stream)
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.stream(aside):
            search(self._given_NCIJ)  # kernels are loaded
            aside.synchronize()
            # Other threads pin memory and ask for events meanwhile: only this one must not.
            self._graph.capture_begin(capture_error_mode="thread_local")
            try:
                self._corner_NK2 = search(self._given_NCIJ)
            finally:
                self._graph.capture_end()
        stream.wait_stream(aside)

    def __call__(self, saliency_NCIJ: Tensor) -> Tensor:
        """Returns corner_NK2 of these maps, which later calls leave alone."""
        self._given_NCIJ.copy_(saliency_NCIJ.detach())
        self._graph.replay()
        return self._corner_NK2.clone()


@lru_cache(maxsize=64)
def captured_search(
    stream: torch.cuda.Stream,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    K: int,
    patch_size: tuple[int, int],
    image_size: tuple[int, int],
) -> Callable[[Tensor], Tensor]:
    """One for each stream and shape: tuning and an epoch's last batch have shapes of their own.

    Where a driver refuses to capture, the search goes on kernel by kernel, which is the same and slower.
    """
    search = partial(searched_corners, K=K, patch_size=patch_size, image_size=image_size)
    try:
        return CapturedSearch(stream, shape, dtype, search)
    except RuntimeError as refused:
        warnings.warn(f"The search for patches is not captured as a CUDA graph, and slower: {refused}", stacklevel=2)
        return search


def window_cells(*, patch_size: tuple[int, int], image_size: tuple[int, int], grid_size: tuple[int, int]) -> tuple[int, int]:
    """Line 6 of Algorithm 1: a patch in saliency cells, rounded half to even, at least one cell and at most the grid."""
    rows, columns = (
        min(max(round(patch * grid / image), 1), grid)
        for patch, image, grid in zip(patch_size, image_size, grid_size, strict=True)
    )
    return rows, columns


@torch.no_grad()
def greedy_cells(saliency_NCIJ: Tensor, *, K: int, window: tuple[int, int]) -> Tensor:
    """Lines 2 to 13 of Algorithm 1 on the saliency grid: take the best window, set it to zero, K times.

    Returns:
        cell_NK2: int64 (row, column) of each window's upper-left cell. Of equal windows the first in row-major order is taken.
        Windows may overlap in part: the reset to zero (line 12) is the only thing that keeps them apart.
    """
    window_rows, window_columns = window
    remaining_NIJ = normalised_saliency(saliency_NCIJ)
    rows_I1 = torch.arange(remaining_NIJ.shape[1], device=remaining_NIJ.device)[:, None]
    columns_J = torch.arange(remaining_NIJ.shape[2], device=remaining_NIJ.device)[None, :]
    cells = []
    for _ in range(K):
        score_NIJ = F.avg_pool2d(remaining_NIJ[:, None], window, stride=1)[:, 0]
        best_N = score_NIJ.flatten(1).argmax(dim=1)
        row_N11 = (best_N // score_NIJ.shape[2])[:, None, None]
        column_N11 = (best_N % score_NIJ.shape[2])[:, None, None]
        taken_NIJ = (
            (rows_I1 >= row_N11)
            & (rows_I1 < row_N11 + window_rows)
            & (columns_J >= column_N11)
            & (columns_J < column_N11 + window_columns)
        )
        remaining_NIJ = remaining_NIJ.masked_fill(taken_NIJ, 0.0)
        cells.append(torch.cat((row_N11, column_N11), dim=1)[:, :, 0])
    return torch.stack(cells, dim=1)  # (N, K, 2)


def normalised_saliency(saliency_NCIJ: Tensor) -> Tensor:
    """Lines 2 to 5 of Algorithm 1: min-max of each finding's map, summed over findings, in fp32.

    A constant map says nothing about where to look: it counts as all zeros (the formula would be 0/0).
    """
    saliency_NCIJ = saliency_NCIJ.detach().float()
    low_NC11 = saliency_NCIJ.amin(dim=(2, 3), keepdim=True)
    span_NC11 = saliency_NCIJ.amax(dim=(2, 3), keepdim=True) - low_NC11
    return ((saliency_NCIJ - low_NC11) / span_NC11.masked_fill(span_NC11 == 0, 1.0)).sum(dim=1)  # (N, I, J)


def cells_to_pixels(cell_NK2: Tensor, *, grid_size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """Line 10 of Algorithm 1: saliency cells to pixels, rounded half to even in fp64 as the released model does."""
    rows_px = cell_NK2[..., 0].double() / grid_size[0] * image_size[0]
    columns_px = cell_NK2[..., 1].double() / grid_size[1] * image_size[1]
    return torch.stack((rows_px, columns_px), dim=-1).round().long()


def random_corners(
    images: int,
    *,
    K: int,
    patch_size: tuple[int, int],
    image_size: tuple[int, int],
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Patches of GMIC-random (section 3.2): uniform over all positions inside the image, independent, with replacement.

    Args:
        images: N.
        K: Patches per image.
        patch_size: Rows and columns of a patch, in pixels.
        image_size: Rows and columns of the network input, in pixels.
        device: Where the corners are drawn.
        generator: Source of the draws, on ``device``; None = torch's default generator, which ``torch.manual_seed`` sets.

    Returns:
        corner_NK2: int64; 0 along an axis on which the patch is not smaller than the image.
    """
    return torch.stack(
        [
            torch.randint(0, max(image - patch, 0) + 1, (images, K), device=device, generator=generator)
            for patch, image in zip(patch_size, image_size, strict=True)
        ],
        dim=-1,
    )


def gather_patches(image_N1HW: Tensor, corner_NK2: Tensor, *, patch_size: tuple[int, int]) -> Tensor:
    """The pixels of each patch.

    A patch that overhangs the image keeps the part inside, moved to its *bottom-right* corner, and is filled with the
    minimum of the whole image elsewhere: as the released model does, whichever side overhangs.

    Its kernels are launched one by one, also on a GPU. A CUDA graph reads from one address: to be part of the search's it would
    need a copy of every batch of images in memory that each shape's graph keeps, eleven megabytes an image in bf16, written and
    read once more; and all of the gather is 2.3 % of a pass of 16 images (benchmarks/notes/network.md). There is a gradient to
    the image, which nothing of ours asks: patches are cut from the network's input.

    Args:
        image_N1HW: Network input.
        corner_NK2: Upper-left corners in pixels; fractions are rounded half to even.
        patch_size: P, Q in pixels.

    Returns:
        patch_NK1PQ of the image's type.
    """
    images, _, height, width = image_N1HW.shape
    row_NKP, row_inside_NKP = _source_index(corner_NK2[..., 0], patch_size[0], height)
    column_NKQ, column_inside_NKQ = _source_index(corner_NK2[..., 1], patch_size[1], width)
    image_N111 = torch.arange(images, device=image_N1HW.device)[:, None, None, None]
    patch_NKPQ = image_N1HW[:, 0][image_N111, row_NKP[..., :, None], column_NKQ[..., None, :]]
    inside_NKPQ = row_inside_NKP[..., :, None] & column_inside_NKQ[..., None, :]
    fill_N111 = image_N1HW.amin(dim=(1, 2, 3))[:, None, None, None]
    return torch.where(inside_NKPQ, patch_NKPQ, fill_N111)[:, :, None]  # (N, K, 1, P, Q)


def _source_index(corner_NK: Tensor, patch: int, image: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the image index of each patch pixel, and whether it lies inside the image."""
    first_NK1 = corner_NK.round().long()[..., None] if corner_NK.is_floating_point() else corner_NK.long()[..., None]
    end_NK1 = (first_NK1 + patch).clamp(0, image)
    index_NKP = end_NK1 - patch + torch.arange(patch, device=corner_NK.device)
    return index_NKP.clamp(0, image - 1), index_NKP >= first_NK1.clamp(min=0)
