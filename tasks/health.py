"""Health: the synthetic exam sets out, and what became of it. It keeps no memory: each one is to go the whole way."""

from __future__ import annotations

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.reports.life.health import HealthReport
from schemas.reports.pages import PredictReport
from tasks.adapters.lifecycle.watching.health_exam import HealthExam, came_out, set_out
from tasks.adapters.provenance import now

logger = logging.getLogger(__name__)


@task(name="set-out", cache_policy=NO_CACHE, persist_result=False)
def send_health_exam(config: RunConfig) -> HealthExam:
    """Its files, and the config of a workspace of its own."""
    return set_out(config, now=now())


@task(name="come-out", cache_policy=NO_CACHE, persist_result=False)
def judge_health_exam(config: RunConfig, exam: HealthExam, predicted: PredictReport) -> HealthReport:
    """Whether it came out as it should.

    Raises:
        MammoError: It did not; the run fails, so whoever is told of failures is told.
    """
    report = came_out(config, exam, predicted, now=now())
    logger.info("the synthetic exam came out after %.1f s", report.seconds)
    return report
