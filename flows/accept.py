"""Accept: a model against the exams of this site."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.life.acceptance import AcceptanceReport
from tasks.accept import accept_model
from tasks.artifacts import config_flow


@config_flow(name="accept")
def accept(config: RunConfig, model: str = "") -> AcceptanceReport:
    """Whether a model is fit for this site: a pack, a folder, or digits of a digest; by default the one in use."""
    return accept_model(config, model)
