"""The page of reporting guidelines: each item with what this run says to it, and what its authors have to state.

A page beside the run's report, for those who write a paper or review one. It claims no adherence: it says what is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from schemas.config.run import RunConfig, Stage
from schemas.reports.data import IngestReport, SplitReport, ValidationReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.pages import ExplainReport
from schemas.reports.training import TrainReport
from tasks.adapters.models.scorings import scorings_sentence
from tasks.adapters.pages.render import write_page
from tasks.adapters.pages.reporting.answers import SECTIONS, Answer, answers
from tasks.adapters.pages.reporting.checklists import CHECKLISTS, Checklist, Item
from tasks.adapters.pages.reporting.sentences import KnownRun
from tasks.adapters.provenance import now
from tasks.adapters.workspace import Workspace, exam_store_dir

KNOWN, IN_PART, TO_STATE = "from this run", "in part", "authors"
_NOTHING = Answer(said=())
EVALUATION_SECTIONS = (
    "performance", "operating", "calibration", "subgroups", "localisation", "measures", "provenance"
)  # fmt: skip
"""Of the report's sections those that an evaluation's page has too."""


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
    report: KnownRun,
    *,
    config: RunConfig,
    report_page: str,
    output_path: Path,
    created: datetime,
    sections: Mapping[str, str] = SECTIONS,
) -> Path:
    """Writes the page as one self-contained file; replaced atomically.

    Args:
        report: What the stages reported.
        config: The run's config.
        report_page: Name of the run's report, which lies beside the page: what an item's link leads to.
        output_path: Where the page goes.
        created: When the page was made.
        sections: Those of the report, with their headings: an item links to no other.

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
        sections=sections,
        lists=[(checklist, items, _counts(checklist, items)) for checklist, items in lists],
        is_synthetic=config.phantom is not None,
        scorings=report.evaluation.scorings,
        scorings_said=scorings_sentence(report.evaluation.scorings),
    )
    return output_path


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedRun:
    """What lies beside an evaluation that no pipeline made: see ``KnownRun``."""

    ingest: IngestReport
    split: SplitReport
    evaluation: EvaluationReport
    validation: ValidationReport | None
    train: TrainReport | None
    explanation: ExplainReport | None = None


def render_beside_evaluation(
    config: RunConfig, split: SplitReport, train: TrainReport | None, evaluation: EvaluationReport, page: Path
) -> Path | None:
    """The same beside an evaluation's own page; None where no report of the ingest is found, whose counts most items ask for.

    Raises:
        OSError: The page cannot be written.
    """
    of_store, own = Workspace(exam_store_dir(config).parent), Workspace(config.workspace_dir)
    try:
        ingest = of_store.read_report(Stage.INGEST.value, IngestReport)
    except (OSError, ValueError):
        return None
    try:
        validation = own.read_report(Stage.VALIDATE.value, ValidationReport)
    except (OSError, ValueError):
        validation = None
    return render_reporting(
        EvaluatedRun(ingest=ingest, split=split, evaluation=evaluation, validation=validation, train=train),
        config=config,
        report_page=page.name,
        output_path=page.with_name("reporting.html"),
        created=now(),
        sections={name: SECTIONS[name] for name in EVALUATION_SECTIONS},
    )


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
