"""Which test exams are shown and what is known of each: from scores and labels to the gallery's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.ranking import breast_scores
from schemas.exam import FINDINGS, UNKNOWN, Finding, Laterality
from schemas.reports.evaluation import CalibrationBin, FindingMetrics
from schemas.reports.pages import Failure, FailureKind
from tasks.adapters.pages.gallery.gallery_page import BreastScore, GalleryExam, GalleryView
from tasks.adapters.pages.render import PAGE_FINDINGS, label_text
from tasks.adapters.scoring.score_tables import SCORE_COLUMNS, breast_table
from tasks.adapters.store.manifest import lines_of


def find_failures(scores: pd.DataFrame, by_finding: Mapping[str, FindingMetrics], most: int) -> tuple[Failure, ...]:
    """The worst false negatives and false positives of each finding, at the threshold that was chosen on the tuning split.

    Args:
        scores: One line per test image, with labels.
        by_finding: Holds the threshold of each finding; where it is not defined there is no failure.
        most: Of each finding and kind, at most.
    """
    found: list[Failure] = []
    for finding in PAGE_FINDINGS:
        metrics = by_finding.get(finding.value)
        if metrics is None or metrics.subgroup_threshold is None:
            continue
        threshold = metrics.subgroup_threshold
        breasts = breast_table(scores, finding)
        is_missed = (breasts["label"] == 1) & (breasts["score"] < threshold)
        is_alarm = (breasts["label"] == 0) & (breasts["score"] >= threshold)
        worst = {
            FailureKind.FALSE_NEGATIVE: breasts[is_missed].sort_values(["score", "exam_id", "laterality"]),
            FailureKind.FALSE_POSITIVE: breasts[is_alarm].sort_values(
                ["score", "exam_id", "laterality"], ascending=[False, True, True]
            ),
        }
        found += [
            Failure(
                finding=finding.value,
                kind=kind,
                exam_id=line["exam_id"],
                laterality=line["laterality"],
                score=line["score"],
                threshold=threshold,
            )
            for kind, lines in worst.items()
            for line in lines_of(lines.head(most))
        ]
    return tuple(found)


def choose_exams(test: pd.DataFrame, failures: Sequence[Failure], most: int) -> pd.DataFrame:
    """The lines of at most so many exams, views in hanging order: R CC, L CC, R MLO, L MLO.

    First the exams of the worst failure of each finding and kind, then of the second worst and so on; then malignant exams,
    then benign ones, then the rest, each by id.
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        kinds.setdefault((failure.finding, failure.kind), []).append(failure.exam_id)
    failed = [exam_id for exam_id in chain.from_iterable(zip_longest(*kinds.values())) if exam_id is not None]
    rank = test.assign(rank=-(2 * (test["malignant"] == 1) + (test["benign"] == 1)).astype(int))
    rest = rank.groupby("exam_id")["rank"].min().reset_index().sort_values(["rank", "exam_id"])["exam_id"]
    return lines_in_order(test, list(dict.fromkeys([*failed, *rest]))[:most])


def lines_in_order(test: pd.DataFrame, exam_ids: Sequence[str]) -> pd.DataFrame:
    """The lines of these exams, exam by exam, views in hanging order."""
    order = {exam_id: place for place, exam_id in enumerate(exam_ids)}
    kept = test[test["exam_id"].isin(order)]
    hung = kept.assign(place=kept["exam_id"].map(order)).sort_values(
        ["place", "view_position", "laterality", "image_id"], ascending=[True, True, False, True]
    )
    return hung.drop(columns="place")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExamNotes:
    """What evaluation knows of the breasts of one exam.

    Attributes:
        scores: One line per test image, with labels.
        by_finding: The metrics of the test split.
    """

    scores: pd.DataFrame
    by_finding: Mapping[str, FindingMetrics]

    def score_C(self, image_id: str) -> NDArray[np.float64]:
        """What the evaluation gave an image."""
        line = self.scores.loc[self.scores["image_id"] == image_id, list(SCORE_COLUMNS)]
        score_C: NDArray[np.float64] = line.to_numpy(np.float64)[0]
        return score_C

    def exam(self, exam_id: str, views: Sequence[GalleryView], warnings: Sequence[str]) -> GalleryExam:
        """The exam with its breasts' scores; gate warnings are named with their view."""
        lines = self.scores[self.scores["exam_id"] == exam_id]
        gate = [
            f"{line['laterality']} {line['view_position']}: gate warning {line['gate_warnings']}"
            for line in lines_of(lines)
            if line["gate_warnings"]
        ]
        return GalleryExam(
            exam_id=exam_id, views=tuple(views), breasts=tuple(self._breasts(lines)), warnings=(*warnings, *gate)
        )

    def _breasts(self, lines: pd.DataFrame) -> list[BreastScore]:
        names = [f"{finding.value}_score" for finding in FINDINGS]
        breasts = breast_scores(
            lines[names].to_numpy(np.float64), lines["exam_id"].to_numpy(str), lines["laterality"].to_numpy(str)
        )
        told = []
        for side, score_C, first in zip(breasts.laterality_B, breasts.score_BC, breasts.first_image_B, strict=True):
            of_breast = lines[lines["laterality"] == side]
            for finding, score in zip(FINDINGS, score_C.tolist(), strict=True):
                label = int(lines[finding.value].iloc[first])
                told.append(
                    BreastScore(
                        laterality=Laterality(side),
                        finding=finding,
                        score=score,
                        view_scores=tuple(of_breast[f"{finding.value}_score"].tolist()),
                        label=label_text(label),
                        similar=self._similar(finding, score),
                        verdict=self._verdict(finding, score, label),
                    )
                )
        return told

    def _similar(self, finding: Finding, score: float) -> CalibrationBin | None:
        metrics = self.by_finding.get(finding.value)
        bins = metrics.calibration.bins if metrics is not None and metrics.calibration is not None else ()
        return next((one for one in bins if one.lowest_score <= score <= one.highest_score), None)

    def _verdict(self, finding: Finding, score: float, label: int) -> str:
        metrics = self.by_finding.get(finding.value)
        if metrics is None or metrics.subgroup_threshold is None or label == UNKNOWN:
            return ""
        is_recalled = score >= metrics.subgroup_threshold
        if label == 1 and not is_recalled:
            return FailureKind.FALSE_NEGATIVE.value
        return FailureKind.FALSE_POSITIVE.value if label == 0 and is_recalled else ""
