"""A folder in, a folder out: what a hospital's orchestrator calls us with, and what it finds.

    IN/    DICOM files of one exam or several; nothing is written there
    OUT/   scores.csv     a line an image
           result.json    last, and also where nothing could be scored: see ``schemas.reports.life.inferred``

Of a patient nothing is in OUT: exams and images have the pseudonyms of the workspace's key, and each image the number of its
file among those of IN, by which the caller, who has the files, knows which it is. No score is left that is not in the log.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pandas as pd

from schemas.config.run import RunConfig
from schemas.errors import MammoError, NoExamsFound, TooManyFailures
from schemas.exam import FINDINGS
from schemas.reports.life.inferred import AnsweredExam, AnsweredImage, FileNotUsed, InferResult
from tasks.adapters.gate.rules.table import is_of_another_kind
from tasks.adapters.lifecycle.inference.out_folder import RESULT, SCORES, cannot_be_written, forget, require_two_folders
from tasks.adapters.lifecycle.inference.scorer import ScoredFolder, Scorer
from tasks.adapters.lifecycle.said_scores import SaidScores
from tasks.adapters.lock import reading
from tasks.adapters.scoring.prediction import kept_recalibration
from tasks.adapters.scoring.score_tables import SCORE_COLUMNS
from tasks.adapters.store.manifest import lines_of
from tasks.adapters.store.views import cut_views, missing_views
from tasks.adapters.workspace import write_atomically

_COLUMNS: Final = ("file", "exam_id", "image_id", "laterality", "view_position", *SCORE_COLUMNS, "gate_warnings")


def answer(config: RunConfig, scorer: Scorer, source_dir: Path, out_dir: Path) -> InferResult:
    """Scores the files of one folder and leaves the result in the other; an error of ours is a result with its exit code.

    What an earlier answer left in ``out_dir`` goes first: whoever finds a result there finds this one's.

    Raises:
        ConfigError: One folder lies in the other; nothing is written.
        StoreError: The output folder cannot be written; nothing is left there that could be taken for a result.
    """
    require_two_folders(source_dir, out_dir)
    run = uuid4().hex
    try:
        forget(out_dir)
        try:
            result, table = _scored(config, scorer, source_dir, run)
        except MammoError as error:
            result, table = _failed(error, run), pd.DataFrame()
        if len(table):
            write_atomically(out_dir / SCORES, table.to_csv(index=False, columns=list(_COLUMNS)).encode())
        write_atomically(out_dir / RESULT, result.model_dump_json(indent=1).encode())
    except OSError as trouble:
        raise cannot_be_written(trouble) from trouble
    return result


# ---------------------------------------------------------------------------------------------------------------------


def _scored(config: RunConfig, scorer: Scorer, source_dir: Path, run: str) -> tuple[InferResult, pd.DataFrame]:
    with reading([config.workspace_dir]):
        found = scorer.score(source_dir)
        model = found.model
        recalibration = kept_recalibration(model, config.calibrated_prevalence) if config.calibrated else {}
        said = SaidScores.of(config, model, recalibration, "", run, pd.DataFrame(list(found.lines.values())))
        exams = said.passing(found.table, found.lines)  # first: no score is given out that is not in the log
    verdict, lines, logged = _verdict(config, found), lines_of(found.table), said.log.last()
    result = InferResult(
        exit_code=0 if verdict is None else verdict.exit_code,
        message="" if verdict is None else str(verdict),
        run=run,
        code_version=version("mammography-gmic"),
        model=model.sha256,
        preprocessing=str(said.common["preprocessing"]),
        terms=model.terms,
        exams=tuple(_exam(exam) for exam in exams),
        images=tuple(_image(line) for line in lines),
        missing=(*missing_views(lines), *cut_views(lines)),
        not_used=tuple(
            FileNotUsed(file=row + 1, rules=refusal.rules, why=refusal.text) for row, refusal in found.not_used.items()
        ),
        copies=found.copies,
        log_number=logged.number,
        log_sha256=logged.sha256,
    )
    return result, found.table.assign(file=found.table["row"] + 1) if lines else found.table


def _verdict(config: RunConfig, found: ScoredFolder) -> MammoError | None:
    """What the files that were not used mean for the answer as a whole, as they do for an ingest; None = it is good."""
    codes = sorted({code for refusal in found.not_used.values() for code in refusal.rules})
    if not len(found.table):
        return NoExamsFound(
            f"None of {found.files} files can be used",
            expected=f"mammograms that the profile {config.ingest.profile} allows",
            got=", ".join(codes) or None,
            remedy="see not_used, and docs/reference/gate-rules.md",
        )
    of_another_kind = sum(is_of_another_kind(refusal.rules) for refusal in found.not_used.values())
    failed, ours = len(found.not_used) - of_another_kind, found.files - of_another_kind
    if failed > config.ingest.max_failed_fraction * ours:
        return TooManyFailures(
            f"{failed} of {ours} files were refused",
            expected=f"at most {config.ingest.max_failed_fraction:.0%}",
            got=", ".join(codes),
            remedy="see not_used, and docs/reference/gate-rules.md",
        )
    return None


def _failed(error: MammoError, run: str) -> InferResult:
    return InferResult(exit_code=error.exit_code, message=str(error), run=run, code_version=version("mammography-gmic"))


def _exam(said: dict[str, Any]) -> AnsweredExam:
    return AnsweredExam(
        exam_id=said["exam_id"],
        images=said["images"],
        breasts=said["scores"],
        calibrated_breasts=said["calibrated_scores"],
        thresholds=said["thresholds"],
        recalled=said["recalled"],
        gate_warnings=said["gate_warnings"],
    )


def _image(line: dict[str, Any]) -> AnsweredImage:
    return AnsweredImage(
        file=line["row"] + 1,
        **{name: line[name] for name in ("image_id", "exam_id", "laterality", "view_position", "gate_warnings")},
        scores={finding.value: line[f"{finding.value}_score"] for finding in FINDINGS},
        breast_seen=line["breast_seen_fraction"],
    )
