"""Evaluate: breast-level metrics with intervals and localisation on the test split, of one model or several and their mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.learning.learner import choose_device, seed_prediction
from gmic_model.metrics.bootstrap import Bootstrap
from gmic_model.networks.registry import config_of
from schemas.config.evaluation import EvaluateConfig
from schemas.config.run import RunConfig, Stage
from schemas.errors import StoreError
from schemas.exam import FINDINGS, Finding, Split
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport, FindingMetrics, TemperatureFile
from schemas.reports.training import EnsembleMember, TrainReport
from tasks.adapters.models.model_files import ensemble_sha256, members_of, read_ensemble, write_temperature
from tasks.adapters.models.networks import load_member
from tasks.adapters.provenance import file_sha256, provenance
from tasks.adapters.scoring.localized_views import (
    LocalizedView,
    annotated_rows,
    annotations_of,
    localize,
    mean_f1,
    with_localization,
)
from tasks.adapters.scoring.metrics_table import metrics_markdown
from tasks.adapters.scoring.model_ranking import with_models, with_ranking
from tasks.adapters.scoring.score_tables import BREAST, breasts_of, exams_of, image_table, labelled
from tasks.adapters.scoring.scored_views import score_rows_of_each
from tasks.adapters.scoring.screening import with_screening_metrics
from tasks.adapters.store.exam_store import open_store, store_preprocessing
from tasks.adapters.store.manifest import manifest_with_splits, read_manifest
from tasks.adapters.store.views import stored_views
from tasks.adapters.workspace import Workspace, exam_store_dir, write_atomically
from tasks.artifacts import progress, show_markdown
from tasks.stage import GPU_TAG, load_report, stage

logger = logging.getLogger(__name__)

ENSEMBLE = "ensemble"
"""Name of the mean of several models' scores."""


def evaluated_members(config: EvaluateConfig, trained: TrainReport | None) -> tuple[EnsembleMember, ...]:
    """The weights to evaluate: those that the config names, else those that training made.

    Raises:
        CheckpointError: A named checkpoint or ensemble file is not there.
    """
    if config.ensemble is not None:
        return read_ensemble(config.ensemble)
    if config.checkpoints:
        return members_of(config.checkpoints)
    if trained is None:
        raise ValueError("neither the config nor training names weights")
    tuning = next((epoch.tuning_malignant_auroc for epoch in trained.epochs if epoch.epoch == trained.best_epoch), None)
    return (EnsembleMember(path=trained.checkpoint_path, sha256=trained.checkpoint_sha256, tuning_malignant_auroc=tuning),)


@stage(
    Stage.EVALUATE,
    version=3,
    sections=("evaluate",),
    reads=lambda config, splits, trained: (ensemble_sha256(evaluated_members(config.evaluate, trained)), splits.data_version),
    tags=(GPU_TAG,),
)
def evaluate_network(config: RunConfig, splits: SplitReport, trained: TrainReport | None) -> EvaluationReport:
    """Scores the test split and measures; scores go to parquet and CSV, per image, breast and exam.

    The tuning split is scored too: temperature, use thresholds and the model for localisation are chosen there.

    Args:
        config: The run.
        splits: Of its store.
        trained: What training made; None if ``evaluate`` names the weights.

    Raises:
        StoreError: The test split is empty, or the network was trained on another division of the patients.
        CheckpointError: Weights are missing, were altered, or are of another image size or preprocessing.
    """
    members = evaluated_members(config.evaluate, trained)
    if trained is not None and not config.evaluate.names_weights:
        _refuse_other_splits(splits, trained)
    manifest = manifest_with_splits(splits, read_manifest(open_store(exam_store_dir(config))))
    test, tuning = (manifest[manifest["split"] == part.value].reset_index(drop=True) for part in (Split.TEST, Split.TUNING))
    if test.empty:
        raise StoreError("The test split is empty", expected="at least one patient", remedy="raise split.test_fraction")
    scored = _score(config, members, test, tuning)
    tables = _Tables.of(scored, members, splits.data_version, test, tuning)
    folder = Workspace(config.workspace_dir).stage_dir(Stage.EVALUATE.value)
    for name, table in tables.by_file().items():
        write_atomically(folder / f"{name}.parquet", table.to_parquet(index=False))
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6f").encode())
    localizing = _localizing_model(scored.localized_S, set(tuning["row"]))
    by_finding = {
        finding.value: _measure(finding, tables, scored.localized_S, localizing, test, config.evaluate) for finding in FINDINGS
    }
    _keep_temperature(config, members, splits, by_finding)
    report = EvaluationReport(
        scores_path=folder / "scores.parquet",
        model_sha256=ensemble_sha256(members),
        models=members,
        localization_model=_names(members)[localizing],
        by_finding=by_finding,
        exams=test["exam_id"].nunique(),
        images=len(test),
        provenance=provenance(config, splits.data_version, seed=config.evaluate.seed),
    )
    show_markdown("metrics", metrics_markdown(report.by_finding, _metrics_before(config)), "Breast-level metrics, test split")
    return report


# ------------------------------------------------------------------------------------------------------------ scoring


def _refuse_other_splits(splits: SplitReport, trained: TrainReport) -> None:
    """Test patients of these splits may have been training patients of those."""
    if trained.splits_sha256 and trained.splits_sha256 != file_sha256(splits.splits_path):
        raise StoreError(
            "The network was trained on another division of the patients",
            expected="the splits of the training",
            got=f"splits made after it, {splits.splits_path}",
            remedy="run `mammo train CONFIG.yaml` on the present splits first",
        )


def _metrics_before(config: RunConfig) -> Mapping[str, FindingMetrics] | None:
    try:
        return load_report(config, Stage.EVALUATE, EvaluationReport).by_finding
    except StoreError:  # none yet, or of an older version
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """What ``S`` models say of the same rows, and how their saliency lies on what is annotated."""

    rows: list[int]
    score_SNC: NDArray[np.float64]
    localized_S: list[list[LocalizedView]]


def _score(config: RunConfig, members: Sequence[EnsembleMember], test: pd.DataFrame, tuning: pd.DataFrame) -> _Scored:
    window_px = config.preprocess.window_px
    store = open_store(exam_store_dir(config))
    preprocessing, read_as = store_preprocessing(store), config.evaluate.read_as
    networks = [load_member(one, read_as=read_as, window_px=window_px, preprocessing=preprocessing) for one in members]
    both = pd.concat([test, tuning], ignore_index=True)
    views = stored_views(store, both, window_px)
    annotated, rows = annotated_rows(both), [int(row) for row in both["row"]]
    scores: list[list[NDArray[np.float64]]] = []
    localized_S: list[list[LocalizedView]] = [[] for _ in networks]
    device = choose_device(config.train)
    seed_prediction(config.evaluate.seed)  # the random rows of Table 1 draw patches in every pass
    with progress("evaluate", len(rows), "images") as tracker:
        for of_models in score_rows_of_each(networks, views, rows, batch_images=config.evaluate.batch_images, device=device):
            scores.append([view.score_C for view in of_models])
            row = of_models[0].row
            annotations = annotations_of(annotated[row], views) if row in annotated else []
            for network, view, localized in zip(networks, of_models, localized_S, strict=True):
                localized += localize(view, annotations, config_of(network).patch_px)
            tracker.advance_to(len(scores))
    return _Scored(rows=rows, score_SNC=np.array(scores).swapaxes(0, 1), localized_S=localized_S)  # (N, S, C) -> (S, N, C)


def _localizing_model(localized_S: Sequence[Sequence[LocalizedView]], tuning_rows: set[int]) -> int:
    """The model with the best malignant F1 on the tuning split (paper 3.3); the first where nothing is annotated there."""
    f1_S = [mean_f1(localized, Finding.MALIGNANT, tuning_rows) for localized in localized_S]
    return max(range(len(f1_S)), key=lambda model: -1.0 if f1_S[model] is None else float(f1_S[model] or 0.0))


def _names(members: Sequence[EnsembleMember]) -> list[str]:
    return [f"model-{index}" for index in range(1, len(members) + 1)] if len(members) > 1 else ["model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    """Scores per image: what is reported (one model, or the mean of several), and each of several models."""

    test: pd.DataFrame
    tuning: pd.DataFrame
    models: pd.DataFrame
    breasts: pd.DataFrame
    exams: pd.DataFrame

    @classmethod
    def of(
        cls, scored: _Scored, members: Sequence[EnsembleMember], data_version: str, test: pd.DataFrame, tuning: pd.DataFrame
    ) -> _Tables:
        def table(images: pd.DataFrame, score_NC: NDArray[np.float64], model: str, sha256: str) -> pd.DataFrame:
            return image_table(images, scored.rows, score_NC, model=model, sha256=sha256, data_version=data_version)

        names = _names(members)
        reported = ENSEMBLE if len(members) > 1 else names[0]
        mean_NC, sha256 = scored.score_SNC.mean(axis=0), ensemble_sha256(members)
        tables = [
            table(test, score_NC, name, member.sha256)
            for score_NC, name, member in zip(scored.score_SNC, names, members, strict=True)
        ]
        of_test = table(test, mean_NC, reported, sha256)
        breasts = breasts_of(pd.concat([of_test, *tables], ignore_index=True) if len(members) > 1 else of_test)
        return cls(
            test=of_test,
            tuning=table(tuning, mean_NC, reported, sha256),
            models=pd.concat(tables, ignore_index=True),
            breasts=breasts,
            exams=exams_of(breasts),
        )

    def by_file(self) -> dict[str, pd.DataFrame]:
        """File name to table."""
        tables = {"scores": self.test, "breast_scores": self.breasts, "exam_scores": self.exams, "tuning_scores": self.tuning}
        return {**tables, "model_scores": self.models} if self.models["model"].nunique() > 1 else tables


# ---------------------------------------------------------------------------------------------------------- measuring


def _measure(
    finding: Finding,
    tables: _Tables,
    localized_S: Sequence[Sequence[LocalizedView]],
    localizing: int,
    test: pd.DataFrame,
    config: EvaluateConfig,
) -> FindingMetrics:
    bootstrap = Bootstrap(resamples=config.bootstrap_resamples, confidence=config.confidence, seed=config.seed)
    reported = tables.test["model"].iloc[0]
    of_models = {
        str(name): labelled(table, finding, (*BREAST, "model_sha256"))
        for name, table in tables.breasts.groupby("model", sort=False)
    }
    breasts = of_models.pop(reported)
    exams = labelled(tables.exams[tables.exams["model"] == reported], finding, ("patient_id", "exam_id"))
    metrics = with_ranking(breasts, exams, bootstrap)
    metrics = with_localization(metrics, finding, localized_S[localizing], test, bootstrap)
    if of_models:
        alone = [with_localization(metrics, finding, localized, test, bootstrap) for localized in localized_S]
        metrics = with_models(metrics, breasts, of_models, alone, bootstrap)
    tuning = tables.tuning if tables.tuning.empty else breasts_of(tables.tuning)
    return with_screening_metrics(metrics, breasts, labelled(tuning, finding, BREAST), test, config)


def _keep_temperature(
    config: RunConfig, members: Sequence[EnsembleMember], splits: SplitReport, by_finding: Mapping[str, FindingMetrics]
) -> None:
    """Leaves the fitted temperatures in the stage's folder, and beside the weights they belong to if these are one model's."""
    fits = {finding: metrics.temperature for finding, metrics in by_finding.items() if metrics.temperature is not None}
    kept = TemperatureFile(checkpoint_sha256=ensemble_sha256(members), data_version=splits.data_version, by_finding=fits)
    write_temperature(Workspace(config.workspace_dir).stage_dir(Stage.EVALUATE.value), kept)
    # Weights read as another row of Table 1 give other scores: their temperature is not that of the weights.
    if len(members) == 1 and config.evaluate.read_as is None:
        write_temperature(members[0].path, kept)
