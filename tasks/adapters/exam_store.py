"""The exam store on disk: zarr arrays filled by whole shards, and the manifest that says which rows are published.

Laws: one shard has one writer; a row exists for readers only when the manifest names it; the manifest is replaced in one
rename. Layout and columns: ``schemas.layout``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle, Crc32cCodec

from gmic_model.preprocess import PreparedView
from schemas.config import PreprocessConfig
from schemas.errors import StoreError
from schemas.exam import QuarantinedFile, ViewGeometry, ViewPosition
from schemas.layout import LESION_MASK, MANIFEST_COLUMNS, MANIFEST_NAMES, PIXELS, STORE_VERSION
from tasks.adapters.workspace import sync, write_atomically


@dataclass(frozen=True, slots=True)
class ExamStore:
    """A store folder. Cheap to make and to pickle; opens files only when asked.

    Attributes:
        folder: The store's folder.
        rows_per_shard: Images of one shard, one writer's whole work.
        canvas_px: (rows, columns) stored per image.
    """

    folder: Path
    rows_per_shard: int
    canvas_px: tuple[int, int]

    @property
    def manifest_path(self) -> Path:
        """One line per published image."""
        return self.folder / "manifest.parquet"

    @property
    def ledger_path(self) -> Path:
        """See ``tasks.adapters.ledger``."""
        return self.folder / "ledger.sqlite"

    @property
    def quarantine_path(self) -> Path:
        """One line per refused file."""
        return self.folder / "quarantine.csv"


def create_store(
    folder: Path, *, preprocess: PreprocessConfig, preprocess_version: str, rows_per_shard: int, key_id: str
) -> ExamStore:
    """Creates the store, or opens it if it is there with the same settings.

    Raises:
        StoreError: A store made with other settings is there: its rows would not mean the same. Or its store.json is damaged.
    """
    settings = {
        "store_version": STORE_VERSION,
        "preprocess": preprocess.model_dump(mode="json"),
        "preprocess_version": preprocess_version,
        "rows_per_shard": rows_per_shard,
        "pseudonym_key_id": key_id,
    }
    settings_path = folder / "store.json"
    if settings_path.exists():
        _refuse_other_settings(folder, wanted=settings, found=_read_settings(folder))
    else:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        canvas = preprocess.canvas_px
        group = zarr.open_group(folder / "pixels.zarr", mode="a")
        for name, dtype in ((PIXELS, "uint16"), (LESION_MASK, "uint8")):
            if name not in group:
                group.create_array(
                    name,
                    shape=(0, *canvas),
                    chunks=(1, *canvas),
                    shards=(rows_per_shard, *canvas),
                    dtype=dtype,
                    compressors=[BloscCodec(cname="lz4", clevel=5, shuffle=BloscShuffle.bitshuffle), Crc32cCodec()],
                    fill_value=0,
                )
        write_atomically(settings_path, json.dumps(settings, indent=1).encode())
    return ExamStore(folder, rows_per_shard, preprocess.canvas_px)


def open_store(folder: Path) -> ExamStore:
    """Opens a store for reading.

    Raises:
        StoreError: There is none, or it has another layout version.
    """
    settings = _read_settings(folder)
    if settings["store_version"] != STORE_VERSION:
        raise StoreError(
            "The exam store has another layout",
            expected=f"store version {STORE_VERSION}",
            got=settings["store_version"],
            remedy="ingest again into a new workspace",
        )
    return ExamStore(folder, settings["rows_per_shard"], PreprocessConfig(**settings["preprocess"]).canvas_px)


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        settings = json.loads((folder / "store.json").read_text())
    except FileNotFoundError as missing:
        raise StoreError(
            f"There is no exam store at {folder}", expected="a folder with store.json", remedy="run `mammo ingest` first"
        ) from missing
    except ValueError as damage:
        raise StoreError(
            f"store.json of {folder} is damaged", expected="the settings it was made with", remedy="restore it from a backup"
        ) from damage
    return dict(settings)


def _refuse_other_settings(folder: Path, *, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    changed = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if changed:
        raise StoreError(
            f"The store at {folder} was made with other settings: {', '.join(changed)}",
            expected={name: found.get(name) for name in changed},
            got={name: wanted.get(name) for name in changed},
            remedy="restore those settings, or name a new workspace_dir",
        )


# ------------------------------------------------------------------------------------------------------------- writing


def reserve_rows(store: ExamStore, rows: int) -> None:
    """Grows the arrays to whole shards that hold ``rows`` rows, and deletes what killed writers left.

    Call under the store's lock, before any writer starts.
    """
    for leftover in store.folder.rglob("*.partial"):  # zarr writes aside under this name and renames
        leftover.unlink()
    whole = -(-rows // store.rows_per_shard) * store.rows_per_shard
    for name in (PIXELS, LESION_MASK):
        array = _open_array(store, name, mode="r+")
        if array.shape[0] < whole:
            array.resize((whole, *store.canvas_px))


def write_shard(
    store: ExamStore, shard: int, pixels_by_row: Mapping[int, NDArray[np.uint16]], masks_by_row: Mapping[int, NDArray[np.uint8]]
) -> None:
    """Writes one whole shard: crops at the canvas's upper left corner, 0 elsewhere. It is on disk when this returns.

    Rows of the shard that were written before and are not given now keep their content. zarr replaces a shard's file in one
    rename, so a reader of those rows sees the old file or the new one.

    Args:
        store: Where.
        shard: Index of the shard; the caller is its only writer.
        pixels_by_row: Row -> crop (rows, columns), at most the canvas in size.
        masks_by_row: Row -> lesion bits in the same frame; rows without one hold 0.
    """
    start = shard * store.rows_per_shard
    for name, crops in ((PIXELS, pixels_by_row), (LESION_MASK, masks_by_row)):
        shard_path = store.folder / "pixels.zarr" / name / "c" / str(shard) / "0" / "0"
        if not crops and not shard_path.exists():
            continue
        array = _open_array(store, name, mode="r+")
        block_RHW = np.asarray(array[start : start + store.rows_per_shard])
        for row in pixels_by_row:
            block_RHW[row - start] = 0  # an earlier attempt may have left a mask here
        for row, crop_HW in crops.items():
            rows_px, columns_px = crop_HW.shape
            block_RHW[row - start, :rows_px, :columns_px] = crop_HW
        array[start : start + store.rows_per_shard] = block_RHW
        # The ledger counts on it: what it calls written must outlive a power cut.
        for path in (shard_path, *shard_path.parents[:3]):  # the file and the folders that hold its name, up to c/
            sync(path)


def publish(store: ExamStore, lines: Sequence[Mapping[str, object]], quarantined: Sequence[QuarantinedFile]) -> pd.DataFrame:
    """Replaces the manifest and the quarantine list; what the manifest names is visible to readers from now on."""
    manifest = pd.DataFrame(list(lines), columns=list(MANIFEST_NAMES))
    manifest = manifest.astype({column.name: column.dtype for column in MANIFEST_COLUMNS})
    write_atomically(store.manifest_path, manifest.to_parquet(index=False))
    refused = pd.DataFrame(
        [(file.file_id, " ".join(file.reason_codes), file.message) for file in quarantined],
        columns=["file_id", "reason_codes", "message"],
    )
    write_atomically(store.quarantine_path, refused.to_csv(index=False).encode())
    return manifest


# ------------------------------------------------------------------------------------------------------------- reading


def read_manifest(store: ExamStore) -> pd.DataFrame:
    """The published images, ``schemas.layout.MANIFEST_COLUMNS``.

    Raises:
        StoreError: Nothing was published yet.
    """
    try:
        return pd.read_parquet(store.manifest_path)
    except FileNotFoundError as missing:
        raise StoreError(
            f"Nothing is published in {store.folder}", expected="manifest.parquet", remedy="run `mammo ingest` first"
        ) from missing


def data_version(manifest: pd.DataFrame) -> str:
    """sha256 over what training and evaluation see: images, crops and labels."""
    columns = [name for name in MANIFEST_NAMES if name not in ("row", "gate_warnings")]
    text = manifest.sort_values("image_id")[columns].to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()


def read_row(store: ExamStore, row: int, name: str = PIXELS) -> NDArray[Any]:
    """One image's canvas (rows, columns).

    Raises:
        StoreError: The stored bytes do not match their checksum, or an image was never written there.
    """
    try:
        grown_ns = (store.folder / "pixels.zarr" / name / "zarr.json").stat().st_mtime_ns
        canvas_HW: NDArray[Any] = np.asarray(_cached_array(store, name, grown_ns)[row])
    except (ValueError, RuntimeError, IndexError, OSError) as damage:
        raise _damaged(store, row, name, got=type(damage).__name__) from damage
    if name == PIXELS and not canvas_HW.any():  # zarr reads a shard whose file is gone as zeros; no image is all zeros
        raise _damaged(store, row, name, got="nothing: its shard is missing")
    return canvas_HW


def _damaged(store: ExamStore, row: int, name: str, *, got: str) -> StoreError:
    return StoreError(
        f"Row {row} of {name} in {store.folder} cannot be read",
        expected="bytes that match their crc32c",
        got=got,
        remedy="restore the store from a backup, or delete the workspace's exam_store and ingest again",
    )


@dataclass(frozen=True)
class StoredViews:
    """Reads prepared views by row; pickles into loader processes and opens the store there.

    Attributes:
        store: Where the pixels are.
        views: Row -> (geometry, (rows, columns) of the stored crop, tissue fraction).
    """

    store: ExamStore
    views: Mapping[int, tuple[ViewGeometry, tuple[int, int], float]]

    def __call__(self, row: int) -> PreparedView:
        """The view as ingest prepared it."""
        geometry, (rows_px, columns_px), tissue_fraction = self.views[row]
        canvas_HW = read_row(self.store, row)
        return PreparedView(pixels_HW=canvas_HW[:rows_px, :columns_px], geometry=geometry, tissue_fraction=tissue_fraction)

    def lesion_mask(self, row: int) -> NDArray[np.uint8]:
        """Lesion bits (benign 1, malignant 2) in the stored crop's frame."""
        _, (rows_px, columns_px), _ = self.views[row]
        mask_HW: NDArray[np.uint8] = read_row(self.store, row, LESION_MASK)[:rows_px, :columns_px]
        return mask_HW


def stored_views(store: ExamStore, manifest: pd.DataFrame, window_px: tuple[int, int]) -> StoredViews:
    """A reader of the manifest's rows."""
    views = {
        int(line["row"]): (
            _geometry_of(line, window_px),
            (int(line["stored_rows_px"]), int(line["stored_columns_px"])),
            float(line["tissue_fraction"]),
        )
        for line in lines_of(manifest)
    }
    return StoredViews(store, views)


def lines_of(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """The manifest's lines by column name."""
    return [{str(name): value for name, value in line.items()} for line in manifest.to_dict("records")]


def _geometry_of(line: Mapping[str, Any], window_px: tuple[int, int]) -> ViewGeometry:
    return ViewGeometry(
        source_shape_px=(int(line["source_rows_px"]), int(line["source_columns_px"])),
        crop_box_px=(
            int(line["crop_top_px"]),
            int(line["crop_bottom_px"]),
            int(line["crop_left_px"]),
            int(line["crop_right_px"]),
        ),
        is_flipped=bool(line["is_flipped"]),
        scale=float(line["scale"]),
        best_center_px=(int(line["best_center_row_px"]), int(line["best_center_column_px"])),
        window_px=window_px,
        view_position=ViewPosition(line["view_position"]),
    )


def _open_array(store: ExamStore, name: str, *, mode: str) -> Any:
    # write_empty_chunks: comparing every chunk with the fill value costs more than writing it, and a missing chunk reads as 0.
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_array(store.folder / "pixels.zarr" / name, mode=mode)


@lru_cache(maxsize=8)
def _cached_array(store: ExamStore, name: str, grown_ns: int) -> Any:
    # Opening parses metadata; grown_ns makes a new entry when ingest has made the array longer.
    return _open_array(store, name, mode="r")
