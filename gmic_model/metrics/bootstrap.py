"""Resampling of patients: for the reader study, where many values share one draw.

Percentiles of resamples hold too little with few patients and nothing at all of a perfect sample: what stands alone has its
interval from ``proportions.py`` and ``areas.py``. A patient is drawn with all its breasts, because they are alike.
Axes: ``B`` breasts, ``R`` resamples, ``P`` patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MINIMUM_PATIENTS_PER_CLASS = 2
"""With one patient in a class every resample repeats or drops that patient: an interval would show only the other class."""
COUNTS_PER_CHUNK = 2_000_000
"""Draws of patients held at once, 8 MB, whatever the number of patients and resamples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How intervals are drawn."""

    resamples: int
    confidence: float
    seed: int


def patient_weights(patient_B: ArrayLike, *, resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """How often each breast is drawn in each resample, in chunks of rows ``weight_RB``: equal seeds give equal weights."""
    patients, patient_index_B = np.unique(np.asarray(patient_B), return_inverse=True)
    for count_RP in patient_counts(len(patients), resamples=resamples, seed=seed):
        yield count_RP.astype(np.int32)[:, patient_index_B]


def percentile_ends(value_R: NDArray[np.float64], *, confidence: float) -> tuple[float | None, float | None]:
    """Ends of the percentile interval over the resamples that define a value; None if none does."""
    finite_R = value_R[np.isfinite(value_R)]
    if finite_R.size == 0:
        return None, None
    low, high = np.quantile(finite_R, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def patient_counts(patients: int, *, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each patient is drawn in each resample, in chunks of rows ``count_RP``; whole numbers.

    The draws hang on seed and number of patients only, not on the chunks.
    """
    rng = np.random.default_rng(seed)
    rows_per_chunk = max(1, COUNTS_PER_CHUNK // max(1, patients))
    for start in range(0, resamples, rows_per_chunk):
        drawn_RP = rng.integers(patients, size=(min(rows_per_chunk, resamples - start), patients), dtype=np.int32)
        count_RP = np.empty(drawn_RP.shape, dtype=np.float32)
        for count_P, drawn_P in zip(count_RP, drawn_RP, strict=True):
            count_P[:] = np.bincount(drawn_P, minlength=patients)
        yield count_RP
