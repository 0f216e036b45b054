"""A checkpoint that is handed on: whole, without its training state, and with what the terms of its data forbid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from deployments.cli import app
from schemas.errors import ConfigError
from tasks.adapters.models.checkpoints import TRAINING, load_checkpoint, save_checkpoint
from tasks.adapters.models.handing_on import export_checkpoint
from tasks.adapters.models.model_files import SIDECAR, kept_terms
from tasks.adapters.models.seen_patients import read_seen_patients, seen_patients
from tasks.adapters.models.whole_models import WholeModel
from tasks.adapters.scoring.prediction import weights_note

TERMS = "The terms of EMBED forbid passing on data and weights made of this set."


def checkpoint_of(folder: Path, *terms: str) -> Path:
    """Weights of a layer with the state of their training."""
    save_checkpoint(
        folder,
        weights={"head.weight": torch.ones(2, 2)},
        training={"random.0.cpu": torch.zeros(3, dtype=torch.uint8)},
        model=None,
        about={"provenance": {"seed": 0, **({"terms": list(terms)} if terms else {})}, "epochs": []},
        patients=seen_patients("key", {}, trained=["P1"], tuned=["P2"]),
    )
    return folder


def whole(folder: Path) -> WholeModel:
    """The layer as a model, without a network."""
    read = load_checkpoint(folder)
    terms = kept_terms(read.sidecar)
    return WholeModel(folder=folder, sha256=read.sha256, network=torch.nn.Identity(), networks=1, terms=terms)


def test_what_is_handed_on_is_whole_but_for_the_training_state(tmp_path: Path) -> None:
    """Weights, patients' digests and provenance are the same; a name that is taken is left alone."""
    source = checkpoint_of(tmp_path / "epoch-0000", TERMS)
    exported = export_checkpoint(source, tmp_path / "out" / "model")
    assert exported.sha256 == load_checkpoint(source).sha256 and torch.equal(exported.weights["head.weight"], torch.ones(2, 2))
    assert read_seen_patients(exported.folder) == read_seen_patients(source)
    assert kept_terms(exported.sidecar) == (TERMS,)
    assert not (exported.folder / TRAINING).exists() and TRAINING not in exported.sidecar["sha256"]
    with pytest.raises(ConfigError, match="is there already"):
        export_checkpoint(source, exported.folder)


def test_weights_whose_data_may_not_be_passed_on_are_handed_on_only_by_who_says_so(tmp_path: Path) -> None:
    """Nobody is there to ask: refused and nothing is written, until ``--yes``; weights without terms need no word."""
    bound, free = checkpoint_of(tmp_path / "bound", TERMS), checkpoint_of(tmp_path / "free")
    run = CliRunner().invoke
    refused = run(app, ["weights", "export", str(bound), str(tmp_path / "given")])
    assert isinstance(refused.exception, ConfigError) and TERMS in refused.output and not (tmp_path / "given").exists()
    given = run(app, ["weights", "export", str(bound), str(tmp_path / "given"), "--yes"])
    assert given.exit_code == 0 and TERMS in given.output
    assert TERMS in run(app, ["weights", "verify", str(tmp_path / "given")]).output
    assert run(app, ["weights", "export", str(free), str(tmp_path / "other")]).exit_code == 0
    assert "terms" not in json.loads((tmp_path / "other" / SIDECAR).read_text())["provenance"]


def test_a_prediction_says_what_the_terms_of_its_weights_forbid(tmp_path: Path) -> None:
    """In the sentence that names the weights, at the head of the page; of other weights nothing."""
    bound, free = whole(checkpoint_of(tmp_path / "bound", TERMS)), whole(checkpoint_of(tmp_path / "free"))
    assert weights_note(bound, {}, {}) == f"Weights {bound.sha256[:12]} of bound. {TERMS}"
    assert weights_note(free, {}, {}) == f"Weights {free.sha256[:12]} of free."
    assert "the mean of 3 networks" in weights_note(replace(free, networks=3), {}, {})
