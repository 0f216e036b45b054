"""A schema of a PostgreSQL database in which several machines keep tables one after another. The only module with psycopg.

A small JSON file stands where a database's file would lie. It names the address (in which no password is: libpq takes that from
``~/.pgpass``, PGPASSFILE, PGSERVICEFILE or PGPASSWORD), the schema, and the turn in which this folder last wrote.

One writes at a time. Who begins to write takes the next turn, and each transaction holds the turn's row while it lasts: the
transactions of one process wait for one another, as SQLite's do, and those of a machine whose turn is over are refused. A
machine that was asleep for an hour writes nothing into what another has taken over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, cast

from schemas.errors import ConfigError, MammoError, PeerRefused, PeerUnavailable, StoreBusy, StoreError, extra_from
from tasks.adapters.databases.database import ROWS_AT_ONCE, Table
from tasks.adapters.workspace import write_atomically

try:
    import psycopg
    from psycopg import IsolationLevel
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ImportError as missing:  # who has no ledger in PostgreSQL does not import this module
    raise ConfigError(
        "The driver of PostgreSQL is not installed",
        expected="the extra postgresql",
        remedy=extra_from("postgresql"),
    ) from missing

_TURN: Final = "turn"
_ALIVE: Final[dict[str, Any]] = {
    "connect_timeout": 15, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000,
    "application_name": "mammo",
}  # fmt: skip
"""Of a connection, where its address says nothing else: a server that is gone without a word is missed within a minute."""
_SESSION: Final = """
SET client_min_messages = warning;
SET lock_timeout = '5min';
SET idle_in_transaction_session_timeout = '2min';
SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
SET cursor_tuple_fraction = 1.0; SET random_page_cost = 1.1;
SET plan_cache_mode = force_custom_plan;
"""
"""A client that is gone without a word holds its transaction, and so the turn, for two minutes at most. A plan that was made
while the tables were empty reads them from end to end: an image would cost the more, the more there are."""
_FUNCTIONS: Final = """
CREATE FUNCTION instr(text, text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT strpos($1, $2)';
CREATE FUNCTION json_extract(text, text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT $1::json ->> substr($2, 3)';
"""
_AWAY: Final = re.compile("08|25006|25P03|40|53|55P03|57|58")
"""SQLSTATEs of what passes: no connection, no memory or disk, a lock that is not given, a server that goes down or comes up, or
one that only reads for another."""
_REFUSED: Final = re.compile("28|3D|42501")
_REFUSES_TO_CONNECT: Final = re.compile("authentication failed|pg_hba|no password supplied|does not exist|SSL was required")
_MISNAMED: Final = re.compile("service file|definition of service|invalid .*value|invalid port|Servname not supported")
"""libpq gives a failed connection no SQLSTATE. A server may say it in another language: then it is asked again in vain."""
_SCHEMA: Final = re.compile("[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSchema:
    """The content of the file that stands for a schema.

    Attributes:
        address: ``postgresql://...``, without a password.
        schema: Name of the schema.
        turn: In which the file's folder last wrote.
    """

    address: str
    schema: str
    turn: int = 0

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file's content.

        Raises:
            StoreError: It is damaged.
        """
        try:
            named = cls(**json.loads(path.read_bytes()))
            if not _SCHEMA.fullmatch(named.schema):
                raise ValueError("no name of a schema")
        except (ValueError, TypeError) as damage:
            raise StoreError(
                f"{path} is damaged", expected="address, schema and turn of a database", remedy="restore it from a backup"
            ) from damage
        return named

    def write(self, path: Path) -> None:
        """Replaces the file."""
        write_atomically(path, json.dumps(asdict(self), indent=1).encode())


class PostgresqlSchema:
    """One connection to a schema, as ``database.Database`` has it.

    Args:
        path: The file that names it.
        name: What it is, for a sentence.
        tables: SQL that makes its tables where they are not there.
        may_make: Makes the schema where it is not there.

    Raises:
        PeerUnavailable: The database cannot be asked now: nothing is lost. By every method, too.
        PeerRefused: It does not let us in, or there is no such database. By every method, too.
        StoreBusy: Another machine has taken its turn meanwhile. By every method that changes something.
        StoreError: There is no such schema in it, or something in it is damaged. By every method, too.
    """

    def __init__(self, path: Path, *, name: str, tables: str, may_make: bool = True) -> None:
        self._path, self._name, self._named = path, name, NamedSchema.read(path)
        self._connection = self._connected()
        try:
            if not self.has(_TURN):
                if not may_make:
                    raise self._missing()
                self._make_schema()
            self.make(tables)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See ``Database``, as of each that follows."""
        self._connection.close()

    def take_turn(self) -> None:
        """From now on this folder writes, and whoever wrote before is refused."""
        with self._translated(), self._connection.transaction():
            (turn,) = self._one(f"UPDATE {_TURN} SET number = number + 1 RETURNING number")  # noqa: S608
        self._named = replace(self._named, turn=turn)
        self._named.write(self._path)

    @contextmanager
    def transaction(self) -> Iterator[_PostgresqlCursor]:
        """All of what is done inside, or nothing; the turn's row is held meanwhile."""
        with self._translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            (turn,) = self._one(f"SELECT number FROM {_TURN} FOR UPDATE")  # noqa: S608
            if turn != self._named.turn:
                raise StoreBusy(
                    f"Another machine writes the {self._name} now; what this run had not entered yet is not entered",
                    expected=f"turn {self._named.turn}, which this run took when it began",
                    got=f"turn {turn}",
                    remedy="run again when the other has ended: what is missing is done then",
                )
            yield _PostgresqlCursor(cursor)

    @contextmanager
    def erasing(self) -> Iterator[_PostgresqlCursor]:
        """The tables' files are written anew; what the server keeps of its log and its backups is its owner's matter."""
        with self.transaction() as cursor:
            yield cursor
        with self._translated():
            for name in self._tables():
                self._connection.execute(cast("Any", f"VACUUM (FULL, ANALYZE) {name}"))

    def query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows."""
        with self._translated():
            return self._connection.execute(_with_places(sql), values).fetchall()

    def parts(self, sql: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """The rows, so many at a time, by a connection of their own: this one goes on meanwhile."""
        with self._reading() as connection:
            yield from self._parts(connection, sql, size)

    def make(self, tables: str) -> None:
        """Makes those of the tables that are not there."""
        if set(_MADE.findall(tables)) <= set(self._tables()):
            return
        with self._translated(), self._connection.transaction():
            self._connection.execute(cast("Any", tables.replace(" TEXT", ' TEXT COLLATE "C"').replace(" INTEGER", " BIGINT")))
            for name in self._tables():
                order = "ADD COLUMN IF NOT EXISTS rowid BIGINT GENERATED ALWAYS AS IDENTITY"
                self._connection.execute(cast("Any", f"ALTER TABLE {name} {order}"))

    def has(self, table: str) -> bool:
        """True if there is such a table."""
        return self.query("SELECT to_regclass(?) IS NOT NULL", (f"{self._named.schema}.{table}",)) == [(True,)]

    def is_sound(self) -> bool:
        """Every row is read; a page whose checksum does not match is no such."""
        try:
            for name in self._tables():
                self.query(f"SELECT sum(length(one::text)) FROM {name} AS one")  # noqa: S608
        except StoreError:
            return False
        return True

    def bring_to(self, version: int, statements: Sequence[str] = (), functions: Mapping[str, Any] | None = None) -> None:
        """Nothing: no former release has written here."""

    def tables(self) -> Iterator[Table]:
        """All that it holds, as it is at one moment."""
        with self._reading() as connection:
            for name in self._tables():
                columns = self._columns(name)
                sql = f"SELECT {', '.join(columns)} FROM {name} ORDER BY rowid"  # noqa: S608
                yield Table(name, columns, self._parts(connection, sql, ROWS_AT_ONCE))

    def fill(self, table: Table) -> None:
        """Adds rows."""
        into = f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN"
        with self._translated(), self._connection.cursor() as cursor, cursor.copy(cast("Any", into)) as copy:
            for rows in table.rows:
                for row in rows:
                    copy.write_row(row)

    # -----------------------------------------------------------------------------------------------------------------

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        with self._translated():
            connection = _connected(self._named.address)
            connection.execute(cast("Any", f'{_SESSION} SET search_path TO "{self._named.schema}"'))
            return connection

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection to which the tables stay as they are now."""
        connection = self._connected()
        try:
            with self._translated():
                connection.execute("SET idle_in_transaction_session_timeout = 0")  # it holds up nobody
                connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
                connection.autocommit = False
            yield connection
        finally:
            connection.close()

    def _parts(self, connection: psycopg.Connection[tuple[Any, ...]], sql: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
        with self._translated(), connection.cursor(name="parts") as cursor:
            cursor.execute(_with_places(sql))
            yield from iter(lambda: cursor.fetchmany(size), [])

    def _one(self, sql: str) -> tuple[Any, ...]:
        found = self._connection.execute(cast("Any", sql)).fetchone()
        if found is None:
            raise self._missing()
        return found

    def _tables(self) -> list[str]:
        found = self.query("SELECT tablename FROM pg_tables WHERE schemaname = ? ORDER BY 1", (self._named.schema,))
        return [name for (name,) in found if name != _TURN]

    def _columns(self, table: str) -> tuple[str, ...]:
        found = self.query(
            """SELECT column_name FROM information_schema.columns
               WHERE table_schema = ? AND table_name = ? AND column_name != 'rowid' ORDER BY ordinal_position""",
            (self._named.schema, table),
        )
        return tuple(str(name) for (name,) in found)

    def _make_schema(self) -> None:
        turn = f"CREATE TABLE {_TURN} AS SELECT {self._named.turn}::bigint AS number;"
        with self._translated(), self._connection.transaction():
            self._connection.execute(cast("Any", f'CREATE SCHEMA "{self._named.schema}"; {turn} {_FUNCTIONS}'))

    def _missing(self) -> StoreError:
        return StoreError(
            f"The {self._name} {self._path} is not in the database that the file names",
            expected=f"a schema {self._named.schema} in {self._named.address}",
            got="none",
            remedy="correct ingest.ledger; if the database is lost, restore it from its own backup, or by `mammo restore`",
        )

    def _translated(self) -> AbstractContextManager[None]:
        return _translated(self._name, self._named.address)


_MADE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")


class _PostgresqlCursor:
    """Takes question marks for values."""

    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]]) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        """Rows that the last call changed."""
        return self._cursor.rowcount

    def execute(self, sql: str, values: Sequence[object] = (), /) -> Any:
        """Executes one statement."""
        return self._cursor.execute(_with_places(sql), values)

    def executemany(self, sql: str, values: Iterable[Sequence[object]], /) -> Any:
        """Executes it with each of these, without waiting for each answer."""
        self._cursor.executemany(_with_places(sql), values)
        return self._cursor


@lru_cache(maxsize=256)
def _with_places(sql: str) -> Any:
    return sql.replace("%", "%%").replace("?", "%s")


class Reached(NamedTuple):
    """What a server answered.

    Attributes:
        version: Its own.
        takes_writes: False of a standby, which only follows the server that does.
        may_make: We may make a schema in the database.
    """

    version: str
    takes_writes: bool
    may_make: bool


def reach(address: str, *, name: str) -> Reached:
    """Asks the server of a database whether one could write there.

    Raises:
        PeerUnavailable, PeerRefused: As ``PostgresqlSchema``.
    """
    with _translated(name, address), closing(_connected(address)) as connection:
        of_server = "current_setting('server_version'), current_setting('transaction_read_only') = 'off'"
        sql = f"SELECT {of_server}, has_database_privilege(current_database(), 'CREATE')"
        return Reached(*(connection.execute(sql).fetchone() or ("", False, False)))


def _connected(address: str) -> psycopg.Connection[tuple[Any, ...]]:
    given = conninfo_to_dict(address)
    kept = {name: value for name, value in _ALIVE.items() if name not in given}
    return psycopg.connect(make_conninfo(address, **kept), autocommit=True)


@contextmanager
def _translated(name: str, address: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as trouble:
        raise _in_words(trouble, f"The {name} in the database {address}") from trouble


def _in_words(trouble: psycopg.Error, what: str) -> MammoError:
    said = (trouble.diag.message_primary or str(trouble)).strip().splitlines()
    got = f"{type(trouble).__name__}: {said[0] if said else ''}"
    state = trouble.sqlstate or ""
    if not state and (isinstance(trouble, psycopg.ProgrammingError) or _MISNAMED.search(str(trouble))):
        return ConfigError(f"{what} has no address", expected="postgresql://user@host/database", got=got)
    if _REFUSED.match(state) or (not state and _REFUSES_TO_CONNECT.search(str(trouble))):
        remedy = "see that the database is there, that its user may make a schema in it, and that ~/.pgpass lets it in"
        return PeerRefused(f"{what} is closed to us", got=got, remedy=remedy)
    if _AWAY.match(state) or (not state and isinstance(trouble, psycopg.OperationalError | psycopg.InterfaceError)):
        remedy = "see that its server is up, then run again: nothing is lost, and what was entered is not done again"
        return PeerUnavailable(f"{what} cannot be asked now", got=got, remedy=remedy)
    remedy = "see the database's log; if it is damaged, restore it from its backup"
    return StoreError(f"{what} cannot be read or written", expected="undamaged tables of ours", got=got, remedy=remedy)
