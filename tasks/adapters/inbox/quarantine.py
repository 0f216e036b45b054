"""What the gate refused: list it, show it, find it, release or discard it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.adapters.inbox.source_folder import source_files
from tasks.adapters.pseudonyms import Pseudonyms


def find_sources(source_dir: Path, file_ids: Iterable[str], pseudonyms: Pseudonyms) -> dict[str, Path]:
    """The files of a source folder that pseudonyms stand for; ids of files that are gone are left out.

    A pseudonym is a keyed digest of a path, so the folder is walked and every path is digested. Paths may spell names: they are
    for the terminal of whoever asks, never for a log, a page or the ledger.
    """
    wanted = set(file_ids)
    return {file.file_id: file.path for file in source_files(source_dir, pseudonyms).files if file.file_id in wanted}
