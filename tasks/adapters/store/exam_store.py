"""The exam store on disk: zarr arrays filled by whole shards, and the manifest that says which rows are published.

Laws: one shard has one writer; a row exists for readers only when the manifest names it; the manifest is replaced in one
rename. Layout and columns: ``schemas.layout``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

from schemas.config.ingest import PreprocessConfig
from schemas.config.training import StoreReader
from schemas.errors import StoreError
from schemas.layout import LESION_MASK, PIXELS
from tasks.adapters.store.objects.bucket_store import beside_the_bucket, fetched, mirrored_url
from tasks.adapters.store.parts import is_unmade, making, require_key, require_parts, write_arrays_id
from tasks.adapters.store.shard_file import COMPRESSION_LEVEL, COMPRESSOR, ShardFile, is_index_sound
from tasks.adapters.store.store_settings import StoreSettings, claim_address, objects_of, read_settings, write_settings
from tasks.adapters.store.tensorstore_reader import is_usable, read_chunk
from tasks.adapters.workspace import StoreFolder, delete_leftovers

if TYPE_CHECKING:
    from tasks.adapters.store.objects.bucket_shards import BucketShards

_SAMPLED_ROWS = 64
SET_ASIDE = ".damaged"
"""Ending of a shard's file that nobody can read and that is kept until its images are written again."""


@dataclass(frozen=True, slots=True)
class ExamStore:
    """A store folder. Cheap to make and to pickle; opens files only when asked.

    Attributes:
        folder: The store's folder.
        rows_per_shard: Images of one shard, one writer's whole work.
        canvas_px: (rows, columns) stored per image.
        store_id: Carried by each of its parts; empty in a store of a former release.
        url: Where the shards lie, if not in the folder: ``s3://bucket/prefix``.
        seen: Of a store in a bucket, which manifest this folder has seen last.
        cache_dir: Copies of what was read from the bucket; None = none are kept.
        cache_bytes: At most.
    """

    folder: Path
    rows_per_shard: int
    canvas_px: tuple[int, int]
    store_id: str = ""
    url: str = ""
    seen: str = ""
    cache_dir: Path | None = None
    cache_bytes: int = 0

    @property
    def files(self) -> StoreFolder:
        """Its files by name."""
        return StoreFolder(self.folder)

    @property
    def manifest_path(self) -> Path:
        """One line per published image."""
        return self.files.manifest_path

    @property
    def ledger_path(self) -> Path:
        """See ``tasks.adapters.inbox.ledger``."""
        return self.files.ledger_path

    @property
    def quarantine_path(self) -> Path:
        """One line per refused file."""
        return self.files.quarantine_path


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image for its row.

    Attributes:
        pixels_HW: Crop (rows, columns), at most the canvas in size.
        mask_HW: Lesion bits in the same frame; None = none.
    """

    row: int
    pixels_HW: NDArray[np.uint16]
    mask_HW: NDArray[np.uint8] | None = None


def create_store(
    folder: Path,
    *,
    preprocess: PreprocessConfig,
    preprocess_version: str,
    rows_per_shard: int,
    key_id: str,
    url: str = "",
    make_ledger: Callable[[Path, str], None] = lambda path, store_id: path.touch(mode=0o600),
) -> ExamStore:
    """Creates the store in an empty folder, or opens it for writing if it is there with the same settings.

    Args:
        folder: The store's.
        preprocess: What its crops are made with.
        preprocess_version: Of the code that makes them.
        rows_per_shard: Images of one shard.
        key_id: Names the key of its pseudonyms.
        url: Where its shards lie, if not in the folder.
        make_ledger: Makes the ledger at a path, for a store of an id.

    Raises:
        StoreError: A store made with other settings is there: its rows would not mean the same. Or a part of it is missing,
            damaged, or of another store: no part is made anew beside the others.
    """
    files = StoreFolder(folder)
    wanted = StoreSettings(
        preprocess=preprocess,
        preprocess_version=preprocess_version,
        rows_per_shard=rows_per_shard,
        pseudonym_key_id=key_id,
        store_id=uuid4().hex,
        url=url.rstrip("/"),
    )
    if is_unmade(files):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with making(files):
            if wanted.url:
                objects_of(files, wanted.url).require_conditions()
                objects_of(files, wanted.url).forget_gone()  # a killed maker's, in a bucket that was emptied, or another one
            claim_address(files, wanted)
            make_arrays(files, wanted)
            make_ledger(files.ledger_path, wanted.store_id)
            write_settings(files, wanted)
    found = read_settings(files)
    require_key(files, found.pseudonym_key_id)
    if changed := wanted.changed(found):
        raise StoreError(
            f"The store at {folder} was made with other settings: {', '.join(changed)}",
            expected={name: getattr(found, name) for name in changed},
            got={name: getattr(wanted, name) for name in changed},
            remedy="restore those settings, or name a new workspace_dir",
        )
    require_parts(files, found.store_id, for_writing=True)
    return _store(folder, found)


def make_arrays(files: StoreFolder, settings: StoreSettings) -> None:
    """Makes arrays that hold no row yet; those that are there stay as they are."""
    canvas = settings.preprocess.canvas_px
    group = zarr.open_group(files.pixels_dir, mode="a")
    for name, dtype in ((PIXELS, "uint16"), (LESION_MASK, "uint8")):
        if name not in group:
            group.create_array(
                name,
                shape=(0, *canvas),
                chunks=(1, *canvas),
                shards=(settings.rows_per_shard, *canvas),
                dtype=dtype,
                compressors=[
                    BloscCodec(cname=COMPRESSOR, clevel=COMPRESSION_LEVEL, shuffle=BloscShuffle.bitshuffle),
                    Crc32cCodec(),
                ],
                fill_value=0,
            )
    if settings.store_id:
        write_arrays_id(files, settings.store_id)
    if settings.url:
        objects_of(files, settings.url).put_arrays()


def open_store(folder: Path) -> ExamStore:
    """Opens a store for reading; makes nothing. Of another workspace's store in a bucket, what is small is fetched first.

    Raises:
        StoreError: There is none, it has another layout, or a part of it is missing, damaged, or of another store.
        ConfigError: The key beside it is damaged.
        PeerUnavailable: The object store cannot be asked.
    """
    if url := mirrored_url(folder):
        return _store(folder, fetched(StoreFolder(folder), url))
    settings = read_settings(StoreFolder(folder))
    require_key(StoreFolder(folder), settings.pseudonym_key_id)
    require_parts(StoreFolder(folder), settings.store_id, for_writing=False)
    return _store(folder, settings)


def _store(folder: Path, settings: StoreSettings) -> ExamStore:
    store = ExamStore(folder, settings.rows_per_shard, settings.preprocess.canvas_px, settings.store_id)
    return replace(store, **beside_the_bucket(StoreFolder(folder), settings)) if settings.url else store


# ------------------------------------------------------------------------------------------------------------- writing


def reserve_rows(store: ExamStore, rows: int) -> None:
    """Grows the arrays to whole shards that hold ``rows`` rows, and deletes what killed writers left.

    Call under the store's lock, before any writer starts.
    """
    delete_leftovers(store.folder)
    whole = -(-rows // store.rows_per_shard) * store.rows_per_shard
    for name in (PIXELS, LESION_MASK):
        array = _open_array(store, name, mode="r+")
        if array.shape[0] < whole:
            array.resize((whole, *store.canvas_px))
    if store.url:
        objects_of(store.files, store.url).put_arrays()


def reserved_rows(store: ExamStore) -> int:
    """Rows that the arrays have place for."""
    return int(_open_array(store, PIXELS, mode="r").shape[0])


def write_shard(store: ExamStore, shard: int, images: Iterable[StoredImage]) -> None:
    """Writes one whole shard as its images come; it is on disk when this returns, and unchanged if it raises.

    Rows of the shard that were written before and do not come now keep their content. The shard's file is replaced in one
    rename, so a reader of those rows sees the old file or the new one.

    Args:
        store: Where.
        shard: Index of the shard; the caller is its only writer.
        images: Taken one at a time, so that one image is in memory.
    """
    start = shard * store.rows_per_shard
    with shard_file(store, LESION_MASK, shard) as masks, shard_file(store, PIXELS, shard) as pixels:
        for image in images:
            pixels.add(image.row - start, image.pixels_HW)
            if image.mask_HW is None:
                masks.drop(image.row - start)  # an earlier attempt may have left one
            else:
                masks.add(image.row - start, image.mask_HW)


def shard_path(store: ExamStore, name: str, shard: int) -> Path:
    """Where an array of a store on disk keeps one of its shards."""
    return store.files.shard_path(name, shard)


def shard_file(store: ExamStore, name: str, shard: int) -> AbstractContextManager[ShardFile]:
    """A writer of one shard of an array."""
    if store.url:
        return bucket_shards(store).writer(name, shard)
    path = shard_path(store, name, shard)
    dtype = np.uint16 if name == PIXELS else np.uint8
    return ShardFile(path, rows=store.rows_per_shard, canvas_px=store.canvas_px, dtype=dtype)


# ------------------------------------------------------------------------------------------------------------- reading


def bucket_shards(store: ExamStore) -> BucketShards:
    """The shards of a store in a bucket."""
    from tasks.adapters.buckets.bucket import bucket_at  # late: the client is an extra
    from tasks.adapters.store.objects.bucket_shards import BucketShards
    from tasks.adapters.store.objects.chunk_cache import ChunkCache

    cache = None if store.cache_dir is None else ChunkCache(store.cache_dir, store.cache_bytes)
    return BucketShards(bucket_at(store.url), store.rows_per_shard, store.canvas_px, store.seen, cache)


def set_aside_unreadable_shards(store: ExamStore, rows: Iterable[int]) -> None:
    """Renames the shards of these rows whose index is damaged: nothing in them can be read, and no writer could keep a row.

    Their bytes stay until ``delete_set_aside``.
    """
    for shard in sorted({row // store.rows_per_shard for row in rows}):
        for name in (PIXELS, LESION_MASK):
            if store.url:
                if not (shards := bucket_shards(store)).is_sound(name, shard):
                    shards.set_aside(name, shard, SET_ASIDE)
                continue
            path = shard_path(store, name, shard)
            if path.exists() and not is_index_sound(path, store.rows_per_shard):
                path.rename(path.with_name(f"{path.name}.{uuid4().hex}{SET_ASIDE}"))


def is_written(store: ExamStore, row: int, *, with_mask: bool) -> bool:
    """True if the shards that hold a row are there: says nothing of their content, and takes no time."""
    names = (PIXELS, LESION_MASK) if with_mask else (PIXELS,)
    return not any(missing_shards(store, name, {row // store.rows_per_shard}) for name in names)


def missing_shards(store: ExamStore, name: str, shards: Collection[int]) -> set[int]:
    """Those of an array's shards that are not there."""
    if store.url:
        return bucket_shards(store).missing(name, shards)
    return {shard for shard in shards if not shard_path(store, name, shard).exists()}


def delete_set_aside(store: ExamStore) -> None:
    """Deletes the shards that were set aside: call when every image in them is written again."""
    if store.url:
        for name in (PIXELS, LESION_MASK):
            bucket_shards(store).delete_endings(name, SET_ASIDE)
    for path in store.files.pixels_dir.rglob(f"*{SET_ASIDE}"):
        path.unlink(missing_ok=True)


def crop_digest(crop_HW: NDArray[np.uint16] | NDArray[np.uint8]) -> str:
    """sha256 of a stored crop's values, little endian, and of its shape."""
    little_endian = np.ascontiguousarray(crop_HW, crop_HW.dtype.newbyteorder("<"))
    digest = hashlib.sha256(repr(crop_HW.shape).encode())
    digest.update(little_endian.data)
    return digest.hexdigest()


def read_row(
    store: ExamStore,
    row: int,
    name: str = PIXELS,
    *,
    size_px: tuple[int, int] | None = None,
    reader: StoreReader = StoreReader.ZARR,
) -> NDArray[Any]:
    """One image.

    Args:
        store: Where.
        row: Index R.
        name: Of the array.
        size_px: (rows, columns) from the canvas's upper left corner: the image's own. None = the whole canvas.
        reader: Which library reads.

    Raises:
        StoreError: The stored bytes do not match their checksum, or an image was never written there.
        PeerUnavailable: They lie in a bucket that cannot be asked.
    """
    try:
        if store.url:
            return bucket_shards(store).image(name, row, size_px or store.canvas_px)
        array_dir = store.files.pixels_dir / name
        grown_ns = (array_dir / "zarr.json").stat().st_mtime_ns
        rows_px, columns_px = size_px or store.canvas_px
        if reader is StoreReader.TENSORSTORE or (reader is StoreReader.AUTO and is_usable()):
            image_HW = read_chunk(array_dir, row, (rows_px, columns_px), grown_ns)
        else:
            image_HW = np.asarray(_cached_array(store, name, grown_ns)[row, :rows_px, :columns_px])
    except (ValueError, RuntimeError, IndexError, OSError) as damage:
        raise damaged_row(store, row, name, got=type(damage).__name__) from damage
    # A chunk that is not there, or whose shard is gone, reads as zeros; no image is all zeros. Some rows mostly tell.
    if name == PIXELS and not (image_HW[::_SAMPLED_ROWS].any() or image_HW.any()):
        raise damaged_row(store, row, name, got="nothing: its shard is missing")
    return image_HW


def damaged_row(store: ExamStore, row: int, name: str, *, got: str) -> StoreError:
    """What to raise about a row whose bytes are not those that were stored."""
    return StoreError(
        f"Row {row} of {name} in {store.folder} cannot be read",
        expected="bytes that match their crc32c",
        got=got,
        remedy="`mammo scrub CONFIG.yaml` lists all damage; with --repair it reads the source files again",
    )


def _open_array(store: ExamStore, name: str, *, mode: str) -> Any:
    try:
        return zarr.open_array(store.files.pixels_dir / name, mode=mode)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as damage:
        raise StoreError(
            f"The array {name} in {store.folder} cannot be opened",
            expected="zarr metadata that is whole",
            got=type(damage).__name__,
            remedy="see that its disk is there, or restore it from a backup",
        ) from damage


@lru_cache(maxsize=8)
def _cached_array(store: ExamStore, name: str, grown_ns: int) -> Any:
    # Opening parses metadata; grown_ns makes a new entry when ingest has made the array longer.
    return _open_array(store, name, mode="r")


def store_preprocessing(store: ExamStore) -> str:
    """The same of what a store holds."""
    return read_settings(store.files).preprocessing
