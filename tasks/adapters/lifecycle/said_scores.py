"""What a prediction says, as lines of the log: an image before its panel is drawn, an exam before its table is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from gmic_model.metrics.calibration import Recalibration
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS
from schemas.layout import SOFTWARE_VERSIONS
from tasks.adapters.lifecycle.in_use import locked_thresholds, wanted_preprocessing
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.models.whole_models import WholeModel
from tasks.adapters.scoring.prediction import mean_breast_scores
from tasks.adapters.scoring.scored_views import ScoredView
from tasks.adapters.store.manifest import lines_of
from tasks.adapters.workspace import Workspace, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidScores:
    """The log of one prediction run.

    Attributes:
        common: What each of its lines has: weights, preprocessing, code, data, run.
        recalibration: Of breast scores, by finding; empty = they are not recalibrated.
        thresholds: By finding; an exam is recalled if a breast's score is at or above it, None = above every score.
        logged_path: Names the weights whose scores are all in the log.
    """

    log: PredictionLog
    common: Mapping[str, Any]
    recalibration: Mapping[str, Recalibration]
    thresholds: Mapping[str, float | None]
    logged_path: Path

    @classmethod
    def of(
        cls,
        config: RunConfig,
        model: WholeModel,
        recalibration: Mapping[str, Recalibration],
        data_version: str,
        run: str,
    ) -> SaidScores:
        """Opens the workspace's log for scores of these weights.

        Raises:
            CheckpointError: The locked thresholds beside them are damaged, or of other weights.
        """
        workspace = Workspace(config.workspace_dir)
        return cls(
            log=PredictionLog(workspace.prediction_log_dir),
            common={
                "model": model.sha256,
                "preprocessing": wanted_preprocessing(config),
                "code_version": version("mammography-gmic"),
                "data_version": data_version,
                "run": run,
            },
            recalibration=recalibration,
            thresholds=locked_thresholds(config, model.folder, model.sha256),
            logged_path=workspace.stage_dir("predict") / "logged",
        )

    def image(self, view: ScoredView, line: Mapping[str, Any]) -> None:
        """One image that was just scored.

        Raises:
            StoreError: The log cannot be written: the score may not be given out.
        """
        scores = {finding.value: float(score) for finding, score in zip(FINDINGS, view.score_C, strict=True)}
        self.log.append([self._image(line, scores)])

    def exams(self, table: pd.DataFrame, new_rows: set[int]) -> None:
        """Exams with an image that was just scored, as they stand now; all of them where the log does not know them yet.

        Scores that a former release left without a log are entered with their images, so that none is given out unlogged.

        Raises:
            StoreError: The log cannot be written: the scores may not be given out.
        """
        entries: list[dict[str, Any]] = []
        if not self._knows_earlier():
            names = [f"{finding.value}_score" for finding in FINDINGS]
            for line in lines_of(table[~table["row"].isin(list(new_rows))]):
                scores = {finding.value: float(line[name]) for finding, name in zip(FINDINGS, names, strict=True)}
                entries.append({**self._image(line, scores), "scored_before_the_log": True})
            new_rows = set(table["row"])
        touched = set(table.loc[table["row"].isin(list(new_rows)), "exam_id"])
        entries += self._exams(table[table["exam_id"].isin(touched)])
        if entries:
            self.log.append(entries)
        write_atomically(self.logged_path, self._name.encode())

    def passing(self, table: pd.DataFrame, lines: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Whole exams that are scored and kept nowhere: images and exams in one write. Returns the exams as they were said.

        Args:
            table: Scores, as of ``exams``.
            lines: What is known of its images besides, by row.

        Raises:
            StoreError: The log cannot be written: the scores may not be given out.
        """
        images = []
        for line in lines_of(table):
            scores = {finding.value: float(line[f"{finding.value}_score"]) for finding in FINDINGS}
            images.append(self._image(lines[line["row"]], scores))
        exams = self._exams(table)
        if exams:
            self.log.append([*images, *exams])
        return exams

    def _exams(self, chosen: pd.DataFrame) -> list[dict[str, Any]]:
        """An entry for each exam of these images."""
        if not len(chosen):
            return []
        plain = _by_exam(mean_breast_scores(chosen, {}))
        scaled = _by_exam(mean_breast_scores(chosen, self.recalibration)) if self.recalibration else {}
        return [
            self._exam(str(exam_id), images, plain[str(exam_id)], scaled.get(str(exam_id)))
            for exam_id, images in chosen.groupby("exam_id", sort=False)
        ]

    @property
    def _name(self) -> str:
        return f"{self.common['model']} {self.common['preprocessing']}"

    def _knows_earlier(self) -> bool:
        try:
            return self.logged_path.read_text() == self._name
        except OSError:
            return False

    def _image(self, line: Mapping[str, Any], scores: Mapping[str, float]) -> dict[str, Any]:
        return {
            "kind": "image",
            "exam_id": line["exam_id"],
            "image_id": line["image_id"],
            "laterality": line["laterality"],
            "view_position": line["view_position"],
            "scores": _numbers(scores),
            "gate_warnings": line["gate_warnings"],
            "software_versions": said if isinstance(said := line.get(SOFTWARE_VERSIONS), str) else None,
            **self.common,
        }

    def _exam(
        self,
        exam_id: str,
        images: pd.DataFrame,
        breasts: Mapping[str, Mapping[str, Any]],
        calibrated: Mapping[str, Mapping[str, Any]] | None,
    ) -> dict[str, Any]:
        recalled = {
            finding: threshold is not None and any((scores[finding] or 0.0) >= threshold for scores in breasts.values())
            for finding, threshold in self.thresholds.items()
        }
        return {
            "kind": "exam",
            "exam_id": exam_id,
            "patient_id": images["patient_id"].iloc[0],
            "images": len(images),
            "scores": breasts,
            "calibrated_scores": calibrated,
            "thresholds": dict(self.thresholds),
            "recalled": recalled,
            "gate_warnings": " ".join(sorted({code for codes in images["gate_warnings"] for code in str(codes).split()})),
            **self.common,
        }


def _by_exam(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, dict[str, Any]]]:
    """From ``<exam_id> <laterality>`` to breasts of exams."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, of_breast in scores.items():
        exam_id, _, side = name.rpartition(" ")
        found.setdefault(exam_id, {})[side] = _numbers(of_breast)
    return found


def _numbers(scores: Mapping[str, float]) -> dict[str, Any]:
    """As JSON has them, to the last bit; what is no number is null."""
    return {finding: score if isfinite(score) else None for finding, score in scores.items()}
