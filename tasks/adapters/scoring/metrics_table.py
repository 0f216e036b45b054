"""The table of metrics that the command line, the Prefect UI and the report show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from schemas.exam import NOT_KNOWN
from schemas.reports.evaluation import AurocDifference, EvaluationReport, FindingMetrics, JudgedPatients
from schemas.reports.report import Interval
from schemas.reports.reviewed import BeforeAndAfter
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.model_files import model_names
from tasks.adapters.models.scorings import scorings_sentence

SHORT = 12
"""Characters of a digest that people are shown."""
_LEAST_P, _LEVEL = 0.0001, 0.05
_SMALLEST_P = 1e-300  # below, doubles are rounded to 0
"""Of p-values: below the first no more is told; on which side of the second one lies must be seen."""
INTERVAL_METHOD = "intervals by patients as clusters, fifth form; docs/explanation/what-the-numbers-mean.md"
"""What an evaluation says of its intervals. Another form has another text, so that pages tell the older ones."""


def metrics_markdown(
    by_finding: Mapping[str, FindingMetrics], minus_before: Mapping[str, AurocDifference | None] | None = None
) -> str:
    """The metrics as a markdown table; with several models their mean score's, then the mean of the models.

    Where breasts had been scored before, each AUROC with its paired difference to that of then.
    """
    if minus_before is not None:
        return _difference_markdown(by_finding, minus_before)
    titles = ("finding", "breasts", "positive", "patients", "positive", "AUROC", "AUPRC", "localisation F1")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, metrics in by_finding.items():
        f1 = "-" if metrics.localization_f1 is None else f"{metrics.localization_f1:.3f}"
        of_patients = (metrics.patients, metrics.positive_patients) if metrics.patients else ("-", "-")  # a former report's
        counts = " | ".join(map(str, (metrics.breasts, metrics.positive_breasts, *of_patients)))
        lines.append(f"| {name} | {counts} | {interval_text(metrics.auroc)} | {interval_text(metrics.auprc)} | {f1} |")
        auroc, auprc = metrics.auroc_of_models, metrics.auprc_of_models
        if auroc is not None and auprc is not None:
            mean = f"{name}, mean of {len(metrics.models)} models"
            lines.append(f"| {mean} | {counts} | {interval_text(auroc.mean)} | {interval_text(auprc.mean)} | - |")
    return "\n".join(lines)


def evaluation_text(evaluated: EvaluationReport) -> str:
    """The table and what must be said with it, for a terminal."""
    return f"{metrics_markdown(evaluated.by_finding)}\n\n{evaluation_sentences(evaluated)}"


def evaluation_sentences(evaluated: EvaluationReport) -> str:
    """Whose numbers these are, whether they had seen the patients, how often these were looked at, and what is forbidden."""
    said = (weights_sentence(evaluated), patients_sentence(evaluated.patients), scorings_sentence(evaluated.scorings))
    return " ".join(filter(None, (*said, before_sentence(evaluated), *evaluated.terms, former_sentence(evaluated))))


def former_sentence(evaluated: EvaluationReport) -> str:
    """What a finished evaluation of a former release lacks, and how to have it; nothing of one that lacks nothing.

    A finished evaluation is not made again by itself: its numbers may be printed somewhere, and scoring takes hours.
    """
    lacking = []
    if not evaluated.interval_method:
        lacking.append("its intervals are the percentile bootstrap, which holds too little with few patients")
    elif evaluated.interval_method != INTERVAL_METHOD:
        lacking.append("its intervals are of an earlier form, which with few patients holds too little or too much")
    if evaluated.locked is None:
        lacking.append("it has no locked thresholds, stated shares, decision curves, original read or lesion by lesion")
    if not lacking:
        return ""
    return (
        f"A former release made this evaluation: {'; '.join(lacking)}. "
        "To measure anew: mammo evaluate CONFIG.yaml --force evaluate; estimates stay, and the log of test scorings counts it."
    )


def before_sentence(evaluated: EvaluationReport) -> str:
    """What the training brought to the weights that it began with; nothing where these were not evaluated."""
    found = {name: one for name, metrics in evaluated.by_finding.items() if (one := metrics.before_and_after) is not None}
    if not found:
        return ""
    told = (
        f"{name} {interval_text(one.auroc_before)} before, {interval_text(one.auroc_after)} after, {_gain_text(one)}"
        for name, one in found.items()
    )
    return (
        f"AUROC before and after the training that began with {next(iter(found.values())).sha256[:SHORT]}: {'; '.join(told)}."
    )


def _gain_text(one: BeforeAndAfter) -> str:
    gain = one.auroc_gain
    if gain.value is None or gain.low is None or gain.high is None or one.gain_p_value is None:
        return "no interval of the difference"
    return difference_text(AurocDifference(difference=gain.value, low=gain.low, high=gain.high, p_value=one.gain_p_value))


def weights_sentence(evaluated: EvaluationReport) -> str:
    """Whose numbers an evaluation's are, by short digests; of several weights also whose localisation was measured."""
    if len(evaluated.models) < 2:
        return f"Weights {evaluated.model_sha256[:SHORT] or NOT_KNOWN}."
    named = zip(model_names(evaluated.models), evaluated.models, strict=True)
    return (
        f"Mean score of {len(evaluated.models)} weights, together {evaluated.model_sha256[:SHORT]}: "
        + ", ".join(f"{name} {member.sha256[:SHORT]}" for name, member in named)
        + f". Localisation is that of {evaluated.localization_model}."
    )


def mapped_sha256(members: Sequence[EnsembleMember]) -> tuple[str, ...]:
    """Of several weights the mean of whose maps is drawn, their digests; of one none."""
    return tuple(member.sha256 for member in members) if len(members) > 1 else ()


def drawn_sentence(evaluated: EvaluationReport, drawn_sha256: str, mapped: Sequence[str] = ()) -> str:
    """Whose scores and whose maps and patches stand beside each other in pictures."""
    if mapped:
        of_maps = ", ".join(sha256[:SHORT] for sha256 in mapped)
        return (
            f"Maps: mean of those of weights {of_maps}. Patches: weights {drawn_sha256[:SHORT]}. "
            f"Scores: {weights_sentence(evaluated)}"
        )
    if len(evaluated.models) < 2 and drawn_sha256 == evaluated.model_sha256:
        return weights_sentence(evaluated)
    return f"Maps and patches: weights {drawn_sha256[:SHORT]}. Scores: {weights_sentence(evaluated)}"


def patients_sentence(patients: JudgedPatients) -> str:
    """Whether the weights had seen whom they were judged on, and how many were left out for it."""
    said = "The weights were neither trained nor tuned on these patients: each was looked up."
    if not patients.is_checked:
        said = f"It is not known whether the weights had seen these patients: {patients.not_checked}."
    if patients.test_left_out or patients.tuning_left_out:
        said += f" Left out, because the weights had seen them: {patients.test_left_out} patients of the test split"
        said += f", {patients.tuning_left_out} of the tuning split."
    return said


def _difference_markdown(by_finding: Mapping[str, FindingMetrics], minus_before: Mapping[str, AurocDifference | None]) -> str:
    titles = ("finding", "breasts", "patients", "AUROC", "less the one before (paired)", "AUPRC")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, metrics in by_finding.items():
        less = minus_before.get(name)
        cells = [
            name,
            f"{metrics.breasts} ({metrics.positive_breasts} positive)",
            f"{metrics.patients} ({metrics.positive_patients} positive)",
            interval_text(metrics.auroc),
            "-" if less is None else difference_text(less),
            interval_text(metrics.auprc),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Differences are of the breasts that both evaluations scored, patients as clusters."])


def difference_text(less: AurocDifference) -> str:
    """``-0.050 (-0.090 to -0.010), p = 0.012``."""
    said = p_text(less.p_value)
    return f"{less.difference:+.3f} ({less.low:+.3f} to {less.high:+.3f}), p {said if said.startswith('<') else f'= {said}'}"


def p_text(p_value: float, form: str = ".2g", *, least: float = _LEAST_P) -> str:
    """``0.012``; never 0, which no test of so many patients shows, nor rounded onto the 0.05 that people ask for."""
    least = max(least, _SMALLEST_P)
    return f"< {least:g}" if p_value < least else apart(p_value, (_LEVEL,), form)


def apart(value: float, limits: Sequence[float], form: str) -> str:
    """A number in a form such as ``+.1f``, with more digits where it would be rounded onto a limit that it is not."""
    start, digits, kind = form.partition(".")[0], int(form.partition(".")[2][:-1]), form[-1]
    others = [limit for limit in limits if not math.isclose(value, limit, abs_tol=1e-9)]
    text = f"{value:{form}}"
    while float(text) in others:
        digits += 1
        text = f"{value:{start}.{digits}{kind}}"
    return text


def interval_text(interval: Interval) -> str:
    """``0.812 (0.701-0.903)``, or why there is none."""
    if interval.value is None:
        return "not defined (one class only)"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f} (too few patients for an interval)"
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"
