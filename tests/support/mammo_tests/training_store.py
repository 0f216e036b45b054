"""A small exam store with its splits, made without files to read: for tests of what trains on one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmic_model.preprocess import preprocess_version
from schemas.config.network import TableRow, network_of_row
from schemas.config.run import RunConfig
from schemas.exam import Split
from schemas.layout import MANIFEST_COLUMNS
from schemas.reports.data import IngestReport, SplitCount, SplitReport
from tasks.adapters.models.model_files import SIDECAR
from tasks.adapters.store.exam_store import StoredImage, create_store, reserve_rows, write_shard
from tasks.adapters.store.manifest import publish, read_manifest
from tasks.adapters.store.tables.line_texts import data_version
from tasks.adapters.training.request import Purpose, TrainingRequest
from tasks.adapters.workspace import Workspace

WINDOW_PX = (192, 128)
VIEWS = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))

EVERY_OPTION: dict[str, Any] = {
    "augment": {
        "flip_cc": 0.5, "rotation_deg": 10, "scaling": 0.1, "gamma": 0.3, "contrast": 0.2, "noise": 0.1, "mixup": 0.4,
        "drop_views": 0.2, "drop_breasts": 0.2,
    },
    "recipe": {
        "weight_decay": 0.1, "schedule": "plateau", "plateau_epochs": 1, "batch_norm": "remeasured", "remeasured_exams": 2,
    },
    "parts": {"localization": {"learning_rate": 5e-4, "frozen_epochs": 2}, "frozen_statistics": "keep"},
    "labels": {"smoothing": 0.1, "benign_weight": 2.0, "malignant_weight": 3.0},
}  # fmt: skip
"""What a training can do beyond the paper, all of it at once."""


def small_config(workspace: Path, **train: Any) -> RunConfig:
    """A network of 3 x 2 saliency cells on images of 192 x 128 pixels."""
    return RunConfig.model_validate(
        {
            "name": "small",
            "workspace_dir": workspace,
            "ingest": {"source_dir": workspace / "none"},
            "preprocess": {"window_px": WINDOW_PX, "jitter_shift_px": 4, "jitter_size_px": 0},
            "model": {"image_size": WINDOW_PX, "patch_size": (32, 32), "K": 2, "top_t": 0.3, "local_dim": 8},
            "train": {
                "epochs": 3,
                "batch_exams": 2,
                "learning_rate": 1e-3,
                "num_threads": 1,
                "device": "cpu",
                "tracking": {"tensorboard": False},
                **train,
            },
        }
    )


def with_baseline(config: RunConfig) -> RunConfig:
    """The same with Table 1's ResNet-22, the quickest network."""
    return config.model_copy(update={"model": network_of_row(config.model, TableRow.RESNET22)})


def make_store(
    config: RunConfig, *, exams: int = 12, with_masks: bool = True, malignant_every: int = 3, key_id: str = "key"
) -> SplitReport:
    """Exams of four views of noise; every third has a bright square and a malignant label in its left breast.

    Two thirds of the exams train, the rest tunes.
    """
    store = create_store(
        Workspace(config.workspace_dir).store_dir,
        preprocess=config.preprocess,
        preprocess_version=preprocess_version(config.preprocess),
        rows_per_shard=4,
        key_id=key_id,
        url=config.ingest.store,
    )
    reserve_rows(store, 4 * exams)
    lines: list[dict[str, Any]] = []
    for exam in range(exams):
        rng = np.random.default_rng(exam)
        images = []
        for view, (laterality, position) in enumerate(VIEWS):
            row = 4 * exam + view
            is_malignant = exam % malignant_every == 0 and laterality == "L"
            crop_HW = rng.integers(100, 400, WINDOW_PX, dtype=np.uint16)
            if is_malignant:
                crop_HW[64:128, 32:96] += 2000
            mask_HW = None
            if is_malignant and with_masks:
                mask_HW = np.zeros(WINDOW_PX, np.uint8)
                mask_HW[64:128, 32:96] = 2
            images.append(StoredImage(row=row, pixels_HW=crop_HW, mask_HW=mask_HW))
            lines.append(_line(row, exam, laterality, position, is_malignant, has_mask=mask_HW is not None))
        write_shard(store, exam, images)
    publish(store, lines, [])
    tuning = (0, 3, 7, 11)  # of each twelve: two with the square, two without
    parts = [Split.TUNING if exam % 12 in tuning else Split.TRAIN for exam in range(exams)]
    report = divided(config.workspace_dir / "split" / "splits.parquet", parts, data_version(read_manifest(store)))
    report.splits_path.with_name("report.json").write_text(report.model_dump_json())
    Workspace(config.workspace_dir).write_report("ingest", ingested(store.folder, report.data_version, exams))
    return report


def ingested(store_dir: Path, version: str, exams: int) -> IngestReport:
    """What the ingest of as many exams would have said."""
    return IngestReport(
        store_dir=store_dir,
        data_version=version,
        files_found=4 * exams,
        images_published=4 * exams,
        images_new=4 * exams,
        exams=exams,
        exams_incomplete=0,
        quarantined_by_reason={},
        warnings_by_rule={},
        labelled_breasts=2 * exams,
        orphan_labels=0,
        unlabelled_breasts=0,
    )


def divided(path: Path, parts: Sequence[Split], version: str) -> SplitReport:
    """The store's patients in these splits, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patients = [f"P{exam:03d}" for exam in range(len(parts))]
    pd.DataFrame({"patient_id": patients, "split": [part.value for part in parts]}).to_parquet(path, index=False)
    counts = {
        part.value: SplitCount(patients=size, exams=size, images=4 * size, benign_breasts=0, malignant_breasts=1)
        for part in Split
        for size in [parts.count(part)]
    }
    return SplitReport(splits_path=path, data_version=version, counts=counts)


def few_exams(path: Path, version: str) -> SplitReport:
    """Of the first twelve exams four train and two tune, with the square in half of them."""
    split_of = dict.fromkeys((1, 2, 6, 9), Split.TRAIN) | dict.fromkeys((0, 7), Split.TUNING)
    return divided(path, [split_of.get(exam, Split.TEST) for exam in range(12)], version)


def request(config: RunConfig, splits: SplitReport, **changes: Any) -> TrainingRequest:
    """A training request for the store; its identity follows from the config."""
    content: dict[str, Any] = {
        "purpose": Purpose.TRAIN,
        "config": config,
        "splits": splits,
        "run_dir": config.workspace_dir / "train" / "run",
        "identity": hashlib.sha256((config.model.sha256() + config.train.identity()).encode()).hexdigest(),
        "about": {"provenance": {"seed": 0}},
        **changes,
    }
    return TrainingRequest(**content)


def _line(row: int, exam: int, laterality: str, position: str, is_malignant: bool, *, has_mask: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        column.name: {"string": "", "bool": False, "int64": 1, "float64": 0.5}.get(column.dtype) for column in MANIFEST_COLUMNS
    }
    return values | {
        "row": row,
        "image_id": f"I{row:04d}",
        "pixel_sha256": f"{row:064x}",
        "source_sha256": f"{row:064x}",
        "exam_id": f"E{exam:03d}",
        "patient_id": f"P{exam:03d}",
        "laterality": laterality,
        "view_position": position,
        "benign": 0,
        "malignant": int(is_malignant),
        "birads": 0 if is_malignant else 1 + exam % 2,
        "density": "abcd"[exam // 4 % 4] if exam % 5 else "",
        "has_lesion_mask": has_mask,
        "lesion_boxes": None,
        "source_rows_px": WINDOW_PX[0],
        "source_columns_px": WINDOW_PX[1],
        "crop_top_px": 0,
        "crop_bottom_px": WINDOW_PX[0],
        "crop_left_px": 0,
        "crop_right_px": WINDOW_PX[1],
        "is_flipped": False,
        "scale": 1.0,
        "best_center_row_px": WINDOW_PX[0] // 2,
        "best_center_column_px": WINDOW_PX[1] // 2,
        "stored_rows_px": WINDOW_PX[0],
        "stored_columns_px": WINDOW_PX[1],
    }


def curve(run_dir: Path) -> list[dict[str, Any]]:
    """The epochs that the newest checkpoint tells of, without what depends on the machine. Its weights are not looked at."""
    newest = max(run_dir.glob(f"epoch-*/{SIDECAR}"), default=None)
    epochs = [] if newest is None else json.loads(newest.read_bytes())["epochs"]
    return [{name: value for name, value in epoch.items() if name not in ("images_per_s", "memory_mib")} for epoch in epochs]
