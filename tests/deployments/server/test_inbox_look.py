"""``mammo serve`` looks into a bucket: what arrives there is told, and no answer of the object store ends the workstation."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from deployments.server import workstation
from deployments.server.lasting_process import LastingProcess
from mammo_tests.object_store import BUCKET, wire_to
from schemas.config.run import RunConfig
from schemas.config.service import ServiceConfig
from schemas.errors import ConfigError
from tasks.adapters.buckets import bucket as bucket_module
from tasks.adapters.buckets.bucket import bucket_at

MakeConfig = Callable[..., RunConfig]
SERVICE = ServiceConfig(bucket_look_s=0.01)


class Over(Exception):
    """The day is over: the watch itself has no end."""


class Day:
    """Stands where the watch keeps its children alive, between two looks: what happens that day, step by step."""

    def __init__(self, steps: Iterator[None]) -> None:
        self._steps = steps

    def keep_alive(self) -> None:
        """Goes on until the next step has to wait for a look."""
        if next(self._steps, Over) is Over:
            raise Over


def watch(config: RunConfig, steps: Iterator[None]) -> None:
    """The watch of ``mammo serve`` through a day."""
    workstation.watch_inbox(config, SERVICE, [cast("LastingProcess", Day(steps))])


@pytest.fixture
def at_bucket(s3: str, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunConfig]:
    """``at_bucket(url)``: a run whose exams lie there; whoever asks has little patience."""
    monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=0.1))
    monkeypatch.setattr(workstation, "SECONDS_BETWEEN_LOOKS", 0.01)
    bucket_module.opened.cache_clear()
    return lambda url: make_config(
        tmp_path / "ws", tmp_path, **{f"ingest.{name}": None for name in ("labels_csv", "masks_dir", "source_dir")}
        | {"ingest.source": url}
    )  # fmt: skip


def test_what_arrives_in_a_bucket_is_told_and_no_answer_ends_the_watch(
    s3: str, at_bucket: Callable[[str], RunConfig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each arrival once, after a server that was away too; a key that no client can address is warned of at each look."""
    told: list[int] = []

    def emit_event(payload: dict[str, Any], **_: object) -> None:
        told.append(payload["files"])

    monkeypatch.setattr("prefect.events.emit_event", emit_event)
    bucket = bucket_at(f"s3://{BUCKET}/{uuid4().hex}")

    with wire_to(s3) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)

        def day() -> Iterator[None]:
            bucket.put("first", b"x")
            while told != [1]:
                yield
            wire.is_cut = True
            while "cannot be asked" not in caplog.text:
                yield
            wire.is_cut = False
            bucket.put("second", b"x")
            while told != [1, 2]:
                yield
            address = f"{s3}/{bucket.url.removeprefix('s3://')}//CANARY"
            urllib.request.urlopen(urllib.request.Request(address, data=b"x", method="PUT")).close()
            while caplog.text.count("cannot be addressed") < 2:
                yield

        with pytest.raises(Over):
            watch(at_bucket(bucket.url), day())
    assert "CANARY" not in caplog.text


def test_a_wrong_address_is_told_at_the_first_look(at_bucket: Callable[[str], RunConfig]) -> None:
    """A bucket that is not there: the command ends with what to correct, and does not warn of it for ever."""
    with pytest.raises(ConfigError, match="no such bucket"):
        watch(at_bucket("s3://another-one/x"), iter(()))
