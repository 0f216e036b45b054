"""The parts of a store belong together: what is missing is never made anew, what is damaged or foreign is a sentence."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from pyarrow import parquet

from schemas.config.run import RunConfig
from schemas.errors import MammoError, StoreError
from schemas.reports.data import IngestReport
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.pseudonyms import KEY_BYTES, names_of_key
from tasks.adapters.store.exam_store import open_store, read_row
from tasks.adapters.store.manifest import published_rows, read_manifest, read_splits
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.workspace import StoreFolder, Workspace

IngestHere = Callable[[RunConfig], IngestReport]
MakeConfig = Callable[..., RunConfig]

PARTS = {
    "settings": lambda workspace: workspace.store.settings_path,
    "ledger": lambda workspace: workspace.store.ledger_path,
    "arrays": lambda workspace: workspace.store.pixels_dir,
    "array": lambda workspace: workspace.store.pixels_dir / "pixels",
    "key": lambda workspace: workspace.key_path,
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, cohort_dir: Path) -> Path:
    """One exam of four views."""
    folder = tmp_path_factory.mktemp("cohort")
    exam = min(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    shutil.copytree(exam, folder / "dicom" / exam.name)
    for name in ("labels.csv", "masks"):
        copy = shutil.copytree if (cohort_dir / name).is_dir() else shutil.copy
        copy(cohort_dir / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, cohort: Path, make_config: MakeConfig, ingest_here: IngestHere
) -> tuple[RunConfig, RunConfig]:
    """Two workspaces with the same exam, key and settings: nothing but their ids tells their parts apart."""
    ours = make_config(tmp_path_factory.mktemp("ours"), cohort)
    theirs = make_config(tmp_path_factory.mktemp("theirs"), cohort)
    ingest_here(ours)
    shutil.copy2(Workspace(ours.workspace_dir).key_path, Workspace(theirs.workspace_dir).key_path)
    ingest_here(theirs)
    return ours, theirs


@pytest.fixture
def config(made: tuple[RunConfig, RunConfig], tmp_path: Path) -> RunConfig:
    """A copy of the first workspace, to be damaged."""
    shutil.copytree(made[0].workspace_dir, tmp_path / "workspace")
    return made[0].model_copy(update={"workspace_dir": tmp_path / "workspace"})


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _names(workspace: Path) -> set[str]:
    return {path.relative_to(workspace).as_posix() for path in workspace.rglob("*") if "ledger.sqlite-" not in path.name}


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_not_made_anew(config: RunConfig, ingest_here: IngestHere, part: str) -> None:
    """Ingest ends with a sentence that names it, and changes nothing: with the part back it goes on as before."""
    workspace = Workspace(config.workspace_dir)
    before = _names(config.workspace_dir)
    missing = PARTS[part](workspace)
    missing.rename(config.workspace_dir.parent / "away")
    rest = _names(config.workspace_dir)
    with pytest.raises(MammoError, match=rf"{missing.name}.* is gone.*Remedy"):
        ingest_here(config)
    assert _names(config.workspace_dir) == rest
    (config.workspace_dir.parent / "away").rename(missing)
    assert (ingest_here(config).images_published, _names(config.workspace_dir)) == (4, before)


@pytest.mark.parametrize("part", ["settings", "ledger", "arrays", "manifest"])
def test_a_part_of_another_store_is_refused(
    made: tuple[RunConfig, RunConfig], config: RunConfig, ingest_here: IngestHere, part: str
) -> None:
    """The key and the settings are the same, and so are the images: only their ids tell that rows are mixed up."""
    ours, theirs = Workspace(config.workspace_dir).store, Workspace(made[1].workspace_dir).store
    source, target = {
        "settings": (theirs.settings_path, ours.settings_path),
        "ledger": (theirs.ledger_path, ours.ledger_path),
        "arrays": (theirs.pixels_dir, ours.pixels_dir),
        "manifest": (theirs.manifest_path, ours.manifest_path),
    }[part]
    _remove(target)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
    with pytest.raises(StoreError, match="belongs to another store"):
        ingest_here(config)
    if part != "ledger":  # a reader asks it for nothing
        with pytest.raises(StoreError, match="belongs to another store"):
            read_manifest(open_store(ours.root))


def test_an_exchanged_key_is_noticed_whoever_opens_the_store(config: RunConfig, ingest_here: IngestHere) -> None:
    """By readers too. An older release's file, and that of another store with the same 32 bytes, go on and are given the id."""
    workspace = Workspace(config.workspace_dir)
    ours, store_id = workspace.key_path.read_bytes(), open_store(workspace.store_dir).store_id
    for content in (bytes(KEY_BYTES), bytes(KEY_BYTES) + ours[KEY_BYTES:]):
        workspace.key_path.write_bytes(content)
        for use in (lambda: open_store(workspace.store_dir), lambda: ingest_here(config)):
            with pytest.raises(StoreError, match=r"is not the key that .* were made with.*Remedy"):
                use()
    for content in (ours[:KEY_BYTES], ours.replace(store_id.encode(), b"another")):
        workspace.key_path.write_bytes(content)
        assert open_store(workspace.store_dir).store_id == store_id
        assert ingest_here(config).images_published == 4
        assert workspace.key_path.read_bytes() == ours and workspace.key_path.stat().st_mode & 0o777 == 0o600
    workspace.key_path.unlink()
    assert len(read_manifest(open_store(workspace.store_dir))) == 4, "who trains needs no key"


@pytest.mark.parametrize("content", [b"", b"{", b"damage" * 100, b"[]", b"{}"], ids=["empty", "cut", "noise", "list", "bare"])
@pytest.mark.parametrize("part", ["settings", "ledger", "group", "array", "manifest", "splits"])
def test_a_damaged_part_is_a_sentence(config: RunConfig, part: str, content: bytes) -> None:
    """Never an ArrowInvalid, a KeyError or a JSON error."""
    workspace = Workspace(config.workspace_dir)
    path = {
        "settings": workspace.store.settings_path,
        "ledger": workspace.store.ledger_path,
        "group": workspace.store.pixels_dir / "zarr.json",
        "array": workspace.store.pixels_dir / "pixels" / "zarr.json",
        "manifest": workspace.store.manifest_path,
        "splits": workspace.splits_path,
    }[part]
    row = min(published_rows(open_store(workspace.store_dir)).values())
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"Expected: .*Remedy: "):
        store = open_store(workspace.store_dir)
        read_manifest(store)
        with StoreLedger(store):
            pass
        read_row(store, row)
        read_splits(workspace.splits_path)


def test_a_damaged_manifest_is_written_anew_from_the_ledger(config: RunConfig, ingest_here: IngestHere) -> None:
    """Nothing of it is known there only."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    before = read_manifest(store)
    store.manifest_path.write_bytes(b"damage")
    ingest_here(config)
    assert read_manifest(store).equals(before)


@pytest.mark.parametrize("lost", [0, 2])
def test_no_image_is_published_whose_pixels_are_gone(config: RunConfig, ingest_here: IngestHere, lost: int) -> None:
    """Files of the array, or all below it: a sentence, and the manifest stays. With them back ingest goes on."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    before = store.manifest_path.read_bytes()
    shards = store.files.pixels_dir / "pixels" / "c"
    there = min(shards.rglob("*/0/0")) if lost == 0 else shards
    there.rename(config.workspace_dir.parent / "away")
    with pytest.raises(StoreError, match=r"are gone from .*Remedy: .*scrub --repair"):
        ingest_here(config)
    assert store.manifest_path.read_bytes() == before
    (config.workspace_dir.parent / "away").rename(there)
    assert ingest_here(config).images_published == 4


def test_a_store_that_is_gone_as_a_whole_is_not_made_anew(config: RunConfig, ingest_here: IngestHere) -> None:
    """What the last ingest said is still there: nobody takes this workspace for a new one, with the key or without."""
    workspace = Workspace(config.workspace_dir)
    workspace.store_dir.rename(config.workspace_dir.parent / "away")
    for remove in (lambda: None, workspace.key_path.unlink):
        remove()
        with pytest.raises(StoreError, match=r"is gone.*Remedy"):
            ingest_here(config)
        assert not workspace.store.settings_path.exists() and not workspace.store.ledger_path.exists()


def test_damage_inside_a_part_is_a_sentence(config: RunConfig, ingest_here: IngestHere) -> None:
    """A column of the manifest, which ingest writes anew; a value of the ledger, which nobody else knows."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    for column in ("row", "written_sha256"):
        parquet.write_table(parquet.read_table(store.manifest_path).drop_columns([column]), store.manifest_path)
        with pytest.raises(StoreError, match=f"the columns {column}.*Remedy"):
            read_manifest(store)
        assert ingest_here(config).images_published == len(read_manifest(store)) == 4
    for damage in ("json_remove(manifest, '$.laterality')", "'{'"):
        with closing(sqlite3.connect(store.ledger_path)) as connection:
            connection.execute(f"UPDATE images SET manifest = {damage} WHERE row = (SELECT min(row) FROM images)")  # noqa: S608
            connection.commit()
        with pytest.raises(StoreError, match=r"ledger.*Remedy"):
            ingest_here(config)
        assert len(read_manifest(store)) == 4


def test_readers_make_nothing(tmp_path: Path) -> None:
    """Where there is no store there is none afterwards."""
    with pytest.raises(StoreError, match="There is no exam store"):
        open_store(tmp_path / "exam_store")
    assert not list(tmp_path.iterdir())


def test_a_store_whose_making_was_killed_is_made_again(
    tmp_path: Path, cohort: Path, make_config: MakeConfig, ingest_here: IngestHere
) -> None:
    """Without its ``store.json`` nothing could be put into it: the next ingest begins anew."""
    config = make_config(tmp_path / "workspace", cohort)
    files = Workspace(config.workspace_dir).store
    (files.pixels_dir / "pixels").mkdir(parents=True)
    files.ledger_path.write_bytes(b"")
    files.unfinished_path.write_bytes(b"")
    assert ingest_here(config).images_published == 4
    assert not files.unfinished_path.exists()


def _ids(files: StoreFolder) -> set[str]:
    store = open_store(files.root)
    with StoreLedger(store) as ledger:
        read_manifest(store)  # refuses one of another id
        names = names_of_key(Workspace(files.root.parent).key_path)
        return {store.store_id, ledger.store_id, read_settings(files).store_id, names[1] if names else ""}


def test_every_part_of_a_store_carries_its_id(made: tuple[RunConfig, RunConfig]) -> None:
    """One id in each store, another in the other."""
    ours, theirs = (_ids(Workspace(config.workspace_dir).store) for config in made)
    assert len(ours) == len(theirs) == 1 and ours != theirs and "" not in ours
