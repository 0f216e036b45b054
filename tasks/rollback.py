"""Rollback: the model before comes back into use. It keeps no memory: each is a decision of its own."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.reports.life.decisions import RegisteredModel
from tasks.adapters.lifecycle.in_use import put_back, stated
from tasks.artifacts import show_table


@task(name="rollback", cache_policy=NO_CACHE, persist_result=False)
def roll_back(config: RunConfig, *, why: str, by: str) -> RegisteredModel:
    """Puts the model before the one in use into use again.

    Raises:
        ConfigError: No reason or no name is given.
        CheckpointError: There is none before, or its weights are gone or altered.
        StoreBusy: Another model was put into use meanwhile.
    """
    model = put_back(config, who=stated(by, "the field by"), why=stated(why, "the field why"))
    show_table("promotion", [model.model_dump(mode="json")], f"Model {model.sha256[:12]} is in use again")
    return model
