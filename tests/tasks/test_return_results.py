"""Results go back into their own study in a real PACS, under the identity that it has, and nothing of that stays with us."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
import torch
from prefect.settings import PREFECT_HOME

from flows.return_results import return_results as returned_by_flow
from gmic_model.model import GMIC
from mammo_tests.between import Fault, between
from mammo_tests.kept_bytes import kept_bytes
from mammo_tests.other_systems import Orthanc, free_port, orthanc
from schemas.config.network import GMICConfig
from schemas.config.pacs import ResultKind
from schemas.config.run import RunConfig
from schemas.errors import PeerRefused
from schemas.reports.pages import ReturnReport
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.results.outbox import DeliveryState, Outbox
from tasks.adapters.workspace import Workspace
from tasks.predict import predict_exams
from tasks.return_results import return_results

IngestHere = Callable[[RunConfig], Any]
KINDS = ("presentation", "cad")
"""Five small objects of an exam: how each kind is made has its own tests."""


@dataclass
class Site:
    """A PACS, and a workspace that has predicted its exams."""

    server: Orthanc
    config: RunConfig
    sources: list[Path]
    undisturbed: list[str] = field(default_factory=list)

    def returning(
        self, workspace: Path, *, url: str = "", timeout_s: float = 30.0, tries: int = 2, **results: Any
    ) -> RunConfig:
        """The run with a peer, in a copy of the workspace."""
        if not workspace.exists():
            shutil.copytree(self.config.workspace_dir, workspace)
        peer = {"kind": "dicomweb", "url": url or self.server.url, "attempts": tries, "timeout_s": timeout_s}
        pacs = {"peers": {"archive": peer}, "results": {"peer": "archive", "kinds": KINDS, **results}}
        content = self.config.model_dump(mode="json") | {"pacs": pacs, "workspace_dir": str(workspace)}
        return RunConfig.model_validate(content)

    def ours(self) -> list[dict[str, Any]]:
        """Every object in the PACS that is not a source image."""
        found = self.server.ask("/tools/find", json.dumps({"Level": "Instance", "Query": {}, "Expand": True}).encode())
        sources = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in self.sources}
        return [one for one in found if one["MainDicomTags"]["SOPInstanceUID"] not in sources]

    def uids(self) -> list[str]:
        """Of all results in the PACS."""
        return sorted(one["MainDicomTags"]["SOPInstanceUID"] for one in self.ours())

    def expected_uids(self, workspace: Path) -> list[str]:
        """Of all results when nothing goes wrong; computed once for all tests."""
        if not self.undisturbed:
            return_results.fn(self.returning(workspace))
            self.undisturbed = self.uids()
            self.only_sources()
        return self.undisturbed

    def content(self, instance: dict[str, Any]) -> dict[str, Any]:
        """An object as the PACS has it."""
        return dict(self.server.ask(f"/instances/{instance['ID']}/simplified-tags"))

    def only_sources(self) -> None:
        """The PACS as before any result."""
        self.server.forget_all()
        self.server.take(*self.sources)


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, cohort_dir: Path, make_config: Callable[..., RunConfig], ingest_here: IngestHere
) -> Iterator[Site]:
    """Two exams of the cohort, predicted by untrained weights."""
    folder = tmp_path_factory.mktemp("site")
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())[:2]
    for exam in exams:
        shutil.copytree(exam, folder / "cohort" / "dicom" / exam.name)
    config = make_config(folder / "workspace", folder / "cohort", **{"ingest.labels_csv": None, "ingest.masks_dir": None})
    ingested = ingest_here(config)
    torch.manual_seed(0)
    model = GMICConfig.model_validate(config.model.model_dump())
    save_checkpoint(folder / "weights", weights=GMIC(model).state_dict(), training={}, model=model, about={})
    predict_exams.fn(config, ingested, folder / "weights")
    sources = sorted((folder / "cohort" / "dicom").rglob("*.dcm"))
    with orthanc(folder / "orthanc", listener_port=free_port()) as server:
        yield Site(server, config, sources)


@pytest.fixture(autouse=True)
def before_any_result(site: Site) -> None:
    """Each test begins with the sources alone."""
    site.only_sources()


def states(report: ReturnReport) -> list[tuple[str, int, int]]:
    """What became of each exam."""
    return [(exam.state, exam.objects_sent, exam.objects_there) for exam in report.exams]


def test_results_come_back_into_their_own_study_once(site: Site, tmp_path: Path) -> None:
    """All kinds, under the patient's own identity; a second run, and a run that lost its outbox, change nothing."""
    config = site.returning(tmp_path / "w", kinds=list(ResultKind))
    report = return_results.fn(config)
    assert [exam.state for exam in report.exams] == ["delivered"] * 2 and (report.queued_new, report.waiting) == (2, 0)
    made = [site.content(one) for one in site.ours()]
    assert sum(exam.objects_sent for exam in report.exams) == len(made)
    assert sorted({one["Modality"] for one in made}) == ["KO", "OT", "PR", "SEG", "SR"]
    by_study = {str(one.StudyInstanceUID): one for one in map(pydicom.dcmread, site.sources)}
    for one in made:
        source = by_study[one["StudyInstanceUID"]]
        assert one["PatientID"] == source.PatientID and one["PatientName"] == str(source.PatientName) == "CANARY^JANE"
        assert "RESEARCH" in one["SeriesDescription"]
    before = sorted(one["ID"] for one in site.ours())
    assert return_results.fn(config).exams == ()
    Workspace(config.workspace_dir).outbox_path.unlink()
    assert [(state, sent) for state, sent, _ in states(return_results.fn(config))] == [("delivered", 0)] * 2
    assert sorted(one["ID"] for one in site.ours()) == before


@pytest.mark.parametrize("sources", ["archive", None], ids=["asked by DICOMweb", "without DICOMweb"])
def test_results_go_by_c_store(site: Site, tmp_path: Path, sources: str | None) -> None:
    """The same objects under the same UIDs as by STOW-RS; sent again after the outbox is lost, they are there once.

    Whose the exam is is asked by QIDO-RS, or of a PACS that speaks DICOM's own protocol only by C-FIND and C-GET. No more
    objects are sent in a second than the peer's config says.
    """
    config = site.returning(tmp_path / "w")
    peer = {"kind": "dimse", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": site.server.dicom_port, "per_second": 50}
    content = config.model_dump(mode="json")
    content["pacs"]["peers"] = {"store": peer, **(content["pacs"]["peers"] if sources else {})}
    content["pacs"]["results"] |= {"peer": "store", "sources": sources}
    by_store, expected = RunConfig.model_validate(content), site.expected_uids(tmp_path / "undisturbed")
    began_s = time.monotonic()
    assert [exam.state for exam in return_results.fn(by_store).exams] == ["delivered"] * 2
    assert site.uids() == expected and time.monotonic() - began_s >= (len(expected) - 1) / 50
    Workspace(config.workspace_dir).outbox_path.unlink()
    assert [exam.state for exam in return_results.fn(by_store).exams] == ["delivered"] * 2
    assert site.uids() == expected


def test_nothing_that_identifies_stays(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any, prefect_api: str
) -> None:
    """After the round no file of the workspace, no log at its loudest, no output and no database holds a name or UID of hers.

    As a flow on a real server, which shows a table of exams; also not of an exam whose sources are gone.
    """
    caplog.set_level(logging.DEBUG)
    config = site.returning(tmp_path / "w", kinds=["measurements", "cad"])
    returned_by_flow(config)
    site.only_sources()
    site.server.ask(f"/studies/{site.server.ask('/studies')[0]}", method="DELETE")
    Workspace(config.workspace_dir).outbox_path.unlink()
    state = returned_by_flow(config, return_state=True)
    report = state.result()
    assert table_of(state.state_details.flow_run_id) == [exam.model_dump() for exam in report.exams]
    assert sorted(exam.state for exam in report.exams) == ["delivered", "queued"]
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in site.sources]
    planted = {"CANARY", *(str(head[name].value) for head in heads for name in ("PatientID", "SOPInstanceUID"))}
    planted |= {str(head[name].value) for head in heads for name in ("StudyInstanceUID", "SeriesInstanceUID")}
    told = [record.getMessage() + str(record.args) for record in caplog.records]
    told += [report.model_dump_json(), *capfd.readouterr()]
    contents = kept_bytes(config.workspace_dir, server_home=Path(str(PREFECT_HOME.value())))
    assert any(path.name == "prefect.db" for path in contents)
    for word in planted:
        assert not [text for text in told if word in text]
        assert [path for path, content in contents.items() if word.encode() in content] == []
    assert any(head.PatientID.encode() in path.read_bytes() for head, path in zip(heads, site.sources, strict=True))


def table_of(flow_run_id: Any) -> Any:
    """The artifact of a run's exams."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        found = {artifact.key: artifact.data for artifact in client.read_artifacts(artifact_filter=wanted)}
    return json.loads(found["results"])


def test_a_busy_server_is_asked_again_when_it_says_and_gets_the_object(site: Site, tmp_path: Path) -> None:
    """Answered 429, then 503; in the same run what is sent again has the same length, and nothing is there twice."""
    left = [Fault(status=status, headers={"Retry-After": "1"}) for status in (503, 429)]
    with between(site.server.url) as proxy:
        proxy.fault_of = lambda method, path, body: left.pop() if method == "POST" and left else None
        report = return_results.fn(site.returning(tmp_path / "w", url=proxy.url, tries=3, kinds=["cad"]))
        assert [exam.state for exam in report.exams] == ["delivered"] * 2 and report.stopped == ""
        first, second, third, *_ = proxy.posts()
        assert first == second == third > 1000
        assert len(proxy.posts()) == len(site.ours()) + 2


def test_a_server_that_does_not_accept_us_is_not_asked_again(site: Site, tmp_path: Path) -> None:
    """One request, one error that says what to check, no address in it; the outbox waits for a person, and goes on then."""
    with between(site.server.url) as proxy:
        config = site.returning(tmp_path / "w", url=proxy.url, kinds=["cad"])
        for status in (401, 403):
            proxy.seen.clear()
            proxy.fault_of = lambda method, path, body, status=status: Fault(status=status)  # type: ignore[misc]
            with pytest.raises(PeerRefused, match="credentials_file") as refused:
                return_results.fn(config)
            assert len(proxy.seen) == 1 and "http" not in str(refused.value).lower().replace("http status", "")
        proxy.fault_of = lambda method, path, body: None
        assert [exam.state for exam in return_results.fn(config).exams] == ["delivered"] * 2


def dropped(method: str, path: str, body: bytes) -> Fault | None:
    """An object is called stored, and is not."""
    if method != "POST":
        return None
    uid = pydicom.dcmread(pydicom.filebase.DicomBytesIO(body[body.index(b"\r\n\r\n") + 4 :]), specific_tags=["SOPInstanceUID"])
    item = {"00081155": {"vr": "UI", "Value": [str(uid.SOPInstanceUID)]}}
    return Fault(status=200, content=json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode())


def test_an_object_that_is_called_stored_and_is_not_becomes_a_dead_letter(site: Site, tmp_path: Path) -> None:
    """Each exam is tried, put off, given up after so many attempts, and delivered when a person sends it again."""
    with between(site.server.url) as proxy:
        config = site.returning(tmp_path / "w", url=proxy.url, attempts=2, kinds=["cad"])
        proxy.fault_of = dropped
        assert {exam.state for exam in return_results.fn(config).exams} == {"queued"}
        assert return_results.fn(config).exams == ()  # not due yet
        with Outbox(Workspace(config.workspace_dir).outbox_path) as outbox:
            for delivery in outbox.of_state(DeliveryState.QUEUED):
                outbox.failed(delivery, delivery.reason, now_s=-1e9, most_attempts=None)
        report = return_results.fn(config)
        assert {exam.state for exam in report.exams} == {"dead"} and report.dead == 2
        assert all("does not give an object back" in exam.reason for exam in report.exams)
        proxy.fault_of = lambda method, path, body: None
        with Outbox(Workspace(config.workspace_dir).outbox_path) as outbox:
            assert outbox.send_again() == 2
        assert [exam.state for exam in return_results.fn(config).exams] == ["delivered"] * 2


@pytest.mark.parametrize("fault", [Fault(delay_s=1.5, is_cut=True), Fault(is_cut=True)], ids=["slow", "breaks off"])
def test_a_server_that_falls_silent_stops_the_run_and_costs_no_exam(site: Site, tmp_path: Path, fault: Fault) -> None:
    """The rest waits without a mark against it; the run after goes on where it stopped."""
    with between(site.server.url) as proxy:
        config = site.returning(tmp_path / "w", url=proxy.url, timeout_s=1.0, kinds=["cad"])
        proxy.fault_of = lambda method, path, body: fault if method == "POST" else None
        report = return_results.fn(config)
        assert [exam.state for exam in report.exams] == ["queued"] and report.waiting == 2 and report.stopped
        with Outbox(Workspace(config.workspace_dir).outbox_path) as outbox:
            outbox.send_again()
        config = site.returning(tmp_path / "w", kinds=["cad"])
        assert [exam.state for exam in return_results.fn(config).exams] == ["delivered"] * 2
        assert len(site.ours()) == 2


def test_a_slow_server_that_stored_it_all_the_same_is_not_sent_it_twice(site: Site, tmp_path: Path) -> None:
    """Its answer came too late; the next try finds the object there."""
    late = [Fault(delay_s=1.5)]
    with between(site.server.url) as proxy:
        proxy.fault_of = lambda method, path, body: late.pop() if method == "POST" and late else None
        report = return_results.fn(site.returning(tmp_path / "w", url=proxy.url, timeout_s=1.0, tries=6, kinds=["cad"]))
        assert [exam.state for exam in report.exams] == ["delivered"] * 2
        assert len(site.ours()) == 2


def test_a_server_that_is_killed_in_mid_sending_gets_the_rest_when_it_is_back(site: Site, tmp_path: Path) -> None:
    """Everything once, under the same UIDs as without the accident."""
    expected, sent = site.expected_uids(tmp_path / "undisturbed"), 0

    def kill_at_the_third(method: str, path: str, body: bytes) -> Fault | None:
        nonlocal sent
        sent += method == "POST"
        if method == "POST" and sent == 3:
            site.server.kill()
        return None

    with between(site.server.url) as proxy:
        config = site.returning(tmp_path / "w", url=proxy.url)
        proxy.fault_of = kill_at_the_third
        report = return_results.fn(config)
        assert report.stopped and report.waiting == 2
        site.server.start()
        proxy.fault_of = lambda method, path, body: None
        with Outbox(Workspace(config.workspace_dir).outbox_path) as outbox:
            outbox.send_again()
        again = return_results.fn(config)
        assert [exam.state for exam in again.exams] == ["delivered"] * 2 and again.exams[0].objects_there == 2
        assert site.uids() == expected


_KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.adapters.interpreter import imported_at_once
with imported_at_once():
    import tasks.adapters.results.kept_prediction, tasks.adapters.results.returning
    from schemas.config.run import RunConfig
    from tasks.adapters.results.outbox import Outbox
    from tasks.return_results import return_results
record, times = Outbox.record, []

def killed(self, *arguments, **keywords):
    times.append(1)
    if len(times) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    record(self, *arguments, **keywords)

Outbox.record = killed
return_results.fn(RunConfig.model_validate_json(Path(sys.argv[1]).read_text()))
"""


def test_killed_between_sending_and_recording_nothing_is_lost_or_doubled(site: Site, tmp_path: Path) -> None:
    """SIGKILL when the third object is in the PACS and not yet in the outbox: the next run finds it there and goes on."""
    expected = site.expected_uids(tmp_path / "undisturbed")
    config = site.returning(tmp_path / "w")
    (tmp_path / "config.json").write_text(config.model_dump_json())
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "config.json"), "3"]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    assert subprocess.run(command, env=environment, timeout=600, check=False).returncode == -signal.SIGKILL
    before = {one["ID"] for one in site.ours()}
    assert len(before) == 3
    report = return_results.fn(config)
    assert [exam.state for exam in report.exams] == ["delivered"] * 2 and report.queued_new == 0
    assert report.exams[0].objects_there == 3
    assert site.uids() == expected and before < {one["ID"] for one in site.ours()}


def test_sources_that_changed_hands_are_refused_and_a_corrected_name_is_taken(site: Site, tmp_path: Path) -> None:
    """An exam of two patients is given up for good; one whose patient was corrected meanwhile goes to the corrected one."""
    config = site.returning(tmp_path / "w", kinds=["cad"])
    mixed, corrected = site.server.ask("/studies")
    first = site.server.ask(f"/studies/{mixed}/instances")[0]["ID"]
    keep = {"Force": True, "Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]}
    change = json.dumps({"Replace": {"PatientID": "SOMEBODYELSE"}, **keep}).encode()
    changed = pydicom.dcmread(pydicom.filebase.DicomBytesIO(modified(site.server, f"/instances/{first}/modify", change)))
    change = json.dumps({"Replace": {"PatientName": "CORRECTED^CANARY", "PatientID": "CORRECTEDID"}, **keep}).encode()
    renamed = [
        modified(site.server, f"/instances/{one['ID']}/modify", change)
        for one in site.server.ask(f"/studies/{corrected}/instances")[1:]
    ]
    (one, *_), name = site.server.ask(f"/studies/{corrected}/instances"), json.loads(change)
    name["Replace"]["IssuerOfPatientID"] = "WARD"  # which the others lack: not another woman's
    renamed.append(modified(site.server, f"/instances/{one['ID']}/modify", json.dumps(name).encode()))
    site.server.ask(f"/instances/{first}", method="DELETE")
    site.server.ask(f"/studies/{corrected}", method="DELETE")
    for content in renamed:
        site.server.ask("/instances", content)
    path = tmp_path / "changed.dcm"
    changed.save_as(path)
    site.server.take(path)
    report = return_results.fn(config)
    assert sorted(exam.state for exam in report.exams) == ["dead", "delivered"]
    (reason,) = [exam.reason for exam in report.exams if exam.reason]
    assert "different patients" in reason and "SOMEBODYELSE" not in reason
    made = [one for one in map(site.content, site.ours()) if one["Modality"] == "SR"]
    assert [(one["PatientName"], one["PatientID"]) for one in made] == [("CORRECTED^CANARY", "CORRECTEDID")]


def modified(server: Orthanc, path: str, change: bytes) -> bytes:
    """An object as the server changed it; not JSON, so not by ``ask``."""
    import urllib.request

    request = urllib.request.Request(f"http://127.0.0.1:{server.http_port}{path}", change)
    with urllib.request.urlopen(request, timeout=300) as answer:
        content: bytes = answer.read()
    return content
