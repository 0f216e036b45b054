"""Whoever follows the page about verbs has a verb."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.seams import Copy, copy_of_repository
from mammo_tests.training_store import make_store, small_config

PAGE = "docs/how-to/add-a-verb.md"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The repository in which somebody has followed the page; the tests go on from each other, as that person would."""
    copy = copy_of_repository(tmp_path_factory.mktemp("verb"))
    assert len({step.path for step in copy.follow(PAGE)}) == 4
    return copy


def test_a_verb_whose_pages_were_not_written_is_found(copy: Copy) -> None:
    """The steps without ``make reference`` leave a red test, and the module names the files."""
    said = copy.failing_pytest("--noconftest", "tests/docs/test_reference.py")
    assert "test_every_g" in said  # pytest shortens the name
    assert copy.python("-m", "mammo_tests.reference") == "docs/reference/commands.md\ndeployments/prefect.yaml\n"


def test_the_page_s_steps_add_a_verb(copy: Copy) -> None:
    """Four files are touched; help, deployments and the reference page have it, and what it could break passes with it."""
    copy.python("-m", "ruff", "check", "tasks", "flows", "schemas", "deployments")
    copy.python("-m", "ruff", "format", "tasks", "flows", "schemas", "deployments")
    assert "Count what is published." in copy.python("-m", "deployments.cli", "census", "--help")
    copy.python("-m", "mammo_tests.reference", "write")
    page = (copy.root / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert "| `mammo census` | Count what is published. |" in page
    assert "| census | mammo-cpu | every-morning: `0 7 * * *` | the new run waits |" in page
    assert "entrypoint: flows.census.census" in (copy.root / "deployments" / "prefect.yaml").read_text()
    copy.pytest(
        "--noconftest",
        "tests/deployments/test_cli.py",
        "tests/docs/test_reference.py",
        "tests/deployments/server/test_registration.py",
        "tests/test_architecture.py",
        "-k",  # what a verb more can break: other verbs' own help, and what modules import, are as they were
        "census or groups or reference or registration or size or style or importer or stages or thin or skipped",
    )


@pytest.mark.e2e
def test_the_new_verb_runs(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``mammo census CONFIG --json`` counts a store, as a run of a Prefect server of its own."""
    config = small_config(tmp_path / "workspace")
    make_store(config, exams=3)
    (tmp_path / "run.yaml").write_text(config.model_dump_json())
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "no-profile"))
    said = copy.python("-m", "deployments.cli", "census", str(tmp_path / "run.yaml"), "--json")
    assert '"exams": 3' in said and '"images": 12' in said
