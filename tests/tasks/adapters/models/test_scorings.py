"""The log of test scorings: every look at the test patients stands there, and what it means is said."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.config.network import TableRow
from schemas.errors import StoreError
from schemas.reports.data import SplitReport
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.scorings import enter_scoring, scorings_sentence


def member(digit: str) -> EnsembleMember:
    """Weights with a digest of one digit."""
    return EnsembleMember(path=Path("weights"), sha256=digit * 64)


@pytest.fixture
def splits(tmp_path: Path) -> SplitReport:
    """A division; what its table holds is not asked."""
    path = tmp_path / "splits.parquet"
    path.write_bytes(b"first")
    return SplitReport(splits_path=path, data_version="v", counts={})


def test_each_look_is_told_and_another_division_begins_anew(splits: SplitReport) -> None:
    """Once, twice by the same weights, then by others; after a new division for the first time again, and nothing is gone."""
    said = [scorings_sentence(enter_scoring(splits, [member("a")], None, 9)) for _ in range(2)]
    assert said[0] == "These test patients were scored for the first time."
    assert "scored 2 times" in said[1] and said[1].endswith("always by these weights.")
    by_row = enter_scoring(splits, [member("a")], TableRow.LOC, 9)
    assert "3 times" in scorings_sentence(by_row) and "by 2 networks" in scorings_sentence(by_row)
    several = enter_scoring(splits, [member("a"), member("b")], None, 9)
    assert (several[-1].models, several[-1].test_patients, len(several)) == (2, 9, 4)
    splits.splits_path.write_bytes(b"second")
    assert "first time" in scorings_sentence(enter_scoring(splits, [member("a")], None, 9))
    assert len(splits.splits_path.with_name("test_scorings.jsonl").read_text().splitlines()) == 5


def test_evaluations_at_once_are_all_entered(splits: SplitReport) -> None:
    """Four at a time, fifty lines each: two hundred whole lines. The kernel tells writers apart by their open files alone."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: enter_scoring(splits, [member("a")], None, 9), range(200)))
    assert len(enter_scoring(splits, [member("b")], None, 9)) == 201


def test_nothing_is_scored_that_cannot_be_written_down(splits: SplitReport) -> None:
    """A folder in the log's place, and a damaged line, are sentences."""
    log = splits.splits_path.with_name("test_scorings.jsonl")
    log.mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        enter_scoring(splits, [member("a")], None, 9)
    log.rmdir()
    log.write_text("half a li")
    with pytest.raises(StoreError, match="damaged line"):
        enter_scoring(splits, [member("a")], None, 9)


def test_a_full_disk_leaves_no_half_line(splits: SplitReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes a part of the line only: it goes again, and the evaluation after it is entered."""
    enter_scoring(splits, [member("a")], None, 9)
    write = os.write
    monkeypatch.setattr("os.write", lambda file, content: write(file, content[:20]))
    with pytest.raises(StoreError, match="No space left"):
        enter_scoring(splits, [member("b")], None, 9)
    monkeypatch.undo()
    assert len(enter_scoring(splits, [member("c")], None, 9)) == 2
    assert len(splits.splits_path.with_name("test_scorings.jsonl").read_text().splitlines()) == 2


def test_without_a_log_nothing_is_said() -> None:
    """Evaluations of former releases kept none."""
    assert scorings_sentence(()) == ""
