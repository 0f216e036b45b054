"""What the gate refused: list it, show it, find it, release or discard it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from schemas.errors import FileDeferred, GateRejection
from tasks.adapters.gate.opening import open_source
from tasks.adapters.inbox.source_folder import source_files
from tasks.adapters.pseudonyms import Pseudonyms


def find_sources(source_dir: Path, file_ids: Iterable[str], pseudonyms: Pseudonyms) -> dict[str, Path]:
    """The files of a source folder that pseudonyms stand for; ids of files that are gone are left out.

    A pseudonym is a keyed digest of a path, so the folder is walked and every path is digested. Paths may spell names: they are
    for the terminal of whoever asks, never for a log, a page or the ledger.
    """
    wanted = set(file_ids)
    return {file.file_id: file.path for file in source_files(source_dir, pseudonyms).files if file.file_id in wanted}


def source_digests(source_dir: Path, file_ids: Iterable[str], pseudonyms: Pseudonyms) -> dict[str, str]:
    """Keyed digests of files of a source folder, by pseudonym; files that are gone, or cannot be read now, are left out."""
    digests = {}
    for file_id, path in find_sources(source_dir, file_ids, pseudonyms).items():
        with suppress(OSError, GateRejection, FileDeferred), os.fdopen(open_source(path, source_dir), "rb") as file:
            digests[file_id] = pseudonyms.source_digest(hashlib.file_digest(file, "sha256").hexdigest())
    return digests
