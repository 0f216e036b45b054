"""Who is told of a failure: the notices as real blocks and automations on a real server, with a receiver on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.server.registration import FAILURE, SILENCE, register_services
from mammo_tests.served_api import served_api
from schemas.config.service import EmailNotice, ServiceConfig, SlackNotice, WebhookNotice

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own: here an automation tells of every failure, also of those that other tests want."""
    with served_api(tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("own"), automations=True) as api:
        yield api


@pytest.fixture
def registered(prefect_api: str, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """``registered(kind, secret, **settings)``: the notice at the server; its block, as the UI shows it, and automation."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:

        def register(kind: Any, secret: str, **settings: Any) -> tuple[Any, Any]:
            path = tmp_path / "secret"
            path.touch(mode=0o600)
            path.write_text(secret)
            field = "key_file" if kind is EmailNotice else "url_file"
            name = {WebhookNotice: "webhook", SlackNotice: "slack", EmailNotice: "email"}[kind]
            for _ in range(2):  # the second time it replaces the first
                notice = kind.model_validate({"kind": name, field: path, **settings})
                asyncio.run(register_services(ServiceConfig(notice=notice)))
            (automation,) = client.read_automations_by_name(FAILURE)
            return client.read_block_document(automation.actions[0].block_document_id, include_secrets=False), automation

        yield register
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        for pool in client.read_work_pools():
            client.delete_work_pool(pool.name)


def fail() -> Any:
    """A flow run that fails; its record.

    The server's database keeps the error with its line. Others search it for the names of patients, so this is none of those.
    """
    from prefect import flow
    from prefect.client.orchestration import get_client

    @flow(name="train")
    def train() -> None:
        raise ValueError("TOLD^NOBODY")

    state = train(return_state=True)
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def test_slack_is_told_and_the_address_stays_hidden(
    registered: Callable[..., Any], received: tuple[int, list[Any]], until: Callable[..., bool]
) -> None:
    """The server's own action sends it: run, flow, state and link, nothing of the error. The UI does not show the address.

    The block takes any of Apprise's addresses; here its JSON form, to the receiver, in the place of hooks.slack.com.
    """
    port, got = received
    block, automation = registered(SlackNotice, f"json://127.0.0.1:{port}/services/SECRET")
    assert block.block_type.name == "Slack Webhook" and "SECRET" not in str(block.data)
    assert automation.enabled and automation.actions[0].type == "send-notification"

    def is_told() -> bool:
        run = fail()  # until the new automation is loaded
        return until(lambda: any(run.name in each["title"] for each in got), timeout_s=10)

    assert until(is_told, timeout_s=120)
    title, message = got[-1]["title"], got[-1]["message"]
    assert "of flow train is Failed" in title and "/runs/flow-run/" in message and "TOLD^NOBODY" not in str(got)


def test_an_address_of_slack_is_taken_as_one(registered: Callable[..., Any]) -> None:
    """What Slack gives out makes a sender for hooks.slack.com, from the block as the server stores it."""
    from prefect.blocks.notifications import SlackWebhook

    registered(SlackNotice, "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    loaded = asyncio.run(SlackWebhook.aload("mammo-failure-notice"))
    (sender,) = loaded._apprise_client
    assert type(sender).__name__ == "NotifySlack"


def test_an_email_has_its_sender_and_recipients(registered: Callable[..., Any]) -> None:
    """SendGrid's block with key, From and To; the UI does not show the key. What goes out is not sent here."""
    from prefect.blocks.notifications import SendgridEmail

    to = ("one@ward.example", "two@ward.example")
    block, automation = registered(EmailNotice, "SG.SECRET-key", sender="mammo@ward.example", recipients=to)
    assert block.block_type.name == "Sendgrid Email" and "SECRET" not in str(block.data)
    assert automation.actions[0].type == "send-notification" and "{{ flow_run|ui_url }}" in automation.actions[0].body
    loaded = asyncio.run(SendgridEmail.aload("mammo-failure-notice"))
    assert loaded.api_key.get_secret_value() == "SG.SECRET-key"
    (sender,) = loaded._apprise_client
    assert type(sender).__name__ == "NotifySendGrid"
    assert (sender.from_email, tuple(sender.targets)) == ("mammo@ward.example", to)


def test_nobody_is_told_any_more_once_no_notice_is_named(registered: Callable[..., Any]) -> None:
    """The service's file without ``notice`` is registered anew: what an earlier one had asked for goes from the server."""
    from prefect.client.orchestration import get_client

    registered(SlackNotice, "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    asyncio.run(register_services(ServiceConfig()))
    with get_client(sync_client=True) as client:
        assert not client.read_automations_by_name(FAILURE)


@pytest.mark.long
def test_silence_is_told(
    registered: Callable[..., Any], received: tuple[int, list[Any]], until: Callable[..., bool], tmp_path: Path
) -> None:
    """The server itself misses the end of a synthetic exam's run and tells it; without a section health nothing of it is left.

    Its hours are seconds here, which it waits for.
    """
    from prefect.client.orchestration import get_client

    port, got = received
    registered(WebhookNotice, f"http://127.0.0.1:{port}/notice")
    service = ServiceConfig(notice=WebhookNotice(kind="webhook", url_file=tmp_path / "secret"))
    asyncio.run(register_services(service, silent_h=12.0 / 3600.0))
    assert until(lambda: any(each.get("flow") == "health" for each in got), timeout_s=120)
    assert any("no synthetic exam has come out for" in each["state"] for each in got)
    asyncio.run(register_services(service))
    with get_client(sync_client=True) as client:
        assert not client.read_automations_by_name(SILENCE)
