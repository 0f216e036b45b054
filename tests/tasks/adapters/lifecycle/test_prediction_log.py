"""The prediction log: what was said stays said, and what is changed is seen."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.commands.life.scoring_log import export, show, verify, watch
from mammo_tests.training_store import small_config
from schemas.errors import StoreError
from tasks.adapters.lifecycle.prediction_log import PredictionLog, years_before
from tasks.adapters.lifecycle.watching.site_counts import LogCounts
from tasks.adapters.workspace import Workspace

JANUARY = datetime(2026, 1, 30, 12, tzinfo=UTC)


def entries(*names: str) -> list[dict[str, object]]:
    """Lines that say as little as possible."""
    return [{"kind": "exam", "exam_id": name} for name in names]


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    """Six lines of three months."""
    log = PredictionLog(tmp_path / "log")
    for days in (0, 3, 40):
        log.append(entries(f"E{days}", f"F{days}"), now=JANUARY + timedelta(days=days))
    return log


def said(log: PredictionLog) -> list[str]:
    """The exams, in order."""
    return [line["exam_id"] for line in log.lines() if line["kind"] == "exam"]


def test_lines_follow_one_another_over_the_months(log: PredictionLog) -> None:
    """One file a month, one chain through all; the last digest is found again, another is not; files are the owner's."""
    checked = log.check()
    assert (checked.lines, checked.last.number, checked.fault, checked.clock_went_back) == (6, 6, "", 0)
    assert [path.name for path in log.files()] == ["log-2026-01.jsonl", "log-2026-02.jsonl", "log-2026-03.jsonl"]
    assert said(log) == ["E0", "F0", "E3", "F3", "E40", "F40"]
    assert log.check(contains=checked.last.sha256).has_digest and log.check(contains="0" * 64).has_digest is False
    assert all(path.stat().st_mode & 0o077 == 0 for path in log.files())


@pytest.mark.parametrize("damage", ["unreadable", "garbage"])
def test_a_head_that_cannot_be_read_is_not_taken_for_none(log: PredictionLog, damage: str) -> None:
    """The end was cut off, and the disk does not say where it was: no score is given out, and verify does not say well."""
    head, last = log.folder / "head.json", log.files()[-1]
    head.unlink()
    if damage == "unreadable":
        head.symlink_to(head)  # ELOOP, as a disk says EIO
    else:
        head.write_text("{")
    before = last.read_bytes().splitlines(keepends=True)[0]
    last.write_bytes(before)
    with pytest.raises(StoreError, match=r"head\.json of the prediction log cannot be read.*Remedy: see to the disk"):
        log.append(entries("E50"))
    assert last.read_bytes() == before and log.check().fault.startswith("head.json: it cannot be read")


def test_every_change_is_seen(log: PredictionLog) -> None:
    """Each line altered, taken out, doubled; two swapped; the end or the beginning cut; a month gone: always a fault."""
    before = {path: path.read_bytes() for path in log.files()}

    def is_seen(path: Path, lines: list[bytes]) -> bool:
        path.write_bytes(b"".join(lines))
        fault = log.check().fault
        path.write_bytes(before[path])
        return fault != ""

    for path, content in before.items():
        lines = content.splitlines(keepends=True)
        for index, line in enumerate(lines):
            altered = line.replace(b"exam_id", b"exam_ie")
            assert is_seen(path, [*lines[:index], altered, *lines[index + 1 :]])
            assert is_seen(path, [*lines[:index], *lines[index + 1 :]])
            assert is_seen(path, [*lines[:index], line, line, *lines[index + 1 :]])
        assert is_seen(path, lines[::-1])
        path.unlink()
        assert log.check().fault
        path.write_bytes(content)
    assert log.check().fault == ""


@pytest.mark.parametrize(
    ("line", "refuses"),
    [
        ("[1, 2]", ("export", "show", "watch")),
        ("[" * 100_000, ("export", "show", "watch")),
        ('{"number": 1e999, "kind": "image"}', ("export", "show", "watch")),
        ('{"number": 2, "before": "", "when_utc": "", "kind": "exam"}', ("export", "watch")),
        ('{"number": 2, "before": "", "when_utc": "", "kind": "exam", "model": "m", "scores": {"L": 5}}', ("export", "watch")),
        ('{"number": 2, "before": "", "when_utc": "", "kind": "retention"}', ()),
    ],
)
def test_who_reads_an_edited_log_is_told_in_a_sentence(line: str, refuses: tuple[str, ...], tmp_path: Path) -> None:
    """A line is no object, lacks what it had, or has another thing in its place: ``verify`` names it, nobody trips over it."""
    config = small_config(tmp_path / "w")
    path = tmp_path / "c.yaml"
    path.write_text(config.model_dump_json())
    log = PredictionLog(Workspace(config.workspace_dir).prediction_log_dir)
    log.append([{"kind": "begun", "exam_id": ""}])
    with log.files()[0].open("a") as file:
        file.write(f"{line}\n")
    verbs: dict[str, Callable[[], None]] = {
        "verify": lambda: verify(path),
        "export": lambda: export(path, tmp_path / "log.csv"),
        "show": lambda: show(path, ""),
        "watch": lambda: watch(path),
    }
    told = []
    for name, verb in verbs.items():
        try:
            verb()
        except StoreError:
            told.append(name)
    assert told == ["verify", *refuses]


def test_whoever_reads_a_long_log_holds_a_line_of_it(tmp_path: Path) -> None:
    """A million images are 0.8 GB of lines: the chain, a reader, the table and what Prometheus is told take them one by one."""
    config = small_config(tmp_path / "w")
    path = tmp_path / "c.yaml"
    path.write_text(config.model_dump_json())
    log = PredictionLog(Workspace(config.workspace_dir).prediction_log_dir)
    image = {"kind": "image", "model": "m", "exam_id": "E", "laterality": "L", "view_position": "CC", "scores": {}}
    log.append([{**image, "gate_warnings": "V" * 20_000}] * 200)
    assert log.files()[0].stat().st_size > 4_000_000
    readers: dict[str, Callable[[], object]] = {
        "check": log.check,
        "lines": lambda: sum(1 for _ in log.lines()),
        "export": lambda: export(path, tmp_path / "log.csv"),
        "counts": LogCounts(log).read_on,
    }
    peaks = {}
    for name, read in readers.items():
        tracemalloc.start()
        read()
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert [name for name, peak_bytes in peaks.items() if peak_bytes > 1_000_000] == []


def test_a_log_without_its_end_is_not_written_on(log: PredictionLog) -> None:
    """Lines that were answered for are gone: no score is given out, and the files stay as they are found."""
    last = log.files()[-1]
    last.unlink()
    with pytest.raises(StoreError, match="end of the prediction log is missing"):
        log.append(entries("E"))
    assert len(log.files()) == 2


def test_a_clock_that_goes_back_breaks_nothing(log: PredictionLog) -> None:
    """The newest month is written on, and the check says how often a time was before the one before it."""
    log.append(entries("back"), now=JANUARY - timedelta(days=400))
    assert [path.name for path in log.files()][-1] == "log-2026-03.jsonl" and said(log)[-1] == "back"
    assert (log.check().fault, log.check().clock_went_back) == ("", 1)


def test_half_a_line_of_a_killed_writer_goes_with_the_next_one(log: PredictionLog) -> None:
    """Nobody was told that score; the check takes no offence either."""
    with log.files()[-1].open("ab") as file:
        file.write(b'{"number": 7, "before"')
    assert log.check().fault == "" and len(said(log)) == 6
    log.append(entries("E7"), now=JANUARY + timedelta(days=41))
    assert said(log)[-1] == "E7" and (log.check().lines, log.check().fault) == (7, "")


def test_a_full_disk_leaves_the_log_whole(log: PredictionLog) -> None:
    """The write fails in the middle (a limit of the system on the size of files): an error, no half line, and it goes on."""
    size = log.files()[-1].stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
        with pytest.raises(StoreError, match="no score is given out"):
            log.append(entries("E7", "E8"), now=JANUARY + timedelta(days=41))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.files()[-1].stat().st_size == size and log.check().fault == ""
    log.append(entries("E7"), now=JANUARY + timedelta(days=41))
    assert said(log)[-1] == "E7"


def test_old_months_go_and_say_so(log: PredictionLog) -> None:
    """A line says which went; the rest verifies. Without that line a cut beginning is a fault."""
    now = JANUARY + timedelta(days=45)
    assert log.expire(datetime(2026, 3, 1, tzinfo=UTC), is_dry=True) == 2 and len(log.files()) == 3
    assert log.expire(datetime(2026, 3, 1, tzinfo=UTC), is_dry=False, now=now) == 2
    assert said(log) == ["E40", "F40"] and log.check().fault == ""
    log.append(entries("E7"), now=now)
    assert log.check().fault == "" and log.expire(datetime(2030, 1, 1, tzinfo=UTC), is_dry=False) == 0
    path = log.files()[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    assert "beginning" in log.check().fault
    assert years_before(datetime(2028, 2, 29, tzinfo=UTC), 7) == datetime(2021, 2, 1, tzinfo=UTC)


_LOG_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tasks.adapters.lifecycle.prediction_log import PredictionLog
log = PredictionLog(Path(sys.argv[1]))
def work(die_at):
    calls = 0
    def counted(real):
        def call(*args, **named):
            nonlocal calls
            calls += 1
            if calls == die_at:
                if real is write:
                    real(args[0], args[1][:len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)
        return call
    write = os.write
    os.write, os.fsync, Path.replace = counted(os.write), counted(os.fsync), counted(Path.replace)
    for line in range(3):
        log.append([{"kind": "exam", "exam_id": f"{die_at}-{line}"}])
        print(f"{die_at}-{line}", flush=True)
for die_at in range(1, 13):
    child = os.fork()  # this process imports, and starts no thread
    if not child:
        work(die_at)
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.check().fault, flush=True)
"""


def test_twelve_kills_lose_no_line_that_was_answered_for(tmp_path: Path) -> None:
    """``kill -9`` at each write, sync and rename: the chain is whole after each, and whatever was given out is in it."""
    arguments = [sys.executable, "-c", _LOG_AND_DIE, str(tmp_path / "log")]
    ended = subprocess.run(arguments, env=os.environ, check=True, capture_output=True, text=True, timeout=600)
    lines = ended.stdout.splitlines()
    ends = [line.split(maxsplit=2)[1:] for line in lines if line.startswith("ended")]
    assert ends.count([str(-signal.SIGKILL)]) == 12, ended.stdout
    given_out = [line for line in lines if not line.startswith("ended")]
    log = PredictionLog(tmp_path / "log")
    assert len(given_out) >= 9 and set(given_out) <= set(said(log))
    numbers = [json.loads(line)["number"] for path in log.files() for line in path.read_bytes().splitlines()[:-1]]
    assert numbers == list(range(1, len(numbers) + 1))
