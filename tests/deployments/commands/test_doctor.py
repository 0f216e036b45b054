"""The doctor: each fault is found on a machine that really has it, and comes with its remedy."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deployments.cli import app
from deployments.commands import doctor
from deployments.commands.examination import files, machine
from deployments.commands.examination.complaint import Complaint
from deployments.configuration import load_config
from mammo_tests.other_systems import orthanc, pacs_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from tasks.adapters.gate.child import GateChild
from tasks.adapters.walls import ALL_WALLS


def _config(folder: Path, **changes: Any) -> RunConfig:
    (folder / "inbox").mkdir(exist_ok=True)
    content: dict[str, Any] = {"workspace_dir": str(folder / "ws"), "ingest": {"source_dir": str(folder / "inbox")}}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return load_config(path)


def _of(check: str, config: RunConfig | None) -> list[Complaint]:
    found = [finding for finding in doctor.examine(config) if finding.check == check]
    assert found
    for finding in found:
        assert finding.is_well == (not finding.remedy), finding
    return found


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server is configured unless a test says so."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "no-profile"))


def test_this_installation_has_its_codecs_and_versions() -> None:
    """What the suite runs on is what the doctor calls well."""
    assert all(finding.is_well for check in ("codecs", "versions", "server") for finding in _of(check, None))


def test_the_walls_around_the_reader_of_files_are_named() -> None:
    """Those that stand and those that this kernel lacks, as the gate's child itself says."""
    (finding,) = _of("gate", None)
    with GateChild() as child:
        standing = child.walls()
    assert finding.is_well
    assert {wall for wall in ALL_WALLS if f"no {wall}" not in finding.found} == set(standing)


def test_a_version_that_breaks_silently_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect 3.8 beside SQLAlchemy 2.1: schedules never fire, and nothing else would say so."""
    monkeypatch.setattr(machine, "version", lambda package: {"sqlalchemy": "2.1.9", "prefect": "3.8.8"}.get(package, "0.0.1"))
    faults = {finding.found: finding.remedy for finding in _of("versions", None) if not finding.is_well}
    assert "schedules may never fire" in faults["prefect 3.8.8"] and "sqlalchemy 2.1.9" not in faults


def test_a_silent_server_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """PREFECT_API_URL points to nobody."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (finding,) = _of("server", None)
    assert not finding.is_well and "unset it" in finding.remedy


def test_a_key_that_others_can_read_is_a_fault(tmp_path: Path) -> None:
    """And the message is the command that mends it."""
    config = _config(tmp_path)
    key = config.workspace_dir / "pseudonym.key"
    assert _of("key", config)[0].is_well
    key.parent.mkdir()
    key.touch(mode=0o644)
    key.chmod(0o644)
    assert _of("key", config)[0].remedy.startswith(f"chmod 600 {key}")


def test_weights_and_a_store_of_elsewhere_are_looked_at(tmp_path: Path) -> None:
    """Each of several that are to be evaluated, what a pre-training begins with, and a store in another folder."""
    here = tmp_path / "here"
    here.mkdir()
    wrong = _config(
        tmp_path,
        store_dir=str(tmp_path / "gone-store"),
        pretrain={"start": {"localization": "gone-start"}},
        evaluate={"checkpoints": [str(here), "gone-weights"]},
    )
    assert [found.is_well for found in _of("checkpoints", wrong)] == [True, False]
    assert "pretrain.start.localization" in _of("localization", wrong)[0].remedy
    assert "correct store_dir" in _of("store_dir", wrong)[0].remedy


def test_inputs_and_gpu_are_looked_at_as_the_config_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the config names and nobody can read; a GPU that is insisted on and is not there; auto is content with a CPU."""
    monkeypatch.setattr(machine.shutil, "which", lambda program: None)
    tables = {name: f"gone-{name}" for name in ("labels_csv", "subjects_csv", "boxes_csv", "masks_dir")}
    starts = {name: f"gone-{name}" for name in ("network", "localization", "patches")}
    wrong = _config(
        tmp_path,
        ingest={"source_dir": str(tmp_path), "source": {"peer": "archive", "worklist": "gone-worklist"}, **tables},
        split={"file": "gone-file"},
        train={"device": "cuda", "start": starts},
        evaluate={"ensemble": "gone-ensemble"},
        checkpoint="gone-checkpoint",
        pacs={"peers": {"archive": {"kind": "dicomweb", "url": "http://127.0.0.1:9/dicom-web"}}},
        table1={"checkpoints": {"gmic": ["gone-gmic"]}},
        model={},
        preprocess={"window_px": [384, 256]},
    )
    for check in (*tables, "file", *starts, "ensemble", "checkpoint", "worklist", "gmic"):
        (finding,) = _of(check, wrong)
        assert not finding.is_well and f"gone-{check}" in finding.found, check
    assert not _of("gpu", wrong)[0].is_well
    assert _of("gpu", _config(tmp_path))[0].is_well and _of("source_dir", wrong)[0].is_well


def test_a_program_of_the_driver_that_fails_is_a_fault_and_no_end_of_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there and cannot be executed, as after half an update; one that hangs is found in the same place."""
    program = tmp_path / "nvidia-smi"
    program.write_bytes(b"\0 no program")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = _of("gpu", None)
    assert not finding.is_well and "nvidia-smi fails" in finding.found
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed because no driver answers'\nexit 9\n")
    (finding,) = _of("gpu", _config(tmp_path, train={"device": "cuda"}))
    assert not finding.is_well and finding.found.endswith("nvidia-smi fails: it ends with code 9")


def test_a_card_is_no_use_to_a_torch_for_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver shows a card; which torch is installed decides whether a training sees it."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'One card, 81920 MiB'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    for built, is_well in (("2.13.0+cpu", False), ("2.13.0", True)):
        monkeypatch.setattr(machine, "version", lambda package, built=built: built)
        (finding,) = _of("gpu", _config(tmp_path, train={"device": "cuda"}))
        assert (
            finding.is_well == is_well and finding.found.startswith("One card") and ("CPUs alone" in finding.found) != is_well
        )


def test_a_file_system_that_counts_no_files_has_not_run_out_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A btrfs says 0 of 0; another that says 0 of some is full."""
    true = files.os.statvfs(tmp_path)
    for total, is_well in ((0, True), (1000, False)):
        said = files.os.statvfs_result((*true[:5], total, 0, 0, *true[8:]))
        monkeypatch.setattr(files.os, "statvfs", lambda folder, said=said: said)
        monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 40))
        assert _of("disk", _config(tmp_path))[0].is_well == is_well


def test_a_watching_that_cannot_be_read_is_not_one_that_never_was(tmp_path: Path) -> None:
    """It may hold an alarm."""
    config = _config(tmp_path)
    report = config.workspace_dir / "watch" / "report.json"
    assert not [found for found in doctor.examine(config) if found.check == "devices"]
    report.parent.mkdir(parents=True)
    report.write_text('{"devices": [{"na')
    (finding,) = _of("devices", config)
    assert not finding.is_well and "cannot be read" in finding.found and "mammo watch" in finding.remedy


def test_each_other_system_is_asked(tmp_path: Path) -> None:
    """By its own protocol; who does not answer is named, and a listener that could take nothing."""
    with orthanc(tmp_path / "orthanc") as archive:
        pacs = pacs_config(archive.listener_port, archive=archive)
        found = _of("pacs", _config(tmp_path, pacs=pacs.model_dump(mode="json")))
        assert [(each.is_well, each.found.split(":")[0]) for each in found] == [
            (True, "dimse answers"),
            (False, "router"),
            (True, "web answers"),
            (True, "the listener takes exams from ORTHANC, ROUTER"),
        ]
    silent = {"kind": "dicomweb", "url": "http://127.0.0.1:9/dicom-web"}
    pacs = pacs_config(archive.listener_port, peers={"web": silent})
    found = _of("pacs", _config(tmp_path, pacs=pacs.model_dump(mode="json")))
    assert [each.found for each in found if each.is_well] == []
    assert "the listener takes exams from nobody" in found[1].found


def test_a_synthetic_exam_needs_a_workspace() -> None:
    """Without a config nobody knows which network it goes through."""
    assert isinstance(CliRunner().invoke(app, ["doctor", "--exam"]).exception, ConfigError)


def test_the_command_says_it_for_people_and_for_scripts(
    tmp_path: Path, mammo_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1 with a fault; --json is a list of findings."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    _config(tmp_path)
    told = mammo_process("doctor", tmp_path / "run.yaml", "--json")
    findings = json.loads(told.stdout)
    assert told.code == 1 and {"check", "is_well", "found", "remedy"} == set(findings[0])
    assert [finding["check"] for finding in findings if not finding["is_well"]] == ["server"]
