"""Health: a synthetic exam goes the whole way, from its files to its page, in a workspace of its own."""

from __future__ import annotations

from flows.ingest import TWO_BATCHES, ingest_steps
from schemas.config.run import RunConfig
from schemas.reports.life.health import HealthReport
from tasks.artifacts import config_flow
from tasks.health import judge_health_exam, send_health_exam
from tasks.predict import find_checkpoint, predict_exams


@config_flow(name="health", task_runner=TWO_BATCHES)
def health(config: RunConfig) -> HealthReport:
    """The way of every exam, by the tasks that others go by; nothing of it is counted, watched, evaluated or sent."""
    checkpoint_path = find_checkpoint(config)
    exam = send_health_exam(config)
    predicted = predict_exams(exam.config, ingest_steps(exam.config), checkpoint_path)
    return judge_health_exam(config, exam, predicted)
