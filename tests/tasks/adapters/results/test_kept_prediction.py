"""What predict left, read for its results: nothing yet, or damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from schemas.config.run import RunConfig
from schemas.errors import StoreError
from tasks.adapters.results.kept_prediction import kept_prediction
from tasks.adapters.workspace import Workspace


def test_where_nothing_was_predicted_there_is_nothing_to_return(tmp_path: Path, make_config: Callable[..., RunConfig]) -> None:
    """Nor where a prediction was broken off before it said what it found."""
    config = make_config(tmp_path / "ws", tmp_path / "cohort")
    assert kept_prediction(config) is None
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    folder.mkdir(parents=True)
    pd.DataFrame({"row": [0]}).to_parquet(folder / "scores.parquet")
    assert kept_prediction(config) is None


@pytest.mark.parametrize("damaged", ["scores.parquet", "report.json"])
def test_what_is_damaged_is_a_sentence_and_quotes_nothing(
    tmp_path: Path, make_config: Callable[..., RunConfig], damaged: str
) -> None:
    """No traceback, whose message quotes what the file holds."""
    config = make_config(tmp_path / "ws", tmp_path / "cohort")
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    folder.mkdir(parents=True)
    pd.DataFrame({"row": [0]}).to_parquet(folder / "scores.parquet")
    (folder / damaged).write_text('{"images": "CANARY"}')
    with pytest.raises(StoreError, match="What predict said cannot be read") as refused:
        kept_prediction(config)
    assert "CANARY" not in str(refused.value)
