"""Algorithm 1 and the patch gather, against the released model's numbers and by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gmic_model.roi import (
    can_capture,
    captured_search,
    cells_to_pixels,
    find_corners,
    gather_patches,
    greedy_cells,
    random_corners,
    searched_corners,
    window_cells,
)


@pytest.fixture(scope="module")
def units(parity_dir: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Configurations and arrays of the recorded units."""
    with np.load(parity_dir / "units.npz") as arrays:
        return json.loads((parity_dir / "units.json").read_text()), dict(arrays)


@pytest.mark.parametrize("case", [f"roi{number}" for number in range(5)])
def test_windows_and_corners_equal_the_released_models(units: tuple[dict[str, Any], dict[str, np.ndarray]], case: str) -> None:
    """Five sizes x three maps: cells and pixels are the same integers."""
    facts, arrays = units[0][case], units[1]
    saliency = torch.from_numpy(arrays[f"{case}_saliency"])
    image_size, patch_size, grid_size = tuple(facts["HW"]), tuple(facts["crop"]), tuple(facts["cam"])
    window = window_cells(patch_size=patch_size, image_size=image_size, grid_size=grid_size)
    assert window == tuple(facts["window"])
    cells = greedy_cells(saliency, K=facts["K"], window=window)
    np.testing.assert_array_equal(cells.numpy(), arrays[f"{case}_cells"])
    corners = find_corners(saliency, K=facts["K"], patch_size=patch_size, image_size=image_size)
    np.testing.assert_array_equal(corners.numpy(), arrays[f"{case}_locations"])


def test_patches_at_the_edge_equal_the_released_models(units: tuple[dict[str, Any], dict[str, np.ndarray]]) -> None:
    """Seven 8 x 8 patches of a 20 x 16 image, overhanging and fractional corners among them, in one call."""
    facts, arrays = units
    image = torch.from_numpy(arrays["edgecrop_image"])[None, None]
    patches = gather_patches(image, torch.tensor(facts["edgecrop"], dtype=torch.float64)[None], patch_size=(8, 8))
    for number in range(7):
        np.testing.assert_array_equal(patches[0, number, 0].numpy(), arrays[f"edgecrop{number}"])


def test_each_image_has_its_own_patches() -> None:
    """Pixel values name their image and place: image 1, corner (2, 3) starts at 1000 + 2 * 10 + 3."""
    image = torch.arange(80.0).reshape(1, 1, 8, 10) + torch.tensor([0.0, 1000.0])[:, None, None, None]
    patches = gather_patches(image, torch.tensor([[[0, 0], [1, 1]], [[2, 3], [5, 7]]]), patch_size=(3, 3))
    assert patches.shape == (2, 2, 1, 3, 3)
    assert patches[:, :, 0, 0, 0].tolist() == [[0.0, 11.0], [1023.0, 1057.0]]
    assert patches[1, 0, 0].tolist() == [[1023, 1024, 1025], [1033, 1034, 1035], [1043, 1044, 1045]]


def test_patch_larger_than_image_holds_it_bottom_right() -> None:
    """A 2 x 2 image in a 3 x 4 patch: one row above and two columns left of it hold the image's minimum."""
    image = torch.tensor([[5.0, 6.0], [7.0, 8.0]])[None, None]
    corner = find_corners(torch.rand(1, 2, 1, 1), K=1, patch_size=(3, 4), image_size=(2, 2))
    assert corner.tolist() == [[[0, 0]]]
    patch = gather_patches(image, corner, patch_size=(3, 4))
    assert patch[0, 0, 0].tolist() == [[5, 5, 5, 5], [5, 5, 5, 6], [5, 5, 7, 8]]


def test_constant_map_does_not_hide_the_other_finding() -> None:
    """The released model gives (0, 0) for all patches here (0/0); the constant map simply does not take part."""
    saliency = torch.full((1, 2, 4, 4), 0.5)
    saliency[0, 1, 2, 3] = 0.9
    assert greedy_cells(saliency, K=2, window=(1, 1)).tolist() == [[[2, 3], [0, 0]]]


def test_nothing_salient_gives_the_origin() -> None:
    """All maps constant, and K above the number of windows: corners (0, 0), never an index outside the map."""
    assert greedy_cells(torch.zeros(1, 2, 3, 3), K=4, window=(2, 2)).tolist() == [[[0, 0]] * 4]
    ramp = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert greedy_cells(ramp, K=6, window=(1, 1)).tolist() == [[[1, 1], [1, 0], [0, 1], [0, 0], [0, 0], [0, 0]]]


def test_equal_windows_are_taken_in_row_major_order() -> None:
    """Two equal peaks: the upper one first, then the lower, whose window the first did not touch."""
    saliency = torch.zeros(1, 1, 4, 4)
    saliency[0, 0, 3, 0] = saliency[0, 0, 0, 3] = 1.0
    assert greedy_cells(saliency, K=2, window=(1, 1)).tolist() == [[[0, 3], [3, 0]]]


def test_window_is_rounded_half_to_even_and_kept_on_the_grid() -> None:
    """2.5 cells -> 2, 3.5 -> 4, 0.1 -> 1, more than the grid -> the grid."""
    assert window_cells(patch_size=(25, 35), image_size=(100, 100), grid_size=(10, 10)) == (2, 4)
    assert window_cells(patch_size=(1, 500), image_size=(100, 100), grid_size=(10, 10)) == (1, 10)


def test_cells_become_multiples_of_64_at_the_papers_size() -> None:
    """2944 / 46 = 1920 / 30 = 64; the last window starts at cell (42, 26), 256 pixels before the edges."""
    corners = cells_to_pixels(torch.tensor([[[42, 26], [1, 2]]]), grid_size=(46, 30), image_size=(2944, 1920))
    assert corners.tolist() == [[[2688, 1664], [64, 128]]]


def test_random_corners_are_reproducible_and_inside() -> None:
    """The same generator seed gives the same corners; all positions of a 4-pixel axis less a 3-pixel patch occur."""

    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return random_corners(200, K=3, patch_size=(3, 9), image_size=(4, 4), device=torch.device("cpu"), generator=generator)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert set(draw(1)[..., 0].flatten().tolist()) == {0, 1}
    assert set(draw(1)[..., 1].flatten().tolist()) == {0}


def test_random_corners_compile_as_one_graph() -> None:
    """No host synchronisation in the draw either."""
    compiled = torch.compile(random_corners, fullgraph=True, backend="eager")
    corners = compiled(2, K=3, patch_size=(3, 9), image_size=(40, 40), device=torch.device("cpu"))
    assert corners.shape == (2, 3, 2)


# ------------------------------------------------------------------------------------------------------ captured on a GPU

SIZES: dict[str, Any] = {"K": 6, "patch_size": (256, 256), "image_size": (2944, 1920)}


def test_only_a_gpus_own_numbers_are_captured() -> None:
    """Not a CPU's, not a tensor that stands for one of a GPU, which has no kernels."""
    assert not can_capture(torch.rand(1, 2, 46, 30))
    with FakeTensorMode():
        stands_for = torch.rand(1, 2, 46, 30, device="cuda")
        assert stands_for.is_cuda and not can_capture(stands_for)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a GPU captures")
def test_where_nothing_can_be_captured_the_search_goes_on() -> None:
    """It says so and finds the same."""
    saliency = torch.rand(3, 2, 46, 30)
    with pytest.warns(UserWarning, match="not captured"):
        search = captured_search(None, tuple(saliency.shape), saliency.dtype, *SIZES.values())  # type: ignore[arg-type]
    assert torch.equal(search(saliency), searched_corners(saliency, **SIZES))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_at_once_what_it_finds_kernel_by_kernel() -> None:
    """Maps of two shapes in turn, in inference mode too; what was found before stays as it was."""
    maps = [torch.rand(images, 2, 46, 30, device="cuda") for images in (1, 4) * 5]
    with torch.inference_mode():
        found = [find_corners(saliency, **SIZES) for saliency in maps]
    found += [find_corners(saliency, **SIZES) for saliency in maps]
    for corner, saliency in zip(found, maps * 2, strict=True):
        assert can_capture(saliency) and torch.equal(corner, searched_corners(saliency, **SIZES))
