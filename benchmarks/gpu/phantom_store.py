"""A full-resolution exam store of phantoms without DICOM: drawn, cropped and written in parallel, one process a core.

    python -m benchmarks.gpu.phantom_store --workspace W --exams 600 --workers 16

Needs numpy, OpenCV, pandas, pyarrow, zarr and pydantic; no torch, no Prefect, no pydicom. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from gmic_model.phantom.drawing import VIEWS, draw_view, plan_exam
from gmic_model.preprocess import PreparedView, crop_like, fit_canvas, prepare_view, preprocess_version
from schemas.config.ingest import PreprocessConfig
from schemas.exam import Finding, Laterality, ViewPosition
from schemas.layout import MANIFEST_COLUMNS
from tasks.adapters.store.exam_store import ExamStore, StoredImage, create_store, reserve_rows, write_shard
from tasks.adapters.store.manifest import publish
from tasks.adapters.workspace import Workspace

EXAMS_PER_SHARD = 2
EMPTY: Mapping[str, object] = {"string": "", "bool": False, "int64": 1, "float64": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """What is drawn, as every process is told it.

    Attributes:
        shares: Part of the exams with each finding.
    """

    store: ExamStore
    preprocess: PreprocessConfig
    size_px: tuple[int, int]
    difficulty: float
    shares: Mapping[Finding, float]
    seed: int


def main(given: Sequence[str] | None = None) -> None:
    """Draws, publishes and divides a cohort."""
    asked = arguments(given)
    started_s = time.monotonic()
    full = asked.window[0] > 2000
    preprocess = PreprocessConfig(
        window_px=tuple(asked.window),
        erosion_iterations=100 if full else 5,
        jitter_shift_px=100 if full else 8,
        jitter_size_px=100 if full else 8,
        crop_buffer_px=50 if full else 10,
    )
    workspace = Workspace(asked.workspace.resolve())
    store = create_store(
        workspace.store_dir,
        preprocess=preprocess,
        preprocess_version=preprocess_version(preprocess),
        rows_per_shard=EXAMS_PER_SHARD * len(VIEWS),
        key_id="phantoms",
    )
    reserve_rows(store, len(VIEWS) * asked.exams)
    shares = {Finding.MALIGNANT: asked.malignant, Finding.BENIGN: asked.benign}
    cohort = Cohort(
        store=store,
        preprocess=preprocess,
        size_px=tuple(asked.size),
        difficulty=asked.difficulty,
        shares=shares,
        seed=asked.seed,
    )
    lines = drawn(cohort, asked.exams, asked.workers, started_s + asked.budget_s)
    publish(store, lines, [])
    divide(workspace.root / "splits.parquet", sorted({str(line["patient_id"]) for line in lines}), asked.seed)
    took_s = time.monotonic() - started_s
    positive = {finding.value: sum(int(line[finding.value]) for line in lines) for finding in Finding}
    rate = round(len(lines) / took_s, 1)
    said = {"images": len(lines), "took_s": round(took_s, 1), "images_per_s": rate, "workers": asked.workers}
    print(json.dumps({**said, "positive_images": positive}), flush=True)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--exams", type=int, default=600)
    parser.add_argument("--size", type=int, nargs=2, default=(3328, 2560), help="rows and columns of a drawn image")
    parser.add_argument("--window", type=int, nargs=2, default=(2944, 1920), help="rows and columns of the network's input")
    parser.add_argument("--difficulty", type=float, default=0.2)
    parser.add_argument("--malignant", type=float, default=0.4, help="share of the exams")
    parser.add_argument("--benign", type=float, default=0.3, help="share of the exams")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--budget-s", type=float, default=1e9, help="what is not drawn by then is left out")
    return parser.parse_args(given)


def drawn(cohort: Cohort, exams: int, workers: int, deadline_s: float) -> list[dict[str, Any]]:
    """The manifest's lines, shard by shard in as many processes, until the time is over."""
    lines: list[dict[str, Any]] = []
    starts = range(0, exams, EXAMS_PER_SHARD)
    if workers == 1:
        for start in starts:
            lines += write_exams(cohort, start // EXAMS_PER_SHARD, range(start, min(start + EXAMS_PER_SHARD, exams)))
        return lines
    with ProcessPoolExecutor(workers) as pool:
        waiting: list[Future[list[dict[str, Any]]]] = [
            pool.submit(write_exams, cohort, start // EXAMS_PER_SHARD, range(start, min(start + EXAMS_PER_SHARD, exams)))
            for start in starts
        ]
        for done in as_completed(waiting):
            if done.cancelled():
                continue
            lines += done.result()
            if time.monotonic() > deadline_s:
                for future in waiting:
                    future.cancel()
    return sorted(lines, key=lambda line: int(line["row"]))


def write_exams(cohort: Cohort, shard: int, exams: Sequence[int]) -> list[dict[str, Any]]:
    """Draws and stores the exams of one shard."""
    cv2.setNumThreads(1)
    lines, images = [], []
    for exam in exams:
        found = findings_of(cohort, exam)
        plan = plan_exam(
            image_size_px=cohort.size_px,
            findings=found,
            difficulty=cohort.difficulty,
            patient_rng=np.random.default_rng((cohort.seed, 4, exam)),
            exam_rng=np.random.default_rng((cohort.seed, 5, exam)),
        )
        for number, (side, view) in enumerate(VIEWS):
            view_drawn = draw_view(plan, side, view)
            prepared = fit_canvas(
                prepare_view(view_drawn.pixels_HW, side, view, settings=cohort.preprocess), cohort.preprocess.canvas_px
            )
            mask_HW = crop_like(view_drawn.lesion_mask_HW, prepared.geometry) if found[side] else None
            if mask_HW is not None and not mask_HW.any():
                mask_HW = None
            row = len(VIEWS) * exam + number
            images.append(StoredImage(row=row, pixels_HW=prepared.pixels_HW, mask_HW=mask_HW))
            lines.append(line_of(row, (exam, side, view), prepared, found[side], has_mask=mask_HW is not None))
    write_shard(cohort.store, shard, images)
    return lines


def findings_of(cohort: Cohort, exam: int) -> dict[Laterality, frozenset[Finding]]:
    """Drawn for each exam by itself: which others there are changes nothing."""
    rng = np.random.default_rng((cohort.seed, 0, exam))
    found: dict[Laterality, set[Finding]] = {side: set() for side in Laterality}
    for finding, share in cohort.shares.items():
        if rng.random() < share:
            found[list(Laterality)[int(rng.integers(2))]].add(finding)
    return {side: frozenset(has) for side, has in found.items()}


def line_of(
    row: int,
    image: tuple[int, Laterality, ViewPosition],
    prepared: PreparedView,
    found: frozenset[Finding],
    *,
    has_mask: bool,
) -> dict[str, Any]:
    """What the manifest says of an image."""
    exam, side, view = image
    geometry = prepared.geometry
    top, bottom, left, right = geometry.crop_box_px
    return {column.name: EMPTY.get(column.dtype) for column in MANIFEST_COLUMNS} | {
        "row": row,
        "image_id": f"I{row}",
        "exam_id": f"E{exam:06d}",
        "patient_id": f"P{exam:06d}",
        "laterality": side.value,
        "view_position": view.value,
        "acquisition": "ffdm",
        "benign": int(Finding.BENIGN in found),
        "malignant": int(Finding.MALIGNANT in found),
        "birads": 1,
        "crop_top_px": top,
        "crop_bottom_px": bottom,
        "crop_left_px": left,
        "crop_right_px": right,
        "is_flipped": geometry.is_flipped,
        "scale": geometry.scale,
        "best_center_row_px": geometry.best_center_px[0],
        "best_center_column_px": geometry.best_center_px[1],
        "source_rows_px": geometry.source_shape_px[0],
        "source_columns_px": geometry.source_shape_px[1],
        "stored_rows_px": prepared.pixels_HW.shape[0],
        "stored_columns_px": prepared.pixels_HW.shape[1],
        "tissue_fraction": prepared.tissue_fraction,
        "has_lesion_mask": has_mask,
        "lesion_boxes": None,
    }


def divide(path: Path, patients: Sequence[str], seed: int) -> None:
    """A quarter tests, 15 in a hundred tune, the others train."""
    order = np.random.default_rng((seed, 9)).permutation(len(patients))
    tests, tunes = round(0.25 * len(patients)), max(1, round(0.15 * len(patients)))
    names = ["test"] * tests + ["tuning"] * tunes
    names += ["train"] * (len(patients) - len(names))
    table = pd.DataFrame({"patient_id": [patients[index] for index in order], "split": names})
    table.sort_values("patient_id").to_parquet(path, index=False)


if __name__ == "__main__":
    main()
