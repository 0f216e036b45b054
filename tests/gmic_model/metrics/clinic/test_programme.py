"""A programme's counts and rates: by hand, and how often their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gmic_model.metrics.clinic.programme import FollowedExams, programme_report
from schemas.reports.clinic import ProgrammeReport


def _exams(score_E: list[float], cancer_12_E: list[int], cancer_24_E: list[int], read_E: list[int]) -> FollowedExams:
    return FollowedExams(
        score_E=np.array(score_E), cancer_12_E=np.array(cancer_12_E), cancer_24_E=np.array(cancer_24_E),
        read_E=np.array(read_E), patient_E=np.array([f"P{exam}" for exam in range(len(score_E))]),
    )  # fmt: skip


def _report(exams: FollowedExams, threshold: float | None = 0.5) -> ProgrammeReport:
    return programme_report(exams, threshold=threshold, basis="fixed", recalled_birads=(0, 4, 5), confidence=0.95)


def test_counts_and_rates_are_those_of_the_definitions() -> None:
    """Ten exams: two cancers of the first year, one recalled by the read, one of the second year, one not followed.

    The network recalls four of the nine followed, two of them with a cancer within 12 months: PPV1 1 / 2. Of the five not
    recalled none had one within 12 months, one within 24. The second-year cancer and the one that the read missed are
    interval cancers; the network recalls one of these two.
    """
    told = _report(
        _exams(
            [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1, 0.1, 0.95],
            [1, 1, 0, 0, 0, 0, 0, 0, 0, 255],
            [1, 1, 0, 0, 1, 0, 0, 0, 0, 255],
            [1, 0, 0, 1, 0, 0, 0, 0, 255, 1],
        )
    )
    assert (told.exams, told.exams_24, told.undated) == (9, 9, 1)
    assert (told.cancers_12, told.cancers_24) == (2, 3)
    assert (told.screen_detected, told.interval_cancers, told.without_read) == (1, 2, 0)
    assert told.recall_rate.value == pytest.approx(4 / 9)
    assert told.detection_rate.value == pytest.approx(1000 * 2 / 9)
    assert told.ppv1.value == pytest.approx(2 / 4)
    assert told.npv_12.value == pytest.approx(5 / 5) and told.npv_24.value == pytest.approx(4 / 5)
    assert told.sensitivity_12.value == 1.0 and told.sensitivity_24.value == pytest.approx(2 / 3)
    assert told.specificity_12.value == pytest.approx(5 / 7)
    assert told.of_screen_detected.value == 1.0 and told.of_interval_cancers.value == pytest.approx(1 / 2)
    assert told.read_recall_rate.value == pytest.approx(2 / 8) and told.read_ppv1.value == pytest.approx(1 / 2)
    assert told.read_detection_rate.value == pytest.approx(1000 * 1 / 8)
    # Two patients with a cancer: what cancers make has no ends; the recall rate of nine patients has.
    assert told.detection_rate.low is None and told.npv_12.low is None and told.recall_rate.low is not None


def test_without_a_threshold_the_counts_and_the_read_remain() -> None:
    """Nothing is recalled by nobody; the original read has its rates all the same."""
    told = _report(_exams([0.9, 0.1], [1, 0], [1, 0], [1, 0]), None)
    assert told.recall_rate.value is None and told.ppv1.value is None and told.of_screen_detected.value is None
    assert told.cancers_12 == 1 and told.read_ppv1.value == 1.0


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """200 cohorts as they come: 1,500 exams of 750 women, 0.8 % cancers, sensitivity 0.8, 6 % of the others recalled.

    A detection rate of 6.4 per 1,000, PPV1 and NPV by Bayes. Few cancers make the counts coarse: 0.90 to 0.995 in 200 draws.
    """
    rng = np.random.default_rng(3)
    share, sensitivity, alarms = 0.008, 0.8, 0.06
    recalled = share * sensitivity + (1 - share) * alarms
    truth = {
        "detection_rate": 1000 * share * sensitivity,
        "recall_rate": recalled,
        "ppv1": share * sensitivity / recalled,
        "npv_12": (1 - share) * (1 - alarms) / (1 - recalled),
    }
    held, drawn = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    patient_E: NDArray[np.str_] = np.repeat(np.arange(750), 2).astype(np.str_)
    for _ in range(200):
        cancer_E = (rng.random(1500) < share).astype(np.int64)
        score_E = (rng.random(1500) < np.where(cancer_E == 1, sensitivity, alarms)).astype(np.float64)
        unread_E = np.full(1500, 255)
        told = _report(
            FollowedExams(score_E=score_E, cancer_12_E=cancer_E, cancer_24_E=cancer_E, read_E=unread_E, patient_E=patient_E)
        )
        for name, value in truth.items():
            found = getattr(told, name)
            if found.low is not None:
                drawn[name] += 1
                held[name] += found.low <= value <= found.high
    assert all(count > 150 for count in drawn.values())
    assert all(0.90 <= held[name] / drawn[name] <= 0.995 for name in truth), (held, drawn)
