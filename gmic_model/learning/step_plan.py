"""How the exams of an epoch are shared out: optimiser steps, processes, and the parts a process works through.

The plan follows from the epoch's exams alone, so every process makes the same one, and a resumed epoch goes on at a step.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One optimiser step.

    Attributes:
        parts_by_process: For each process its exams, part by part; every process has the same number of parts, because the
            processes meet in each.
    """

    parts_by_process: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def exams(self) -> tuple[int, ...]:
        """All exams of the step, in their drawn order."""
        return tuple(exam for parts in zip(*self.parts_by_process, strict=True) for part in parts for exam in part)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBound:
    """How many images a part may have.

    Attributes:
        images_E: Views of each exam, by its index.
        most: Images of a part; an exam that has more is a part of its own.
    """

    images_E: Sequence[int]
    most: int

    def is_kept(self, step: PlannedStep) -> bool:
        """True if no part has more, but for those of a single exam."""
        return all(
            len(part) == 1 or sum(self.images_E[exam] for exam in part) <= self.most
            for parts in step.parts_by_process
            for part in parts
        )


def plan_steps(
    exams_E: Sequence[int], *, batch_exams: int, processes: int = 1, parts: int = 1, bound: ImageBound | None = None
) -> list[PlannedStep]:
    """Divide an epoch's exams into steps of ``batch_exams``, in order.

    A last step with fewer exams than processes would leave one of them without work: its exams join the step before it.

    Args:
        exams_E: Indices of the epoch's exams, in their drawn order.
        batch_exams: Exams of a step, all processes together.
        processes: Training processes.
        parts: Parts of a process's share of a step (gradient accumulation).
        bound: More parts are made of a step that would exceed it; None = its exams' views are as many as they are.

    Raises:
        TrainingError: The whole epoch has fewer exams than there are processes.
    """
    starts = list(range(0, len(exams_E), batch_exams))
    if len(exams_E) - starts[-1] < processes and len(starts) > 1:
        starts.pop()
    ends = [*starts[1:], len(exams_E)]
    if len(exams_E) < processes:
        raise TrainingError(
            "There are fewer exams than training processes",
            expected=f"at least {processes} exams in an epoch",
            got=len(exams_E),
            remedy="lower train.processes, or add exams",
        )
    return [_bounded(exams_E[start:end], processes, parts, bound) for start, end in zip(starts, ends, strict=True)]


class ShuffledExams:
    """All exams once per epoch in random order, or ``exams_per_epoch`` of them; follows from (seed, epoch)."""

    def __init__(self, exams: int, *, exams_per_epoch: int | None, seed: int) -> None:
        self._exams, self._drawn, self._seed = exams, min(exams_per_epoch or exams, exams), seed

    def draw(self, epoch: int) -> list[int]:
        """The exams of an epoch."""
        shuffled_E = np.random.default_rng((self._seed, epoch)).permutation(self._exams)
        return [int(exam) for exam in shuffled_E[: self._drawn]]


def _bounded(exams_E: Sequence[int], processes: int, parts: int, bound: ImageBound | None) -> PlannedStep:
    most_parts = max(len(exams_E) // processes, 1)
    for count in range(min(parts, most_parts), most_parts + 1):
        step = _planned(exams_E, processes, count)
        if bound is None or bound.is_kept(step):
            break
    return step


def _planned(exams_E: Sequence[int], processes: int, parts: int) -> PlannedStep:
    """A step is cut into parts before parts are shared among processes.

    Batch statistics of a part are then the same with any number of processes.
    """
    parts = min(parts, len(exams_E) // processes)
    shares = [_evenly(part, processes) for part in _evenly(exams_E, parts)]  # [part][process]
    return PlannedStep(parts_by_process=tuple(tuple(map(tuple, own)) for own in zip(*shares, strict=True)))


def _evenly(items: Sequence[int], shares: int) -> list[Sequence[int]]:
    """Consecutive shares whose sizes differ by at most one, the larger first."""
    size, larger = divmod(len(items), shares)
    starts = [index * size + min(index, larger) for index in range(shares + 1)]
    return [items[start:end] for start, end in itertools.pairwise(starts)]
