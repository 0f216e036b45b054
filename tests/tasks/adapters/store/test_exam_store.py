"""The exam store: what was written is read again, bytes that changed are refused, and a stop at any moment loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zarr
from numpy.typing import NDArray
from pyarrow import parquet

from schemas.config.ingest import PreprocessConfig
from schemas.errors import StoreError
from schemas.exam import QuarantinedFile, ViewPosition
from schemas.layout import LESION_MASK, MANIFEST_COLUMNS, MANIFEST_NAMES, PIXELS
from schemas.refusal import Refusal
from tasks.adapters.store import manifest as manifest_module
from tasks.adapters.store.exam_store import (
    ExamStore,
    StoredImage,
    create_store,
    open_store,
    read_row,
    reserve_rows,
    write_shard,
)
from tasks.adapters.store.manifest import publish, read_manifest
from tasks.adapters.store.store_settings import mark_terms, read_settings
from tasks.adapters.store.tables.line_texts import data_version
from tasks.adapters.store.views import stored_views

REPOSITORY = Path(__file__).parents[4]
PREPROCESS = PreprocessConfig(window_px=(96, 64), jitter_shift_px=8, jitter_size_px=8)
CANVAS_PX = (128, 96)  # window + 2 * (8 + 8)
ROWS_PER_SHARD = 4


def _create(folder: Path, **changes: object) -> ExamStore:
    settings = {"preprocess": PREPROCESS, "preprocess_version": "1", "rows_per_shard": ROWS_PER_SHARD, "key_id": "k1"}
    return create_store(folder, **{**settings, **changes})  # type: ignore[arg-type]


def _crop(row: int) -> NDArray[np.uint16]:
    return np.random.default_rng(row).integers(1, 4096, (100 + row % 8, 80), dtype=np.uint16)


def _line(row: int) -> dict[str, object]:
    texts = {column.name: "x" for column in MANIFEST_COLUMNS if column.dtype == "string"}
    numbers = {column.name: 1 for column in MANIFEST_COLUMNS if column.dtype in ("int64", "float64")}
    flags = {column.name: False for column in MANIFEST_COLUMNS if column.dtype == "bool"}
    rows_px, columns_px = _crop(row).shape
    own = {
        "row": row,
        "image_id": f"I{row:03d}",
        "view_position": "CC",
        "stored_rows_px": rows_px,
        "stored_columns_px": columns_px,
    }
    return {**texts, **numbers, **flags, **own}


def _write(store: ExamStore, shard: int) -> None:
    rows = range(shard * ROWS_PER_SHARD, (shard + 1) * ROWS_PER_SHARD)
    masks = {row: (_crop(row) > 2048).astype(np.uint8) for row in rows if row % 2}
    write_shard(store, shard, (StoredImage(row=row, pixels_HW=_crop(row), mask_HW=masks.get(row)) for row in rows))


def _is_as_written(store: ExamStore, row: int) -> bool:
    canvas_HW = read_row(store, row)
    rows_px, columns_px = _crop(row).shape
    return bool((canvas_HW[:rows_px, :columns_px] == _crop(row)).all()) and int(canvas_HW.sum()) == int(_crop(row).sum())


def _shard_path(store: ExamStore, shard: int, name: str = PIXELS) -> Path:
    return store.folder / "pixels.zarr" / name / "c" / str(shard) / "0" / "0"


@pytest.fixture
def store(tmp_path: Path) -> ExamStore:
    """Two written shards; every row is in the manifest but the last."""
    made = _create(tmp_path / "exam_store")
    reserve_rows(made, 2 * ROWS_PER_SHARD)
    _write(made, 0)
    _write(made, 1)
    publish(made, [_line(row) for row in range(2 * ROWS_PER_SHARD - 1)], [])
    return made


# -------------------------------------------------------------------------------------------------------------- layout


def test_what_was_written_is_there_after_opening_again(store: ExamStore) -> None:
    """Every row holds its crop at the upper left corner of the canvas and 0 elsewhere."""
    opened = open_store(store.folder)
    assert opened == store
    assert all(_is_as_written(opened, row) for row in range(8))
    assert read_row(opened, 0).shape == CANVAS_PX


def test_what_terms_forbid_marks_a_store_for_good(store: ExamStore) -> None:
    """Each set's terms once; a config without them, or with others, opens the same store and takes none away."""
    assert "terms" not in json.loads(store.files.settings_path.read_text())
    for terms in ("of one set", "", "of another", "of one set"):
        mark_terms(store.files, terms)
        assert _create(store.folder) == store
    assert read_settings(store.files).terms == ("of one set", "of another")
    assert _is_as_written(open_store(store.folder), 0)


def test_arrays_are_what_the_layout_says(store: ExamStore) -> None:
    """Plain zarr sees uint16 and uint8 arrays, one image per chunk, one writer's rows per shard."""
    for name, dtype in ((PIXELS, "uint16"), (LESION_MASK, "uint8")):
        array = zarr.open_array(store.folder / "pixels.zarr" / name, mode="r")
        assert (array.shape, str(array.dtype), array.chunks, array.shards) == (
            (8, *CANVAS_PX),
            dtype,
            (1, *CANVAS_PX),
            (4, *CANVAS_PX),
        )


def test_arrays_grow_by_whole_shards_and_never_shrink(tmp_path: Path) -> None:
    """5 rows need 2 shards of 4; asking for fewer later changes nothing, and what was written stays."""
    store = _create(tmp_path)
    reserve_rows(store, 5)
    _write(store, 0)
    reserve_rows(store, 1)
    assert zarr.open_array(store.folder / "pixels.zarr" / PIXELS, mode="r").shape[0] == 8
    reserve_rows(store, 9)
    assert zarr.open_array(store.folder / "pixels.zarr" / PIXELS, mode="r").shape[0] == 12
    assert _is_as_written(store, 3)


def test_growth_clears_what_killed_writers_left(store: ExamStore) -> None:
    """Half-written files of a killed process do not fill the disk for ever: zarr's, and those of lists beside the pixels."""
    leftovers = [_shard_path(store, 0).with_suffix(".0123.partial"), store.folder / ".leakage.csv.1-1.part"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    reserve_rows(store, 1)
    assert not any(leftover.exists() for leftover in leftovers)


def test_a_row_read_before_growth_does_not_hide_later_rows(store: ExamStore) -> None:
    """The reader's cached array sees rows that ingest added meanwhile."""
    assert _is_as_written(store, 0)
    reserve_rows(store, 12)
    _write(store, 2)
    assert _is_as_written(store, 11)


def test_the_same_settings_open_the_store_and_keep_its_rows(store: ExamStore) -> None:
    """Creating twice is resuming."""
    assert _create(store.folder) == store
    assert _is_as_written(store, 5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"preprocess": PREPROCESS.model_copy(update={"crop_buffer_px": 7})}, "preprocess"),
        ({"preprocess_version": "2"}, "preprocess_version"),
        ({"rows_per_shard": 8}, "rows_per_shard"),
        ({"key_id": "k2"}, "pseudonym_key_id"),
    ],
)
def test_other_settings_are_refused_by_name(store: ExamStore, change: dict[str, object], named: str) -> None:
    """Rows made with other settings would not mean the same; the message names what differs and nothing else."""
    with pytest.raises(StoreError, match=rf"other settings: {named}\. Expected: .*Got: .*Remedy: "):
        _create(store.folder, **change)


def test_a_store_that_is_missing_damaged_or_of_another_layout_is_refused(store: ExamStore, tmp_path: Path) -> None:
    """Each is a StoreError with its own remedy, never a KeyError or JSON error."""
    with pytest.raises(StoreError, match=r"There is no exam store.*mammo ingest"):
        open_store(tmp_path / "nowhere")
    settings_path = store.folder / "store.json"
    settings = json.loads(settings_path.read_text())
    settings_path.write_text(json.dumps({**settings, "store_version": "0"}))
    with pytest.raises(StoreError, match="another layout"):
        open_store(store.folder)
    settings_path.write_text("{")
    for opening in (open_store, _create):
        with pytest.raises(StoreError, match="damaged"):
            opening(store.folder)


def test_reading_before_anything_is_published_says_so(tmp_path: Path) -> None:
    """A store without manifest has no images for readers."""
    with pytest.raises(StoreError, match="Nothing is published"):
        read_manifest(_create(tmp_path))


# ------------------------------------------------------------------------------------------------------------- writing


def test_writing_some_rows_of_a_shard_keeps_the_others(store: ExamStore) -> None:
    """Row 1 is written again with another image: rows 0, 2, 3 and their masks are untouched."""
    masks_before = {row: read_row(store, row, LESION_MASK) for row in (0, 2, 3)}
    write_shard(store, 0, [StoredImage(row=1, pixels_HW=np.full((9, 7), 5, np.uint16))])
    assert all(_is_as_written(store, row) for row in (0, 2, 3))
    assert all((read_row(store, row, LESION_MASK) == mask_HW).all() for row, mask_HW in masks_before.items())
    assert read_row(store, 1).sum() == 9 * 7 * 5


def test_a_row_written_again_without_mask_has_none(store: ExamStore) -> None:
    """The mask of an earlier attempt does not stay under an image that has none."""
    assert read_row(store, 1, LESION_MASK).any()
    write_shard(store, 0, [StoredImage(row=1, pixels_HW=_crop(1))])
    assert not read_row(store, 1, LESION_MASK).any()


def test_masks_lie_in_the_frame_of_their_pixels(store: ExamStore) -> None:
    """Odd rows were given a mask where the pixel is above 2048: it reads so pixel by pixel; even rows read 0."""
    views = stored_views(store, read_manifest(store), PREPROCESS.window_px)
    for row in range(7):
        expected_HW = (views(row).pixels_HW > 2048) if row % 2 else np.zeros_like(views(row).pixels_HW, dtype=bool)
        assert (views.lesion_mask(row).astype(bool) == expected_HW).all()


def test_the_manifest_has_the_layouts_columns_and_types(store: ExamStore) -> None:
    """Reopened from disk, names, order and dtypes are those of schemas.layout."""
    manifest = read_manifest(store)
    assert {name: str(dtype) for name, dtype in manifest.dtypes.items()} == {c.name: c.dtype for c in MANIFEST_COLUMNS}
    assert tuple(manifest.columns) == MANIFEST_NAMES


def test_a_manifest_made_in_parts_is_the_one_made_at_once(store: ExamStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optional columns that only the last part says, and gaps, come to the same table, types, metadata and data version."""
    lines = [_line(row) | {"label_source": None if row < 4 else "biopsy"} for row in range(6)]
    lines[5] |= {"quarter_turns": 2, "days_to_diagnosis": 3.0, "label_groups": "site=a"}
    publish(store, iter(lines), [])
    at_once = read_manifest(store)
    file_at_once = parquet.read_table(store.manifest_path)
    monkeypatch.setattr(manifest_module, "LINES_AT_ONCE", 2)
    shown: list[pa.RecordBatch] = []
    version = publish(store, iter(lines), [], shown.append)
    in_parts = read_manifest(store)
    assert [part.num_rows for part in shown] == [2, 2, 2]
    pd.testing.assert_frame_equal(in_parts, at_once)
    assert parquet.read_table(store.manifest_path).equals(file_at_once, check_metadata=True)
    assert in_parts["quarter_turns"].tolist() == [0, 0, 0, 0, 0, 2]
    assert list(in_parts.columns) == [*MANIFEST_NAMES, "quarter_turns", "label_groups", "days_to_diagnosis"]
    assert parquet.read_schema(store.manifest_path).pandas_metadata["columns"][-1]["name"] == "days_to_diagnosis"
    assert data_version(in_parts) == data_version(at_once) == version


@pytest.mark.parametrize("odd", ["", "a, b", 'say "x"', "two\nlines", "return\r", "\u00e4", None], ids=repr)
def test_the_data_version_is_that_of_the_text_that_pandas_writes(odd: str | None) -> None:
    """Digests of every store hang on it, to the byte: texts that need quotes, gaps, and numbers of every length."""
    numbers = [0.1, -0.0, 0.0, 1e-7, 1e16, float("nan"), float("inf"), 1 / 3]
    lines = [_line(row) | {"label_source": odd if row == 3 else "x", "pixel_mean": numbers[row]} for row in range(8)]
    manifest = pd.DataFrame(lines)[list(MANIFEST_NAMES)].astype({column.name: column.dtype for column in MANIFEST_COLUMNS})
    said = manifest.sort_values("image_id").drop(columns=["row", "gate_warnings", "batch", "batch_date"])
    text = said.to_csv(index=False, lineterminator="\n")
    assert data_version(manifest) == hashlib.sha256(text.encode()).hexdigest()
    assert data_version(manifest.iloc[:0]) == hashlib.sha256(said.iloc[:0].to_csv(index=False).encode()).hexdigest()


def test_refused_files_are_listed_by_pseudonym(store: ExamStore) -> None:
    """The quarantine list has id, reasons and message; a later publication replaces it."""
    refused = QuarantinedFile(file_id="F1", refusal=Refusal(rules=("F14", "P02"), what="Cut off, twice."))
    publish(store, [_line(0)], [refused])
    listed = pd.read_csv(store.quarantine_path).to_dict("records")
    assert listed == [{"file_id": "F1", "reason_codes": "F14 P02", "message": "Cut off, twice."}]
    publish(store, [_line(0)], [])
    assert pd.read_csv(store.quarantine_path).empty


# ------------------------------------------------------------------------------------------------------------- reading


def test_only_rows_of_the_manifest_can_be_viewed(store: ExamStore) -> None:
    """Row 7 is written but not published: there is no view of it."""
    views = stored_views(store, read_manifest(store), PREPROCESS.window_px)
    assert sorted(views.views) == list(range(7))
    with pytest.raises(KeyError):
        views(7)


def test_views_pickle_into_another_process_and_carry_the_geometry(store: ExamStore) -> None:
    """Another process gets paths and numbers only, and reads the same view."""
    views = stored_views(store, read_manifest(store), PREPROCESS.window_px)
    content = pickle.dumps(views)
    assert len(content) < 5000
    view = pickle.loads(content)(3)  # noqa: S301  made one line above
    assert (view.pixels_HW == _crop(3)).all()
    assert (view.geometry.window_px, view.geometry.view_position, view.geometry.scale) == ((96, 64), ViewPosition.CC, 1.0)


@pytest.mark.parametrize("name", [PIXELS, LESION_MASK])
def test_one_flipped_bit_anywhere_in_a_shard_is_refused(store: ExamStore, name: str) -> None:
    """At 20 places over the file, index included: some row of the shard raises, and no row reads other values."""
    path = _shard_path(store, 0, name)
    content = path.read_bytes()
    before = {row: read_row(store, row, name) for row in range(4)}
    for place in np.linspace(0, len(content) - 1, 20).astype(int):
        flipped = bytearray(content)
        flipped[place] ^= 0b100
        path.write_bytes(bytes(flipped))
        refused = 0
        for row, expected_HW in before.items():
            try:
                assert (read_row(store, row, name) == expected_HW).all()
            except StoreError as error:
                assert "Remedy" in str(error)
                refused += 1
        assert refused >= 1, f"byte {place} of {len(content)}"


def test_a_shard_cut_short_or_gone_is_refused(store: ExamStore) -> None:
    """Zarr reads a missing shard as zeros; an image of zeros was never written, so it is damage."""
    path = _shard_path(store, 1)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError):
        read_row(store, 4)
    path.unlink()
    with pytest.raises(StoreError, match="its shard is missing"):
        read_row(store, 4)
    with pytest.raises(StoreError):
        read_row(store, 400)


# -------------------------------------------------------------------------------------------------------- data version


UNSEEN = ("row", "gate_warnings", "batch", "batch_date")


@pytest.mark.parametrize("name", [name for name in MANIFEST_NAMES if name not in UNSEEN])
def test_data_version_changes_with_any_value_of_an_image_or_label(name: str) -> None:
    """One changed cell, another version."""
    manifest = pd.DataFrame([_line(0), _line(1)])
    changed = manifest.copy()
    changed[name] = [manifest[name][0], "other" if isinstance(manifest[name][1], str) else manifest[name][1] + 1]
    assert data_version(changed) != data_version(manifest)


def test_data_version_does_not_see_rows_order_or_warnings() -> None:
    """The same images ingested in another order, into other rows, under a gate that warns more, are the same data."""
    manifest = pd.DataFrame([_line(0), _line(1)])
    other = manifest.iloc[::-1].assign(row=[7, 3], gate_warnings="W1 W2", batch=[2, 3], batch_date="2026-01-01")
    assert data_version(other) == data_version(manifest)


def test_data_version_survives_the_disk(store: ExamStore) -> None:
    """What is said of the lines as they are published and what is read later are one version."""
    lines = [{**_line(0), "pixel_mean": 0.1 + 0.2, "pixel_spacing_mm": None}]
    assert publish(store, lines, []) == data_version(read_manifest(store))


# -------------------------------------------------------------------------------------------------------------- faults

_WRITER = """
import importlib.util, os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
spec = importlib.util.spec_from_file_location("store_facts", sys.argv[2])
facts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(facts)
for line in sys.stdin:
    folder, killed_at, moment_s = line.split()
    pid = os.fork()
    if pid == 0:
        steps = facts.count_steps(int(killed_at), float(moment_s))
        facts.fill(Path(folder))
        Path(folder + ".steps").write_text(str(len(steps)))
        os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)
"""
_STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link"}


def count_steps(killed_at: int, moment_s: float) -> list[str]:
    """What this process does with files from now on; it kills itself a moment after the step of this number (0 = never).

    So that a kill meets the same work on every machine: one that comes from outside after some time meets more or less of it.
    """
    steps: list[str] = []

    def note(event: str, arguments: object) -> None:
        if event in _STEPS:
            steps.append(event)
            if len(steps) == killed_at:
                threading.Timer(moment_s, os.kill, (os.getpid(), signal.SIGKILL)).start()

    sys.addaudithook(note)
    return steps


def fill(folder: Path) -> None:
    """The writer's whole work: grow, write and publish, three shards, one after the other."""
    store = _create(folder)
    for shard in range(3):
        reserve_rows(store, (shard + 1) * ROWS_PER_SHARD)
        _write(store, shard)
        publish(store, [_line(row) for row in range((shard + 1) * ROWS_PER_SHARD)], [])


@pytest.fixture(scope="module")
def writer() -> Iterator[subprocess.Popen[str]]:
    """A process that forks a writer for each line it reads; importing once keeps the kills fast."""
    command = [sys.executable, "-c", _WRITER, str(REPOSITORY), __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _run(writer: subprocess.Popen[str], folder: Path, *, killed_at: int = 0, moment_s: float = 0.0) -> int:
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(f"{folder} {killed_at} {moment_s}\n")
    writer.stdin.flush()
    return int(writer.stdout.readline())


def _digest(store: ExamStore) -> list[bytes]:
    return [
        np.asarray(zarr.open_array(store.folder / "pixels.zarr" / name, mode="r")[:]).tobytes()
        for name in (PIXELS, LESION_MASK)
    ]


def test_kill_at_twelve_moments_shows_no_torn_row_and_a_rerun_mends_all(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    """SIGKILL at random steps of writing and publishing: what the manifest names is whole; the rerun equals a calm run."""
    assert _run(writer, tmp_path / "calm") == 0
    steps = int((tmp_path / "calm.steps").read_text())
    calm = _digest(open_store(tmp_path / "calm"))
    moments = random.Random(11)  # noqa: S311  no secret
    folder = tmp_path / "killed"
    seen, killed = [], 0
    for kill in range(12):
        killed_at = moments.randint(1, steps // 3 if folder.exists() else steps - 1)  # what is written is not written again
        killed += _run(writer, folder, killed_at=killed_at, moment_s=moments.uniform(0.0, 0.003)) == signal.SIGKILL
        if (folder / "manifest.parquet").exists():
            store = open_store(folder)
            lines = read_manifest(store)
            assert all(_is_as_written(store, int(row)) for row in lines["row"]), f"kill {kill}"
            seen.append(len(lines))
        if kill % 4 == 3:  # the next stops meet an empty folder again
            assert _run(writer, folder) == 0
            assert _digest(open_store(folder)) == calm
            assert not list(folder.rglob("*.partial"))
            folder = tmp_path / f"killed-{kill}"
    assert killed >= 6
    assert seen, "no kill came after a publication: the moments prove nothing"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_an_os_error_and_leaves_what_was_published(small_disk: Path) -> None:
    """Shards of 4 noise images take some 70 KiB: after a few the disk is full. The manifest in force stays, its rows read."""
    store = _create(small_disk / "exam_store")
    published = 0
    with pytest.raises(OSError, match="No space left"):
        for shard in range(12):
            reserve_rows(store, (shard + 1) * ROWS_PER_SHARD)
            _write(store, shard)
            publish(store, [_line(row) for row in range((shard + 1) * ROWS_PER_SHARD)], [])
            published = shard + 1
    assert 1 <= published < 6
    lines = read_manifest(store)
    assert len(lines) == published * ROWS_PER_SHARD
    assert all(_is_as_written(store, int(row)) for row in lines["row"])
    assert not list(small_disk.rglob("*.part")) + list(small_disk.rglob("*.partial"))
