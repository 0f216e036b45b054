"""``/metrics`` as a process: started by ``mammo serve`` where its settings ask for it, it ends with a signal.

``python -m deployments.server.metrics_main FILE``: a JSON file with what it needs (``Measuring``). It listens on 127.0.0.1 and
answers nothing but the metrics: counts, seconds, scores in groups, devices under pseudonyms.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, Final

from deployments.server.metrics_text import CONTENT_TYPE, Metric, metrics_text
from deployments.server.prefect_server import authorization
from schemas.config.section import Config
from tasks.adapters.interpreter import python_command, say_listening
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.lifecycle.watching.site_counts import SCORE_BOUNDS, LogCounts, Published, alarms, newest_exam
from tasks.adapters.provenance import now
from tasks.adapters.workspace import StoreFolder, Workspace, write_atomically

_SECONDS_KEPT: Final = 5.0
"""An answer is given again for so long: whoever asks often costs nothing more."""
_RUNS_A_REQUEST: Final = 200
_WINDOW: Final = timedelta(days=1)
_WAITING: Final = ("Late", "Pending", "AwaitingRetry", "AwaitingConcurrencySlot", "Running", "Retrying")
_LOCAL: Final = ("127.0.0.1", "localhost")

Ask = Callable[[str, Any], Any]
"""``ask(path, body)``: what the Prefect server answers to a POST."""


class Measuring(Config):
    """What the process is asked for."""

    port: int
    workspace_dir: Path
    store_dir: Path


def metrics_command(asked: Measuring, home: Path) -> list[str]:
    """The command that starts the process; leaves the file that it reads in ``home``, the owner's only."""
    path = home / "metrics.json"
    write_atomically(path, asked.model_dump_json().encode())
    return python_command("-m", "deployments.server.metrics_main", str(path))


class Site:
    """What is measured of a workspace and its server."""

    def __init__(self, asked: Measuring, ask: Ask) -> None:
        self._workspace, self._store, self._ask = Workspace(asked.workspace_dir), StoreFolder(asked.store_dir), ask
        self._log = LogCounts(PredictionLog(self._workspace.prediction_log_dir))
        self._published = Published(self._store.manifest_path)
        self._lock, self._text, self._made_s = Lock(), "", float("-inf")

    def text(self) -> str:
        """The metrics, at most a few seconds old."""
        with self._lock:
            if time.monotonic() - self._made_s > _SECONDS_KEPT:
                self._text, self._made_s = metrics_text(self.metrics()), time.monotonic()
            return self._text

    def metrics(self) -> Iterator[Metric]:
        """All of them; what cannot be read at the moment is left out, and said."""
        unread = Metric(name="mammo_metrics_unread", kind="gauge", about="1 = this source could not be read just now")
        for source, made in (
            ("workspace", self._exams),
            ("log", self._scores),
            ("devices", self._devices),
            ("service", self._service),
            ("runs", self._runs),
        ):
            try:
                found = list(made())
            except (OSError, ValueError, KeyError) as trouble:
                del trouble  # its words may quote what they stumbled over
                unread.add(1, source=source)
                continue
            unread.add(0, source=source)
            yield from found
        yield unread

    # ---------------------------------------------------------------------------------------------------------------

    def _exams(self) -> Iterator[Metric]:
        images, exams = self._published.counts()
        published = Metric(name="mammo_published", kind="gauge", about="Images and exams in the manifest")
        published.add(images, what="images")
        published.add(exams, what="exams")
        yield published
        refused = Metric(name="mammo_files_refused", kind="gauge", about="Files in quarantine")
        path = self._store.quarantine_path
        refused.add(max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0)
        yield refused

    def _scores(self) -> Iterator[Metric]:
        self._log.read_on()
        scores = Metric(
            name="mammo_exam_score",
            kind="histogram",
            about="Malignant scores of exams, the highest of their breasts, as often as they were scored",
        )
        recalled = Metric(name="mammo_exams_recalled_total", kind="counter", about="Of these, recalled by the locked threshold")
        images = Metric(name="mammo_images_scored_total", kind="counter", about="Images scored")
        for sha256, counts in self._log.by_model.items():
            model = sha256[:12]
            for bound, count in zip(SCORE_BOUNDS, counts.by_bound, strict=True):
                scores.add(count, "_bucket", model=model, le=f"{bound:g}")
            scores.add(counts.exams, "_bucket", model=model, le="+Inf")
            scores.add(counts.score_sum, "_sum", model=model)
            scores.add(counts.exams, "_count", model=model)
            recalled.add(counts.recalled, model=model)
            images.add(counts.images, model=model)
        yield from (scores, recalled, images)

    def _devices(self) -> Iterator[Metric]:
        changed = Metric(name="mammo_device_changed", kind="gauge", about="1 = an alarm of the newest watching stands")
        for device, has_alarm in alarms(self._workspace):
            changed.add(int(has_alarm), device=device)
        yield changed

    def _service(self) -> Iterator[Metric]:
        exam = newest_exam(self._workspace)
        if exam is not None:
            age = Metric(name="mammo_health_exam_age_seconds", kind="gauge", about="Since a synthetic exam came out last")
            age.add(round((now() - datetime.fromisoformat(exam.created_utc)).total_seconds(), 1))
            took = Metric(name="mammo_health_exam_seconds", kind="gauge", about="That it took from its files to its page")
            took.add(exam.seconds)
            yield from (age, took)

    def _runs(self) -> Iterator[Metric]:
        names = {flow["id"]: flow["name"] for flow in self._ask("/flows/filter", {"limit": _RUNS_A_REQUEST})}
        queue = Metric(name="mammo_runs_waiting", kind="gauge", about="Runs that are on, or whose time has come")
        waiting = Counter(
            (names.get(run["flow_id"], "other"), run["state_name"].lower())
            for run in self._every({"state": {"name": {"any_": list(_WAITING)}}})
        )
        for (flow, state), count in sorted(waiting.items()):
            queue.add(count, flow=flow, state=state)
        yield queue
        ended = Metric(
            name="mammo_runs_last_day", kind="gauge", about="Runs that began within the last 24 hours, by how they are"
        )
        seconds = Metric(name="mammo_run_seconds_last_day", kind="gauge", about="Seconds that these ran")
        since = (datetime.now(UTC) - _WINDOW).isoformat()
        counts: Counter[tuple[str, str]] = Counter()
        took: Counter[str] = Counter()
        for run in self._every({"start_time": {"after_": since}}):
            flow = names.get(run["flow_id"], "other")
            counts[flow, run["state_type"].lower()] += 1
            took[flow] += run["total_run_time"]
        for (flow, state), count in sorted(counts.items()):
            ended.add(count, flow=flow, state=state)
        for flow, total in sorted(took.items()):
            seconds.add(round(total, 3), flow=flow)
        yield from (ended, seconds)

    def _every(self, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            body = {"flow_runs": wanted, "limit": _RUNS_A_REQUEST, "offset": offset, "sort": "ID_DESC"}
            found = self._ask("/flow_runs/filter", body)
            yield from found
            if len(found) < _RUNS_A_REQUEST:
                return
            offset += len(found)


def ask_prefect(path: str, body: Any) -> Any:
    """The server that the environment names.

    Raises:
        OSError: It does not answer.
    """
    address = f"{os.environ['PREFECT_API_URL']}{path}"
    headers = {"Content-Type": "application/json", **authorization(os.environ)}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310  # the service's own server
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def metrics_server(site: Site, port: int) -> ThreadingHTTPServer:
    """Listens on 127.0.0.1; 0 lets the system choose a port.

    Raises:
        OSError: The port is taken.
    """

    class Answering(BaseHTTPRequestHandler):
        timeout = 10  # a connection that says nothing is closed

        def do_GET(self) -> None:
            # A page of another site that had its name point here asks with that name.
            if self.headers.get("Host", "").rpartition(":")[0] not in _LOCAL:
                self.send_error(403)
            elif self.path != "/metrics":
                self.send_error(404)
            else:
                content = site.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing of each request."""

    return ThreadingHTTPServer(("127.0.0.1", port), Answering)


def main() -> None:
    """The process."""
    os.umask(0o077)
    asked = Measuring.model_validate_json(Path(sys.argv[1]).read_bytes())
    try:
        server = metrics_server(Site(asked, ask_prefect), asked.port)
    except OSError as taken:
        sys.exit(f"mammo: /metrics cannot listen on 127.0.0.1:{asked.port}: {taken.strerror}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    say_listening(asked.port)
    server.serve_forever()


if __name__ == "__main__":
    main()
