"""What the tests of other systems share: a PACS on loopback and a listener, each a process, that know each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mammo_tests.other_systems import ListenerProcess, Orthanc, free_port, listening, orthanc, pacs_config


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc with its DICOMweb plug-in; it knows the port of ``listener``."""
    with orthanc(tmp_path_factory.mktemp("orthanc"), listener_port=free_port()) as server:
        yield server


@pytest.fixture(scope="session")
def listener(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    """Takes exams from the router and from the archive."""
    folder = tmp_path_factory.mktemp("listener")
    pacs = pacs_config(archive.listener_port, archive=archive)
    with listening(pacs, folder / "inbox", folder / "home") as started:
        yield started


@pytest.fixture
def inbox_dir(tmp_path: Path) -> Path:
    """A listener's inbox."""
    return tmp_path / "inbox"
