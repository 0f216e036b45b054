"""What the tests of training start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.training_store import make_store, small_config
from schemas.reports.data import SplitReport


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SplitReport]:
    """A workspace with a small store and its splits."""
    workspace = tmp_path_factory.mktemp("workspace")
    return workspace, make_store(small_config(workspace))
