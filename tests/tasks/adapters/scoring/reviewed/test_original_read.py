"""Who is compared with the original read, and what counts as recalled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from schemas.config.evaluation import EvaluateConfig
from schemas.exam import UNKNOWN
from schemas.reports.reviewed import OriginalRead
from tasks.adapters.scoring.reviewed.original_read import original_read

CONFIG = EvaluateConfig()


def _tables(birads: list[int], labels: list[int], source: str = "biopsy") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two breasts an exam, one exam a patient but the first patient, who has two; two images a breast."""
    count = len(birads)
    breasts = pd.DataFrame(
        {
            "patient_id": [f"P{max(0, place // 2 - 1)}" for place in range(count)],
            "exam_id": [f"E{place // 2}" for place in range(count)],
            "laterality": ["R", "L"] * (count // 2),
            "malignant": labels,
            "malignant_score": np.linspace(0.9, 0.1, count),
        }
    )
    images = breasts.assign(birads=birads, label_source=source).drop(columns="malignant_score")
    return breasts, pd.concat([images, images], ignore_index=True)


def _read(birads: list[int], labels: list[int], *, source: str = "biopsy", config: EvaluateConfig = CONFIG) -> OriginalRead:
    breasts, images = _tables(birads, labels, source)
    found = original_read(breasts, images, breasts.iloc[:0], images.iloc[:0], config)
    assert found is not None
    return found


def test_a_breast_an_exam_and_a_patient_are_recalled_if_a_part_is() -> None:
    """Reads 4 1 | 2 2 | 5 3 | 0 1, a bar between exams: 3 of 8 breasts, 3 of 4 exams, all 3 patients are recalled."""
    found = _read([4, 1, 2, 2, 5, 3, 0, 1], [1, 0, 0, 0, 0, 0, 1, 0])
    levels = {level.name: level for level in found.levels}
    assert [(levels[name].units, levels[name].recalled_units) for name in ("breast", "exam", "patient")] == [
        (8, 3), (4, 3), (3, 3),
    ]  # fmt: skip
    assert levels["breast"].read_sensitivity.value == 1.0 and levels["breast"].read_specificity.value == pytest.approx(5 / 6)
    assert levels["exam"].read_specificity.value == pytest.approx(1 / 2)  # the second of two exams without is let go
    assert (levels["patient"].units, levels["patient"].positive_units) == (3, 2)


def test_the_config_says_what_recalled_means() -> None:
    """By [3, 4, 5] a 3 is recalled and a 0, which is no assessment, is left out and counted; so is a cancer known before."""
    found = _read([3, 1, 0, 6, 4, UNKNOWN], [0, 0, 1, 1, 1, 1], config=EvaluateConfig(recalled_birads=(3, 4, 5)))
    breast = found.levels[0]
    assert (breast.units, breast.recalled_units, found.off_scale, found.without_read) == (3, 2, 2, 1)
    assert found.recalled == (3, 4, 5) and found.margin == 0.05
    named = _read([3, 1, 0, 6, 4, UNKNOWN], [0, 0, 1, 1, 1, 1])
    assert (named.levels[0].units, named.levels[0].recalled_units, named.off_scale) == (4, 2, 1)


def test_a_read_is_not_judged_by_labels_made_of_it() -> None:
    """Labels of BI-RADS categories would find every reader perfect: such breasts are counted and left out."""
    found = _read([4, 1, 5, 2], [1, 0, 1, 0], source="birads_proxy")
    assert found.labelled_by_read == 4 and [level.units for level in found.levels] == [0, 0, 0]
    assert all(level.points == () for level in found.levels)


def test_an_exam_with_an_unread_breast_is_known_only_if_recalled() -> None:
    """Not recalled on one side and no read on the other: the exam's read is not known; recalled is recalled."""
    found = _read([1, UNKNOWN, 4, UNKNOWN], [0, 0, 1, 0])
    exam = found.levels[1]
    assert (exam.units, exam.recalled_units, found.without_read) == (1, 1, 2)


def test_a_store_without_reads_has_no_comparison() -> None:
    """Nothing is recorded: None, not a reader who recalls nobody."""
    breasts, images = _tables([UNKNOWN] * 4, [0, 1, 0, 0])
    assert original_read(breasts, images, breasts, images, CONFIG) is None


def test_the_threshold_of_use_is_of_the_tuning_split() -> None:
    """There the read keeps 3 of 4 without the finding: the lowest threshold that does is the second of their scores."""
    breasts, images = _tables([4, 1, 4, 1, 1, 1], [1, 0, 0, 0, 0, 1])
    found = original_read(breasts, images, breasts, images, CONFIG)
    assert found is not None
    (tuned,) = [point for point in found.levels[0].points if "tuning" in point.name]
    without = np.sort(breasts.loc[breasts["malignant"] == 0, "malignant_score"])[::-1]
    assert tuned.threshold is not None and (without >= tuned.threshold).sum() == 1
