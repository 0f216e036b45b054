"""``mammo backup`` and ``mammo restore``: what cannot be made again. Pixels can be, checkpoints are files to copy.

In the archive: the ledger, the manifest, the store's description, the pseudonym key and the embedded server's database. With
the key in it, it is as secret as the key. A PostgreSQL server is backed up by ``pg_dump`` (docs/how-to/run-on-a-cluster.md).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from deployments.server.prefect_server import running_server
from schemas.errors import ConfigError, StoreError
from tasks.adapters.inbox.ledger import copy_database
from tasks.adapters.workspace import Workspace, held_lock, sync, write_atomically

_DATABASES = ("exam_store/ledger.sqlite", "prefect/prefect.db")
_FILES = ("exam_store/manifest.parquet", "exam_store/store.json", "exam_store/quarantine.csv", "pseudonym.key", "prefect/auth")
_DIGESTS = "SHA256SUMS.json"

WorkspaceDir = Annotated[Path, typer.Argument(help="The workspace")]
Archive = Annotated[Path, typer.Argument(help="The archive, a .tar file")]


def backup(workspace: WorkspaceDir, archive: Archive) -> None:
    """Write ledger, manifest, pseudonym key and server database to one archive, mode 0600; runs may go on meanwhile."""
    if not (workspace / _DATABASES[0]).exists():
        raise ConfigError(f"There is no ledger in {workspace}", expected="a workspace with an exam store")
    with tempfile.TemporaryDirectory(dir=archive.resolve().parent) as folder:
        content = dict(_content(workspace, Path(folder)))
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    aside = archive.with_name(f".{archive.name}.part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, data in {_DIGESTS: json.dumps(digests).encode(), **content}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o600
                tar.addfile(entry, io.BytesIO(data))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(archive)
    sync(archive.resolve().parent)
    typer.echo(f"{archive}: {', '.join(content)}. It holds the pseudonym key: keep it as secret as the key.")


def restore(archive: Archive, workspace: WorkspaceDir) -> None:
    """Put an archive's content back into a workspace that nobody uses; what is there is replaced.

    The manifest in the archive names what readers see; images written after the backup are ingested again by the next run.
    """
    content = _checked(archive)
    home = workspace / "prefect"
    if (address := running_server(home)) is not None:
        raise StoreError("The workspace's server is running", got=address, remedy="stop `mammo serve` and other commands first")
    with held_lock(Workspace(workspace.resolve()).store_dir, purpose="restore"):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, data in content.items():
            path = workspace / name
            for suffix in ("-wal", "-shm"):  # of the database that is replaced: they would be played into the new one
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            write_atomically(path, data)
            path.chmod(0o600)
    typer.echo(f"Restored {', '.join(content)} into {workspace}.")


def _content(workspace: Path, aside: Path) -> Iterator[tuple[str, bytes]]:
    for name in _DATABASES:
        if (workspace / name).exists():
            copy = aside / Path(name).name
            copy_database(workspace / name, copy)
            yield name, copy.read_bytes()
    for name in _FILES:
        if (workspace / name).exists():
            yield name, (workspace / name).read_bytes()


def _checked(archive: Path) -> dict[str, bytes]:
    """The archive's files, none of them altered and none of a name that we do not write."""
    try:
        with tarfile.open(archive) as tar:
            content = {entry.name: file.read() for entry in tar if (file := tar.extractfile(entry)) is not None}
        digests = json.loads(content.pop(_DIGESTS))
    except (OSError, KeyError, ValueError, tarfile.TarError) as unreadable:
        got = type(unreadable).__name__
        raise StoreError(f"{archive} is no backup", expected="an archive of `mammo backup`", got=got) from unreadable
    is_ours = set(content) == set(digests) <= {*_DATABASES, *_FILES}
    if not is_ours or any(hashlib.sha256(data).hexdigest() != digests[name] for name, data in content.items()):
        raise StoreError(f"{archive} is damaged", expected="the digests it carries", remedy="take an older backup")
    return content
