"""The exams that judge a model at a site: who scored what, on which device, what readers decided, and who is recalled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gmic_model.metrics.clinic.site_threshold import is_within
from gmic_model.metrics.proportions import mean_interval, paired_proportions
from schemas.config.evaluation import AcceptanceConfig
from schemas.exam import NOT_KNOWN, UNKNOWN
from schemas.reports.life.acceptance import CohortCounts, GroupRecall
from schemas.reports.report import Interval
from tasks.adapters.lifecycle.watching.device_streams import devices_of
from tasks.adapters.scoring.reviewed.groups import breast_groups
from tasks.adapters.scoring.reviewed.original_read import exam_reads

_UNDEFINED = Interval(value=None, low=None, high=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallRate:
    """A recall rate, or its difference to the readers', with the limits that it must lie within; None = none are stated."""

    found: Interval
    limits: tuple[float, float] | None
    exams: int

    @property
    def is_within(self) -> bool | None:
        """Whether it does; None = not decided, or no limits."""
        return None if self.limits is None else is_within(self.found, *self.limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """The exams of one score.

    Attributes:
        exams: One line each: patient_id, exam_id, score, label, device, software, read, is_recalled.
        images: The manifest's lines of these exams.
        threshold: Infinite if it lies above every score; None = none is locked, and nobody is recalled.
        target: Recall rate that is wanted; None = nobody says.
        is_readers_target: The target is the readers' rate on the exams that have a decision: they are compared pairwise.
        confidence: Of the intervals.
    """

    exams: pd.DataFrame
    images: pd.DataFrame
    threshold: float | None
    target: float | None
    is_readers_target: bool
    confidence: float

    @classmethod
    def of(
        cls,
        exams: pd.DataFrame,
        images: pd.DataFrame,
        threshold: float | None,
        recalled_birads: tuple[int, ...],
        config: AcceptanceConfig,
        confidence: float,
    ) -> Cohort:
        """Adds what the manifest says of each exam.

        Args:
            exams: patient_id, exam_id, score, label.
            images: The manifest's lines of these exams.
            threshold: As above.
            recalled_birads: What counts as recalled by a reader.
            config: The target.
            confidence: Of the intervals.
        """
        devices, reads = devices_of(images), exam_reads(images, recalled_birads)
        of_exam = [devices[exam_id] for exam_id in exams["exam_id"]]
        known = exams.assign(
            device=[device for device, _ in of_exam],
            software=[software for _, software in of_exam],
            read=[reads[exam_id] for exam_id in exams["exam_id"]],
            is_recalled=False if threshold is None else exams["score"] >= threshold,
        )
        target, read = config.recall_rate, known[known["read"] != UNKNOWN]
        is_readers = target is None and len(read) >= config.minimum_exams
        return cls(
            exams=known,
            images=images,
            threshold=threshold,
            target=float((read["read"] == 1).mean()) if is_readers else target,
            is_readers_target=is_readers,
            confidence=confidence,
        )

    def recall(self, members: pd.DataFrame, margin: float) -> RecallRate:
        """What the locked threshold recalls of some of the exams."""
        if self.threshold is None:
            return RecallRate(found=_UNDEFINED, limits=None, exams=len(members))
        if self.is_readers_target:
            read = members[members["read"] != UNKNOWN]
            return RecallRate(found=self._less_readers(read), limits=(-margin, margin), exams=len(read))
        limits = None if self.target is None else (self.target - margin, self.target + margin)
        return RecallRate(found=self.rate(members), limits=limits, exams=len(members))

    def rate(self, members: pd.DataFrame) -> Interval:
        """Share of some of the exams that is recalled."""
        return _UNDEFINED if self.threshold is None else self.share(members["is_recalled"], members)

    def share(self, is_hit: pd.Series[bool], members: pd.DataFrame) -> Interval:
        """Share of some of the exams for which something holds."""
        return mean_interval(is_hit.to_numpy(np.float64), members["patient_id"].to_numpy(str), confidence=self.confidence)

    def counts(self, *, left_out_patients: int) -> CohortCounts:
        """As the report has them."""
        exams, read = self.exams, self.exams[self.exams["read"] != UNKNOWN]
        of_readers = [self.rate(read[read["read"] == decision]) for decision in (1, 0)]
        return CohortCounts(
            exams=len(exams),
            patients=exams["patient_id"].nunique(),
            images=len(self.images),
            left_out_patients=left_out_patients,
            labelled_exams=int((exams["label"] != UNKNOWN).sum()),
            positive_exams=int((exams["label"] == 1).sum()),
            read_exams=len(read),
            recall_rate=self.rate(exams),
            read_recall_rate=self.share(read["read"] == 1, read),
            recall_less_readers=_UNDEFINED if self.threshold is None else self._less_readers(read),
            read_recalled=of_readers[0],
            read_not_recalled=of_readers[1],
        )

    def groups(self, config: AcceptanceConfig) -> Iterator[GroupRecall]:
        """Each group of the attributes that the config names and the store records."""
        sides = self.images.drop_duplicates("exam_id")[["exam_id", "laterality"]]
        of_exam = breast_groups(self.exams[["exam_id"]].merge(sides, on="exam_id"), self.images, config.subgroups)
        for attribute in config.subgroups:
            names = of_exam.get(attribute, np.array([], dtype=np.str_))
            for name in sorted(set(names.tolist()) - {NOT_KNOWN}):
                members = self.exams[names == name]
                is_judged = len(members) >= config.subgroup_minimum_exams
                yield GroupRecall(
                    attribute=attribute,
                    group=name,
                    exams=len(members),
                    recall_rate=self.rate(members),
                    is_within=self.recall(members, config.subgroup_margin).is_within if is_judged else None,
                )

    def _less_readers(self, read: pd.DataFrame) -> Interval:
        return paired_proportions(
            read["is_recalled"].to_numpy(bool),
            (read["read"] == 1).to_numpy(bool),
            read["patient_id"].to_numpy(str),
            confidence=self.confidence,
        )
