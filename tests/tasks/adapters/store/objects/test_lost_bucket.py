"""An object store's process is killed and comes back with nothing in it: that is said, and all is read again from the files."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.commands.backup import backup, restore
from flows.ingest import ingest_steps
from mammo_tests.mortal_stores import MortalStore, mortal_stores
from mammo_tests.object_store import BUCKET, ENVIRONMENT, Fault, wire_to
from mammo_tests.other_systems import free_port
from mammo_tests.plain_tasks import PlainSubmit
from schemas.config.run import RunConfig
from schemas.errors import SourceUnavailable, StoreError
from schemas.layout import PIXELS
from schemas.reports.data import ScrubReport
from tasks.adapters.buckets import bucket as bucket_module
from tasks.adapters.buckets.bucket import bucket_at
from tasks.adapters.cluster import open_cluster
from tasks.adapters.inbox.publishing.elsewhere import published_elsewhere
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import published_rows, read_manifest
from tasks.adapters.store.objects.bucket_shards import shard_key
from tasks.adapters.store.objects.bucket_store import held_store
from tasks.adapters.workspace import Workspace
from tasks.scrub import after_repair, mark_damaged, read_everything, refuse_damage

MakeConfig = Callable[..., RunConfig]


def kills(server: MortalStore, *, at: bytes) -> Fault:
    """``kill -9`` of the server's process when it is to be sent this object."""

    def fault(head: bytes, client: socket.socket) -> bool:
        if at not in head.split(b"\r\n", 1)[0]:
            return False
        server.kill()
        client.close()
        return True

    return fault


def looked_through(config: RunConfig) -> ScrubReport:
    """What ``mammo scrub`` finds."""
    with held_store(config, purpose="scrub"), open_cluster(config.ingest.dask, files=1) as scheduler:
        return read_everything.fn(config, scheduler)


def repaired(config: RunConfig) -> ScrubReport:
    """The steps of ``mammo scrub --repair``; it ends well."""
    found = looked_through(config)
    with pytest.raises(StoreError, match="scrub --repair"):
        refuse_damage(found)
    with held_store(config, purpose="scrub --repair"):
        mark_damaged.fn(config, found)
    ingest_steps(config, submit=PlainSubmit())
    again = after_repair.fn(found, looked_through(config))
    refuse_damage(again)
    return again


def is_patient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long a request is tried again from now on."""
    monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=seconds))
    bucket_module.opened.cache_clear()


def test_a_server_that_is_killed_and_has_lost_everything_gets_it_again(
    two_exams: Path, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two shards: code 75, nothing is published. Back and empty: ingest says what to do, and repair does it.

    So it does when all was published, and so does a backup that is restored. The data version is that of a store on a disk.
    """
    on_disk = ingest_steps(make_config(tmp_path / "disk", two_exams), submit=PlainSubmit())
    address = f"s3://{BUCKET}/{uuid4().hex}"
    config = make_config(tmp_path / "workspace", two_exams, **{"ingest.store": address})
    elsewhere = make_config(tmp_path / "elsewhere", tmp_path, **{"store_dir": address})
    workspace = Workspace(config.workspace_dir)
    workspace.root.mkdir()
    shutil.copy(Workspace(tmp_path / "disk").key_path, workspace.key_path)
    ports = [free_port() for _ in range(4)]
    with wire_to(f"http://127.0.0.1:{ports[0]}") as wire, mortal_stores() as servers:
        settings = ENVIRONMENT | {"AWS_ENDPOINT_URL": wire.endpoint, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with servers.on(ports[0]) as server:
            wire.faults = [kills(server, at=f"PUT /{BUCKET}/{address.rsplit('/', 1)[1]}/{shard_key(PIXELS, 1)}".encode())]
            is_patient(monkeypatch, 0.1)
            with pytest.raises(SourceUnavailable, match="1 of 2 shards could not be written") as away:
                ingest_steps(config, submit=PlainSubmit())
            assert away.value.exit_code == 75 and server.exit_code == -signal.SIGKILL
        store = open_store(workspace.store_dir)
        with StoreLedger(store) as ledger:
            assert len(ledger.manifest_lines()) == 4 and published_rows(store) == {}
        is_patient(monkeypatch, 60.0)
        wire.faults, wire.server_port = [], ports[1]
        with servers.on(ports[1]) as server:
            with pytest.raises(StoreError, match=f"gone from {address}.*no exam store at all.*scrub --repair"):
                ingest_steps(config, submit=PlainSubmit())
            assert not [one.key for one in bucket_at(address).listed()]
            assert repaired(config).images_repaired == 4
            assert published_elsewhere(elsewhere).data_version == on_disk.data_version
            manifest = read_manifest(open_store(workspace.store_dir))
            server.kill()
        wire.server_port = ports[2]
        with servers.on(ports[2]) as server:
            with pytest.raises(StoreError, match=f"gone from {address}.*scrub --repair"):
                ingest_steps(config, submit=PlainSubmit())
            assert repaired(config).images_repaired == 8 and read_manifest(open_store(workspace.store_dir)).equals(manifest)
            assert published_elsewhere(elsewhere).data_version == on_disk.data_version
            backup(workspace.root, tmp_path / "archive.tar")
            server.kill()
        wire.server_port = ports[3]
        with servers.on(ports[3]):
            restore(tmp_path / "archive.tar", workspace.root)
            ingest_steps(config, submit=PlainSubmit())
            refuse_damage(looked_through(config))
            assert published_elsewhere(elsewhere).data_version == on_disk.data_version
