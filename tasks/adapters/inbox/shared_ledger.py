"""A ledger in a database, and the folder of the machine that writes now: how it comes by what the others have done.

The key is brought by a person. ``store.json``, the description of the arrays, the manifest and the lists of patients come from
the bucket; all else that ingest must know is in the ledger: what is settled, which row is whose, what was refused, withdrawn or
found damaged. The folder keeps copies, the entity tags that they had, and the turn in which it last wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from schemas.config.run import RunConfig
from schemas.errors import ConfigError, StoreError
from tasks.adapters.inbox.ledger import NAMED, ledger_database
from tasks.adapters.inbox.store_ledger import TABLES_OF_STORE, StoreLedger
from tasks.adapters.pseudonyms import names_of_key, open_key
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.objects.bucket_store import held_store
from tasks.adapters.store.parts import require_key, require_same
from tasks.adapters.store.store_settings import objects_of, read_settings
from tasks.adapters.workspace import StoreFolder, Workspace

_COMPANIONS = ("", "-wal", "-shm")
"""Of a file of SQLite."""


@contextmanager
def held_ledger(config: RunConfig, *, purpose: str) -> Iterator[None]:
    """``held_store``; where the ledger is in a database, this folder knows inside what every machine has done before.

    Raises:
        StoreError, StoreBusy, PeerUnavailable: As ``held_store`` and ``join``.
        ConfigError, PeerRefused: As ``join``.
    """
    with held_store(config, purpose=purpose):
        join(config)
        yield


def join(config: RunConfig) -> None:
    """Makes the folder that of the one who writes from now on; call under its lock and the bucket's lease.

    A ledger that was SQLite's so far moves into the database.

    Raises:
        StoreError: The ledger is of another store or not in the database, or the config does not say where it is.
        ConfigError: The key is not here, or the driver of PostgreSQL is not installed.
        PeerUnavailable: The bucket or the database cannot be asked now.
        PeerRefused: One of them does not let us in.
    """
    workspace, address = Workspace(config.workspace_dir), config.ingest.ledger
    files = workspace.store
    if not address:
        _refuse_forgotten(files)
        return
    objects = objects_of(files, config.ingest.store)
    there = objects.content(files.settings_path)
    if _is_to_make(files, address, there):
        return
    if names_of_key(workspace.key_path) is None:
        raise ConfigError(
            f"The pseudonym key {workspace.key_path} is not here, and the store at {config.ingest.store} was made with one",
            expected="the key of the machine that made the store: under another one every patient is a stranger",
            remedy=f"copy its {workspace.key_path.name} here, mode 0600",
        )
    if there is not None:  # a bucket that has lost it gets it again from this folder
        if files.settings_path.exists():
            require_same(str(json.loads(there)["store_id"]), read_settings(files).store_id, files.settings_path)
        objects.fetch(keeps_own=True)
    settings = read_settings(files)
    require_key(files, settings.pseudonym_key_id)
    store_id = settings.store_id
    if _file_of(files).exists() and not _is_named(files):
        with StoreLedger(open_store(files.root)) as ledger:
            ledger.key_digests(open_key(workspace.key_path))
        fill(files, address, store_id)
    _take_turn(files, address, store_id)
    _drop_file(files)
    files.unfinished_path.unlink(missing_ok=True)


def maker_of_ledger(address: str) -> Callable[[Path, str], None]:
    """What makes the ledger of a new store at a path, for the store's id: in a file, or in the database of an address."""

    def make(path: Path, store_id: str) -> None:
        files = StoreFolder(path.parent)
        _name(_name_path(files), address, store_id)
        StoreLedger.make(_name_path(files), store_id)
        _take_turn(files, address, store_id)

    return make if address else StoreLedger.make


def copy_ledger(source: Path, target: Path) -> None:
    """Copies a ledger, as it is at one moment, into an empty one: all of it, or nothing.

    Raises:
        StoreError, PeerUnavailable: As ``Ledger``.
    """
    with closing(ledger_database(source)) as full, closing(ledger_database(target)) as empty:
        empty.make(TABLES_OF_STORE)
        with empty.transaction():
            for table in full.tables():
                empty.fill(table)
        empty.bring_to(StoreLedger.VERSION)


def fill(files: StoreFolder, address: str, store_id: str) -> bool:
    """Fills the database from the folder's file; false if the database knows the store already: it knows more than the file."""
    aside = files.root / f"moving-{_name_path(files).name}"
    _name(aside, address, store_id)
    with closing(ledger_database(aside)) as database:
        database.make(TABLES_OF_STORE)
        is_known = bool(database.query("SELECT 1 FROM identity"))
    if not is_known:
        copy_ledger(_file_of(files), aside)
    aside.replace(_name_path(files))
    return not is_known


def after_restoring(files: StoreFolder) -> str:
    """Of a ledger in a database, after an archive's files have taken their places: what became of it, in a sentence."""
    if not _is_named(files):
        return ""
    from tasks.adapters.databases.postgresql import NamedSchema  # late: the driver is an extra

    address, store_id = NamedSchema.read(_name_path(files)).address, read_settings(files).store_id
    is_filled = fill(files, address, store_id)
    _take_turn(files, address, store_id)
    _drop_file(files)
    return f"The ledger in {address} {'is filled from the archive' if is_filled else 'is there, and stays as it is'}."


def _is_to_make(files: StoreFolder, address: str, there: bytes | None) -> bool:
    """True if this run makes the store.

    One whose maker was killed when the database had its ledger already is made: another machine may have gone on with it.
    """
    if there is None:
        return files.unfinished_path.exists() or not files.settings_path.exists()
    return files.unfinished_path.exists() and not _is_known(files, address, str(json.loads(there)["store_id"]))


def _is_known(files: StoreFolder, address: str, store_id: str) -> bool:
    from tasks.adapters.databases.postgresql import PostgresqlSchema

    aside = files.root / f"asking-{_name_path(files).name}"
    _name(aside, address, store_id)
    try:
        database = PostgresqlSchema(aside, name="ledger", tables="", may_make=False)
    except StoreError:  # no such schema
        return False
    finally:
        aside.unlink()
    with closing(database):
        return database.has("identity") and bool(database.query("SELECT 1 FROM identity"))


def _take_turn(files: StoreFolder, address: str, store_id: str) -> None:
    from tasks.adapters.databases.postgresql import NamedSchema, PostgresqlSchema

    if not _is_named(files) or NamedSchema.read(_name_path(files)).address != address:
        _name(_name_path(files), address, store_id)
    with closing(PostgresqlSchema(_name_path(files), name="ledger", tables="", may_make=False)) as database:
        database.take_turn()


def _name(path: Path, address: str, store_id: str) -> None:
    from tasks.adapters.databases.postgresql import NamedSchema

    NamedSchema(address=address, schema=f"mammo_{store_id}").write(path)


def _drop_file(files: StoreFolder) -> None:
    """What moved into the database: a copy would keep what is withdrawn later."""
    for suffix in _COMPANIONS:
        _file_of(files).with_name(_file_of(files).name + suffix).unlink(missing_ok=True)


def _file_of(files: StoreFolder) -> Path:
    """A ledger as a file beside the one that names a database: it is to move, or comes out of an archive."""
    return files.ledger_path.with_suffix(".sqlite")


def _name_path(files: StoreFolder) -> Path:
    return files.ledger_path.with_suffix(NAMED)


def _is_named(files: StoreFolder) -> bool:
    return files.ledger_path.suffix == NAMED


def _refuse_forgotten(files: StoreFolder) -> None:
    if not _is_named(files):
        return
    raise StoreError(
        f"The ledger of {files.root} is in a database, and ingest.ledger of the config is empty",
        expected=f"the address that {_name_path(files).name} names",
        remedy="restore that setting",
    )
