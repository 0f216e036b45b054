"""What a module asks of a database in which it keeps tables, whichever it is.

Statements are written once, with question marks, in what SQLite and PostgreSQL understand alike; ``json_extract`` and ``instr``
are SQLite's, and a schema of PostgreSQL is given functions of these names. Every table has a ``rowid``: the order of entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

ROWS_AT_ONCE: Final = 1000
"""Of a table that is read as a whole."""


class Cursor(Protocol):
    """Inside a transaction."""

    @property
    def rowcount(self) -> int:
        """Rows that the last call changed, all its values together."""

    def execute(self, sql: str, values: Sequence[object] = (), /) -> Any:
        """Executes one statement; what it returns has ``fetchone``, ``fetchall`` and ``rowcount``."""

    def executemany(self, sql: str, values: Iterable[Sequence[object]], /) -> Any:
        """Executes one statement with each of these values: on a network that is one way there and back."""


class Table(NamedTuple):
    """A table with all that it holds, some rows at a time, in the order of entry."""

    name: str
    columns: tuple[str, ...]
    rows: Iterator[Sequence[tuple[Any, ...]]]


class Database(Protocol):
    """One connection. Every method raises what the database's class says."""

    def query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows."""

    def parts(self, sql: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """The rows as they are at one moment, so many at a time, whatever is changed meanwhile."""

    def transaction(self) -> AbstractContextManager[Cursor]:
        """All of what is done inside, or nothing; one at a time."""

    def erasing(self) -> AbstractContextManager[Cursor]:
        """The same; what it deletes is in no file of the tables afterwards."""

    def make(self, tables: str) -> None:
        """Makes those of the tables that are not there."""

    def has(self, table: str) -> bool:
        """True if there is such a table."""

    def is_sound(self) -> bool:
        """True if all that is there can be read."""

    def bring_to(self, version: int, statements: Sequence[str] = (), functions: Mapping[str, Any] | None = None) -> None:
        """Executes what makes tables of a former release those of this one, and of this version; once."""

    def tables(self) -> Iterator[Table]:
        """All that it holds, as it is at one moment."""

    def fill(self, table: Table) -> None:
        """Adds rows to a table of the same columns; call it inside a transaction."""

    def close(self) -> None:
        """Ends the connection."""
