"""``mammo backup`` and ``mammo restore``: what cannot be made again. Pixels can be: ingest reads the source files once more.

In the archive: the store without its pixels, the pseudonym key, the splits, the weights in force with their reports, those of
a cross-validation's folds and of Table 1's rows too, the models that were installed or promoted with their registry, and the
embedded server's history. With the key in it, it is as secret as the key. It says what it holds, and what must be read again.
A PostgreSQL server is backed up by ``pg_dump`` (docs/how-to/run-on-a-cluster.md).
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, BinaryIO, cast

import typer

from deployments.server.prefect_server import running_server
from schemas.config.run import Stage
from schemas.errors import CheckpointError, ConfigError, StoreError, error_name
from schemas.reports.report import Report
from schemas.reports.training import PretrainReport, SearchReport, TrainReport
from tasks.adapters.databases.sqlite_file import copy_database
from tasks.adapters.lock import held_lock, without_readers
from tasks.adapters.models.model_files import ENSEMBLE, read_ensemble
from tasks.adapters.store.store_settings import bucket_url
from tasks.adapters.workspace import CROSSVALIDATE, TABLE1, UNFINISHED, StoreFolder, Workspace, replaced, whole_path

_CHUNK_BYTES = 2**20
_DIGESTS = "SHA256SUMS.json"
_CONTENT = "CONTENT.json"
_UNREADABLE = (EOFError, OSError, tarfile.TarError, zlib.error, lzma.LZMAError)
"""What reading an archive meets; the last ones of one that somebody compressed."""
_WITHDRAWN = Workspace(Path()).store.withdrawn_path.as_posix()
_LEFT_OUT = (
    "pixels: `mammo ingest` reads the source files again, `mammo scrub` compares them",
    "checkpoints that no report names, and a search's trials besides its best",
    "pages, scores and panels: `mammo evaluate`, `explain` and `predict` make them again",
    "the source files and the labels",
)

WorkspaceDir = Annotated[Path, typer.Argument(help="The workspace")]
Archive = Annotated[Path, typer.Argument(help="The archive, a .tar file")]


def backup(workspace: WorkspaceDir, archive: Archive) -> None:
    """Write what cannot be made again to one archive, mode 0600: all but pixels; runs may go on meanwhile.

    These are ledger, manifest, key, splits, weights in force, models with their registry, the prediction log and the server's
    database.
    """
    files = Workspace(workspace)
    if not os.access(files.store.ledger_path, os.F_OK):
        raise ConfigError(f"There is no ledger in {workspace}", expected="a workspace with an exam store")
    beside = whole_path(archive).parent
    if not os.access(beside, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{archive} cannot be written",
            expected="a folder that is there, and that this user may write to",
            remedy="make the folder, or name another place",
        )
    digests: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(dir=beside) as folder,
        replaced(archive) as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        for name, path in _sources(files, Path(folder)):
            with path.open("rb") as source:
                digests[name] = _add(tar, name, source)
        left_out = _left_out(files.store)
        content = {"holds": sorted(digests), "not_in_it": left_out}
        digests[_CONTENT] = _add(tar, _CONTENT, io.BytesIO(json.dumps(content, indent=1).encode()))
        _add(tar, _DIGESTS, io.BytesIO(json.dumps(digests).encode()))
    typer.echo(f"{archive}: {_in_words(digests)}. It holds the pseudonym key: keep it as secret as the key.")
    _say_what_is_left_out(left_out)


def restore(archive: Archive, workspace: WorkspaceDir) -> None:
    """Put an archive's content back into a workspace that nobody uses; what is there is replaced.

    Images whose pixels are not on the disk are read again by the next ingest, into the same rows. What was written after the
    backup is ingested again too.
    """
    from tasks.adapters.pages.withdrawn import require_nobody_reads  # late: pandas takes a second
    from tasks.adapters.store.objects.bucket_store import leased

    files = Workspace(whole_path(workspace))
    if (address := running_server(files.server_dir)) is not None:
        raise StoreError("The workspace's server is running", got=address, remedy="stop `mammo serve` and other commands first")
    with ExitStack() as held:
        held.enter_context(held_lock(files.store_dir, purpose="restore"))
        held.enter_context(without_readers(files.root, purpose="restore"))
        require_nobody_reads(files)
        tar = held.enter_context(_opened(archive))
        names = _checked(tar, archive) - {_WITHDRAWN}
        _refuse_other_pixels(tar, files)
        _keep_withdrawals(tar, files)
        if any(files.prediction_log_dir.glob("log-*")):  # what was said since the backup was said
            names -= {name for name in names if name.startswith(f"{files.prediction_log_dir.name}/")}
        held.enter_context(leased(files.store, _url_of(tar, files), purpose="restore"))
        for entry in tar.getmembers():
            if entry.name in names:
                path = files.root / entry.name
                for suffix in ("-wal", "-shm"):  # of the database that is replaced: they would be played into the new one
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                with replaced(path) as file:
                    shutil.copyfileobj(_content(tar, entry), file)
        about_ledger = _about_ledger(files.store)
        again, images = _mark_what_is_not_there(files)
    typer.echo(f"Restored {_in_words(dict.fromkeys(names, ''))} into {workspace}.")
    if about_ledger:
        typer.echo(about_ledger)
    typer.echo(f"{again} of {images} images must be read again: run `mammo ingest`, then `mammo scrub`.")
    _say_what_is_left_out(_left_out(files.store))


# ------------------------------------------------------------------------------------------------------- what is in it


def _sources(files: Workspace, aside: Path) -> Iterator[tuple[str, Path]]:
    """Name in the archive and file to read. The ledger is copied after the manifest: it may know more, never less."""
    store = files.store
    plain = [store.settings_path, store.manifest_path, store.quarantine_path, store.leakage_path, store.withdrawn_path]
    plain += [path for path in (store.ledger_path,) if path.suffix == ".json"]  # it names a database
    plain += [store.same_patient_path, store.former_patients_path]
    plain += [files.key_path, files.server_auth_path, files.report_path(Stage.INGEST)]
    for stage in (Stage.VALIDATE, Stage.SPLIT):
        plain += _visible(files.stage_dir(stage), "*")
    models = (path for path in files.models_dir.rglob("*") if UNFINISHED not in str(path.relative_to(files.root)))
    plain += _visible(files.prediction_log_dir, "*.json*")
    plain += sorted(path for path in models if not path.name.startswith(files.registry_path.name))
    for path in dict.fromkeys((*plain, *_weights(files))):
        if path.is_file():
            yield path.relative_to(files.root).as_posix(), path
    studies = sorted(files.stage_dir(Stage.SEARCH).glob("*/study.sqlite"))
    for index, path in enumerate((store.ledger_path, files.server_database_path, files.registry_path, *studies)):
        if path.exists():
            copy = aside / f"{index}.sqlite"
            _copy(path, copy)
            name = path.with_suffix(".sqlite") if path == store.ledger_path else path
            yield name.relative_to(files.root).as_posix(), copy
            copy.unlink()


def _copy(path: Path, copy: Path) -> None:
    """As it is at one moment: of a database's file, or of a ledger in a database that is not of the workspace."""
    if path.suffix != ".json":
        return copy_database(path, copy)
    from tasks.adapters.inbox.shared_ledger import copy_ledger

    return copy_ledger(path, copy)


def _weights(files: Workspace) -> Iterator[Path]:
    """Reports of the stages that train, and the checkpoints in force that they name, if these lie in the workspace.

    Of the workspaces of folds and rows the splits too: with these their stages count as done, and nothing is trained again.
    """
    for place in (files, *files.below()):
        if place != files:
            yield from _visible(place.stage_dir(Stage.SPLIT), "*")
        for stage, kind in ((Stage.PRETRAIN, PretrainReport), (Stage.TRAIN, TrainReport), (Stage.SEARCH, SearchReport)):
            try:
                report = place.read_report(stage, kind)
            except (OSError, ValueError):
                continue
            yield from (place.report_path(stage), place.done_path(stage))
            for path in _named_weights(report):
                if path.is_relative_to(files.root):
                    yield from _files_of(path)
    folder = files.stage_dir(CROSSVALIDATE)
    with suppress(CheckpointError):  # there was none
        members = read_ensemble(folder / ENSEMBLE)
        yield from _visible(folder, "*.json")
        for member in members:
            if member.path.is_relative_to(whole_path(files.root)):
                yield from _files_of(files.root / member.path.relative_to(whole_path(files.root)))


def _files_of(path: Path) -> list[Path]:
    return [each for each in (path, *_visible(path, "*")) if each.is_file()]


def _visible(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder, without those that somebody is still writing: they are gone before they are read."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _named_weights(report: Report) -> Iterator[Path]:
    if isinstance(report, SearchReport):
        yield from (report.ensemble_path, *(model.checkpoint_path for model in report.best))
    if isinstance(report, PretrainReport | TrainReport):
        yield report.checkpoint_path
    if isinstance(report, TrainReport) and report.localization_checkpoint_path is not None:
        yield report.localization_checkpoint_path


def _add(tar: tarfile.TarFile, name: str, source: BinaryIO) -> str:
    """Streams a file into the archive; its digest."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = source.seek(0, io.SEEK_END), 0o600
    source.seek(0)
    reading = _Digesting(source)
    tar.addfile(entry, cast("IO[bytes]", reading))
    return reading.sha256.hexdigest()


class _Digesting:
    """A file whose bytes are digested as they are read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self.sha256 = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        chunk = self._source.read(size)
        self.sha256.update(chunk)
        return chunk


def _in_words(names: Mapping[str, str]) -> str:
    return ", ".join(name for name in names if name not in (_CONTENT, _DIGESTS))


def _left_out(store: StoreFolder) -> list[str]:
    """What an archive does not hold; pixels in a bucket stay where they are."""
    if not (url := bucket_url(store)):
        return list(_LEFT_OUT)
    return [f"pixels: they stay at {url}, `mammo scrub` compares them; keep that bucket by its own means", *_LEFT_OUT[1:]]


def _say_what_is_left_out(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(f"  not in it: {line}")


# --------------------------------------------------------------------------------------------------------- reading one


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        tar = tarfile.open(archive)  # noqa: SIM115  # closed below; what goes wrong inside the block is not the archive's
    except _UNREADABLE as unreadable:
        raise _no_backup(archive, unreadable) from unreadable
    with tar:
        yield tar


def _checked(tar: tarfile.TarFile, archive: Path) -> frozenset[str]:
    """Names of the archive's files, none of them altered and none of a name that we do not write."""
    found: dict[str, str] = {}
    try:
        for entry in tar.getmembers():
            found[entry.name] = _digest(_content(tar, entry))
        digests = json.loads(_content(tar, tar.getmember(_DIGESTS)).read())
    except (*_UNREADABLE, KeyError, ValueError) as unreadable:
        raise _no_backup(archive, unreadable) from unreadable
    del found[_DIGESTS]
    names = frozenset(found) - {_CONTENT}
    if len(found) + 1 != len(tar.getmembers()) or found != digests or not all(map(_is_ours, names)):
        raise StoreError(f"{archive} is damaged", expected="the digests it carries", remedy="take an older backup")
    return names


def _digest(file: IO[bytes]) -> str:
    reading = _Digesting(file)
    while reading.read(_CHUNK_BYTES):
        pass
    return reading.sha256.hexdigest()


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(entry) if entry.isreg() else None
    if file is None:
        raise tarfile.TarError(f"{entry.name} is no file")
    return file


def _is_ours(name: str) -> bool:
    path, root = PurePosixPath(name), Workspace(Path())
    folders = {
        each.name
        for each in (
            root.store_dir,
            root.server_dir,
            root.models_dir,
            root.prediction_log_dir,
            *map(root.stage_dir, (*Stage, CROSSVALIDATE, TABLE1)),
        )
    }
    if path.is_absolute() or ".." in path.parts:
        return False
    return name == root.key_path.name or (len(path.parts) > 1 and path.parts[0] in folders)


def _no_backup(archive: Path, cause: Exception) -> StoreError:
    return StoreError(
        f"{archive} is no backup",
        expected="an archive of `mammo backup`, whole and readable",
        got=error_name(cause) if isinstance(cause, OSError) else type(cause).__name__,
        remedy="correct the path or the rights, copy it here anew, or take another backup",
    )


def _refuse_other_pixels(tar: tarfile.TarFile, files: Workspace) -> None:
    """Before anything is replaced: pixels that lie in the workspace must be of the archive's store."""
    from tasks.adapters.store.parts import require_arrays  # late: zarr and pandas take a second

    settings = _settings_of(tar, files)
    if files.store.pixels_dir.exists() and settings:
        require_arrays(files.store, str(settings.get("store_id", "")))


def _settings_of(tar: tarfile.TarFile, files: Workspace) -> dict[str, Any]:
    """The archive's ``store.json``; empty where it holds none."""
    try:
        name = files.store.settings_path.relative_to(files.root).as_posix()
        settings: dict[str, Any] = json.loads(_content(tar, tar.getmember(name)).read())
    except KeyError:
        return {}
    return settings


def _url_of(tar: tarfile.TarFile, files: Workspace) -> str:
    return str(_settings_of(tar, files).get("url", ""))


def _keep_withdrawals(tar: tarfile.TarFile, files: Workspace) -> None:
    """What was withdrawn stays so: the archive's withdrawals join those of the workspace, which an older archive lacks."""
    from tasks.adapters.inbox.store_ledger import StoreLedger
    from tasks.adapters.inbox.withdrawals.withdrawal import add_to_log, parsed, read_log
    from tasks.adapters.store.exam_store import open_store

    path = files.store.withdrawn_path
    kept = [_content(tar, entry).read() for entry in tar.getmembers() if entry.name == _WITHDRAWN]
    with suppress(StoreError), StoreLedger(open_store(files.store_dir)) as ledger:  # it may be what the backup is to mend
        kept.append("\n".join(ledger.withdrawals()).encode())
    try:
        read_log(files.store)
    except StoreError:
        path.replace(path.with_name(f"{path.name}.damaged"))
    add_to_log(files.store, [withdrawal for content in kept for withdrawal in parsed(content)])


def _about_ledger(store: StoreFolder) -> str:
    from tasks.adapters.inbox.shared_ledger import after_restoring

    return after_restoring(store)


def _mark_what_is_not_there(files: Workspace) -> tuple[int, int]:
    """Lets the next ingest read every image whose pixels are not on the disk; how many, and of how many."""
    from tasks.adapters.inbox.store_ledger import StoreLedger
    from tasks.adapters.pages.withdrawn import finish_withdrawals
    from tasks.adapters.store.exam_store import is_written, make_arrays, open_store
    from tasks.adapters.store.store_settings import objects_of, read_settings

    if not files.store.settings_path.exists():
        return 0, 0
    settings = read_settings(files.store)
    if settings.url:
        objects_of(files.store, settings.url).take_over()
    if not files.store.pixels_dir.exists():
        make_arrays(files.store, settings)
    if settings.url:
        objects_of(files.store, settings.url).put_again()  # of a bucket that has lost it too
    finish_withdrawals(files, is_read=False)
    store = open_store(files.store_dir)
    with StoreLedger(store) as ledger:
        lines = ledger.manifest_lines()
        gone = [line.file_id for line in lines if not is_written(store, line.row, with_mask=line.mask_sha256 is not None)]
        ledger.mark_damaged(gone)
        awaited = len(ledger.damaged_lines())
    return awaited, awaited + len(lines) - len(gone)
