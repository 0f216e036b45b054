"""Which columns of the manifest make groups of breasts, each group's metrics, and whether groups differ. No Prefect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.comparison.group_differences import MEASURES, adjusted, group_differences
from gmic_model.metrics.subgroups import age_bands, subgroup_metrics, view_counts
from schemas.config.evaluation import EvaluateConfig
from schemas.exam import NOT_KNOWN
from schemas.layout import LABEL_GROUPS
from schemas.reports.evaluation import SubgroupMetrics
from schemas.reports.reviewed import GroupDifference

FINDING_TYPE = "finding type"
GROUP_COLUMNS = {
    "vendor": "manufacturer",
    "device model": "model_name",
    "acquisition": "acquisition",
    "density": "density",
    "label source": "label_source",
    FINDING_TYPE: "finding_type",
}
"""Attribute to manifest column; a column that the store does not have is reported as not recorded."""
AGE_COLUMN = "patient_age_years"
AGE, VIEWS = "age", "views of the breast"
_BREAST = ["exam_id", "laterality"]


def measured_groups(
    breasts: pd.DataFrame, manifest: pd.DataFrame, threshold: float | None, config: EvaluateConfig
) -> dict[str, Any]:
    """What a finding's metrics say of groups, by its field.

    Args:
        breasts: Test breasts with a known label: patient_id, exam_id, laterality, score, label.
        manifest: The test split's images.
        threshold: Where sensitivity and specificity are read; None = not read.
        config: Which columns of the labels file make groups too, and how few patients are too few.
    """
    group_B = breast_groups(breasts, manifest, config.subgroup_columns)
    lines: tuple[SubgroupMetrics, ...] = ()
    differences: tuple[GroupDifference, ...] = ()
    for attribute in (*_in_order(config.subgroup_columns), FINDING_TYPE):
        if attribute in group_B:
            lines += _lines(attribute, breasts, group_B[attribute], threshold, config)
            differences += _differences(attribute, breasts, group_B[attribute], threshold, config)
    asked = (*GROUP_COLUMNS, AGE, *config.subgroup_columns)
    return {
        "subgroups": lines,
        "group_differences": adjusted(differences),
        "subgroups_not_recorded": tuple(attribute for attribute in asked if attribute not in group_B),
    }


def breast_groups(breasts: pd.DataFrame, manifest: pd.DataFrame, named: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """The group of each breast, by attribute; without those that the store does not record."""
    images = manifest.groupby(_BREAST, sort=False)
    view_count = images.size().rename("views").reset_index()
    about = (
        breasts[_BREAST].merge(images.first().reset_index(), on=_BREAST, how="left").merge(view_count, on=_BREAST, how="left")
    )
    group_B = {VIEWS: view_counts(about["views"].to_numpy(np.int64))}
    if AGE_COLUMN in about:
        group_B[AGE] = age_bands(about[AGE_COLUMN].to_numpy(np.float64, na_value=np.nan))
    for attribute, column in GROUP_COLUMNS.items():
        if column in about and about[column].notna().any():
            group_B[attribute] = _words(about[column])
    if LABEL_GROUPS in about:
        said = about[LABEL_GROUPS].map(lambda text: json.loads(text) if isinstance(text, str) else {})
        for name in named:
            values = said.map(lambda groups, name=name: groups.get(name))
            if values.notna().any():
                group_B[name] = _words(values)
    return group_B


# ---------------------------------------------------------------------------------------------------------------------


def _in_order(named: Sequence[str]) -> tuple[str, ...]:
    """As the page shows them; finding type, which is of positives only, comes last."""
    return ("vendor", "device model", "acquisition", "density", AGE, VIEWS, "label source", *named)


def _words(column: pd.Series) -> NDArray[np.str_]:
    return column.astype("string").fillna(NOT_KNOWN).replace("", NOT_KNOWN).to_numpy(np.str_)


def _lines(
    attribute: str, breasts: pd.DataFrame, group_B: NDArray[np.str_], threshold: float | None, config: EvaluateConfig
) -> tuple[SubgroupMetrics, ...]:
    score_B, label_B, patient_B = _arrays(breasts)
    lines: tuple[SubgroupMetrics, ...] = ()
    for member_B, names_B in _groupings(attribute, group_B, label_B):
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
    return lines


def _differences(
    attribute: str, breasts: pd.DataFrame, group_B: NDArray[np.str_], threshold: float | None, config: EvaluateConfig
) -> tuple[GroupDifference, ...]:
    """Of finding types the sensitivities alone: they share their negatives, which have no type."""
    score_B, label_B, patient_B = _arrays(breasts)
    is_of_types = attribute == FINDING_TYPE
    compared_B = label_B == 1 if is_of_types else np.ones(len(label_B), dtype=bool)
    return group_differences(
        score_B[compared_B],
        label_B[compared_B] == 1,
        patient_B[compared_B],
        group_B[compared_B],
        attribute=attribute,
        threshold=threshold,
        confidence=config.confidence,
        minimum_patients=config.subgroup_minimum_patients,
        measures=("sensitivity",) if is_of_types else MEASURES,
    )


def _arrays(breasts: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    return (
        breasts["score"].to_numpy(np.float64),
        breasts["label"].to_numpy(np.int64),
        breasts["patient_id"].to_numpy(np.str_),
    )


def _groupings(
    attribute: str, group_B: NDArray[np.str_], label_B: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.str_]]]:
    """Which breasts are compared, and their groups: all of them at once; by finding type, one type's against all without.

    A breast without the finding has no type: each type stands against the same negatives.
    """
    if attribute != FINDING_TYPE:
        yield np.ones(len(group_B), dtype=bool), group_B
        return
    for kind in np.unique(group_B[label_B == 1]):
        member_B = (label_B == 0) | (group_B == kind)
        yield member_B, np.full(int(member_B.sum()), kind)
