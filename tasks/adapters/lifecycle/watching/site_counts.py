"""What a workspace counts of itself: exams, scores, refused files, alarms that stand. For who asks again and again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pyarrow import ArrowException, parquet

from schemas.config.evaluation import HealthConfig
from schemas.exam import Finding
from schemas.reports.life.health import HealthReport
from schemas.reports.life.watching import WatchReport
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.workspace import HEALTH, WATCH, Workspace

SCORE_BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper bounds of the groups in which malignant scores are counted."""

_CLOCK_TOLERANCE: Final = timedelta(minutes=5)


@dataclass(slots=True)
class ModelCounts:
    """Of one model, since the log's beginning.

    Attributes:
        by_bound: Exams whose malignant score, the highest of their breasts, is at most each of ``SCORE_BOUNDS``.
        score_sum: Of these scores.
        exams: Exams with a score, as often as they were scored.
        recalled: Those recalled by the locked threshold.
        images: Images.
    """

    by_bound: list[int] = field(default_factory=lambda: [0] * len(SCORE_BOUNDS))
    score_sum: float = 0.0
    exams: int = 0
    recalled: int = 0
    images: int = 0

    def take(self, line: dict[str, Any]) -> None:
        """Counts a line of the log."""
        if line["kind"] == "image":
            self.images += 1
            return
        finding = Finding.MALIGNANT.value
        scores = [of_breast[finding] for of_breast in line["scores"].values() if of_breast[finding] is not None]
        if not scores:
            return
        score = max(scores)
        self.exams += 1
        self.score_sum += score
        self.recalled += bool(line["recalled"].get(finding))
        for place, bound in enumerate(SCORE_BOUNDS):
            self.by_bound[place] += score <= bound


class LogCounts:
    """Counts of the prediction log by model; each reading takes only the lines that were added since the one before."""

    def __init__(self, log: PredictionLog) -> None:
        self.by_model: dict[str, ModelCounts] = {}
        self._log = log
        self._read_bytes: dict[str, int] = {}

    def read_on(self) -> None:
        """Takes what is new. A month that was deleted because it is old stays counted.

        Raises:
            OSError: The log cannot be read.
            ValueError: A line is none.
        """
        for path in self._log.files():
            begin = self._read_bytes.get(path.name, 0)
            with path.open("rb") as file:
                file.seek(begin)
                for line in file:  # one at a time: a million images are 0.8 GB
                    if not line.endswith(b"\n"):
                        break
                    said = json.loads(line)
                    if said.get("kind") in ("image", "exam"):
                        self.by_model.setdefault(said["model"], ModelCounts()).take(said)
                    self._read_bytes[path.name] = begin = begin + len(line)


class Published:
    """Images and exams of the manifest; it is read again only when it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._counts = (0, 0)

    def counts(self) -> tuple[int, int]:
        """Images, exams; none where nothing was published yet.

        Raises:
            OSError: It cannot be read.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return (0, 0)
        if self._seen != (status.st_mtime_ns, status.st_ino):
            try:
                exams = parquet.read_table(self._path, columns=["exam_id"])["exam_id"]
            except ArrowException as damage:
                raise OSError("the manifest cannot be read") from damage
            self._counts = (len(exams), len(exams.unique()))
            self._seen = (status.st_mtime_ns, status.st_ino)
        return self._counts


def alarms(workspace: Workspace) -> Iterator[tuple[str, bool]]:
    """Each device of the newest watching, and whether an alarm stands; none where nobody has watched.

    Raises:
        OSError: The report cannot be read.
        ValueError: It is damaged.
    """
    try:
        report = workspace.read_report(WATCH, WatchReport)
    except FileNotFoundError:
        return
    for device in report.devices:
        yield device.name, bool(device.alarms)


def newest_exam(workspace: Workspace) -> HealthReport | None:
    """The newest exam that came out; None = none did, or a former release's."""
    try:
        return workspace.read_report(HEALTH, HealthReport)
    except (OSError, ValueError):
        return None


def silence(report: HealthReport | None, asked: HealthConfig, *, now: datetime) -> str:
    """Why one should look, in words; "" = an exam came out not long ago."""
    if report is None:
        return "no synthetic exam has come out yet"
    since = now - datetime.fromisoformat(report.created_utc)
    if since < -_CLOCK_TOLERANCE:
        return f"the newest synthetic exam is of {report.created_utc}, which is yet to come: a clock went back"
    hours = since.total_seconds() / 3600.0
    return f"no synthetic exam has come out for {hours:.1f} hours" if hours > asked.longest_silence_h else ""
