"""What ``predict`` left of each exam, read for its objects: scores, maps and patches, and the stored crop behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmic_model.pictures.panel import grey_picture
from schemas.config.run import RunConfig
from schemas.errors import StoreError, error_name
from schemas.exam import FINDINGS, Laterality, ViewPosition
from schemas.reports.pages import PredictReport
from tasks.adapters.results.exam_result import Patch, ViewResult
from tasks.adapters.scoring.prediction import panel_path
from tasks.adapters.store.manifest import lines_of, read_manifest
from tasks.adapters.store.objects.bucket_store import store_of_run
from tasks.adapters.store.views import StoredViews, stored_views
from tasks.adapters.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedExam:
    """An exam that ``predict`` has scored.

    Attributes:
        weights_sha256: Of the weights that scored it.
        image_ids: Sorted.
        patient_id: Pseudonym.
        shifted_date: Of the exam; None = not known.
    """

    exam_id: str
    weights_sha256: str
    image_ids: tuple[str, ...]
    patient_id: str
    shifted_date: date | None


@dataclass(frozen=True)
class KeptPrediction:
    """The last prediction of a workspace; holds tables and paths, and reads an exam's arrays when they are asked for."""

    exams: Mapping[str, PredictedExam]
    places: Mapping[str, tuple[str, str]]
    """Side and view of each image."""
    _lines: Mapping[str, Mapping[str, Any]]
    _arrays: Mapping[str, Path]
    _views: StoredViews

    def view(self, image_id: str) -> ViewResult:
        """One image with what was said of it.

        Raises:
            StoreError: Its arrays are gone, or its stored crop is damaged.
        """
        line = self._lines[image_id]
        prepared = self._views(int(line["row"]))
        try:
            with np.load(self._arrays[image_id]) as arrays:
                saliency_CIJ, boxes_K4, attention_K = (
                    np.asarray(arrays[name]) for name in ("saliency_CIJ", "patch_source_K4", "attention_K")
                )
        except (KeyError, OSError, ValueError) as gone:
            raise StoreError(
                "What predict said of an image cannot be read",
                expected=f"{image_id}-<side>-<view>.npz in the folder predict",
                got=type(gone).__name__,
                remedy="run `mammo predict CONFIG.yaml --force predict`, or delete the folder predict and run it again",
            ) from gone
        order = np.argsort(-attention_K, kind="stable")
        return ViewResult(
            image_id=image_id,
            exam_id=line["exam_id"],
            laterality=Laterality(line["laterality"]),
            view_position=ViewPosition(line["view_position"]),
            scores={finding.value: float(line[f"{finding.value}_score"]) for finding in FINDINGS},
            saliency_CIJ=saliency_CIJ,
            geometry=prepared.geometry,
            patches=tuple(_patch(float(attention_K[index]), boxes_K4[index].tolist()) for index in order),
            grey_HW=grey_picture(prepared.pixels_HW, 1.0),
        )


def kept_prediction(config: RunConfig) -> KeptPrediction | None:
    """The last prediction; None if nothing has been predicted here.

    Raises:
        StoreError: The store, or what predict left, is missing or damaged.
    """
    folder = Workspace(config.workspace_dir).stage_dir("predict")
    try:
        table = pd.read_parquet(folder / "scores.parquet")
        Workspace(config.workspace_dir).read_report("predict", PredictReport)  # without it a prediction has not ended
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as damage:
        raise StoreError(
            "What predict said cannot be read",
            expected=f"scores.parquet and report.json of this version in {folder}",
            got=error_name(damage) if isinstance(damage, OSError) else type(damage).__name__,
            remedy="delete the folder predict and run `mammo predict CONFIG.yaml`; nothing was sent",
        ) from damage
    store = store_of_run(config)
    manifest = read_manifest(store)
    manifest = manifest[manifest["row"].isin(table["row"])]  # what was withdrawn meanwhile has no results
    dates = dict(zip(manifest["image_id"], manifest["exam_date"], strict=True))
    lines = {line["image_id"]: line for line in lines_of(table[table["image_id"].isin(manifest["image_id"])])}
    by_exam: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines.values():
        by_exam.setdefault(line["exam_id"], []).append(line)
    return KeptPrediction(
        exams={exam_id: _exam(exam_id, found, dates) for exam_id, found in by_exam.items()},
        places={image_id: (line["laterality"], line["view_position"]) for image_id, line in lines.items()},
        _lines=lines,
        _arrays={
            image_id: panel_path(folder, image_id, line["laterality"], line["view_position"]).with_suffix(".npz")
            for image_id, line in lines.items()
        },
        _views=stored_views(store, manifest, config.preprocess.window_px, reader=config.train.store_reader),
    )


# ---------------------------------------------------------------------------------------------------------------------


def _exam(exam_id: str, lines: Sequence[Mapping[str, Any]], dates: Mapping[str, Any]) -> PredictedExam:
    known = [dates[line["image_id"]] for line in lines if not pd.isna(dates[line["image_id"]])]
    return PredictedExam(
        exam_id=exam_id,
        weights_sha256=lines[0]["model_sha256"],
        image_ids=tuple(sorted(line["image_id"] for line in lines)),
        patient_id=lines[0]["patient_id"],
        shifted_date=date.fromisoformat(known[0]) if known else None,
    )


def _patch(attention: float, edges: list[int]) -> Patch:
    top, bottom, left, right = edges
    return Patch(attention, (top, bottom, left, right))
