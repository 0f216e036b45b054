"""The rules of the config's section ``accept``, each with its answer in sentences, and the verdict that they make together.

A rule is met, not met, or not decided by these exams. A remark decides nothing. Of the others one that is not met refuses the
model, and one that is not decided leaves the verdict open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gmic_model.metrics.clinic.site_threshold import is_within, needed_exams
from schemas.config.evaluation import AcceptanceConfig, AcceptanceRule
from schemas.reports.evaluation import CalibrationReport, FindingMetrics, JudgedPatients, OperatingPoint
from schemas.reports.life.acceptance import DeviceRecall, GroupRecall, ImageShift, RuleResult, Verdict
from schemas.reports.report import Interval
from tasks.adapters.lifecycle.accepting.judging_exams import Cohort, RecallRate

_Answer = tuple[AcceptanceRule, bool | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that the rules look at.

    Attributes:
        locked_missing: Why no threshold is locked; empty = one is.
        metrics: Of the finding; None = no breast has a label.
        image_note: Why images could not be held against the training's; empty = they were.
    """

    cohort: Cohort
    locked_missing: str
    patients: JudgedPatients
    metrics: FindingMetrics | None
    groups: Sequence[GroupRecall]
    devices: Sequence[DeviceRecall]
    images: Sequence[ImageShift]
    image_note: str


def rule_results(evidence: Evidence, config: AcceptanceConfig) -> tuple[RuleResult, ...]:
    """What each rule says; one that the config does not ask is left out."""
    return tuple(
        RuleResult(rule=rule, is_met=is_met, is_remark=rule in config.remarks, reason=reason)
        for rule, is_met, reason in _answers(evidence, config)
    )


def verdict_of(rules: Iterable[RuleResult]) -> Verdict:
    """What the rules say together."""
    rules = tuple(rules)
    deciding = [rule.is_met for rule in rules if not rule.is_remark]
    if False in deciding:
        return Verdict.REFUSED
    if None in deciding:
        return Verdict.NOT_ENOUGH
    return Verdict.ACCEPTED if all(rule.is_met for rule in rules) else Verdict.WITH_REMARKS


# ---------------------------------------------------------------------------------------------------------------------


def _answers(evidence: Evidence, config: AcceptanceConfig) -> Iterator[_Answer]:
    cohort = evidence.cohort
    yield _locked(evidence)
    yield _unseen(evidence.patients)
    yield _enough(cohort, config)
    yield from _devices_there(cohort, config)
    yield _recall(cohort, config)
    yield from _accuracy(evidence, config)
    yield _calibration(evidence.metrics, config)
    yield _groups(evidence.groups, cohort, config)
    yield _by_device(evidence.devices, cohort, config)
    yield _images(evidence)


def _locked(evidence: Evidence) -> _Answer:
    if evidence.locked_missing:
        said = (
            f"No threshold is locked: {evidence.locked_missing}. Evaluate these weights at their own site, and pack them anew."
        )
        return AcceptanceRule.LOCKED, False, said
    if evidence.cohort.threshold == float("inf"):
        return AcceptanceRule.LOCKED, False, "The locked threshold lies above every score of its own site: it recalls nobody."
    return AcceptanceRule.LOCKED, True, "A threshold lies beside the weights, as their own site fixed it."


def _unseen(patients: JudgedPatients) -> _Answer:
    left_out = f" Patients left out, whom it has seen: {patients.test_left_out:,}." if patients.test_left_out else ""
    if patients.is_checked:
        return AcceptanceRule.UNSEEN, True, f"It has seen none of the patients who judge it.{left_out}"
    said = f"It is not known whether it has seen these patients: {patients.not_checked}.{left_out}"
    return AcceptanceRule.UNSEEN, None, said


def _enough(cohort: Cohort, config: AcceptanceConfig) -> _Answer:
    exams, missing = len(cohort.exams), config.minimum_exams - len(cohort.exams)
    said = f"{exams:,} exams of {cohort.exams['patient_id'].nunique():,} patients; {config.minimum_exams:,} exams needed"
    return (
        AcceptanceRule.EXAMS,
        None if missing > 0 else True,
        f"{said}: {missing:,} are missing." if missing > 0 else f"{said}.",
    )


def _devices_there(cohort: Cohort, config: AcceptanceConfig) -> Iterator[_Answer]:
    if not config.devices:
        return
    names = set(cohort.exams["device"])
    missing = [wanted for wanted in config.devices if not any(wanted.casefold() in name.casefold() for name in names)]
    said = f"No exam of {', '.join(missing)} is in this cohort: bring some in." if missing else "Each has exams in this cohort."
    yield AcceptanceRule.DEVICES, None if missing else True, said


def _recall(cohort: Cohort, config: AcceptanceConfig) -> _Answer:
    rule = AcceptanceRule.RECALL
    if cohort.threshold is None:
        return rule, None, "Without a threshold nobody is recalled."
    recall = cohort.recall(cohort.exams, config.recall_margin)
    if recall.limits is None:
        return (
            rule,
            None,
            (
                f"{_rate(recall.found)} of the exams; nobody says how many it should be: name accept.recall_rate, or bring in "
                f"the readers' BI-RADS categories of {config.minimum_exams:,} exams."
            ),
        )
    return rule, recall.is_within, f"{_recall_said(recall, cohort)} {_still_needed(recall)}".rstrip()


def _recall_said(recall: RecallRate, cohort: Cohort) -> str:
    low, high = recall.limits or (0.0, 1.0)
    if cohort.is_readers_target:
        return (
            f"{_points(recall.found)} less what readers recalled of the same {recall.exams:,} exams; wanted from "
            f"{100 * low:+.1f} to {100 * high:+.1f} points."
        )
    return f"{_rate(recall.found)} of {recall.exams:,} exams; wanted {100 * max(0.0, low):.1f} to {100 * high:.1f}%."


def _still_needed(recall: RecallRate) -> str:
    if recall.is_within is not None or recall.limits is None:
        return ""
    needed = needed_exams(recall.exams, recall.found, *recall.limits)
    if needed is None:
        return "Too few exams to say how many would decide it."
    return f"About {needed - recall.exams:,} more exams would decide it, if it stays so."


def _accuracy(evidence: Evidence, config: AcceptanceConfig) -> Iterator[_Answer]:
    asked = (
        (AcceptanceRule.SENSITIVITY, config.minimum_sensitivity),
        (AcceptanceRule.SPECIFICITY, config.minimum_specificity),
    )
    point = _locked_point(evidence)
    for rule, minimum in asked:
        if minimum is None:
            continue
        if point is None:
            yield rule, None, "No label, labels of one kind only, or no threshold: it is not measured."
            continue
        found = point.sensitivity if rule is AcceptanceRule.SENSITIVITY else point.specificity
        breasts = (
            point.true_positives + point.false_negatives
            if rule is AcceptanceRule.SENSITIVITY
            else point.true_negatives + point.false_positives
        )
        said = f"{_rate(found)} of {breasts:,} breasts; at least {100 * minimum:.1f}% wanted."
        is_met = is_within(found, minimum, 1.0)
        if is_met is None and (needed := needed_exams(breasts, found, minimum, 1.0 + 1e-9)) is not None:
            said += f" About {needed - breasts:,} more breasts of the kind would decide it, if it stays so."
        yield rule, is_met, said


def _locked_point(evidence: Evidence) -> OperatingPoint | None:
    """What the threshold of use does to breasts with a label."""
    metrics, threshold = evidence.metrics, evidence.cohort.threshold
    if metrics is None or metrics.locked is None or threshold is None:
        return None
    said = None if threshold == float("inf") else threshold  # a point above every score has none, and recalls nobody
    return next((point for point in metrics.locked.points if point.threshold == said), None)


def _calibration(metrics: FindingMetrics | None, config: AcceptanceConfig) -> _Answer:
    rule, measured = AcceptanceRule.CALIBRATION, _calibration_of(metrics)
    if measured is None or measured.observed_to_expected is None or measured.observed_to_expected.value is None:
        return rule, None, "Not measured: no labels here, or no recalibration lies beside the weights."
    found, (low, high) = measured.observed_to_expected, config.calibration_range
    ends = "" if found.low is None or found.high is None else f" ({found.low:.2f} to {found.high:.2f})"
    said = f"Findings observed over expected {found.value:.2f}{ends}; wanted {low:g} to {high:g}."
    return rule, is_within(found, low, high), said


def _calibration_of(metrics: FindingMetrics | None) -> CalibrationReport | None:
    return None if metrics is None or metrics.locked is None else metrics.locked.calibration_locked


def _groups(groups: Sequence[GroupRecall], cohort: Cohort, config: AcceptanceConfig) -> _Answer:
    apart = [f"{one.attribute} {one.group} ({_rate(one.recall_rate)})" for one in groups if one.is_within is False]
    judged = sum(one.is_within is not None for one in groups)
    return _of_parts(AcceptanceRule.GROUPS, "group", apart, judged, len(groups), cohort, config)


def _by_device(devices: Sequence[DeviceRecall], cohort: Cohort, config: AcceptanceConfig) -> _Answer:
    apart = [f"{one.name}, software {one.software} ({_rate(one.recall_rate)})" for one in devices if one.is_within is False]
    judged = sum(one.is_within is not None for one in devices)
    return _of_parts(AcceptanceRule.BY_DEVICE, "device", apart, judged, len(devices), cohort, config)


def _of_parts(
    rule: AcceptanceRule, noun: str, apart: Sequence[str], judged: int, parts: int, cohort: Cohort, config: AcceptanceConfig
) -> _Answer:
    if cohort.threshold is None or cohort.target is None:
        return rule, None, "Not judged: there is no threshold, or nobody says how many should be recalled."
    margin = f"{100 * config.subgroup_margin:.1f} points"
    if apart:
        return rule, False, f"Beyond {margin} from what is wanted: {'; '.join(apart)}."
    open_ones = f" Too few exams to decide it: {parts - judged} of {parts}." if judged < parts else ""
    if not judged:
        return rule, None, f"No {noun} has enough exams to decide it."
    return rule, True, f"Within {margin} in each {noun} that is large enough.{open_ones}"


def _images(evidence: Evidence) -> _Answer:
    rule = AcceptanceRule.IMAGES
    if evidence.image_note:
        return rule, None, evidence.image_note
    if all(shift.excess is None for shift in evidence.images):
        return rule, None, "Too few exams, here or in the training, to compare them."
    shifted = [shift.column for shift in evidence.images if shift.is_shifted]
    if shifted:
        return rule, False, f"Unlike those that the weights learnt from: {', '.join(shifted)}."
    return rule, True, "Distributed like those that the weights learnt from."


def _rate(found: Interval) -> str:
    if found.value is None:
        return "Not defined"
    ends = "" if found.low is None or found.high is None else f" ({100 * found.low:.1f} to {100 * found.high:.1f})"
    return f"{100 * found.value:.1f}%{ends}"


def _points(found: Interval) -> str:
    if found.value is None:
        return "Not defined"
    ends = "" if found.low is None or found.high is None else f" ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    return f"{100 * found.value:+.1f} points{ends}"
