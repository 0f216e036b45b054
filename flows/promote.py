"""Promote: a model is put into use by the rules of the config."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.life.decisions import PromotionAnswer
from tasks.artifacts import config_flow
from tasks.promote import promote_model


@config_flow(name="promote")
def promote(config: RunConfig, why: str, by: str, model: str = "", only_ask: bool = True) -> PromotionAnswer:
    """A model is put into use if it meets every rule of the section promotion; a refusal names those that it does not.

    Args:
        config: Of the workspace whose model in use changes.
        why: Kept for good, so name no patient.
        by: Who decides; kept for good.
        model: First digits of a digest (`mammo model list` shows them), or a folder; empty = what was trained last.
        only_ask: Show what the rules say, and change nothing.
    """
    return promote_model(config, model, why=why, by=by, only_ask=only_ask)
