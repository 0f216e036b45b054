"""A schema of a real PostgreSQL server: whose turn it is, what is said when something is wrong, what is left of what went."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mammo_tests.postgresql import PostgresqlServer, named_schema, postgresql_server
from schemas.errors import ConfigError, MammoError, PeerRefused, PeerUnavailable, StoreBusy, StoreError
from tasks.adapters.databases.postgresql import NamedSchema, PostgresqlSchema, reach

TABLES = "CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY, number INTEGER);"
ROOT = Path(__file__).parents[4]


def opened(path: Path, *, may_make: bool = True) -> PostgresqlSchema:
    """The schema that a file names, with a table."""
    return PostgresqlSchema(path, name="list", tables=TABLES, may_make=may_make)


def add(schema: PostgresqlSchema, *words: str) -> None:
    """Adds words with their places."""
    with schema.transaction() as cursor:
        cursor.executemany("INSERT INTO words (word, number) VALUES (?, ?)", list(zip(words, range(len(words)), strict=True)))


@pytest.fixture
def path(postgresql: PostgresqlServer, tmp_path: Path) -> Path:
    """Names a schema that is not there yet."""
    return named_schema(tmp_path, postgresql.address)


@pytest.fixture
def schema(path: Path) -> Iterator[PostgresqlSchema]:
    """An empty table."""
    with closing(opened(path)) as made:
        yield made


def test_words_come_back_in_the_order_of_entry_and_sort_by_their_bytes(schema: PostgresqlSchema) -> None:
    """Whatever the database's collation: a plan of rows is the same in SQLite."""
    add(schema, "b", "B", "a%s?", "\u00e4", "a")
    assert [word for (word,) in schema.query("SELECT word FROM words ORDER BY rowid")] == ["b", "B", "a%s?", "\u00e4", "a"]
    assert [word for (word,) in schema.query("SELECT word FROM words ORDER BY word")] == ["B", "a", "a%s?", "b", "\u00e4"]
    assert schema.query("SELECT number FROM words WHERE word = ?", ("a%s?",)) == [(2,)]
    assert schema.query("""SELECT json_extract('{"a": "b", "n": null}', '$.a'), instr('xyz', 'z')""") == [("b", 3)]


def test_whoever_took_the_next_turn_writes_and_the_other_is_refused(path: Path, tmp_path: Path) -> None:
    """Also in the middle: the transaction of the one whose turn is over changes nothing."""
    other_path = tmp_path / "other" / path.name
    NamedSchema.read(path).write(other_path)
    with closing(opened(path)) as one, closing(opened(other_path, may_make=False)) as other:
        one.take_turn()
        add(one, "mine")
        with pytest.raises(StoreBusy, match="Another machine writes the list now"):
            add(other, "not yet")
        other.take_turn()
        add(other, "other's")
        with pytest.raises(StoreBusy, match=r"Expected: turn 1.*Got: turn 2"):
            add(one, "late")
        assert one.query("SELECT word FROM words ORDER BY word") == [("mine",), ("other's",)]
    assert (NamedSchema.read(path).turn, NamedSchema.read(other_path).turn) == (1, 2)


def test_what_a_killed_writer_had_not_committed_is_gone(path: Path, schema: PostgresqlSchema) -> None:
    """One in another process holds the row of the turn; its session ends with it, and the next transaction goes on."""
    script = (
        "import sys; from pathlib import Path; from tasks.adapters.databases.postgresql import PostgresqlSchema\n"
        "schema = PostgresqlSchema(Path(sys.argv[1]), name='list', tables='')\n"
        "with schema.transaction() as cursor:\n"
        "    cursor.execute(\"INSERT INTO words (word) VALUES ('half')\"); print('inside', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as standing:
        assert standing.stdout is not None and standing.stdout.readline() == "inside\n"
        standing.kill()
    add(schema, "whole")
    assert schema.query("SELECT word FROM words") == [("whole",)]


def test_what_is_read_in_parts_is_as_it_was_when_it_began(schema: PostgresqlSchema) -> None:
    """Other statements go on beside it, and one that is left in the middle holds nothing."""
    add(schema, *(f"{number:03}" for number in range(100)))
    parts = schema.parts("SELECT word FROM words ORDER BY word", 30)
    first = next(parts)
    add(schema, "000.5")
    assert [len(first), *map(len, parts)] == [30, 30, 30, 10]
    next(schema.parts("SELECT word FROM words", 1))
    add(schema, "x")
    assert schema.is_sound() and schema.has("words") and not schema.has("other")


def test_an_error_inside_takes_all_back_and_the_connection_goes_on(schema: PostgresqlSchema) -> None:
    """A word that is there already: nothing of the transaction stays, and the database's own error does not pass."""
    add(schema, "a")
    with pytest.raises(StoreError, match=r"cannot be read or written.*UniqueViolation") as said:
        add(schema, "b", "a")
    assert "(word)=" not in str(said.value) and said.value.exit_code == 5  # the values stand in the database's detail
    add(schema, "c")
    assert schema.query("SELECT word FROM words ORDER BY word") == [("a",), ("c",)]


def test_nothing_of_what_was_erased_is_in_the_tables_files(path: Path) -> None:
    """They are written anew: a deleted row of PostgreSQL stays in its page otherwise."""
    with postgresql_server() as server:
        NamedSchema(address=server.address, schema=NamedSchema.read(path).schema).write(path)

        def holds(text: bytes) -> bool:
            server.ask("CHECKPOINT")
            return any(text in file.read_bytes() for file in (server.folder / "data" / "base").rglob("*") if file.is_file())

        with closing(opened(path)) as schema:
            add(schema, "CANARY", "stays-here")
            assert holds(b"CANARY")
            with schema.erasing() as cursor:
                cursor.execute("DELETE FROM words WHERE word = ?", ("CANARY",))
            assert not holds(b"CANARY") and holds(b"stays-here")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"address": "postgresql://prefect@127.0.0.1:1/prefect"}, PeerUnavailable, "cannot be asked now.*refused"),
        ({"address": "{}-none"}, PeerRefused, "is closed to us.*does not exist"),
        ({"address": "postgresql://host/x?nonsense=1"}, ConfigError, "has no address"),
        ({"address": "postgresql://?service=nobody_wrote_it"}, ConfigError, "has no address.*nobody_wrote_it"),
        ({"address": "{}?sslmode=some"}, ConfigError, "has no address.*sslmode"),
        ({"address": "postgresql://127.0.0.1:port/x"}, ConfigError, "has no address.*port"),
        ({"address": "{}?sslmode=require"}, PeerRefused, "is closed to us.*SSL"),
        ({"schema": "x; DROP"}, StoreError, "is damaged"),
        ({"schema": "nobody_made_it"}, StoreError, "is not in the database that the file names"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(path: Path, change: dict[str, str], error: type[MammoError], match: str) -> None:
    """The server is away, has no such database, the file is not ours, or the database is another one."""
    named = json.loads(path.read_bytes())
    path.write_text(json.dumps({**named, **{name: value.format(named["address"]) for name, value in change.items()}}))
    with pytest.raises(error, match=match):
        opened(path, may_make=False)


def test_a_user_who_may_make_nothing_is_told_before_the_first_ingest(postgresql: PostgresqlServer, path: Path) -> None:
    """By `mammo doctor`, which asks for it; whoever runs all the same is refused."""
    postgresql.ask("CREATE USER guest")
    address = postgresql.address.replace("prefect@", "guest@")
    assert [reach(one, name="list").may_make for one in (postgresql.address, address)] == [True, False]
    NamedSchema(address=address, schema="guests").write(path)
    with pytest.raises(PeerRefused, match="permission denied"):
        opened(path)


def test_a_server_that_only_reads_for_another_is_asked_again(path: Path, schema: PostgresqlSchema) -> None:
    """What it holds is whole: it writes when it has taken over, or the address names the one that does."""
    schema.query("SELECT set_config('default_transaction_read_only', 'on', false)")
    with pytest.raises(PeerUnavailable, match=r"cannot be asked now.*read-only transaction.*nothing is lost"):
        schema.take_turn()
    assert NamedSchema.read(path).turn == 0


def test_the_doctor_knows_a_server_that_only_reads_for_another(postgresql: PostgresqlServer) -> None:
    """A standby answers, and lets whoever may make a schema make none."""
    address = f"{postgresql.address}?options=-c%20default_transaction_read_only%3Don"
    assert [reach(one, name="list").takes_writes for one in (postgresql.address, address)] == [True, False]
