"""``mammo pacs``: what it says to the person who sets other systems up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli import main
from mammo_tests.other_systems import TITLE, free_port, listening, pacs_config
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


def test_a_config_without_other_systems_is_a_sentence(says: Says) -> None:
    """No section; no listener in it; nobody who may push."""
    assert "a section pacs" in says("echo", pacs=None)[2]
    without = pacs_config(free_port()).model_copy(update={"listen": None})
    assert "a section pacs.listen" in says("listen", pacs=without)[2]
    code, _, error = says("listen", pacs=pacs_config(free_port(), peers={}))
    assert code == 2 and "Nobody may push" in error
