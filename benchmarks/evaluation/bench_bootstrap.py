"""Patient-clustered bootstrap intervals: the vectorised way against a loop over scikit-learn, one thread, same resamples.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation.bench_bootstrap

Prints, for the size of the public reader study (1,440 breasts of 720 exams, 61 positive) and of a larger test split, seconds
of both ways, their ratio, and the largest difference of any resample. The loop is timed on fewer resamples and scaled, as it is
linear.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from gmic_model.metrics.bootstrap import patient_weights
from gmic_model.metrics.ranking import Metric, bootstrap_values

RESAMPLES = 2000
LOOP_RESAMPLES = 100
RUNS = 3
COHORTS = {"reader study, 1,440 breasts": (720, 61), "larger test split, 10,000 breasts": (5000, 300)}
SCIKIT_LEARN: dict[Metric, Callable[..., float]] = {Metric.AUROC: roc_auc_score, Metric.AUPRC: average_precision_score}


def cohort(exams: int, positives: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Two breasts an exam; scores as a network gives them, with few ties."""
    rng = np.random.default_rng(0)
    label_B = np.zeros(2 * exams, dtype=np.int64)
    label_B[rng.choice(2 * exams, positives, replace=False)] = 1
    return rng.normal(1.6 * label_B), label_B, np.repeat(np.arange(exams), 2)


def loop(
    metric: Metric, score_B: NDArray[np.float64], label_B: NDArray[np.int64], patient_B: NDArray[np.int64], resamples: int
) -> NDArray[np.float64]:
    """Each resample written out and given to scikit-learn."""
    measure = SCIKIT_LEARN[metric]
    values: list[float] = []
    for weight_RB in patient_weights(patient_B, resamples=RESAMPLES, seed=0):
        for weight_B in weight_RB[: resamples - len(values)]:
            index = np.repeat(np.arange(len(score_B)), weight_B)
            values.append(measure(label_B[index], score_B[index]))
    return np.array(values)


def main() -> None:
    """Measures and prints."""
    print(f"{'cohort':<36}{'metric':<8}{'loop s':>9}{'ours s':>9}{'ratio':>8}{'largest difference':>21}")
    for name, (exams, positives) in COHORTS.items():
        score_B, label_B, patient_B = cohort(exams, positives)
        for metric in Metric:
            loop_s, ours_s = [], []
            for _ in range(RUNS):  # in turns: a busy machine slows both
                start = time.perf_counter()
                written_R = loop(metric, score_B, label_B, patient_B, LOOP_RESAMPLES)
                loop_s.append((time.perf_counter() - start) * RESAMPLES / LOOP_RESAMPLES)
                start = time.perf_counter()
                value_SR = bootstrap_values(metric, score_B, label_B, patient_B, resamples=RESAMPLES, seed=0)
                ours_s.append(time.perf_counter() - start)
            assert value_SR is not None
            difference = np.abs(value_SR[0, :LOOP_RESAMPLES] - written_R).max()
            ratio = np.median(loop_s) / np.median(ours_s)
            print(f"{name:<36}{metric:<8}{np.median(loop_s):>9.2f}{np.median(ours_s):>9.3f}{ratio:>7.0f}x{difference:>21.1e}")


if __name__ == "__main__":
    main()
