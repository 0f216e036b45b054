"""Equation 1 by hand; its gradients through the network are in test_model.py."""

import math
from functools import partial

import pytest
import torch

from gmic_model.loss import birads_loss, gmic_loss, loss_form, masked_bce, saliency_penalty
from gmic_model.model import GMICConfig, GMICOutput
from schemas.config.training import LossForm
from schemas.errors import TrainingError


def output(*, y_loc: float = 0.25, y_mil: float = 0.5, y_fusion: float | None = None, images: int = 1) -> GMICOutput:
    """Two findings, a 2 x 2 map of 0.25, one patch."""
    full = torch.full((images, 2), y_loc), torch.full((images, 2), y_mil)
    fusion = None if y_fusion is None else torch.full((images, 2), y_fusion)
    return GMICOutput(
        y_loc_NC=full[0],
        y_mil_NC=full[1],
        y_NC=(full[0] + full[1]) / 2,
        y_fusion_NC=fusion,
        saliency_NCIJ=torch.full((images, 2, 2, 2), 0.25),
        corner_NK2=torch.zeros(images, 1, 2, dtype=torch.int64),
        attention_NK=torch.ones(images, 1),
    )


def test_equation_1_by_hand() -> None:
    """Absent, present: -ln .75 - ln .5 and -ln .25 - ln .5; each map's four cells have power .5 = .5, weight .1: .2 each."""
    loss = gmic_loss(output(), torch.tensor([[0, 1]]), saliency_weight=0.1, saliency_exponent=0.5)
    assert loss.item() == pytest.approx(-math.log(0.75 * 0.5 * 0.25 * 0.5) + 2 * 0.2, rel=1e-6)


def test_batch_is_averaged_and_findings_are_summed() -> None:
    """Twice the same image has the same loss."""
    one = gmic_loss(output(), torch.tensor([[0, 1]]), saliency_weight=0.1, saliency_exponent=1.0)
    two = gmic_loss(output(images=2), torch.tensor([[0, 1], [0, 1]]), saliency_weight=0.1, saliency_exponent=1.0)
    assert two.item() == pytest.approx(one.item(), rel=1e-6)


@pytest.mark.parametrize("unknown", [torch.tensor([[255, 1]], dtype=torch.uint8), torch.tensor([[math.nan, 1.0]])])
def test_unknown_label_is_not_read_as_absent(unknown: torch.Tensor) -> None:
    """255 and NaN: the benign terms vanish (ln .25 + ln .5 are left), the regulariser does not."""
    loss = gmic_loss(output(), unknown, saliency_weight=0.1, saliency_exponent=0.5)
    assert loss.item() == pytest.approx(-math.log(0.25 * 0.5) + 0.4, rel=1e-6)


def test_unknown_label_has_no_gradient() -> None:
    """And none of it is NaN."""
    y = torch.tensor([[0.3, 0.6]], requires_grad=True)
    torch.autograd.backward(masked_bce(y, torch.tensor([[math.nan, 1.0]])).sum())
    assert y.grad is not None
    assert y.grad[0, 0] == 0
    assert y.grad[0, 1].item() == pytest.approx(-1 / 0.6)


def test_journal_form_adds_the_fusion_prediction() -> None:
    """BCE(y_fusion) = -ln .9 - ln .1 for labels 0, 1 at .1."""
    loss = partial(gmic_loss, label_NC=torch.tensor([[0, 1]]), saliency_weight=0.1, saliency_exponent=1.0)
    paper = loss(output(y_fusion=0.1))
    journal = loss(output(y_fusion=0.1), form=LossForm.JOURNAL)
    assert (journal - paper).item() == pytest.approx(-math.log(0.9 * 0.1), rel=1e-5)
    with pytest.raises(TrainingError, match="fusion"):
        loss(output(), form=LossForm.JOURNAL)


def test_form_follows_the_network_unless_asked() -> None:
    """A fusion branch must be trained to be worth reading."""
    assert loss_form(GMICConfig()) is LossForm.PAPER
    assert loss_form(GMICConfig.released()) is LossForm.JOURNAL
    assert loss_form(GMICConfig.released(), LossForm.PAPER) is LossForm.PAPER


def test_labels_of_another_shape_are_refused() -> None:
    """(N, 1) would broadcast silently."""
    with pytest.raises(TrainingError, match="shape"):
        gmic_loss(output(), torch.tensor([[1]]), saliency_weight=0.0, saliency_exponent=1.0)


def test_saturated_predictions_have_finite_loss() -> None:
    """log(0) counts as -100, as in torch."""
    loss = masked_bce(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert loss.tolist() == [[100.0, 100.0]]


def test_diverged_prediction_is_seen() -> None:
    """NaN in, NaN out: neither an assertion nor a hidden number."""
    assert gmic_loss(output(y_loc=math.nan), torch.tensor([[0, 1]]), saliency_weight=0.0, saliency_exponent=1.0).isnan()


@pytest.mark.parametrize("exponent", [0.2, 1.0, 4.95])
def test_penalty_of_an_empty_map_has_a_finite_gradient(exponent: float) -> None:
    """Below exponent 1 the slope at 0 is unbounded; logits of -200 underflow to exactly 0."""
    logit = torch.full((1, 1, 2, 2), -200.0, requires_grad=True)
    torch.autograd.backward(saliency_penalty(torch.sigmoid(logit), exponent=exponent).sum())
    assert logit.grad is not None
    assert torch.isfinite(logit.grad).all()


def test_loss_is_fp32_under_autocast() -> None:
    """bf16 would round 0.7 to 0.69921875 and its logarithm with it."""
    exact = gmic_loss(output(y_loc=0.7), torch.tensor([[0, 1]]), saliency_weight=0.1, saliency_exponent=0.3)
    with torch.autocast("cpu", torch.bfloat16):
        loss = gmic_loss(output(y_loc=0.7), torch.tensor([[0, 1]]), saliency_weight=0.1, saliency_exponent=0.3)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, exact)


def test_birads_loss_skips_unknown_categories() -> None:
    """One known image of equal logits: ln 3. None known: 0."""
    logit = torch.zeros(2, 3)
    assert birads_loss(logit, torch.tensor([2, 255])).item() == pytest.approx(math.log(3))
    assert birads_loss(logit, torch.tensor([255, 255])).item() == 0.0
