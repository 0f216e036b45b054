"""The ledger of a store: it carries the store's id, what is known of damaged images, and what was withdrawn."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from schemas.errors import StoreError
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.inbox.ledger_tables import entered, give_up_claim, in_parts, places
from tasks.adapters.inbox.lines import AcceptedFile, LedgerLine
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.manifest import published_rows
from tasks.adapters.store.parts import manifest_table, missing_part, require_same, write_arrays_id, write_manifest
from tasks.adapters.store.store_settings import read_settings, write_settings

TABLES_OF_STORE: Final = """
CREATE TABLE IF NOT EXISTS withdrawals (line TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS withdrawals_asked (line TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS withdrawn_names (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS identity (store_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS told (file_id TEXT PRIMARY KEY, digest TEXT NOT NULL);
"""
"""Beside the ledger's own. Withdrawals are asked for, and then in force; ``told`` is a keyed digest of what the subjects file
said of a file when it came in."""

_EXAMS_OF_SEVERAL: Final = """
    SELECT exam_id FROM (SELECT DISTINCT exam_id,
                                json_extract(coalesce(images.manifest, superseded.manifest), '$.{name}') AS one
                         FROM images LEFT JOIN superseded USING (file_id)) AS said
    WHERE one IS NOT NULL GROUP BY exam_id HAVING count(*) > 1"""
"""Exams whose written images differ in something that an exam has one of."""

_REMEDY = "restore it from a backup (`mammo restore`), or ingest into a new workspace_dir"


class StoreLedger(Ledger):
    """The ledger that a store was made with; never makes one.

    Raises:
        StoreError: It is gone or damaged, or belongs to another store.
    """

    VERSION = 1
    """SQLite's user_version of a ledger whose digests of sources are keyed; an older release left it at 0."""

    def __init__(self, store: ExamStore) -> None:
        if not store.ledger_path.exists():
            raise missing_part(store.ledger_path, _REMEDY)
        super().__init__(store.ledger_path, may_make=False)
        try:
            self._database.make(TABLES_OF_STORE)
            if store.store_id:
                require_same(self.store_id, store.store_id, store.ledger_path)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    @classmethod
    def make(cls, path: Path, store_id: str) -> None:
        """Makes the ledger of a new store."""
        with Ledger(path):
            pass
        with cls(ExamStore(path.parent, 1, (1, 1))) as ledger:
            ledger.carry(store_id)
            ledger._database.bring_to(StoreLedger.VERSION)  # nothing of an older release is in it

    @property
    def store_id(self) -> str:
        """Of the store that it belongs to; empty in a store of a former release."""
        found = self._query("SELECT store_id FROM identity")
        return str(found[0][0]) if found else ""

    def carry(self, store_id: str) -> None:
        """Makes it the ledger of a store."""
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM identity")
            cursor.execute("INSERT INTO identity (store_id) VALUES (?)", (store_id,))

    def key_digests(self, pseudonyms: Pseudonyms) -> None:
        """Makes keyed digests of the plain ones by which an older release compared files; call before any is added.

        The lines of the manifest stay as that release wrote them: in another spelling they would be another data version.
        """
        self._database.bring_to(
            StoreLedger.VERSION,
            [
                "UPDATE files SET source_sha256 = source_digest(source_sha256) WHERE source_sha256 != ''",
                "UPDATE images SET pixel_sha256 = pixel_digest(pixel_sha256) WHERE pixel_sha256 IS NOT NULL",
            ],
            {"source_digest": pseudonyms.source_digest, "pixel_digest": pseudonyms.pixel_digest},
        )

    def enter_subjects(self, told: Mapping[str, str], present: Collection[str]) -> int:
        """Forgets what is stored of files of which the subjects file says something else than when they came in.

        They are read again as if they were new. One that it leaves out now, or does not name any more, gives up its image.

        Args:
            told: ``told_subjects``, of the files that come in.
            present: Every file that is there, also those that the table does not name.

        Returns:
            How many were stored, or were a copy of one that is.
        """
        before = dict(self._query("SELECT file_id, digest FROM told"))
        wanted = {file_id for file_id in present if before.get(file_id, "") != told.get(file_id, "")}
        forgotten = 0
        with self._transaction() as cursor:
            for some in in_parts(wanted):
                for file_id in entered(cursor, some):
                    give_up_claim(cursor, file_id)
                    gone = cursor.execute(
                        "DELETE FROM files WHERE file_id = ? AND state IN ('accepted', 'duplicate')", (file_id,)
                    )
                    forgotten += gone.rowcount
                cursor.execute(f"DELETE FROM told WHERE file_id IN ({places(some)})", some)  # noqa: S608
                now = [(file_id, told[file_id]) for file_id in some if file_id in told]
                if now:
                    cursor.executemany("INSERT INTO told (file_id, digest) VALUES (?, ?)", now)
        return forgotten

    def lines_to_compare(self) -> list[LedgerLine]:
        """The written claims that a rule about several images may be broken by; each other line is published as it is.

        They share their image or their pixels with another claim, or their exam has images of two patients or two dates. Asked
        in SQL: the lines of a million images are not there at once.
        """
        owners, dates = (_EXAMS_OF_SEVERAL.format(name=name) for name in ("patient_id", "exam_date"))
        found = self._query(
            f"""SELECT file_id FROM images WHERE exam_id IN ({owners}) OR exam_id IN ({dates})
                OR image_id IN (SELECT image_id FROM images GROUP BY image_id HAVING count(*) > 1)
                OR pixel_sha256 IN (SELECT pixel_sha256 FROM images GROUP BY pixel_sha256 HAVING count(*) > 1)"""  # noqa: S608
        )
        file_ids = {file_id for (file_id,) in found}
        return [line for line in self.each_line() if line.file_id in file_ids] if file_ids else []

    def restate(self, lines: Iterable[LedgerLine]) -> None:
        """Replaces what is kept of written claims; their pixels stay."""
        with self._transaction() as cursor:
            for line in lines:
                kept = json.dumps(dict(line.stored)), line.file_id
                cursor.execute("UPDATE images SET manifest = ? WHERE file_id = ? AND manifest IS NOT NULL", kept)
                cursor.execute("UPDATE superseded SET manifest = ? WHERE file_id = ?", kept)

    # -------------------------------------------------------------------------------------------------------- damage

    def patients(self) -> set[tuple[str, str | None]]:
        """Of each written image's patient the pseudonym, and that of the PatientID without its issuer.

        The second is None in images that former releases stored.
        """
        return {(line.patient_id, line.bare_patient_id) for line in self.manifest_lines()}

    def mark_damaged(self, file_ids: Sequence[str]) -> None:
        """Calls what is stored of these claims damaged: not published, and read again from a file as soon as there is one.

        What is known of them is kept until it is written again: their bytes may come back.
        """
        with self._transaction() as cursor:
            _forget_what_was_written_again(cursor)
            for file_id in file_ids:
                cursor.execute(
                    """INSERT INTO damaged (file_id, manifest)
                       SELECT file_id, manifest FROM images WHERE file_id = ? AND manifest IS NOT NULL
                       ON CONFLICT (file_id) DO UPDATE SET manifest = excluded.manifest""",
                    (file_id,),
                )
        self.rewrite(file_ids)

    def damaged_lines(self) -> list[LedgerLine]:
        """What was stored of claims that are damaged, by row; each has lain unpublished since then."""
        rows = self._query(
            """SELECT damaged.manifest, file_id FROM damaged JOIN images USING (file_id)
               WHERE images.manifest IS NULL ORDER BY row"""
        )
        return [LedgerLine(file_id=file_id, stored=json.loads(manifest)) for manifest, file_id in rows]

    def mark_whole(self, file_ids: Sequence[str]) -> None:
        """Takes the word back: what was stored can be read again, and the next ingest publishes it."""
        with self._transaction() as cursor:
            for file_id in file_ids:
                cursor.execute(
                    """UPDATE images SET manifest = (SELECT manifest FROM damaged WHERE file_id = images.file_id)
                       WHERE file_id = ? AND manifest IS NULL""",
                    (file_id,),
                )
            _forget_what_was_written_again(cursor)

    def hand_over(self, present: Collection[str]) -> int:
        """Gives claims that are to be written, and whose file is gone, to a file with the same bytes; returns how many.

        Args:
            present: The files that are there.
        """
        wanted = self._query(
            """SELECT images.file_id, copy.file_id FROM images JOIN files USING (file_id)
               JOIN files AS copy ON copy.image_id = files.image_id AND copy.source_sha256 = files.source_sha256
               WHERE images.manifest IS NULL AND files.source_sha256 != '' AND copy.state = 'duplicate'"""
        )
        heirs = {gone: copy for gone, copy in wanted if gone not in present and copy in present}
        with self._transaction() as cursor:
            for gone, copy in heirs.items():
                for table in ("images", "damaged"):
                    cursor.execute(f"UPDATE {table} SET file_id = ? WHERE file_id = ?", (copy, gone))  # noqa: S608
                cursor.execute("UPDATE files SET state = 'accepted' WHERE file_id = ?", (copy,))
                cursor.execute("UPDATE files SET state = 'duplicate' WHERE file_id = ?", (gone,))
        return len(heirs)

    # ----------------------------------------------------------------------------------------------------- withdrawals

    def withdrawals(self) -> list[str]:
        """The lines of the log of withdrawals that have taken effect, oldest first."""
        return [str(line) for (line,) in self._query("SELECT line FROM withdrawals ORDER BY rowid")]

    def ask_withdrawals(self, lines: Iterable[str]) -> None:
        """Keeps lines of the log that are to take effect: another machine may have to see to it."""
        with self._transaction() as cursor:
            for line in lines:
                cursor.execute("INSERT INTO withdrawals_asked (line) VALUES (?) ON CONFLICT (line) DO NOTHING", (line,))

    def asked_withdrawals(self) -> list[str]:
        """The same, whether they have taken effect or not, in the order in which they were said."""
        return [str(line) for (line,) in self._query("SELECT line FROM withdrawals_asked ORDER BY rowid")]

    def withdrawn_names(self) -> frozenset[str]:
        """Everything that was withdrawn, by its names."""
        return frozenset(name for (name,) in self._query("SELECT name FROM withdrawn_names"))

    def claims(self) -> list[tuple[str, str, str]]:
        """file_id, image_id and exam_id of every claim, written or not."""
        return [(str(a), str(b), str(c)) for a, b, c in self._query("SELECT file_id, image_id, exam_id FROM images")]

    def claim_of(self, file_id: str) -> str | None:
        """The image that a file is of, as far as that is known."""
        found = self._query("SELECT image_id FROM files WHERE file_id = ? AND image_id IS NOT NULL", (file_id,))
        return str(found[0][0]) if found else None

    def rows(self) -> frozenset[int]:
        """The rows of all claims."""
        return frozenset(row for (row,) in self._query("SELECT row FROM images WHERE row IS NOT NULL"))

    def withdraw(self, file_ids: Iterable[str], image_ids: Iterable[str]) -> None:
        """Forgets what is known of these files and images, but that they are withdrawn; what held it is overwritten."""
        with self._database.erasing() as cursor:
            for image_id in image_ids:
                cursor.execute("UPDATE files SET state = 'withdrawn' WHERE image_id = ? AND state != 'discarded'", (image_id,))
                for table in ("superseded", "damaged"):
                    cursor.execute(
                        f"DELETE FROM {table} WHERE file_id IN (SELECT file_id FROM images WHERE image_id = ?)",  # noqa: S608
                        (image_id,),
                    )
                cursor.execute("DELETE FROM images WHERE image_id = ?", (image_id,))
            for file_id in file_ids:
                for table in ("images", "superseded", "damaged", "deferred", "told"):
                    cursor.execute(f"DELETE FROM {table} WHERE file_id = ?", (file_id,))  # noqa: S608
                cursor.execute("UPDATE files SET state = 'withdrawn', message = '' WHERE file_id = ?", (file_id,))

    def add_withdrawn(self, files: Iterable[AcceptedFile]) -> None:
        """Registers files whose header shows something that was withdrawn: they claim nothing, and are not read again."""
        with self._transaction() as cursor:
            for file, record in files:
                give_up_claim(cursor, file.file_id)
                cursor.execute("DELETE FROM deferred WHERE file_id = ?", (file.file_id,))
                cursor.execute(
                    """INSERT INTO files (file_id, fingerprint, state, image_id, source_sha256, attempts)
                       VALUES (?, ?, 'withdrawn', ?, '', 1)
                       ON CONFLICT (file_id) DO UPDATE SET fingerprint = excluded.fingerprint, state = 'withdrawn',
                       image_id = excluded.image_id, attempts = files.attempts + 1, reason_codes = '', message = ''""",
                    (file.file_id, file.fingerprint, record.image_id),
                )

    def enter_withdrawals(self, entries: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Says that lines of the log, given with their names, have taken effect: pixels overwritten, claims and pages gone."""
        with self._transaction() as cursor:
            for line, names in entries:
                cursor.execute("INSERT INTO withdrawals (line) VALUES (?) ON CONFLICT (line) DO NOTHING", (line,))
                cursor.executemany(
                    "INSERT INTO withdrawn_names (name) VALUES (?) ON CONFLICT (name) DO NOTHING", [(name,) for name in names]
                )

    def withdrawn_files(self) -> frozenset[str]:
        """Files of something that was withdrawn."""
        return frozenset(file_id for (file_id,) in self._query("SELECT file_id FROM files WHERE state = 'withdrawn'"))


def _forget_what_was_written_again(cursor: Any) -> None:
    cursor.execute("DELETE FROM damaged WHERE file_id NOT IN (SELECT file_id FROM images WHERE manifest IS NULL)")


def adopted(store: ExamStore) -> ExamStore:
    """The store, its parts marked with an id if a former release made it; call under its lock.

    ``store.json`` comes last: until it names the id nobody asks the parts for theirs, so a stop in between harms nothing.

    Raises:
        StoreError: The ledger is gone or damaged, or is another than the manifest was written from.
    """
    if store.store_id:
        return store
    rows = published_rows(store).values()
    with StoreLedger(store) as ledger:
        if max(rows, default=-1) >= ledger.row_count():
            raise StoreError(
                f"The ledger {store.ledger_path} does not know the images that the manifest names",
                expected=f"at least {max(rows) + 1} rows given out",
                got=ledger.row_count(),
                remedy=_REMEDY,
            )
        store_id = ledger.store_id or uuid4().hex
        ledger.carry(store_id)
    write_arrays_id(store.files, store_id)
    with suppress(FileNotFoundError, StoreError):  # ingest writes it from the ledger, with the id
        write_manifest(store.files, manifest_table(store.files, ""), store_id)
    write_settings(store.files, read_settings(store.files).model_copy(update={"store_id": store_id}))
    return replace(store, store_id=store_id)
