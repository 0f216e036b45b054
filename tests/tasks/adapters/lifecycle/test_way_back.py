"""``mammo find``: a patient is found under the site's key, a pseudonym leads back, and nothing of it is kept."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner, Result

from deployments.cli import app
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, NoExamsFound
from schemas.layout import DEVICE_COLUMNS
from schemas.reports.data import IngestReport
from tasks.adapters.lifecycle.way_back import Asked, lines_of_asked, lines_of_names, site_key, stored_lines
from tasks.adapters.pseudonyms import place_key
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.tables.line_texts import data_version
from tasks.adapters.workspace import Workspace

IngestHere = Callable[[RunConfig], IngestReport]


@pytest.fixture
def config(tmp_path: Path, two_exams: Path, make_config: Callable[..., RunConfig], ingest_here: IngestHere) -> RunConfig:
    """Eight published images of two exams of two patients."""
    config = make_config(tmp_path / "workspace", two_exams, **{"ingest.exams_per_shard": 2})
    assert ingest_here(config).images_published == 8
    return config


def mammo(config: RunConfig, *arguments: object, stdin: str | bytes = "") -> Result:
    """``mammo find CONFIG ...``."""
    path = config.workspace_dir.parent / "config.yaml"
    path.write_text(config.model_dump_json())
    return CliRunner().invoke(app, ["find", str(path), *map(str, arguments)], input=stdin)


def test_there_and_back(config: RunConfig, two_exams: Path, tmp_path: Path) -> None:
    """By accession number, patient and study the exam; back to its files; a table with whom it is of, for its owner only.

    A file that is gone, or shows another image by now, is not taken for it. A stranger is said to be one, and not repeated.
    """
    file = sorted((two_exams / "dicom").rglob("*.dcm"))[0]
    header = pydicom.dcmread(file, stop_before_pixels=True)
    asked = {
        "--accession": f"{header.AccessionNumber}\n",
        "--patient": f"{header.PatientID}\n{header.get('IssuerOfPatientID', '')}\n",
        "--study": f"{header.StudyInstanceUID}\n",
    }
    answers = {flag: mammo(config, flag, stdin=typed).output for flag, typed in asked.items() if typed.strip()}
    # The cohort's exams share one accession number.
    assert answers["--patient"] == answers["--study"] and answers["--study"] in answers["--accession"]
    patient, exam, count, _ = answers["--study"].split()
    assert patient[0] == "P" and exam[0] == "E" and count == "4"
    back = mammo(config, exam).output
    assert len(back.splitlines()) == 4 and str(file) in back
    stranger = mammo(config, "--patient", stdin="NOBODY-OF-OURS\n\n")
    assert isinstance(stranger.exception, NoExamsFound) and "NOBODY" not in str(stranger.exception)
    table, out = tmp_path / "scores.csv", tmp_path / "named.csv"
    table.write_text(f"exam_id,malignant_score\n{exam},0.5\nE000000000000000000000000,-0.25\n")
    written = mammo(config, "--table", table, "--out", out)
    assert "WARNING: this file names patients" in written.output and "1 of 2 exams" in written.output
    assert out.stat().st_mode & 0o077 == 0
    rows = list(csv.DictReader(out.open()))
    assert rows[0]["PatientID"] == header.PatientID and rows[0]["StudyInstanceUID"] == header.StudyInstanceUID
    assert rows[1]["PatientID"] == "" and rows[1]["malignant_score"] == "-0.25"
    assert isinstance(mammo(config, "--table", table, "--out", out).exception, ConfigError)
    of_exam = [
        path
        for path in (two_exams / "dicom").rglob("*.dcm")
        if pydicom.dcmread(path).StudyInstanceUID == header.StudyInstanceUID
    ]
    other = next(path for path in (two_exams / "dicom").rglob("*.dcm") if path not in of_exam)
    for path in of_exam[1:]:
        path.unlink()
    of_exam[0].write_bytes(other.read_bytes())
    assert mammo(config, exam).output.count("not in ") == 3
    out.unlink()
    assert "of 0 of 2 exams" in mammo(config, "--table", table, "--out", out).output
    secrets = [str(value).encode() for value in (header.PatientID, header.AccessionNumber, header.StudyInstanceUID)]
    kept = [path for path in config.workspace_dir.rglob("*") if path.is_file()]
    assert not [path for path in kept for secret in secrets if secret in path.read_bytes()]


def test_another_key_finds_nobody_and_says_so(config: RunConfig) -> None:
    """Under another key every patient is a stranger: that is not the same as not being here. One thing, in text, is asked."""
    workspace = Workspace(config.workspace_dir)
    lines, pseudonyms = stored_lines(workspace), site_key(workspace)
    assert lines_of_asked(Asked.PATIENT, "NOBODY", "", lines, pseudonyms) == []
    assert len(lines_of_names({lines[0].patient_id}, lines)) == 4
    for arguments in ((), ("--patient", "--study"), ("E0", "--study"), ("--table", "t.csv")):
        assert "one thing" in str(mammo(config, *arguments).exception)
    no_text = mammo(config, "--patient", stdin=b"M\xfcller\n\n").exception  # in another encoding: a sentence, without the name
    assert isinstance(no_text, ConfigError) and "no text" in str(no_text) and "ller" not in str(no_text)
    workspace.key_path.unlink()
    place_key(workspace.key_path, bytes(32))
    assert "another key" in str(mammo(config, "--study", stdin="1.2.3\n").exception)


def test_what_made_an_image_is_known_and_changes_no_version(config: RunConfig) -> None:
    """Software and device stand in the manifest, the serial number as a pseudonym; a store without them is of the same data."""
    manifest = read_manifest(open_store(Workspace(config.workspace_dir).store_dir))
    assert set(manifest["software_versions"]) == {"1"} and "processing" not in manifest
    device_id = site_key(Workspace(config.workspace_dir)).device_id("mammography-gmic phantom", "phantom", "1")
    assert set(manifest["device_id"]) == {device_id}
    without = manifest.drop(columns=[column.name for column in DEVICE_COLUMNS if column.name in manifest])
    assert data_version(without) == data_version(manifest)
