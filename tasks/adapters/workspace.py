"""Where a run keeps its things, and files written so that a crash never leaves half of one."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar
from urllib.parse import quote

from schemas.errors import ConfigError, StoreError
from schemas.layout import BUCKET_SCHEME
from schemas.reports.report import Anchor, Report

if TYPE_CHECKING:  # the gate's child imports this module, and needs no config of a run
    from schemas.config.run import RunConfig

AnyReport = TypeVar("AnyReport", bound=Report)

UNFINISHED: Final = ".part"
"""Ending of what this program is still writing."""

REPORT_FILE: Final = "report.json"
"""What a stage, or a converted data set, says of itself."""
CROSSVALIDATE: Final = "crossvalidate"
TABLE1: Final = "table1"
WATCH: Final = "watch"
HEALTH: Final = "health"
"""Flows, and their folders: folds, rows, devices, the synthetic exam (``tasks.adapters.lifecycle.watching.health_exam``)."""

SERVER_DATABASE = "prefect.db"
SERVER_AUTH = "auth"
"""In the server's home, 0600: ``user:password`` that the UI and every client give."""


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """The files of an exam store (``schemas.layout``); knows their names, opens none."""

    root: Path

    @property
    def settings_path(self) -> Path:
        """What the store was made with, and its id."""
        return self.root / "store.json"

    @property
    def manifest_path(self) -> Path:
        """One line per published image."""
        return self.root / "manifest.parquet"

    @property
    def ledger_path(self) -> Path:
        """See ``tasks.adapters.inbox.ledger``: SQLite's file, or, where it is there, the one that names a database's schema."""
        path = self.root / "ledger.sqlite"
        return named if os.path.lexists(named := path.with_suffix(".json")) else path  # says no of a name that cannot be one

    @property
    def quarantine_path(self) -> Path:
        """One line per refused file."""
        return self.root / "quarantine.csv"

    @property
    def leakage_path(self) -> Path:
        """Images that came under several names."""
        return self.root / "leakage.csv"

    @property
    def same_patient_path(self) -> Path:
        """Patients who share a PatientID; not there if nobody does."""
        return self.root / "same_patient.csv"

    @property
    def former_patients_path(self) -> Path:
        """Whose images were another patient's before; not there if none were. Lines are added and never taken out."""
        return self.root / "former_patients.csv"

    @property
    def withdrawn_path(self) -> Path:
        """Who withdrew what, when and why; not there if nobody did. Lines are added and never taken out."""
        return self.root / "withdrawn.jsonl"

    @property
    def pixels_dir(self) -> Path:
        """The arrays."""
        return self.root / "pixels.zarr"

    def shard_path(self, array: str, shard: int) -> Path:
        """One shard of an array; of a store in a bucket, an object of this name lies below the bucket's address."""
        return self.pixels_dir.joinpath(array, "c", str(shard), "0", "0")  # at once: of a million images 62,500 are made

    @property
    def objects_path(self) -> Path:
        """Of a store in a bucket: the entity tags of what was last seen or put there (``tasks.adapters.store.objects``)."""
        return self.root / "objects.json"

    @property
    def unfinished_path(self) -> Path:
        """There while the store is being made."""
        return self.root / "unfinished"

    @property
    def parts(self) -> tuple[Path, ...]:
        """What can be there only with ``settings_path``."""
        return self.ledger_path, self.manifest_path, self.pixels_dir


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders below ``workspace_dir``; one stage writes into one folder. The only home of their names."""

    root: Path

    @property
    def store_dir(self) -> Path:
        """The exam store (``schemas.layout``)."""
        return self.root / "exam_store"

    @property
    def store(self) -> StoreFolder:
        """The same, file by file."""
        return StoreFolder(self.store_dir)

    @property
    def store_cache_dir(self) -> Path:
        """Images of a store in a bucket that were read, as they are stored (``tasks.adapters.store.objects.chunk_cache``)."""
        return self.root / "store_cache"

    @property
    def key_path(self) -> Path:
        """The pseudonym key, 0600; whoever has it can link pseudonyms to patients."""
        return self.root / "pseudonym.key"

    @property
    def server_dir(self) -> Path:
        """Home of the embedded Prefect server."""
        return self.root / "prefect"

    @property
    def server_database_path(self) -> Path:
        """The embedded server's history."""
        return self.server_dir / SERVER_DATABASE

    @property
    def server_auth_path(self) -> Path:
        """``user:password`` of the server, 0600, if it asks for it."""
        return self.server_dir / SERVER_AUTH

    @property
    def splits_path(self) -> Path:
        """Which patient is in which split: cannot be made again once the cohort has grown."""
        return self.stage_dir("split") / "splits.parquet"

    @staticmethod
    def scorings_path(splits_path: Path) -> Path:
        """The log of test scorings, beside the splits whose test patients are scored: Table 1's rows share one."""
        return splits_path.with_name("test_scorings.jsonl")

    @property
    def models_dir(self) -> Path:
        """Models that were installed or promoted, each in a folder of its digest (``tasks.adapters.lifecycle``)."""
        return self.root / "models"

    @property
    def registry_path(self) -> Path:
        """Which models there are, which is in use, and who changed that; not there before a training of this release."""
        return self.models_dir / "registry.sqlite"

    @property
    def kept_evaluations_dir(self) -> Path:
        """Of each set of weights the breasts that its newest evaluation scored."""
        return self.models_dir / "evaluations"

    @property
    def prediction_log_dir(self) -> Path:
        """All that was ever predicted here, line by line (``tasks.adapters.lifecycle.prediction_log``)."""
        return self.root / "prediction_log"

    @property
    def scoring_dir(self) -> Path:
        """Where a process that stays with a loaded network is asked (``tasks.adapters.lifecycle.inference``)."""
        return self.root / "infer"

    @property
    def health_dir(self) -> Path:
        """The workspace of the synthetic exam, made anew for each: what is counted, watched and sent lies in this one."""
        return self.stage_dir(HEALTH) / "workspace"

    @property
    def outbox_path(self) -> Path:
        """Which results went back to which peer (``tasks.adapters.results.outbox``)."""
        return self.stage_dir("return_results") / "outbox.sqlite"

    @property
    def contact_sheet_path(self) -> Path:
        """Page of the refused files."""
        return self.stage_dir("quarantine") / "contact_sheet.html"

    def below(self) -> list[Workspace]:
        """Those of a cross-validation's folds and of Table 1's rows: they lie in this one, and read its store."""
        made = (path for stage in ("pretrain", "train", "evaluate") for path in self.root.glob(f"*/*/{stage}"))
        return [Workspace(folder) for folder in sorted({path.parent for path in made})]

    def stage_dir(self, stage: str) -> Path:
        """Output folder of a stage."""
        return self.root / stage

    def report_path(self, stage: str) -> Path:
        """What a stage said of its last execution."""
        return self.stage_dir(stage) / REPORT_FILE

    def done_path(self, stage: str) -> Path:
        """The key of a stage's last execution that ended well (``tasks.stage``)."""
        return self.stage_dir(stage) / "done"

    def write_report(self, stage: str, report: Report) -> None:
        """Leaves a report in its stage's folder; paths inside the workspace are relative to it, so that it can be moved.

        Raises:
            OSError: The disk is full or the folder cannot be written.
        """
        anchor = Anchor(self.root, aliases=(self.root.resolve(),))
        write_atomically(self.report_path(stage), report.model_dump_json(indent=1, context=anchor).encode())

    def read_report(self, stage: str, kind: type[AnyReport]) -> AnyReport:
        """The report a stage left, its paths whole; also one of a former release, which held whole paths.

        Raises:
            OSError: There is none.
            ValueError: It is of another version.
        """
        aliases = tuple(filter(None, (self.root.resolve(), self.former_root(stage, kind))))
        return kind.model_validate_json(self.report_path(stage).read_bytes(), context=Anchor(self.root, aliases=aliases))

    def former_root(self, stage: str, kind: type[Report]) -> Path | None:
        """Where the workspace was when a former release wrote a stage's report; None for a report whose paths are relative.

        Such a report names at least one file of its stage's folder, or of the store.

        Raises:
            OSError: There is no report.
            ValueError: It is of another version.
        """
        as_written = kind.model_validate_json(self.report_path(stage).read_bytes())
        paths = list(named_paths(as_written.model_dump()))
        if not all(path.is_absolute() for path in paths):
            return None
        for path in paths:
            if inside := [index for index, part in enumerate(path.parts) if part in (stage, self.store_dir.name)]:
                return Path(*path.parts[: inside[-1]])
        return None


def named_paths(content: object) -> Iterator[Path]:
    """Every path of a report's content."""
    if isinstance(content, Path):
        yield content
    elif isinstance(content, dict | list | tuple):
        for value in content.values() if isinstance(content, dict) else content:
            yield from named_paths(value)


def found_below(folder: Path, written: Path) -> Path:
    """A file that a folder's own list names: relative to the folder or, by a former release, by the place it had then."""
    whole, parts = folder / written, written.parts
    if whole.exists() or folder.name not in parts:
        return whole
    return folder.joinpath(*parts[len(parts) - parts[::-1].index(folder.name) :])


def whole_path(path: Path) -> Path:
    """An absolute path with its links followed; nothing need be there. What stands for a bucket's keys is no path, and stays.

    Raises:
        ConfigError: It cannot be followed: its links lead round in a circle.
    """
    if path.parts[:1] == Path(BUCKET_SCHEME).parts:
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # the second is what Python 3.11 and 3.12 make of a circle
        raise ConfigError(
            f"The path {str(path)!a} cannot be followed",
            expected="links that do not lead round in a circle",
            got=type(error).__name__,
            remedy="correct the link or the path",
        ) from error


def exam_store_dir(config: RunConfig) -> Path:
    """The store that a run reads: its workspace's, or another that it names; of one in a bucket the folder of what is small."""
    if isinstance(config.store_dir, str):
        return Workspace(config.workspace_dir).stage_dir("mirrors") / quote(config.store_dir.rstrip("/"), safe="")
    return config.store_dir or Workspace(config.workspace_dir).store_dir


def aside_of(path: Path, tag: object = "") -> Path:
    """Where a file or folder is written before it takes its place: beside it, hidden, and unfinished by its name.

    Args:
        path: The place.
        tag: What tells several writers apart; without it a writer finds what a killed one left.
    """
    return path.with_name(f".{path.name}{f'.{tag}' if tag else ''}{UNFINISHED}")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes aside, syncs and renames: readers see the old file or the new one, never a part, also after a power cut.

    Raises:
        OSError: The disk is full or the folder cannot be written; nothing is changed then.
    """
    with replaced(path) as file:
        file.write(content)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the path's place when the block ends well; the owner's only, from its first byte on.

    Raises:
        StoreError: A folder stands where the file belongs, or a file where its folder does.
        OSError: The disk is full or the folder cannot be written; nothing is changed then.
    """
    if path.is_dir():  # seen before anything is written: the rename would tell it last
        raise _in_the_way(path, "a file", "a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError) as file_there:
        raise _in_the_way(path.parent, "a folder", "a file") from file_there
    aside = aside_of(path, f"{os.getpid()}-{threading.get_ident()}")
    try:
        with _opened_for_the_owner(aside) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def _in_the_way(path: Path, expected: str, got: str) -> StoreError:
    return StoreError(
        f"{path} cannot be written",
        expected=f"{expected}, or nothing yet",
        got=got,
        remedy="see what put it there, move it away, then run the same command again",
    )


def place_secret(path: Path, content: bytes) -> None:
    """Writes a secret, 0600, where there is none; of several who do so at once, all find the same one afterwards.

    Raises:
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = aside_of(path, secrets.token_hex(4))
    try:
        with _opened_for_the_owner(aside) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # a link fails where the name exists
            path.hardlink_to(aside)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def _opened_for_the_owner(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)  # a killed writer's, of another mode perhaps
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))  # its name is kept


def delete_leftovers(folder: Path) -> None:
    """Deletes what killed writers left aside in a folder and its subfolders; call where nobody else writes into it.

    ``write_atomically`` writes aside as ``.part``, zarr and ``ShardFile`` as ``.partial``.
    """
    for leftover in (*folder.rglob("*.part"), *folder.rglob("*.partial")):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Brings a file's bytes, or a folder's names, to the disk.

    Raises:
        OSError: The disk refused them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
