"""May a model be put into use? The rules of the config, each with its answer in a sentence.

It is held against the model in use on the breasts that both scored on the locked test split: AUROC, paired, with patients as
clusters, and not inferior if the lower end of the difference's interval lies above minus the margin. Of all, and of each group
that is large enough; a group that is not says so and forbids nothing. Where the config asks for it, what is recalled is held
against the same: each model at its own locked threshold, which is what a clinic meets (paired, by patient).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.proportions import paired_proportions
from gmic_model.metrics.ranking import auroc
from gmic_model.metrics.subgroups import patients_of_both_kinds
from schemas.config.evaluation import PromotionConfig
from schemas.exam import NOT_KNOWN, Finding
from schemas.reports.life.decisions import KeptEvaluation, PromotionAnswer, RuleAnswer
from tasks.adapters.scoring.model_ranking import paired_difference
from tasks.adapters.scoring.reviewed.groups import breast_groups
from tasks.adapters.scoring.score_tables import BREAST, labelled

Judged = tuple[KeptEvaluation, pd.DataFrame]
Thresholds = Mapping[str, float | None]
"""Locked ones of a model, by finding: a breast is recalled at or above it, None = above every score; none = not locked."""


@dataclass(frozen=True, slots=True)
class Locked:
    """The locked thresholds of two models."""

    candidate: Thresholds
    in_use: Thresholds


NOT_LOCKED = Locked({}, {})


def answer_of(
    candidate: Judged,
    in_use: Judged | None,
    in_use_sha256: str,
    manifest: pd.DataFrame,
    splits_sha256: str,
    config: PromotionConfig,
    locked: Locked = NOT_LOCKED,
) -> PromotionAnswer:
    """What every rule says of a candidate.

    Args:
        candidate: Its newest evaluation.
        in_use: That of the model in use; None = there is none.
        in_use_sha256: The model in use; "" = none is.
        manifest: Images of the store, for the groups; a breast that is in none is left out.
        splits_sha256: Of the present division of the patients.
        config: The rules.
        locked: The thresholds beside the weights, for the rule of recalls.
    """
    kept, breasts = candidate
    breasts = breasts.merge(manifest[["exam_id", "laterality"]].drop_duplicates(), on=["exam_id", "laterality"])
    rules = [_locked_test(kept, splits_sha256), _unseen(kept, config)]
    for finding in config.findings:
        rules += _alone(breasts, finding, config)
        if in_use_sha256:
            rules += _against(breasts, in_use, finding, manifest, config, locked)
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
        reason=f"Test {patients_of_both_kinds(with_finding, without)}; {config.minimum_patients} of each needed.",
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
    breasts: pd.DataFrame,
    in_use: Judged | None,
    finding: Finding,
    manifest: pd.DataFrame,
    config: PromotionConfig,
    locked: Locked,
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
    if config.recall_margin is not None:
        yield from _recalls(paired, finding, config.recall_margin, config, locked)
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
        said = patients_of_both_kinds(with_finding, without).capitalize()
        return RuleAnswer(rule=rule, is_met=None, reason=f"{said}; {config.subgroup_minimum_patients} of each needed.")
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


def _recalls(
    paired: pd.DataFrame, finding: Finding, margin: float, config: PromotionConfig, locked: Locked
) -> Iterator[RuleAnswer]:
    """Of breasts with the finding not fewer are recalled, of those without it not more: each model at its own threshold."""
    names = f"{finding.value}: recalls no fewer with it", f"{finding.value}: recalls no more without it"
    if finding.value not in locked.candidate or finding.value not in locked.in_use:
        without = "It has" if finding.value not in locked.candidate else "The one in use has"
        for name in names:
            yield RuleAnswer(rule=name, is_met=False, reason=f"{without} no locked threshold at evaluate.subgroup_specificity.")
        return
    now_N = _recalled(paired["score"], locked.candidate[finding.value])
    then_N = _recalled(paired["score_in_use"], locked.in_use[finding.value])
    patient_N, has_it_N = paired["patient_id"].to_numpy(str), (paired["label"] == 1).to_numpy(bool)
    for name, of_N, sign in zip(names, (has_it_N, ~has_it_N), (1.0, -1.0), strict=True):
        found = paired_proportions(now_N[of_N], then_N[of_N], patient_N[of_N], confidence=config.confidence)
        if found.value is None or found.low is None or found.high is None:
            yield RuleAnswer(rule=name, is_met=False, reason="The difference has no interval: too few patients.")
            continue
        worst = sign * (found.low if sign > 0 else found.high)
        said = (
            f"{now_N[of_N].mean():.1%} of {int(of_N.sum())} breasts, {then_N[of_N].mean():.1%} by the one in use: "
            f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}); "
            f"the {'lower' if sign > 0 else 'upper'} end must be {'above' if sign > 0 else 'below'} {-sign * margin:+g}."
        )
        yield RuleAnswer(rule=name, is_met=worst > -margin, reason=said)


def _recalled(scores: pd.Series[float], threshold: float | None) -> NDArray[np.bool_]:
    scores_N = scores.to_numpy(np.float64)
    return np.zeros(len(scores_N), bool) if threshold is None else scores_N >= threshold


def _patients(known: pd.DataFrame) -> tuple[int, int]:
    """With the finding in a breast, and with a breast without it."""
    with_finding = known.loc[known["label"] == 1, "patient_id"].nunique()
    return int(with_finding), int(known.loc[known["label"] == 0, "patient_id"].nunique())


def _auroc(known: pd.DataFrame) -> float | None:
    return auroc(known["score"].to_numpy(np.float64), known["label"].to_numpy(np.int64))
