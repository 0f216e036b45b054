"""The synthetic exam goes the way of every exam, and nothing of it is counted where the site's exams are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deployments.commands.examination.course import synthetic_exam_came_out
from flows.ingest import ingest_steps
from gmic_model.networks.registry import build_network
from mammo_tests.plain_tasks import PlainSubmit
from mammo_tests.training_store import small_config, with_baseline
from schemas.config.evaluation import HealthConfig
from schemas.config.run import RunConfig
from schemas.errors import MammoError, StoreBusy
from tasks.adapters.lifecycle.watching.site_counts import newest_exam
from tasks.adapters.lock import held_lock, reading
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


def test_it_comes_out_and_is_counted_nowhere(config: RunConfig) -> None:
    """Four scores and a page, by the flow's steps; the site has no store, no log, no prediction and no outbox of it.

    Other scores of the same weights, and a page that is not there, fail the run; the doctor says when the last one came out.
    The next one waits until it has ended, and finds nothing of it.
    """
    workspace = Workspace(config.workspace_dir)
    (fault,) = synthetic_exam_came_out(config)
    assert not fault.is_well and "yet" in fault.found
    exam = send_health_exam.fn(config)
    ingested = ingest_steps(exam.config, submit=PlainSubmit())
    predicted = predict_exams.fn(exam.config, ingested, config.workspace_dir.parent / "network")
    report = judge_health_exam.fn(config, exam, predicted)
    assert sorted(report.scores) == ["L-CC", "L-MLO", "R-CC", "R-MLO"] and report.seconds > 0 and report.page_path.exists()
    assert newest_exam(workspace) == report and [path.name for path in config.workspace_dir.iterdir()] == [HEALTH]
    (well,) = synthetic_exam_came_out(config)
    assert well.is_well and report.created_utc in well.found
    assert judge_health_exam.fn(config, exam, predicted).scores == report.scores
    other = {view: {finding: score + 0.1 for finding, score in scores.items()} for view, scores in report.scores.items()}
    workspace.write_report(HEALTH, report.model_copy(update={"scores": other}))
    report.page_path.unlink()
    with pytest.raises(MammoError, match="no page; it scores otherwise than at"):
        judge_health_exam.fn(config, exam, predicted)
    holds = (held_lock(Workspace(workspace.health_dir).store_dir, purpose="ingest"), reading([workspace.health_dir]))
    for on_its_way in holds:
        with on_its_way, pytest.raises(StoreBusy):
            send_health_exam.fn(config)
    send_health_exam.fn(config)
    assert not workspace.health_dir.exists()
