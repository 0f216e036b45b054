"""Promote: a model is put into use if the rules of the config allow it. It keeps no memory: each is a decision of its own."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.reports.life.decisions import PromotionAnswer
from tasks.adapters.lifecycle.in_use import asked_answer, meant_model, put_into_use, stated
from tasks.artifacts import show_table


@task(name="promote", cache_policy=NO_CACHE, persist_result=False)
def promote_model(config: RunConfig, model: str, *, why: str, by: str, only_ask: bool) -> PromotionAnswer:
    """Shows what each rule says, then puts the model into use; or only shows it.

    Raises:
        ConfigError: No reason or no name is given, or no such model.
        CheckpointError: A rule forbids it, or its weights are gone.
        StoreBusy: Another model was put into use meanwhile.
    """
    who, reason = stated(by, "the field by"), stated(why, "the field why")
    meant = meant_model(config, model)
    answer = asked_answer(config, meant)
    verdict = "allow" if answer.is_allowed else "forbid"
    rows = [{"rule": rule.rule, "met": rule.in_words, "reason": rule.reason} for rule in answer.rules]
    show_table("promotion", rows, f"The rules {verdict} model {meant.sha256[:12]}")
    if not only_ask:
        put_into_use(config, meant, answer, who=who, why=reason)
    return answer
