"""The synthetic exam goes the way of every exam, and nothing of it is counted where the site's exams are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deployments.commands.doctor import synthetic_exam_came_out
from flows.ingest import ingest_steps
from gmic_model.networks.registry import build_network
from mammo_tests.plain_tasks import PlainSubmit
from mammo_tests.training_store import small_config, with_baseline
from schemas.config.evaluation import HealthConfig
from schemas.config.run import RunConfig
from schemas.errors import MammoError
from schemas.reports.life.health import HealthReport
from tasks.adapters.lifecycle.watching.health_exam import HealthExam
from tasks.adapters.lifecycle.watching.site_counts import newest_exam
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.workspace import HEALTH, Workspace
from tasks.health import judge_health_exam, send_health_exam
from tasks.predict import predict_exams


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A workspace with a network and nothing else."""
    asked = HealthConfig(image_size_px=(384, 288))
    made = with_baseline(small_config(tmp_path / "w")).model_copy(update={"health": asked})
    torch.manual_seed(0)
    save_checkpoint(
        tmp_path / "network", weights=build_network(made.model).state_dict(), training={}, model=made.model, about={}
    )
    return made


@pytest.fixture
def send(config: RunConfig) -> Callable[..., HealthReport]:
    """``send(spoil)``: the flow's steps as plain functions; ``spoil`` is done to the exam before it is judged."""

    def go(spoil: Callable[[HealthExam], None] = lambda exam: None) -> HealthReport:
        exam = send_health_exam.fn(config)
        ingested = ingest_steps(exam.config, submit=PlainSubmit())
        predicted = predict_exams.fn(exam.config, ingested, config.workspace_dir.parent / "network")
        spoil(exam)
        return judge_health_exam.fn(config, exam, predicted)

    return go


def test_it_comes_out_each_time_and_is_counted_nowhere(config: RunConfig, send: Callable[..., HealthReport]) -> None:
    """Four scores and a page; the site has no store, no log, no prediction and no outbox of it.

    Other scores of the same weights, and a page that is not there, fail the run; the doctor says when the last one came out.
    """
    workspace = Workspace(config.workspace_dir)
    (fault,) = synthetic_exam_came_out(config)
    assert not fault.is_well and "yet" in fault.found
    first = send()
    assert sorted(first.scores) == ["L-CC", "L-MLO", "R-CC", "R-MLO"] and first.seconds > 0 and first.page_path.exists()
    assert newest_exam(workspace) == first and [path.name for path in config.workspace_dir.iterdir()] == [HEALTH]
    (well,) = synthetic_exam_came_out(config)
    assert well.is_well and first.created_utc in well.found
    other = {view: {finding: score + 0.1 for finding, score in scores.items()} for view, scores in first.scores.items()}
    workspace.write_report(HEALTH, first.model_copy(update={"scores": other}))

    def lose_the_page(exam: HealthExam) -> None:
        (exam.config.workspace_dir / "predict" / "report.html").unlink()

    with pytest.raises(MammoError, match="no page; it scores otherwise than at"):
        send(lose_the_page)
