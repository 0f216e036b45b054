"""What the weights' own site fixed stays as it is, whoever evaluates them afterwards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from schemas.config.evaluation import EvaluateConfig
from schemas.config.network import TableRow
from schemas.errors import CheckpointError
from schemas.exam import Finding
from schemas.reports.clinic import KeptThreshold
from schemas.reports.evaluation import FindingMetrics, RecalibrationFit
from schemas.reports.report import Interval, Provenance
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.locking import Standing, keep_for_others, kept_recalibrations, read_locked
from tasks.adapters.models.model_files import OPERATING_POINTS, RECALIBRATION, read_ensemble

CONFIG = EvaluateConfig()


def _provenance(data_version: str) -> Provenance:
    return Provenance(
        code_version="1", config_sha256="c", data_version=data_version, preprocess_version="p", seed=0, created_utc="2026-01-01"
    )


def _measured(threshold: float | None, slope: float | None) -> dict[str, FindingMetrics]:
    undefined = Interval(value=None, low=None, high=None)
    given: dict[str, Any] = dict.fromkeys(("localization_f1", "localization_precision", "localization_recall"))
    kept = KeptThreshold(
        specificity=0.9, threshold=threshold, sensitivity=0.8, kept_specificity=0.91, breasts=40, positive_breasts=10,
        patients=20, positive_patients=9,
    )  # fmt: skip
    fit = RecalibrationFit(
        intercept=None if slope is None else -1.0, slope=slope, breasts=40, positive_breasts=10, patients=20,
        positive_patients=9, prevalence=0.25,
    )  # fmt: skip
    return {
        "malignant": FindingMetrics(
            breasts=1, positive_breasts=0, auroc=undefined, auprc=undefined, localization_images=0, **given,
            tuning_thresholds=() if threshold is None else (kept,), recalibration=fit,
        )
    }  # fmt: skip


def _keep(where: Path, measured: dict[str, FindingMetrics], version: str = "own", **changes: Any) -> None:
    how: dict[str, Any] = {"config": CONFIG, "are_unseen": True, "is_own_tuning": True} | changes
    members = [EnsembleMember(path=where / "weights", sha256="aa")]
    (where / "weights").mkdir(exist_ok=True)
    keep_for_others(
        where, members, how["config"], measured, provenance=_provenance(version),
        standing=Standing(are_unseen=how["are_unseen"], is_own_tuning=how["is_own_tuning"]),
    )  # fmt: skip


def test_the_own_site_fixes_and_no_other_moves_it(tmp_path: Path) -> None:
    """Where the weights were tuned it is written, and written again; elsewhere it is read, and stays byte for byte."""
    _keep(tmp_path, _measured(0.4, 0.7))
    _keep(tmp_path, _measured(0.5, 0.8))
    members = [EnsembleMember(path=tmp_path / "weights", sha256="aa")]
    locked = read_locked(members, CONFIG, is_own_tuning=False)
    fit = locked.recalibrations["malignant"]
    assert locked.thresholds["malignant"][0].threshold == 0.5 and (fit.intercept, fit.slope) == (-1.0, 0.8)
    assert locked.settings.kept == _provenance("own") and locked.settings.missing == ""
    of_then = [(tmp_path / "weights" / name).read_bytes() for name in (OPERATING_POINTS, RECALIBRATION)]
    _keep(tmp_path, _measured(0.9, 2.0), "elsewhere", is_own_tuning=False)
    _keep(tmp_path, _measured(0.9, 2.0), "elsewhere", are_unseen=False)
    _keep(tmp_path, _measured(0.9, 2.0), "other row", config=EvaluateConfig(read_as=next(iter(TableRow))))
    _keep(tmp_path, _measured(None, None), "everybody tests")
    assert [(tmp_path / "weights" / name).read_bytes() for name in (OPERATING_POINTS, RECALIBRATION)] == of_then
    here = read_locked(members, CONFIG, is_own_tuning=True)
    assert here.settings.is_own_site and not here.thresholds and not here.recalibrations


def test_weights_without_fixed_thresholds_say_so(tmp_path: Path) -> None:
    """Nothing beside the weights, or beside the several that were named one by one: the report says which is missing."""
    (tmp_path / "weights").mkdir()
    one = EnsembleMember(path=tmp_path / "weights", sha256="aa")
    nothing = read_locked([one], CONFIG, is_own_tuning=False).settings
    assert nothing.kept is None and OPERATING_POINTS in nothing.missing and RECALIBRATION in nothing.missing
    assert (
        "the ensemble.json that their evaluation left" in read_locked([one, one], CONFIG, is_own_tuning=False).settings.missing
    )


def test_thresholds_of_other_weights_are_refused(tmp_path: Path) -> None:
    """A checkpoint that was trained further keeps no right to the thresholds of before; a damaged file is not "none"."""
    _keep(tmp_path, _measured(0.4, 0.7))
    further = [EnsembleMember(path=tmp_path / "weights", sha256="bb")]
    with pytest.raises(CheckpointError, match=r"operating points.*cannot be used"):
        read_locked(further, CONFIG, is_own_tuning=False)
    (tmp_path / "weights" / OPERATING_POINTS).write_text("{")
    with pytest.raises(CheckpointError, match="ValidationError"):
        read_locked([EnsembleMember(path=tmp_path / "weights", sha256="aa")], CONFIG, is_own_tuning=False)


def test_a_mean_score_keeps_its_thresholds_beside_the_file_that_names_its_weights(tmp_path: Path) -> None:
    """What a search's ensemble fixed is found again by whoever names its ``ensemble.json``."""
    config = EvaluateConfig(ensemble=tmp_path / "search" / "ensemble.json")
    (tmp_path / "search").mkdir()
    members = [EnsembleMember(path=tmp_path / name, sha256=name) for name in ("aa", "bb")]
    here = Standing(are_unseen=True, is_own_tuning=True)
    keep_for_others(tmp_path, members, config, _measured(0.4, 0.7), provenance=_provenance("own"), standing=here)
    assert (tmp_path / "search" / OPERATING_POINTS).exists()
    assert read_locked(members, config, is_own_tuning=False).thresholds["malignant"][0].threshold == 0.4


def test_weights_named_one_by_one_are_named_together_where_they_were_tuned(tmp_path: Path) -> None:
    """Whoever names the file in the evaluation's folder has what was fixed; it is gone once other weights were evaluated."""
    members = [EnsembleMember(path=tmp_path / name, sha256=name) for name in ("aa", "bb")]
    here, elsewhere = (Standing(are_unseen=True, is_own_tuning=own) for own in (True, False))
    together = EvaluateConfig(ensemble=tmp_path / "ensemble.json")

    def keep(members: list[EnsembleMember], config: EvaluateConfig, standing: Standing, threshold: float) -> None:
        (tmp_path / "aa").mkdir(exist_ok=True)
        measured = _measured(threshold, 0.7)
        keep_for_others(tmp_path, members, config, measured, provenance=_provenance("own"), standing=standing)

    keep(members, CONFIG, elsewhere, 0.3)
    assert not (tmp_path / "ensemble.json").exists()
    keep(members, CONFIG, here, 0.4)
    named = read_ensemble(tmp_path / "ensemble.json")
    assert read_locked(named, together, is_own_tuning=False).thresholds["malignant"][0].threshold == 0.4
    keep(list(named), together, here, 0.5)
    assert read_locked(named, together, is_own_tuning=False).thresholds["malignant"][0].threshold == 0.5
    keep(members[:1], CONFIG, here, 0.6)
    assert not (tmp_path / "ensemble.json").exists()


def test_a_recalibration_is_moved_to_a_stated_share_of_findings(tmp_path: Path) -> None:
    """By the log odds of both shares; the slope stays. What does not say its share, or has no fit, is not moved by guessing."""
    _keep(tmp_path, _measured(0.4, 0.7))
    beside = tmp_path / "weights"
    assert kept_recalibrations(beside, "aa", {}) == {"malignant": (-1.0, 0.7)}
    moved = kept_recalibrations(beside, "aa", {Finding.MALIGNANT: 0.005})["malignant"]
    assert moved == pytest.approx((-1.0 + math.log(0.005 / 0.995) - math.log(0.25 / 0.75), 0.7))
    with pytest.raises(CheckpointError, match=r"benign findings.*no fit"):
        kept_recalibrations(beside, "aa", {Finding.BENIGN: 0.02})
    (beside / RECALIBRATION).unlink()
    (beside / "temperature.json").write_text(
        '{"checkpoint_sha256": "aa", "data_version": "v", "by_finding": {"malignant": {"temperature": 2.0, "breasts": 9, '
        '"positive_breasts": 3}}}'
    )
    assert kept_recalibrations(beside, "aa", {}) == {"malignant": (0.0, 0.5)}
    with pytest.raises(CheckpointError, match="does not say it"):
        kept_recalibrations(beside, "aa", {Finding.MALIGNANT: 0.005})
