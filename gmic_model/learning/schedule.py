"""The learning rate over the epochs, and when a training ends: both follow from what the epochs so far say, so they resume."""

from __future__ import annotations

import math
from collections.abc import Sequence

from schemas.config.recipe import RecipeConfig


def step_factors(recipe: RecipeConfig, *, epoch: int, epochs: int, steps: int, was_best: Sequence[bool]) -> list[float]:
    """What each step of an epoch multiplies the learning rates by; warm-up comes on top.

    Args:
        recipe: The schedule.
        epoch: The epoch, from 0.
        epochs: Epochs of the whole training.
        steps: Steps of this epoch.
        was_best: Of each epoch before, whether it was the best so far.
    """
    if recipe.schedule == "cosine":
        return [_cosine((epoch + step / steps) / epochs, recipe.lowest_rate) for step in range(steps)]
    if recipe.schedule == "plateau":
        return [max(_plateau(recipe, was_best), recipe.lowest_rate)] * steps
    return [1.0] * steps


def is_over(recipe: RecipeConfig, was_best: Sequence[bool]) -> bool:
    """True where the config ends a training whose last epochs brought nothing better."""
    judged = _judged(recipe, was_best)
    if recipe.stop_after_epochs is None or len(judged) < recipe.stop_after_epochs:
        return False
    return not any(judged[-recipe.stop_after_epochs :])


def _cosine(progress: float, lowest: float) -> float:
    """Half a cosine from 1 to the lowest share (Loshchilov and Hutter, SGDR, 2017, equation 5, one cycle)."""
    return lowest + (1.0 - lowest) * (1.0 + math.cos(math.pi * progress)) / 2.0


def _judged(recipe: RecipeConfig, was_best: Sequence[bool]) -> Sequence[bool]:
    """Those since the first mean of as many epochs as choose: before it the best one was luck, and no wait for a better."""
    return was_best[recipe.best_of_epochs - 1 :]


def _plateau(recipe: RecipeConfig, was_best: Sequence[bool]) -> float:
    factor, waited = 1.0, 0
    for is_best in _judged(recipe, was_best):
        waited = 0 if is_best else waited + 1
        if waited == recipe.plateau_epochs:
            factor, waited = factor * recipe.plateau_factor, 0
    return factor
