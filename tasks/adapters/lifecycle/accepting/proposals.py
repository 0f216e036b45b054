"""Thresholds that ``mammo accept`` proposed for devices, put into use by a person: later exams of these are recalled by them.

Only what was proposed can be put into use, and proposed is only where there were enough exams. The locked threshold stays
beside the weights as it is: other devices are recalled by it, and a rollback returns to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.exam import NOT_KNOWN
from schemas.reports.life.acceptance import AcceptanceReport, DeviceRecall
from schemas.reports.life.decisions import DeviceThreshold, SiteThresholds
from tasks.adapters.lifecycle.model_registry import InUse, Registry
from tasks.adapters.workspace import Workspace


def use_proposals(
    config: RunConfig, wanted: Sequence[str], *, who: str, why: str, is_dry: bool = False
) -> tuple[DeviceThreshold, ...]:
    """Puts the proposals of the newest acceptance into use for the model in use; returns those that are new.

    What was in use for other devices stays in use.

    Args:
        config: Of the workspace.
        wanted: Parts of devices' names; empty = every device with a proposal.
        who: Decides.
        why: In words.
        is_dry: Nothing is changed.

    Raises:
        ConfigError: No model is in use, no acceptance is of it, or nothing is proposed for the devices that are wanted.
        StoreBusy: Another model, or other thresholds, were put into use meanwhile.
    """
    workspace = Workspace(config.workspace_dir)
    with Registry(workspace) as registry:
        used = registry.used()
        report = _acceptance(workspace, used)
        chosen = _chosen(report, wanted)
        if not is_dry:
            registry.use_thresholds(_together(report, used[-1], chosen), used, who=who, why=why)
    return chosen


# ---------------------------------------------------------------------------------------------------------------------


def _acceptance(workspace: Workspace, used: Sequence[InUse]) -> AcceptanceReport:
    if not used:
        raise ConfigError(
            "No model is in use here that thresholds could be put into use for",
            expected="a model that was promoted",
            remedy="`mammo model promote CONFIG --why TEXT` first, then `mammo accept` it",
        )
    sha256 = used[-1].sha256
    try:
        report = workspace.read_report("accept", AcceptanceReport)
        got = f"model {report.model_sha256[:12]}"
    except (OSError, ValueError) as missing:
        report, got = None, type(missing).__name__
    if report is None or report.model_sha256 != sha256:
        raise ConfigError(
            "No acceptance of the model in use has proposed thresholds",
            expected=f"an acceptance of model {sha256[:12]}",
            got=got,
            remedy=f"run `mammo accept {sha256[:12]} CONFIG`",
        )
    return report


def _chosen(report: AcceptanceReport, wanted: Sequence[str]) -> tuple[DeviceThreshold, ...]:
    named = [
        device
        for device in report.devices
        if device.name != NOT_KNOWN and (not wanted or any(part.casefold() in device.name.casefold() for part in wanted))
    ]
    chosen = tuple(
        DeviceThreshold(
            name=device.name,
            software=device.software,
            threshold=device.proposed,
            exams=device.exams,
            patients=device.patients,
            expected=device.expected,
        )
        for device in named
        if device.proposed is not None
    )
    if not chosen:
        raise ConfigError(
            "Nothing is proposed for these devices, so nothing was changed",
            expected="a device with enough exams for a threshold that recalls what is wanted",
            got="; ".join(map(_lack, named)) or "no such device among the exams that were judged",
            remedy="accept again when more exams are there, or with a wider accept.recall_margin",
        )
    return chosen


def _lack(device: DeviceRecall) -> str:
    missing = f"{device.needed_patients:,} more patients needed" if device.needed_patients else "no recall rate is wanted"
    return f"{device.name}, software {device.software}: {missing}"


def _together(report: AcceptanceReport, before: InUse, chosen: Sequence[DeviceThreshold]) -> SiteThresholds:
    kept = before.thresholds.devices if before.thresholds is not None and before.thresholds.finding == report.finding else ()
    new = {(device.name, device.software): device for device in chosen}
    others = tuple(device for device in kept if (device.name, device.software) not in new)
    return SiteThresholds(model_sha256=report.model_sha256, finding=report.finding, devices=(*chosen, *others))
