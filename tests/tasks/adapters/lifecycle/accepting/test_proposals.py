"""Thresholds that an acceptance proposed: put into use by a person, only where there were enough exams, and rolled back."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deployments.cli import app
from mammo_tests.measures import interval
from mammo_tests.training_store import small_config
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, StoreBusy
from schemas.reports.evaluation import JudgedPatients
from schemas.reports.life.acceptance import AcceptanceReport, CohortCounts, DeviceRecall, Verdict
from schemas.reports.life.decisions import PromotionAnswer, SiteThresholds
from schemas.reports.report import Interval, Provenance
from tasks.adapters.lifecycle.accepting.proposals import use_proposals
from tasks.adapters.lifecycle.in_use import site_thresholds
from tasks.adapters.lifecycle.model_registry import Registry
from tasks.adapters.workspace import Workspace

A, B = "a" * 64, "b" * 64
NOTHING = Interval(value=None, low=None, high=None)


def device(name: str, software: str, proposed: float | None, needed: int = 0) -> DeviceRecall:
    """A line of an acceptance."""
    return DeviceRecall(
        name=name, software=software, exams=700, patients=650, mean_score=0.2, recall_rate=interval(0.2), is_within=False,
        proposed=proposed, expected=NOTHING if proposed is None else interval(0.1), found=NOTHING, unlike=(),
        needed_patients=needed,
    )  # fmt: skip


def accepted(workspace: Workspace, sha256: str, *devices: DeviceRecall) -> None:
    """Leaves what an acceptance of a model would."""
    rates = ("recall_rate", "read_recall_rate", "recall_less_readers", "read_recalled", "read_not_recalled")
    counts = ("exams", "patients", "images", "left_out_patients", "labelled_exams", "positive_exams", "read_exams")
    cohort = CohortCounts(**dict.fromkeys(counts, 700), **dict.fromkeys(rates, NOTHING))
    made = Provenance(
        code_version="1", config_sha256="", data_version="", preprocess_version="", seed=0, created_utc="2026-01-01"
    )
    report = AcceptanceReport(
        model_sha256=sha256, model_dir=workspace.root / "m", verdict=Verdict.REFUSED, rules=(), finding="malignant",
        threshold=0.4, threshold_basis="", target=0.1, target_basis="", cohort=cohort, groups=(), devices=devices, images=(),
        image_note="", failures=(), evaluation=None, patients=JudgedPatients(is_checked=True), provenance=made,
        page_path=workspace.root / "accept" / "acceptance.html",
    )  # fmt: skip
    workspace.write_report("accept", report)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Model A is in use, B is a candidate; two devices have a proposal, and one too few exams."""
    made = small_config(tmp_path / "w")
    workspace = Workspace(made.workspace_dir)
    with Registry(workspace) as registry:
        for sha256 in (A, B):
            registry.register(sha256, tmp_path / sha256[:4], source="train")
        registry.promote(answer(A, ""), tmp_path / "aaaa", who="Ada", why="better")
    accepted(workspace, A, device("ACME One D1", "1", 0.5), device("ACME One D1", "2", 0.6), device("Other", "7", None, 120))
    return made


def answer(sha256: str, against: str) -> PromotionAnswer:
    """One that allows it."""
    return PromotionAnswer(sha256=sha256, in_use_sha256=against, splits_sha256="", data_version="", rules=())


def in_use(config: RunConfig, sha256: str = A) -> dict[tuple[str, str], float]:
    """Thresholds of the site's own, by device and software."""
    own = site_thresholds(Workspace(config.workspace_dir), sha256)
    return {} if own is None else {(one.name, one.software): one.threshold for one in own.devices}


def mammo(config: RunConfig, *arguments: str) -> Result:
    """``mammo model ...``."""
    path = config.workspace_dir / "config.yaml"
    path.write_text(config.model_dump_json())
    return CliRunner().invoke(app, ["model", arguments[0], str(path), *arguments[1:]])


def test_proposals_are_put_into_use_with_who_and_why_and_rolled_back(config: RunConfig) -> None:
    """Both that had enough exams, and later one of another value; of the model only, and each step goes back by itself."""
    assert "0.6000" in mammo(config, "thresholds", "--dry-run").output and in_use(config) == {}
    said = mammo(config, "thresholds", "--why", "software 2 recalls twice as many", "--by", "Ada")
    assert said.exit_code == 0 and "recalls 9.0 to 11.0% of later exams" in said.output, said.output
    assert "recalls 2 devices by the site's own thresholds" in mammo(config, "list").output
    first = {("ACME One D1", "1"): 0.5, ("ACME One D1", "2"): 0.6}
    assert in_use(config) == first and in_use(config, B) == {}
    accepted(Workspace(config.workspace_dir), A, device("acme one d1", "2", 0.9), device("Third", "1", 0.7))
    use_proposals(config, ["third"], who="Ada", why="a new device")
    assert in_use(config) == {**first, ("Third", "1"): 0.7}
    with Registry(Workspace(config.workspace_dir)) as registry:
        told = [(event.what, event.who, event.why) for event in registry.events()][-2:]
        assert told == [("thresholds", "Ada", "software 2 recalls twice as many"), ("thresholds", "Ada", "a new device")]
        registry.promote(answer(B, A), config.workspace_dir, who="Ada", why="newer")
        assert in_use(config, B) == in_use(config) == {}
        for expected in ({**first, ("Third", "1"): 0.7}, first, {}):
            registry.roll_back(registry.used(), who="Bob", why="back")
            assert in_use(config) == expected


def test_what_was_not_proposed_for_the_model_in_use_is_not_put_into_use(config: RunConfig) -> None:
    """Too few exams, no such device, an acceptance of another model, none at all, no reason, and a change meanwhile."""
    with pytest.raises(ConfigError, match="120 more patients needed"):
        use_proposals(config, ["other"], who="Ada", why="all the same")
    with pytest.raises(ConfigError, match="no such device"):
        use_proposals(config, ["nobody's"], who="Ada", why="all the same")
    assert mammo(config, "thresholds").exception is not None and in_use(config) == {}
    workspace = Workspace(config.workspace_dir)
    with Registry(workspace) as registry, pytest.raises(StoreBusy, match="other thresholds"):
        registry.use_thresholds(SiteThresholds(model_sha256=A, finding="malignant", devices=()), (), who="Ada", why="late")
    accepted(workspace, B, device("ACME One D1", "1", 0.5))
    with pytest.raises(ConfigError, match=f"mammo accept {A[:12]}"):
        use_proposals(config, (), who="Ada", why="better")
    with pytest.raises(ConfigError, match="No model is in use"):
        use_proposals(config.model_copy(update={"workspace_dir": config.workspace_dir / "new"}), (), who="Ada", why="better")
