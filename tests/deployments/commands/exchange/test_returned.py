"""``mammo pacs return``: what it says to the person who looks after the outbox."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from deployments.cli import main
from deployments.commands.exchange.returned import returned_text
from schemas.reports.pages import ReturnedExam, ReturnReport
from tasks.adapters.results.outbox import Delivery, DeliveryState, Outbox
from tasks.adapters.workspace import Workspace

Says = Callable[..., tuple[int, str]]
PACS = {
    "peers": {"archive": {"kind": "dicomweb", "url": "http://127.0.0.1:9/dicom-web", "attempts": 1}},
    "results": {"peer": "archive"},
}


@pytest.fixture
def says(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    """Runs ``mammo pacs return CONFIG``: exit code and all that was said."""

    def run(*flags: str, pacs: object = PACS) -> tuple[int, str]:
        content = {"workspace_dir": str(tmp_path / "ws"), "ingest": {"source_dir": str(tmp_path / "in")}, "pacs": pacs}
        config_path = tmp_path / "run.yaml"
        config_path.write_text(yaml.safe_dump(content))
        monkeypatch.setattr("sys.argv", ["mammo", "pacs", "return", str(config_path), *flags])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return run


def test_a_config_without_results_says_what_to_add(says: Says) -> None:
    """Exit 2, the section's name and the page; a peer that is not there is refused when the config is read."""
    code, said = says(pacs={"peers": {}})
    assert code == 2 and "pacs.results" in said and "results-to-pacs.md" in said
    code, said = says(pacs={"peers": {}, "results": {"peer": "archive"}})
    assert code == 2 and "results.peer archive is none of peers" in said


def test_the_list_names_what_was_given_up_and_why(says: Says, tmp_path: Path) -> None:
    """Dead letters with their reason, those that wait, and counts; nothing is sent, and nothing is there before the first."""
    assert says("--list") == (0, "Nothing was returned yet.\n")
    one = Delivery(exam_id="E1", weights_sha256="ab", image_ids=("I1",), peer="archive", queued=datetime(2026, 1, 2))
    with Outbox(Workspace(tmp_path / "ws").outbox_path) as outbox:
        outbox.queue([one])
        outbox.failed(one, "The server refuses an object. Got: picture, HTTP status 413.", now_s=0.0, most_attempts=0)
    code, said = says("--list")
    assert code == 0
    assert said.splitlines() == [
        "E1  dead  1 tries  archive  The server refuses an object. Got: picture, HTTP status 413.",
        "0 queued, 0 delivered, 1 dead",
    ]
    code, said = says("--list", "--json")
    reason = "The server refuses an object. Got: picture, HTTP status 413."
    told = {"exam_id": "E1", "state": "dead", "attempts": 1, "peer": "archive", "reason": reason}
    assert code == 0 and json.loads(said) == [told]
    with Outbox(Workspace(tmp_path / "ws").outbox_path) as outbox:
        assert outbox.counts()[DeliveryState.DEAD] == 1


def test_a_run_is_told_exam_by_exam() -> None:
    """What went, what waits and why the run stopped."""
    report = ReturnReport(
        peer="archive",
        exams=(
            ReturnedExam(exam_id="E1", state="delivered", objects_sent=18, objects_there=2),
            ReturnedExam(exam_id="E2", state="queued", reason="The server cannot be reached"),
        ),
        waiting=3,
        dead=1,
        stopped="The server cannot be reached",
    )
    assert returned_text(report).splitlines() == [
        "E1: delivered, 18 objects sent, 2 were there",
        "E2: queued, The server cannot be reached",
        "1 exams returned to archive, 3 wait, 1 were given up (mammo pacs return --list names them)",
        "Stopped: The server cannot be reached",
    ]
