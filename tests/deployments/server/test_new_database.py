"""The database of a workspace's first server is a copy of an empty one, which holds nothing of anybody."""

from __future__ import annotations

import json
import sqlite3
import stat
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from deployments.server.new_database import keep_new_database, kept_database, place_new_database
from deployments.server.prefect_server import prefect_server


def rows(path: Path) -> dict[str, int]:
    """Lines per table, of tables that have any."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608
    return {name: count for name, count in counts.items() if count}


def written(path: Path) -> Path:
    """A database with a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE seen (name TEXT)")
        database.execute("INSERT INTO seen VALUES ('a')")
    return path


@pytest.mark.e2e
def test_the_second_workspace_gets_what_the_first_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is empty but for Prefect's own block types; a server over a copy of it answers, with the same tables.

    Each is in its workspace, whatever that is called: a question mark ends the path in a database's address, and a percent sign
    begins a code, and nothing lands beside it.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "no-profile"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    kept = tmp_path / "cache" / "mammography-gmic"
    (tmp_path / "no-profile").mkdir()
    tables, names = [], ("what?now=1", "100%25 sure#1")
    for name in names:
        with prefect_server(tmp_path / name) as address:
            asked = urllib.request.Request(
                f"{address}/api/flow_runs/filter", json.dumps({}).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert json.load(answer) == []
        monkeypatch.delenv("PREFECT_API_URL")
        monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "no-profile"))
        tables.append(rows(tmp_path / name / "prefect" / "prefect.db"))
        (empty,) = kept.iterdir()
        assert set(rows(empty)) == {"alembic_version", "block_schema", "block_schema_reference", "block_type"}
        assert stat.S_IMODE(empty.stat().st_mode) == 0o600
    assert tables[0] == tables[1]
    assert {path.name for path in tmp_path.iterdir()} == {*names, "cache", "no-profile"}


def test_a_database_that_is_there_or_chosen_stays(tmp_path: Path) -> None:
    """A workspace's history is never replaced, and a user's PostgreSQL needs no file."""
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    written(kept_database(environment))
    old = written(tmp_path / "old" / "prefect.db").read_bytes()
    assert not place_new_database(tmp_path / "old", environment)
    assert (tmp_path / "old" / "prefect.db").read_bytes() == old
    (tmp_path / "new").mkdir()
    chosen = {**environment, "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://host/prefect"}
    assert not place_new_database(tmp_path / "new", chosen)
    assert not list((tmp_path / "new").iterdir())


def test_a_cache_that_is_broken_or_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    """Prefect makes the database then, as always; a sound one takes the place of the broken one."""
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    kept_database(environment).parent.mkdir(parents=True)
    kept_database(environment).write_bytes(b"no database")
    assert place_new_database(tmp_path, environment)
    assert not (tmp_path / "prefect.db").exists()
    written(tmp_path / "home" / "prefect.db")
    keep_new_database(tmp_path / "home", environment)
    assert not place_new_database(tmp_path, environment)
    assert rows(tmp_path / "prefect.db") == rows(tmp_path / "home" / "prefect.db")
    keep_new_database(tmp_path / "home", {"XDG_CACHE_HOME": "/dev/null/cache"})
