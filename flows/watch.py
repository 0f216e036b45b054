"""Watch: whether each device's scores, recalls, pictures and views go on as they began."""

from __future__ import annotations

from schemas.config.run import RunConfig
from schemas.reports.life.watching import WatchReport
from tasks.artifacts import config_flow
from tasks.watch import watch_devices


@config_flow(name="watch")
def watch(config: RunConfig) -> WatchReport:
    """Control charts of all that was predicted, device by device; an alarm fails the run."""
    return watch_devices(config)
