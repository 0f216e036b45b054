"""The database of a workspace's first server is a copy of an empty one, unless there is one or none can be kept.

What real servers make of it: ``test_prefect_server.py``.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from deployments.server.new_database import keep_new_database, kept_database, place_new_database


def written(path: Path) -> Path:
    """A database with a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE seen (name TEXT)")
        database.execute("INSERT INTO seen VALUES ('a')")
    return path


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
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        assert database.execute("SELECT name FROM seen").fetchall() == [("a",)]
    keep_new_database(tmp_path / "home", {"XDG_CACHE_HOME": "/dev/null/cache"})
