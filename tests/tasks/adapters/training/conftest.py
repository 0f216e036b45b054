"""What the tests of training start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.training_store import few_exams, make_store, small_config
from schemas.reports.data import SplitReport


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SplitReport]:
    """A workspace with a small store and its splits."""
    workspace = tmp_path_factory.mktemp("workspace")
    return workspace, make_store(small_config(workspace))


@pytest.fixture(scope="session")
def few(stored: tuple[Path, SplitReport], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SplitReport]:
    """The same workspace, of whose patients half take no part: where it does not matter how many steps an epoch has."""
    workspace, splits = stored
    return workspace, few_exams(tmp_path_factory.mktemp("few") / "splits.parquet", splits.data_version)
