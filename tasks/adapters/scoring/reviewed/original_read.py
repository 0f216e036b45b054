"""The recorded BI-RADS as a reader: which breasts, exams and patients it recalled, beside the model's scores. No Prefect.

The arithmetic is in ``gmic_model.metrics.comparison``. A read is judged by what became of the breast, so a breast whose label
is itself a BI-RADS category (``birads_proxy``) takes no part. An exam is recalled if a breast is, a patient if an exam is;
either is not recalled only if every breast is known not to be. The same holds for the finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.comparison.paired_reading import beside_read
from gmic_model.metrics.operating_points import points_at_specificity
from schemas.config.evaluation import EvaluateConfig
from schemas.exam import LABELLED_BY_READ, UNKNOWN, Finding
from schemas.reports.reviewed import OriginalRead, ReadLevel

READ_FINDING = Finding.MALIGNANT
"""What a read asks for: a benign finding is not what a woman is recalled for."""
LEVELS = {"breast": ["exam_id", "laterality"], "exam": ["exam_id"], "patient": ["patient_id"]}
"""What makes a unit of each level."""
_OFF_SCALE = (0, 6)
"""Incomplete, and cancer that was known before: no assessment."""
_RANK = {1: 2, UNKNOWN: 1, 0: 0}
"""Of a unit's breasts the strongest statement counts: present, then not known, then absent."""


def original_read(
    breasts: pd.DataFrame, images: pd.DataFrame, tuning: pd.DataFrame, tuning_images: pd.DataFrame, config: EvaluateConfig
) -> OriginalRead | None:
    """The read beside the model on the test split, with thresholds of use from the tuning split; None if no read is recorded.

    Args:
        breasts: Test breasts of one score, with unknown labels too: patient_id, exam_id, laterality, malignant and its score.
        images: The manifest's lines of the test split: birads, label_source.
        tuning: Breasts of the tuning split likewise; may be empty.
        tuning_images: The manifest's lines of the tuning split.
        config: What counts as recalled, margin, confidence.
    """
    read = _with_reads(breasts, images, config.recalled_birads)
    if (read["birads"] == UNKNOWN).all():
        return None
    chosen = _chosen(_with_reads(tuning, tuning_images, config.recalled_birads), config)
    is_known = read[READ_FINDING.value] != UNKNOWN
    is_by_read = read["label_source"] == LABELLED_BY_READ
    is_read = read["birads"] != UNKNOWN
    return OriginalRead(
        recalled=config.recalled_birads,
        margin=config.non_inferiority_margin,
        without_read=int((is_known & ~is_read).sum()),
        off_scale=int((is_known & is_read & (read["read"] == UNKNOWN)).sum()),
        labelled_by_read=int((is_known & is_read & (read["read"] != UNKNOWN) & is_by_read).sum()),
        levels=tuple(_level(name, read, chosen.get(name), config) for name in LEVELS),
    )


def exam_reads(images: pd.DataFrame, recalled: Sequence[int]) -> dict[str, int]:
    """Whether the recorded read recalled each exam: 1, 0, or 255 where it is not known of every breast and of none yes.

    Args:
        images: Lines of the manifest.
        recalled: BI-RADS categories that recall.
    """
    breasts = images.drop_duplicates(LEVELS["breast"])
    rank = pd.Series(decided_reads(breasts["birads"].fillna(UNKNOWN).astype(np.int64), recalled)).map(_RANK)
    strongest = rank.groupby(breasts["exam_id"].to_numpy(), sort=False).max()
    known = {rank: value for value, rank in _RANK.items()}
    return {str(exam_id): known[int(value)] for exam_id, value in strongest.items()}


def decided_reads(birads: pd.Series[Any], recalled: Sequence[int]) -> NDArray[np.int64]:
    """Whether each category recalls: 1, 0, or 255 where it is not known, or no assessment and not named as one that recalls."""
    off_scale = [UNKNOWN, *(category for category in _OFF_SCALE if category not in recalled)]
    decided: NDArray[np.int64] = np.where(birads.isin(off_scale), UNKNOWN, birads.isin(recalled).astype(np.int64))
    return decided


# ---------------------------------------------------------------------------------------------------------------------


def _with_reads(breasts: pd.DataFrame, images: pd.DataFrame, recalled: Sequence[int]) -> pd.DataFrame:
    """The breasts with ``birads``, ``label_source``, ``read`` (0, 1 or not known) and ``label``: not known if by the read."""
    keys = LEVELS["breast"]
    about = images.drop_duplicates(keys)[[*keys, "birads", "label_source"]]
    read = breasts.merge(about, on=keys, how="left")
    birads = read["birads"].fillna(UNKNOWN).astype(np.int64)
    return read.assign(
        birads=birads,
        read=decided_reads(birads, recalled),
        label=read[READ_FINDING.value].where(read["label_source"] != LABELLED_BY_READ, UNKNOWN),
        score=read[f"{READ_FINDING.value}_score"],
    )


def _units(read: pd.DataFrame, name: str) -> pd.DataFrame:
    """One line per unit whose read and finding are known: patient_id, score, read, label."""
    ranked = read.assign(read=read["read"].map(_RANK), label=read["label"].map(_RANK))
    units = ranked.groupby(LEVELS[name], sort=False).agg(
        patient=("patient_id", "first"), score=("score", "max"), read=("read", "max"), label=("label", "max")
    )
    known = {rank: value for value, rank in _RANK.items()}
    units = units.assign(read=units["read"].map(known), label=units["label"].map(known))
    return units[(units["read"] != UNKNOWN) & (units["label"] != UNKNOWN)].reset_index(drop=True)


def _arrays(units: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    return (
        units["score"].to_numpy(np.float64),
        units["label"].to_numpy(np.int64),
        units["patient"].to_numpy(np.str_),
    )


def _chosen(tuning: pd.DataFrame, config: EvaluateConfig) -> dict[str, float | None]:
    """By level the threshold that keeps the read's specificity on the tuning split; none where that is not defined."""
    chosen: dict[str, float | None] = {}
    for name in LEVELS:
        units = _units(tuning, name)
        without = units[units["label"] == 0]
        if without.empty:
            continue
        specificity = float((without["read"] == 0).mean())
        for point in points_at_specificity(*_arrays(units), [specificity], confidence=config.confidence):
            chosen[name] = point.threshold
    return chosen


def _level(name: str, read: pd.DataFrame, tuned_threshold: float | None, config: EvaluateConfig) -> ReadLevel:
    units = _units(read, name)
    score_U, label_U, patient_U = _arrays(units)
    return beside_read(
        score_U,
        units["read"].to_numpy(np.int64) == 1,
        label_U,
        patient_U,
        name=name,
        margin=config.non_inferiority_margin,
        confidence=config.confidence,
        tuned_threshold=tuned_threshold,
    )
