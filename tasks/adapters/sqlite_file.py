"""A file of SQLite that survives a power cut: how it is opened, changed, and what is said when it cannot be.

WAL mode with full sync: what was reported as written is there afterwards. Only its owner may read it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from schemas.errors import StoreError


def sqlite_url(path: Path, *, driver: str = "sqlite") -> str:
    """SQLAlchemy's address of a database file: in it a question mark ends the path, and a percent sign begins a code."""
    from sqlalchemy import URL  # late: most commands need no address

    return URL.create(driver, database=str(path)).render_as_string()


class SqliteFile:
    """One connection; use as a context manager.

    Args:
        path: Made, with its folder, where it is not there.

    Raises:
        StoreError: The file is damaged or no SQLite file, or cannot be written (the disk is full). By every method, too.
    """

    NAME: ClassVar[str]
    """What it is, for a sentence."""
    TABLES: ClassVar[str]
    """SQL that makes its tables where they are not there."""
    IF_DAMAGED: ClassVar[str] = "restore it from a backup"

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(self.TABLES)

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
                f"The {self.NAME} {self._path} cannot be read or written",
                expected="an undamaged SQLite file on a disk with room",
                got=f"{type(trouble).__name__}: {trouble}",
                remedy=f"make room on the disk and run again; if the file is damaged, {self.IF_DAMAGED}",
            ) from trouble

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        """All of what is done inside, or nothing."""
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
