"""Evaluate: breast-level metrics with intervals and localisation on the test split."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import task

from gmic_model.fit import choose_device
from gmic_model.localization import (
    ContinuousF1,
    LesionCount,
    continuous_f1,
    is_pointing_at_lesion,
    lesions_reached,
    mean_localization,
)
from gmic_model.metrics import Metric, bootstrap_interval, breast_scores
from gmic_model.saliency import mask_to_window
from schemas.config import EvaluateConfig, RunConfig, Stage
from schemas.errors import StoreError
from schemas.exam import FINDINGS, UNKNOWN_LABEL, Finding, Split
from schemas.reports import EvaluationReport, FindingMetrics, Interval, SplitReport, TemperatureFile, TrainReport
from tasks.adapters.exam_store import StoredViews, open_store, read_manifest, stored_views
from tasks.adapters.workspace import Workspace, write_atomically
from tasks.artifacts import progress, show_markdown
from tasks.scoring import ScoredView, load_trained, score_rows, score_table
from tasks.screening_metrics import with_screening_metrics
from tasks.split import manifest_with_splits
from tasks.stages import save_report, stage_key
from tasks.train import provenance

logger = logging.getLogger(__name__)

TEMPERATURE = "temperature.json"
"""Beside the weights: see ``schemas.reports.TemperatureFile``."""


@task(
    name="evaluate",
    persist_result=True,
    cache_key_fn=stage_key(
        Stage.EVALUATE, 2, ("evaluate",), lambda given: (given["trained"].checkpoint_sha256, given["splits"].data_version)
    ),
)
def evaluate(config: RunConfig, splits: SplitReport, trained: TrainReport) -> EvaluationReport:
    """Scores the test split and measures; scores go to parquet and CSV, one line per image.

    The tuning split is scored too: temperature and use thresholds are chosen there.

    Raises:
        StoreError: The test split is empty.
        CheckpointError: The weights were altered.
    """
    store = open_store(Workspace(config.workspace_dir).store_dir)
    manifest = manifest_with_splits(splits, read_manifest(store))
    test = manifest[manifest["split"] == Split.TEST.value].reset_index(drop=True)
    if test.empty:
        raise StoreError("The test split is empty", expected="at least one patient", remedy="raise split.test_fraction")
    views = stored_views(store, manifest, config.preprocess.window_px)
    network = load_trained(trained)
    scored: list[ScoredView] = []
    localized: dict[Finding, list[_Localized]] = {finding: [] for finding in FINDINGS}
    masked = set(test.loc[test["has_lesion_mask"], "row"])
    tuning = manifest[manifest["split"] == Split.TUNING.value].reset_index(drop=True)
    rows = [*test["row"].tolist(), *tuning["row"].tolist()]
    with progress("evaluate", len(rows), "images") as tracker:
        for view in score_rows(
            network, views, rows, batch_images=config.evaluate.batch_images, device=choose_device(config.train)
        ):
            scored.append(view)
            if view.row in masked:
                _localize(view, views, network.config.patch_size, localized)
            tracker.advance_to(len(scored))
    table, tuning_table = score_table(test, scored), score_table(tuning, scored)
    folder = Workspace(config.workspace_dir).stage_dir(Stage.EVALUATE.value)
    write_atomically(folder / "scores.parquet", table.to_parquet(index=False))
    write_atomically(folder / "scores.csv", table.to_csv(index=False, float_format="%.6f").encode())
    write_atomically(folder / "tuning_scores.parquet", tuning_table.to_parquet(index=False))
    by_finding = {
        finding.value: with_screening_metrics(
            _finding_metrics(table, finding, localized[finding], config.evaluate),
            breast_table(table, finding),
            breast_table(tuning_table, finding),
            test,
            config.evaluate,
        )
        for finding in FINDINGS
    }
    _keep_temperature(trained, splits, by_finding)
    report = EvaluationReport(
        scores_path=folder / "scores.parquet",
        by_finding=by_finding,
        exams=test["exam_id"].nunique(),
        images=len(test),
        provenance=provenance(config, splits.data_version, seed=config.evaluate.seed),
    )
    show_markdown("metrics", metrics_markdown(report.by_finding), "Breast-level metrics on the test split")
    return save_report(config, Stage.EVALUATE, report)


def breast_table(scores: pd.DataFrame, finding: Finding) -> pd.DataFrame:
    """One line per breast with a known label: patient_id, exam_id, laterality, score, label."""
    breasts = breast_scores(
        scores[f"{finding.value}_score"].to_numpy(np.float64)[:, None],
        scores["exam_id"].to_numpy(str),
        scores["laterality"].to_numpy(str),
    )
    table = scores.iloc[breasts.first_image_B][["patient_id", "exam_id", "laterality"]].reset_index(drop=True)
    table["score"] = breasts.score_BC[:, 0]
    table["label"] = scores[finding.value].to_numpy(np.int64)[breasts.first_image_B]
    return table[table["label"] != UNKNOWN_LABEL].reset_index(drop=True)


def metrics_markdown(by_finding: Mapping[str, FindingMetrics]) -> str:
    """The metrics as a markdown table."""
    lines = ["| finding | breasts | positive | AUROC | AUPRC | localisation F1 |", "|---|---|---|---|---|---|"]
    for name, metrics in by_finding.items():
        f1 = "-" if metrics.localization_f1 is None else f"{metrics.localization_f1:.3f}"
        counts = f"{metrics.breasts} | {metrics.positive_breasts}"
        lines.append(f"| {name} | {counts} | {interval_text(metrics.auroc)} | {interval_text(metrics.auprc)} | {f1} |")
    return "\n".join(lines)


def interval_text(interval: Interval) -> str:
    """``0.812 (0.701-0.903)``, or why there is none."""
    if interval.value is None:
        return "not defined (one class only)"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"


# ---------------------------------------------------------------------------------------------------------------------


def _keep_temperature(trained: TrainReport, splits: SplitReport, by_finding: Mapping[str, FindingMetrics]) -> None:
    """Leaves the fitted temperatures beside the weights they belong to."""
    fits = {finding: metrics.temperature for finding, metrics in by_finding.items() if metrics.temperature is not None}
    kept = TemperatureFile(checkpoint_sha256=trained.checkpoint_sha256, data_version=splits.data_version, by_finding=fits)
    write_atomically(trained.checkpoint_path / TEMPERATURE, kept.model_dump_json(indent=1).encode())


@dataclass(frozen=True, slots=True)
class _Localized:
    """How one image's saliency and patches lie on one finding's mask."""

    metrics: ContinuousF1
    is_pointing: bool
    lesions: LesionCount


def _localize(
    view: ScoredView, views: StoredViews, patch_size: tuple[int, int], localized: dict[Finding, list[_Localized]]
) -> None:
    geometry, _, _ = views.views[view.row]
    bits_HW: NDArray[np.uint8] = mask_to_window(views.lesion_mask(view.row), geometry)
    for index, finding in enumerate(FINDINGS):
        mask_HW = (bits_HW >> index & 1).astype(bool)
        if mask_HW.any():
            localized[finding].append(
                _Localized(
                    continuous_f1(view.saliency_CIJ[index], mask_HW),
                    is_pointing_at_lesion(view.saliency_CIJ[index], mask_HW),
                    lesions_reached(view.corner_K2, patch_size, mask_HW),
                )
            )


def _finding_metrics(
    scores: pd.DataFrame, finding: Finding, localized: Sequence[_Localized], config: EvaluateConfig
) -> FindingMetrics:
    breasts = breast_table(scores, finding)
    score_B = breasts["score"].to_numpy(np.float64)
    label_B = breasts["label"].to_numpy(np.int64)

    def with_interval(metric: Metric) -> Interval:
        return bootstrap_interval(
            metric,
            score_B,
            label_B,
            breasts["patient_id"].to_numpy(str),
            resamples=config.bootstrap_resamples,
            confidence=config.confidence,
            seed=config.seed,
        )

    mean = mean_localization(image.metrics for image in localized)
    return FindingMetrics(
        breasts=len(breasts),
        positive_breasts=int(label_B.sum()),
        auroc=with_interval(Metric.AUROC),
        auprc=with_interval(Metric.AUPRC),
        localization_images=mean.images,
        localization_f1=mean.f1,
        localization_precision=mean.precision,
        localization_recall=mean.recall,
        pointing_fraction=float(np.mean([image.is_pointing for image in localized])) if localized else None,
        lesions=sum(image.lesions.total for image in localized),
        lesions_reached=sum(image.lesions.reached for image in localized),
    )
