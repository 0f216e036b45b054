"""The disk, the key, and the files and folders that a config names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deployments.commands.examination.complaint import Complaint
from schemas.config.run import RunConfig
from schemas.errors import MammoError
from tasks.adapters.workspace import Workspace

_GIB: Final = 1 << 30
_LEAST_FREE_GIB: Final = 10.0


def disk(folder: Path) -> Complaint:
    """Room below a folder. Some file systems, as btrfs, count no files and say 0 of 0: there they do not run out."""
    while not _is_there(folder):
        folder = folder.parent
    free_gib = shutil.disk_usage(folder).free / _GIB
    counted = os.statvfs(folder)
    has_files_left = counted.f_favail != 0 or counted.f_files == 0
    files = f" and {counted.f_favail} files" if counted.f_files else ""
    is_writable = os.access(folder, os.W_OK)
    is_well = free_gib >= _LEAST_FREE_GIB and is_writable and has_files_left
    return Complaint(
        check="disk",
        is_well=is_well,
        found=f"{free_gib:.0f} GiB{files} free at {folder}{'' if is_writable else ', not writable'}",
        remedy="" if is_well else f"make room ({_LEAST_FREE_GIB:.0f} GiB), or set workspace_dir to another disk of yours",
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that may not be looked into
        return False


def key(config: RunConfig) -> Complaint:
    """Who can read it, and whether it is missing where a store was made with one."""
    path = Workspace(config.workspace_dir).key_path
    if not _is_there(path):
        if (url := config.ingest.store) and _is_made_elsewhere(config):
            found = f"no {path.name}, and {url} holds a store"
            remedy = f"copy the {path.name} of the machine that made it to {path}, mode 0600"
            return Complaint(check="key", is_well=False, found=found, remedy=remedy)
        return Complaint(check="key", is_well=True, found=f"no {path.name} yet: the first ingest makes it")
    mode = path.stat().st_mode & 0o777
    is_well = mode & 0o077 == 0 and os.access(path, os.R_OK)
    remedy = "" if is_well else f"chmod 600 {path}: who reads it can link pseudonyms to patients"
    return Complaint(check="key", is_well=is_well, found=f"{path.name} mode {mode:04o}", remedy=remedy)


def _is_made_elsewhere(config: RunConfig) -> bool:
    from tasks.adapters.store.store_settings import objects_of

    try:
        return objects_of(Workspace(config.workspace_dir).store, config.ingest.store).is_store()
    except MammoError:  # object_store says what of it
        return False


def inputs(config: RunConfig) -> Iterator[Complaint]:
    """Whatever the config names and a run would read, hours later perhaps."""
    ingest, fits = config.ingest, {"train": config.train, "pretrain": config.pretrain}
    named = [
        ("ingest.source_dir", None if ingest.bucket_url else ingest.source_dir),
        ("ingest.labels_csv", ingest.labels_csv),
        ("ingest.subjects_csv", ingest.subjects_csv),
        ("ingest.boxes_csv", ingest.boxes_csv),
        ("ingest.masks_dir", ingest.masks_dir),
        ("store_dir", config.store_dir if isinstance(config.store_dir, Path) else None),
        ("split.file", config.split.file),
        *((f"{section}.start.{part}", path) for section, fit in fits.items() if fit for part, path in fit.start.files()),
        *(("evaluate.checkpoints", path) for path in config.evaluate.checkpoints),
        ("evaluate.ensemble", config.evaluate.ensemble),
        ("checkpoint", config.checkpoint),
        *((f"table1.checkpoints.{row}", path) for row, paths in config.table1.checkpoints.items() for path in paths),
        ("ingest.source.worklist", ingest.fetched_from.worklist if ingest.fetched_from else None),
    ]
    for key, path in named:
        if path is None:
            continue
        is_well = os.access(path, os.R_OK)
        remedy = "" if is_well else f"correct {key}, or give the user who runs mammo the right to read it"
        found = f"{path} {'readable' if is_well else 'not readable'}"
        yield Complaint(check=key.rpartition(".")[2], is_well=is_well, found=found, remedy=remedy)
