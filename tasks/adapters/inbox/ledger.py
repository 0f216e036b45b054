"""The ledger: which file was seen, what became of it, and which store row it owns. The truth for resuming.

SQLite in WAL mode with full sync: a row that was reported written survives a power cut. One process writes (it holds the
store's lock); workers hand their results to it. Nothing here identifies a patient: files are named by keyed digest.

A file that the gate accepts claims an image, and each claim has a store row of its own; which of several claims to one image is
published is for ``publishable`` to say. A row is given out once. A claim whose file was changed or refused loses its row, and
no later claim gets it: the manifest in force may still name it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from schemas.errors import StoreError
from schemas.exam import QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.inbox.lines import LedgerLine

_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    file_id TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,          -- size and modification time: unchanged means not read again
    state TEXT NOT NULL,                -- accepted, duplicate (same bytes as an accepted one), quarantined, discarded
    image_id TEXT,
    source_sha256 TEXT NOT NULL,        -- '' = not known yet: an accepted file that nothing was compared with, until written
    attempts INTEGER NOT NULL DEFAULT 0,    -- times its header was read, or reading it ended in a refusal
    reason_codes TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT ''    -- of a refusal: Refusal.parts
);
CREATE TABLE IF NOT EXISTS images (
    file_id TEXT PRIMARY KEY,           -- several files may claim one image
    image_id TEXT NOT NULL,
    exam_id TEXT NOT NULL,
    row INTEGER UNIQUE,                 -- NULL until planned
    batch INTEGER,                      -- the plan that gave the row out
    mask_fingerprint TEXT NOT NULL DEFAULT '',  -- of the lesion mask it was written with; '' = none
    pixel_sha256 TEXT,
    manifest TEXT                       -- JSON of the manifest line; NULL until written to the store
);
CREATE INDEX IF NOT EXISTS files_by_image ON files (image_id);
CREATE INDEX IF NOT EXISTS files_undigested ON files (file_id) WHERE source_sha256 = '' AND state = 'accepted';
CREATE INDEX IF NOT EXISTS images_by_image ON images (image_id);
CREATE INDEX IF NOT EXISTS images_unwritten ON images (file_id) WHERE manifest IS NULL;
CREATE TABLE IF NOT EXISTS given_out (batch INTEGER PRIMARY KEY, rows INTEGER NOT NULL, planned_utc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS releases (
    file_id TEXT NOT NULL,
    reason_codes TEXT NOT NULL,         -- why the file had been refused
    reason TEXT NOT NULL,               -- why a person wants it read again, or never used
    released_utc TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedFile:
    """A file whose header the gate accepted; its digest is "" if nobody needed it yet."""

    file_id: str
    fingerprint: str
    image_id: str
    exam_id: str
    source_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenImage:
    """An image that is in the store.

    Attributes:
        line: Its manifest line.
        mask_fingerprint: Of the lesion mask file it was written with; ``''`` = none.
    """

    line: Mapping[str, object]
    mask_fingerprint: str = ""


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

    def __enter__(self) -> Self:
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

    def is_sound(self) -> bool:
        """SQLite's integrity check: every page, index and row count."""
        return self._query("PRAGMA integrity_check") == [("ok",)]

    # ---------------------------------------------------------------------------------------------------------- files

    def is_known(self, file_id: str, fingerprint: str) -> bool:
        """True if this file was seen with the same size and modification time, and its fate is settled."""
        found = self._query(
            """SELECT 1 FROM files LEFT JOIN images USING (file_id) WHERE files.file_id = ? AND fingerprint = ?
               AND (state IN ('duplicate', 'quarantined', 'discarded') OR manifest IS NOT NULL)""",
            (file_id, fingerprint),
        )
        return bool(found)

    def add_accepted(self, files: Iterable[AcceptedFile]) -> None:
        """Registers accepted headers, each as a claim to its image.

        A file with the same bytes as an accepted one is a duplicate and claims nothing; one with the bytes of a discarded file
        is discarded. A file whose bytes are not those it was registered with gives up its claim: it is read and stored anew.
        Files without a digest claim their image until they are compared (``undigested_rivals``) or written.
        """
        with self._transaction() as cursor:
            for file in files:
                _give_up_claim(cursor, file.file_id, unless=file)
                state = _state_of(cursor, file)
                cursor.execute(
                    """INSERT INTO files (file_id, fingerprint, state, image_id, source_sha256, attempts)
                       VALUES (?, ?, ?, ?, ?, 1)
                       ON CONFLICT (file_id) DO UPDATE SET fingerprint = excluded.fingerprint, state = excluded.state,
                       image_id = excluded.image_id, source_sha256 = excluded.source_sha256, attempts = attempts + 1,
                       reason_codes = '', message = ''""",
                    (file.file_id, file.fingerprint, state, file.image_id, file.source_sha256),
                )
                if state == "accepted":
                    cursor.execute(
                        "INSERT OR IGNORE INTO images (file_id, image_id, exam_id) VALUES (?, ?, ?)",
                        (file.file_id, file.image_id, file.exam_id),
                    )
                else:
                    cursor.execute("DELETE FROM images WHERE file_id = ?", (file.file_id,))

    def has_digest(self, file_id: str) -> bool:
        """True if this file's bytes were read before, whatever became of it."""
        return bool(self._query("SELECT 1 FROM files WHERE file_id = ? AND source_sha256 != ''", (file_id,)))

    def undigested_rivals(self) -> frozenset[str]:
        """Accepted files without a digest whose image another file claims, repeats or was discarded with."""
        found = self._query(
            """SELECT file_id FROM files AS one WHERE source_sha256 = '' AND state = 'accepted' AND EXISTS
               (SELECT 1 FROM files AS other WHERE other.image_id = one.image_id AND other.file_id != one.file_id)"""
        )
        return frozenset(file_id for (file_id,) in found)

    def add_quarantined(self, files: Iterable[tuple[QuarantinedFile, str]]) -> None:
        """Registers refused files with their fingerprints; a refused file gives up its claim."""
        with self._transaction() as cursor:
            for file, fingerprint in files:
                _give_up_claim(cursor, file.file_id)
                cursor.execute(
                    """INSERT INTO files (file_id, fingerprint, state, source_sha256, attempts, reason_codes, message)
                       VALUES (?, ?, 'quarantined', '', 1, ?, ?)
                       ON CONFLICT (file_id) DO UPDATE SET fingerprint = excluded.fingerprint, state = excluded.state,
                       image_id = NULL, source_sha256 = excluded.source_sha256, attempts = attempts + 1,
                       reason_codes = excluded.reason_codes, message = excluded.message""",
                    (file.file_id, fingerprint, " ".join(file.reason_codes), file.refusal.parts),
                )

    def leave(self, file_ids: Iterable[str]) -> None:
        """Forgets files that changed while they were read: the next run finds them complete, or leaves them again."""
        with self._transaction() as cursor:
            for file_id in file_ids:
                _give_up_claim(cursor, file_id)
                cursor.execute("DELETE FROM files WHERE file_id = ?", (file_id,))

    def quarantined(self) -> list[QuarantinedFile]:
        """Every refused file, by id."""
        rows = self._query("SELECT file_id, reason_codes, message FROM files WHERE state = 'quarantined' ORDER BY file_id")
        return [
            QuarantinedFile(file_id=file_id, refusal=Refusal.of_parts(tuple(codes.split()), parts))
            for file_id, codes, parts in rows
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

    def discard(self, files: Sequence[QuarantinedFile], *, reason: str, released_utc: str) -> None:
        """Never uses the content of these files again, whatever the path it comes under; who asked why is kept for good."""
        with self._transaction() as cursor:
            for file in files:
                claim = cursor.execute(
                    "SELECT image_id, source_sha256 FROM files WHERE file_id = ?", (file.file_id,)
                ).fetchone()
                if claim is not None:
                    cursor.execute("DELETE FROM images WHERE file_id = ?", (file.file_id,))
                    cursor.execute(
                        """UPDATE files SET state = 'discarded'
                           WHERE file_id = ? OR state = 'duplicate' AND image_id = ? AND source_sha256 = ?""",
                        (file.file_id, *claim),
                    )
                    cursor.execute(
                        "INSERT INTO releases (file_id, reason_codes, reason, released_utc) VALUES (?, ?, ?, ?)",
                        (file.file_id, "discarded " + " ".join(file.reason_codes), reason, released_utc),
                    )

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

    def plan_rows(self, rows_per_shard: int, *, planned_utc: str) -> None:
        """Gives a row to every claim that has none; an exam's new images share a shard where they fit.

        What is new starts in a new shard, so a shard that was written is never written again for a later image. The claims of
        one call are a batch.
        """
        with self._transaction() as cursor:
            unplanned = cursor.execute(
                "SELECT exam_id, file_id FROM images WHERE row IS NULL ORDER BY exam_id, image_id, file_id"
            ).fetchall()
            row = -(-self.row_count() // rows_per_shard) * rows_per_shard
            (batch,) = cursor.execute("SELECT 1 + count(*) FROM given_out").fetchone()
            for _, exam in groupby(unplanned, key=itemgetter(0)):
                file_ids = [file_id for _, file_id in exam]
                room = rows_per_shard - row % rows_per_shard
                if room < len(file_ids) <= rows_per_shard:
                    row += room
                for file_id in file_ids:
                    cursor.execute("UPDATE images SET row = ?, batch = ? WHERE file_id = ?", (row, batch, file_id))
                    row += 1
            if unplanned:
                cursor.execute("INSERT INTO given_out (batch, rows, planned_utc) VALUES (?, ?, ?)", (batch, row, planned_utc))

    def row_count(self) -> int:
        """Rows ever given out, holes included."""
        found = self._query("SELECT max(rows) FROM (SELECT rows FROM given_out UNION ALL SELECT row + 1 FROM images)")
        return int(found[0][0] or 0)

    def unwritten_rows(self) -> dict[str, tuple[int, str]]:
        """file_id -> (row, image_id) of every claim that is planned but not written."""
        found = self._query("SELECT file_id, row, image_id FROM images WHERE manifest IS NULL AND row IS NOT NULL")
        return {file_id: (row, image_id) for file_id, row, image_id in found}

    def add_written(self, written: Mapping[str, WrittenImage]) -> None:
        """Records claims as written to the store, by file.

        Raises:
            StoreError: One of the files was never accepted; nothing is recorded.
        """
        with self._transaction() as cursor:
            cursor.executemany(
                "UPDATE images SET manifest = ?, pixel_sha256 = ?, mask_fingerprint = ? WHERE file_id = ?",
                [
                    (json.dumps(image.line), image.line.get("pixel_sha256"), image.mask_fingerprint, file_id)
                    for file_id, image in written.items()
                ],
            )
            recorded = cursor.rowcount
            cursor.executemany(
                "UPDATE files SET source_sha256 = ? WHERE file_id = ? AND source_sha256 = ''",
                [(image.line["source_sha256"], file_id) for file_id, image in written.items() if "source_sha256" in image.line],
            )
            if recorded != len(written):
                raise StoreError(
                    "A written shard holds images that the ledger does not know",
                    expected=f"{len(written)} accepted files",
                    got=f"{recorded} of them",
                    remedy="run again: the shard is written anew; if it stays so, the workspace's key or ledger was exchanged",
                )

    def mask_fingerprints(self) -> dict[str, tuple[str, str]]:
        """file_id -> (image_id, fingerprint of its mask) of every written claim; ``''`` = written without a mask."""
        found = self._query("SELECT file_id, image_id, mask_fingerprint FROM images WHERE manifest IS NOT NULL")
        return {file_id: (image_id, fingerprint) for file_id, image_id, fingerprint in found}

    def rewrite(self, file_ids: Iterable[str]) -> None:
        """Calls written claims unwritten: the next run reads their files again and writes the same rows."""
        with self._transaction() as cursor:
            cursor.executemany("UPDATE images SET manifest = NULL WHERE file_id = ?", [(file_id,) for file_id in file_ids])

    def manifest_lines(self) -> list[LedgerLine]:
        """Every written claim, by row."""
        rows = self._query(
            """SELECT manifest, file_id, images.batch, substr(planned_utc, 1, 10) FROM images
               LEFT JOIN given_out USING (batch) WHERE manifest IS NOT NULL ORDER BY row"""
        )
        # One document: its lines share their keys and repeated texts, which halves the memory of a million lines.
        stored: list[dict[str, object]] = json.loads(f"[{','.join(row[0] for row in rows)}]")
        return [
            LedgerLine(file_id=file_id, batch=batch, batch_date=batch_date, stored=line)
            for line, (_, file_id, batch, batch_date) in zip(stored, rows, strict=True)
        ]


def _give_up_claim(cursor: sqlite3.Cursor, file_id: str, *, unless: AcceptedFile | None = None) -> None:
    """Forgets the image a file claims, and its duplicates: the next scan reads those again, one may take its place.

    ``unless`` it holds the same as when it was registered: told by digests, and where one is missing by fingerprint and image.
    """
    query = "SELECT images.image_id, source_sha256, fingerprint FROM images JOIN files USING (file_id) WHERE file_id = ?"
    for image_id, sha256, fingerprint in cursor.execute(query, (file_id,)).fetchall():
        if unless is not None and sha256 and unless.source_sha256:
            is_same = sha256 == unless.source_sha256
        else:
            is_same = unless is not None and (fingerprint, image_id) == (unless.fingerprint, unless.image_id)
        if is_same:
            return
        cursor.execute("DELETE FROM images WHERE file_id = ?", (file_id,))
        cursor.execute("DELETE FROM files WHERE state = 'duplicate' AND image_id = ? AND source_sha256 = ?", (image_id, sha256))


def _state_of(cursor: sqlite3.Cursor, file: AcceptedFile) -> str:
    """What a file is beside the files that hold its very bytes; accepted while that is not known."""
    if not file.source_sha256:
        return "accepted"
    same = cursor.execute(
        """SELECT state FROM files WHERE image_id = ? AND source_sha256 = ? AND (file_id != ? OR state = 'discarded')""",
        (file.image_id, file.source_sha256, file.file_id),
    ).fetchall()
    states = {state for (state,) in same}
    if "discarded" in states:
        return "discarded"
    return "duplicate" if "accepted" in states else "accepted"


def copy_database(source: Path, target: Path) -> None:
    """Copies an SQLite database as it is at one moment, while others write it.

    Raises:
        StoreError: It cannot be read, or is damaged.
    """
    try:
        with closing(sqlite3.connect(source, timeout=60)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)
            verdict = writing.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.Error as trouble:
        raise StoreError(f"{source} cannot be copied", got=f"{type(trouble).__name__}: {trouble}") from trouble
    if verdict != "ok":
        raise StoreError(f"{source} is damaged", expected="SQLite's integrity check to pass", remedy="take an older backup")
