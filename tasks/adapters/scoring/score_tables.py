"""Scores as tables: per image, per breast (mean of its views) and per exam (the higher breast); per model and ensemble.

Every line has the weights' digest, the data version and the gate's warnings: a number that is quoted can be traced. No Prefect.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.ranking import breast_scores
from schemas.config.run import Stage
from schemas.errors import StoreError
from schemas.exam import FINDINGS, UNKNOWN, Finding, Split
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport
from tasks.adapters.store.manifest import read_splits
from tasks.adapters.workspace import Workspace

IMAGE_COLUMNS = (
    "row", "image_id", "exam_id", "patient_id", "laterality", "view_position", "benign", "malignant", "gate_warnings",
)  # fmt: skip
SCORE_COLUMNS = tuple(f"{finding.value}_score" for finding in FINDINGS)
LABEL_COLUMNS = tuple(finding.value for finding in FINDINGS)
BREAST = ("patient_id", "exam_id", "laterality")
"""What says whose a breast is."""


def image_table(
    manifest: pd.DataFrame, rows: Sequence[int], score_NC: NDArray[np.float64], *, model: str, sha256: str, data_version: str
) -> pd.DataFrame:
    """One line per image, in the manifest's order: ids, labels, warnings, ``<finding>_score`` and where the scores come from.

    Args:
        manifest: The images wanted; those among ``rows`` are in the table.
        rows: Store row of each score.
        score_NC: Scores.
        model: Name of the model, or ``ensemble``.
        sha256: SHA-256 of the model's weights.
        data_version: Of the store.
    """
    scores = pd.DataFrame(score_NC, columns=list(SCORE_COLUMNS)).assign(row=list(rows))
    return traced(manifest[list(IMAGE_COLUMNS)].merge(scores, on="row"), model=model, sha256=sha256, data_version=data_version)


def traced(scored: pd.DataFrame, *, model: str, sha256: str, data_version: str) -> pd.DataFrame:
    """Images with their scores, and of each where these come from, as ``image_table`` says it."""
    return scored.assign(model=model, model_sha256=sha256, data_version=data_version)


def breasts_of(images: pd.DataFrame) -> pd.DataFrame:
    """One line per breast and model: mean score of its views, their number, the labels, all warnings of its images."""
    return pd.concat([_breasts_of_model(table) for _, table in images.groupby("model", sort=False)], ignore_index=True)


def breasts_with_repeats(images: pd.DataFrame) -> int:
    """How many breasts have a view more than once; ``breasts_of`` averages over all images, so that view weighs more."""
    per_view = images.groupby(["exam_id", "laterality", "view_position"], sort=False).size()
    return int((per_view.groupby(level=["exam_id", "laterality"], sort=False).max() > 1).sum())


def exams_of(breasts: pd.DataFrame) -> pd.DataFrame:
    """One line per exam and model: the higher score of its breasts; a finding is present if a breast has it.

    Absent only if it is known to be absent in every breast that has an image.
    """
    # Of the labels the strongest statement counts: present, then not known, then absent.
    rank = {1: 2, UNKNOWN: 1, 0: 0}
    label = {value: key for key, value in rank.items()}
    ranked = breasts.assign(**{name: breasts[name].map(rank) for name in LABEL_COLUMNS})
    exams = ranked.groupby(["model", "exam_id"], sort=False, as_index=False).agg(
        patient_id=("patient_id", "first"),
        breasts=("laterality", "size"),
        **{name: (name, "max") for name in (*LABEL_COLUMNS, *SCORE_COLUMNS)},
        model_sha256=("model_sha256", "first"),
        data_version=("data_version", "first"),
    )
    exams.insert(list(exams.columns).index("model_sha256"), "gate_warnings", _all_warnings(ranked, ["model", "exam_id"]))
    return exams.assign(**{name: exams[name].map(label) for name in LABEL_COLUMNS})


def breast_table(images: pd.DataFrame, finding: Finding) -> pd.DataFrame:
    """One line per breast with a known label of one model's images: patient_id, exam_id, laterality, score, label."""
    breasts = breast_scores(
        images[f"{finding.value}_score"].to_numpy(np.float64)[:, None],
        images["exam_id"].to_numpy(str),
        images["laterality"].to_numpy(str),
    )
    kept = [*BREAST, finding.value]
    table = images.iloc[breasts.first_image_B][kept].reset_index(drop=True)
    table[f"{finding.value}_score"] = breasts.score_BC[:, 0]
    return labelled(table, finding, BREAST)


def read_breast_scores(evaluated: EvaluationReport) -> pd.DataFrame:
    """The breast table that evaluation left, lines of the score that it reported: one model's, or the mean of several.

    Raises:
        OSError: The evaluation's folder has no ``breast_scores.parquet``.
    """
    breasts = pd.read_parquet(evaluated.scores_path.with_name("breast_scores.parquet"))
    return breasts[breasts["model_sha256"] == evaluated.model_sha256].reset_index(drop=True)


def read_image_scores(evaluated: EvaluationReport) -> pd.DataFrame:
    """The table of test images that an evaluation left.

    Raises:
        StoreError: It is gone, or of other weights: an evaluation that was broken off wrote over it.
    """
    try:
        scores = pd.read_parquet(evaluated.scores_path)
        found = sorted(set(scores["model_sha256"]))
    except (OSError, ValueError, KeyError) as damage:
        found, scores = [type(damage).__name__], None
    if scores is None or (evaluated.model_sha256 and found != [evaluated.model_sha256]):
        raise StoreError(
            f"{evaluated.scores_path} does not hold the scores that were reported",
            expected=f"those of weights {evaluated.model_sha256[:12]}",
            got=", ".join(one[:12] for one in found),
            remedy="run `mammo evaluate CONFIG.yaml` again",
        )
    return scores


def is_of_splits(folder: Path, splits: SplitReport) -> bool:
    """True if an evaluation's tables hold the test and tuning patients of these splits, and no other."""
    try:
        split_of: dict[str, str] = dict(read_splits(splits.splits_path).itertuples(index=False, name=None))
        for split, name in ((Split.TEST, "scores"), (Split.TUNING, "tuning_scores")):
            scored = set(pd.read_parquet(folder / f"{name}.parquet", columns=["patient_id"])["patient_id"])
            if len(scored) != splits.counts[split.value].patients or any(split_of.get(one) != split.value for one in scored):
                return False
    except (OSError, ValueError, KeyError, StoreError):
        return False
    return True


def breasts_before(workspace_dir: Path) -> pd.DataFrame | None:
    """The breast table that the workspace's last evaluation left; None if there is none, or none that can be read now."""
    try:
        return read_breast_scores(Workspace(workspace_dir).read_report(Stage.EVALUATE.value, EvaluationReport))
    except (StoreError, OSError, ValueError, KeyError):
        return None


def labelled(table: pd.DataFrame, finding: Finding, kept: Sequence[str]) -> pd.DataFrame:
    """The lines of a breast or exam table whose label is known, with ``score`` and ``label`` of one finding."""
    columns = {f"{finding.value}_score": "score", finding.value: "label"}
    chosen = table[[*kept, *columns]].rename(columns=columns)
    return chosen[chosen["label"] != UNKNOWN].reset_index(drop=True)


# ---------------------------------------------------------------------------------------------------------------------


def _breasts_of_model(images: pd.DataFrame) -> pd.DataFrame:
    images = images.reset_index(drop=True)
    breasts = breast_scores(
        images[list(SCORE_COLUMNS)].to_numpy(np.float64), images["exam_id"].to_numpy(str), images["laterality"].to_numpy(str)
    )
    kept = ["patient_id", "exam_id", "laterality", *LABEL_COLUMNS, "model", "model_sha256", "data_version"]
    table = images.iloc[breasts.first_image_B][kept].reset_index(drop=True)
    table["images"] = breasts.view_count_B
    table[list(SCORE_COLUMNS)] = breasts.score_BC
    keys = ["exam_id", "laterality"]
    warnings = images[keys].drop_duplicates().assign(gate_warnings=_all_warnings(images, keys))
    return table.merge(warnings, on=keys, how="left")


def _all_warnings(table: pd.DataFrame, keys: list[str]) -> list[str]:
    """Of each group the codes of its lines, each once; groups in the order in which they first come.

    A loop over what differs: pandas calls a function for each of half a million breasts in half a minute.
    """
    groups = table.groupby(keys, sort=False)
    text_N, texts = pd.factorize(table["gate_warnings"].fillna("").astype(str))
    codes = [frozenset(text.split()) for text in texts]
    found = [frozenset[str]()] * groups.ngroups
    pairs = pd.DataFrame({"group": groups.ngroup().to_numpy(), "text": text_N}).drop_duplicates()
    for group, text in zip(pairs["group"].tolist(), pairs["text"].tolist(), strict=True):
        found[group] |= codes[text]
    said = {some: " ".join(sorted(some)) for some in set(found)}
    return [said[some] for some in found]
