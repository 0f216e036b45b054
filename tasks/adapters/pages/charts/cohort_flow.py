"""The cohort's flow as a figure: boxes from files found to the three splits, beside each arrow who did not go on and why.

Coordinates only, as in ``report_charts``; the markup is the template's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.exam import Split
from schemas.reports.pages import PipelineReport

WIDTH: Final = 900.0
_BOX_WIDTH = 270.0
_NOTE_LEFT = 330.0
_LINE = 19.0
_PADDING = 12.0
_GAP = 34.0
_NOTE_CHARACTERS = 74
_HEAD = "m-5-7 5 7 5-7"
_MOST_NOTES = 9
"""Lines beside a box; the list below the figure has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStep:
    """One box of the cohort flow: how many went on, and the sentences on who did not."""

    title: str
    count: int
    unit: str
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowBox:
    """A box with a title, a bold line and notes beside it; ``notes_top`` is the first note's baseline."""

    left: float
    top: float
    width: float
    height: float
    title: str
    bold: str
    details: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    notes_top: float = 0.0
    notes_left: float = _NOTE_LEFT


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowChart:
    """The figure; ``arrows`` are SVG paths with their heads."""

    width: float
    height: float
    boxes: tuple[FlowBox, ...]
    arrows: tuple[str, ...]
    description: str


def flow_chart(steps: Sequence[FlowStep], ends: Sequence[tuple[str, str, tuple[str, ...]]]) -> FlowChart:
    """Boxes under each other, and the last one's parts side by side at the foot.

    Args:
        steps: From the first box to the last one before the division.
        ends: (title, bold line, further lines) of each part.
    """
    boxes: list[FlowBox] = []
    arrows: list[str] = []
    middle = _BOX_WIDTH / 2
    top = 2.0
    for step in steps:
        notes = _wrapped(step.left_out)
        height = max(2 * _LINE + 2 * _PADDING - 4, _LINE * len(notes) + _PADDING)
        if boxes:
            arrows.append(f"M{middle:g} {top - _GAP:g}V{top - 3:g}{_HEAD}")
        boxes.append(
            FlowBox(
                left=1.0,
                top=top,
                width=_BOX_WIDTH,
                height=height,
                title=step.title,
                bold=f"{step.count:,} {step.unit}",
                notes=notes,
                notes_top=top + (height - _LINE * len(notes)) / 2 + 14.0,
            )
        )
        top += height + _GAP
    if ends:
        top = _add_ends(ends, top, boxes, arrows)
    said = [f"{step.title}: {step.count:,} {step.unit}" for step in steps] + [f"{title}: {bold}" for title, bold, _ in ends]
    return FlowChart(
        width=WIDTH, height=top - _GAP + 2.0, boxes=tuple(boxes), arrows=tuple(arrows), description="; ".join(said) + "."
    )


def cohort_steps(report: PipelineReport) -> tuple[FlowStep, ...]:
    """From the files of the source folder to the exams that are divided."""
    ingest = report.ingest
    refused = ingest.files_found - ingest.images_published
    reasons = sorted(ingest.quarantined_by_reason.items(), key=lambda item: (-item[1], item[0]))
    divided = sum(count.exams for count in report.split.counts.values())
    gate = _told(
        (ingest.files_left_out, "more left out by the subjects file, not opened"),
        (ingest.subjects_changed, "read again, or taken out, as the subjects file has changed"),
        (refused, "not published"),
        *((count, f"× {reason}") for reason, count in reasons),
    )
    if sum(ingest.quarantined_by_reason.values()) > refused > 0:
        gate = (*gate, "a file can have several reasons")
    warned = _told(*((count, f"× warning {rule}, kept") for rule, count in sorted(ingest.warnings_by_rule.items())))
    incomplete = _told((ingest.exams_incomplete, "without all four standard views, kept"))
    unlabelled = _told(
        (ingest.unlabelled_breasts, "breasts without a label"),
        (ingest.orphan_labels, "label rows that join to no exam"),
        (ingest.masks_unusable, "lesion masks that cannot be used"),
        (ingest.masks_unmatched, "lesion masks of no published image"),
        (ingest.boxes_clipped, "lesion boxes clipped to their image's edges"),
    )
    checks = report.validation
    failed = _told((len(checks.blocking), "blocking checks failed"), (len(checks.warnings), "checks warned, images kept"))
    undivided = _told((ingest.exams - divided, "exams in no split"))
    return (
        FlowStep(title="Files found", count=ingest.files_found, unit="files", left_out=()),
        FlowStep(
            title="Published to the store",
            count=ingest.images_published,
            unit="images",
            left_out=(*(gate or ("no file refused",)), *warned),
        ),
        FlowStep(
            title="Grouped into exams",
            count=ingest.exams,
            unit="exams",
            left_out=incomplete or ("all with four standard views",),
        ),
        FlowStep(
            title="Joined to labels",
            count=ingest.labelled_breasts,
            unit="breasts",
            left_out=unlabelled or ("every breast has a label, every label an exam",),
        ),
        FlowStep(
            title="Passed the data checks",
            count=0 if checks.blocking else checks.images,
            unit="images",
            left_out=failed or (f"all {len(checks.checks)} checks met",),
        ),
        FlowStep(title="Divided by patient", count=divided, unit="exams", left_out=undivided or ("every exam is in a split",)),
    )


def split_ends(report: PipelineReport) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """The three splits: title, patients, and what they hold."""
    counts = [(split, report.split.counts.get(split)) for split in Split]
    return tuple(
        (
            split.value.capitalize(),
            f"{count.patients:,} patients" if count else "0 patients",
            (
                f"{count.exams:,} exams, {count.images:,} images",
                f"{count.malignant_breasts:,} malignant, {count.benign_breasts:,} benign breasts",
            )
            if count
            else (),
        )
        for split, count in counts
    )


def _add_ends(ends: Sequence[tuple[str, str, tuple[str, ...]]], top: float, boxes: list[FlowBox], arrows: list[str]) -> float:
    """The parts, an arrow to each from the box above; returns where the next thing would begin."""
    start, fork = top - _GAP, top - _GAP / 2
    gap = 24.0
    width = (WIDTH - 2.0 - gap * (len(ends) - 1)) / len(ends)
    height = _LINE * (2 + max(len(details) for _, _, details in ends)) + 2 * _PADDING - 4
    for index, (title, bold, details) in enumerate(ends):
        left = 1.0 + index * (width + gap)
        boxes.append(FlowBox(left=left, top=top, width=width, height=height, title=title, bold=bold, details=details))
        arrows.append(f"M{_BOX_WIDTH / 2:g} {start:g}V{fork:g}H{left + width / 2:g}V{top - 3:g}{_HEAD}")
    return top + height + _GAP


def _wrapped(sentences: Sequence[str]) -> tuple[str, ...]:
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, _NOTE_CHARACTERS, subsequent_indent="   ")]
    if len(lines) <= _MOST_NOTES:
        return tuple(lines)
    return (*lines[: _MOST_NOTES - 1], f"and {len(lines) - _MOST_NOTES + 1} more lines: see the list below the figure")


def _told(*counted: tuple[int, str]) -> tuple[str, ...]:
    """A sentence for each count that is not zero."""
    return tuple(f"{count:,} {what}" for count, what in counted if count > 0)
