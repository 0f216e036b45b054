"""Opening a store whose shards lie in a bucket: its own folder, or the copy of what is small that another machine reads by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import uuid4

from schemas.config.ingest import StoreCacheConfig
from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.layout import BUCKET_SCHEME
from tasks.adapters.lock import held_lock
from tasks.adapters.store.parts import manifest_parts, require_arrays
from tasks.adapters.store.store_settings import StoreSettings, bucket_url, objects_of, read_settings
from tasks.adapters.workspace import StoreFolder, Workspace, exam_store_dir, write_atomically

if TYPE_CHECKING:
    from tasks.adapters.store.exam_store import ExamStore


def store_of_run(config: RunConfig) -> ExamStore:
    """The store that a run reads, with its config's cache.

    Copies of images that its manifest does not name any more are deleted first: they may have been withdrawn.

    Raises:
        StoreError: As ``open_store``.
        PeerUnavailable: The object store cannot be asked.
    """
    from tasks.adapters.store.exam_store import open_store  # late: it imports this module

    store, cache = open_store(exam_store_dir(config)), config.store_cache
    if not store.url:
        return store
    folder = store.cache_dir if cache.folder is None else cache.folder / store.store_id
    store = replace(store, cache_dir=folder, cache_bytes=cache.size_bytes)
    forget_copies(store)
    return store


@contextmanager
def held_store(config: RunConfig, *, purpose: str) -> Iterator[None]:
    """Holds a workspace's store for one writer: its folder's lock and, where its shards lie in a bucket, the bucket's lease.

    Raises:
        StoreBusy: Another process holds one of them, still after ``ingest.lock_wait_s``.
        StoreError: The folder cannot be made or written.
        PeerUnavailable: The object store cannot be asked.
    """
    files, wait_s = Workspace(config.workspace_dir).store, config.ingest.lock_wait_s
    with ExitStack() as held:  # the second asks what the folder says, when nobody else can write it
        held.enter_context(held_lock(files.root, purpose=purpose, wait_s=wait_s))
        held.enter_context(leased(files, config.ingest.store, purpose=purpose, wait_s=wait_s))
        yield


def leased(files: StoreFolder, url: str = "", *, purpose: str, wait_s: float = 0.0) -> AbstractContextManager[None]:
    """Holds the lease of a store in a bucket; of one on disk nothing.

    Args:
        files: The store's; its ``store.json`` names the address.
        url: The address, where there is no store yet.
        purpose: As of the lock.
        wait_s: As of the lock.

    Raises:
        StoreError: Another store is at the address.
        PeerUnavailable: The object store cannot be asked.
    """
    if not (address := bucket_url(files) or url.rstrip("/")):
        return nullcontext()
    from tasks.adapters.store.objects.lease import held_lease  # late: the client is an extra

    _refuse_another(files, address)
    return held_lease(address, purpose=purpose, wait_s=wait_s)


def _refuse_another(files: StoreFolder, address: str) -> None:
    """Another server may have another store under the same name, whose shards ours would take the places of."""
    if files.unfinished_path.exists() or not files.settings_path.exists():
        return
    there, own = objects_of(files, address).content(files.settings_path), read_settings(files).store_id
    found = own if there is None else str(json.loads(there).get("store_id"))
    if found != own:
        raise StoreError(
            f"Another exam store is at {address}; nothing was written there",
            expected=f"the store {own[:12]}, as {files.settings_path} says",
            got=f"the store {found[:12]}",
            remedy="see that server (AWS_ENDPOINT_URL) and bucket are the right ones",
        )


def as_it_lies(store: ExamStore) -> ExamStore:
    """The store as whoever looks for damage reads it: no copy, and no index that was read before, stands for what is there."""
    return replace(store, cache_dir=None, seen=uuid4().hex) if store.url else store


def lost(store: ExamStore) -> tuple[str, ...]:
    """What is small of a store in a bucket and gone from there; of one on disk the parts were looked at when it was opened."""
    return objects_of(store.files, store.url).gone() if store.url else ()


def put_again(store: ExamStore) -> None:
    """Makes a store of its address again where that has lost what is small of it (``PublishedObjects.put_again``)."""
    if lost(store):
        objects_of(store.files, store.url).put_again()


def forget_copies(store: ExamStore) -> None:
    """Deletes copies of images that the manifest in force does not name; asked once for each manifest."""
    from tasks.adapters.store.objects.chunk_cache import ChunkCache

    if store.cache_dir is None or not store.cache_dir.exists():
        return
    tidied_path = store.cache_dir / "manifest"
    if tidied_path.exists() and tidied_path.read_text() == store.seen:
        return
    rows: set[int] = set()
    if store.manifest_path.exists():
        for part in manifest_parts(store.files, store.store_id, ["row"]):
            rows.update(part["row"].to_pylist())
    ChunkCache(store.cache_dir, store.cache_bytes).keep_only(rows)
    write_atomically(tidied_path, store.seen.encode())


def mirrored_url(folder: Path) -> str:
    """Address of the store in a bucket that a folder holds the small parts of; "" = its own folder (``exam_store_dir``)."""
    url = unquote(folder.name)
    return url if url.startswith(BUCKET_SCHEME) else ""


def fetched(files: StoreFolder, url: str) -> StoreSettings:
    """Makes a folder's files those of a store in a bucket; what the store was made with.

    Raises:
        StoreError: There is none, or a part of it is missing, damaged or of another store.
        PeerUnavailable: The object store cannot be asked.
    """
    objects_of(files, url).fetch()
    settings = read_settings(files).model_copy(update={"url": url})
    require_arrays(files, settings.store_id)
    return settings


def beside_the_bucket(files: StoreFolder, settings: StoreSettings) -> dict[str, Any]:
    """What an ``ExamStore`` must know of a bucket: its address, the manifest that was seen last, and where copies are kept."""
    workspace = files.root.parents[1] if mirrored_url(files.root) else files.root.parent
    return {
        "url": settings.url,
        "seen": objects_of(files, settings.url).manifest_tag,
        "cache_dir": Workspace(workspace).store_cache_dir / settings.store_id,
        "cache_bytes": StoreCacheConfig().size_bytes,
    }
