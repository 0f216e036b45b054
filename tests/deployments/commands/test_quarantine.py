"""``mammo quarantine``: list, show, release and sheet over a real ledger and source folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from deployments.commands.quarantine import app
from schemas.config.ingest import PreprocessConfig
from schemas.errors import ConfigError, StoreBusy
from schemas.exam import DeferredFile, QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.lock import held_lock
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.store.exam_store import create_store
from tasks.adapters.workspace import Workspace

RUNNER = CliRunner()
NAME = "CANARY\x1b[2J\nNAME.dcm"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A workspace in which two files were refused, one of them with a name that hurts."""
    workspace = Workspace(tmp_path / "workspace")
    source_dir = tmp_path / "source"
    source_dir.mkdir()
    (source_dir / NAME).write_text("no mammogram")
    (source_dir / "other.dcm").write_text("no mammogram")
    key = open_key(workspace.key_path, creates=True)
    store = create_store(
        workspace.store_dir,
        preprocess=PreprocessConfig(),
        preprocess_version="1",
        rows_per_shard=4,
        key_id=key.key_id,
        make_ledger=StoreLedger.make,
    )
    with StoreLedger(store) as ledger:
        ledger.add_quarantined(
            (QuarantinedFile(file_id=key.file_id(name), refusal=Refusal(rules=codes, what="Refused.")), "1-1")
            for name, codes in ((NAME, ("F05",)), ("other.dcm", ("F05", "F03")))
        )
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"workspace_dir": str(workspace.root), "ingest": {"source_dir": str(source_dir)}}))
    return path


def run(*arguments: str | Path) -> str:
    """What a command prints; its errors are raised as they are."""
    result = RUNNER.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def file_id(config: Path, name: str = NAME) -> str:
    """A file's pseudonym."""
    return open_key(Path(yaml.safe_load(config.read_text())["workspace_dir"]) / "pseudonym.key").file_id(name)


def test_list_names_files_by_pseudonym_with_reasons(config: Path) -> None:
    """Both files, counts by reason in words; with a reason only the files it refused; no file name anywhere."""
    shown = run("list", config)
    assert file_id(config) in shown and "F05" in shown
    assert "2 x F05: 'DICM' stands at byte 128" in shown
    assert "CANARY" not in shown and "other" not in shown
    (only,) = json.loads(run("list", config, "--reason", "F03", "--json"))
    assert only == {"file_id": file_id(config, "other.dcm"), "reason_codes": ["F05", "F03"]}


def test_files_that_could_not_be_read_are_listed_too(config: Path) -> None:
    """By pseudonym, counted by reason; they are not refused, so there is nothing to release."""
    ids = [file_id(config, name) for name in ("a", "b", "c")]
    with Ledger(Workspace(config.parent / "workspace").store.ledger_path) as ledger:
        ledger.add_deferred(
            DeferredFile(file_id=name, reason=why) for name, why in zip(ids, ("EIO", "EIO", "EACCES"), strict=True)
        )
    shown = run("list", config)
    assert all(f"{name}  deferred: " in shown for name in ids)
    assert "2 x EIO: could not be read in the last ingest" in shown and "2 x F05" in shown
    listed = json.loads(run("list", config, "--json"))
    assert len(listed) == 5 and {"file_id": ids[2], "deferred": "EACCES"} in listed
    assert json.loads(run("list", config, "--reason", "EACCES", "--json")) == [{"file_id": ids[2], "deferred": "EACCES"}]
    assert "EIO. The next one reads it" in run("show", config, ids[0])
    with pytest.raises(ConfigError, match="not refused"):
        run("release", config, ids[0], "--reason", "none")


def test_show_tells_why_and_where_only_on_request(config: Path) -> None:
    """Reasons in words; the path only with --find, and then without the commands its name holds."""
    shown = run("show", config, file_id(config))
    assert "'DICM' stands at byte 128" in shown and "CANARY" not in shown
    found = run("show", config, file_id(config), "--find")
    assert r"CANARY\x1b[2J\nNAME.dcm" in found and "\x1b" not in found


def test_a_released_file_is_read_again_and_the_reason_kept(config: Path) -> None:
    """The ledger knew the file's fingerprint and does not any more; who asked why is shown when it is refused again."""
    ledger_path = Path(yaml.safe_load(config.read_text())["workspace_dir"]) / "exam_store" / "ledger.sqlite"
    with Ledger(ledger_path) as ledger:
        assert ledger.is_known(file_id(config), "1-1")
    assert "released 1 of 1" in run("release", config, file_id(config), "--reason", "header\x1b[2J repaired")
    with Ledger(ledger_path) as ledger:
        assert not ledger.is_known(file_id(config), "1-1")
        assert ledger.is_known(file_id(config, "other.dcm"), "1-1")
        refusal = QuarantinedFile(file_id=file_id(config), refusal=Refusal(rules=("X21",), what="Refused."))
        ledger.add_quarantined([(refusal, "1-2")])
    shown = run("show", config, file_id(config))
    assert "was F05: header[2J repaired" in shown and "\x1b" not in shown


def test_a_release_needs_a_reason_a_refused_file_and_the_store(config: Path) -> None:
    """A blank reason, a file that is not refused, and a store in use are errors that say so."""
    with pytest.raises(ConfigError, match="needs a reason"):
        run("release", config, file_id(config), "--reason", " \x1b ")
    with pytest.raises(ConfigError, match="not refused"):
        run("release", config, "F0", "--reason", "x")
    with pytest.raises(ConfigError, match="not refused"):
        run("show", config, "F0")
    store_dir = Path(yaml.safe_load(config.read_text())["workspace_dir"]) / "exam_store"
    with held_lock(store_dir, purpose="ingest"), pytest.raises(StoreBusy):
        run("release", config, file_id(config), "--reason", "x")


def test_the_sheet_is_drawn_into_the_workspace(config: Path) -> None:
    """Two cards, no picture, no name."""
    assert "contact sheet of 2 files" in run("sheet", config)
    page = (config.parent / "workspace" / "quarantine" / "contact_sheet.html").read_text(encoding="utf-8")
    assert page.count("<article") == 2
    assert "CANARY" not in page
