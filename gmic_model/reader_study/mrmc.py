"""Do readers as a population differ from a model, or from readers with a model? Multi-reader multi-case analysis of variance.

Obuchowski and Rockette (1995), degrees of freedom of Hillis (2007). Which scores are compared is in ``reader_study.py``.

Axes: ``S`` scores (a reader with one modality each), ``J`` readers, ``I`` modalities, ``B`` breasts, ``G`` clusters (exams or
patients). The case of the ANOVA is the cluster: breasts of one exam are not independent.

With two modalities the Obuchowski-Rockette F test is the one-modality analysis of the readers' differences: their mean square
is 2 MS(TR), the covariances between readers average 2 (Cov2 - Cov3), so F = t squared and the degrees of freedom agree. One
function therefore serves a mean of readers, readers against readers with a model, and readers against a model that stands alone
(no reader effect of its own; Chakraborty 2017, "Standalone CAD versus radiologists").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from gmic_model.metrics.delong import AurocCovariance, cluster_index, delong_covariance, placements
from gmic_model.metrics.ranking import has_enough_patients, known_breasts, require_finite


class CovarianceMethod(StrEnum):
    """How the covariance of AUROCs over cases is estimated."""

    JACKKNIFE = "jackknife"
    DELONG = "delong"


class Inference(StrEnum):
    """To whom a result applies."""

    RANDOM_READERS_RANDOM_CASES = "random readers, random cases"
    FIXED_READERS_RANDOM_CASES = "fixed readers, random cases"
    RANDOM_READERS_FIXED_CASES = "random readers, fixed cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderMean:
    """A mean over readers, or of readers' differences, with its test against zero.

    Attributes:
        degrees_of_freedom: None = normal distribution.
    """

    estimate: float
    standard_error: float
    degrees_of_freedom: float | None
    statistic: float | None
    p_value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceComponents:
    """Obuchowski and Rockette's terms for a factorial study: Cov1 is of one reader, Cov2 of one modality, Cov3 of neither.

    ``reader_variance`` and ``modality_reader_variance`` can be negative, as moment estimates can.
    """

    ms_modality: float
    ms_reader: float
    ms_modality_reader: float
    variance: float
    cov1: float
    cov2: float
    cov3: float
    reader_variance: float
    modality_reader_variance: float


def auroc_covariance(
    score_SB: ArrayLike, label_B: ArrayLike, cluster_B: ArrayLike, *, method: CovarianceMethod
) -> AurocCovariance | None:
    """AUROCs of all scores and their covariance over clusters.

    Returns:
        None where it is not defined: fewer than two clusters with, or without, the finding.

    Raises:
        MammoError: A score of a labelled breast is not finite, or a label is none of 0, 1, 255.
    """
    if method is CovarianceMethod.DELONG:
        return delong_covariance(score_SB, label_B, patient_B=cluster_B)
    return _jackknife_covariance(score_SB, label_B, cluster_B)


def contrast(covariance: AurocCovariance, weight_JS: ArrayLike) -> AurocCovariance:
    """AUROCs of linear combinations, such as reader minus model: one row of weights each."""
    weights_JS = np.asarray(weight_JS, dtype=np.float64)
    return AurocCovariance(
        auroc_M=weights_JS @ covariance.auroc_M, covariance_MM=weights_JS @ covariance.covariance_MM @ weights_JS.T
    )


def reader_mean(readers: AurocCovariance, *, inference: Inference, confidence: float = 0.95) -> ReaderMean | None:
    """The mean over readers with its standard error (Hillis 2007, equations for one modality).

    Random readers and cases: (MS(R) + J max(Cov2, 0)) / J with its degrees of freedom; fixed readers: the variance of the mean
    over cases, normal; fixed cases: MS(R) / J with J - 1 degrees of freedom.

    Args:
        readers: Per reader an AUROC or a difference (``contrast``), with their covariance over cases.
        inference: What is random.
        confidence: Of the interval.

    Returns:
        None where readers are random and there is one only.
    """
    value_J, covariance_JJ = readers.auroc_M, readers.covariance_MM
    count = len(value_J)
    if count < 2 and inference is not Inference.FIXED_READERS_RANDOM_CASES:
        return None
    mean_square = float(value_J.var(ddof=1)) if count > 1 else 0.0
    variance = float(np.trace(covariance_JJ)) / count
    cov2 = (float(covariance_JJ.sum()) / count - variance) / (count - 1) if count > 1 else 0.0
    freedom: float | None
    if inference is Inference.FIXED_READERS_RANDOM_CASES:
        mean_variance, freedom = (variance + (count - 1) * max(cov2, 0.0)) / count, None
    elif inference is Inference.RANDOM_READERS_FIXED_CASES:
        mean_variance, freedom = mean_square / count, float(count - 1)
    else:
        total = mean_square + count * max(cov2, 0.0)
        mean_variance = total / count
        freedom = (count - 1) * (total / mean_square) ** 2 if mean_square > 0.0 else None
    return _tested(float(value_J.mean()), float(np.sqrt(max(mean_variance, 0.0))), freedom, confidence)


def variance_components(covariance: AurocCovariance, modalities: int) -> VarianceComponents:
    """The factorial study's terms, of two modalities and two readers or more; scores ordered by modality, then reader."""
    value_IJ = covariance.auroc_M.reshape(modalities, -1)  # (I, J)
    readers = value_IJ.shape[1]
    covariance_IJIJ = covariance.covariance_MM.reshape(modalities, readers, modalities, readers)  # (I, J, I, J)
    same_modality = np.eye(modalities, dtype=bool)[:, None, :, None]
    same_reader = np.eye(readers, dtype=bool)[None, :, None, :]
    modality_I, reader_J = value_IJ.mean(axis=1), value_IJ.mean(axis=0)
    rest_IJ = value_IJ - modality_I[:, None] - reader_J[None, :] + value_IJ.mean()

    def mean_where(is_wanted: NDArray[np.bool_]) -> float:
        return float(covariance_IJIJ[np.broadcast_to(is_wanted, covariance_IJIJ.shape)].mean())

    ms_reader = modalities * float(reader_J.var(ddof=1))
    ms_rest = float((rest_IJ**2).sum()) / ((modalities - 1) * (readers - 1))
    variance, cov1 = mean_where(same_modality & same_reader), mean_where(~same_modality & same_reader)
    cov2, cov3 = mean_where(same_modality & ~same_reader), mean_where(~same_modality & ~same_reader)
    return VarianceComponents(
        ms_modality=readers * float(modality_I.var(ddof=1)),
        ms_reader=ms_reader,
        ms_modality_reader=ms_rest,
        variance=variance,
        cov1=cov1,
        cov2=cov2,
        cov3=cov3,
        reader_variance=(ms_reader - ms_rest) / modalities - cov1 + cov3,
        modality_reader_variance=ms_rest - variance + cov1 + max(cov2 - cov3, 0.0),
    )


# ---------------------------------------------------------------------------------------------------------------------


def _tested(estimate: float, deviation: float, freedom: float | None, confidence: float) -> ReaderMean:
    """Interval and two-sided p-value by Student's t, or by the normal distribution without degrees of freedom."""
    if deviation <= 0.0:
        p_value = 1.0 if estimate == 0.0 else 0.0
        return ReaderMean(
            estimate=estimate, standard_error=0.0, degrees_of_freedom=freedom, statistic=None, p_value=p_value,
            low=estimate, high=estimate,
        )  # fmt: skip
    statistic = estimate / deviation
    tail = (1.0 + confidence) / 2.0
    if freedom is None:
        p_value, reach = 2.0 * float(ndtr(-abs(statistic))), float(ndtri(tail)) * deviation
    else:
        p_value, reach = 2.0 * float(stdtr(freedom, -abs(statistic))), float(stdtrit(freedom, tail)) * deviation
    return ReaderMean(
        estimate=estimate, standard_error=deviation, degrees_of_freedom=freedom, statistic=statistic, p_value=p_value,
        low=estimate - reach, high=estimate + reach,
    )  # fmt: skip


def _jackknife_covariance(score_SB: ArrayLike, label_B: ArrayLike, cluster_B: ArrayLike) -> AurocCovariance | None:
    """Leave one cluster out, in closed form: (G - 1) / G times the scatter of the G leave-one-out AUROCs.

    A cluster takes the pairs of its positives and of its negatives with it; pairs within it, taken twice, come back once.
    """
    scores_SB = np.atleast_2d(np.asarray(score_SB, dtype=np.float64))
    known = known_breasts(scores_SB[0], label_B)
    scores_SB, is_positive_B = scores_SB[:, known.index_B], known.is_positive_B
    require_finite(scores_SB)
    clusters_B = cluster_index(np.asarray(cluster_B)[known.index_B])
    if not has_enough_patients(is_positive_B, clusters_B):
        return None
    clusters = int(clusters_B.max()) + 1
    positives, negatives = int(is_positive_B.sum()), int((~is_positive_B).sum())
    positive_G = np.bincount(clusters_B[is_positive_B], minlength=clusters)
    negative_G = np.bincount(clusters_B[~is_positive_B], minlength=clusters)
    first_P, second_P = _pairs_within(clusters_B, is_positive_B)
    won_SG = np.empty((len(scores_SB), clusters))
    for index, score_B in enumerate(scores_SB):
        won_B = placements(score_B, is_positive_B) * np.where(is_positive_B, negatives, positives)  # pairs won, per breast
        within_P = np.heaviside(score_B[first_P] - score_B[second_P], 0.5)
        lost_G = np.bincount(clusters_B, weights=won_B, minlength=clusters)
        lost_G -= np.bincount(clusters_B[first_P], weights=within_P, minlength=clusters)
        won_SG[index] = won_B[is_positive_B].sum() - lost_G
    without_SG = won_SG / ((positives - positive_G) * (negatives - negative_G))
    centred_SG = without_SG - without_SG.mean(axis=1, keepdims=True)
    whole_S = [placements(score_B, is_positive_B)[is_positive_B].mean() for score_B in scores_SB]
    return AurocCovariance(auroc_M=np.array(whole_S), covariance_MM=(clusters - 1) / clusters * (centred_SG @ centred_SG.T))


def _pairs_within(cluster_B: NDArray[np.intp], is_positive_B: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Every (positive, negative) pair of breasts in one cluster."""
    mixed = np.intersect1d(cluster_B[is_positive_B], cluster_B[~is_positive_B])
    first: list[int] = []
    second: list[int] = []
    for cluster in mixed:
        members = np.flatnonzero(cluster_B == cluster)
        for positive in members[is_positive_B[members]]:
            for negative in members[~is_positive_B[members]]:
                first.append(int(positive))
                second.append(int(negative))
    return np.array(first, dtype=np.intp), np.array(second, dtype=np.intp)
