"""Rollback: the model before comes back into use."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.life.decisions import RegisteredModel
from tasks.artifacts import config_flow
from tasks.rollback import roll_back


@config_flow(name="rollback")
def rollback(config: RunConfig, why: str, by: str) -> RegisteredModel:
    """The model that was in use before comes back, and scores old exams bit for bit as then; twice goes back two.

    Args:
        config: Of the workspace whose model in use changes.
        why: Kept for good, so name no patient.
        by: Who decides; kept for good.
    """
    return roll_back(config, why=why, by=by)
