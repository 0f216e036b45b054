"""How often the intervals of one AUROC hold the truth that others have published, beside the printed one: few positive breasts.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation.bench_area [--draws 4000] [--area 0.98] [--positives 10]

Which is the best known method where an AUROC is high and positives are few? Normal scores, one breast a patient, ten others
for each positive. Each line: what the method holds in the cell asked for and how wide it is there, the lowest it holds in the
25 cells of the study with one breast (a quarter of the draws), and where positives spread half as wide again as the others.

Sources: DeLong 1988; Hanley and McNeil 1982 with Newcombe's variance; Newcombe 2006, method 5; Kottas, Kuss and Zapf 2014
(modified Wald); Reiser and Guttman 1986 (binormal); Qin and Zhou 2006 (empirical likelihood of the placements).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri, stdtrit

from benchmarks.evaluation.bench_coverage import AREAS, BAND, NEGATIVES_PER_POSITIVE, POSITIVES
from gmic_model.metrics.areas import auroc_by_confidence, implied_variance

Floats = NDArray[np.float64]
Ends = tuple[Floats, Floats]
Z = float(ndtri(0.975))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """Many cohorts: axes ``D`` draws, ``P`` positives, ``N`` the others."""

    positive_DP: Floats
    other_DN: Floats
    above_DP: Floats
    area_D: Floats
    variance_D: Floats


def draw(area: float, positives: int, draws: int, *, spread: float = 1.0) -> Draws:
    """Normal scores, and DeLong's variance of each cohort."""
    rng = np.random.default_rng([int(1000 * area), positives, int(10 * spread)])
    shift = np.sqrt(1.0 + spread**2) * ndtri(area)
    positive_DP = rng.normal(size=(draws, positives)) * spread + shift
    other_DN = rng.normal(size=(draws, NEGATIVES_PER_POSITIVE * positives))

    def below(one_DM: Floats, of_DM: Floats) -> Floats:
        sorted_DM = np.sort(of_DM, axis=1)
        return np.stack([np.searchsorted(of, one) for one, of in zip(one_DM, sorted_DM, strict=True)]) / of_DM.shape[1]

    above_DP, lower_DN = below(positive_DP, other_DN), below(other_DN, positive_DP)
    variance_D = above_DP.var(axis=1, ddof=1) / positives + lower_DN.var(axis=1, ddof=1) / other_DN.shape[1]
    return Draws(
        positive_DP=positive_DP,
        other_DN=other_DN,
        above_DP=above_DP,
        area_D=above_DP.mean(axis=1),
        variance_D=variance_D,
    )


def around(seen: Draws, deviation_D: Floats, quantile: float) -> Ends:
    """Around the area."""
    return seen.area_D - quantile * deviation_D, seen.area_D + quantile * deviation_D


def scaled(to: Callable[[Floats], Floats], back: Callable[[Floats], Floats], slope: Callable[[Floats], Floats]) -> Method:
    """DeLong's on another scale, with Student's t; of no width where the area is 1."""

    def ends(seen: Draws) -> Ends:
        area_D = np.minimum(seen.area_D, 1.0 - 1e-12)
        reach_D = student(seen) * np.sqrt(seen.variance_D) * slope(area_D)
        low_D, high_D = (np.where(seen.area_D < 1.0, back(to(area_D) + sign * reach_D), 1.0) for sign in (-1.0, 1.0))
        return low_D, high_D

    return ends


def newcombe(seen: Draws) -> Ends:
    """The areas at which the one found would just not surprise."""
    positives, others = seen.positive_DP.shape[1], seen.other_DN.shape[1]

    def end(limit: float) -> Floats:
        near_D, far_D = seen.area_D.copy(), np.full_like(seen.area_D, limit)
        for _ in range(45):
            middle_D = (near_D + far_D) / 2.0
            variance_D = middle_D * (1.0 - middle_D) * implied_factor(middle_D, positives, others)
            is_far_D = (seen.area_D - middle_D) ** 2 > Z * Z * variance_D
            near_D, far_D = np.where(is_far_D, near_D, middle_D), np.where(is_far_D, middle_D, far_D)
        return near_D

    return end(0.0), end(1.0)


def implied_factor(area_D: Floats, positives: int, others: int) -> Floats:
    """Newcombe's variance over that of a decision: ``implied_variance`` of many areas."""
    mean_less_1 = (positives + others) / 2.0 - 1.0
    alike_D = (1.0 - area_D) / (2.0 - area_D) + area_D / (1.0 + area_D)
    return np.asarray((1.0 + mean_less_1 * alike_D) / (positives * others))


def wald(seen: Draws) -> Ends:
    """Hanley and McNeil's, with the variance that the area implies."""
    sizes = seen.positive_DP.shape[1], seen.other_DN.shape[1]
    return around(seen, np.sqrt([implied_variance(float(area), *sizes) for area in seen.area_D]), Z)


def modified_wald(seen: Draws) -> Ends:
    """A proportion of three quarters of all breasts."""
    breasts = seen.positive_DP.shape[1] + seen.other_DN.shape[1]
    return around(seen, np.sqrt(seen.area_D * (1.0 - seen.area_D) / (0.75 * breasts - 1.0)), Z)


def binormal(seen: Draws) -> Ends:
    """Supposes normal scores, as they are here."""
    positives, others = seen.positive_DP.shape[1], seen.other_DN.shape[1]
    spread_D, other_D = seen.positive_DP.var(axis=1, ddof=1), seen.other_DN.var(axis=1, ddof=1)
    both_D = spread_D + other_D
    value_D = (seen.positive_DP.mean(axis=1) - seen.other_DN.mean(axis=1)) / np.sqrt(both_D)
    degrees_D = both_D**2 / (spread_D**2 / (positives - 1) + other_D**2 / (others - 1))
    mean_D = (spread_D / positives + other_D / others) / both_D
    reach_D = Z * np.sqrt(mean_D + value_D**2 / (2.0 * degrees_D))
    return ndtr(value_D - reach_D), ndtr(value_D + reach_D)


def empirical_likelihood(seen: Draws) -> Ends:
    """Of the mean of the positives' placements, scaled by the whole variance."""
    own_D = seen.above_DP.var(axis=1) / seen.above_DP.shape[1]
    scale_D = np.where(seen.variance_D > 0.0, own_D / np.maximum(seen.variance_D, 1e-300), 1.0)

    def ratio(area_D: Floats) -> Floats:
        away_DP = seen.above_DP - area_D[:, None]
        most_D, least_D = away_DP.max(axis=1), away_DP.min(axis=1)
        is_outside_D = (most_D <= 0.0) | (least_D >= 0.0)
        low_D = -1.0 / np.maximum(most_D, 1e-9) * (1.0 - 1e-9)
        high_D = -1.0 / np.minimum(least_D, -1e-9) * (1.0 - 1e-9)
        for _ in range(60):
            middle_D = (low_D + high_D) / 2.0
            is_short_D = (away_DP / (1.0 + middle_D[:, None] * away_DP)).sum(axis=1) > 0.0
            low_D, high_D = np.where(is_short_D, middle_D, low_D), np.where(is_short_D, high_D, middle_D)
        inside_DP = np.maximum(1.0 + middle_D[:, None] * away_DP, 1e-300)
        return np.where(is_outside_D, np.inf, 2.0 * np.log(inside_DP).sum(axis=1) * scale_D)

    def end(limit: float) -> Floats:
        near_D, far_D = seen.area_D.copy(), np.full_like(seen.area_D, limit)
        for _ in range(30):
            middle_D = (near_D + far_D) / 2.0
            is_far_D = ratio(middle_D) > Z * Z
            near_D, far_D = np.where(is_far_D, near_D, middle_D), np.where(is_far_D, middle_D, far_D)
        return near_D

    return end(0.0), end(1.0)


def printed(seen: Draws) -> Ends:
    """The house's."""
    positives, others = seen.positive_DP.shape[1], seen.other_DN.shape[1]
    is_positive_B = np.arange(positives + others) < positives
    scores_DB = np.concatenate([seen.positive_DP, seen.other_DN], axis=1)
    parts = [auroc_by_confidence(score_B, is_positive_B, np.arange(positives + others))(0.95) for score_B in scores_DB]
    return np.array([part.low for part in parts]), np.array([part.high for part in parts])


def student(seen: Draws) -> float:
    """The quantile of Student's t, one degree less than positives."""
    return float(stdtrit(seen.positive_DP.shape[1] - 1, 0.975))


Method = Callable[[Draws], Ends]
METHODS: dict[str, Method] = {
    "DeLong": lambda seen: around(seen, np.sqrt(seen.variance_D), Z),
    "DeLong, t": lambda seen: around(seen, np.sqrt(seen.variance_D), student(seen)),
    "logit DeLong, t": scaled(logit, expit, lambda area_D: 1.0 / (area_D * (1.0 - area_D))),
    "probit DeLong, t": scaled(ndtri, ndtr, lambda area_D: np.sqrt(2.0 * np.pi) * np.exp(ndtri(area_D) ** 2 / 2.0)),
    "Hanley and McNeil": wald,
    "modified Wald": modified_wald,
    "binormal": binormal,
    "empirical likelihood": empirical_likelihood,
    "Newcombe's method 5": newcombe,
    "printed": printed,
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--area", type=float, default=0.98)
    parser.add_argument("--positives", type=int, default=10)
    options = parser.parse_args()
    asked, elsewhere = draw(options.area, options.positives, options.draws), options.draws // 4
    plain = [(area, draw(area, count, elsewhere)) for area in AREAS for count in POSITIVES]
    spread = [(area, draw(area, count, elsewhere, spread=1.5)) for area in AREAS[2:] for count in POSITIVES[1:4]]
    for name, method in METHODS.items():
        low_D, high_D = (np.clip(end_D, 0.0, 1.0) for end_D in method(asked))
        held = float(np.mean((low_D <= options.area) & (options.area <= high_D)))
        others, wider = ([_held(method, area, seen) for area, seen in cells] for cells in (plain, spread))
        print(
            f"{name:<22} holds {held:.3f}, {np.mean(high_D - low_D):.3f} wide, of no width {np.mean(high_D <= low_D):.3f};"
            f" 25 cells: lowest {min(others):.3f}, {sum(one < BAND[0] for one in others)} below,"
            f" {sum(one > BAND[1] for one in others)} above; spread 1.5: lowest {min(wider):.3f}",
            flush=True,
        )


def _held(method: Method, area: float, seen: Draws) -> float:
    low_D, high_D = method(seen)
    return float(np.mean((low_D <= area) & (area <= high_D)))


if __name__ == "__main__":
    main()
