"""Two exams go into a bucket, and what is read there is what a disk would hold: by the writer, and by another machine."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from distributed import Client, LocalCluster
from pytest import MonkeyPatch

from deployments.commands import doctor
from deployments.commands.backup import backup, restore
from flows.ingest import ingest_steps
from mammo_tests.elsewhere import UNSHARE, why_not, worker_elsewhere
from mammo_tests.object_store import BUCKET, ENVIRONMENT, answers, wire_to
from mammo_tests.other_systems import free_port
from mammo_tests.plain_tasks import PlainSubmit
from mammo_tests.seams import ROOT
from schemas.config.run import RunConfig
from schemas.errors import MammoError, PeerRefused, SourceUnavailable, StoreBusy, StoreError
from schemas.layout import LESION_MASK, PIXELS
from schemas.reports.data import ScrubReport
from tasks.adapters.buckets import bucket as bucket_module
from tasks.adapters.buckets.bucket import Bucket, bucket_at
from tasks.adapters.cluster import open_cluster
from tasks.adapters.inbox.publishing.elsewhere import published_elsewhere
from tasks.adapters.inbox.withdrawals.withdrawal import Withdrawal, add_to_log
from tasks.adapters.pages.withdrawn import finish_withdrawals
from tasks.adapters.store import exam_store
from tasks.adapters.store.exam_store import SET_ASIDE, ExamStore, bucket_shards, open_store, read_row
from tasks.adapters.store.manifest import lines_of, publish, published_rows, read_manifest
from tasks.adapters.store.objects.bucket_shards import shard_key
from tasks.adapters.store.objects.bucket_store import held_store, mirrored_url, store_of_run
from tasks.adapters.store.objects.lease import held_lease
from tasks.adapters.workspace import Workspace
from tasks.scrub import after_repair, mark_damaged, read_everything

MakeConfig = Callable[..., RunConfig]
WHY_NOT = why_not()


@pytest.fixture(scope="module")
def ingested(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory, cohort_dir: Path, make_config: MakeConfig) -> Any:
    """The same two exams in a store on disk and in one in a bucket, under one key; their configs and reports."""
    folder = tmp_path_factory.mktemp("ingested")
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    left_out = (*(exam.name for exam in exams[2:]), "CANARY-*")
    shutil.copytree(cohort_dir, folder / "cohort", ignore=shutil.ignore_patterns(*left_out))
    with MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_endpoint}.items():
            patch.setenv(name, value)
        made = []
        for name, url in (("disk", ""), ("bucket", f"s3://{BUCKET}/{uuid4().hex}")):
            config = make_config(folder / name, folder / "cohort", **{"ingest.store": url})
            if url:
                Workspace(config.workspace_dir).root.mkdir()
                shutil.copy(Workspace(folder / "disk").key_path, Workspace(config.workspace_dir).key_path)
            made.append((config, ingest_steps(config, submit=PlainSubmit())))
        yield made


@pytest.fixture
def reader(ingested: Any, s3: str, tmp_path: Path, make_config: MakeConfig) -> RunConfig:
    """Another machine's run, which reads the store in the bucket."""
    return make_config(tmp_path / "elsewhere", tmp_path, **{"store_dir": ingested[1][0].ingest.store})


def same_images(one: ExamStore, other: ExamStore) -> bool:
    """True if two stores hold the same images and masks under the same names."""
    return all(
        np.array_equal(read_row(one, row, name), read_row(other, published_rows(other)[image], name))
        for image, row in published_rows(one).items()
        for name in (PIXELS, LESION_MASK)
    )


def test_the_same_images_are_the_same_data_wherever_they_lie(ingested: Any, s3: str) -> None:
    """data_version, rows, pixels and masks; the ledger and the key are on this machine alone, the shards in the bucket."""
    (on_disk, said_of_disk), (in_bucket, said_of_bucket) = ingested
    disk, bucket = (open_store(Workspace(config.workspace_dir).store_dir) for config in (on_disk, in_bucket))
    assert said_of_disk.data_version == said_of_bucket.data_version and said_of_bucket.images_published == 8
    assert published_rows(disk) == published_rows(bucket) and same_images(disk, bucket)
    keys = {one.key for one in bucket_at(bucket.url).listed()}
    assert {"store.json", "manifest.parquet"} <= keys and not any("ledger" in key or "key" in key for key in keys)
    assert bucket_at(bucket.url).get("manifest.parquet")[0] == bucket.manifest_path.read_bytes()
    assert "writer.json" not in keys


def by_workers(disk: RunConfig, name: str, scheduler: str, make_config: MakeConfig) -> RunConfig:
    """The same exams from a bucket into a bucket by a scheduler's workers, in a workspace that holds the key alone."""
    exams_dir, inbox, store = disk.ingest.source_dir, *(f"s3://{BUCKET}/{uuid4().hex}" for _ in range(2))
    for path in exams_dir.rglob("*.dcm"):
        bucket_at(inbox).put(path.relative_to(exams_dir).as_posix(), path)
    changes = {"source": inbox, "source_dir": None, "store": store, "dask": {"kind": "address", "address": scheduler}}
    folder = disk.workspace_dir.parent
    config = make_config(folder / name, folder / "cohort", **{f"ingest.{each}": value for each, value in changes.items()})
    workspace = Workspace(config.workspace_dir)
    workspace.root.mkdir()
    shutil.copy(Workspace(disk.workspace_dir).key_path, workspace.key_path)
    return config


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_workers_need_neither_the_exams_nor_the_store_nor_our_network(
    ingested: Any, s3: str, tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig
) -> None:
    """A Dask worker that sees the key alone, and reaches scheduler and object store alone, writes and reads the same data."""
    disk: RunConfig = ingested[0][0]
    exams_dir = disk.ingest.source_dir
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        config = by_workers(disk, "far", cluster.scheduler_address, make_config)
        workspace = Workspace(config.workspace_dir)
        hidden, sockets = [exams_dir, workspace.root, disk.workspace_dir], tmp_path_factory.mktemp("w")
        with (
            socket.create_server(("127.0.0.1", 0)) as not_named,
            worker_elsewhere(
                cluster.scheduler_address,
                hidden=hidden,
                kept=[workspace.key_path],
                ports=[int(s3.rsplit(":")[-1])],
                folder=sockets,
            ),
            Client(cluster.scheduler_address, set_as_default=False) as client,
        ):
            assert [client.submit(os.listdir, path).result() for path in hidden] == [[], [workspace.key_path.name], []]
            with pytest.raises(ConnectionRefusedError):
                client.submit(socket.create_connection, not_named.getsockname(), retries=0).result()
            report = ingest_steps(config, submit=PlainSubmit())
            assert (report.data_version, report.images_new) == (ingested[0][1].data_version, 8)
            found = read_everything.fn(config, cluster.scheduler_address)
            assert (found.images_read, found.damaged_image_ids) == (8, ())
    assert same_images(open_store(Workspace(disk.workspace_dir).store_dir), open_store(workspace.store_dir))


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_workers_are_started_by_the_lines_of_the_page(
    ingested: Any, s3: str, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/how-to/scale-out.md, typed in: the worker sees the key alone in the workspace, and writes the same data."""
    disk, port = ingested[0][0], free_port()
    config = by_workers(disk, "typed", f"tcp://127.0.0.1:{port}", make_config)
    page = (ROOT / "docs/how-to/scale-out.md").read_text()
    typed = page.split("```\ndask scheduler", 1)[1].split("```", 1)[0]
    scheduler, worker = f"dask scheduler{typed}".replace("8786", str(port)).split("\n", 1)
    worker = worker.replace("/data/writer", shlex.quote(str(config.workspace_dir)))
    worker = worker.replace("unshare -m", shlex.join(one for one in UNSHARE if one != "--net"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with ExitStack() as running:
        for name, lines in (("scheduler", scheduler), ("worker", worker)):
            said = running.enter_context((tmp_path / name).open("wb"))
            process = subprocess.Popen(["bash", "-c", lines], stdout=said, stderr=said, start_new_session=True)
            running.callback(process.wait)
            running.callback(os.killpg, process.pid, signal.SIGKILL)
        client = running.enter_context(Client(f"tcp://127.0.0.1:{port}", timeout=300, set_as_default=False))
        client.wait_for_workers(1, timeout=300)
        assert client.submit(os.listdir, config.workspace_dir).result() == ["pseudonym.key"]
        report = ingest_steps(config, submit=PlainSubmit())
    assert (report.data_version, report.images_new) == (ingested[0][1].data_version, 8)


def test_another_machine_reads_by_the_address_alone(ingested: Any, reader: RunConfig) -> None:
    """Manifest, pixels and what a stage must know of the ingest, with the data version that the writer said."""
    report = published_elsewhere(reader)
    said = ingested[1][1]
    assert (report.data_version, report.exams, report.labelled_breasts) == (said.data_version, 2, said.labelled_breasts)
    assert report.seen == said.seen and mirrored_url(report.store_dir) == reader.store_dir
    store = store_of_run(reader)
    assert same_images(open_store(Workspace(ingested[0][0].workspace_dir).store_dir), store)
    assert store.cache_dir is not None and store.cache_dir.is_relative_to(reader.workspace_dir)
    assert len([path for path in store.cache_dir.glob("pixels/*/*") if path.is_file()]) == 8
    with pytest.raises(StoreError, match="There is no exam store at"):
        store_of_run(reader.model_copy(update={"store_dir": f"{reader.store_dir}-none"}))


def test_what_was_taken_out_leaves_the_cache_of_another_machine(ingested: Any, reader: RunConfig) -> None:
    """Whoever opens the store under another manifest deletes copies of images that it does not name."""
    store = store_of_run(reader)
    rows = published_rows(store)
    for row in rows.values():
        read_row(store, row)
    writer = open_store(Workspace(ingested[1][0].workspace_dir).store_dir)
    lines = sorted(lines_of(read_manifest(writer)), key=lambda line: int(line["row"]))
    publish(writer, lines[1:], [])
    again = store_of_run(reader)
    assert len(published_rows(again)) == 7 and again.seen != store.seen and again.cache_dir is not None
    kept = {int(path.name.split("-")[0]) for path in again.cache_dir.glob("pixels/*/*")}
    assert kept == set(rows.values()) - {int(lines[0]["row"])}
    publish(writer, lines, [])


def test_a_workspace_that_was_overtaken_publishes_nothing(ingested: Any, s3: str, tmp_path: Path) -> None:
    """A copy of the workspace that has not seen the manifest in force replaces neither it nor its own."""
    there = Workspace(ingested[1][0].workspace_dir)
    copy = Workspace(tmp_path / "copy")
    shutil.copytree(there.root, copy.root)
    writer, late = open_store(there.store_dir), open_store(copy.store_dir)
    lines = lines_of(read_manifest(writer))
    publish(writer, lines[1:], [])
    before = late.manifest_path.read_bytes()
    for asked in (lines[2:], lines):  # another content, and one that is there no more
        with pytest.raises(StoreError, match="Another workspace publishes at"):
            publish(late, asked, [])
    assert late.manifest_path.read_bytes() == before and len(published_rows(open_store(there.store_dir))) == len(lines) - 1
    publish(writer, lines, [])


def test_another_store_at_the_address_stays_as_it_is(ingested: Any, s3: str) -> None:
    """A server that was named by mistake has another store of the same name: the writer is told before it writes a shard."""
    config = ingested[1][0]
    bucket = bucket_at(config.ingest.store)
    own = bucket.get("store.json")[0]
    bucket.put("store.json", json.dumps({**json.loads(own), "store_id": uuid4().hex}).encode())
    before = {(one.key, one.etag) for one in bucket.listed()}
    for purpose in ("scrub --repair", "withdraw"):
        with pytest.raises(StoreError, match="Another exam store is at"), held_store(config, purpose=purpose):
            pass
    with pytest.raises(StoreError, match="Another exam store is at"):
        ingest_steps(config, submit=PlainSubmit())
    assert {(one.key, one.etag) for one in bucket.listed()} == before
    bucket.put("store.json", own)


def test_an_answer_that_was_lost_is_no_loss(ingested: Any, s3: str) -> None:
    """A manifest that was put, and of which nobody heard, is ours: the next one takes its place."""
    store = open_store(Workspace(ingested[1][0].workspace_dir).store_dir)
    lines = lines_of(read_manifest(store))
    before = json.loads(store.files.objects_path.read_bytes())
    publish(store, lines[1:], [])
    put = json.loads(store.files.objects_path.read_bytes())["manifest.parquet"]
    known = before["manifest.parquet"]
    state = {**before, "manifest.parquet": {**known, "sent": [put["sha256"]]}}
    store.files.objects_path.write_text(json.dumps(state))
    publish(store, lines, [])
    assert len(published_rows(store)) == len(lines)
    assert bucket_at(store.url).get("manifest.parquet")[0] == store.manifest_path.read_bytes()


def test_a_store_whose_making_was_killed_is_made_in_another_bucket_too(
    s3: str, tmp_path: Path, cohort_dir: Path, make_config: MakeConfig
) -> None:
    """The first one was emptied, or was the wrong one: what the killed maker had put there is not asked for again."""
    addresses = [f"s3://{BUCKET}/{uuid4().hex}" for _ in range(2)]
    config, other = (make_config(tmp_path / "workspace", cohort_dir, **{"ingest.store": one}) for one in addresses)
    with MonkeyPatch.context() as patch:
        patch.setattr(exam_store, "make_arrays", _killed)
        with pytest.raises(KeyboardInterrupt):
            ingest_steps(config, submit=PlainSubmit())
    assert [one.key for one in bucket_at(addresses[0]).listed()] == ["store.json"]
    assert ingest_steps(other, submit=PlainSubmit()).images_published == 32


def _killed(*_given: object) -> None:
    raise KeyboardInterrupt


def test_a_second_machines_ingest_is_refused(ingested: Any, s3: str) -> None:
    """While another holds the bucket's lease, with exit code 75; its own folder's lock is free again afterwards."""
    config: RunConfig = ingested[1][0]
    with held_lease(config.ingest.store, purpose="ingest"), pytest.raises(StoreBusy, match="ingest by pid") as refused:
        ingest_steps(config, submit=PlainSubmit())
    assert refused.value.exit_code == 75
    with held_store(config, purpose="test"):
        pass


def looked_through(config: RunConfig) -> ScrubReport:
    """What scrub says of a store, by a thread of this process."""
    with open_cluster(config.ingest.dask, files=1) as scheduler:
        return read_everything.fn(config, scheduler)


@pytest.mark.parametrize(("answer", "error"), [("503 Slow Down", SourceUnavailable), ("403 Forbidden", PeerRefused)])
def test_what_the_object_store_does_not_give_is_not_damaged(
    ingested: Any, s3: str, monkeypatch: pytest.MonkeyPatch, answer: str, error: type[MammoError]
) -> None:
    """Overloaded, it is asked again later (75); closed to us, that is said (9). Neither is a list of damage."""
    config: RunConfig = ingested[1][0]
    monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=0.1))
    with wire_to(s3) as wire:
        wire.faults = [answers(answer, times=10**6, to=b"/c/")]
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        with pytest.raises(error, match="The store's bucket"):
            looked_through(config)
    bucket_module.opened.cache_clear()
    assert not (Workspace(config.workspace_dir).stage_dir("scrub") / "damage.csv").exists()


def test_damage_in_the_bucket_is_found_and_mended(ingested: Any, s3: str) -> None:
    """A flipped bit, an index that is none, and a mask's shard that is gone, although copies of all lie in the cache."""
    config: RunConfig = ingested[1][0]
    store = store_of_run(config)
    before, bucket = read_manifest(store), bucket_at(store.url)
    assert all(read_row(store, row).any() for row in before["row"]) and looked_through(config).damaged_image_ids == ()
    masked_shard = int(before.loc[before["has_lesion_mask"], "row"].iloc[0]) // store.rows_per_shard
    for shard, place in ((0, 20), (1, -1)):
        content = bytearray(bucket.get(shard_key(PIXELS, shard))[0])
        content[place] ^= 1
        bucket.put(shard_key(PIXELS, shard), bytes(content))
    bucket.delete(shard_key(LESION_MASK, masked_shard))
    found = looked_through(config)
    assert len(found.damaged_image_ids) >= 5 and found.images_read == 8
    mark_damaged.fn(config, found)
    assert any(key.endswith(SET_ASIDE) for _, key in bucket_shards(store).keys(PIXELS))
    ingest_steps(config, submit=PlainSubmit())
    again = after_repair.fn(found, looked_through(config))
    assert (again.damaged_image_ids, again.images_lost) == ((), 0) and read_manifest(store).equals(before)
    assert not any(key.endswith(SET_ASIDE) for _, key in bucket_shards(store).keys(PIXELS))


def test_what_is_withdrawn_is_in_no_object_and_no_copy_and_a_backup_brings_the_rest_back(
    ingested: Any, s3: str, tmp_path: Path
) -> None:
    """Its bytes leave the bucket and the cache; from a backup the workspace goes on elsewhere without reading a file again."""
    config: RunConfig = ingested[1][0]
    workspace, store = Workspace(config.workspace_dir), store_of_run(config)
    line = next(line for line in lines_of(read_manifest(store)) if line["has_lesion_mask"])
    row, bucket = int(line["row"]), bucket_at(store.url)
    stored = [bucket_shards(replace(store, cache_dir=None)).chunk(name, row) for name in (PIXELS, LESION_MASK)]
    read_row(store, row)
    backup(workspace.root, tmp_path / "archive.tar")
    gone = Withdrawal(
        name=line["image_id"],
        names=(line["image_id"],),
        reason="test",
        withdrawn_by="test",
        withdrawn_utc="2026-01-01T00:00:00+00:00",
    )
    add_to_log(workspace.store, [gone])
    finish_withdrawals(workspace)
    contents = [bucket.get(one.key)[0] for one in bucket.listed()]
    contents += [path.read_bytes() for path in workspace.store_cache_dir.rglob("*") if path.is_file()]
    assert all(chunk is not None and all(chunk not in content for content in contents) for chunk in stored)
    assert len(published_rows(open_store(workspace.store_dir))) == 7

    (tmp_path / "withdrawn").write_bytes(workspace.store.withdrawn_path.read_bytes())
    elsewhere = Workspace(tmp_path / "restored")
    elsewhere.store_dir.mkdir(parents=True)
    shutil.copy(tmp_path / "withdrawn", elsewhere.store.withdrawn_path)
    restore(tmp_path / "archive.tar", elsewhere.root)
    again = config.model_copy(update={"workspace_dir": elsewhere.root})
    assert looked_through(again).damaged_image_ids == () and len(published_rows(store_of_run(again))) == 7
    assert ingest_steps(again, submit=PlainSubmit()).images_new == 0
    lines = lines_of(read_manifest(open_store(workspace.store_dir)))
    publish(open_store(elsewhere.store_dir), lines[1:], [])
    with pytest.raises(StoreError, match="Another workspace publishes at"):
        publish(open_store(workspace.store_dir), lines, [])


def test_the_doctor_asks_the_object_store(ingested: Any, reader: RunConfig, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that answers, one without a store, and a server that takes no notice of conditions."""

    def said(config: RunConfig) -> list[tuple[bool, str]]:
        return [(one.is_well, one.found) for one in doctor.examine(config) if one.check == "store"]

    writer: RunConfig = ingested[1][0]
    assert said(writer) == [(True, f"{writer.ingest.store} answers, and keeps two writers apart")]
    assert said(reader) == [(True, f"{reader.store_dir} answers, and holds a store")]
    assert [well for well, _ in said(reader.model_copy(update={"store_dir": f"{reader.store_dir}-none"}))] == [False]
    put = Bucket.put
    monkeypatch.setattr(Bucket, "put", lambda self, key, content, **condition: put(self, key, content))
    [(is_well, found)] = said(writer)
    assert not is_well and "takes no notice of conditions" in found


def test_the_doctor_misses_the_key_of_whoever_made_the_store(ingested: Any, tmp_path: Path) -> None:
    """A machine that is to go on with a store needs it before its first ingest; where there is no store, that makes one."""
    writer: RunConfig = ingested[1][0]
    for store, is_well in ((writer.ingest.store, False), (f"{writer.ingest.store}-none", True)):
        ingest = writer.ingest.model_copy(update={"store": store})
        config = writer.model_copy(update={"workspace_dir": tmp_path, "ingest": ingest})
        (said,) = (one for one in doctor.examine(config) if one.check == "key")
        assert said.is_well == is_well and said.is_well == (not said.remedy)
        assert said.is_well or f"{store} holds a store" in said.found
