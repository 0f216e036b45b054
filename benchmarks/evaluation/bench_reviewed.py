"""How often what a reviewer asks for holds, with known truth: model less read, FROC, JAFROC, differences of groups.

Run as ``python -m benchmarks.evaluation.bench_reviewed --draws 500``. Each line is a population; a figure is the share of draws
whose 95 % interval holds the truth, and behind it the share whose interval lies wholly above it: the error of a decision of
non-inferiority at a margin that is just missed. Of differences of groups without a difference it is the share of p-values below
0.05, and of families of comparisons with any Holm-corrected one below 0.05.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from gmic_model.metrics.comparison.group_differences import adjusted, group_differences
from gmic_model.metrics.comparison.paired_reading import beside_read
from gmic_model.metrics.lesions.froc import FalseMarks, RatedLesions, froc_points, jafroc
from schemas.reports.report import Interval

LIKENESS = 0.5
"""Of two breasts of a patient."""


class Held:
    """Counts of intervals that hold a truth."""

    def __init__(self) -> None:
        self.draws, self.held, self.above, self.width = 0, 0, 0, 0.0

    def take(self, found: Interval | None, truth: float) -> None:
        """Counts one; one without ends is left out."""
        if found is not None and found.low is not None and found.high is not None:
            self.draws += 1
            self.held += found.low <= truth <= found.high
            self.above += found.low > truth
            self.width += found.high - found.low

    def __str__(self) -> str:
        draws = max(1, self.draws)
        return f"{self.held / draws:.3f} ({self.above / draws:.3f} above, width {self.width / draws:.3f}, {self.draws} draws)"


def breasts(positives: int, negatives: int, *, are_paired: bool) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Labels and patients: one breast each, or two, of which a patient with the finding has it in one."""
    if not are_paired:
        return np.repeat([1, 0], [positives, negatives]), np.arange(positives + negatives)
    label_B = np.concatenate([np.tile([1, 0], positives), np.zeros(2 * negatives, np.int64)])
    return label_B, np.repeat(np.arange(positives + negatives), 2)


def alike(rng: np.random.Generator, patient_B: NDArray[np.intp]) -> NDArray[np.float64]:
    """Normal values of which those of a patient are alike."""
    own = rng.normal(size=int(patient_B.max()) + 1)[patient_B]
    return np.asarray(np.sqrt(LIKENESS) * own + np.sqrt(1.0 - LIKENESS) * rng.normal(size=len(patient_B)))


def reads(draws: int) -> Iterator[str]:
    """Model less read, both as normal scores of which the read's is cut."""
    cut = 1.2
    for positives, negatives, are_paired in ((20, 100, False), (20, 300, True), (60, 500, False), (100, 1000, True)):
        label_B, patient_B = breasts(positives, negatives, are_paired=are_paired)
        for model, read, shared in ((1.7, 1.7, 0.5), (2.2, 1.7, 0.6), (1.2, 1.7, 0.3)):
            rng, sensitivity, specificity = np.random.default_rng(1), Held(), Held()
            reached = 1.0 - norm.cdf(cut - read)
            at_specificity = 1.0 - norm.cdf(cut - model) - reached
            at_sensitivity = norm.cdf(norm.ppf(1.0 - reached) + model) - norm.cdf(cut)
            for _ in range(draws):
                first_B, other_B = alike(rng, patient_B), alike(rng, patient_B)
                second_B = shared * first_B + np.sqrt(1.0 - shared**2) * other_B
                found = beside_read(
                    first_B + model * label_B, second_B + read * label_B > cut, label_B, patient_B,
                    name="breast", margin=0.05, confidence=0.95,
                )  # fmt: skip
                sensitivity.take(found.points[0].sensitivity_difference, float(at_specificity))
                specificity.take(found.points[1].specificity_difference, float(at_sensitivity))
            which = f"{positives}+{negatives} {'paired' if are_paired else 'single'}, model {model}, read {read}"
            yield f"reads {which}: sensitivity {sensitivity}; specificity {specificity}"


def free_response(draws: int) -> Iterator[str]:
    """Lesions marked with a chance, ratings normal; marks on normal images a Poisson's number; both alike within patients."""
    rate, marked = 1.5, 0.9
    for with_lesion, without in ((15, 60), (40, 200), (100, 400)):
        for shift in (1.0, 2.0):
            rng, held_merit = np.random.default_rng(2), Held()
            held = {allowed: Held() for allowed in (0.125, 0.5, 1.0)}
            truth = {allowed: _sensitivity(allowed, rate, marked, shift) for allowed in held}
            merit = _merit(rate, marked, shift)
            for _ in range(draws):
                lesions, false = _marks(rng, with_lesion, without, rate, marked, shift)
                for point in froc_points(lesions, false, confidence=0.95):
                    if point.false_marks_allowed in held:
                        held[point.false_marks_allowed].take(point.sensitivity, truth[point.false_marks_allowed])
                highest_U, patient_U = false.highest(np.arange(len(false.patient_N)))
                held_merit.take(jafroc(lesions, highest_U, patient_U, confidence=0.95), merit)
            told = "; ".join(f"at {allowed:g} {found}" for allowed, found in held.items())
            yield f"marks {with_lesion}+{without}, shift {shift}: JAFROC {merit:.3f} {held_merit}; {told}"


def groups(draws: int) -> Iterator[str]:
    """Four groups without a difference, and one attribute more of two: 12 and 3 comparisons."""
    for positives, negatives, are_paired in ((60, 200, False), (60, 200, True), (200, 800, True)):
        label_B, patient_B = breasts(positives, negatives, are_paired=are_paired)
        rng, any_below, compared = np.random.default_rng(3), 0, 0
        below = dict.fromkeys(("AUROC", "sensitivity", "specificity"), 0)
        counts = dict.fromkeys(below, 0)
        for _ in range(draws):
            found = ()
            for attribute, names in (("four", "abcd"), ("two", "xy")):
                group_B = np.array(list(names))[rng.integers(len(names), size=int(patient_B.max()) + 1)][patient_B]
                found += group_differences(
                    alike(rng, patient_B) + 1.5 * label_B, label_B == 1, patient_B, group_B, attribute=attribute,
                    threshold=0.9, confidence=0.95, minimum_patients=5,
                )  # fmt: skip
            for one in found:
                counts[one.measure] += 1
                below[one.measure] += one.p_value < 0.05
            any_below += any(one.p_adjusted < 0.05 for one in adjusted(found))
            compared += len(found)
        shares = ", ".join(f"{measure} {below[measure] / max(1, counts[measure]):.3f}" for measure in below)
        which = f"{positives}+{negatives} {'paired' if are_paired else 'single'}"
        after = f"any after Holm {any_below / draws:.3f} of {compared / draws:.0f} comparisons"
        yield f"groups {which}: p < 0.05 in {shares}; {after}"


# ---------------------------------------------------------------------------------------------------------------------


def _marks(
    rng: np.random.Generator, with_lesion: int, without: int, rate: float, marked: float, shift: float
) -> tuple[RatedLesions, FalseMarks]:
    """Two images of each patient: one lesion in each, or marks only. Ratings are above 0, as a map's are."""
    patient_L, patient_N = np.repeat(np.arange(with_lesion), 2), with_lesion + np.repeat(np.arange(without), 2)
    rating_L = _above_zero(alike(rng, patient_L) + shift)
    rating_L[rng.random(len(rating_L)) > marked] = 0.0
    image_M = np.repeat(np.arange(len(patient_N)), rng.poisson(rate, len(patient_N)))
    own_M = rng.normal(size=int(patient_N.max()) + 1)[patient_N][image_M]
    rating_M = _above_zero(np.sqrt(LIKENESS) * own_M + np.sqrt(1.0 - LIKENESS) * rng.normal(size=len(image_M)))
    return (
        RatedLesions(rating_L=rating_L.astype(np.float32), patient_L=patient_L),
        FalseMarks(rating_M=rating_M.astype(np.float32), image_M=image_M, patient_N=patient_N),
    )


def _above_zero(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(norm.cdf(value))


def _sensitivity(allowed: float, rate: float, marked: float, shift: float) -> float:
    if allowed >= rate:
        return marked
    return float(marked * (1.0 - norm.cdf(norm.ppf(1.0 - allowed / rate) - shift)))


def _merit(rate: float, marked: float, shift: float) -> float:
    """By drawing a million of each: the marks of an image are alike, so there is no short formula."""
    lesions, false = _marks(np.random.default_rng(99), 100_000, 200_000, rate, marked, shift)
    highest_U, _ = false.highest(np.arange(len(false.patient_N)))
    ordered = np.sort(highest_U)
    below, upto = (np.searchsorted(ordered, lesions.rating_L, side=side) for side in ("left", "right"))
    return float(((below + upto) / 2.0 / len(ordered)).mean())


def main() -> None:
    """Prints a line for each population."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--of", choices=("reads", "marks", "groups"), nargs="*", default=["reads", "marks", "groups"])
    given = parser.parse_args()
    for name, study in (("reads", reads), ("marks", free_response), ("groups", groups)):
        for line in study(given.draws) if name in given.of else ():
            print(line, flush=True)


if __name__ == "__main__":
    main()
