"""The rules of a promotion, each with a cohort that meets it and one that does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gmic_model.metrics.delong import delong_test
from schemas.config.evaluation import PromotionConfig
from schemas.exam import Finding
from schemas.reports.evaluation import JudgedPatients
from schemas.reports.life.decisions import KeptEvaluation, RuleAnswer
from schemas.reports.report import Provenance
from tasks.adapters.lifecycle.promotion import Judged, Locked, Thresholds, answer_of

PATIENTS = 400


def judged(
    sha256: str, skill: float, *, seed: int = 0, splits: str = "s", worse_for: str = "", is_checked: bool = True
) -> Judged:
    """Scores of 400 exams, a quarter of them malignant in the left breast; ``skill`` parts them, half of it for one vendor."""
    rng = np.random.default_rng(seed)
    frame = cohort()
    label_B = frame["malignant"].to_numpy()
    skill_B = np.where(frame["manufacturer"] == worse_for, skill / 4, skill)
    scores = 1 / (1 + np.exp(-(skill_B * label_B + rng.normal(size=len(frame)))))
    frame = frame.assign(benign_score=0.5, malignant_score=scores, model_sha256=sha256).drop(columns="manufacturer")
    provenance = Provenance(
        code_version="1", config_sha256="", data_version="d", preprocess_version="p", seed=0, created_utc="2026-01-02",
        splits_sha256=splits,
    )  # fmt: skip
    patients = JudgedPatients(is_checked=is_checked, not_checked="" if is_checked else "nobody says")
    return KeptEvaluation(sha256=sha256, provenance=provenance, patients=patients, times_scored=2), frame


def cohort() -> pd.DataFrame:
    """Breasts with labels and the vendor of their images."""
    numbers = np.repeat(np.arange(PATIENTS), 2)
    sides = np.tile(["L", "R"], PATIENTS)
    return pd.DataFrame(
        {
            "patient_id": [f"P{number}" for number in numbers], "exam_id": [f"E{number}" for number in numbers],
            "laterality": sides, "benign": 0, "malignant": ((numbers % 4 == 0) & (sides == "L")).astype(int),
            "manufacturer": np.where(numbers % 8 < 4, "Alpha", "Beta"),
        }
    )  # fmt: skip


CONFIG = PromotionConfig(subgroups=("vendor", "density"))


def rules(candidate: Judged, in_use: Judged | None, config: PromotionConfig = CONFIG) -> dict[str, RuleAnswer]:
    """What each rule says, by its name."""
    against = "" if in_use is None else in_use[0].sha256
    found = answer_of(candidate, in_use, against, cohort(), "s", config)
    assert found.is_allowed == all(rule.is_met is not False for rule in found.rules)
    return {rule.rule: rule for rule in found.rules}


NOT_WORSE = "malignant: not worse than the one in use"


def test_a_model_that_is_better_is_allowed_and_one_that_is_worse_is_not() -> None:
    """By the paired interval of the difference, whose numbers stand in the sentence and are DeLong's within rounding."""
    old, better, worse = judged("old", 2.0), judged("new", 3.5, seed=1), judged("bad", 1.2, seed=2)
    said = rules(better, old)
    assert said[NOT_WORSE].is_met and said["locked test"].is_met and said["unseen patients"].is_met
    assert "2 times" in said["locked test"].reason
    wanted = delong_test(
        better[1]["malignant_score"],
        old[1]["malignant_score"],
        old[1]["malignant"],
        patient_B=old[1]["patient_id"].to_numpy(str),
    )
    assert wanted is not None and f"AUROC {wanted.difference:+.3f}" in said[NOT_WORSE].reason
    assert rules(worse, old)[NOT_WORSE].is_met is False


def test_the_margin_holds_the_lower_end() -> None:
    """Two of one skill: allowed with a margin wider than the interval reaches, forbidden with a narrow one."""
    old, same = judged("old", 2.5), judged("new", 2.5, seed=3)
    assert rules(same, old, PromotionConfig(margin=0.2))[NOT_WORSE].is_met
    assert rules(same, old, PromotionConfig(margin=0.0001))[NOT_WORSE].is_met is False


def test_a_group_that_is_worse_off_forbids_it() -> None:
    """Better for one vendor, worse for the other: met and not met; what is not recorded, or small, forbids nothing."""
    old, new = judged("old", 2.5), judged("new", 4.5, seed=4, worse_for="Beta")
    said = rules(new, old)
    assert said[f"{NOT_WORSE}, vendor Beta"].is_met is False and said[f"{NOT_WORSE}, vendor Alpha"].is_met
    assert said[f"{NOT_WORSE}, by density"].is_met is None
    few = PromotionConfig(subgroups=("vendor",), subgroup_minimum_patients=90)
    assert rules(new, old, few)[f"{NOT_WORSE}, vendor Beta"].is_met is None


@pytest.mark.parametrize(
    ("candidate", "in_use", "against"),
    [
        ({"malignant": 0.8}, {"malignant": 0.8}, []),
        ({"malignant": 0.95}, {"malignant": 0.8}, ["malignant: recalls no fewer with it"]),
        ({"malignant": None}, {"malignant": 0.8}, ["malignant: recalls no fewer with it"]),
        ({"malignant": 0.6}, {"malignant": 0.8}, ["malignant: recalls no more without it"]),
        ({}, {"malignant": 0.8}, ["malignant: recalls no fewer with it", "malignant: recalls no more without it"]),
        ({"malignant": 0.8}, {}, ["malignant: recalls no fewer with it", "malignant: recalls no more without it"]),
    ],
)
def test_what_is_recalled_is_held_against_the_one_in_use(candidate: Thresholds, in_use: Thresholds, against: list[str]) -> None:
    """The same scores, other locked thresholds: fewer found, more called back, or none locked; asked only with a margin."""
    old, same = judged("old", 2.5), judged("new", 2.5)
    for margin, wanted in ((0.1, against), (None, [])):
        config = PromotionConfig(subgroups=(), recall_margin=margin)
        found = answer_of(same, old, "old", cohort(), "s", config, Locked(candidate, in_use))
        assert [rule.rule for rule in found.rules if rule.is_met is False] == wanted


@pytest.mark.parametrize(
    ("candidate", "in_use", "config", "rule"),
    [
        (judged("new", 2.0, splits="other"), None, {}, "locked test"),
        (judged("new", 2.0, is_checked=False), None, {}, "unseen patients"),
        (judged("new", 2.0), None, {"minimum_patients": 101}, "malignant: enough patients"),
        (judged("new", 0.2), None, {"minimum_auroc": 0.8}, "malignant: AUROC"),
        (judged("new", 2.0), None, {"findings": (Finding.BENIGN,)}, "benign: enough patients"),
        (judged("new", 2.0), (judged("old", 2.0)[0], judged("old", 2.0)[1].iloc[:700]), {}, NOT_WORSE),
    ],
)
def test_each_rule_forbids_what_it_is_for(candidate: Judged, in_use: Judged | None, config: dict, rule: str) -> None:
    """Another division, patients who may have been seen, too few, too low, and a model in use that scored too few of them."""
    said = rules(candidate, in_use, PromotionConfig.model_validate({"subgroups": (), **config}))
    assert [name for name, found in said.items() if found.is_met is False] == [rule]


def test_unknown_patients_pass_where_the_config_says_so() -> None:
    """Weights of others do not say whom they have seen: it is written down that this was let pass."""
    said = rules(judged("new", 2.0, is_checked=False), None, PromotionConfig(allow_unknown_patients=True))
    assert said["unseen patients"].is_met is None and "allow_unknown_patients" in said["unseen patients"].reason
