"""Whether a service goes on as it began: its devices, and the synthetic exam that goes the whole way."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.commands.examination.complaint import Complaint
from schemas.config.run import RunConfig
from tasks.adapters.workspace import WATCH, Workspace


def synthetic_exam_came_out(config: RunConfig) -> Iterator[Complaint]:
    """When the newest one did; nothing where none is asked for."""
    from tasks.adapters.lifecycle.watching.site_counts import newest_exam, silence
    from tasks.adapters.provenance import now

    if config.health is None:
        return
    report = newest_exam(Workspace(config.workspace_dir))
    said = silence(report, config.health, now=now())
    found = said if said or report is None else f"a synthetic exam came out on {report.created_utc} after {report.seconds:g} s"
    remedy = "is mammo serve up, does a training hold the GPU? see the runs of health in its UI, or mammo doctor CONFIG --exam"
    yield Complaint(check="exam", is_well=not said, found=found, remedy=remedy if said else "")


def devices_as_they_began(config: RunConfig) -> Iterator[Complaint]:
    """What the newest watching found; nothing where nobody has watched. A report that cannot be read may hold an alarm."""
    from schemas.reports.life.watching import WatchReport

    workspace = Workspace(config.workspace_dir)
    try:
        report = workspace.read_report(WATCH, WatchReport)
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        found = f"{workspace.report_path(WATCH)} cannot be read: whether an alarm stands is not known"
        yield Complaint(check="devices", is_well=False, found=found, remedy="run mammo watch CONFIG, which writes it anew")
        return
    looked = f"looked at {report.created_utc[:10]}"
    if not report.alarmed:
        yield Complaint(check="devices", is_well=True, found=f"{len(report.devices)} watched, no alarm, {looked}")
    for device in report.alarmed:
        what = ", ".join(chart.name for chart in device.alarms)
        remedy = f"see {report.page_path}; after thresholds were chosen anew set watch.since to that day"
        yield Complaint(check="devices", is_well=False, found=f"{device.name}: {what} not as it began, {looked}", remedy=remedy)
