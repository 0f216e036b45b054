"""The plan of an epoch: every exam once, processes in step with each other, nothing lost at the end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmic_model.learning.step_plan import ImageBound, ShuffledExams, plan_steps
from schemas.errors import TrainingError


@given(
    exams=st.integers(1, 40),
    batch_exams=st.sampled_from([1, 2, 4, 8, 12]),
    processes=st.integers(1, 4),
    parts=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_every_exam_is_in_one_part_and_processes_keep_in_step(exams: int, batch_exams: int, processes: int, parts: int) -> None:
    """Concatenated, the parts are the epoch; all processes have as many parts, none of them empty."""
    batch_exams = max(batch_exams, processes)
    if exams < processes:
        with pytest.raises(TrainingError, match="fewer exams than training processes"):
            plan_steps(range(exams), batch_exams=batch_exams, processes=processes, parts=parts)
        return
    plan = plan_steps(range(exams), batch_exams=batch_exams, processes=processes, parts=parts)
    assert [exam for step in plan for exam in step.exams] == list(range(exams))
    for step in plan:
        assert len({len(own) for own in step.parts_by_process}) == 1
        assert all(part for own in step.parts_by_process for part in own)
        assert len(step.exams) < batch_exams + processes


def test_a_part_holds_the_same_exams_however_many_share_it() -> None:
    """Eight exams in two parts: 0 to 3 and 4 to 7, by one process or by two, so their batch statistics can be the same."""
    (alone,), (shared,) = (plan_steps(range(8), batch_exams=8, processes=processes, parts=2) for processes in (1, 2))
    assert alone.parts_by_process == (((0, 1, 2, 3), (4, 5, 6, 7)),)
    assert shared.parts_by_process == (((0, 1), (4, 5)), ((2, 3), (6, 7)))


def test_a_remainder_smaller_than_the_team_joins_the_step_before_it() -> None:
    """Nine exams in fours over two processes: 4 and 5, not 4, 4 and 1."""
    assert [len(step.exams) for step in plan_steps(range(9), batch_exams=4, processes=2)] == [4, 5]
    assert [len(step.exams) for step in plan_steps(range(10), batch_exams=4, processes=2)] == [4, 4, 2]


def test_shuffled_exams_follow_from_seed_and_epoch() -> None:
    """All of them, or the asked number, in another order each epoch; the same again for the same epoch."""
    all_exams, some = ShuffledExams(7, exams_per_epoch=None, seed=1), ShuffledExams(7, exams_per_epoch=3, seed=1)
    assert sorted(all_exams.draw(0)) == list(range(7)) and len(set(some.draw(0))) == 3
    assert all_exams.draw(0) == all_exams.draw(0) != all_exams.draw(1)


def test_a_part_has_no_more_images_than_the_bound() -> None:
    """Four exams a step of 4, 4, 12 and 4 views, at most 8 images: three parts, the one of 12 alone."""
    images_E = [4, 4, 12, 4, 4, 4, 4, 4]
    bound = ImageBound(images_E=images_E, most=8)
    plan = plan_steps(range(8), batch_exams=4, bound=bound)
    assert [step.parts_by_process for step in plan] == [(((0, 1), (2,), (3,)),), (((4, 5), (6, 7)),)]
    assert all(bound.is_kept(step) for step in plan)
    shared = plan_steps(range(8), batch_exams=4, processes=2, bound=bound)
    assert [step.parts_by_process for step in shared] == [(((0,), (2,)), ((1,), (3,))), (((4, 5),), ((6, 7),))]
    assert plan_steps(range(8), batch_exams=4) == plan_steps(
        range(8), batch_exams=4, bound=ImageBound(images_E=images_E, most=99)
    )
