"""What a threshold would do in another population: its sensitivity and specificity at a stated share of findings.

It holds where findings and breasts without are of the same kind there. A population with smaller cancers, or denser breasts,
has another sensitivity and specificity, which no arithmetic gives. Limits of what is made of two rates come from those of the
rates (``proportions.py``).
"""

from __future__ import annotations

from gmic_model.metrics.calibration import shifted_intercept
from gmic_model.metrics.proportions import Part, complement, predictive_value, weighted_sum
from schemas.reports.clinic import RestatedPoint
from schemas.reports.evaluation import OperatingPoint, RecalibrationFit
from schemas.reports.report import Interval

_UNDEFINED = Interval(value=None, low=None, high=None)


def restated(point: OperatingPoint, prevalence: float, recalibration: RecalibrationFit | None = None) -> RestatedPoint | None:
    """The point at a share of findings; None where it has no threshold, or sensitivity or specificity is not defined.

    Args:
        point: As measured; its rates have no ends where too few patients were there, and then nothing here has.
        prevalence: Share of breasts with the finding, between 0 and 1; taken as known.
        recalibration: In use: its intercept is moved to the share.
    """
    found, kept = _part(point.sensitivity), _part(point.specificity)
    if found is None or kept is None or point.threshold is None:
        return None
    has_ends = point.sensitivity.low is not None and point.specificity.low is not None
    missed, alarms = complement(found), complement(kept)
    positive = predictive_value(found, alarms, prevalence)
    negative = predictive_value(kept, missed, 1.0 - prevalence)

    def interval(part: Part | None, scale: float = 1.0) -> Interval:
        if part is None:
            return _UNDEFINED
        ends = (part.low * scale, part.high * scale) if has_ends else (None, None)
        return Interval(value=part.value * scale, low=ends[0], high=ends[1])

    return RestatedPoint(
        basis=point.basis,
        threshold=point.threshold,
        prevalence=prevalence,
        recall_rate=interval(weighted_sum(found, alarms, prevalence)),
        positive_predictive_value=interval(positive),
        negative_predictive_value=interval(negative),
        found_per_1000=interval(found, 1000.0 * prevalence),
        missed_per_1000=interval(missed, 1000.0 * prevalence),
        shifted_intercept=_shifted(recalibration, prevalence),
    )


def _part(rate: Interval) -> Part | None:
    if rate.value is None:
        return None
    low, high = (rate.value if end is None else end for end in (rate.low, rate.high))
    return Part(value=rate.value, low=low, high=high)


def _shifted(fit: RecalibrationFit | None, prevalence: float) -> float | None:
    if fit is None or fit.intercept is None or not fit.prevalence or fit.prevalence >= 1.0:
        return None
    return shifted_intercept(fit.intercept, fitted_prevalence=fit.prevalence, prevalence=prevalence)
