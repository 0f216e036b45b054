"""The log of every time the test split was scored, beside the splits: who looks often, and then chooses, measures too well.

Lines are added and never taken out. One is written before the first image is scored: an evaluation that was stopped has been
seen too.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from schemas.config.network import TableRow
from schemas.errors import StoreError
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import TestScoring
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.model_files import ensemble_sha256
from tasks.adapters.provenance import file_sha256
from tasks.adapters.workspace import Workspace


def enter_scoring(
    splits: SplitReport, members: Sequence[EnsembleMember], read_as: TableRow | None, test_patients: int
) -> tuple[TestScoring, ...]:
    """Adds a line to the log; returns all lines about these splits, oldest first, with the new one.

    Args:
        splits: The division whose test patients are scored; the log lies beside its table.
        members: The weights.
        read_as: Row of Table 1 as which they are read; None = as they are.
        test_patients: How many are scored.

    Raises:
        StoreError: The log cannot be written, or a line of it is damaged: nothing is scored that is not written down.
    """
    path, splits_sha256 = Workspace.scorings_path(splits.splits_path), file_sha256(splits.splits_path)
    scoring = TestScoring(
        when_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        model_sha256=ensemble_sha256(members),
        models=len(members),
        read_as="" if read_as is None else read_as.value,
        splits_sha256=splits_sha256,
        test_patients=test_patients,
    )
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # Of two evaluations at once, the second waits: a reader could otherwise see half of a line that is being written.
            fcntl.flock(file, fcntl.LOCK_EX)
            line = f"{scoring.model_dump_json()}\n".encode()
            written = os.write(file, line)
            if written < len(line):  # the disk is full: half a line would stop every evaluation after this one
                os.ftruncate(file, os.fstat(file).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
            lines = path.read_text(encoding="utf-8").splitlines()
        finally:
            os.close(file)
    except (OSError, UnicodeDecodeError) as refused:
        raise _unusable(path, refused.strerror if isinstance(refused, OSError) else "bytes that are not UTF-8") from refused
    try:
        entered = [TestScoring.model_validate_json(line) for line in lines if line.strip()]
    except ValueError as damage:
        raise _unusable(path, "a damaged line") from damage
    return tuple(each for each in entered if each.splits_sha256 == splits_sha256)


def scorings_sentence(scorings: tuple[TestScoring, ...]) -> str:
    """How often the test split was looked at, and by how many networks; empty where nobody kept a log."""
    if not scorings:
        return ""
    networks = len({(each.model_sha256, each.read_as) for each in scorings})
    if len(scorings) == 1:
        return "These test patients were scored for the first time."
    said = f"These test patients were scored {len(scorings)} times since {scorings[0].when_utc[:10]}"
    if networks == 1:
        return f"{said}, always by these weights."
    return f"{said}, by {networks} networks: if one was chosen for what it did here, its numbers are too good."


def _unusable(path: Path, got: str | None) -> StoreError:
    return StoreError(
        f"The log of test scorings {path} cannot be used",
        expected="one JSON object a line, and a folder that this user may write",
        got=got,
        remedy="restore it from a backup; it says how often the test split was looked at, so nothing is scored without it",
    )
