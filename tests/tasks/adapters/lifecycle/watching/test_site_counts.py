"""What a workspace counts of itself, asked again and again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from schemas.config.evaluation import HealthConfig
from schemas.reports.life.health import HealthReport
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.lifecycle.watching.site_counts import SCORE_BOUNDS, LogCounts, Published, newest_exam, silence
from tasks.adapters.workspace import HEALTH, Workspace


def exam(score: float | None, *, recalled: bool = False) -> dict[str, Any]:
    """A line of the log."""
    scores = {"L": {"malignant": score}, "R": {"malignant": None}}
    return {"kind": "exam", "model": "m", "scores": scores, "recalled": {"malignant": recalled}}


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    """Lines count once, also of a new month; half a line of a killed writer does not, nor do lines of other kinds."""
    log = PredictionLog(tmp_path)
    counts = LogCounts(log)
    counts.read_on()
    assert not counts.by_model
    log.append([{"kind": "image", "model": "m"}, exam(0.05, recalled=True), exam(None), {"kind": "retention"}])
    with log.files()[0].open("ab") as file:
        file.write(b'{"kind": "image", "mo')
    for _ in range(2):
        counts.read_on()
    found = counts.by_model["m"]
    assert (found.images, found.exams, found.recalled, found.score_sum) == (1, 1, 1, 0.05)
    log.append([exam(0.8)], now=datetime(2999, 1, 1, tzinfo=UTC))
    log.append([{"kind": "image", "model": "other"}])
    counts.read_on()
    assert (found.exams, counts.by_model["other"].images) == (2, 1)
    assert dict(zip(SCORE_BOUNDS, found.by_bound, strict=True))[0.8] == 2 == found.by_bound[-1] and found.by_bound[3] == 1


def test_a_manifest_is_counted_when_it_was_replaced(tmp_path: Path) -> None:
    """Nothing before the first; then images and exams, and those of the next one."""
    path = tmp_path / "manifest"
    published = Published(path)
    assert published.counts() == (0, 0)
    for names in (["E1", "E1", "E2"], ["E1", "E1", "E2", "E3"]):
        pd.DataFrame({"exam_id": names}).to_parquet(tmp_path / "new")
        (tmp_path / "new").replace(path)
        assert published.counts() == published.counts() == (len(names), len(set(names)))


def test_silence_is_said_and_so_is_a_clock_that_goes_back(tmp_path: Path) -> None:
    """No exam yet; one of a while ago; one of long ago; one that is yet to come."""
    now, asked, workspace = datetime(2026, 3, 4, 12, tzinfo=UTC), HealthConfig(longest_silence_h=3), Workspace(tmp_path)
    assert "yet" in silence(newest_exam(workspace), asked, now=now)

    def at(moment: datetime) -> HealthReport | None:
        report = HealthReport(
            created_utc=moment.isoformat(), seconds=9, made_by="m", scores={}, page_path=tmp_path / HEALTH / "page.html"
        )
        workspace.write_report(HEALTH, report)
        return newest_exam(workspace)

    assert silence(at(now - timedelta(hours=2.9)), asked, now=now) == ""
    assert "for 3.1 hours" in silence(at(now - timedelta(hours=3.1)), asked, now=now)
    assert "clock went back" in silence(at(now + timedelta(hours=1)), asked, now=now)
