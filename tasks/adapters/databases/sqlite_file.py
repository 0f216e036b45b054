"""A file of SQLite that survives a power cut: how it is opened, changed, copied, and what is said when it cannot be.

WAL mode with full sync: what was reported as written is there afterwards. Only its owner may read it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from schemas.errors import StoreError
from tasks.adapters.databases.database import ROWS_AT_ONCE, Table


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
            self._make_file()
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
        self.make(self.TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """See ``Database``, as of each that follows."""
        self._connection.close()

    def _make_file(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
        except OSError as trouble:
            raise StoreError(
                f"The {self.NAME} {self._path} cannot be opened",
                expected="a file in a folder, both of which this user may read and write",
                got=trouble.strerror,
                remedy="correct who may read and write them, or what lies there; make room on a full disk; then run again",
            ) from trouble

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
    def transaction(self) -> Iterator[sqlite3.Cursor]:
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

    @contextmanager
    def erasing(self) -> Iterator[sqlite3.Cursor]:
        """What it deletes is overwritten."""
        with self._translated():
            self._connection.execute("PRAGMA secure_delete=ON")
        with self.transaction() as cursor:
            yield cursor
        with self._translated():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows."""
        with self._translated():
            return self._connection.execute(sql, values).fetchall()

    def parts(self, sql: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """The rows, so many at a time."""
        with self._translated():
            cursor = self._connection.execute(sql)
            yield from iter(lambda: cursor.fetchmany(size), [])

    def make(self, tables: str) -> None:
        """Makes those of the tables that are not there."""
        with self._translated():
            self._connection.executescript(tables)

    def has(self, table: str) -> bool:
        """True if there is such a table."""
        return bool(self.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)))

    def is_sound(self) -> bool:
        """SQLite's integrity check: every page, index and row count."""
        return self.query("PRAGMA integrity_check") == [("ok",)]

    def bring_to(self, version: int, statements: Sequence[str] = (), functions: Mapping[str, Any] | None = None) -> None:
        """By SQLite's ``user_version``, which is 0 in a file of a release that knew none."""
        if self.query("PRAGMA user_version") != [(0,)]:
            return
        for name, function in (functions or {}).items():
            self._connection.create_function(name, 1, function, deterministic=True)
        with self.transaction() as cursor:
            for statement in statements:
                cursor.execute(statement)
            cursor.execute(f"PRAGMA user_version = {version}")

    def tables(self) -> Iterator[Table]:
        """All that it holds; as it is at one moment if nobody else writes it meanwhile."""
        for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
            columns = tuple(column[1] for column in self.query(f"PRAGMA table_info({name})"))
            yield Table(name, columns, self.parts(f"SELECT {', '.join(columns)} FROM {name} ORDER BY rowid", ROWS_AT_ONCE))  # noqa: S608

    def fill(self, table: Table) -> None:
        """Adds rows."""
        places = ", ".join("?" * len(table.columns))
        with self._translated():
            for rows in table.rows:
                self._connection.executemany(f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places})", rows)  # noqa: S608


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
