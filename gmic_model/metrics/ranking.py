"""How well scores tell breasts with a finding from breasts without: breast scores, AUROC, AUPRC, intervals, curves.

The test of two AUROCs' difference is in ``delong.py``, where saliency points in ``localization.py``; reading scores and writing
reports is the tasks' business.

Axes: ``N`` images, ``B`` breasts, ``C`` findings, ``R`` bootstrap resamples, ``T`` thresholds. A label of ``UNKNOWN``
(255) is left out everywhere. A metric that the data do not define (one class only) is None, never 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array

from gmic_model.metrics.bootstrap import MINIMUM_PATIENTS_PER_CLASS, patient_counts, percentile_ends
from schemas.errors import MammoError
from schemas.exam import UNKNOWN
from schemas.reports.report import Interval


class Metric(StrEnum):
    """Ranking metrics that can carry an interval."""

    AUROC = "auroc"
    AUPRC = "auprc"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BreastScores:
    """One line per breast (exam and side), in the order the breasts first appear among the images.

    Attributes:
        exam_id_B: Pseudonym of the exam.
        laterality_B: ``R`` or ``L``.
        score_BC: Mean of the breast's image scores, float64.
        view_count_B: Images that went into the mean.
        first_image_B: Index into N of the breast's first image: ``label_N[first_image_B]`` is the label per breast.
    """

    exam_id_B: NDArray[np.str_]
    laterality_B: NDArray[np.str_]
    score_BC: NDArray[np.float64]
    view_count_B: NDArray[np.int64]
    first_image_B: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RocCurve:
    """Corners of the empirical ROC curve, from (0, 0) to (1, 1), thresholds falling; the first threshold is infinite."""

    false_positive_rate_T: NDArray[np.float64]
    true_positive_rate_T: NDArray[np.float64]
    threshold_T: NDArray[np.float64]

    def sensitivity_at(self, specificity: float) -> float:
        """Largest sensitivity of a threshold whose specificity is at least the given one; no interpolation."""
        # 1 - fpr loses the last bit: without the slack a specificity that is reached exactly could be missed.
        is_allowed_T = 1.0 - self.false_positive_rate_T >= specificity - 1e-12
        return float(self.true_positive_rate_T[is_allowed_T].max())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrecisionRecallCurve:
    """One point per distinct score, recall rising; average precision is the area under its steps."""

    recall_T: NDArray[np.float64]
    precision_T: NDArray[np.float64]
    threshold_T: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownBreasts:
    """The breasts whose label is known; ``index_B`` points into the caller's arrays."""

    score_B: NDArray[np.float64]
    is_positive_B: NDArray[np.bool_]
    index_B: NDArray[np.intp]


def breast_scores(score_NC: ArrayLike, exam_id_N: ArrayLike, laterality_N: ArrayLike) -> BreastScores:
    """Mean of each breast's image scores (paper 3.1: "the average of the two image-level predictions").

    Any number of views: a breast with one CC only keeps its score, one with five images gets the mean of five.

    Args:
        score_NC: Image scores.
        exam_id_N: Exam of each image.
        laterality_N: Side of each image.

    Raises:
        MammoError: A score is not finite, or the arrays differ in length.
    """
    scores_NC = np.asarray(score_NC, dtype=np.float64)
    exams_N, sides_N = np.asarray(exam_id_N, dtype=np.str_), np.asarray(laterality_N, dtype=np.str_)
    if scores_NC.ndim != 2 or not len(scores_NC) == len(exams_N) == len(sides_N):
        raise MammoError(
            "Image scores and their exams do not match",
            expected="score_NC of two axes, with one exam and one side per image",
            got=f"score_NC of shape {scores_NC.shape}, {len(exams_N)} exams, {len(sides_N)} sides",
        )
    require_finite(scores_NC)
    _, exam_N = np.unique(exams_N, return_inverse=True)
    _, side_N = np.unique(sides_N, return_inverse=True)
    key_N = exam_N * (int(side_N.max(initial=0)) + 1) + side_N
    _, first_B, breast_N, count_B = np.unique(key_N, return_index=True, return_inverse=True, return_counts=True)
    total_BC = np.zeros((len(first_B), scores_NC.shape[1]))
    np.add.at(total_BC, breast_N, scores_NC)
    seen_B = np.argsort(first_B)
    first_B = first_B[seen_B]
    return BreastScores(
        exam_id_B=exams_N[first_B],
        laterality_B=sides_N[first_B],
        score_BC=total_BC[seen_B] / count_B[seen_B, None],
        view_count_B=count_B[seen_B].astype(np.int64),
        first_image_B=first_B.astype(np.int64),
    )


def auroc(score_B: ArrayLike, label_B: ArrayLike) -> float | None:
    """Area under the ROC curve; a tie between a positive and a negative counts one half. None if one class only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    return _point_value(Metric.AUROC, score_B, label_B)


def auprc(score_B: ArrayLike, label_B: ArrayLike) -> float | None:
    """Average precision: precision at each distinct score, weighted by the recall gained there. None if one class only.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    return _point_value(Metric.AUPRC, score_B, label_B)


def bootstrap_interval(
    metric: Metric | str,
    score_B: ArrayLike,
    label_B: ArrayLike,
    patient_B: ArrayLike,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Percentile bootstrap over patients: the breasts of a patient are drawn together, as they are not independent.

    What used to be printed; ``areas.area_interval`` holds better, and the coverage study compares both.

    A resample that happens to hold one class only defines no value and is left out. The interval's ends are None where
    fewer than two patients carry either class: there is nothing to resample.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    known = known_breasts(score_B, label_B)
    patients_B = np.asarray(patient_B)[known.index_B]
    value = _point_value(Metric(metric), score_B, label_B)
    value_SR = None
    if resamples > 0:
        value_SR = bootstrap_values(metric, known.score_B, known.is_positive_B, patients_B, resamples=resamples, seed=seed)
    if value_SR is None:
        return Interval(value=value, low=None, high=None)
    low, high = percentile_ends(value_SR[0], confidence=confidence)
    return Interval(value=value, low=low, high=high)


def bootstrap_values(
    metric: Metric | str, score_SB: ArrayLike, label_B: ArrayLike, patient_B: ArrayLike, *, resamples: int, seed: int
) -> NDArray[np.float64] | None:
    """The metric of each of ``S`` scores of the same breasts in every resample, ``value_SR``: one draw of patients for all.

    So the difference or mean of several scores has an interval too. NaN where a resample holds one class only.

    Returns:
        None where fewer than two patients carry either class.
    """
    scores_SB = np.atleast_2d(np.asarray(score_SB, dtype=np.float64))
    known = known_breasts(scores_SB[0], label_B)
    patients_B = np.asarray(patient_B)[known.index_B]
    if not has_enough_patients(known.is_positive_B, patients_B):
        return None
    patients, patient_index_B = np.unique(patients_B, return_inverse=True)
    rankings = [
        _Ranking.of(known_breasts(score_B, label_B).score_B, known.is_positive_B, patient_index_B) for score_B in scores_SB
    ]
    chunks = [
        np.stack([ranking.values(Metric(metric), count_RP) for ranking in rankings])
        for count_RP in patient_counts(len(patients), resamples=resamples, seed=seed)
    ]
    return np.concatenate(chunks, axis=1)  # (S, R)


def has_enough_patients(is_positive_B: NDArray[np.bool_], patient_B: ArrayLike) -> bool:
    """True if at least ``MINIMUM_PATIENTS_PER_CLASS`` patients carry, and as many lack, the finding in some breast."""
    patients_B = np.asarray(patient_B)
    classes = (patients_B[is_positive_B], patients_B[~is_positive_B])
    return min(len(np.unique(members)) for members in classes) >= MINIMUM_PATIENTS_PER_CLASS


def roc_curve(score_B: ArrayLike, label_B: ArrayLike) -> RocCurve | None:
    """The empirical ROC curve, one point per distinct score; None if one class only."""
    steps = _threshold_steps(score_B, label_B)
    if steps is None:
        return None
    true_T, false_T, threshold_T = steps
    return RocCurve(
        false_positive_rate_T=np.concatenate([[0.0], false_T / false_T[-1]]),
        true_positive_rate_T=np.concatenate([[0.0], true_T / true_T[-1]]),
        threshold_T=np.concatenate([[np.inf], threshold_T]),
    )


def pr_curve(score_B: ArrayLike, label_B: ArrayLike) -> PrecisionRecallCurve | None:
    """Precision and recall at each distinct score; None if one class only."""
    steps = _threshold_steps(score_B, label_B)
    if steps is None:
        return None
    true_T, false_T, threshold_T = steps
    return PrecisionRecallCurve(recall_T=true_T / true_T[-1], precision_T=true_T / (true_T + false_T), threshold_T=threshold_T)


def known_breasts(score_B: ArrayLike, label_B: ArrayLike) -> KnownBreasts:
    """The breasts that a metric may count: those whose label is known.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    scores_B, labels_B = np.asarray(score_B, dtype=np.float64), np.asarray(label_B)
    if scores_B.ndim != 1 or scores_B.shape != labels_B.shape:
        raise MammoError(
            "Scores and labels do not match",
            expected="one label per score",
            got=f"scores of shape {scores_B.shape}, labels of shape {labels_B.shape}",
        )
    if not np.isin(labels_B, (0, 1, UNKNOWN)).all():
        raise MammoError(
            "A label has no meaning here",
            expected=f"0 (absent), 1 (present) or {UNKNOWN} (not known)",
            got=f"{int((~np.isin(labels_B, (0, 1, UNKNOWN))).sum())} other values among {labels_B.size}",
            remedy="check the label columns of the manifest with `mammo validate`",
        )
    index_B = np.flatnonzero(labels_B != UNKNOWN)
    require_finite(scores_B[index_B])
    return KnownBreasts(score_B=scores_B[index_B], is_positive_B=labels_B[index_B] == 1, index_B=index_B)


def require_finite(score_B: NDArray[np.float64]) -> None:
    """Refuse NaN and infinite scores: they would rank anywhere.

    Raises:
        MammoError: There is one.
    """
    if not np.isfinite(score_B).all():
        raise MammoError(
            "Scores hold values that cannot be ranked",
            expected="finite scores",
            got=f"{int((~np.isfinite(score_B)).sum())} NaN or infinite values among {score_B.size}",
            remedy="look at the checkpoint's training curve: weights that went to NaN give NaN scores",
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ranking:
    """Where each breast stands among the positives' scores, so that a metric of any resample is a few short sums.

    Only the ``U`` distinct scores of positives matter, falling: of the many negatives it is enough to know between which of
    them they lie. ``place_XP`` counts the breasts of each patient in every place X: at U levels the positives, at U levels the
    negatives with a positive's score, in U gaps the negatives above a level (and below the one before), and those below all.
    A sparse product with the draws gives every resample's sums: each breast is touched once.
    """

    place_XP: csr_array
    levels: int

    @classmethod
    def of(cls, score_B: NDArray[np.float64], is_positive_B: NDArray[np.bool_], patient_index_B: NDArray[np.intp]) -> _Ranking:
        """The places of breasts of both classes."""
        key_B = -score_B  # falling scores, negated, rise: what searchsorted needs
        level_U = np.unique(key_B[is_positive_B])
        first_B, last_B = (np.searchsorted(level_U, key_B, side=side) for side in ("left", "right"))
        levels = len(level_U)
        place_B = np.where(is_positive_B, first_B, np.where(first_B < last_B, levels + first_B, 2 * levels + first_B))
        shape = (3 * levels + 1, int(patient_index_B.max()) + 1)
        ones_B = np.ones(len(key_B), dtype=np.float32)  # exact for whole numbers below 2 ** 24
        return cls(place_XP=coo_array((ones_B, (place_B, patient_index_B)), shape=shape).tocsr(), levels=levels)

    def values(self, metric: Metric, count_RP: NDArray[np.float32]) -> NDArray[np.float64]:
        """The metric under each row of draws; NaN where a row leaves one class only."""
        total_XR = np.asarray(self.place_XP @ count_RP.T, dtype=np.float64)
        levels = self.levels
        positive_UR, tied_UR, above_UR = total_XR[:levels], total_XR[levels : 2 * levels], total_XR[2 * levels : 3 * levels]
        false_UR = np.cumsum(above_UR + tied_UR, axis=0)  # negatives at or above each level
        positives_R, negatives_R = positive_UR.sum(axis=0), false_UR[-1] + total_XR[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric is Metric.AUROC:
                lost_R = np.einsum("ur,ur->r", positive_UR, false_UR - tied_UR / 2.0)
                value_R = 1.0 - lost_R / (positives_R * negatives_R)
            else:
                true_UR = np.cumsum(positive_UR, axis=0)
                # Nothing is called only where the level's own weight is 0: it adds nothing.
                value_R = np.einsum("ur,ur->r", positive_UR, true_UR / np.maximum(true_UR + false_UR, 1.0)) / positives_R
        return np.where((positives_R > 0) & (negatives_R > 0), value_R, np.nan)


def _point_value(metric: Metric, score_B: ArrayLike, label_B: ArrayLike) -> float | None:
    known = known_breasts(score_B, label_B)
    if known.is_positive_B.all() or not known.is_positive_B.any():
        return None
    everybody_B = np.zeros(len(known.score_B), dtype=np.intp)  # one patient with every breast, drawn once
    ranking = _Ranking.of(known.score_B, known.is_positive_B, everybody_B)
    return float(ranking.values(metric, np.ones((1, 1), dtype=np.float32))[0])


def _threshold_steps(
    score_B: ArrayLike, label_B: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """True and false positives at each distinct score, falling, with that score; None if one class only."""
    known = known_breasts(score_B, label_B)
    order_B = np.argsort(-known.score_B, kind="stable")
    sorted_B, is_positive_B = known.score_B[order_B], known.is_positive_B[order_B]
    if not is_positive_B.any() or is_positive_B.all():
        return None
    last_T = np.concatenate([np.flatnonzero(np.diff(sorted_B)), [len(sorted_B) - 1]])
    true_T = np.cumsum(is_positive_B, dtype=np.float64)[last_T]
    return true_T, last_T + 1.0 - true_T, sorted_B[last_T]
