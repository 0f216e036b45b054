"""How often what a clinic asks for holds, with known truth: rates of a programme, stated shares, net benefit.

Run as ``python -m benchmarks.evaluation.bench_clinic --draws 500``. Each line is a population; a figure is the share of draws
whose 95 % interval holds the truth, among draws in which there is one, whose number stands behind it.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from gmic_model.metrics.clinic.net_benefit import net_benefits
from gmic_model.metrics.clinic.programme import FollowedExams, programme_report
from gmic_model.metrics.clinic.restated import restated
from gmic_model.metrics.operating_points import point_at_threshold

COHORTS = ((1500, 0.005), (5000, 0.005), (1500, 0.02))
"""Exams of as many women, and the share with a cancer."""
SPLITS = ((10, 100), (40, 400), (100, 1000))
"""Breasts with and without the finding, one a patient."""
PREVALENCES = (0.005, 0.05)
RISK = 0.03


class Held:
    """Counts of intervals that hold a truth, by name."""

    def __init__(self, truth: dict[str, float]) -> None:
        self.truth = truth
        self.held, self.draws = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)

    def take(self, report: Any) -> None:
        """Counts the intervals of a report that have ends."""
        for name, value in self.truth.items():
            found = getattr(report, name)
            if found.low is not None:
                self.draws[name] += 1
                self.held[name] += found.low <= value <= found.high

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.held[name] / max(1, self.draws[name]):.3f} ({self.draws[name]})" for name in self.truth)


def programme(draws: int, exams: int, share: float, rng: np.random.Generator) -> Held:
    """Cohorts as they come: sensitivity 0.80, 8 % of the others recalled."""
    sensitivity, alarms = 0.80, 0.08
    recalled = share * sensitivity + (1 - share) * alarms
    held = Held(
        {
            "detection_rate": 1000 * share * sensitivity,
            "recall_rate": recalled,
            "ppv1": share * sensitivity / recalled,
            "npv_12": (1 - share) * (1 - alarms) / (1 - recalled),
            "sensitivity_12": sensitivity,
        }
    )
    unread_E, patient_E = np.full(exams, 255), np.arange(exams).astype(np.str_)
    for _ in range(draws):
        cancer_E = (rng.random(exams) < share).astype(np.int64)
        score_E = (rng.random(exams) < np.where(cancer_E == 1, sensitivity, alarms)).astype(np.float64)
        followed = FollowedExams(
            score_E=score_E, cancer_12_E=cancer_E, cancer_24_E=cancer_E, read_E=unread_E, patient_E=patient_E
        )
        held.take(programme_report(followed, threshold=0.5, basis="", recalled_birads=(4,), confidence=0.95))
    return held


def stated(draws: int, positives: int, negatives: int, share: float, rng: np.random.Generator) -> tuple[Held, Held]:
    """Test splits of sensitivity 0.85 and specificity 0.90, restated; and their net benefit at a risk."""
    sensitivity, alarms = 0.85, 0.10
    recalled = share * sensitivity + (1 - share) * alarms
    held = Held(
        {
            "recall_rate": recalled,
            "positive_predictive_value": share * sensitivity / recalled,
            "negative_predictive_value": (1 - share) * (1 - alarms) / (1 - recalled),
            "found_per_1000": 1000 * share * sensitivity,
        }
    )
    benefit = Held({"network": share * sensitivity - (1 - share) * alarms * RISK / (1 - RISK)})
    label_B, patient_B = np.repeat([1, 0], [positives, negatives]), np.arange(positives + negatives)
    for _ in range(draws):
        is_recalled_B = rng.random(len(label_B)) < np.where(label_B == 1, sensitivity, alarms)
        point = point_at_threshold(is_recalled_B.astype(float), label_B, patient_B, 0.5, confidence=0.95)
        if point is not None:
            held.take(restated(point, share))
        risk_B = np.where(is_recalled_B, 0.9, 0.001)
        benefit.take(net_benefits(risk_B, label_B, patient_B, [RISK], prevalence=share, confidence=0.95)[0])
    return held, benefit


def main() -> None:
    """Prints a line for each population."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500)
    draws = parser.parse_args().draws
    rng = np.random.default_rng(11)
    for exams, share in COHORTS:
        print(f"{exams} exams, {share:.1%} cancers: {programme(draws, exams, share, rng)}", flush=True)
    for positives, negatives in SPLITS:
        for share in PREVALENCES:
            held, benefit = stated(draws, positives, negatives, share, rng)
            print(f"{positives} with, {negatives} without, at {share:.1%}: {held}; net benefit {benefit}", flush=True)


if __name__ == "__main__":
    main()
