"""The synthetic exam that goes the whole way: the same phantom each time, in a workspace of its own that is made anew.

Nothing of it can be counted, watched, evaluated or sent: the store, the log and the outbox of the site never hear of it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Final

from schemas.config.evaluation import HealthConfig
from schemas.config.ingest import IngestConfig, PhantomConfig
from schemas.config.run import RunConfig
from schemas.errors import MammoError, StoreBusy
from schemas.layout import VIEWS_PER_EXAM
from schemas.reports.life.health import HealthReport
from schemas.reports.pages import PredictReport
from tasks.adapters.datasets.phantom_cohort import DICOM_DIR, write_cohort
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.lifecycle.watching.site_counts import newest_exam
from tasks.adapters.lock import is_held, without_readers
from tasks.adapters.workspace import HEALTH, Workspace

TOLERANCE: Final = 0.001
"""By how much equal weights may score the same exam otherwise, on another processor of the same site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthExam:
    """An exam on its way.

    Attributes:
        config: The site's, for the exam's own folders; nothing goes from there to another system.
        began: When it set out.
    """

    config: RunConfig
    began: datetime


def set_out(config: RunConfig, *, now: datetime) -> HealthExam:
    """Draws the exam's files, if they are not there yet, and clears away what became of the one before.

    Raises:
        StoreBusy: That one is still on its way.
    """
    asked = config.health or HealthConfig()
    home = Workspace(config.workspace_dir).stage_dir(HEALTH)
    rows, columns = asked.image_size_px
    cohort = PhantomConfig(
        output_dir=home / f"cohort-{rows}x{columns}",
        patients=1,
        exams_per_patient=(1, 1),
        image_size_px=asked.image_size_px,
        malignant_fraction=1.0,
        benign_fraction=0.0,
    )
    write_cohort(cohort)
    own_dir = Workspace(config.workspace_dir).health_dir
    if own_dir.exists():
        _clear(own_dir)
    given = config.ingest
    ingest = IngestConfig(
        source_dir=cohort.output_dir / DICOM_DIR,
        profile="phantom",
        settle_s=0.0,
        file_timeout_s=given.file_timeout_s,
        file_memory_mib=given.file_memory_mib,
        dask=given.dask,
    )
    own = {"name": HEALTH, "workspace_dir": own_dir, "store_dir": None, "ingest": ingest, "pacs": None, "phantom": None}
    return HealthExam(config=config.model_copy(update=own), began=now)


def came_out(config: RunConfig, exam: HealthExam, predicted: PredictReport, *, now: datetime) -> HealthReport:
    """What the exam says of the way; the report is left in the site's workspace.

    Raises:
        MammoError: A view, a score, its page or its lines in the log are missing, or it scores otherwise than before.
    """
    workspace, log = Workspace(config.workspace_dir), PredictionLog(Workspace(exam.config.workspace_dir).prediction_log_dir)
    said = [line for line in log.lines() if line["kind"] == "exam"]
    report = HealthReport(
        created_utc=now.isoformat(timespec="seconds"),
        seconds=round((now - exam.began).total_seconds(), 1),
        made_by=" ".join(str(said[-1][name]) for name in ("model", "preprocessing", "code_version")) if said else "",
        scores={f"{image.laterality}-{image.view_position}": image.scores for image in predicted.images},
        page_path=predicted.report_path or predicted.scores_path,
    )
    before = newest_exam(workspace)
    faults = [
        text
        for text, is_so in (
            (f"{len(report.scores)} of {VIEWS_PER_EXAM} views were scored", len(report.scores) != VIEWS_PER_EXAM),
            ("a score is no number", not all(isfinite(one) for scores in report.scores.values() for one in scores.values())),
            ("it has no page", not report.page_path.exists()),
            ("its log is not whole", log.check().fault != "" or not said),
            (f"it scores otherwise than at {before.created_utc if before else ''}", _scores_otherwise(before, report)),
        )
        if is_so
    ]
    if faults:
        raise MammoError(
            "The synthetic exam did not come out as it should",
            expected="four views with their scores, a page, a whole log, and the scores that the same weights gave before",
            got="; ".join(faults),
            remedy=f"see this run and the folder {HEALTH} of the workspace, and run `mammo doctor`",
        )
    workspace.write_report(HEALTH, report)
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _clear(own_dir: Path) -> None:
    if is_held(Workspace(own_dir).store_dir):
        raise StoreBusy(
            "Another synthetic exam is still on its way",
            expected="one at a time",
            got="one that is being ingested",
            remedy="wait until its run has ended",
        )
    with without_readers(own_dir, purpose="the next synthetic exam"):
        shutil.rmtree(own_dir)


def _scores_otherwise(before: HealthReport | None, after: HealthReport) -> bool:
    if before is None or before.made_by != after.made_by or before.scores.keys() != after.scores.keys():
        return False
    return any(
        abs(score - before.scores[view].get(finding, score)) > TOLERANCE
        for view, scores in after.scores.items()
        for finding, score in scores.items()
    )
