"""Watch: whether each device goes on as it began. It keeps no memory: the log grows, and to look at it takes seconds."""

from __future__ import annotations

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.reports.life.watching import WatchReport
from tasks.adapters.lifecycle.watching.watched_devices import look, refuse_alarms
from tasks.adapters.pages.life.watch_page import leave_watch, shift_text
from tasks.adapters.provenance import now
from tasks.artifacts import add_to_run_name, show_link, show_table

logger = logging.getLogger(__name__)


@task(name="watch", cache_policy=NO_CACHE, persist_result=False)
def watch_devices(config: RunConfig) -> WatchReport:
    """Control charts of the devices whose exams were predicted; page and report are left also where there is an alarm.

    Raises:
        ValidationFailed: A device is not as it began: the run fails, so whoever is told of failures is told.
    """
    moment = now()
    report = leave_watch(config, look(config, now=moment), created=moment)
    rows = [
        {"device": device.name, "exams": device.exams, "measure": chart.name, "state": shift_text(chart)}
        for device in report.devices
        for chart in device.charts
    ]
    rows += [
        {"device": device.name, "exams": device.exams, "measure": "", "state": f"{device.needed} more exams are needed"}
        for device in report.devices
        if device.needed
    ]
    show_table("devices", rows, f"{len(report.devices)} devices, {len(report.alarmed)} not as they began")
    if report.page_path is not None:
        show_link("devices-page", report.page_path, "Control charts of each device")
    add_to_run_name(f"{len(report.devices)}-devices-{len(report.alarmed)}-changed")
    if report.clock_went_back:
        logger.warning(
            "%d exams of the log are of an earlier time than the one before: a clock went back", report.clock_went_back
        )
    refuse_alarms(report)
    return report
