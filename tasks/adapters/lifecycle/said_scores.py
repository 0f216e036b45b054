"""What a prediction says, as lines of the log: an image before its panel is drawn, an exam before its table is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.calibration import Recalibration
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS
from schemas.layout import SOFTWARE_VERSIONS
from schemas.reports.life.decisions import SiteThresholds
from tasks.adapters.lifecycle.in_use import locked_thresholds, site_thresholds, wanted_preprocessing
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.lifecycle.watching.device_streams import NAMED_BY, PICTURE, PICTURE_COLUMNS, devices_of
from tasks.adapters.models.whole_models import WholeModel
from tasks.adapters.scoring.prediction import mean_breast_scores
from tasks.adapters.store.manifest import LINES_AT_ONCE, lines_of
from tasks.adapters.workspace import Workspace, write_atomically

DEVICE_ASKED: Final = frozenset({"exam_id", *NAMED_BY})
"""What ``SaidScores.of`` asks of a manifest's lines."""
IMAGE_ASKED: Final = frozenset({"exam_id", "image_id", "laterality", "view_position", "gate_warnings", SOFTWARE_VERSIONS})
"""What ``SaidScores.images`` asks of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidScores:
    """The log of one prediction run.

    Attributes:
        common: What each of its lines has: weights, preprocessing, code, data, run.
        recalibration: Of breast scores, by finding; empty = they are not recalibrated.
        thresholds: By finding; an exam is recalled if a breast's score is at or above it, None = above every score.
        of_exams: By exam, what this site put into use in place of these for the exam's device; empty = nothing.
        logged_path: Names the weights whose scores are all in the log.
    """

    log: PredictionLog
    common: Mapping[str, Any]
    recalibration: Mapping[str, Recalibration]
    thresholds: Mapping[str, float | None]
    of_exams: Mapping[str, Mapping[str, float]]
    logged_path: Path

    @classmethod
    def of(
        cls,
        config: RunConfig,
        model: WholeModel,
        recalibration: Mapping[str, Recalibration],
        data_version: str,
        run: str,
        images: pd.DataFrame,
    ) -> SaidScores:
        """Opens the workspace's log for scores of these weights.

        Args:
            config: Of the workspace.
            model: The weights.
            recalibration: As above.
            data_version: Of the images; "" = they are in no store.
            run: Names it.
            images: Lines of the manifest: which device made which exam.

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
            of_exams=_of_exams(site_thresholds(workspace, model.sha256), images),
            logged_path=workspace.stage_dir("predict") / "logged",
        )

    def images(self, scored: Sequence[tuple[Mapping[str, Any], NDArray[np.float64]]]) -> None:
        """Images that were just scored, with their lines of the manifest.

        Raises:
            StoreError: The log cannot be written: the scores may not be given out.
        """
        names = [finding.value for finding in FINDINGS]
        self.log.append([self._image(line, dict(zip(names, score_C.tolist(), strict=True))) for line, score_C in scored])

    def exams(self, table: pd.DataFrame, new_rows_N: NDArray[np.int64]) -> None:
        """Exams with an image that was just scored, as they stand now; all of them where the log does not know them yet.

        Scores that a former release left without a log are entered with their images, so that none is given out unlogged. A
        thousand exams are made into lines at a time, whatever their number.

        Raises:
            StoreError: The log cannot be written: the scores may not be given out.
        """
        if not self._knows_earlier():
            names = {finding.value: f"{finding.value}_score" for finding in FINDINGS}
            for part in _in_parts(table, ~table["row"].isin(new_rows_N).to_numpy(bool), "image_id"):
                earlier = [
                    self._image(line, {finding: float(line[name]) for finding, name in names.items()})
                    for line in lines_of(part)
                ]
                self.log.append([{**entry, "scored_before_the_log": True} for entry in earlier])
            new_rows_N = table["row"].to_numpy(np.int64)
        exam_N, exams = pd.factorize(table["exam_id"])  # of a million names a set would take more than the table
        is_touched_E = np.zeros(len(exams), bool)
        is_touched_E[exam_N[table["row"].isin(new_rows_N).to_numpy(bool)]] = True
        for chosen in _in_parts(table, is_touched_E[exam_N], "exam_id"):
            self.log.append(self._exams(chosen))
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
            known = lines[line["row"]]
            picture = {name: known[name] for name in PICTURE_COLUMNS if known.get(name) is not None}
            images.append({**self._image(known, scores), PICTURE: picture})
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
        own = self.of_exams.get(exam_id, {})
        thresholds = {**self.thresholds, **own}
        recalled = {
            finding: threshold is not None and any((scores[finding] or 0.0) >= threshold for scores in breasts.values())
            for finding, threshold in thresholds.items()
        }
        return {
            "kind": "exam",
            "exam_id": exam_id,
            "patient_id": images["patient_id"].iloc[0],
            "images": len(images),
            "scores": breasts,
            "calibrated_scores": calibrated,
            "thresholds": thresholds,
            **({"thresholds_of_site": sorted(own)} if own else {}),
            "recalled": recalled,
            "gate_warnings": " ".join(sorted({code for codes in images["gate_warnings"] for code in str(codes).split()})),
            **self.common,
        }


def _of_exams(site: SiteThresholds | None, images: pd.DataFrame) -> dict[str, dict[str, float]]:
    """By exam, the site's own threshold of its device and software, by finding."""
    if site is None or images.empty:
        return {}
    by_device = {(one.name, one.software): one.threshold for one in site.devices}
    return {exam_id: {site.finding: by_device[device]} for exam_id, device in devices_of(images).items() if device in by_device}


def _in_parts(table: pd.DataFrame, is_wanted_N: NDArray[np.bool_], key: str) -> Iterator[pd.DataFrame]:
    """A thousand keys at a time with all their wanted lines, in the order in which they first come; no more is ever copied."""
    line_N = np.flatnonzero(is_wanted_N)
    place_N = pd.factorize(table[key].iloc[line_N])[0]
    line_N, place_N = line_N[np.argsort(place_N, kind="stable")], np.sort(place_N)
    for first in range(0, int(place_N[-1]) + 1 if len(place_N) else 0, LINES_AT_ONCE):
        start, end = np.searchsorted(place_N, (first, first + LINES_AT_ONCE))
        yield table.iloc[line_N[start:end]]


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
