"""A prediction in numbers: what was scored before, the table of images, and the scores of images and breasts in its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gmic_model.metrics.calibration import Recalibration, recalibrated
from gmic_model.metrics.ranking import breast_scores
from gmic_model.preprocess import preprocess_version
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS, Finding
from schemas.reports.pages import ImageScore, PredictReport
from tasks.adapters.models.locking import kept_recalibrations
from tasks.adapters.models.whole_models import WholeModel
from tasks.adapters.scoring.score_tables import SCORE_COLUMNS, image_table
from tasks.adapters.scoring.scored_views import ScoredView
from tasks.adapters.store.manifest import lines_of
from tasks.adapters.workspace import Workspace, write_atomically


def scored_with(weights_sha256: str, config: RunConfig) -> str:
    """Names what scores follow from: weights, preprocessing, and a precision that is not the default."""
    precision = "" if config.evaluate.precision == "fp32" else f" {config.evaluate.precision}"
    return f"{weights_sha256} {preprocess_version(config.preprocess)}{precision}"


def scored_before(folder: Path, weights: str, manifest: pd.DataFrame) -> tuple[pd.DataFrame, tuple[Path, ...]]:
    """Rows, scores and panels of images that these very weights have scored and that are still in the store.

    A row is given out once (``inbox.ledger``): the same row is the same image. Anything odd means: score all again. What other
    weights left is forgotten before their pictures are drawn over, so that a run that is broken off leaves no mixture.
    """
    columns = ["row", *SCORE_COLUMNS]
    nothing = pd.DataFrame(columns=columns), ()
    try:
        if (folder / "weights").read_text() != weights:
            (folder / "weights").unlink()
            return nothing
        table = pd.read_parquet(folder / "scores.parquet")
        report = Workspace(folder.parent).read_report(folder.name, PredictReport)
    except (OSError, ValueError):
        return nothing
    if "row" not in table or len(report.panels) != len(table) or not all(path.exists() for path in report.panels):
        return nothing
    kept = table["row"].isin(manifest["row"])
    return table.loc[kept, columns], tuple(path for path, is_kept in zip(report.panels, kept, strict=True) if is_kept)


def score_table(
    manifest: pd.DataFrame, known: pd.DataFrame, scored: Sequence[ScoredView], *, sha256: str, data_version: str
) -> pd.DataFrame:
    """Known images, then new ones, as their panels are; labels, warnings and what was seen are the manifest's of today."""
    rows = [*known["row"].tolist(), *(view.row for view in scored)]
    new_NC = np.array([view.score_C for view in scored]).reshape(-1, len(FINDINGS))
    score_NC = np.concatenate([known[list(SCORE_COLUMNS)].to_numpy(np.float64), new_NC])
    ordered = manifest.set_index("row").loc[rows].reset_index()
    table = image_table(ordered, rows, score_NC, model="model", sha256=sha256, data_version=data_version)
    return table.assign(breast_seen_fraction=ordered["breast_seen_fraction"].to_numpy(np.float64))


def write_scores(folder: Path, weights: str, table: pd.DataFrame) -> Path:
    """Leaves the table for people and for the next run, which asks ``scored_before``; returns the one for people."""
    write_atomically(folder / "weights", weights.encode())
    write_atomically(folder / "scores.parquet", table.to_parquet(index=False))
    write_atomically(folder / "scores.csv", table.to_csv(index=False, float_format="%.6f").encode())
    return folder / "scores.csv"


def image_scores(table: pd.DataFrame) -> tuple[ImageScore, ...]:
    """As the report has them."""
    return tuple(
        ImageScore(
            image_id=line["image_id"],
            exam_id=line["exam_id"],
            laterality=line["laterality"],
            view_position=line["view_position"],
            scores={finding.value: line[f"{finding.value}_score"] for finding in FINDINGS},
            gate_warnings=line["gate_warnings"],
            breast_seen=None if np.isnan(line["breast_seen_fraction"]) else line["breast_seen_fraction"],
        )
        for line in lines_of(table)
    )


def kept_recalibration(model: WholeModel, prevalences: Mapping[Finding, float]) -> dict[str, Recalibration]:
    """What was fitted to these very weights, of each finding that has it, moved to a share of findings that is stated."""
    return kept_recalibrations(model.folder, model.sha256, prevalences)


def mean_breast_scores(table: pd.DataFrame, kept: Mapping[str, Recalibration]) -> dict[str, dict[str, float]]:
    """Of each breast the mean of its views, after the recalibration of each finding that has one."""
    names = [f"{finding.value}_score" for finding in FINDINGS]
    breasts = breast_scores(
        table[names].to_numpy(np.float64), table["exam_id"].to_numpy(str), table["laterality"].to_numpy(str)
    )
    score_BC = np.stack(
        [
            recalibrated(breasts.score_BC[:, index], *kept[finding.value])
            if finding.value in kept
            else breasts.score_BC[:, index]
            for index, finding in enumerate(FINDINGS)
        ],
        axis=1,
    )
    return {
        f"{exam_id} {side}": {finding.value: float(score) for finding, score in zip(FINDINGS, score_C, strict=True)}
        for exam_id, side, score_C in zip(breasts.exam_id_B, breasts.laterality_B, score_BC, strict=True)
    }


def weights_note(model: WholeModel, kept: Mapping[str, Recalibration], prevalences: Mapping[Finding, float]) -> str:
    """Whose scores these are, for the page, and what the terms forbid of the data that they were learnt from."""
    note = [f"Weights {model.sha256[:12]} of {model.folder.name}."]
    if model.networks > 1:
        note.append(f"Scores are the mean of {model.networks} networks; maps and patches are of the first.")
    if kept:
        said = ", ".join(f"{finding} intercept {line.intercept:.2f}, slope {line.slope:.2f}" for finding, line in kept.items())
        note.append(f"Breast scores are recalibrated: {said}.")
    if kept and prevalences:
        shares = ", ".join(f"{finding.value} {share:.4g}" for finding, share in prevalences.items())
        note.append(f"Moved to the stated share of findings: {shares}.")
    return " ".join([*note, *model.terms])
