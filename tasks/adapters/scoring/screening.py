"""What a reviewer asks beyond AUROC, from breast tables: operating points, calibration, recalibration, subgroups. No Prefect.

The arithmetic is in ``gmic_model``; here is which columns of the manifest make groups, and what is chosen on which split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.calibration import calibration_report, fit_recalibration, recalibrated
from gmic_model.metrics.operating_points import point_at_threshold, points_at_sensitivity, points_at_specificity
from gmic_model.metrics.subgroups import age_bands, subgroup_metrics, view_counts
from schemas.config.evaluation import EvaluateConfig
from schemas.exam import NOT_KNOWN
from schemas.reports.evaluation import FindingMetrics, OperatingPoint, SubgroupMetrics

FINDING_TYPE = "finding type"
GROUP_COLUMNS = {"vendor": "manufacturer", "acquisition": "acquisition", "density": "density", FINDING_TYPE: "finding_type"}
"""Attribute to manifest column; a column that the store does not have is reported as not recorded."""
AGE_COLUMN = "patient_age_years"


def with_screening_metrics(
    metrics: FindingMetrics, breasts: pd.DataFrame, tuning: pd.DataFrame, manifest: pd.DataFrame, config: EvaluateConfig
) -> FindingMetrics:
    """The finding's metrics with operating points, calibration, recalibration and subgroups.

    Args:
        metrics: What was measured so far.
        breasts: Test breasts with a known label: patient_id, exam_id, laterality, score, label.
        tuning: The same of the tuning split: recalibration and thresholds are chosen there; may be empty.
        manifest: The test split's images, for the groups.
        config: Targets, bins, confidence.
    """
    score_B, label_B, patient_B = _arrays(breasts)
    fitted = fit_recalibration(*_arrays(tuning))
    chosen = _chosen_on_tuning(tuning, config)
    points = _operating_points(breasts, chosen, config)
    threshold = chosen.get(config.subgroup_specificity)
    drawn: dict[str, Any] = {"bins": config.calibration_bins, "confidence": config.confidence}
    scaled = None
    if fitted.slope is not None and fitted.intercept is not None:
        scaled = calibration_report(recalibrated(score_B, fitted.intercept, fitted.slope), label_B, patient_B, **drawn)
    lines, absent = _subgroups(breasts, manifest, threshold, config)
    return metrics.model_copy(
        update={
            "operating_points": points,
            "calibration": calibration_report(score_B, label_B, patient_B, **drawn),
            "calibration_scaled": scaled,
            "recalibration": fitted,
            "subgroups": lines,
            "subgroup_threshold": threshold,
            "subgroup_threshold_basis": _on_tuning(config.subgroup_specificity),
            "subgroups_not_recorded": absent,
        }
    )


def _arrays(breasts: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    return (
        breasts["score"].to_numpy(np.float64),
        breasts["label"].to_numpy(np.int64),
        breasts["patient_id"].to_numpy(np.str_),
    )


def _on_tuning(specificity: float) -> str:
    return f"specificity {specificity:.2f} on the tuning split"


def _chosen_on_tuning(tuning: pd.DataFrame, config: EvaluateConfig) -> dict[float, float | None]:
    """The threshold that keeps each specificity on the tuning breasts; empty where these have one class only."""
    points = points_at_specificity(*_arrays(tuning), config.specificities, confidence=config.confidence)
    return {point.target: point.threshold for point in points}


def _operating_points(
    breasts: pd.DataFrame, chosen: Mapping[float, float | None], config: EvaluateConfig
) -> tuple[OperatingPoint, ...]:
    """Targets met on the test split, then thresholds chosen on the tuning split: what use would have given."""
    test = _arrays(breasts)
    points = points_at_specificity(*test, config.specificities, confidence=config.confidence)
    if config.readers_specificity is not None:
        basis = f"specificity {config.readers_specificity:g}, the readers' as the config names it"
        points += points_at_specificity(*test, [config.readers_specificity], confidence=config.confidence, basis=basis)
    points += points_at_sensitivity(*test, config.sensitivities, confidence=config.confidence)
    if not points:
        return ()
    for specificity, threshold in chosen.items():
        if threshold is not None:
            point = point_at_threshold(*test, threshold, confidence=config.confidence, basis=_on_tuning(specificity))
            points += (point,) if point is not None else ()
    return points


def _subgroups(
    breasts: pd.DataFrame, manifest: pd.DataFrame, threshold: float | None, config: EvaluateConfig
) -> tuple[tuple[SubgroupMetrics, ...], tuple[str, ...]]:
    """Lines of every attribute, and the attributes that the store does not record."""
    keys = ["exam_id", "laterality"]
    images = manifest.groupby(keys, sort=False)
    view_count = images.size().rename("views").reset_index()
    about = breasts[keys].merge(images.first().reset_index(), on=keys, how="left").merge(view_count, on=keys, how="left")
    group_B = {"views of the breast": view_counts(about["views"].to_numpy(np.int64))}
    if AGE_COLUMN in about:
        group_B["age"] = age_bands(about[AGE_COLUMN].to_numpy(np.float64, na_value=np.nan))
    for attribute, column in GROUP_COLUMNS.items():
        if column in about and about[column].notna().any():
            group_B[attribute] = about[column].astype("string").fillna(NOT_KNOWN).replace("", NOT_KNOWN).to_numpy(np.str_)
    score_B, label_B, patient_B = _arrays(breasts)
    lines: tuple[SubgroupMetrics, ...] = ()
    for attribute in ("vendor", "acquisition", "density", "age", "views of the breast", FINDING_TYPE):
        for member_B, names_B in _groupings(attribute, group_B.get(attribute), label_B):
            lines += subgroup_metrics(
                score_B[member_B],
                label_B[member_B],
                patient_B[member_B],
                names_B,
                attribute=attribute,
                threshold=threshold,
                confidence=config.confidence,
                minimum_patients=config.subgroup_minimum_patients,
            )
    return lines, tuple(attribute for attribute in (*GROUP_COLUMNS, "age") if attribute not in group_B)


def _groupings(
    attribute: str, group_B: NDArray[np.str_] | None, label_B: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.str_]]]:
    """Which breasts are compared, and their groups: all of them at once; by finding type, one type's against all without.

    A breast without the finding has no type: each type stands against the same negatives.
    """
    if group_B is None:
        return
    if attribute != FINDING_TYPE:
        yield np.ones(len(group_B), dtype=bool), group_B
        return
    for kind in np.unique(group_B[label_B == 1]):
        member_B = (label_B == 0) | (group_B == kind)
        yield member_B, np.full(int(member_B.sum()), kind)
