"""The ledger of a store: it carries the store's id, and what is known of damaged images outlives their damage."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from schemas.errors import StoreError
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.manifest import published_rows
from tasks.adapters.store.parts import manifest_table, marked_manifest, missing_part, require_same, write_arrays_id
from tasks.adapters.store.settings import read_settings, write_settings
from tasks.adapters.workspace import write_atomically

_REMEDY = "restore it from a backup (`mammo restore`), or ingest into a new workspace_dir"


class StoreLedger(Ledger):
    """The ledger that a store was made with; never makes one.

    Raises:
        StoreError: It is gone or damaged, or belongs to another store.
    """

    def __init__(self, store: ExamStore) -> None:
        if not store.ledger_path.exists():
            raise missing_part(store.ledger_path, _REMEDY)
        super().__init__(store.ledger_path)
        try:
            self._make_tables()
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

    def _make_tables(self) -> None:
        with self._transaction() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS identity (store_id TEXT NOT NULL)")


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
        write_atomically(store.manifest_path, marked_manifest(manifest_table(store.files, ""), store_id))
    write_settings(store.files, read_settings(store.files).model_copy(update={"store_id": store_id}))
    return replace(store, store_id=store_id)
