"""/metrics of a workspace: asked over HTTP, read by Prometheus' own parser."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.server.metrics_main import Measuring, Site, ask_prefect, metrics_server
from schemas.config.service import MetricsConfig
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.workspace import WATCH, Workspace

parser = pytest.importorskip("prometheus_client.parser")

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """``ask(path, host)``: status and text of a server of an empty workspace, whose Prefect server does not answer."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    asked = Measuring(port=0, workspace_dir=tmp_path, store_dir=Workspace(tmp_path).store_dir)
    server = metrics_server(Site(asked, ask_prefect), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def get(path: str = "/metrics", host: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    yield get
    server.shutdown()
    thread.join()
    server.server_close()


def values(text: str) -> dict[tuple[str, ...], float]:
    """Every value by its name and labels."""
    families = parser.text_string_to_metric_families(text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_what_can_be_read_is_told_and_what_cannot_is_named(ask: Ask, tmp_path: Path) -> None:
    """Scores of the log in groups, by model; a server that does not answer hides none of them. No exam is named."""
    line = {"kind": "exam", "exam_id": "E77", "model": "ab" * 32, "recalled": {"malignant": True}}
    log = PredictionLog(Workspace(tmp_path).prediction_log_dir)
    log.append([{**line, "scores": {"L": {"malignant": 0.12}}}, {**line, "scores": {"L": {"malignant": 0.95}}}])
    status, text = ask()
    found = values(text)
    model = "ab" * 6
    assert status == 200 and found["mammo_metrics_unread", "runs"] == 1 and found["mammo_metrics_unread", "log"] == 0
    assert found["mammo_exam_score_bucket", model, "0.15"] == 1 and found["mammo_exam_score_bucket", model, "+Inf"] == 2
    assert found["mammo_exam_score_sum", model] == pytest.approx(1.07) and found["mammo_exams_recalled_total", model] == 2
    assert found["mammo_published", "exams"] == 0 and found["mammo_files_refused",] == 0 and "E77" not in text


def test_alarms_that_cannot_be_read_are_said_to_be_unread(ask: Ask, tmp_path: Path) -> None:
    """Half a report of a watching is no site without alarms."""
    report = Workspace(tmp_path).report_path(WATCH)
    report.parent.mkdir(parents=True)
    report.write_text('{"devices": [{"na')
    found = values(ask()[1])
    assert found["mammo_metrics_unread", "devices"] == 1 and found["mammo_metrics_unread", "service"] == 0


def test_nothing_else_is_answered(ask: Ask) -> None:
    """Another path, and a page that had another name point to this machine."""
    assert ask("/")[0] == ask("/../metrics")[0] == 404
    assert ask(host="evil.example:9464")[0] == 403
    assert MetricsConfig().port > 1023


@pytest.mark.e2e
def test_runs_are_told_by_flow_and_state(
    prefect_api: str, tmp_path: Path, until: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that failed on a real server stands among those of the last day, with its seconds."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    from prefect import flow

    @flow(name="measured-flow")
    def measured_flow() -> None:
        raise ValueError("TOLD^NOBODY")

    measured_flow(return_state=True)
    site = Site(Measuring(port=0, workspace_dir=tmp_path, store_dir=tmp_path / "s"), ask_prefect)

    def told() -> dict[str, list[Any]]:
        return {metric.name: [labels for labels, _, _ in metric.samples] for metric in site.metrics()}

    assert until(lambda: {"flow": "measured-flow", "state": "failed"} in told()["mammo_runs_last_day"])
    assert {"flow": "measured-flow"} in told()["mammo_run_seconds_last_day"]
