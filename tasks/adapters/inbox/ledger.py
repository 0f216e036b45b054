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
from contextlib import closing
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Final

from schemas.errors import StoreError
from schemas.exam import DeferredFile, QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.inbox.ledger_tables import TABLES, as_spelled_before, give_up_claim, is_settled, state_of
from tasks.adapters.inbox.lines import AcceptedFile, LedgerLine, LinePart, each_parsed, parsed_lines
from tasks.adapters.sqlite_file import SqliteFile


class Ledger(SqliteFile):
    """One connection; use as a context manager.

    Raises:
        StoreError: The file is no ledger, is damaged, or cannot be written (the disk is full). Also raised by every method.
    """

    NAME = "ledger"
    TABLES = TABLES

    def is_sound(self) -> bool:
        """SQLite's integrity check: every page, index and row count."""
        return self._query("PRAGMA integrity_check") == [("ok",)]

    # ---------------------------------------------------------------------------------------------------------- files

    def settled(self, files: Iterable[tuple[str, str]], refuses_under: str = "") -> set[str]:
        """Of files and their fingerprints those whose fate is settled: seen with the same size and modification time.

        Args:
            files: Pairs of file_id and fingerprint.
            refuses_under: What a refusal depends on besides the file; those under anything else are not settled.
        """
        found, remaining = set(), iter(files)
        while some := dict(islice(remaining, _FILES_PER_QUERY)):
            rows = self._query(
                f"""SELECT file_id, fingerprint, state, manifest IS NOT NULL FROM files LEFT JOIN images USING (file_id)
                    WHERE file_id IN ({",".join("?" * len(some))})""",  # noqa: S608  # question marks only
                list(some),
            )
            for file_id, fingerprint, state, is_written in rows:
                if is_settled(some[file_id], fingerprint, state, refuses_under, is_written=bool(is_written)):
                    found.add(file_id)
        return found

    def is_known(self, file_id: str, fingerprint: str, refuses_under: str = "") -> bool:
        """True if this file was seen with the same size and modification time, and its fate is settled."""
        return file_id in self.settled([(file_id, fingerprint)], refuses_under)

    def add_accepted(self, files: Iterable[AcceptedFile]) -> None:
        """Registers accepted headers, each as a claim to its image.

        A file with the same bytes as an accepted one is a duplicate and claims nothing; one with the bytes of a discarded file
        is discarded. A file whose bytes are not those it was registered with gives up its claim: it is read and stored anew.
        Files without a digest claim their image until they are compared (``undigested_rivals``) or written.
        """
        with self._transaction() as cursor:
            for file, record in files:
                cursor.execute("DELETE FROM deferred WHERE file_id = ?", (file.file_id,))
                give_up_claim(cursor, file.file_id, unless=(file, record))
                state = state_of(cursor, (file, record))
                cursor.execute(
                    """INSERT INTO files (file_id, fingerprint, state, image_id, source_sha256, attempts)
                       VALUES (?, ?, ?, ?, ?, 1)
                       ON CONFLICT (file_id) DO UPDATE SET fingerprint = excluded.fingerprint, state = excluded.state,
                       image_id = excluded.image_id, source_sha256 = excluded.source_sha256, attempts = attempts + 1,
                       reason_codes = '', message = ''""",
                    (file.file_id, file.fingerprint, state, record.image_id, record.source_sha256),
                )
                if state == "accepted":
                    cursor.execute(
                        "INSERT OR IGNORE INTO images (file_id, image_id, exam_id) VALUES (?, ?, ?)",
                        (file.file_id, record.image_id, record.exam_id),
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
                cursor.execute("DELETE FROM deferred WHERE file_id = ?", (file.file_id,))
                give_up_claim(cursor, file.file_id)
                cursor.execute(
                    """INSERT INTO files (file_id, fingerprint, state, source_sha256, attempts, reason_codes, message)
                       VALUES (?, ?, 'quarantined', '', 1, ?, ?)
                       ON CONFLICT (file_id) DO UPDATE SET fingerprint = excluded.fingerprint, state = excluded.state,
                       image_id = NULL, source_sha256 = excluded.source_sha256, attempts = attempts + 1,
                       reason_codes = excluded.reason_codes, message = excluded.message""",
                    (file.file_id, fingerprint, " ".join(file.reason_codes), file.refusal.parts),
                )

    def forget_deferrals(self) -> None:
        """At the start of a run: what kept files from being read then says nothing of now."""
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM deferred")

    def add_deferred(self, files: Iterable[DeferredFile]) -> None:
        """Registers files that could not be read at the moment. What is known of them stays: claims, rows, refusals."""
        with self._transaction() as cursor:
            rows = [(file.file_id, file.reason) for file in files]
            cursor.executemany("INSERT OR REPLACE INTO deferred (file_id, reason) VALUES (?, ?)", rows)

    def deferred(self) -> list[DeferredFile]:
        """The files that the last run could not read, by id."""
        rows = self._query("SELECT file_id, reason FROM deferred ORDER BY file_id")
        return [DeferredFile(file_id=file_id, reason=reason) for file_id, reason in rows]

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

    def discard(
        self, files: Sequence[QuarantinedFile], *, reason: str, released_utc: str, digests: Mapping[str, str] | None = None
    ) -> None:
        """Never uses the content of these files again, whatever the path it comes under; who asked why is kept for good.

        Args:
            files: What is wrong.
            reason: Why; name no patient.
            released_utc: When it was said.
            digests: file_id -> digest of its bytes, of files that were refused before they were digested.
        """
        with self._transaction() as cursor:
            for file in files:
                claim = cursor.execute(
                    "SELECT image_id, source_sha256 FROM files WHERE file_id = ?", (file.file_id,)
                ).fetchone()
                if claim is not None:
                    cursor.execute("DELETE FROM images WHERE file_id = ?", (file.file_id,))
                    digest = (digests or {}).get(file.file_id, "")
                    cursor.execute(
                        "UPDATE files SET source_sha256 = ? WHERE file_id = ? AND source_sha256 = ''", (digest, file.file_id)
                    )
                    cursor.execute(
                        """UPDATE files SET state = 'discarded'
                           WHERE file_id = ? OR state = 'duplicate' AND image_id = ? AND source_sha256 = ?""",
                        (file.file_id, *claim),
                    )
                    cursor.execute(
                        "INSERT INTO releases (file_id, reason_codes, reason, released_utc) VALUES (?, ?, ?, ?)",
                        (file.file_id, "discarded " + " ".join(file.reason_codes), reason, released_utc),
                    )

    def taken_away(self) -> frozenset[str]:
        """Images of which a person said that a file is not to be used: that they go is no accident."""
        found = self._query("SELECT image_id FROM files WHERE state IN ('discarded', 'withdrawn')")
        return frozenset(image for (image,) in found if image)

    def releases(self, file_id: str) -> list[tuple[str, str, str]]:
        """Earlier releases of a file, oldest first: (reason codes, reason, UTC time)."""
        found = self._query(
            "SELECT reason_codes, reason, released_utc FROM releases WHERE file_id = ? ORDER BY rowid", (file_id,)
        )
        return [(str(codes), str(reason), str(moment)) for codes, reason, moment in found]

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

    def add_written(self, lines: Iterable[LedgerLine]) -> None:
        """Records claims as written to the store.

        Raises:
            StoreError: One of the files was never accepted; nothing is recorded.
        """
        written = {line.file_id: line for line in lines}
        with self._transaction() as cursor:
            cursor.executemany(
                "UPDATE images SET manifest = ?, pixel_sha256 = ?, mask_fingerprint = ? WHERE file_id = ?",
                [
                    (
                        json.dumps(as_spelled_before(cursor, line.file_id, line.stored)),
                        line.stored.get("pixel_sha256"),
                        line.mask_fingerprint,
                        line.file_id,
                    )
                    for line in written.values()
                ],
            )
            recorded = cursor.rowcount
            for table in ("deferred", "superseded"):
                cursor.executemany(f"DELETE FROM {table} WHERE file_id = ?", [(file_id,) for file_id in written])  # noqa: S608
            cursor.executemany(
                "UPDATE files SET source_sha256 = ? WHERE file_id = ? AND source_sha256 = ''",
                [
                    (line.stored["source_sha256"], file_id)
                    for file_id, line in written.items()
                    if "source_sha256" in line.stored
                ],
            )
            discarded = cursor.execute(
                f"""SELECT file_id FROM files WHERE state = 'accepted' AND source_sha256 != '' AND source_sha256 IN
                    (SELECT source_sha256 FROM files WHERE state = 'discarded')
                    AND file_id IN ({",".join("?" * len(written))})""",  # noqa: S608  # question marks only
                list(written),
            ).fetchall()
            for (file_id,) in discarded:  # its digest was not known before: the content of a discarded file, come again
                cursor.execute("DELETE FROM images WHERE file_id = ?", (file_id,))
                cursor.execute("UPDATE files SET state = 'discarded' WHERE file_id = ?", (file_id,))
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
        """Calls written claims unwritten: what is stored of them is damaged. The next run reads their files again."""
        with self._transaction() as cursor:
            for file_id in file_ids:
                cursor.execute("DELETE FROM superseded WHERE file_id = ?", (file_id,))
                cursor.execute("UPDATE images SET manifest = NULL WHERE file_id = ?", (file_id,))

    def renew(self, file_ids: Iterable[str]) -> None:
        """Lets the next run write these claims anew, into the same rows; until then what is stored of them is published."""
        with self._transaction() as cursor:
            for file_id in file_ids:
                cursor.execute(
                    """INSERT OR REPLACE INTO superseded (file_id, manifest)
                       SELECT file_id, manifest FROM images WHERE file_id = ? AND manifest IS NOT NULL""",
                    (file_id,),
                )
                cursor.execute("UPDATE images SET manifest = NULL WHERE file_id = ?", (file_id,))

    def manifest_lines(self) -> list[LedgerLine]:
        """Every written claim, by row."""
        return parsed_lines(self.line_parts())

    def each_line(self) -> Iterator[LedgerLine]:
        """Every written claim in turn, by row: of a million a thousand are there at once."""
        return each_parsed(self.line_parts())

    def line_parts(self) -> Iterator[LinePart]:
        """Every written claim as it is kept, by row, some at a time."""
        with self._translated():
            cursor = self._connection.execute(
                """SELECT file_id, batch, day, CASE WHEN instr(line, pixel_sha256) THEN '' ELSE pixel_sha256 END, line FROM
                   (SELECT file_id, images.batch, substr(planned_utc, 1, 10) AS day, pixel_sha256, row,
                           coalesce(images.manifest, superseded.manifest) AS line
                    FROM images LEFT JOIN superseded USING (file_id) LEFT JOIN given_out USING (batch))
                   WHERE line IS NOT NULL ORDER BY row"""
            )
            yield from iter(lambda: cursor.fetchmany(LINES_PER_PART), [])


LINES_PER_PART: Final = 1000
_FILES_PER_QUERY: Final = 500


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
