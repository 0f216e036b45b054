"""How the tuning split is measured after an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gmic_model.learning.learner import new_learner
from gmic_model.learning.pretraining import new_pretraining_learner
from gmic_model.learning.processes import ALONE
from mammo_tests.training_store import small_config
from schemas.config.training import FitConfig, PretrainConfig, PretrainTarget
from schemas.reports.data import SplitReport
from tasks.adapters.training.training_data import pretraining_data, training_data
from tasks.adapters.training.tuning import measure_findings, measure_pretraining


def test_tuning_is_scored_in_its_own_precision(stored: tuple[Path, SplitReport]) -> None:
    """bf16 moves the scores by its rounding, and nothing else of a training's precision does; the lines stay the same."""
    workspace, splits = stored
    config = small_config(workspace)
    data = training_data(config, splits)
    torch.manual_seed(0)
    learner = new_learner(config.model, config.train)

    def scores(**fields: str) -> np.ndarray:
        train = FitConfig.model_validate({**config.train.model_dump(include=set(FitConfig.model_fields)), **fields})
        found = measure_findings(learner, data.tuning, data.views, config=train, processes=ALONE, batch_images=4)
        assert len(found.label_BC) == len(found.score_BC) > 0
        return found.score_BC

    plain, rounded = scores(), scores(tuning_precision="bf16")
    np.testing.assert_array_equal(plain, scores(precision="bf16"))
    assert 0 < np.abs(plain - rounded).max() < 0.02


def test_who_always_names_the_only_category_is_right_without_a_loss(stored: tuple[Path, SplitReport]) -> None:
    """Zero, not minus zero: it is shown."""
    workspace, splits = stored
    config = small_config(workspace)
    asked = PretrainConfig(target=PretrainTarget.DENSITY, device="cpu")
    data = pretraining_data(config, asked, splits)
    lines = data.tuning.assign(density="b")
    learner = new_pretraining_learner(asked)
    found = measure_pretraining(learner, lines, data.views, config=asked, processes=ALONE, batch_images=4)
    assert (f"{found.baseline_loss:.3f}", found.baseline_accuracy, found.auroc) == ("0.000", 1.0, None)
