"""The exams of a site without a network: scores as numbers, devices and readers' decisions as the manifest has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from schemas.config.evaluation import AcceptanceConfig
from tasks.adapters.lifecycle.accepting.judging_exams import Cohort

RECALLED_BIRADS = (0, 4, 5)


def site_images(exams: int, **columns: Any) -> pd.DataFrame:
    """Two images an exam, a breast each; of columns that are given an exam's value stands for both."""
    numbers = np.repeat(np.arange(exams), 2)
    given = {name: np.asarray(value)[numbers] if np.ndim(value) else value for name, value in columns.items()}
    return pd.DataFrame(
        {
            "exam_id": [f"E{number}" for number in numbers],
            "patient_id": [f"P{number}" for number in numbers],
            "laterality": ["L", "R"] * exams,
            "birads": 255,
            "manufacturer": "ACME",
            "model_name": "One",
            **given,
        }
    )


def site_cohort(
    images: pd.DataFrame, score_E: Any, *, threshold: float | None = 0.9, label: int = 255, config: AcceptanceConfig
) -> Cohort:
    """The exams of these images, with these scores."""
    exams = images.drop_duplicates("exam_id")[["patient_id", "exam_id"]].reset_index(drop=True)
    return Cohort.of(exams.assign(score=score_E, label=label), images, threshold, RECALLED_BIRADS, config, 0.95)
