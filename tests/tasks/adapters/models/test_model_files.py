"""``ensemble.json`` and ``temperature.json``: they name weights by digest, and nothing else is taken for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from schemas.errors import CheckpointError
from schemas.reports.evaluation import TemperatureFile, TemperatureFit
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.model_files import (
    SIDECAR,
    TEMPERATURE,
    WEIGHTS,
    ensemble_sha256,
    members_of,
    read_ensemble,
    read_temperature,
    write_ensemble,
    write_temperature,
)


def test_an_ensemble_file_names_its_models(tmp_path: Path) -> None:
    """Paths are relative to the file; the search's AUROC is optional."""
    (tmp_path / "ensemble.json").write_text(
        json.dumps(
            {
                "checkpoints": [
                    {"path": "a/epoch-0003", "sha256": "aa", "tuning_malignant_auroc": 0.9},
                    {"path": "/b", "sha256": "bb"},
                ]
            }
        )
    )
    first, second = read_ensemble(tmp_path / "ensemble.json")
    assert first == EnsembleMember(path=tmp_path / "a" / "epoch-0003", sha256="aa", tuning_malignant_auroc=0.9)
    assert (second.path, second.tuning_malignant_auroc) == (Path("/b"), None)
    write_ensemble(tmp_path / "again.json", (first, second))
    assert read_ensemble(tmp_path / "again.json") == (first, second)


@pytest.mark.parametrize("content", ["", "{}", '{"checkpoints": []}', '{"checkpoints": [{"path": "a"}]}', '{"models": ["a"]}'])
def test_what_is_no_ensemble_is_refused(tmp_path: Path, content: str) -> None:
    """The message shows the form."""
    (tmp_path / "ensemble.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"is no ensemble file.*sha256"):
        read_ensemble(tmp_path / "ensemble.json")


def test_members_have_their_sidecars_digest_and_auroc(tmp_path: Path) -> None:
    """The checkpoint's own epoch is the last of its curve; released weights have no curve."""
    for name, about in (("a", {"epochs": [{"tuning_malignant_auroc": 0.5}, {"tuning_malignant_auroc": 0.7}]}), ("b", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / SIDECAR).write_text(json.dumps({"sha256": {WEIGHTS: name * 4}, **about}))
    members = members_of([tmp_path / "a", tmp_path / "b"])
    assert [(one.sha256, one.tuning_malignant_auroc) for one in members] == [("aaaa", 0.7), ("bbbb", None)]
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        members_of([tmp_path / "c"])


def test_several_models_have_one_digest_that_knows_their_order(tmp_path: Path) -> None:
    """One model keeps its own; of several, sha256 over theirs."""
    first, second = (EnsembleMember(path=tmp_path, sha256=name) for name in ("aa", "bb"))
    assert ensemble_sha256([first]) == "aa"
    assert ensemble_sha256([first, second]) == hashlib.sha256(b"aa\nbb").hexdigest() != ensemble_sha256([second, first])


def test_a_temperature_is_of_its_own_weights_only(tmp_path: Path) -> None:
    """Weights that were trained further keep no right to the old temperature; no file is an error too, never "1"."""
    fit = TemperatureFit(temperature=1.7, breasts=10, positive_breasts=3)
    kept = TemperatureFile(checkpoint_sha256="aa", data_version="v", by_finding={"malignant": fit})
    write_temperature(tmp_path, kept)
    assert read_temperature(tmp_path, "aa") == kept
    with pytest.raises(CheckpointError, match="fitted to other weights"):
        read_temperature(tmp_path, "bb")
    (tmp_path / TEMPERATURE).unlink()
    with pytest.raises(CheckpointError, match=r"No temperature is kept.*mammo evaluate"):
        read_temperature(tmp_path, "aa")
