"""Exams of a real PACS come once and whole, as they are stored there, whatever breaks meanwhile; what did not come is told."""

from __future__ import annotations

import json
import logging
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pydicom
import pytest
import yaml
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForProcessing,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from mammo_tests.other_systems import (
    ListenerProcess,
    Orthanc,
    arrived,
    data_set_bytes,
    free_port,
    orthanc,
    pacs_config,
    rewritten,
    unfinished,
    until,
    write_exam,
)
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, PeerRefused, PeerUnavailable
from tasks.adapters.interpreter import python_command
from tasks.adapters.pacs.fetching import fetch, find_exams

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")

DAY = date(2021, 5, 4)
WAYS = ("web", "get", "move")


def _config(
    folder: Path,
    archive: Orthanc,
    way: str,
    *,
    inbox_dir: Path | None = None,
    attempts: int = 2,
    in_flight: int = 3,
    **source: Any,
) -> RunConfig:
    pacs = pacs_config(archive.listener_port, archive=archive).model_dump(mode="json")
    few = {"timeout_s": 120, "attempts": attempts, "in_flight": in_flight}
    pacs["peers"] = {
        "web": pacs["peers"]["web"] | few,
        "get": pacs["peers"]["dimse"] | few | {"retrieve": way if way != "web" else "get"},
    }
    asked = {"peer": "web" if way == "web" else "get", **(source or {"since": str(DAY), "until": str(DAY)})}
    ingest = {"source_dir": str(inbox_dir or folder / "inbox"), "source": asked}
    return RunConfig.model_validate({"workspace_dir": str(folder / "ws"), "ingest": ingest, "pacs": pacs})


def _fetched(config: RunConfig) -> dict[str, int]:
    """What a run did, without what is 0."""
    return {name: count for name, count in fetch(config, today=DAY).counts().items() if count and name != "size_bytes"}


@pytest.fixture(scope="module")
def cohort(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five mammograms of two exams on the day, compressed and not; beside them what no fetch should bring."""
    folder = tmp_path_factory.mktemp("cohort")
    first, second = write_exam(folder, 1, images=4, day=DAY), write_exam(folder, 2, images=2, day=DAY)
    rewritten(first[0], first[0], JPEGLSLossless)
    rewritten(first[1], first[1], RLELossless)

    def raw(dataset: pydicom.Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForProcessing

    def picture(dataset: pydicom.Dataset) -> None:  # as our own results are, in a series of theirs
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.8399"
        dataset.SeriesInstanceUID, dataset.Modality = "2.25.8299", "OT"

    rewritten(second[1], second[1], "1.2.840.10008.1.2.1", raw)
    result = rewritten(second[0], folder / "result.dcm", "1.2.840.10008.1.2.1", picture)
    archive.take(*first, *second, result, *write_exam(folder, 3, day=DAY + timedelta(days=40)))
    return [*first, second[0]]


@pytest.mark.parametrize("way", WAYS)
def test_every_mammogram_comes_once_as_it_is_stored(
    archive: Orthanc,
    listener: ListenerProcess,
    cohort: list[Path],
    tmp_path: Path,
    way: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Byte for byte; not what is no mammogram for presentation, nor of another day. Again: nothing; what went comes back.

    Nobody is named in what is logged at any level of ours, nor in what a run leaves beside the objects.
    """
    caplog.set_level(logging.DEBUG)
    inbox_dir = listener.inbox_dir if way == "move" else tmp_path / "inbox"
    for path in arrived(inbox_dir):
        path.unlink()
    config = _config(tmp_path, archive, way, inbox_dir=inbox_dir, attempts=8)  # on a busy machine some tries may fail
    assert _fetched(config) == {"exams": 2, "images": 5, "images_fetched": 5}
    assert {data_set_bytes(path) for path in arrived(inbox_dir)} == {data_set_bytes(path) for path in cohort}
    assert unfinished(inbox_dir) == []
    assert _fetched(config) == {"exams": 2, "images": 5, "images_here": 5}
    arrived(inbox_dir)[2].unlink()
    assert _fetched(config) == {"exams": 2, "images": 5, "images_here": 4, "images_fetched": 1}
    assert len(arrived(inbox_dir)) == 5
    names = [str(path) for path in [*tmp_path.rglob("*"), *inbox_dir.rglob("*")]]
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert not [text for text in (*names, *ours) if "CANARY" in text or "2.25.8" in text]
    # Of ours: pynetdicom warns of an idle association that the peer has ended, which is asked anew.
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING and record.name.startswith("tasks.")]


@pytest.mark.parametrize("way", ["web", "get"])
def test_a_worklist_names_exams_of_any_day(archive: Orthanc, cohort: list[Path], tmp_path: Path, way: str) -> None:
    """By accession number or UID; what the PACS does not have is counted."""
    worklist = tmp_path / "worklist.csv"
    worklist.write_text("accession_number,study_instance_uid\nCANARYACC3,\nCANARYACC9,\n,2.25.8100002\n")
    config = _config(tmp_path, archive, way, worklist=str(worklist))
    exams, not_there = find_exams(config, today=DAY)
    assert (len(exams), not_there) == (2, 1)
    assert _fetched(config) == {"exams": 2, "exams_not_there": 1, "images": 2, "images_fetched": 2}


@pytest.mark.parametrize("limit", [0, 10])
def test_no_exam_is_lost_to_a_server_s_limit(tmp_path: Path, limit: int) -> None:
    """A server that cuts its answers, most of them without a word, is asked in smaller pieces: 70 exams are 70, both ways.

    So are 12 exams without a time where 10 is the limit, by parts of PatientID.
    And 100 of one minute are no error where there is no limit, nor 10.
    """
    with orthanc(tmp_path / "orthanc", LimitFindResults=limit) as archive:
        folder = tmp_path / "exams"
        if limit == 0:
            for begin, count in ((0, 10), (10, 100)):
                for number in range(begin, count):
                    archive.take(*write_exam(folder, number, side_px=8, day=DAY))
                for way in ("web", "get"):
                    assert len(find_exams(_config(tmp_path, archive, way), today=DAY)[0]) == count
            return
        for number in range(70):
            (path,) = write_exam(folder, number, side_px=8, day=DAY + timedelta(days=number % 25 if number < 50 else 3))
            minute = f"{8 + number % 11:02}{number % 60:02}00"
            rewritten(path, path, "1.2.840.10008.1.2.1", _at(minute))
            archive.take(path)
        asked = {"since": str(DAY), "until": str(DAY + timedelta(days=60))}
        for way in ("web", "get"):
            assert len(find_exams(_config(tmp_path, archive, way, **asked), today=DAY)[0]) == 70
        if limit != 10:
            return
        for number in range(200, 212):
            (path,) = write_exam(folder, number, side_px=8, day=DAY)
            archive.take(rewritten(path, path, "1.2.840.10008.1.2.1", _at("")))
        for way in ("web", "get"):
            assert len(find_exams(_config(tmp_path, archive, way, **asked), today=DAY)[0]) == 82


def _at(time: str) -> Callable[[pydicom.Dataset], object]:
    return lambda dataset: setattr(dataset, "StudyTime", time)


def test_a_pacs_that_is_killed_in_mid_transfer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """What came is whole, the rest is told and comes on the next run, also when it is our process that was killed."""
    with orthanc(tmp_path / "orthanc") as archive:
        exams = [path for number in range(4) for path in write_exam(tmp_path / "exams", number, images=4, day=DAY)]
        archive.take(*exams)
        config = _config(tmp_path, archive, "web")
        inbox_dir, slow = config.ingest.source_dir, config.model_dump(mode="json")
        slow["pacs"]["peers"][slow["ingest"]["source"]["peer"]]["per_second"] = 12
        config_path = tmp_path / "run.yaml"
        config_path.write_text(yaml.safe_dump(slow))
        command = python_command("-m", "deployments.cli", "pacs", "fetch", str(config_path), "--json")
        for is_ours in (True, False):
            there = len(arrived(inbox_dir))
            running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert until(lambda there=there: len(arrived(inbox_dir)) > there + 2)  # type: ignore[misc]  # bound at once
            if is_ours:
                running.kill()
                running.communicate()
                continue
            archive.kill()
            said, error = running.communicate(timeout=60)
            assert running.returncode == 75, error
            counts = json.loads(said)
            assert counts["images_left"] + counts["exams_left"] > 0 and "CANARY" not in error and "2.25" not in error
            assert unfinished(inbox_dir) == []
        archive.start()
        here = len(arrived(inbox_dir))
        assert _fetched(config) == {"exams": 4, "images": 16, "images_here": here, "images_fetched": 16 - here}
        assert {data_set_bytes(path) for path in arrived(inbox_dir)} == {data_set_bytes(path) for path in exams}
        assert len(arrived(inbox_dir)) == 16 and unfinished(inbox_dir) == []
        archive.end()
        with pytest.raises(PeerUnavailable):
            fetch(config, today=DAY)


class _Proxy(BaseHTTPRequestHandler):
    """Hands on to a PACS, but for what ``spoil`` says of the n-th image, or the -n-th exam's images, that are asked for."""

    pacs: str
    spoil: dict[int, str]
    tries: Counter[str]
    order: dict[str, int]
    listed: dict[str, int]
    lock: Lock

    def do_GET(self) -> None:  # the name http.server calls
        fault = ""
        if "/instances?" in self.path:
            with self.lock:
                fault = self.spoil.get(self.listed.setdefault(self.path, -1 - len(self.listed)), "")
        if "/instances/" in self.path:
            with self.lock:
                number = self.order.setdefault(self.path, len(self.order))
                self.tries[self.path] += 1
                how = self.spoil.get(number, "")
                fault = how.removesuffix(" once") if not how.endswith(" once") or self.tries[self.path] == 1 else ""
        if fault.isdigit():
            self.send_response(int(fault))
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        kept = {name: value for name, value in self.headers.items() if name.lower() in ("accept", "accept-encoding")}
        asked = urllib.request.Request(self.pacs + self.path, headers=kept)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            body, status, kind = answer.read(), answer.status, answer.headers.get("Content-Type", "")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(
            body if fault != "cut" else body[: len(body) // 2] + b"\r\n--" + b"x" * (len(body) - len(body) // 2 - 4)
        )

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def spoiled(archive: Orthanc, cohort: list[Path]) -> Iterator[tuple[Orthanc, dict[int, str], Counter[str]]]:
    """The archive behind a proxy, what it spoils, and how often each image was asked for."""
    spoil: dict[int, str] = {}
    tries: Counter[str] = Counter()
    members = {
        "pacs": f"http://127.0.0.1:{archive.http_port}",
        "spoil": spoil,
        "tries": tries,
        "order": {},
        "listed": {},
        "lock": Lock(),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), members))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield Orthanc(archive.home, server.server_port, archive.dicom_port, archive.listener_port, {}), spoil, tries
    server.shutdown()
    server.server_close()


def test_what_passes_is_tried_again_and_what_is_gone_is_told(
    spoiled: tuple[Orthanc, dict[int, str], Counter[str]], tmp_path: Path
) -> None:
    """503, 429 and a cut body once; 404 for one image; a body that is always cut is left, and comes on the next run."""
    archive, spoil, tries = spoiled
    spoil |= {0: "503 once", 1: "429 once", 2: "cut once", 3: "404", 4: "cut"}
    config = _config(tmp_path, archive, "web")
    expected = {"exams": 2, "images": 5, "images_fetched": 3, "images_not_there": 1, "images_left": 1}
    assert _fetched(config) == expected
    assert sorted(tries.values()) == [1, 2, 2, 2, 2]
    assert len(arrived(config.ingest.source_dir)) == 3 and unfinished(config.ingest.source_dir) == []
    spoil.clear()
    assert _fetched(config) == {"exams": 2, "images": 5, "images_here": 3, "images_fetched": 2}


@pytest.mark.parametrize("status", ["401", "403"])
def test_who_is_not_let_in_does_not_knock_again(
    spoiled: tuple[Orthanc, dict[int, str], Counter[str]], tmp_path: Path, status: str
) -> None:
    """The run ends at once: more tries lock an account."""
    archive, spoil, tries = spoiled
    spoil |= dict.fromkeys(range(1, 5), status)
    config = _config(tmp_path, archive, "web")
    with pytest.raises(PeerRefused, match=f"does not accept us.*{status}"):
        fetch(config, today=DAY)
    assert sum(tries.values()) <= 4, tries  # one that came, and at most one of each thread
    assert unfinished(config.ingest.source_dir) == []


def test_so_many_in_a_second_and_no_more(archive: Orthanc, cohort: list[Path], tmp_path: Path) -> None:
    """Five images at five in a second take four fifths of one, however many may be in flight."""
    import time

    content = _config(tmp_path, archive, "web").model_dump(mode="json")
    content["pacs"]["peers"]["web"]["per_second"] = 5
    began_s = time.monotonic()
    assert _fetched(RunConfig.model_validate(content))["images_fetched"] == 5
    assert time.monotonic() - began_s >= 0.8


@pytest.mark.parametrize("way", ["web", "get"])
def test_a_clock_that_is_ahead_of_ours_hides_no_exam(archive: Orthanc, cohort: list[Path], tmp_path: Path, way: str) -> None:
    """Exams of tomorrow, as a device in another time zone dates them, are exams of today."""
    config = _config(tmp_path, archive, way, last_days=0)
    assert len(find_exams(config, today=DAY - timedelta(days=1))[0]) == 2
    assert find_exams(config, today=DAY + timedelta(days=1))[0] == []


def test_a_run_without_a_source_is_a_sentence(tmp_path: Path) -> None:
    """Nothing is asked."""
    config = RunConfig.model_validate({"workspace_dir": str(tmp_path), "ingest": {"source_dir": str(tmp_path / "in")}})
    with pytest.raises(ConfigError, match="names no source"):
        fetch(config, today=DAY)


def test_a_move_that_does_not_arrive_is_told(
    archive: Orthanc, cohort: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens where the PACS knows us: what it cannot send is left, and no file is half; what to look at is said."""
    with orthanc(tmp_path / "orthanc", listener_port=free_port()) as lonely:
        lonely.take(cohort[0])
        assert _fetched(_config(tmp_path, lonely, "move")) == {"exams": 1, "images": 1, "images_left": 1}
    assert "could not send an image to our listener" in caplog.text and "start it (mammo pacs listen)" in caplog.text


def test_what_a_pacs_lists_and_cannot_send_holds_up_nothing_else(tmp_path: Path) -> None:
    """Exams whose objects are damaged there are left, whichever place they have; the others come with the same run.

    A PACS that answers and has nothing but such exams is not asked for all of them.
    """
    with orthanc(tmp_path / "orthanc", MaximumStorageCacheSize=0) as archive:
        archive.take(*(path for number in range(14) for path in write_exam(tmp_path / "exams", number, images=2, day=DAY)))
        config = _config(tmp_path, archive, "get", attempts=1, in_flight=1)
        for exam in find_exams(config, today=DAY)[0][:12]:
            _damage(archive, exam.study_uid)
        assert _fetched(config) == {"exams": 14, "exams_left": 12, "images": 4, "images_fetched": 4}
        assert _fetched(config) == {"exams": 14, "exams_left": 12, "images": 4, "images_here": 4}
        for number in range(20, 60):
            archive.take(*write_exam(tmp_path / "exams", number, side_px=8, day=DAY))
            _damage(archive, f"2.25.81{number:05}")
        done = fetch(config, today=DAY)
        assert not done.is_away and done.images_fetched == 0 and done.exams_left >= 20


def _damage(archive: Orthanc, study_uid: str) -> None:
    """Every object of an exam, on the disk of the PACS."""
    found = archive.ask("/tools/lookup", study_uid.encode())[0]["Path"]
    for instance in archive.ask(f"{found}/instances"):
        uuid = archive.ask(f"/instances/{instance['ID']}/attachments/dicom/info")["Uuid"]
        (path,) = archive.home.glob(f"db/*/*/{uuid}")
        path.write_bytes(b"")


def test_a_server_that_answers_is_asked_for_the_rest(
    spoiled: tuple[Orthanc, dict[int, str], Counter[str]], tmp_path: Path
) -> None:
    """Four images that it does not hand out are no reason to leave the fifth, nor is an exam that it does not list."""
    archive, spoil, _ = spoiled
    spoil |= dict.fromkeys(range(4), "503")
    config = _config(tmp_path, archive, "web", attempts=1, in_flight=1)
    assert _fetched(config) == {"exams": 2, "images": 5, "images_fetched": 1, "images_left": 4}
    spoil |= {0: "", 1: "", 2: "", 3: "", -1: "400"}
    left = _fetched(config)
    assert left["exams_left"] == 1 and left["images"] in (1, 4), left
