"""The ledger: which file was seen, what became of it, and which store row it owns. The truth for resuming.

In SQLite in WAL mode with full sync, or in PostgreSQL: a row that was reported written survives a power cut. One process
writes (it holds the store's lock); workers hand their results to it. Nothing here identifies a patient: files are named by
keyed digest.

A file that the gate accepts claims an image, and each claim has a store row of its own; which of several claims to one image is
published is for ``publishable`` to say. A row is given out once. A claim whose file was changed or refused loses its row, and
no later claim gets it: the manifest in force may still name it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from schemas.errors import StoreError
from schemas.exam import DeferredFile, QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.databases.database import Database
from tasks.adapters.databases.sqlite_file import SqliteFile
from tasks.adapters.inbox.ledger_tables import (
    TABLES,
    add_unread,
    entered,
    give_up_claim,
    in_parts,
    is_settled,
    places,
    spelled_before,
)
from tasks.adapters.inbox.lines import AcceptedFile, LedgerLine, LinePart, each_parsed, parsed_lines

logger = logging.getLogger(__name__)

_OF_AN_EARLIER_DAY: Final = (
    "The ledger is of an earlier day than the store: it has given out %d rows, and the store has place for %d. What it does "
    "not know is read again from its files, into new rows; what was published and has no file any more is lost to it. If it "
    "was put back by mistake, restore ledger and manifest of one day (mammo restore)"
)


class _LedgerFile(SqliteFile):
    NAME = "ledger"
    TABLES = TABLES


class Ledger:
    """One connection; use as a context manager.

    Args:
        path: SQLite's file, which is made where it is not there; or a ``.json`` that names a schema of PostgreSQL.
        may_make: Makes such a schema where it is not there.

    Raises:
        StoreError: The file is no ledger, is damaged, or cannot be written (the disk is full). Also raised by every method.
        PeerUnavailable: The database cannot be asked now; likewise.
        PeerRefused: The database does not let us in; likewise.
        StoreBusy: Another machine writes there now; by every method that changes something.
    """

    def __init__(self, path: Path, *, may_make: bool = True) -> None:
        self._database = ledger_database(path, may_make=may_make)
        self._query, self._transaction = self._database.query, self._database.transaction

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._database.close()

    def is_sound(self) -> bool:
        """True if the database finds all that is there undamaged."""
        return self._database.is_sound()

    # ---------------------------------------------------------------------------------------------------------- files

    def settled(self, files: Iterable[tuple[str, str]], refuses_under: str = "") -> set[str]:
        """Of files and their fingerprints those whose fate is settled: seen with the same size and modification time.

        Args:
            files: Pairs of file_id and fingerprint.
            refuses_under: What a refusal depends on besides the file; those under anything else are not settled.
        """
        found = set[str]()
        for some in map(dict, in_parts(files)):
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
            for some in in_parts(files):
                add_unread(cursor, some)

    def digested(self, file_ids: Iterable[str]) -> set[str]:
        """Those of the files whose bytes were read before, whatever became of them."""
        found = set[str]()
        for some in in_parts(file_ids):
            sql = f"SELECT file_id FROM files WHERE source_sha256 != '' AND file_id IN ({places(some)})"  # noqa: S608
            found.update(file_id for (file_id,) in self._query(sql, some))
        return found

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
            for some in in_parts(files):
                for file_id in entered(cursor, [file.file_id for file, _ in some]):
                    cursor.execute("DELETE FROM deferred WHERE file_id = ?", (file_id,))
                    give_up_claim(cursor, file_id)
                cursor.executemany(
                    """INSERT INTO files (file_id, fingerprint, state, source_sha256, attempts, reason_codes, message)
                       VALUES (?, ?, 'quarantined', '', 1, ?, ?)
                       ON CONFLICT (file_id) DO UPDATE SET fingerprint = excluded.fingerprint, state = excluded.state,
                       image_id = NULL, source_sha256 = excluded.source_sha256, attempts = files.attempts + 1,
                       reason_codes = excluded.reason_codes, message = excluded.message""",
                    [(file.file_id, as_, " ".join(file.reason_codes), file.refusal.parts) for file, as_ in some],
                )

    def forget_deferrals(self) -> None:
        """At the start of a run: what kept files from being read then says nothing of now."""
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM deferred")

    def add_deferred(self, files: Iterable[DeferredFile]) -> None:
        """Registers files that could not be read at the moment. What is known of them stays: claims, rows, refusals."""
        with self._transaction() as cursor:
            rows = [(file.file_id, file.reason) for file in files]
            cursor.executemany(
                """INSERT INTO deferred (file_id, reason) VALUES (?, ?)
                   ON CONFLICT (file_id) DO UPDATE SET reason = excluded.reason""",
                rows,
            )

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

    def plan_rows(self, rows_per_shard: int, *, planned_utc: str, reserved: int = 0) -> None:
        """Gives a row to every claim that has none; an exam's new images share a shard where they fit.

        What is new starts in a new shard, so a shard that was written is never written again for a later image. The claims of
        one call are a batch.

        Args:
            rows_per_shard: Of the store.
            planned_utc: When this is said.
            reserved: Rows that the store has place for. A ledger of an earlier day, put in its place again, knows of fewer; the
                manifest in force may name the others.
        """
        with self._transaction() as cursor:
            unplanned = cursor.execute(
                "SELECT exam_id, file_id FROM images WHERE row IS NULL ORDER BY exam_id, image_id, file_id"
            ).fetchall()
            known = self.row_count()
            if reserved > -(-known // rows_per_shard) * rows_per_shard:
                logger.warning(_OF_AN_EARLIER_DAY, known, reserved)
            row = -(-max(known, reserved) // rows_per_shard) * rows_per_shard
            (batch,) = cursor.execute("SELECT 1 + count(*) FROM given_out").fetchone()
            planned: list[tuple[int, int, str]] = []
            for _, exam in groupby(unplanned, key=itemgetter(0)):
                file_ids = [file_id for _, file_id in exam]
                room = rows_per_shard - row % rows_per_shard
                if room < len(file_ids) <= rows_per_shard:
                    row += room
                planned += [(row + index, batch, file_id) for index, file_id in enumerate(file_ids)]
                row += len(file_ids)
            if planned:
                cursor.executemany("UPDATE images SET row = ?, batch = ? WHERE file_id = ?", planned)
                cursor.execute("INSERT INTO given_out (batch, rows, planned_utc) VALUES (?, ?, ?)", (batch, row, planned_utc))

    def row_count(self) -> int:
        """Rows ever given out, holes included."""
        found = self._query("SELECT max(rows) FROM (SELECT rows FROM given_out UNION ALL SELECT row + 1 FROM images) AS given")
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
        if not written:
            return
        file_ids = list(written)
        with self._transaction() as cursor:
            kept = spelled_before(cursor, {file_id: line.stored for file_id, line in written.items()})
            cursor.executemany(
                "UPDATE images SET manifest = ?, pixel_sha256 = ?, mask_fingerprint = ? WHERE file_id = ?",
                [
                    (json.dumps(kept[file_id]), line.stored.get("pixel_sha256"), line.mask_fingerprint, file_id)
                    for file_id, line in written.items()
                ],
            )
            recorded = cursor.rowcount
            for table in ("deferred", "superseded"):
                cursor.execute(f"DELETE FROM {table} WHERE file_id IN ({places(file_ids)})", file_ids)  # noqa: S608
            digests = [
                (str(line.stored["source_sha256"]), name) for name, line in written.items() if "source_sha256" in line.stored
            ]
            if digests:
                cursor.executemany("UPDATE files SET source_sha256 = ? WHERE file_id = ? AND source_sha256 = ''", digests)
            discarded = cursor.execute(
                f"""SELECT file_id FROM files WHERE state = 'accepted' AND source_sha256 != '' AND source_sha256 IN
                    (SELECT source_sha256 FROM files WHERE state = 'discarded')
                    AND file_id IN ({places(file_ids)})""",  # noqa: S608  # question marks only
                file_ids,
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
            for some in in_parts(file_ids):
                cursor.execute(f"DELETE FROM superseded WHERE file_id IN ({places(some)})", some)  # noqa: S608
                cursor.execute(f"UPDATE images SET manifest = NULL WHERE file_id IN ({places(some)})", some)  # noqa: S608

    def renew(self, file_ids: Iterable[str]) -> None:
        """Lets the next run write these claims anew, into the same rows; until then what is stored of them is published."""
        with self._transaction() as cursor:
            for some in in_parts(file_ids):
                cursor.execute(
                    f"""INSERT INTO superseded (file_id, manifest)
                        SELECT file_id, manifest FROM images WHERE file_id IN ({places(some)}) AND manifest IS NOT NULL
                        ON CONFLICT (file_id) DO UPDATE SET manifest = excluded.manifest""",  # noqa: S608
                    some,
                )
                cursor.execute(f"UPDATE images SET manifest = NULL WHERE file_id IN ({places(some)})", some)  # noqa: S608

    def manifest_lines(self) -> list[LedgerLine]:
        """Every written claim, by row."""
        return parsed_lines(self.line_parts())

    def each_line(self) -> Iterator[LedgerLine]:
        """Every written claim in turn, by row: of a million a thousand are there at once."""
        return each_parsed(self.line_parts())

    def line_parts(self) -> Iterator[LinePart]:
        """Every written claim as it is kept, by row, some at a time."""
        return self._database.parts(
            """SELECT file_id, batch, day, CASE WHEN instr(line, pixel_sha256) > 0 THEN '' ELSE pixel_sha256 END, line FROM
               (SELECT file_id, images.batch, substr(planned_utc, 1, 10) AS day, pixel_sha256, row,
                       coalesce(images.manifest, superseded.manifest) AS line
                FROM images LEFT JOIN superseded USING (file_id) LEFT JOIN given_out USING (batch)) AS written
               WHERE line IS NOT NULL ORDER BY row""",
            LINES_PER_PART,
        )


LINES_PER_PART: Final = 1000
NAMED: Final = ".json"
"""Ending of a file that names a schema, in place of SQLite's file."""


def ledger_database(path: Path, *, may_make: bool = True) -> Database:
    """The database that a ledger is in: SQLite's file, or the schema that a file names. See ``Ledger``."""
    if path.suffix != NAMED:
        return _LedgerFile(path)
    from tasks.adapters.databases.postgresql import PostgresqlSchema  # late: the driver is an extra

    return PostgresqlSchema(path, name=_LedgerFile.NAME, tables=TABLES, may_make=may_make)
