"""What a training is measured on after each epoch: all tuning exams, or all with a finding and some of the others."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.training_store import make_store, small_config
from tasks.adapters.training.training_data import training_data


def test_tuning_exams_without_a_finding_are_drawn_where_it_is_asked(tmp_path: Path) -> None:
    """Two with a finding and one of the two others; whoever may be drawn stays among those whom the weights have seen."""
    config = small_config(tmp_path)
    splits = make_store(config)
    whole = training_data(config, splits)
    drawn = training_data(small_config(tmp_path, tuning_negatives_per_positive=0.5), splits)
    assert whole.tuning["exam_id"].nunique() == 4 and len(drawn.tuning) == 12
    assert set(drawn.tuning.loc[drawn.tuning["malignant"] == 1, "exam_id"]) == {"E000", "E003"}
    assert drawn.seen == whole.seen and drawn.tuning.index.tolist() == list(range(12))


def test_only_a_training_that_draws_is_another_one(tmp_path: Path) -> None:
    """At its default the field changes no identity: trainings of former releases go on."""
    plain, named, drawn = (
        small_config(tmp_path, **fields).train.identity()
        for fields in ({}, {"tuning_negatives_per_positive": None}, {"tuning_negatives_per_positive": 2.0})
    )
    assert plain == named != drawn
