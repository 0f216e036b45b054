"""The prediction log: lines that are added and never changed, each with the digest of the one before.

    prediction_log/
      log-2026-11.jsonl      one line an image and an exam, one file a month
      head.json              number and digest of the last line that was answered for: lines cut off the end are missed

A line is on the disk before ``append`` returns. What a killed writer left of a line without its end is taken away by the next
writer: nobody was ever told that score. The newest file is written on, whatever month the clock says: a clock that goes back
opens no earlier file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from schemas.errors import StoreError, error_name
from tasks.adapters.workspace import sync, write_atomically

RETENTION: Final = "retention"
"""Kind of the line that says which lines before it were deleted because they were old."""
_HEAD: Final = "head.json"
_TAIL_BYTES: Final = 2**16
_EDITED: Final = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What reading a line meets that somebody edited."""


class LastLine(NamedTuple):
    """Where a chain ends; number 0 = it has not begun."""

    number: int
    sha256: str


_NO_LINE: Final = LastLine(0, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCheck:
    """What reading the whole log found.

    Attributes:
        lines: How many there are.
        last: The last one.
        fault: The first place where the chain is broken, in a sentence; "" = nowhere.
        clock_went_back: Lines whose time is before that of the line before them.
        has_digest: The digest that was asked for is a line's; None = none was asked for.
    """

    lines: int
    last: LastLine
    fault: str
    clock_went_back: int
    has_digest: bool | None


class PredictionLog:
    """The log in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, entries: Sequence[Mapping[str, Any]], *, now: datetime | None = None) -> LastLine:
        """Adds lines; returns the last one. All of them are on the disk then, or none.

        Args:
            entries: What is said; the time, UTC, is added.
            now: The time; None = the clock's.

        Raises:
            StoreError: The disk is full or the log cannot be written, or its end is missing: nothing may be given out.
        """
        try:
            with self._locked():
                return self._append(entries, now or datetime.now(UTC))
        except OSError as refused:
            raise StoreError(
                "The prediction log cannot be written, so no score is given out",
                expected=f"room on the disk, and {self.folder} of this user",
                got=error_name(refused),
                remedy="make room and run the same command again: what was scored and not logged is scored again",
            ) from refused

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every line, oldest first; whether it follows the one before is not looked at.

        Raises:
            StoreError: A line is none.
        """
        for path in self.files():
            for line in _whole_lines(path):
                with lines_as_written():
                    read = dict[str, Any](json.loads(line))
                    read["when_utc"].encode(), read["kind"].encode()
                yield read

    def files(self) -> list[Path]:
        """The months, oldest first."""
        return sorted(self.folder.glob("log-*.jsonl"))

    def last(self) -> LastLine:
        """The last line that was answered for; number 0 = none was.

        Raises:
            StoreError: It is not known.
        """
        return self._head()

    def check(self, *, contains: str = "", witness: LastLine = _NO_LINE) -> LogCheck:
        """Reads all of it and follows the chain.

        Args:
            contains: A digest that a line had once, as noted elsewhere: whoever wrote the chain anew does not have it.
            witness: A line that was the last once, as something outside the log's folder knows it.
        """
        try:
            head, trouble = self._head(), ""
        except StoreError:
            head, trouble = _NO_LINE, f"{_HEAD}: it cannot be read, so lines that were cut off the end are not missed"
        chain = _Chain((head, witness), contains)
        for path in self.files():
            for index, line in enumerate(_whole_lines(path), 1):
                chain.follow(line, f"{path.name}, line {index}")
        checked = chain.checked()
        return replace(checked, fault=checked.fault or trouble)

    def expire(self, before: datetime, *, is_dry: bool, now: datetime | None = None) -> int:
        """Deletes months that ended before a moment, the newest excepted, and says so in a line; returns how many.

        Raises:
            StoreError: The line cannot be written; nothing is deleted then.
        """
        old = [path for path in self.files()[:-1] if path.name < f"log-{before:%Y-%m}.jsonl"]
        if not old or is_dry:
            return len(old)
        last = self._last_of(old[-1])
        self.append([{"kind": RETENTION, "removed_through": last.number, "removed_sha256": last.sha256}], now=now)
        for path in old:  # the oldest first: what a kill leaves is still a chain
            path.unlink()
        sync(self.folder)
        return len(old)

    # ---------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _append(self, entries: Sequence[Mapping[str, Any]], now: datetime) -> LastLine:
        files = self.files()
        month = self.folder / f"log-{now:%Y-%m}.jsonl"
        path = files[-1] if files and files[-1].name >= month.name else month
        last = self._mended_last(files)
        lines = []
        for entry in entries:
            line = json.dumps(
                {
                    "number": last.number + 1,
                    "before": last.sha256,
                    "when_utc": now.isoformat(timespec="milliseconds"),
                    **entry,
                },
                ensure_ascii=True,
                allow_nan=False,
            ).encode()
            lines.append(line)
            last = LastLine(last.number + 1, hashlib.sha256(line).hexdigest())
        is_new = not path.exists()
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _write_whole(file, b"".join(line + b"\n" for line in lines))
        finally:
            os.close(file)
        if is_new:
            sync(self.folder)
        write_atomically(self.folder / _HEAD, json.dumps(last._asdict()).encode())
        return last

    def _mended_last(self, files: Sequence[Path]) -> LastLine:
        """The last whole line; half of one behind it goes.

        Raises:
            StoreError: It is before the one that was answered for last.
        """
        last = _NO_LINE
        for path in reversed(files):  # a new month's file may be empty
            _cut_half_line(path)
            last = self._last_of(path)
            if last.number:
                break
        head = self._head()
        if last.number < head.number:
            raise StoreError(
                "The end of the prediction log is missing, so no score is given out",
                expected=f"line {head.number}, which was written",
                got=f"line {last.number}" if last.number else "no line",
                remedy=f"restore {self.folder.name} from a backup; or keep it elsewhere, and a new log begins",
            )
        return last

    def _last_of(self, path: Path) -> LastLine:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().splitlines()
        if not lines:
            return _NO_LINE
        try:
            return LastLine(int(json.loads(lines[-1])["number"]), hashlib.sha256(lines[-1]).hexdigest())
        except _EDITED as damage:
            raise StoreError(
                f"The last line of {path.name} is damaged, so no score is given out",
                got=type(damage).__name__,
                remedy="restore the log from a backup; or keep it elsewhere, and a new log begins",
            ) from damage

    def _head(self) -> LastLine:
        """What the last writer answered for; none is no fault, for a log may be of before there was a head.

        Raises:
            StoreError: There is one and it cannot be read: that lines are missing at the end would not be seen.
        """
        try:
            said = json.loads((self.folder / _HEAD).read_bytes())
            return LastLine(int(said["number"]), str(said["sha256"]))
        except FileNotFoundError:
            return _NO_LINE
        except (OSError, *_EDITED) as trouble:
            raise StoreError(
                f"{_HEAD} of the prediction log cannot be read, so no score is given out",
                expected="number and digest of the last line",
                got=error_name(trouble) if isinstance(trouble, OSError) else type(trouble).__name__,
                remedy=f"see to the disk, or restore {_HEAD} from a backup; where `mammo log verify CONFIG` finds no other "
                f"fault, delete {_HEAD}: the next line writes it anew",
            ) from trouble


@contextmanager
def lines_as_written() -> Iterator[None]:
    """Inside, what lines say is read: one that somebody edited lacks a part, or has another thing in its place.

    Raises:
        StoreError: One was met.
    """
    try:
        yield
    except _EDITED as edited:
        raise StoreError(
            "A line of the prediction log is not as it was written",
            expected="lines that nobody edited",
            got=type(edited).__name__,
            remedy="`mammo log verify CONFIG` says which; compare the log with a backup",
        ) from edited


def years_before(now: datetime, years: int) -> datetime:
    """The first day of the month that lies so many years back: months before it have passed their time."""
    return now.replace(year=now.year - years, day=1)


# ---------------------------------------------------------------------------------------------------------------------


class _Chain:
    """Follows lines, and remembers the first that does not fit."""

    def __init__(self, known: Sequence[LastLine], contains: str) -> None:
        self._known, self._contains, self._has_digest = known, contains.lower(), False
        self._last, self._lines, self._fault = _NO_LINE, 0, ""
        self._first: tuple[int, str] | None = None
        self._removed: dict[int, str] = {}
        self._time, self._clock_went_back = "", 0

    def follow(self, line: bytes, place: str) -> None:
        digest = hashlib.sha256(line).hexdigest()
        try:
            said = json.loads(line)
            number, before, time = int(said["number"]), str(said["before"]), str(said["when_utc"])
            if said.get("kind") == RETENTION:
                self._removed[int(said["removed_through"])] = str(said["removed_sha256"])
        except _EDITED:
            self._note(f"{place}: no line of the log")
            return
        if self._first is None:
            self._first = (number, before)
        elif (number, before) != (self._last.number + 1, self._last.sha256):
            self._note(f"{place}: it does not follow the line before it: one of them was changed, added or taken out")
        if any(number == line.number and digest != line.sha256 for line in self._known):
            self._note(f"{place}: it is not the line that was written")
        self._clock_went_back += time < self._time
        self._has_digest |= digest == self._contains
        self._last, self._lines, self._time = LastLine(number, digest), self._lines + 1, time

    def checked(self) -> LogCheck:
        if self._first is not None:
            number, before = self._first
            removed = max(self._removed, default=0)
            if number - 1 > removed or (number - 1 == removed and before != self._removed.get(removed, "")):
                self._note(f"the beginning: the log begins with line {number}, and none of it says that others were deleted")
        end = max(line.number for line in self._known)
        if self._last.number < end:
            self._note(f"the end: line {end} was written and is missing")
        return LogCheck(
            lines=self._lines,
            last=self._last,
            fault=self._fault,
            clock_went_back=self._clock_went_back,
            has_digest=self._has_digest if self._contains else None,
        )

    def _note(self, fault: str) -> None:
        self._fault = self._fault or fault


def _whole_lines(path: Path) -> Iterator[bytes]:
    """One at a time, up to the half that a killed writer may have left or that one is writing: the next one takes it away."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line[:-1]


def _write_whole(file: int, content: bytes) -> None:
    """All of it and on the disk, or none of it: half a line would be one that nobody can read."""
    size = os.fstat(file).st_size
    try:
        written = 0
        while written < len(content):
            count = os.write(file, memoryview(content)[written:])
            if count == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += count
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


def _cut_half_line(path: Path) -> None:
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
            os.fsync(file.fileno())
