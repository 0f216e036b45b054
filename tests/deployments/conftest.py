"""One workstation for all tests that need one: ``mammo serve`` as a process, with its server, workers and deployments."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml

from deployments.server.prefect_server import NO_NEW_BLOCK_TYPES
from mammo_tests.foreign_modules import ForeignFolder, foreign_folder, unsafe
from mammo_tests.other_systems import free_port, pacs_config, push_as_stored
from schemas.config.ingest import PhantomConfig
from schemas.config.run import RunConfig

SILENCE_S = 40
"""A run's first heartbeat comes at once and the next after 30 s, which is Prefect's least."""
EXAMS = 11
SERVER = NO_NEW_BLOCK_TYPES | {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5"}
"""By itself it looks for schedules once a minute, and nothing of ours is in that minute."""


@dataclass
class Workstation:
    """A served workspace and how to ask it."""

    process: subprocess.Popen[str]
    config: RunConfig
    config_path: Path
    address: str
    said: list[str]
    notices: list[dict[str, Any]]
    foreign: ForeignFolder
    metrics_port: int

    def files_of(self, exams: slice) -> list[Path]:
        """Files of whole exams of the cohort."""
        by_exam: dict[str, list[Path]] = {}
        for path in sorted((self.config_path.parent / "cohort" / "dicom").rglob("*.dcm")):
            by_exam.setdefault(str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID), []).append(path)
        return [path for uid in sorted(by_exam)[exams] for path in by_exam[uid]]

    def push(self, exams: slice) -> int:
        """Pushes whole exams of the cohort to the listener, as a router does, and returns the number of files."""
        chosen = self.files_of(exams)
        assert push_as_stored(self.listener_port, *chosen) == [0] * len(chosen)
        return len(chosen)

    @property
    def listener_port(self) -> int:
        """Where it takes exams."""
        assert self.config.pacs is not None and self.config.pacs.listen is not None
        return self.config.pacs.listen.port

    def arrive(self, exams: slice, *, name: str) -> int:
        """Moves whole exams of the cohort into the inbox, in one rename, and returns the number of files."""
        inbox, chosen = self.config.ingest.source_dir, self.files_of(exams)
        aside = inbox.with_name(f".{name}")
        aside.mkdir(parents=True)
        for number, path in enumerate(chosen):
            shutil.copy(path, aside / f"{number:03d}.dcm")
        inbox.mkdir(exist_ok=True)
        aside.rename(inbox / name)
        return len(chosen)

    @staticmethod
    def until(is_so: Callable[[], object], timeout_s: float = 300) -> bool:
        """Asks twice a second; False when the time is over."""
        return wait_until(is_so, timeout_s)

    @property
    def home(self) -> Path:
        """The server's home."""
        return self.config.workspace_dir / "prefect"

    @property
    def environment(self) -> dict[str, str]:
        """For a process that speaks to this server."""
        auth = (self.home / "auth").read_text()
        names = {"PREFECT_API_URL": f"{self.address}/api", "PREFECT_API_AUTH_STRING": auth, "PREFECT_HOME": str(self.home)}
        return {**clean_environment(self.home), **names}

    @property
    def headers(self) -> dict[str, str]:
        """Of a request to the server."""
        auth = base64.b64encode((self.home / "auth").read_bytes()).decode()
        return {"Authorization": f"Basic {auth}", "Content-Type": "application/json"}

    def ask(self, path: str, body: object = None) -> Any:
        """POST if there is a body, else GET."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/api{path}", data, self.headers)
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.loads(answer.read() or "null")
            except (urllib.error.HTTPError, TimeoutError) as busy:
                if isinstance(busy, urllib.error.HTTPError) and busy.code != 503:
                    raise
                time.sleep(1)  # SQLite has one writer; Prefect's own clients ask again too
        raise AssertionError(f"{path} stays unavailable")

    def start(self, flow: str, **parameters: Any) -> str:
        """Starts a run of a deployment and returns its id."""
        deployment = self.ask(f"/deployments/name/{flow}/{flow}")
        given = {"parameters": {"config": {**deployment["parameters"]["config"], **parameters}}} if parameters else {}
        return str(
            self.ask(f"/deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}, **given})["id"]
        )

    def run(self, run_id: str) -> Any:
        """A flow run."""
        return self.ask(f"/flow_runs/{run_id}")

    def runs(self, flow: str) -> list[Any]:
        """All runs of a flow that events and people have started, not the clock, oldest first."""
        wanted = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return [run for run in self.ask("/flow_runs/filter", wanted) if not run["auto_scheduled"]]

    def wait(self, run_id: str, *states: str, timeout_s: float = 600) -> Any:
        """The run when it is in one of the states (default: any final one)."""
        wanted = states or ("Completed", "Failed", "Crashed", "Cancelled")
        wait_until(lambda: self.run(run_id)["state_name"] in wanted, timeout_s)
        run = self.run(run_id)
        assert run["state_name"] in wanted, run["state"]
        return run

    def task_states(self, run_id: str) -> list[tuple[str, str, int]]:
        """(name without its number at the end, state, times executed) of every task run, by start."""
        wanted = {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return [(run["name"], run["state_name"], run["run_count"]) for run in self.ask("/task_runs/filter", wanted)]


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without anything of Prefect's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT", "GX_"))}
    return {**kept, "PREFECT_HOME": str(home)}


def wait_until(is_so: Callable[[], object], timeout_s: float = 60) -> bool:
    """Asks twice a second; False when the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.5)
    return False


@pytest.fixture(scope="session")
def until() -> Callable[..., bool]:
    """``until(is_so, timeout_s=60)``: asks twice a second; False when the time is over."""
    return wait_until


def _receiver() -> Iterator[tuple[int, list[Any]]]:
    """The port of a receiver of JSON messages on this machine, and what it was sent."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name http.server calls
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, got
    finally:
        server.shutdown()
        server.server_close()


received = pytest.fixture(_receiver)
session_receiver = pytest.fixture(_receiver, scope="session")


def _hear_ctrl_c() -> None:
    """What a shell without job control runs in the background ignores Ctrl-C: the tests themselves, and so their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def workstation(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., RunConfig], session_receiver: tuple[int, list[Any]]
) -> Iterator[Workstation]:
    """``mammo serve CONFIG --service SERVICE`` over an inbox that is not there yet; failures are told to a local receiver."""
    from tasks.adapters.datasets.phantom_cohort import write_cohort

    folder = tmp_path_factory.mktemp("workstation")
    sizes = {"patients": EXAMS, "exams_per_patient": (1, 1), "image_size_px": (384, 288)}
    shares = {"malignant_fraction": 0.5, "benign_fraction": 0.5, "difficulty": 0.2}
    write_cohort(PhantomConfig.model_validate({"output_dir": folder / "cohort", **sizes, **shares}))
    few = {"kind": "local", "n_workers": 1, "files_without_workers": 4}  # one exam comes in without
    small = {"train.epochs": 1, "ingest.dask": few, "ingest.shards_per_batch": 1}
    content = make_config(folder / "ws", folder / "cohort", **small).model_dump(mode="json")
    content["ingest"]["source_dir"] = str(folder / "inbox")
    content["pacs"] = pacs_config(free_port()).model_dump(mode="json")
    config_path, service_path, url_path = folder / "run.yaml", folder / "service.yaml", folder / "url"
    config_path.write_text(yaml.safe_dump(content))
    url_path.touch(mode=0o600)
    port, notices = session_receiver
    url_path.write_text(f"http://127.0.0.1:{port}/notice")
    notice, metrics_port = {"kind": "webhook", "url_file": str(url_path)}, free_port()
    settings = {"settle_s": 1.0, "silence_s": SILENCE_S, "notice": notice, "metrics": {"port": metrics_port}}
    service_path.write_text(yaml.safe_dump(settings))
    foreign = foreign_folder(tmp_path_factory.mktemp("foreign"))
    command = [str(Path(sys.executable).with_name("mammo")), "serve", str(config_path), "--service", str(service_path)]
    process = subprocess.Popen(
        command,
        cwd=foreign.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=unsafe(clean_environment(folder / "no-profile")) | SERVER,
        preexec_fn=_hear_ctrl_c,
    )
    assert process.stdout is not None
    said = [process.stdout.readline()]
    assert said[0].startswith("Prefect UI: http://127.0.0.1:"), said[0] + process.stdout.read()
    served = RunConfig.model_validate(content)
    yield Workstation(process, served, config_path, said[0].split()[2], said, notices, foreign, metrics_port)
    if process.poll() is None:
        process.terminate()
    process.wait(timeout=120)


@pytest.fixture
def scores_csv(tmp_path: Path) -> Path:
    """Forty exams, three readers, one model; a reader's name that is markup."""
    rng = np.random.default_rng(1)
    label_B = (rng.random(80) < 0.3).astype(int)
    score_SB = 1 / (1 + np.exp(-(rng.normal(size=(4, 80)) + rng.normal(size=80) + 1.2 * label_B)))
    lines = ["case_ID,side,label,Reader1_POM,Reader2_POM,Reader<b>&_POM,AI_net_POM"]
    lines += [
        f"{breast // 2},{'LR'[breast % 2]},{label_B[breast]}," + ",".join(f"{score:.3f}" for score in score_SB[:, breast])
        for breast in range(80)
    ]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines))
    return path
