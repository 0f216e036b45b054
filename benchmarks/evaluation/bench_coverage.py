"""How often the printed 95 % intervals hold the truth, and how wide they are beside other methods, in simulated cohorts.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation.bench_coverage [--draws N] [--layout NAME] [--area A] [--kind K]

Scores are normal (binormal cohorts: the truth is known in closed form), with 5 to 100 positive patients and ten times as many
others, of one breast or of two that are alike (correlation 2/3): both breasts of a patient of one label, or one positive breast
beside a negative one. One line for each kind of interval sums up its cells: coverage from lowest to highest, how many cells lie
outside 0.93 to 0.98, and the largest width beside the narrowest other method (``other_intervals.py``) that covers in the same
cell, over the draws for which that one has an interval. Cells outside are named as they come; ``--all`` names every cell, and
``--layout``, ``--area``, ``--positives`` and ``--kind`` take some of them, for more draws than all could have. A proportion of
few breasts takes few values: where no set of likeliest counts could cover between 0.93 and 0.98, the cell says so ("grid").
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom, norm

from benchmarks.evaluation.other_intervals import OTHERS, Cohort, Ends
from gmic_model.metrics.areas import area_interval, auroc_difference
from gmic_model.metrics.curve_bands import pr_band
from gmic_model.metrics.operating_points import point_at_threshold, points_at_sensitivity, points_at_specificity
from gmic_model.metrics.proportions import mean_interval, paired_proportions
from schemas.reports.report import Interval

AREAS = (0.70, 0.80, 0.90, 0.95, 0.98)
POSITIVES = (5, 10, 20, 50, 100)
LAYOUTS = ("one breast", "two alike", "two, one positive")
NEGATIVES_PER_POSITIVE = 10
LIKENESS = 0.5
"""Of two breasts in each of the two images that a model's score is the mean of; of the scores it is 2/3."""
SPECIFICITY = 0.9
SENSITIVITY = 0.8
FIXED = ("sensitivity", "specificity", "PPV", "NPV", "recall rate")
"""Rates at a threshold that was fixed beforehand."""
ROC_PLACES = (5, 10, 20, 30, 50, 70, 90)
"""Per cent of false positives at which the band of the ROC is looked at: it is the interval of an operating point there."""
BAND_PLACES = (10, 50, 80)
"""Per cent of the recall at which the band of the precision is looked at."""
BAND = (0.93, 0.98)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulated population."""

    area: float
    positives: int
    layout: str

    def __str__(self) -> str:
        return f"area {self.area:.2f}, {self.positives} positive patients, {self.layout}"


@dataclass(slots=True)
class Tally:
    """What one kind of interval did in one cell."""

    hits: list[bool] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    """The house's width in the same draws, where this one is of some width."""

    def add(self, ends: Ends | None, truth: float, beside: Ends | None = None) -> None:
        """Counts one draw; an interval that is not defined is not counted."""
        if ends is None or not np.isfinite(ends).all():
            return
        self.hits.append(ends[0] - 1e-12 <= truth <= ends[1] + 1e-12)
        self.width.append(ends[1] - ends[0])
        if beside is not None and ends[1] > ends[0]:
            self.beside.append(beside[1] - beside[0])

    @property
    def ratio(self) -> float | None:
        """The house's width over this one's, where this one covers."""
        own = [width for width in self.width if width > 0.0]
        return float(np.mean(self.beside) / np.mean(own)) if self.beside and np.mean(self.hits) >= BAND[0] else None


def layout_of(cell: Cell) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and patients."""
    positives, negatives = cell.positives, NEGATIVES_PER_POSITIVE * cell.positives
    if cell.layout == "one breast":
        label_B = np.repeat([1, 0], [positives, negatives])
        return label_B, np.arange(positives + negatives)
    patient_B = np.repeat(np.arange(positives + negatives), 2)
    is_positive_B = (patient_B < positives) & ((np.arange(len(patient_B)) % 2 == 0) | (cell.layout == "two alike"))
    return is_positive_B.astype(np.int64), patient_B


def draw(cell: Cell, rng: np.random.Generator) -> Cohort:
    """One cohort: two models see the patient and each its own noise; the second is the weaker one."""
    label_B, patient_B = layout_of(cell)
    alike = 0.0 if cell.layout == "one breast" else LIKENESS
    shared_B = np.sqrt(alike) * rng.normal(size=patient_B.max() + 1)[patient_B]
    image_MB = shared_B + np.sqrt(1.0 - alike) * rng.normal(size=(3, len(label_B)))
    shift = np.sqrt(2.0) * ndtri(cell.area)
    own_B, other_B = np.sqrt(0.5) * (image_MB[0] + image_MB[1]), np.sqrt(0.5) * (image_MB[0] + image_MB[2])
    scale = np.sqrt(1.0 + alike)  # of a sum of two halves that share the patient's part
    return Cohort(
        score_B=own_B / scale + shift * label_B,
        other_B=other_B / scale + 0.8 * shift * label_B,
        label_B=label_B,
        patient_B=patient_B,
        threshold=float(ndtri(SPECIFICITY)),
    )


def truths(cell: Cell) -> dict[str, float]:
    """What every interval should hold, in closed form."""
    label_B, _ = layout_of(cell)
    share, shift = float(label_B.mean()), float(np.sqrt(2.0) * ndtri(cell.area))
    sensitivity = float(ndtr(shift - ndtri(SPECIFICITY)))
    other = float(ndtr(0.8 * shift - ndtri(SPECIFICITY)))
    called = share * sensitivity + (1.0 - share) * (1.0 - SPECIFICITY)
    z = np.linspace(-8.0, 8.0, 20001)
    true, false = share * norm.sf(z), (1.0 - share) * norm.sf(z + shift)
    precision = true / np.maximum(true + false, 1e-300)
    return {
        "AUROC": cell.area,
        "AUPRC": float(np.trapezoid(precision * norm.pdf(z), z)),
        "difference of AUROC": cell.area - float(ndtr(0.8 * shift / np.sqrt(2.0))),
        "sensitivity": sensitivity,
        "specificity": SPECIFICITY,
        "PPV": share * sensitivity / called,
        "NPV": (1.0 - share) * SPECIFICITY / (1.0 - called),
        "recall rate": called,
        "sensitivity at specificity": sensitivity,
        "specificity at sensitivity": float(ndtr(shift - ndtri(SENSITIVITY))),
        **{f"ROC at {at} %": float(ndtr(shift - ndtri(1.0 - at / 100.0))) for at in ROC_PLACES},
        **{f"precision at {at} %": _precision_at(at / 100.0, share, shift) for at in BAND_PLACES},
        "difference of sensitivity": sensitivity - other,
        "difference of specificity": 0.0,
        "mean of shares": _mean_share(shift),
    }


def _precision_at(recall: float, share: float, shift: float) -> float:
    alarms = float(ndtr(-shift - ndtri(1.0 - recall)))
    return share * recall / (share * recall + (1.0 - share) * alarms)


def _mean_share(shift: float) -> float:
    z = np.linspace(-8.0, 8.0, 4001)
    return float(np.trapezoid(ndtr(z + shift - 1.0) ** 2 * norm.pdf(z), z))


def printed(cohort: Cohort, kinds: Sequence[str]) -> dict[str, Ends | None]:
    """The intervals that the house prints, of the kinds asked for."""
    score_B, label_B, patient_B = cohort.score_B, cohort.label_B, cohort.patient_B
    recalled_MB = np.stack([score_B, cohort.other_B]) >= cohort.threshold
    is_positive_B = label_B == 1
    found: dict[str, Ends | None] = {}
    if set(kinds) & set(FIXED):
        point = point_at_threshold(score_B, label_B, patient_B, cohort.threshold, confidence=0.95)
        assert point is not None and point.negative_predictive_value is not None
        rates = (point.sensitivity, point.specificity, point.positive_predictive_value, point.negative_predictive_value)
        found |= {name: _ends(rate) for name, rate in zip(FIXED, (*rates, point.recall_rate), strict=True)}
    if any(kind.startswith("ROC at") for kind in kinds):
        kept = [1.0 - at / 100.0 for at in ROC_PLACES]
        points = points_at_specificity(score_B, label_B, patient_B, kept, confidence=0.95)
        found |= {f"ROC at {at} %": _ends(point.sensitivity) for at, point in zip(ROC_PLACES, points, strict=True)}
    if any(kind.startswith("precision at") for kind in kinds):
        drawn = pr_band(score_B, label_B, patient_B, confidence=0.95)
        assert drawn is not None
        found |= {f"precision at {at} %": (float(drawn.low_G[at]), float(drawn.high_G[at])) for at in BAND_PLACES}
    alone: dict[str, Callable[[], Interval]] = {
        "AUROC": lambda: area_interval("auroc", score_B, label_B, patient_B, confidence=0.95),
        "AUPRC": lambda: area_interval("auprc", score_B, label_B, patient_B, confidence=0.95),
        "difference of AUROC": lambda: auroc_difference(score_B, cohort.other_B, label_B, patient_B, confidence=0.95),
        "sensitivity at specificity": lambda: (
            points_at_specificity(score_B, label_B, patient_B, [SPECIFICITY], confidence=0.95)[0].sensitivity
        ),
        "specificity at sensitivity": lambda: (
            points_at_sensitivity(score_B, label_B, patient_B, [SENSITIVITY], confidence=0.95)[0].specificity
        ),
        "difference of sensitivity": lambda: paired_proportions(
            *recalled_MB[:, is_positive_B], patient_B[is_positive_B], confidence=0.95
        ),
        "difference of specificity": lambda: paired_proportions(
            *~recalled_MB[:, ~is_positive_B], patient_B[~is_positive_B], confidence=0.95
        ),
        "mean of shares": lambda: mean_interval(
            ndtr(score_B[is_positive_B] - 1.0) ** 2, patient_B[is_positive_B], confidence=0.95
        ),
    }
    found |= {name: _ends(interval()) for name, interval in alone.items() if name in kinds}
    return {name: ends for name, ends in found.items() if name in kinds}


def _ends(interval: Interval) -> Ends | None:
    return None if interval.low is None or interval.high is None else (interval.low, interval.high)


# -------------------------------------------------------------------------------------------------------------- study


def attainable(count: int, truth: float) -> bool:
    """Whether an interval of the hits of ``count`` could cover within the band: the likeliest counts, added one by one."""
    coverage = np.cumsum(np.sort(binom.pmf(np.arange(count + 1), count, truth))[::-1])
    return bool(((coverage >= BAND[0]) & (coverage <= BAND[1])).any())


def study(
    draws: int, layouts: Sequence[str], areas: Sequence[float], sizes: Sequence[int], kinds: Sequence[str] | None
) -> Iterator[tuple[Cell, str, float, Tally, dict[str, Tally]]]:
    """Every cell: what is printed, and the other methods."""
    for index, (layout, area, positives) in enumerate(product(LAYOUTS, AREAS, POSITIVES)):
        if layout not in layouts or area not in areas or positives not in sizes:
            continue
        cell = Cell(area=area, positives=positives, layout=layout)
        rng, truth = np.random.default_rng(index), truths(cell)
        truth = {name: value for name, value in truth.items() if kinds is None or name in kinds}
        ours = {name: Tally() for name in truth}
        others = {name: {title: Tally() for title in OTHERS.get(name, {})} for name in truth}
        for _ in range(draws):
            cohort = draw(cell, rng)
            for name, ends in printed(cohort, tuple(truth)).items():
                ours[name].add(ends, truth[name])
                for title, method in OTHERS.get(name, {}).items():
                    others[name][title].add(method(cohort), truth[name], ends)
        for name in truth:
            yield cell, name, truth[name], ours[name], others[name]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--layout", choices=LAYOUTS)
    parser.add_argument("--area", type=float, nargs="+", choices=AREAS, default=AREAS)
    parser.add_argument("--positives", type=int, nargs="+", choices=POSITIVES, default=POSITIVES)
    parser.add_argument("--kind", nargs="+", help="such as AUROC 'mean of shares'; without it all kinds")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    lines: dict[str, list[tuple[float, float, float | None]]] = {}
    layouts = [options.layout] if options.layout else LAYOUTS
    for cell, name, truth, ours, others in study(options.draws, layouts, options.area, options.positives, options.kind):
        coverage, width = float(np.mean(ours.hits)), float(np.mean(ours.width))
        ratio = max((one.ratio for one in others.values() if one.ratio is not None), default=None)
        lines.setdefault(name, []).append((coverage, min(ours.width), ratio))
        if options.all or not BAND[0] <= coverage <= BAND[1] or (ratio or 0.0) > 1.15:
            single = name in ("sensitivity",) and cell.layout == "one breast" and not attainable(cell.positives, truth)
            beside = "".join(
                f"; {title} {np.mean(one.hits):.3f}, {np.mean(one.width):.3f}" for title, one in others.items() if one.hits
            )
            print(f"{name}, {cell}: {coverage:.3f}, width {width:.3f}{beside}{'; grid' if single else ''}", flush=True)
    print(f"{'interval':<28}{'cells':>6}{'lowest':>8}{'highest':>9}{'outside':>9}{'narrowest':>11}{'widest beside others':>22}")
    for name, cells in lines.items():
        coverages = [coverage for coverage, _, _ in cells]
        outside = sum(not BAND[0] <= coverage <= BAND[1] for coverage in coverages)
        beside = max((ratio for _, _, ratio in cells if ratio is not None), default=float("nan"))
        print(
            f"{name:<28}{len(cells):>6}{min(coverages):>8.3f}{max(coverages):>9.3f}{outside:>9}"
            f"{min(narrowest for _, narrowest, _ in cells):>11.4f}{beside:>22.2f}"
        )


if __name__ == "__main__":
    main()
