"""How often the printed 95 % intervals hold the truth, and how wide they are beside other methods, in simulated cohorts.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation.bench_coverage [--draws N] [--layout NAME] [--area A] [--kind K]

Scores are normal (binormal cohorts: the truth is known in closed form), with 5 to 100 positive patients and ten times as many
others, of one breast or of two that are alike (correlation 2/3): both breasts of a patient of one label, or one positive breast
beside a negative one. One line for each kind of interval sums up its cells: coverage from lowest to highest, how many cells lie
outside 0.93 to 0.98, and the largest width beside the narrowest other method that covers in the same cell. Cells outside are
named as they come; ``--all`` names every cell, and ``--layout``, ``--area``, ``--positives`` and ``--kind`` take some of
them, for more draws than all could have. A proportion of few breasts takes few values: where no set of likeliest counts could
cover between 0.93 and 0.98, the cell says so ("grid").
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import beta, binom, norm

from gmic_model.metrics.areas import area_interval, auroc_difference, precision_influence
from gmic_model.metrics.bootstrap import patient_weights
from gmic_model.metrics.curve_bands import pr_band, roc_band
from gmic_model.metrics.delong import delong_covariance
from gmic_model.metrics.operating_points import point_at_threshold, points_at_sensitivity, points_at_specificity
from gmic_model.metrics.proportions import clustered_variance, mean_interval, paired_proportions, student_quantile
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
BAND_PLACES = (10, 50, 80)
"""Per cent of the horizontal axis at which the bands of the curves are looked at."""
BAND = (0.93, 0.98)
Floats = NDArray[np.float64]
Ends = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulated population."""

    area: float
    positives: int
    layout: str

    def __str__(self) -> str:
        return f"area {self.area:.2f}, {self.positives} positive patients, {self.layout}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohort:
    """One draw: two models' scores of the same breasts."""

    score_B: Floats
    other_B: Floats
    label_B: NDArray[np.int64]
    patient_B: NDArray[np.int64]
    threshold: float


@dataclass(slots=True)
class Tally:
    """What one kind of interval did in one cell."""

    hits: list[bool] = field(default_factory=list)
    width: list[float] = field(default_factory=list)

    def add(self, ends: Ends | None, truth: float) -> None:
        """Counts one draw; an interval that is not defined is not counted."""
        if ends is not None and np.isfinite(ends).all():
            self.hits.append(ends[0] - 1e-12 <= truth <= ends[1] + 1e-12)
            self.width.append(ends[1] - ends[0])


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
        **{f"ROC at {at} %": float(ndtr(shift - ndtri(1.0 - at / 100.0))) for at in BAND_PLACES},
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
    for name, band in (("ROC", roc_band), ("precision", pr_band)):
        if any(kind.startswith(f"{name} at") for kind in kinds):
            drawn = band(score_B, label_B, patient_B, confidence=0.95)
            assert drawn is not None
            found |= {f"{name} at {at} %": (float(drawn.low_G[at]), float(drawn.high_G[at])) for at in BAND_PLACES}
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


# ------------------------------------------------------------------------------------------------------ other methods

Other = Callable[[Cohort], Ends | None]


def _logit(value: float, variance: float, quantile: float) -> Ends | None:
    if not 0.0 < value < 1.0:
        return None if value <= 0.0 else (1.0, 1.0)
    reach = quantile * np.sqrt(max(0.0, variance)) / (value * (1.0 - value))
    middle = np.log(value / (1.0 - value))
    return float(1.0 / (1.0 + np.exp(reach - middle))), float(1.0 / (1.0 + np.exp(-reach - middle)))


def logit_delong(cohort: Cohort) -> Ends | None:
    """Logit, clustered DeLong, Student's t."""
    found = delong_covariance(cohort.score_B, cohort.label_B, patient_B=cohort.patient_B)
    assert found is not None
    return _logit(float(found.auroc_M[0]), float(found.covariance_MM[0, 0]), _quantile(cohort))


def delong_difference(cohort: Cohort) -> Ends | None:
    """Clustered DeLong, Student's t."""
    scores = np.stack([cohort.score_B, cohort.other_B])
    found = delong_covariance(scores, cohort.label_B, patient_B=cohort.patient_B)
    assert found is not None
    contrast = np.array([1.0, -1.0])
    reach = _quantile(cohort) * np.sqrt(max(0.0, contrast @ found.covariance_MM @ contrast))
    difference = float(contrast @ found.auroc_M)
    return difference - reach, difference + reach


def logit_precision(cohort: Cohort) -> Ends | None:
    """Logit, influences by patient, Student's t."""
    influence_B = precision_influence(cohort.score_B, cohort.label_B == 1)
    variance, _ = clustered_variance(influence_B, cohort.patient_B)
    order_B = np.argsort(-cohort.score_B)
    truth_B = cohort.label_B[order_B]
    value = float((np.cumsum(truth_B) / np.arange(1, len(truth_B) + 1) * truth_B).sum() / truth_B.sum())
    return _logit(value, variance, _quantile(cohort))


def _quantile(cohort: Cohort) -> float:
    return student_quantile(len(np.unique(cohort.patient_B[cohort.label_B == 1])) - 1, 0.95)


def _exact(cohort: Cohort, is_counted_B: NDArray[np.bool_]) -> Ends | None:
    """Clopper and Pearson, breasts as independent."""
    hits_N = (cohort.score_B >= cohort.threshold)[is_counted_B]
    hit, count = int(hits_N.sum()), len(hits_N)
    low = float(beta.ppf(0.025, hit, count - hit + 1)) if hit else 0.0
    return low, float(beta.ppf(0.975, hit + 1, count - hit)) if hit < count else 1.0


def exact_sensitivity(cohort: Cohort) -> Ends | None:
    """Clopper and Pearson of the positives."""
    return _exact(cohort, cohort.label_B == 1)


def exact_specificity(cohort: Cohort) -> Ends | None:
    """Clopper and Pearson of the negatives."""
    found = _exact(cohort, cohort.label_B == 0)
    assert found is not None
    return 1.0 - found[1], 1.0 - found[0]


def logit_ppv(cohort: Cohort) -> Ends | None:
    """Mercaldo, Lau and Zhou: logit of the predictive value at a known share, breasts as independent."""
    is_recalled_B, is_positive_B = cohort.score_B >= cohort.threshold, cohort.label_B == 1
    right, wrong = int((is_recalled_B & is_positive_B).sum()), int((is_recalled_B & ~is_positive_B).sum())
    if not right or not wrong:
        return None
    sensitivity, alarms = right / is_positive_B.sum(), wrong / (~is_positive_B).sum()
    value = right / (right + wrong)
    return _logit(value, (value * (1.0 - value)) ** 2 * ((1.0 - sensitivity) / right + (1.0 - alarms) / wrong), 1.96)


def student_mean(cohort: Cohort) -> Ends | None:
    """Mean and Student's t over patients."""
    is_positive_B = cohort.label_B == 1
    value_B = ndtr(cohort.score_B[is_positive_B] - 1.0) ** 2
    variance, patients = clustered_variance((value_B - value_B.mean()) / len(value_B), cohort.patient_B[is_positive_B])
    reach = student_quantile(patients - 1, 0.95) * np.sqrt(variance)
    return float(value_B.mean() - reach), float(value_B.mean() + reach)


def percentile_sensitivity(cohort: Cohort) -> Ends | None:
    """What was printed before: percentiles of resampled patients."""
    is_positive_B = cohort.label_B == 1
    hits_N = (cohort.score_B >= cohort.threshold)[is_positive_B].astype(np.float64)
    (weight_RN,) = patient_weights(cohort.patient_B[is_positive_B], resamples=400, seed=0)
    low, high = np.quantile(weight_RN @ hits_N / weight_RN.sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


OTHERS: dict[str, dict[str, Other]] = {
    "AUROC": {"logit DeLong, t": logit_delong},
    "AUPRC": {"logit, influences, t": logit_precision},
    "difference of AUROC": {"DeLong, t": delong_difference},
    "sensitivity": {"Clopper-Pearson": exact_sensitivity, "percentile bootstrap": percentile_sensitivity},
    "specificity": {"Clopper-Pearson": exact_specificity},
    "PPV": {"logit at a known share": logit_ppv},
    "mean of shares": {"t over patients": student_mean},
}


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
                    others[name][title].add(method(cohort), truth[name])
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
        holding = [np.mean(one.width) for one in others.values() if one.hits and np.mean(one.hits) >= BAND[0]]
        ratio = width / float(min(holding)) if holding else None
        lines.setdefault(name, []).append((coverage, min(ours.width), ratio))
        if options.all or not BAND[0] <= coverage <= BAND[1] or (ratio or 0.0) > 1.15:
            single = name in ("sensitivity",) and cell.layout == "one breast" and not attainable(cell.positives, truth)
            beside = "".join(f"; {title} {np.mean(one.hits):.3f}, {np.mean(one.width):.3f}" for title, one in others.items())
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
