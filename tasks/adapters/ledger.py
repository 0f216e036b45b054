"""The ledger: which file was seen, what became of it, and which store row it owns. The truth for resuming.

SQLite in WAL mode with full sync: a row that was reported written survives a power cut. One process writes (it holds the
store's lock); workers hand their results to it. Nothing here identifies a patient: files are named by keyed digest.

A row is given out once. An image whose file was changed or refused loses its row, and no later image gets it: the manifest
in force may still name it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from schemas.errors import StoreError
from schemas.exam import QuarantinedFile

_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    file_id TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,          -- size and modification time: unchanged means not read again
    state TEXT NOT NULL,                -- accepted, duplicate, quarantined
    image_id TEXT,
    source_sha256 TEXT NOT NULL,
    reason_codes TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS images (
    image_id TEXT PRIMARY KEY,
    file_id TEXT NOT NULL UNIQUE,
    exam_id TEXT NOT NULL,
    row INTEGER UNIQUE,                 -- NULL until planned
    manifest TEXT                       -- JSON of the manifest line; NULL until written to the store
);
CREATE TABLE IF NOT EXISTS given_out (rows INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS releases (
    file_id TEXT NOT NULL,
    reason_codes TEXT NOT NULL,         -- why the file had been refused
    reason TEXT NOT NULL,               -- why a person wants it read again
    released_utc TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedFile:
    """A file whose header the gate accepted."""

    file_id: str
    fingerprint: str
    image_id: str
    exam_id: str
    source_sha256: str


class Ledger:
    """One connection; use as a context manager.

    Raises:
        StoreError: The file is no ledger, is damaged, or cannot be written (the disk is full). Also raised by every method.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        self._path = path
        with self._translated():
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_TABLES)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as trouble:
            raise StoreError(
                f"The ledger {self._path} cannot be read or written",
                expected="an undamaged SQLite file on a disk with room",
                got=f"{type(trouble).__name__}: {trouble}",
                remedy="make room on the disk and run again; if the file is damaged, restore it from a backup",
            ) from trouble

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._translated():
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite has rolled back by itself when the disk is full
                    cursor.execute("ROLLBACK")
                raise

    def _query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._connection.execute(sql, values).fetchall()

    # ---------------------------------------------------------------------------------------------------------- files

    def is_known(self, file_id: str, fingerprint: str) -> bool:
        """True if this file was seen with the same size and modification time, and its fate is settled."""
        found = self._query(
            """SELECT 1 FROM files LEFT JOIN images USING (file_id) WHERE files.file_id = ? AND fingerprint = ?
               AND (state IN ('duplicate', 'quarantined') OR manifest IS NOT NULL)""",
            (file_id, fingerprint),
        )
        return bool(found)

    def add_accepted(self, files: Iterable[AcceptedFile]) -> list[AcceptedFile]:
        """Registers accepted headers; returns those that contradict an image already known under the same id.

        The same image seen again with the same bytes is a duplicate and needs nothing more. A file whose bytes are not those
        it was registered with gives up the image it held, which is then read and stored anew.
        """
        contradictions = []
        with self._transaction() as cursor:
            for file in files:
                _give_up_image(cursor, file.file_id, unless_sha256=file.source_sha256)
                known = cursor.execute(
                    "SELECT images.file_id, source_sha256 FROM images JOIN files USING (file_id) WHERE images.image_id = ?",
                    (file.image_id,),
                ).fetchone()
                if known is not None and known[0] != file.file_id and known[1] != file.source_sha256:
                    contradictions.append(file)
                    continue
                is_duplicate = known is not None and known[0] != file.file_id
                cursor.execute(
                    """INSERT OR REPLACE INTO files (file_id, fingerprint, state, image_id, source_sha256)
                       VALUES (?, ?, ?, ?, ?)""",
                    (
                        file.file_id,
                        file.fingerprint,
                        "duplicate" if is_duplicate else "accepted",
                        file.image_id,
                        file.source_sha256,
                    ),
                )
                if not is_duplicate:
                    cursor.execute(
                        "INSERT OR IGNORE INTO images (image_id, file_id, exam_id) VALUES (?, ?, ?)",
                        (file.image_id, file.file_id, file.exam_id),
                    )
        return contradictions

    def add_quarantined(self, files: Iterable[tuple[QuarantinedFile, str]]) -> None:
        """Registers refused files with their fingerprints; a refused file gives up its image."""
        with self._transaction() as cursor:
            for file, fingerprint in files:
                _give_up_image(cursor, file.file_id)
                cursor.execute(
                    """INSERT OR REPLACE INTO files
                       (file_id, fingerprint, state, source_sha256, reason_codes, message)
                       VALUES (?, ?, 'quarantined', ?, ?, ?)""",
                    (file.file_id, fingerprint, file.source_sha256, " ".join(file.reason_codes), file.message),
                )

    def quarantined(self) -> list[QuarantinedFile]:
        """Every refused file, by id."""
        rows = self._query(
            "SELECT file_id, source_sha256, reason_codes, message FROM files WHERE state = 'quarantined' ORDER BY file_id"
        )
        return [
            QuarantinedFile(file_id=row[0], source_sha256=row[1], reason_codes=tuple(row[2].split()), message=row[3])
            for row in rows
        ]

    def release(self, file_ids: Sequence[str], *, reason: str, released_utc: str) -> list[QuarantinedFile]:
        """Forgets that files were refused, so that the next ingest reads them again; who asked why is kept for good.

        Returns:
            The files that were refused; ids of other files do nothing.
        """
        wanted = set(file_ids)
        released = [file for file in self.quarantined() if file.file_id in wanted]
        with self._transaction() as cursor:
            for file in released:
                cursor.execute("DELETE FROM files WHERE file_id = ? AND state = 'quarantined'", (file.file_id,))
                cursor.execute(
                    "INSERT INTO releases (file_id, reason_codes, reason, released_utc) VALUES (?, ?, ?, ?)",
                    (file.file_id, " ".join(file.reason_codes), reason, released_utc),
                )
        return released

    def releases(self, file_id: str) -> list[tuple[str, str, str]]:
        """Earlier releases of a file, oldest first: (reason codes, reason, UTC time)."""
        found = self._query(
            "SELECT reason_codes, reason, released_utc FROM releases WHERE file_id = ? ORDER BY rowid", (file_id,)
        )
        return [(str(codes), str(reason), str(moment)) for codes, reason, moment in found]

    def count_files(self) -> int:
        """Files ever registered."""
        return int(self._query("SELECT count(*) FROM files")[0][0])

    # ----------------------------------------------------------------------------------------------------------- rows

    def plan_rows(self, rows_per_shard: int) -> None:
        """Gives a row to every image that has none; an exam's new images share a shard where they fit.

        What is new starts in a new shard, so a shard that was written is never written again for a later image.
        """
        with self._transaction() as cursor:
            unplanned = cursor.execute(
                "SELECT exam_id, image_id FROM images WHERE row IS NULL ORDER BY exam_id, image_id"
            ).fetchall()
            row = -(-self.row_count() // rows_per_shard) * rows_per_shard
            for image_ids in _by_exam(unplanned):
                room = rows_per_shard - row % rows_per_shard
                if room < len(image_ids) <= rows_per_shard:
                    row += room
                for image_id in image_ids:
                    cursor.execute("UPDATE images SET row = ? WHERE image_id = ?", (row, image_id))
                    row += 1
            if unplanned:
                cursor.execute("INSERT INTO given_out (rows) VALUES (?)", (row,))

    def row_count(self) -> int:
        """Rows ever given out, holes included."""
        found = self._query("SELECT max(rows) FROM (SELECT rows FROM given_out UNION ALL SELECT row + 1 FROM images)")
        return int(found[0][0] or 0)

    def unwritten_rows(self) -> dict[str, tuple[int, str]]:
        """file_id -> (row, image_id) of every image that is planned but not written."""
        found = self._query("SELECT file_id, row, image_id FROM images WHERE manifest IS NULL AND row IS NOT NULL")
        return {file_id: (row, image_id) for file_id, row, image_id in found}

    def file_id_by_image(self) -> dict[str, str]:
        """Which file holds each image."""
        found = self._query("SELECT image_id, file_id FROM images")
        return {str(image_id): str(file_id) for image_id, file_id in found}

    def add_written(self, manifest_by_image: Mapping[str, Mapping[str, object]]) -> None:
        """Records images as written to the store, with their manifest lines."""
        with self._transaction() as cursor:
            cursor.executemany(
                "UPDATE images SET manifest = ? WHERE image_id = ?",
                [(json.dumps(line), image_id) for image_id, line in manifest_by_image.items()],
            )

    def manifest_lines(self) -> list[dict[str, object]]:
        """Manifest lines of every written image, by row."""
        rows = self._query("SELECT manifest FROM images WHERE manifest IS NOT NULL ORDER BY row")
        return [json.loads(row[0]) for row in rows]


def _give_up_image(cursor: sqlite3.Cursor, file_id: str, *, unless_sha256: str | None = None) -> None:
    """Forgets the image a file holds, and its duplicates: the next scan reads those again, one may take its place."""
    held = cursor.execute(
        "SELECT images.image_id, source_sha256 FROM images JOIN files USING (file_id) WHERE file_id = ?", (file_id,)
    ).fetchone()
    if held is not None and held[1] != unless_sha256:
        cursor.execute("DELETE FROM images WHERE image_id = ?", (held[0],))
        cursor.execute("DELETE FROM files WHERE state = 'duplicate' AND image_id = ?", (held[0],))


def _by_exam(pairs: Sequence[tuple[str, str]]) -> Iterator[list[str]]:
    exam: str | None = None
    group: list[str] = []
    for exam_id, image_id in pairs:
        if exam_id != exam and group:
            yield group
            group = []
        exam = exam_id
        group.append(image_id)
    if group:
        yield group
