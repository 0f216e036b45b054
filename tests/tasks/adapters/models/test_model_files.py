"""``ensemble.json`` and ``recalibration.json``: they name weights by digest, and nothing else is taken for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from schemas.errors import CheckpointError
from schemas.reports.evaluation import RecalibrationFile, RecalibrationFit, TemperatureFile
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.model_files import (
    RECALIBRATION,
    SIDECAR,
    WEIGHTS,
    ensemble_sha256,
    members_of,
    read_ensemble,
    read_recalibration,
    write_ensemble,
    write_recalibration,
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
    """One model keeps its own; an ensemble has that of its members' digests in order."""
    first, second = (EnsembleMember(path=tmp_path, sha256=name) for name in ("aa", "bb"))
    assert ensemble_sha256([first]) == "aa"
    assert ensemble_sha256([first, second]) == hashlib.sha256(b"aa\nbb").hexdigest() != ensemble_sha256([second, first])


def test_a_recalibration_is_of_its_own_weights_only(tmp_path: Path) -> None:
    """Weights that were trained further keep no right to the old one; no file is an error too, never "1"."""
    fit = RecalibrationFit(
        intercept=-2.0, slope=0.6, breasts=10, positive_breasts=3, patients=5, positive_patients=2, prevalence=0.3
    )
    kept = RecalibrationFile(checkpoint_sha256="aa", data_version="v", by_finding={"malignant": fit})
    write_recalibration(tmp_path, kept)
    assert read_recalibration(tmp_path, "aa") == kept
    with pytest.raises(CheckpointError, match="fitted to other weights"):
        read_recalibration(tmp_path, "bb")
    (tmp_path / RECALIBRATION).unlink()
    with pytest.raises(CheckpointError, match=r"No recalibration is kept.*mammo evaluate"):
        read_recalibration(tmp_path, "aa")


def test_a_former_releases_temperature_is_read_until_the_weights_are_evaluated_again(tmp_path: Path) -> None:
    """A ``recalibration.json`` beside the temperature counts in its place; one of an unknown form is refused."""
    (tmp_path / "temperature.json").write_text(
        '{"checkpoint_sha256": "aa", "data_version": "v", "fitted_on": "breast-level scores of the tuning split", '
        '"by_finding": {"malignant": {"temperature": 1.7, "reason": "", "breasts": 10, "positive_breasts": 3, '
        '"log_loss_before": 0.5, "log_loss_after": 0.4}}}'
    )
    former = read_recalibration(tmp_path, "aa")
    assert isinstance(former, TemperatureFile) and former.by_finding["malignant"].temperature == 1.7
    kept = RecalibrationFile(checkpoint_sha256="aa", data_version="v", by_finding={})
    write_recalibration(tmp_path, kept)
    assert read_recalibration(tmp_path, "aa") == kept
    (tmp_path / RECALIBRATION).write_text(kept.model_dump_json().replace('"form":1', '"form":2'))
    with pytest.raises(CheckpointError, match="of a form that this release knows"):
        read_recalibration(tmp_path, "aa")
