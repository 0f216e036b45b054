"""May a model be put into use? The rules of the config, each with its answer in a sentence.

It is held against the model in use on the breasts that both scored on the locked test split: AUROC, paired, with patients as
clusters, and not inferior if the lower end of the difference's interval lies above minus the margin. Of all, and of each group
that is large enough; a group that is not says so and forbids nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from gmic_model.metrics.ranking import auroc
from schemas.config.evaluation import PromotionConfig
from schemas.exam import NOT_KNOWN, Finding
from schemas.reports.life.decisions import KeptEvaluation, PromotionAnswer, RuleAnswer
from tasks.adapters.scoring.model_ranking import paired_difference
from tasks.adapters.scoring.reviewed.groups import breast_groups
from tasks.adapters.scoring.score_tables import BREAST, labelled

Judged = tuple[KeptEvaluation, pd.DataFrame]


def answer_of(
    candidate: Judged,
    in_use: Judged | None,
    in_use_sha256: str,
    manifest: pd.DataFrame,
    splits_sha256: str,
    config: PromotionConfig,
) -> PromotionAnswer:
    """What every rule says of a candidate.

    Args:
        candidate: Its newest evaluation.
        in_use: That of the model in use; None = there is none.
        in_use_sha256: The model in use; "" = none is.
        manifest: Images of the store, for the groups; a breast that is in none is left out.
        splits_sha256: Of the present division of the patients.
        config: The rules.
    """
    kept, breasts = candidate
    breasts = breasts.merge(manifest[["exam_id", "laterality"]].drop_duplicates(), on=["exam_id", "laterality"])
    rules = [_locked_test(kept, splits_sha256), _unseen(kept, config)]
    for finding in config.findings:
        rules += _alone(breasts, finding, config)
        if in_use_sha256:
            rules += _against(breasts, in_use, finding, manifest, config)
    return PromotionAnswer(
        sha256=kept.sha256,
        in_use_sha256=in_use_sha256,
        splits_sha256=splits_sha256,
        data_version=kept.provenance.data_version,
        rules=tuple(rules),
    )


# ---------------------------------------------------------------------------------------------------------------------


def _locked_test(kept: KeptEvaluation, splits_sha256: str) -> RuleAnswer:
    is_met = kept.provenance.splits_sha256 == splits_sha256
    times = f"; this test split had been scored {kept.times_scored} times by then" if kept.times_scored else ""
    said = f"Evaluated on the present test split, {kept.provenance.created_utc[:10]}{times}."
    other = "Evaluated on another division of the patients: evaluate it on the present one."
    return RuleAnswer(rule="locked test", is_met=is_met, reason=said if is_met else other)


def _unseen(kept: KeptEvaluation, config: PromotionConfig) -> RuleAnswer:
    if kept.patients.is_checked:
        return RuleAnswer(rule="unseen patients", is_met=True, reason="It has seen none of the patients who judged it.")
    why = kept.patients.not_checked or "it does not say whom it has seen"
    said = f"It is not known whether it has seen the patients who judged it: {why}."
    if config.allow_unknown_patients:
        return RuleAnswer(rule="unseen patients", is_met=None, reason=f"{said} promotion.allow_unknown_patients lets it pass.")
    return RuleAnswer(rule="unseen patients", is_met=False, reason=said)


def _alone(breasts: pd.DataFrame, finding: Finding, config: PromotionConfig) -> Iterator[RuleAnswer]:
    known = labelled(breasts, finding, BREAST)
    with_finding, without = _patients(known)
    yield RuleAnswer(
        rule=f"{finding.value}: enough patients",
        is_met=min(with_finding, without) >= config.minimum_patients,
        reason=f"{with_finding} test patients with the finding, {without} without; {config.minimum_patients} of each needed.",
    )
    if config.minimum_auroc is not None:
        area = _auroc(known)
        said = "AUROC is not defined" if area is None else f"AUROC {area:.3f}"
        yield RuleAnswer(
            rule=f"{finding.value}: AUROC",
            is_met=area is not None and area >= config.minimum_auroc,
            reason=f"{said}; at least {config.minimum_auroc:g} needed.",
        )


def _against(
    breasts: pd.DataFrame, in_use: Judged | None, finding: Finding, manifest: pd.DataFrame, config: PromotionConfig
) -> Iterator[RuleAnswer]:
    rule = f"{finding.value}: not worse than the one in use"
    if in_use is None:
        yield RuleAnswer(rule=rule, is_met=False, reason="The one in use has no kept evaluation: evaluate both together.")
        return
    score = f"{finding.value}_score"
    now = labelled(breasts, finding, BREAST)
    then = in_use[1][[*BREAST, score]].drop_duplicates(list(BREAST)).rename(columns={score: "score_in_use"})
    paired = now.merge(then, on=list(BREAST))
    if len(paired) < config.minimum_common * len(now):
        yield RuleAnswer(
            rule=rule,
            is_met=False,
            reason=f"The one in use has scored {len(paired)} of its {len(now)} test breasts: evaluate both together.",
        )
        return
    yield _not_worse(rule, paired, config.margin, config)
    groups = breast_groups(paired, manifest, config.subgroups)
    for attribute in config.subgroups:
        if attribute not in groups:
            yield RuleAnswer(rule=f"{rule}, by {attribute}", is_met=None, reason="Not recorded in this store.")
            continue
        for name in sorted({str(group) for group in groups[attribute]} - {NOT_KNOWN}):
            members = paired[groups[attribute] == name]
            yield _not_worse_group(f"{rule}, {attribute} {name}", members, config)


def _not_worse_group(rule: str, members: pd.DataFrame, config: PromotionConfig) -> RuleAnswer:
    with_finding, without = _patients(members)
    if min(with_finding, without) < config.subgroup_minimum_patients:
        needed = f"{config.subgroup_minimum_patients} of each needed"
        said = f"{with_finding} patients with the finding, {without} without; {needed}."
        return RuleAnswer(rule=rule, is_met=None, reason=said)
    return _not_worse(rule, members, config.subgroup_margin, config)


def _not_worse(rule: str, paired: pd.DataFrame, margin: float, config: PromotionConfig) -> RuleAnswer:
    found = paired_difference(paired, paired.assign(score=paired["score_in_use"]), config.confidence)
    if found is None:
        return RuleAnswer(rule=rule, is_met=False, reason="The difference of AUROC has no interval: too few patients.")
    said = (
        f"AUROC {found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}) on {len(paired)} breasts; "
        f"the lower end must be above {-margin:g}."
    )
    return RuleAnswer(rule=rule, is_met=found.low > -margin, reason=said)


def _patients(known: pd.DataFrame) -> tuple[int, int]:
    """With the finding in a breast, and with a breast without it."""
    with_finding = known.loc[known["label"] == 1, "patient_id"].nunique()
    return int(with_finding), int(known.loc[known["label"] == 0, "patient_id"].nunique())


def _auroc(known: pd.DataFrame) -> float | None:
    return auroc(known["score"].to_numpy(np.float64), known["label"].to_numpy(np.int64))
