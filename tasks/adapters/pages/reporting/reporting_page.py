"""The page of reporting guidelines: each item with what this run says to it, and what its authors have to state.

A page beside the run's report, for those who write a paper or review one. It claims no adherence: it says what is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from schemas.config.run import RunConfig
from schemas.reports.pages import PipelineReport
from tasks.adapters.models.scorings import scorings_sentence
from tasks.adapters.pages.render import write_page
from tasks.adapters.pages.reporting.answers import SECTIONS, Answer, answers
from tasks.adapters.pages.reporting.checklists import CHECKLISTS, Checklist, Item

KNOWN, IN_PART, TO_STATE = "from this run", "in part", "authors"
_NOTHING = Answer(said=())


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredItem:
    """An item with what stands beside it.

    Attributes:
        item: Its number, part and question.
        answer: What is known.
        status: Who has to say it, in a word or two.
    """

    item: Item
    answer: Answer
    status: str


def render_reporting(
    report: PipelineReport, *, config: RunConfig, report_page: str, output_path: Path, created: datetime
) -> Path:
    """Writes the page as one self-contained file; replaced atomically.

    Args:
        report: What the stages reported.
        config: The run's config.
        report_page: Name of the run's report, which lies beside the page: what an item's link leads to.
        output_path: Where the page goes.
        created: When the page was made.

    Raises:
        OSError: The page cannot be written.
    """
    known = answers(report, config)
    lists = [(checklist, [answered(item, known) for item in checklist.items]) for checklist in CHECKLISTS]
    write_page(
        output_path,
        "reporting.html.jinja",
        config=config,
        created=created,
        report_page=report_page,
        sections=SECTIONS,
        lists=[(checklist, items, _counts(checklist, items)) for checklist, items in lists],
        is_synthetic=config.phantom is not None,
        scorings=report.evaluation.scorings,
        scorings_said=scorings_sentence(report.evaluation.scorings),
    )
    return output_path


def answered(item: Item, known: Mapping[str, Answer]) -> AnsweredItem:
    """What a run says of an item; without a sentence its authors have to state it."""
    answer = known.get(item.topic, _NOTHING)
    if not answer.said:
        return AnsweredItem(item=item, answer=answer, status=TO_STATE)
    return AnsweredItem(item=item, answer=answer, status=IN_PART if answer.left else KNOWN)


def _counts(checklist: Checklist, items: list[AnsweredItem]) -> str:
    found = {status: sum(one.status == status for one in items) for status in (KNOWN, IN_PART, TO_STATE)}
    return (
        f"{checklist.name}: of {len(items)} items {found[KNOWN]} are filled from this run, {found[IN_PART]} in part, "
        f"{found[TO_STATE]} are to be stated by the authors."
    )
