"""The rate over the epochs and the end of a training follow from what the epochs say, and from nothing else."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gmic_model.learning.schedule import is_over, step_factors
from schemas.config.recipe import RecipeConfig


def test_a_constant_rate_is_the_rate() -> None:
    """Off: every factor is exactly 1."""
    assert step_factors(RecipeConfig(), epoch=3, epochs=5, steps=4, was_best=[True] * 3) == [1.0] * 4


def test_cosine_falls_from_one_to_the_lowest_share() -> None:
    """Half way it is half way; each step is lower than the one before, over the border of epochs too."""
    recipe = RecipeConfig(schedule="cosine", lowest_rate=0.1)
    factors = [
        factor for epoch in range(4) for factor in step_factors(recipe, epoch=epoch, epochs=4, steps=5, was_best=[True] * epoch)
    ]
    assert factors[0] == 1.0 and factors[10] == pytest.approx(0.55)
    assert all(second < first for first, second in pairwise(factors))
    assert 0.1 < factors[-1] < 0.11


def test_plateau_falls_once_for_each_wait_and_not_below_the_lowest() -> None:
    """Two epochs without a better one, twice: 0.3 and 0.09; a better one begins the wait anew."""
    recipe = RecipeConfig(schedule="plateau", plateau_epochs=2, plateau_factor=0.3, lowest_rate=0.05)
    seen = [True, False, True, False, False, False, False, False, False]
    factors = [step_factors(recipe, epoch=epoch, epochs=20, steps=1, was_best=seen[:epoch])[0] for epoch in range(10)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 0.3, 0.3, 0.09, 0.09, 0.05])


def test_a_training_ends_when_the_last_epochs_brought_nothing() -> None:
    """After exactly as many as the config says; without it, never."""
    recipe = RecipeConfig(stop_after_epochs=2)
    told = [True, False, True, False, False]
    assert [is_over(recipe, told[:count]) for count in range(6)] == [False, False, False, False, False, True]
    assert not is_over(RecipeConfig(), [False] * 99)


def test_nothing_is_waited_for_before_the_first_whole_mean_of_epochs() -> None:
    """One lucky epoch at the beginning neither ends a training that a mean of four is to judge, nor lowers its rate."""
    recipe = RecipeConfig(stop_after_epochs=2, schedule="plateau", plateau_epochs=2, best_of_epochs=4)
    told = [True, False, False, True, False, False]
    assert [is_over(recipe, told[:count]) for count in range(7)] == [False] * 6 + [True]
    factors = [step_factors(recipe, epoch=epoch, epochs=20, steps=1, was_best=told[:epoch])[0] for epoch in range(7)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 1, 0.3])
