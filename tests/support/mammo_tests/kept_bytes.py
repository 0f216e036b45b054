"""What is in the files of a run and of its server, for the tests that look there for what must not come out."""

from __future__ import annotations

from pathlib import Path


def kept_bytes(*folders: Path, server_home: Path) -> dict[Path, bytes]:
    """Every file of the folders and of the server's home.

    The running server removes files of its own at any time, such as the lease of a slot given back: those are left out.
    """
    found = {}
    for path in (path for folder in (*folders, server_home) for path in folder.rglob("*") if path.is_file()):
        try:
            found[path] = path.read_bytes()
        except FileNotFoundError:
            assert path.is_relative_to(server_home), path
    return found
