"""The folder that exams arrive in: which files it holds, and which of them are complete (rule F07). Nothing is opened here.

A file is taken when its size and times have not changed for a while: whoever copies it may be slow, and nothing in a file's
first half says that there will be a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tasks.adapters.gate.source_file import SourceFile, file_fingerprint, is_unfinished
from tasks.adapters.pseudonyms import Pseudonyms


def source_files(source_dir: Path, pseudonyms: Pseudonyms) -> list[SourceFile]:
    """Every file below the folder, in the order of paths; links and pipes too, which the gate refuses.

    Left out: what has a leading dot (also folders: `.Trash`, macOS' `._x`), names for unfinished files, DICOMDIR.
    """
    found = []
    for path in sorted(_walk(source_dir)):
        try:
            status = path.lstat()
        except FileNotFoundError:  # taken away while we looked
            continue
        file_id = pseudonyms.file_id(path.relative_to(source_dir).as_posix())
        found.append(SourceFile(file_id=file_id, path=path, fingerprint=file_fingerprint(status)))
    return found


def complete_files(files: Sequence[SourceFile], *, settle_s: float) -> list[SourceFile]:
    """Those that nobody is writing: not touched for ``settle_s``, or not changed while this waits that long.

    Waits only if some were touched lately; a time in the future (another machine's clock) counts as lately.
    """
    now_s = time.time()
    touched = {file.file_id for file in files if settle_s > 0 and now_s - _touched_s(file) < settle_s}
    if touched:
        time.sleep(settle_s)
    return [file for file in files if file.file_id not in touched or _is_unchanged(file)]


def mask_files(masks_dir: Path, pseudonyms: Pseudonyms) -> Mapping[str, tuple[Path, str]]:
    """Lesion masks by image pseudonym, each with its fingerprint."""
    masks = ((path, path.lstat()) for path in sorted(masks_dir.glob("*.png")))
    return {pseudonyms.image_id(path.stem): (path, file_fingerprint(status)) for path, status in masks}


def _walk(folder: Path) -> Iterator[Path]:
    pending = [folder]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                if is_unfinished(entry.name) or entry.name == "DICOMDIR":
                    continue
                # A link is a file to refuse, not a folder to follow.
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                else:
                    yield Path(entry.path)


def _touched_s(file: SourceFile) -> float:
    try:
        status = file.path.lstat()
    except FileNotFoundError:
        return time.time()
    # ctime: a copy may be given its original's mtime, nothing sets ctime.
    return max(status.st_mtime, status.st_ctime)


def _is_unchanged(file: SourceFile) -> bool:
    try:
        return file_fingerprint(file.path.lstat()) == file.fingerprint
    except FileNotFoundError:
        return False
