"""``mammo pacs``: what it says to the person who sets other systems up."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli import main
from mammo_tests.other_systems import TITLE, arrived, free_port, listening, orthanc, pacs_config, write_exam
from schemas.config.pacs import PacsConfig

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")

Says = Callable[..., tuple[int, str, str]]


@pytest.fixture
def says(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    """Runs ``mammo pacs VERB CONFIG``: exit code, standard output, standard error."""

    def run(verb: str, *flags: str, pacs: PacsConfig | None, **ingest: Any) -> tuple[int, str, str]:
        content: dict[str, Any] = {
            "workspace_dir": str(tmp_path / "ws"),
            "ingest": {"source_dir": str(tmp_path / "in"), **ingest},
        }
        content |= {} if pacs is None else {"pacs": pacs.model_dump(mode="json")}
        config_path = tmp_path / "run.yaml"
        config_path.write_text(yaml.safe_dump(content))
        monkeypatch.setattr("sys.argv", ["mammo", "pacs", verb, str(config_path), *flags])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_echo_tells_of_each_peer_whether_it_answers(says: Says, tmp_path: Path) -> None:
    """Code 1 if one does not; a name that is none of them is a sentence."""
    port = free_port()
    ours = {"kind": "dimse", "ae_title": TITLE, "host": "127.0.0.1", "port": port}
    with listening(pacs_config(port), tmp_path / "in", tmp_path / "home"):
        calling = {"ae_title": "ROUTER", "peers": {"good": ours}}
        assert says("echo", pacs=pacs_config(port, **calling)) == (0, "good: answers\n", "")
        peers = {"good": ours, "gone": {**ours, "ae_title": "GONE", "port": free_port()}}
        code, said, _ = says("echo", "--json", pacs=pacs_config(port, ae_title="ROUTER", peers=peers))
    assert code == 1
    answers = json.loads(said)
    assert answers["good"] == "answers" and "cannot be reached" in answers["gone"]
    code, _, error = says("echo", "--peer", "other", pacs=pacs_config(port))
    assert code == 2 and "one of pacs.peers: router" in error


def test_what_a_first_config_gets_wrong_is_a_sentence(says: Says, tmp_path: Path) -> None:
    """A host that is none, by both protocols; an inbox that is a file; a section that is wrong as a whole is not repeated."""
    peers = {
        "own": {"kind": "dimse", "ae_title": "PEER", "host": "no..host", "may_push": False},
        "web": {"kind": "dicomweb", "url": "http://no..host/dicom-web"},
    }
    code, said, _ = says("echo", "--json", pacs=pacs_config(free_port(), peers=peers))
    answers = json.loads(said)
    assert code == 1 and "has no address" in answers["own"] and "check url" in answers["web"]
    (tmp_path / "file").touch()
    pacs, inbox = pacs_config(free_port()), str(tmp_path / "file" / "in")
    for verb, source in (("fetch", {"peer": "router", "last_days": 1}), ("listen", None)):
        code, _, error = says(verb, pacs=pacs, source_dir=inbox, source=source)
        assert code == 2 and "cannot be written" in error and "ingest.source_dir" in error
    days = ("--since", "2030-01-01", "--until", "2020-01-01")
    code, _, error = says("find", *days, pacs=pacs, source={"peer": "router", "last_days": 1})
    assert code == 2 and error.strip().endswith("ingest.source: Value error, until is the end of what since begins")


def test_a_config_without_other_systems_is_a_sentence(says: Says) -> None:
    """No section; no listener in it; nobody who may push."""
    assert "a section pacs" in says("echo", pacs=None)[2]
    without = pacs_config(free_port()).model_copy(update={"listen": None})
    assert "a section pacs.listen" in says("listen", pacs=without)[2]
    code, _, error = says("listen", pacs=pacs_config(free_port(), peers={}))
    assert code == 2 and "Nobody may push" in error


def test_a_source_is_tried_before_it_is_used(says: Says, tmp_path: Path) -> None:
    """``find`` counts, ``fetch`` brings; flags say other days than the config, which names them or the peer only."""
    with orthanc(tmp_path / "orthanc") as archive:
        archive.take(*write_exam(tmp_path / "exams", 1, images=2, day=date(2021, 5, 4)))
        pacs = pacs_config(archive.listener_port, archive=archive)
        source = {"peer": "web", "last_days": 3}
        assert says("find", pacs=pacs, source=source)[:2] == (0, "0 exams with mammograms; 0 of the worklist not there\n")
        assert says("find", "--since", "2021-05-01", pacs=pacs, source=source)[1].startswith("1 exams with")
        days = ("--since", "2021-05-04", "--until", "2021-05-04")
        assert json.loads(says("find", "--peer", "dimse", *days, "--json", pacs=pacs)[1]) == {"exams": 1, "exams_not_there": 0}
        code, said, _ = says("fetch", *days, pacs=pacs, source=source)
        assert (code, said) == (0, f"1 exams, 2 images, 2 images_fetched, {_size(tmp_path / 'in')} size_bytes\n")
    code, _, error = says("fetch", "--last-days", "1", pacs=pacs, source=source)
    assert code == 75 and "cannot be reached" in error and "127.0.0.1" not in error
    assert "names no source" in says("fetch", pacs=pacs)[2]


def _size(inbox_dir: Path) -> int:
    return sum(path.stat().st_size for path in arrived(inbox_dir))
