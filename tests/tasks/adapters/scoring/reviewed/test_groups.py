"""Which columns make groups, and that all comparisons of a finding are corrected together."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gmic_model.metrics.comparison.group_differences import holm
from schemas.config.evaluation import EvaluateConfig
from tasks.adapters.scoring.reviewed.groups import measured_groups


@pytest.fixture(scope="module")
def breasts() -> pd.DataFrame:
    """160 patients of one breast; every fourth has the finding."""
    rng = np.random.default_rng(4)
    label_B = (np.arange(160) % 4 == 0).astype(np.int64)
    return pd.DataFrame(
        {
            "patient_id": [f"P{place}" for place in range(160)], "exam_id": [f"E{place}" for place in range(160)],
            "laterality": "R", "score": rng.normal(size=160) + 1.5 * label_B, "label": label_B,
        }
    )  # fmt: skip


def test_named_columns_of_the_labels_file_make_groups(breasts: pd.DataFrame) -> None:
    """Site A and B by the manifest's JSON, one breast unknown; a column that nobody recorded is named."""
    sites = [json.dumps({"site": "AB"[place // 4 % 2], "other": "x"}) if place else None for place in range(160)]
    images = breasts.assign(
        label_groups=sites, model_name=np.where(np.arange(160) < 80, "Selenia", "Giotto"), label_source="biopsy"
    ).drop(columns=["score", "label"])
    config = EvaluateConfig(subgroup_columns=("site", "reader"))
    found = measured_groups(breasts, images, 1.0, config)
    counts = {(line.attribute, line.group): line.breasts for line in found["subgroups"]}
    assert (counts["site", "A"], counts["site", "B"], counts["site", "not known"]) == (79, 80, 1)
    assert counts["label source", "biopsy"] == 160 and counts["device model", "Giotto"] == 80
    assert found["subgroups_not_recorded"] == ("vendor", "acquisition", "density", "finding type", "age", "reader")
    differences = found["group_differences"]
    assert {(one.attribute, one.measure) for one in differences} == {
        (attribute, measure) for attribute in ("site", "device model") for measure in ("AUROC", "sensitivity", "specificity")
    }
    assert [one.p_adjusted for one in differences] == holm([one.p_value for one in differences])


def test_a_difference_that_is_there_is_found_and_of_kinds_too(breasts: pd.DataFrame) -> None:
    """Breasts of one site are scored upside down; masses are found, calcifications are not."""
    scored = breasts.assign(score=np.where(np.arange(160) < 80, breasts["score"], -breasts["score"]))
    kinds = np.where(breasts["label"] == 1, np.where(np.arange(160) < 80, "mass", "calcification"), None)
    images = breasts.assign(
        label_groups=[json.dumps({"site": "A" if place < 80 else "B"}) for place in range(160)], finding_type=kinds
    ).drop(columns=["score", "label"])
    found = measured_groups(scored, images, 0.5, EvaluateConfig(subgroup_columns=("site",)))
    by_what = {(one.attribute, one.measure): one for one in found["group_differences"]}
    assert by_what["site", "AUROC"].p_adjusted < 0.001 and abs(by_what["site", "AUROC"].difference.value) > 0.4
    assert by_what["finding type", "sensitivity"].p_adjusted < 0.001 and ("finding type", "AUROC") not in by_what
