"""The snippets of the page on the Python interface run as they stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gmic_model.networks.registry import build_network
from mammo_tests.reference import ROOT
from mammo_tests.training_store import WINDOW_PX, make_store, small_config
from schemas.reports.report import Provenance
from schemas.reports.training import TrainReport
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.workspace import Workspace

SNIPPETS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs/reference/python.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)
SHOW, SCORE, MEASURE = range(3)

Run = Callable[[int], dict[str, object]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a snippet of the page beside a workspace with a store, and an untrained network where trainings lie."""
    config = small_config(tmp_path / "workspace")
    make_store(config, exams=4)
    torch.manual_seed(0)
    weights = build_network(config.model).state_dict()
    files = Workspace(config.workspace_dir)
    chosen = files.stage_dir("train") / "abc" / "epoch-0003"
    digest = save_checkpoint(chosen, weights=weights, training={}, model=config.model, about={})
    made = {"config_sha256": "", "data_version": "", "preprocess_version": "", "created_utc": "2026-01-01"}
    trained = TrainReport(
        checkpoint_path=chosen,
        checkpoint_sha256=digest,
        run_dir=chosen.parent,
        epochs=(),
        best_epoch=3,
        train_exams=0,
        provenance=Provenance(code_version="1", seed=0, **made),
    )
    files.write_report("train", trained)
    monkeypatch.chdir(tmp_path)

    def execute(number: int) -> dict[str, object]:
        names: dict[str, object] = {}
        exec(compile(SNIPPETS[number], "docs/reference/python.md", "exec"), names)  # noqa: S102  # our own page
        return names

    return execute


def test_the_page_has_three_snippets() -> None:
    """Each snippet of the page is run by a test below."""
    assert len(SNIPPETS) == 3


def test_a_view_of_the_store_is_shown(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The picture has the size of the stored crop, and is not of one grey."""
    run(SHOW)
    with Image.open(tmp_path / "view.png") as picture:
        pixels_HW = np.asarray(picture)
    assert pixels_HW.shape[:2] == WINDOW_PX
    assert len(np.unique(pixels_HW)) > 10
    assert capsys.readouterr().out == f"E000 L CC {WINDOW_PX}\n"


def test_an_exam_is_scored_with_a_checkpoint(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Both breasts of the exam get two scores between 0 and 1, each the mean of two views."""
    names = run(SCORE)
    breasts = names["breasts"]
    assert breasts.laterality_B.tolist() == ["L", "R"]  # type: ignore[attr-defined]  # what the snippet made
    assert breasts.view_count_B.tolist() == [2, 2]  # type: ignore[attr-defined]
    score_NC = names["score_NC"]
    assert isinstance(score_NC, np.ndarray)
    assert ((score_NC > 0) & (score_NC < 1)).all()
    left, right = capsys.readouterr().out.splitlines()
    assert left.endswith(f"malignant {score_NC[:2, 1].mean():.3f}")
    assert right.endswith(f"malignant {score_NC[2:, 1].mean():.3f}")


def test_the_metrics_are_computed_from_two_columns(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the thirty pairs of a breast with and one without the finding 26 are in order; the interval holds the value."""
    interval = run(MEASURE)["interval"]
    assert interval.value == pytest.approx(26 / 30)  # type: ignore[attr-defined]
    assert interval.low < interval.value < interval.high  # type: ignore[attr-defined]
    assert capsys.readouterr().out.startswith("AUROC 0.867, AUPRC 0.885\n")
