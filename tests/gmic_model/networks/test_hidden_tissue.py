"""Hidden cells are gone from the image and asked for; background is not; nothing that is seen counts."""

from __future__ import annotations

import pytest
import torch

from gmic_model.networks.hidden_tissue import HiddenTissue, cells_of, hidden_errors, hide, mean_of_seen


def test_only_hidden_tissue_is_asked_for() -> None:
    """Three by two cells, the right column background: of three hidden cells the two of tissue count, and nothing else."""
    image = torch.full((1, 1, 192, 128), -1.0)
    image[..., :64] = torch.arange(192.0)[:, None] / 64  # the three cells of the left column have means 0.5, 1.5, 2.5
    is_hidden = torch.tensor([[[True, True], [False, False], [True, False]]])
    hidden = hide(image, is_hidden)
    assert cells_of(image) == (3, 2) and hidden.point_NQIJ.shape == (1, 64, 3, 2)
    assert hidden.is_asked_NIJ.tolist() == [[[True, False], [False, False], [True, False]]]
    assert hidden.is_seen_NIJ.tolist() == [[[False, False], [True, False], [False, False]]]
    assert not hidden.image_N1HW[0, 0, :64].any() and torch.equal(hidden.image_N1HW[0, 0, 64:128], image[0, 0, 64:128])
    told = hidden.point_NQIJ.clone()
    told[:, :, 1] = told[:, :, :, 1] = 1e6  # what is seen or background may be told as anything
    assert hidden_errors(told, hidden).tolist() == [0.0]
    told[:, :, 0, 0] += 2.0  # one of the two cells that are asked, by 2 everywhere
    assert hidden_errors(told, hidden).item() == pytest.approx(2.0)
    seen = image[0, 0, 64:128, :64].mean().item()
    assert mean_of_seen(hidden).unique().tolist() == pytest.approx([seen])


def test_a_view_without_hidden_tissue_has_no_error() -> None:
    """Nothing is asked, nothing is divided by zero, and nothing is learnt."""
    hidden = hide(torch.zeros(2, 1, 192, 128), torch.ones((2, 3, 2), dtype=torch.bool))
    told = torch.ones_like(hidden.point_NQIJ).requires_grad_()
    errors = hidden_errors(told, hidden)
    errors.mean().backward()
    assert errors.tolist() == [0.0, 0.0] and told.grad is not None and not told.grad.any()


def test_every_cell_has_its_points() -> None:
    """At any size of an image the network tells as many points as are asked."""
    network = HiddenTissue().eval()
    for shape in ((1, 1, 192, 128), (2, 1, 150, 210)):
        image = torch.rand(shape)
        hidden = hide(image, torch.zeros((shape[0], *cells_of(image)), dtype=torch.bool))
        with torch.inference_mode():
            assert network(hidden.image_N1HW).shape == hidden.point_NQIJ.shape
