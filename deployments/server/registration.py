"""What the Prefect server of a workstation must know: pools, limits, deployments, automations.

Idempotent: registering again changes nothing on the server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deployments.server.registered_flows import register_flows
from deployments.verb import Deployment
from deployments.verbs import deployed_flows
from schemas.config.run import RunConfig
from schemas.config.service import EmailNotice, KubernetesPools, Notice, ServiceConfig, SlackNotice
from schemas.errors import ConfigError
from tasks.adapters.interpreter import SAFE_ENVIRONMENT
from tasks.adapters.workspace import HEALTH

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

CPU_POOL, GPU_POOL = POOLS = ("mammo-cpu", "mammo-gpu")
KUBERNETES_TEMPLATE = Path(__file__).parents[1] / "work_pools" / "kubernetes.json"
_LOCK_WAIT_S = 3600.0
_HEAD_OF_FILE = """\
# Every flow as a deployment, written from the rows of deployments/verbs.py: change them there, then `make reference`.
# `mammo serve CONFIG.yaml` registers these with its config as the parameter's default; by hand:
#   MAMMO_WORKSPACE=/data/run MAMMO_INBOX=/data/inbox prefect deploy --all --prefect-file deployments/prefect.yaml
# Cron is UTC: no hour is missing or doubled when clocks change. Times are far apart so that runs rarely meet; where they do,
# one run per deployment goes on and the collision strategy says what becomes of the other.
"""
FAILURE = "mammo: say that a run failed"
SILENCE = "mammo: say that no synthetic exam came out"
_SIGNS_OF_LIFE = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")


def register(config: RunConfig, service: ServiceConfig) -> None:
    """Registers all of it at the server that the environment names; ``config`` becomes the deployments' default.

    Raises:
        ConfigError: A secret's file cannot be read, or a work pool is of another type.
        MammoError: Prefect refused the deployments.
    """
    asyncio.run(_register(config, service))


async def _register(config: RunConfig, service: ServiceConfig) -> None:
    from prefect.client.orchestration import get_client

    await register_services(service, silent_h=config.health.longest_silence_h if config.health else None)
    async with get_client() as client:
        await register_flows(client, deployments_for(config))


def deployments_for(config: RunConfig) -> dict[str, Any]:
    """Every flow as a deployment with this run's config as its default; runs of a service wait for the store."""
    values = config.model_dump(mode="json")
    lock_wait_s = max(config.ingest.lock_wait_s, _LOCK_WAIT_S)
    return deployments_of({**values, "ingest": {**values["ingest"], "lock_wait_s": lock_wait_s}})


def shipped_deployments() -> str:
    """``prefect.yaml`` as it is in the repository: the same rows, with two variables where a run's config would stand."""
    config = {
        "workspace_dir": "{{ $MAMMO_WORKSPACE }}",
        "ingest": {"source_dir": "{{ $MAMMO_INBOX }}", "lock_wait_s": _LOCK_WAIT_S},
    }
    return _HEAD_OF_FILE + yaml.dump(deployments_of(config), Dumper=_WithoutAnchors, sort_keys=False, width=120)


def deployments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``prefect deploy --all`` reads, from the rows of ``verbs``, with one config for all of them."""
    return {
        "name": "mammography-gmic",
        "pull": [],  # entrypoints are modules of the installed package: nothing is fetched, a corrected module counts at once
        "deployments": [_deployment(name, row, config) for name, row in deployed_flows().items()],
    }


def kubernetes_template(pool: str, kubernetes: KubernetesPools) -> dict[str, Any]:
    """The base job template of a pool: the shipped one, its defaults being what the settings say."""
    template: dict[str, Any] = json.loads(KUBERNETES_TEMPLATE.read_text())
    values = {
        "image": kubernetes.gpu_image if pool == GPU_POOL else kubernetes.cpu_image,
        "gpus": str(kubernetes.gpus) if pool == GPU_POOL else "0",
        "namespace": kubernetes.namespace,
        "volume_claim": kubernetes.volume_claim,
        "mount_path": str(kubernetes.mount_path),
        "auth_secret": kubernetes.auth_secret,
        "service_account_name": kubernetes.service_account,
        "memory": kubernetes.memory,
    }
    for name, value in values.items():
        template["variables"]["properties"][name]["default"] = value
    return template


# ---------------------------------------------------------------------------------------------------------------------


class _WithoutAnchors(yaml.SafeDumper):
    """Writes a part that occurs twice twice: a reader sees each deployment whole."""

    def ignore_aliases(self, data: object) -> bool:
        """Of everything."""
        return True


def _has(config: Mapping[str, Any], section: Sequence[str]) -> bool:
    found: Any = config
    for name in section:
        found = (found or {}).get(name)
    return found is not None


def _deployment(name: str, row: Deployment, config: Mapping[str, Any]) -> dict[str, Any]:
    strategy = "CANCEL_NEW" if row.skips_when_busy else "ENQUEUE"
    content: dict[str, Any] = {
        "name": name,
        "entrypoint": f"flows.{name}.{name}",
        "description": row.about,
        "tags": ["mammo", name],
        "parameters": {"config": dict(config)},
        "work_pool": {"name": row.pool},
        "concurrency_limit": {"limit": 1, "collision_strategy": strategy},
    }
    if not _has(config, row.needs):
        return content
    if row.schedule is not None:
        content["schedules"] = [{"cron": row.schedule.cron, "timezone": "UTC", "slug": row.schedule.slug, "active": True}]
    if row.event:
        # The server hands an event to a trigger again when its database was busy with another. With a period the trigger
        # remembers that it has fired for this event; without one it fires again.
        once = {"for_each": ["prefect.resource.id"], "within": 1}
        content["triggers"] = [{"type": "event", "enabled": True, **row.event, **once}]
    return content


async def register_services(service: ServiceConfig, *, silent_h: float | None = None) -> None:
    """Work pools, the limit of GPU slots and the automations, as the config asks; what is there already is brought to it.

    Args:
        service: What is asked for.
        silent_h: After so many hours without a synthetic exam that came out somebody is told; None = none is sent.
    """
    from prefect.client.orchestration import get_client

    from tasks.stage import GPU_TAG

    async with get_client() as client:
        for pool in POOLS:
            await _keep_pool(client, pool, service.kubernetes)
        await client.create_concurrency_limit(tag=GPU_TAG, concurrency_limit=service.gpu_slots)
        await _keep_automation(client, _crash_of_the_silent(service.silence_s))
        if service.notice is not None:
            await _keep_automation(client, await _notice_of_failure(service.notice))
        else:
            await _drop_automation(client, FAILURE)
        if service.notice is not None and silent_h is not None:
            await _keep_automation(client, await _notice_of_silence(service.notice, silent_h))
        else:
            await _drop_automation(client, SILENCE)


async def _keep_pool(client: PrefectClient, name: str, kubernetes: KubernetesPools | None) -> None:
    """Creates it or renews its template. A pool's type stays: the server would put a template of another type into it."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    kind = "process" if kubernetes is None else "kubernetes"
    try:
        known = (await client.read_work_pool(name)).type
    except ObjectNotFound:
        known = kind
    if known != kind:
        raise ConfigError(
            f"The work pool {name} is there already, of another type",
            expected=kind,
            got=known,
            remedy=f"prefect work-pool delete {name} (its waiting runs go too), or correct `kubernetes` in the service's file",
        )
    if kubernetes is None:
        template = dict(ProcessWorker.get_default_base_job_template())
        template["variables"]["properties"]["env"]["default"] = SAFE_ENVIRONMENT  # of the interpreter that a run is
    else:
        template = kubernetes_template(name, kubernetes)
    await client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template), overwrite=True)


async def _keep_automation(client: PrefectClient, automation: Any) -> None:
    """Creates it, or replaces the one of the same name."""
    await _drop_automation(client, automation.name)
    await client.create_automation(automation)


async def _drop_automation(client: PrefectClient, name: str) -> None:
    for known in await client.read_automations_by_name(name):
        await client.delete_automation(known.id)


def _crash_of_the_silent(silence_s: int) -> Any:
    """A flow process that was killed with its worker says nothing more: without this its run, and its slot, live for ever."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    return AutomationCore(
        name="mammo: runs that fell silent have crashed",
        description=f"No heartbeat for {silence_s} s: the process is gone. The next run, or a retry, goes on with its work.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={f"prefect.flow-run.{sign}" for sign in _SIGNS_OF_LIFE},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silence_s),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"No sign of life for {silence_s} s")],
    )


async def _notice_of_failure(notice: Notice) -> Any:
    from prefect.events.actions import CallWebhook, SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    what = "{{ flow_run.name }} of flow {{ flow.name }} is {{ flow_run.state.name }}"
    where = "{{ flow_run|ui_url }}"
    block_id = await _notice_block(notice)
    action: Any = CallWebhook(
        block_document_id=block_id,
        payload=f'{{"run": "{{{{ flow_run.name }}}}", "flow": "{{{{ flow.name }}}}", '
        f'"state": "{{{{ flow_run.state.name }}}}", "url": "{where}"}}',
    )
    if notice.kind != "webhook":
        action = SendNotification(block_document_id=block_id, subject=f"mammo: {what}", body=f"{what}: {where}")
    return AutomationCore(
        name=FAILURE,
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(seconds=1),  # remembers that it has fired, for the server may hand it the event again
        ),
        actions=[action],
    )


async def _notice_of_silence(notice: Notice, hours: float) -> Any:
    """A run that never begins fails nowhere: the server itself misses the end of one, and says so as long as none comes."""
    from prefect.events.actions import CallWebhook, SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    missing = f"no synthetic exam has come out for {hours:g} hours"
    block_id = await _notice_block(notice)
    action: Any = CallWebhook(block_document_id=block_id, payload=json.dumps({"flow": HEALTH, "state": missing}))
    if notice.kind != "webhook":
        action = SendNotification(block_document_id=block_id, subject=f"mammo: {missing}", body="See mammo doctor CONFIG.")
    return AutomationCore(
        name=SILENCE,
        trigger=EventTrigger(
            expect={"prefect.flow-run.Completed"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": HEALTH}),
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(hours=hours),
        ),
        actions=[action],
    )


async def _notice_block(notice: Notice) -> Any:
    """The block holds the secret; it is encrypted in the server's database."""
    from prefect.blocks.core import Block
    from prefect.blocks.notifications import SendgridEmail, SlackWebhook
    from prefect.blocks.webhook import Webhook

    block: Block
    if isinstance(notice, EmailNotice):
        block = SendgridEmail(api_key=secret_of(notice.key_file), sender_email=notice.sender, to_emails=list(notice.recipients))
    elif isinstance(notice, SlackNotice):
        block = SlackWebhook(url=secret_of(notice.url_file))
    else:
        block = Webhook(method="POST", url=secret_of(notice.url_file))
    return await block.save("mammo-failure-notice", overwrite=True)


def secret_of(path: Path) -> Any:
    """A file's only line as a secret that no log prints.

    Raises:
        ConfigError: There is no such file, or others can read it.
    """
    from pydantic import SecretStr

    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(
                f"{path} can be read by others",
                expected="mode 0600",
                got=oct(path.stat().st_mode & 0o777),
                remedy=f"chmod 600 {path}",
            )
        return SecretStr(path.read_text().strip())
    except OSError as unreadable:
        raise ConfigError(
            f"{path} cannot be read", expected="a 0600 file with the secret", got=unreadable.strerror
        ) from unreadable
