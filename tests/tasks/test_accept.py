"""Accept: from a model and the published exams of a site to the verdict, its page and its gallery."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from gmic_model.networks.registry import build_network
from mammo_tests.training_store import make_store, small_config, with_baseline
from schemas.config.evaluation import AcceptanceConfig, AcceptanceRule
from schemas.config.run import RunConfig
from schemas.errors import CheckpointError, ConfigError, StoreBusy, StoreError
from schemas.exam import UNKNOWN
from schemas.reports.clinic import KeptThreshold, OperatingPointsFile
from schemas.reports.life.acceptance import AcceptanceReport, Verdict
from schemas.reports.report import Provenance
from tasks.accept import accept_model
from tasks.adapters.lifecycle.accepting.model_source import model_folder
from tasks.adapters.lifecycle.packing import pack_model
from tasks.adapters.lock import held_lock
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.models.image_reference import image_reference
from tasks.adapters.models.model_files import (
    ENSEMBLE,
    IMAGE_REFERENCE,
    OPERATING_POINTS,
    SIDECAR,
    WEIGHTS,
    members_of,
    write_ensemble,
)
from tasks.adapters.models.seen_patients import seen_patients
from tasks.adapters.pages.evaluations.acceptance_page import acceptance_text
from tasks.adapters.pages.withdrawn import forget_pages
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import lines_of, publish, read_manifest
from tasks.adapters.workspace import Workspace

Mammo = Callable[..., Any]
EASY = AcceptanceConfig(
    recall_rate=0.5, recall_margin=0.5, minimum_exams=10, subgroup_minimum_exams=5, subgroup_margin=0.5, gallery_exams=1
)
"""Rules for twelve exams."""


@dataclass(frozen=True)
class Site:
    """A store of twelve exams of two devices, and weights of another site beside it."""

    config: RunConfig
    manifest: pd.DataFrame

    @property
    def weights(self) -> Path:
        """The checkpoint folder."""
        return self.config.workspace_dir / "weights"

    def publish(self, **columns: Any) -> None:
        """Publishes the exams again, with other columns."""
        publish(open_store(Workspace(self.config.workspace_dir).store_dir), lines_of(self.manifest.assign(**columns)), [])

    def accept(self, model: str | None = None, **rules: Any) -> AcceptanceReport:
        """What is said of the weights, or of another model, by these rules."""
        config = self.config.model_copy(update={"accept": EASY.model_copy(update=rules)})
        return accept_model.fn(config, str(self.weights) if model is None else model)

    def lock(self, threshold: float | None) -> None:
        """Leaves a locked threshold beside the weights."""
        sha256 = json.loads((self.weights / SIDECAR).read_text())["sha256"][WEIGHTS]
        kept = KeptThreshold(
            specificity=0.9, threshold=threshold, sensitivity=0.5, kept_specificity=0.9, breasts=40, positive_breasts=9,
            patients=20, positive_patients=9,
        )  # fmt: skip
        made = {"config_sha256": "", "data_version": "", "preprocess_version": "", "seed": 0, "created_utc": "2026-01-01"}
        points = OperatingPointsFile(
            checkpoint_sha256=sha256,
            provenance=Provenance(code_version="1", **made),  # type: ignore[arg-type]
            by_finding={"malignant": (kept,)},
        )
        (self.weights / OPERATING_POINTS).write_text(points.model_dump_json())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The store is made once; every test publishes what it needs."""
    config = with_baseline(small_config(tmp_path_factory.mktemp("site")))
    make_store(config)
    manifest = read_manifest(open_store(Workspace(config.workspace_dir).store_dir))
    number = manifest["exam_id"].str[1:].astype(int)
    manifest = manifest.assign(manufacturer="ACME", model_name=["One" if one < 8 else "Two" for one in number])
    torch.manual_seed(0)
    save_checkpoint(
        config.workspace_dir / "weights",
        weights=build_network(config.model).state_dict(),
        training={},
        model=config.model,
        about={IMAGE_REFERENCE: image_reference(manifest).model_dump(mode="json")},
        patients=seen_patients("key", {}, trained=["P900"], tuned=["P011"]),
    )
    return Site(config=config, manifest=manifest)


@pytest.fixture(scope="module")
def finished(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder of an acceptance, without a gallery."""
    site.publish(benign=UNKNOWN)
    site.lock(0.0)
    kept = tmp_path_factory.mktemp("finished") / "accept"
    shutil.copytree(site.accept(gallery_exams=0).page_path.parent, kept)
    return kept


@pytest.fixture
def accepted(site: Site, finished: Path) -> Path:
    """The folder as that acceptance left it, with the exams that it judged published."""
    site.publish(benign=UNKNOWN)
    folder = Workspace(site.config.workspace_dir).stage_dir("accept")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(finished, folder)
    return folder


def rule(report: AcceptanceReport, name: AcceptanceRule) -> bool | None:
    """Whether it is met."""
    return next(one.is_met for one in report.rules if one.rule is name)


def gallery_of(report: AcceptanceReport) -> str:
    """The list of its exams."""
    assert report.gallery_path is not None
    return report.gallery_path.read_text()


def test_a_model_without_a_threshold_is_refused_and_one_that_fits_is_accepted(site: Site) -> None:
    """From the page of a refusal to that of an acceptance: failures and their gallery, devices, what labels measure.

    One patient tuned the weights: she is left out and counted. A threshold in the middle of the scores recalls half of the
    exams.
    """
    site.publish(benign=UNKNOWN)
    refused = site.accept()
    assert refused.verdict is Verdict.REFUSED and rule(refused, AcceptanceRule.LOCKED) is False
    assert refused.cohort.exams == 11 and refused.cohort.left_out_patients == 1 and refused.cohort.positive_exams == 4
    assert [(one.name, one.exams) for one in refused.devices] == [("ACME One", 8), ("ACME Two", 3)]
    assert "No threshold is locked" in refused.page_path.read_text()
    assert "They come in this order: those of which readers decided" in gallery_of(refused)

    folder = refused.page_path.parent
    scores = pd.read_parquet(folder / "exam_scores.parquet")["malignant_score"]
    site.lock(float(scores.median()))
    found = site.accept()
    assert found.verdict is Verdict.WITH_REMARKS, acceptance_text(found)
    assert found.cohort.recall_rate.value == pytest.approx(6 / 11) and rule(found, AcceptanceRule.RECALL) is True
    assert found.evaluation is not None and found.evaluation.page_path == folder / "evaluation.html"
    assert found.evaluation.by_finding["malignant"].subgroup_threshold == found.threshold
    assert found.failures and found.gallery_path is not None
    assert (folder / "gallery" / f"{found.failures[0].exam_id}.html").is_file()
    assert "accept.gallery_exams" in gallery_of(found) and "false positives at specificity 0.90" in gallery_of(found)
    page = found.page_path.read_text()
    assert "accepted with remarks" in page and found.failures[0].exam_id in page and "ACME Two" in page
    assert "Too few exams" in page and "ACME Two, software not known: 3 exams" in acceptance_text(found)
    assert Workspace(site.config.workspace_dir).read_report("accept", AcceptanceReport) == found

    forget_pages(Workspace(site.config.workspace_dir), {"E003"})
    assert not folder.exists()


def test_readers_alone_and_nobody_at_all(site: Site) -> None:
    """Without labels: readers' decisions are the target, and where they differ an exam is shown; without either, it is said."""
    site.lock(0.0)
    number = site.manifest["exam_id"].str[1:].astype(int)
    site.publish(malignant=UNKNOWN, benign=UNKNOWN, birads=[4 if one % 2 else 1 for one in number])
    read = site.accept(recall_rate=None)
    assert read.evaluation is None and read.cohort.labelled_exams == 0 and read.cohort.read_exams == 11
    assert read.target == pytest.approx(5 / 11) and read.cohort.recall_less_readers.value == pytest.approx(6 / 11)
    assert rule(read, AcceptanceRule.RECALL) is None and read.cohort.read_not_recalled.value == 1.0
    assert read.gallery_path is not None and read.failures == () and "No breast has a label" in read.page_path.read_text()
    site.publish(malignant=UNKNOWN, benign=UNKNOWN, birads=UNKNOWN)
    nobody = site.accept(recall_rate=None, minimum_sensitivity=0.8)
    assert nobody.verdict is Verdict.NOT_ENOUGH and nobody.target is None and nobody.devices[0].proposed is None
    assert rule(nobody, AcceptanceRule.SENSITIVITY) is None and "No reader" in nobody.page_path.read_text()


def test_two_acceptances_of_one_workspace_go_one_after_the_other(site: Site, finished: Path, accepted: Path) -> None:
    """Their tables would mix; the lock outlives that the folder is emptied, and what was said before stays for the refused."""
    first = Workspace(site.config.workspace_dir).read_report("accept", AcceptanceReport)
    with held_lock(accepted, purpose="accept"), pytest.raises(StoreBusy, match="accept by pid"):
        site.accept(gallery_exams=0)
    assert first is not None and first.page_path.parent == accepted
    assert Workspace(site.config.workspace_dir).read_report("accept", AcceptanceReport) == first
    assert (finished / "lock").exists()


@pytest.mark.parametrize("missing", ["scores.csv", "report.json"])
def test_an_acceptance_that_was_broken_off_keeps_nothing_of_who_is_withdrawn(site: Site, accepted: Path, missing: str) -> None:
    """Killed between two tables, one of them still names the exam, and nothing says which."""
    (accepted / missing).unlink()
    pd.DataFrame({"image_id": ["I0040"]}).to_csv(accepted / "scores.csv") if missing == "report.json" else None
    forget_pages(Workspace(site.config.workspace_dir), {"E003"})
    assert not accepted.exists()


def test_the_command_ends_with_the_code_of_the_verdict(site: Site, mammo: Mammo, tmp_path: Path) -> None:
    """Accepted 0; a device without an exam 4; images made otherwise than the config says 5, than the weights know 6."""
    site.publish(benign=UNKNOWN)
    site.lock(0.0)
    other = {"provenance": {"preprocess_version": "breast-0"}}
    weights = build_network(site.config.model).state_dict()
    save_checkpoint(tmp_path / "other", weights=weights, training={}, model=site.config.model, about=other)
    apart = site.config.preprocess.model_copy(update={"pixel_spacing_mm": 0.1})
    quick = EASY.model_copy(update={"gallery_exams": 0})
    asked: tuple[tuple[Path, dict[str, Any], int, str], ...] = (
        (site.weights, {"accept": quick}, 0, "ACCEPTED WITH REMARKS"),
        (site.weights, {"accept": quick.model_copy(update={"devices": ("Three",)})}, 4, "No exam of Three is in this cohort"),
        (site.weights, {"accept": quick, "preprocess": apart}, 5, "another preprocessing than this config's"),
        (tmp_path / "other", {"accept": quick}, 6, "trained on images of another preprocessing"),
    )
    for model, changes, code, says in asked:
        path = tmp_path / "run.yaml"
        path.write_text(site.config.model_copy(update=changes).model_dump_json())
        answer = mammo("accept", model, path)
        assert answer.code == code and says in answer.stdout + answer.stderr, answer


def test_a_pack_is_judged_and_what_does_not_fit_is_refused_with_a_remedy(site: Site, tmp_path: Path) -> None:
    """A pack, here of an ensemble, has the summary of its training images.

    Another preprocessing, no such model, no patient who is left: a sentence each.
    """
    site.publish()
    (tmp_path / "two").mkdir()
    write_ensemble(tmp_path / "two" / ENSEMBLE, members_of([site.weights, site.weights]))
    pack_model(tmp_path / "two", tmp_path / "model.pack")
    report = site.accept(str(tmp_path / "model.pack"), gallery_exams=0)
    assert report.model_dir.parent == Workspace(site.config.workspace_dir).models_dir and report.image_note == ""
    assert report.model_sha256[:12] == report.model_dir.name and report.gallery_path is None
    assert report.evaluation is not None and len(report.evaluation.models) == 2
    assert model_folder(site.config, report.model_sha256[:8]) == report.model_dir
    with pytest.raises(ConfigError):
        site.accept("0123456789")
    weights = build_network(site.config.model).state_dict()
    everybody = seen_patients("key", {}, trained=[f"P{number:03d}" for number in range(12)], tuned=[])
    other = {"provenance": {"preprocess_version": "breast-0"}}
    for name, about, patients in (("other", other, None), ("own", {}, everybody)):
        save_checkpoint(tmp_path / name, weights=weights, training={}, model=site.config.model, about=about, patients=patients)
    with pytest.raises(CheckpointError, match=r"another preprocessing.*ingest with the preprocess section"):
        site.accept(str(tmp_path / "other"))
    assert report.page_path.is_file()  # of the model before: nothing was said of this one
    with pytest.raises(StoreError, match="ingest exams of other patients"):
        site.accept(str(tmp_path / "own"))
