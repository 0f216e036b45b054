"""A workstation lives: exams arrive, runs start by themselves, fail, are retried and forced, are killed, and all of it ends.

The tests are one day of one workstation, in order: starting one takes half a minute, and each hour builds on the one before.
The long ones are run by ``make test-long``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.server.workstation import ARRIVED
from schemas.config.ingest import IngestConfig
from schemas.config.run import RunConfig
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest

pytestmark = pytest.mark.e2e

STAGES = ("validate", "split", "train", "evaluate", "explain")
FLOWS = {path.stem for path in (Path(__file__).parents[3] / "flows").glob("*.py")} - {"__init__"}


def shard_path(workstation: Any, shard: int) -> Path:
    """Where zarr keeps a shard of the pixels: a folder, whose rows and columns are one chunk each."""
    workspace_dir: Path = workstation.config.workspace_dir
    return workspace_dir / "exam_store" / "pixels.zarr" / "pixels" / "c" / str(shard)


def prefect(workstation: Any, *arguments: str) -> str:
    """The Prefect command line on the workstation's server."""
    command = [sys.executable, "-m", "prefect", *arguments]
    said = subprocess.run(command, env=workstation.environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def executed(workstation: Any, run_id: str, task: str) -> int:
    """How often a task's function ran in a flow run: retries of the task count, skips by the cache do not."""
    states = workstation.task_states(run_id)
    return sum(count for name, state, count in states if name.startswith(task) and state in ("Completed", "Failed"))


def all_ended(workstation: Any, flow: str) -> bool:
    """True if no run of the flow waits or runs: an automation may have fired more than once for one event."""
    return all(run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") for run in workstation.runs(flow))


def published(workstation: Any) -> int:
    """Images in the manifest."""
    return len(read_manifest(open_store(workstation.config.workspace_dir / "exam_store")))


# ------------------------------------------------------------------------------------------------------------- morning


def test_every_flow_is_a_deployment_with_a_form(workstation: Any) -> None:
    """Each has a description, tags, a limit, and a parameter whose fields say what they mean; the form knows ``force``."""
    deployments = {found["name"]: found for found in workstation.ask("/deployments/filter", {})}
    assert set(deployments) == FLOWS
    for name, found in deployments.items():
        assert found["description"] and {"mammo", name} == set(found["tags"])
        assert found["entrypoint"] == f"flows.{name}.{name}" and not found["pull_steps"]
        assert found["global_concurrency_limit"]["limit"] == 1 and found["concurrency_options"]["collision_strategy"]
        assert found["parameters"]["config"]["name"] == "tiny" and found["enforce_parameter_schema"]
    schema = deployments["train"]["parameter_openapi_schema"]["definitions"]
    assert (
        schema["RunConfig"]["properties"]["force"]["items"]["$ref"].endswith("Stage") and "explain" in schema["Stage"]["enum"]
    )
    for section in ("RunConfig", "IngestConfig", "TrainConfig", "EvaluateConfig", "PreprocessConfig"):
        fields = schema[section]["properties"]
        silent = [field for field, about in fields.items() if "description" not in about and "$ref" not in about]
        assert not silent, (section, silent)
    crons = {name: [each["schedule"] for each in found["schedules"]] for name, found in deployments.items()}
    assert {name for name, schedules in crons.items() if schedules} == {"ingest", "train", "evaluate", "predict", "watch"}
    assert all(schedule["timezone"] == "UTC" for schedules in crons.values() for schedule in schedules)


def test_the_server_refuses_a_run_whose_config_is_none(workstation: Any) -> None:
    """Before any process starts; a form that was registered and not enforced would let it through."""
    with pytest.raises(urllib.error.HTTPError, match="409"):
        workstation.start("scrub", tarin={"epochs": 3})


def test_the_server_asks_who_is_there(workstation: Any) -> None:
    """Without the auth string nothing is told; it is in a 0600 file of a 0700 folder, and so is all else."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{workstation.address}/api/admin/version", timeout=60)
    assert stat.S_IMODE(workstation.home.stat().st_mode) == 0o700
    for path in workstation.home.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_an_interval_schedule_produces_runs(workstation: Any) -> None:
    """A version clash once broke this without a word: the schedule was there, runs never came."""
    deployment = workstation.ask("/deployments/name/validate/validate")
    schedule = {"schedule": {"interval": 86400}, "active": True, "slug": "test"}
    workstation.ask(f"/deployments/{deployment['id']}/schedules", [schedule])
    wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    assert workstation.until(lambda: workstation.ask("/flow_runs/filter", wanted))
    assert all(run["auto_scheduled"] for run in workstation.ask("/flow_runs/filter", wanted))


def test_exams_that_arrive_are_ingested_and_the_failure_after_it_is_told(workstation: Any) -> None:
    """A push, its event, ingest, whose end starts predict; without a network that fails, and the receiver hears of it."""
    assert _is_listening(workstation)  # as the command has said
    files = workstation.push(slice(0, 1))
    assert workstation.until(lambda: workstation.runs("ingest"))
    ingested = workstation.wait(workstation.runs("ingest")[0]["id"])
    assert ingested["state_name"] == "Completed" and ingested["name"].endswith(f"-{files}-images-{files}-new-0-refused")
    assert workstation.until(lambda: workstation.runs("predict"))
    failed = workstation.wait(workstation.runs("predict")[0]["id"])
    assert failed["state_name"] == "Failed" and "predict needs a trained network" in failed["state"]["message"]
    assert workstation.until(lambda: failed["id"] in "".join(notice["url"] for notice in workstation.notices))
    (told,) = (notice for notice in workstation.notices if failed["id"] in notice["url"])
    assert (told["flow"], told["state"]) == ("predict", "Failed")
    assert (len(workstation.runs("ingest")), len(workstation.runs("predict"))) == (1, 1)  # an event starts one run


def test_metrics_tell_of_what_happened(workstation: Any) -> None:
    """Four images are in, and predictions that failed are counted, also one by the clock; the process is the command's."""

    def text() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{workstation.metrics_port}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    def failed() -> str:
        every = workstation.ask("/flow_runs/filter", {"flows": {"name": {"any_": ["predict"]}}})
        return f"{sum(run['state_name'] == 'Failed' for run in every)}\n"

    assert failed() != "0\n"
    assert workstation.until(lambda: f'mammo_runs_last_day{{flow="predict",state="failed"}} {failed()}' in text())
    assert 'mammo_published{what="images"} 4\n' in text() and 'mammo_metrics_unread{source="runs"} 0\n' in text()


def _is_listening(workstation: Any) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", workstation.listener_port)) == 0


def test_a_listener_that_is_killed_listens_again(workstation: Any) -> None:
    """As the workers, it is one of the command's processes and watched."""
    below = psutil.Process(workstation.process.pid).children(recursive=True)
    (listener,) = (process for process in below if "tasks.adapters.pacs.listening.listener_main" in process.cmdline())
    listener.kill()
    assert workstation.until(lambda: not listener.is_running() and _is_listening(workstation))


def test_a_workstation_runs_our_modules(workstation: Any) -> None:
    """It was started where foreign ones lie: server, registration, workers, and the runs that the arrival began."""
    assert workstation.foreign.who_ran() == {}


# -------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.long
def test_a_retry_executes_exactly_the_batch_that_failed(workstation: Any) -> None:
    """Eight batches: one shard cannot be written, one finds its disk full until there is room.

    The full one is tried again by itself, the other is not; after the repair ``prefect flow-run retry`` executes that one.
    """
    poisoned, full = shard_path(workstation, 3), shard_path(workstation, 5)
    poisoned.write_text("in the way of a folder")
    full.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(full)], check=False, capture_output=True
        ).returncode
    )
    try:
        workstation.arrive(slice(1, 9), name="second")
        assert workstation.until(lambda: len(workstation.runs("ingest")) >= 2)
        run_id = workstation.runs("ingest")[1]["id"]
        if mounted:
            assert workstation.until(
                lambda: any(state == "AwaitingRetry" for _, state, _ in workstation.task_states(run_id)), timeout_s=180
            )
    finally:
        if mounted:
            subprocess.run(["umount", str(full)], check=True)
    run = workstation.wait(run_id)

    def batches() -> Counter[tuple[str, int]]:
        states = workstation.task_states(run_id)
        return Counter((state, count) for name, state, count in states if name.startswith("ingest-batch"))

    assert run["state_name"] == "Failed"
    expected = {("Failed", 1): 1, ("Completed", 1): 7 - mounted, **({("Completed", 2): 1} if mounted else {})}
    assert workstation.until(lambda: batches() == expected), batches()
    before = executed(workstation, run_id, "ingest-batch")
    assert workstation.until(lambda: all_ended(workstation, "ingest"))
    poisoned.unlink()
    prefect(workstation, "flow-run", "retry", run["name"])
    assert workstation.until(lambda: workstation.run(run_id)["run_count"] == 2)
    assert workstation.wait(run_id)["state_name"] == "Completed"
    assert workstation.until(lambda: executed(workstation, run_id, "ingest-batch") == before + 1)
    assert published(workstation) == 36


@pytest.mark.long
def test_a_retry_after_a_failed_stage_leaves_the_others_alone(workstation: Any) -> None:
    """Explain cannot write its report; after the repair the retry takes all before it from the cache."""
    in_the_way = workstation.config.workspace_dir / "explain" / "report.json"
    in_the_way.mkdir(parents=True)
    run_id = workstation.start("pipeline")
    run = workstation.wait(run_id)
    assert run["state_name"] == "Failed" and workstation.until(lambda: executed(workstation, run_id, "evaluate") == 1)
    in_the_way.rmdir()
    prefect(workstation, "flow-run", "retry", run_id)
    assert workstation.until(lambda: workstation.run(run_id)["run_count"] == 2)
    assert workstation.wait(run_id)["state_name"] == "Completed"

    def states() -> Counter[tuple[str, str]]:
        every = Counter((name.rsplit("-", 1)[0], state) for name, state, _ in workstation.task_states(run_id))
        return Counter({each: times for each, times in every.items() if each[0] in STAGES})

    expected = {(stage, state): 1 for stage in STAGES for state in ("Completed", "Failed" if stage == "explain" else "Cached")}
    assert workstation.until(lambda: states() == expected), states()


@pytest.mark.long
def test_one_stage_is_run_again_by_name(workstation: Any) -> None:
    """``mammo rerun RUN --stage explain`` starts a new run in which explain alone is executed."""
    source = next(run for run in workstation.runs("pipeline") if run["state_name"] == "Completed")
    command = [sys.executable, "-m", "deployments.cli", "rerun", source["name"], "--stage", "explain"]
    said = subprocess.run(
        [*command, "--workspace", str(workstation.config.workspace_dir)],
        env=workstation.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    run = workstation.wait(next(run["id"] for run in workstation.runs("pipeline") if run["id"] != source["id"]))
    assert run["state_name"] == "Completed" and run["tags"].count("rerun:explain") == 1

    def states() -> dict[str, str]:
        every = {name.rsplit("-", 1)[0]: state for name, state, _ in workstation.task_states(run["id"])}
        return {stage: state for stage, state in every.items() if stage in STAGES}

    expected = {stage: "Completed" if stage == "explain" else "Cached" for stage in STAGES}
    assert workstation.until(lambda: states() == expected), states()


# -------------------------------------------------------------------------------------------------------- the killed run


@pytest.fixture(scope="module")
def killed(workstation: Any) -> Any:
    """A training run whose process and worker were killed; the moment of it, in seconds of the wall clock."""
    run_id = workstation.start("train", train={**workstation.config.train.model_dump(mode="json"), "epochs": 5000})
    workstation.wait(run_id, "Running")
    assert workstation.until(lambda: ("train", "Running") in [(name[:5], s) for name, s, _ in workstation.task_states(run_id)])
    below = psutil.Process(workstation.process.pid).children(recursive=True)
    flow = [each for each in below if each.environ().get("PREFECT__FLOW_RUN_ID") == run_id]
    worker = [each for each in below if "mammo-gpu-worker" in each.cmdline()]
    assert flow and worker
    for each in [*worker, *flow]:
        each.kill()
    return run_id, time.time()


@pytest.mark.long
def test_new_exams_alone_are_predicted_and_events_too_many_change_nothing(workstation: Any, killed: Any) -> None:
    """One more exam: its four images are scored, once. The same event twice more: store and scores stay as they are."""
    del killed  # the worker that executes this is the one that took the killed one's place
    assert workstation.until(lambda: all_ended(workstation, "predict"))
    workstation.wait(workstation.start("predict"))
    known = len(workstation.runs("predict"))
    assert _scored(workstation) == 36
    workstation.arrive(slice(9, 10), name="third")
    assert workstation.until(lambda: len(workstation.runs("predict")) > known)
    assert workstation.until(lambda: all_ended(workstation, "predict"))
    names = [run["name"] for run in workstation.runs("predict")[known:]]
    assert sum(name.endswith("-40-images-4-new") for name in names) == 1
    assert all(name.endswith(("-40-images-4-new", "-40-images-0-new")) for name in names), names
    state = read_manifest(open_store(workstation.config.workspace_dir / "exam_store"))
    runs = len(workstation.runs("ingest"))
    for _ in range(2):
        prefect(workstation, "event", "emit", "mammo.exams.arrived", "--resource-id", "mammo.inbox.tiny")
    assert workstation.until(lambda: len(workstation.runs("ingest")) >= runs + 2)
    assert workstation.until(lambda: all_ended(workstation, "ingest"))
    for run in workstation.runs("ingest")[runs:]:
        assert run["name"].endswith("-40-images-0-new-0-refused")
    assert workstation.until(lambda: all_ended(workstation, "predict"))
    assert read_manifest(open_store(workstation.config.workspace_dir / "exam_store")).equals(state)
    assert _scored(workstation) == 40


def _scored(workstation: Any) -> int:
    """Images in the scores; each is there once."""
    lines = (workstation.config.workspace_dir / "predict" / "scores.csv").read_text().splitlines()
    assert len(set(lines)) == len(lines)
    return len(lines) - 1


@pytest.mark.long
def test_a_missed_event_and_a_late_one_change_nothing(workstation: Any, killed: Any) -> None:
    """Nobody hears of an arrival: the hourly predict, here started by hand, finds the exam. A later event finds nothing."""
    del killed
    triggered = [each for each in workstation.ask("/automations/filter", {}) if ARRIVED in each["trigger"].get("expect", [])]
    emitted = {"filter": {"event": {"name": [ARRIVED]}}}
    (automation,), known = triggered, workstation.ask("/events/filter", emitted)["total"]
    ingests, predicts = len(workstation.runs("ingest")), len(workstation.runs("predict"))
    prefect(workstation, "automation", "pause", "--id", automation["id"])
    workstation.arrive(slice(10, 11), name="fourth")
    assert workstation.until(lambda: workstation.ask("/events/filter", emitted)["total"] > known)
    assert workstation.wait(workstation.start("predict"))["state_name"] == "Completed"
    assert workstation.until(lambda: all_ended(workstation, "predict"))
    names = [run["name"] for run in workstation.runs("predict")[predicts:]]
    assert sum(name.endswith("-44-images-4-new") for name in names) == 1, names
    assert len(workstation.runs("ingest")) == ingests and _scored(workstation) == 44
    state = read_manifest(open_store(workstation.config.workspace_dir / "exam_store"))
    prefect(workstation, "automation", "resume", "--id", automation["id"])

    def late_event_is_heard() -> bool:
        prefect(workstation, "event", "emit", ARRIVED, "--resource-id", "mammo.inbox.tiny")  # until the resumed one is loaded
        return workstation.until(lambda: len(workstation.runs("ingest")) > ingests, timeout_s=15)

    assert workstation.until(late_event_is_heard)
    for flow in ("ingest", "predict"):
        assert workstation.until(lambda flow=flow: all_ended(workstation, flow))
    for run in workstation.runs("ingest")[ingests:]:
        assert run["name"].endswith("-44-images-0-new-0-refused")
    assert read_manifest(open_store(workstation.config.workspace_dir / "exam_store")).equals(state)
    assert _scored(workstation) == 44


@pytest.mark.long
def test_a_killed_run_is_marked_crashed_and_the_next_takes_over(workstation: Any, killed: Any) -> None:
    """Nobody was left to say so: the heartbeat did. Its slots are free, and the next training runs to its end."""
    run_id, moment = killed
    crashed = workstation.wait(run_id, "Crashed")
    assert "No sign of life" in crashed["state"]["message"]
    assert datetime.fromisoformat(crashed["state"]["timestamp"]).timestamp() - moment < 120
    following = workstation.wait(workstation.start("train"))
    assert following["state_name"] == "Completed", following["state"]


# ------------------------------------------------------------------------------------------------------------ the browser


@pytest.fixture
def page(workstation: Any) -> Any:
    """A page of the UI, logged in."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.set_default_timeout(300_000)
        page.goto(workstation.address, wait_until="commit")
        page.locator("input[type=password]").fill((workstation.home / "auth").read_text())
        page.get_by_role("button", name="Login").click()
        page.get_by_role("link", name="Deployments", exact=True).first.wait_for()
        yield page
        browser.close()


@pytest.mark.long
def test_the_browser_starts_a_run_shows_its_artifact_and_retries_a_failed_one(workstation: Any, page: Any) -> None:
    """Deployment, form with the fields' meanings, run; Retry of the morning's failed predict; the table of gate results."""
    page.goto(f"{workstation.address}/deployments", wait_until="commit")
    page.get_by_placeholder("Search deployments").fill("scrub")  # they fill two pages
    page.get_by_role("link", name="scrub", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").click()
    for field in (IngestConfig.model_fields["source_dir"], RunConfig.model_fields["force"]):
        page.get_by_text(str(field.description)).first.wait_for()
    known = {run["id"] for run in workstation.runs("scrub")}
    for _ in range(5):  # a page that is still being built does not hear the first click
        page.get_by_role("button", name="Submit").click()
        if workstation.until(lambda: {run["id"] for run in workstation.runs("scrub")} - known):
            break
    run_id = next(run["id"] for run in workstation.runs("scrub") if run["id"] not in known)
    assert workstation.wait(run_id)["state_name"] == "Completed"
    failed = next(run for run in workstation.runs("predict") if run["state_name"] == "Failed" and run["run_count"] == 1)
    page.goto(f"{workstation.address}/runs/flow-run/{failed['id']}", wait_until="commit")
    page.get_by_role("button", name="Retry").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    assert workstation.until(lambda: workstation.run(failed["id"])["run_count"] == 2)
    page.goto(f"{workstation.address}/artifacts/key/gate-results", wait_until="commit")
    page.get_by_text("Gate results of").first.wait_for()


# ------------------------------------------------------------------------------------------------------------- evening


@pytest.mark.long
def test_pruning_leaves_what_the_next_run_takes_from_the_cache(workstation: Any) -> None:
    """History of any age goes; the finished training is not done again."""
    command = [sys.executable, "-m", "deployments.cli", "prune", str(workstation.config_path), "--older-than-days", "0"]
    subprocess.run([*command, "--delete"], env=workstation.environment, check=True)
    assert not [run for run in workstation.runs("pipeline") if run["state_name"] == "Completed"]
    run_id = workstation.start("train")
    assert workstation.wait(run_id)["state_name"] == "Completed"

    def ended() -> set[tuple[str, str]]:
        states = {(name.rsplit("-", 1)[0], state) for name, state, _ in workstation.task_states(run_id)}
        return {each for each in states if each[0] in ("validate", "split", "train")}

    cached = {(stage, "Cached") for stage in ("validate", "split", "train")}
    assert workstation.until(lambda: ended() == cached), ended()


def test_ctrl_c_stops_everything(workstation: Any) -> None:
    """The command ends with 130; server, workers and flow processes have ended, and nothing listens."""
    below = psutil.Process(workstation.process.pid).children(recursive=True)
    assert len(below) >= 3
    workstation.process.send_signal(signal.SIGINT)
    assert workstation.process.wait(timeout=90) == 130
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(OSError, match=r"refused|reset"):
        urllib.request.urlopen(f"{workstation.address}/api/health", timeout=5)
    assert not (workstation.home / "server.json").exists()
    assert json.dumps([path.name for path in workstation.home.glob("*.log")])


# --------------------------------------------------------------------------------------------------------------- night


@pytest.mark.long
def test_a_workstation_ends_with_its_server(tmp_path: Path) -> None:
    """Killed by whoever makes room in memory: with a sentence and code 1, on which systemd starts it again; no process stays.

    Meanwhile a second one of the workspace is refused: it would start every run twice.
    """
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({"workspace_dir": str(tmp_path / "ws"), "ingest": {"source_dir": str(tmp_path / "inbox")}}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = [sys.executable, "-m", "deployments.cli", "serve", str(config)]
    options: dict[str, Any] = {"env": kept | {"PREFECT_HOME": str(tmp_path)}, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as serving:
        assert serving.stdout is not None
        first = serving.stdout.readline()
        assert first.startswith("Prefect UI"), first + serving.stdout.read()
        second = subprocess.run(command, stdout=subprocess.PIPE, timeout=300, check=False, **options)
        assert second.returncode == 75 and "is in use" in second.stdout, second.stdout
        below = psutil.Process(serving.pid).children(recursive=True)
        psutil.Process(json.loads((tmp_path / "ws" / "prefect" / "server.json").read_text())["pid"]).kill()
        said = serving.communicate(timeout=300)[0]
    assert serving.returncode == 1 and "The Prefect server of mammo serve has ended" in said and "Traceback" not in said, said
    assert not [each for each in psutil.wait_procs(below, timeout=60)[1] if each.status() != psutil.STATUS_ZOMBIE]
