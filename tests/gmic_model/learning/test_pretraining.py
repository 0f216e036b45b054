"""Pre-training: what is hidden follows from the view alone, and a network that learns does better than who learnt nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.pretraining import hidden_batch, new_pretraining_learner, predict_hidden
from gmic_model.learning.steps import Part, train_steps
from schemas.config.training import PretrainConfig, PretrainTarget


def _batch(rows: list[int], *, epoch: int = 0) -> Batch:
    """Slopes in directions of their own: what is hidden follows from what is seen."""
    height, width = torch.meshgrid(torch.linspace(-1, 1, 192), torch.linspace(-1, 1, 128), indexing="ij")
    angles = [2.4 * row for row in rows]
    images = [1.5 * (np.cos(angle) * height + np.sin(angle) * width) for angle in angles]
    return Batch(torch.stack(images)[:, None], torch.full((len(rows), 1), 255), torch.tensor(rows), epoch)


def test_what_is_hidden_follows_from_seed_epoch_and_row() -> None:
    """In whatever batch, place and process a view comes: half of its cells; others in another epoch, of another row or seed."""
    together, alone = hidden_batch(_batch([3, 8, 5]), 1), hidden_batch(_batch([8]), 1)
    assert torch.equal(together.image_N1HW[1], alone.image_N1HW[0])
    assert together.is_asked_NIJ.sum(dim=(1, 2)).tolist() == [3, 3, 3]
    epochs = [hidden_batch(_batch([8], epoch=epoch), 1).is_asked_NIJ for epoch in range(6)]
    seeds = [hidden_batch(_batch([8]), seed).is_asked_NIJ for seed in range(6)]
    rows = hidden_batch(_batch(list(range(6))), 1).is_asked_NIJ
    for drawn in (epochs, seeds, list(rows)):
        assert len({tuple(one.flatten().tolist()) for one in drawn}) > 2


def test_hidden_tissue_is_learnt() -> None:
    """Thirty steps on slopes: the error is below two thirds of who says the mean of what is seen, and of where it began."""
    config = PretrainConfig(target=PretrainTarget.HIDDEN, device="cpu", learning_rate=2e-3)
    learner = new_pretraining_learner(config)

    def errors() -> list[float]:
        found = [values for _, values in predict_hidden(learner.network, [_batch(list(range(100, 108)))], seed=0)]
        return np.concatenate(found).mean(axis=0).tolist()  # type: ignore[no-any-return]

    parts = [Part(_batch(list(range(4 * step, 4 * step + 4)), epoch=step), 1.0, 4, True) for step in range(30)]
    began, _ = errors()
    assert len(list(train_steps(learner, parts, config))) == 30
    error, of_mean = errors()
    assert error < 0.67 * min(began, of_mean), (began, error, of_mean)


@pytest.mark.parametrize(("target", "groups"), [("birads", 3), ("assessment", 5), ("density", 4)])
def test_categories_have_an_output_each(target: str, groups: int) -> None:
    """The paper's three, the five of BI-RADS, the four densities."""
    learner = new_pretraining_learner(PretrainConfig(target=PretrainTarget(target), device="cpu"))
    assert learner.network.state_dict()["classifier.weight"].shape == (groups, 256)
