"""Rows of Table 1 on a store of phantom_store.py, by the product's own training loop, each with its share of the clock.

    python -m benchmarks.gpu.table1_rows --workspace W --budget-s 380 --rows gmic resnet-22 gmic-random

An epoch that would end after the share is not begun; the best epoch by tuning malignant AUROC is scored on the test split.
A line of JSON for each epoch and for each row. What a quarter of an hour can show: that it runs at full size, that the loss
falls, how fast; an AUROC to about 0.05. Not: the order of the rows, or differences below 0.1.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import torch

from benchmarks.network.model_table import Record
from gmic_model.learning.exam_loader import ExamViews, batches_of, loaded
from gmic_model.learning.learner import predict_batches
from gmic_model.learning.processes import ALONE
from gmic_model.metrics.areas import area_interval
from gmic_model.metrics.ranking import Metric, breast_scores
from gmic_model.networks.registry import build_network
from schemas.config.network import TableRow, network_of_row
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS, Split
from schemas.reports.data import SplitCount, SplitReport
from tasks.adapters.models.checkpoints import epoch_dir, load_checkpoint
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.tables.line_texts import data_version
from tasks.adapters.store.views import stored_views
from tasks.adapters.training.process_main import serve
from tasks.adapters.training.request import Purpose, TrainingRequest, said_in
from tasks.adapters.workspace import Workspace

AFTERWARDS_S = 8.0
"""Kept of a row's share for scoring the test split."""


class OutOfTimeError(Exception):
    """Raised where the next epoch would end after the row's share of the clock."""


class Listener(io.TextIOBase):
    """Takes what a training says; keeps its epochs and ends it in time."""

    def __init__(self, deadline_s: float, told: TextIO, row: str) -> None:
        self.deadline_s, self.told, self.row = deadline_s, told, row
        self.epochs: list[dict[str, Any]] = []
        self.last_s = time.monotonic()

    def write(self, text: str) -> int:
        """Notes the epochs and passes them on."""
        for line in text.splitlines():
            message = said_in(line)
            if message is None or message["kind"] != "epoch":
                continue
            now_s = time.monotonic()
            took_s, self.last_s = now_s - self.last_s, now_s
            self.epochs.append({**message["record"], "epoch_s": round(took_s, 2)})
            self.told.write(json.dumps({"epoch_of": self.row, **self.epochs[-1]}) + "\n")
            self.told.flush()
            if now_s + took_s > self.deadline_s:
                raise OutOfTimeError
        return len(text)


def main(given: Sequence[str] | None = None) -> None:
    """Trains and scores row after row."""
    asked = arguments(given)
    workspace = Workspace(asked.workspace.resolve())
    store = open_store(workspace.store_dir)
    manifest = read_manifest(store)
    divided = manifest.merge(pd.read_parquet(workspace.root / "splits.parquet"), on="patient_id")
    splits = SplitReport(
        splits_path=workspace.root / "splits.parquet",
        data_version=data_version(manifest),
        counts={part.value: count(divided[divided["split"] == part.value]) for part in Split},
    )
    begun_s, rows = time.monotonic(), [TableRow(name) for name in asked.rows]
    for number, row in enumerate(rows):
        share_s = (begun_s + asked.budget_s - time.monotonic()) / (len(rows) - number)
        config = config_of(asked, workspace.root, row)
        epochs, checkpoint = trained(config, splits, row, share_s)
        measured = tested(config, divided[divided["split"] == "test"].reset_index(drop=True), checkpoint)
        best = max((epoch for epoch in epochs if epoch["is_best"]), key=lambda epoch: int(epoch["epoch"]))
        record: Record = {
            "row": row.value,
            "epochs": len(epochs),
            "best_epoch": best["epoch"],
            "tuning_malignant": best["tuning_malignant_auroc"],
            "tuning_f1": best["tuning_localization_f1"],
            "train_images_per_s": max(epoch["images_per_s"] for epoch in epochs),
            "epoch_s": min(epoch["epoch_s"] for epoch in epochs),
            "memory_mib": max(epoch["memory_mib"] for epoch in epochs),
            "loss": [round(epoch["train_loss"], 3) for epoch in epochs],
            **measured,
        }
        print(json.dumps(record), flush=True)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=380.0)
    parser.add_argument("--rows", nargs="+", default=["gmic", "resnet-22", "gmic-random"])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--loader-workers", type=int, default=12)
    parser.add_argument("--reader", default="tensorstore")
    return parser.parse_args(given)


def config_of(asked: argparse.Namespace, root: Path, row: TableRow) -> RunConfig:
    """The paper's training of one row, as fast as the card allows."""
    preprocess = read_settings(Workspace(root).store).preprocess
    model = {"image_size": preprocess.window_px}
    if preprocess.window_px[0] < 2000:
        model |= {"patch_size": (64, 64), "K": 3, "top_t": 0.2}
    config = RunConfig.model_validate(
        {
            "name": "table1",
            "workspace_dir": root,
            "ingest": {"source_dir": root},
            "preprocess": preprocess.model_dump(),
            "model": model,
            "train": {
                "epochs": asked.epochs,
                "learning_rate": asked.learning_rate,
                "precision": asked.precision,
                "device": asked.device,
                "loader_workers": asked.loader_workers,
                "prefetch_batches": 4,
                "store_reader": asked.reader,
                "tracking": {"tensorboard": False},
                "keep_checkpoints": 1,
            },
            "evaluate": {"batch_images": 16},
        }
    )
    return config.model_copy(update={"model": network_of_row(config.model, row)})


def count(lines: pd.DataFrame) -> SplitCount:
    """What a split report says of a part."""
    return SplitCount(
        patients=lines["patient_id"].nunique(),
        exams=lines["exam_id"].nunique(),
        images=len(lines),
        benign_breasts=int(lines["benign"].sum()) // 2,
        malignant_breasts=int(lines["malignant"].sum()) // 2,
    )


def trained(config: RunConfig, splits: SplitReport, row: TableRow, share_s: float) -> tuple[list[dict[str, Any]], Path]:
    """The epochs that there was time for, and the best one's checkpoint."""
    run_dir = config.workspace_dir / "train" / row.value
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.mkdir(parents=True)
    request = TrainingRequest(
        purpose=Purpose.TRAIN,
        config=config,
        splits=splits,
        run_dir=run_dir,
        identity=hashlib.sha256(row.value.encode()).hexdigest(),
        about={"provenance": {}},
    )
    heard = Listener(time.monotonic() + share_s - AFTERWARDS_S, sys.stdout, row.value)
    with contextlib.suppress(OutOfTimeError), contextlib.redirect_stdout(heard):
        serve(request, ALONE)
    best = max(int(epoch["epoch"]) for epoch in heard.epochs if epoch["is_best"])
    return heard.epochs, epoch_dir(run_dir, best)


def tested(config: RunConfig, lines: pd.DataFrame, checkpoint: Path) -> Mapping[str, Any]:
    """AUROC of the test split's breasts with intervals, and how fast its images were scored."""
    network = build_network(config.model)
    network.load_state_dict(load_checkpoint(checkpoint).weights)
    device = torch.device(config.train.device)
    network.to(device)
    rows = [int(row) for row in lines["row"]]
    views = stored_views(
        open_store(Workspace(config.workspace_dir).store_dir),
        lines,
        config.preprocess.window_px,
        reader=config.train.store_reader,
    )
    items = ExamViews(rows_of_exam=[(row,) for row in rows], label_by_row=dict.fromkeys(rows, (0, 0)), read_view=views)
    batches = loaded(
        items, batches_of(len(rows), config.evaluate.batch_images), device, threads=config.train.loader_workers, ahead=4
    )
    started_s = time.monotonic()
    score_NC = np.concatenate([output.y_NC.double().numpy() for _, output in predict_batches(network, batches)])
    measured: dict[str, Any] = {"score_images_per_s": len(rows) / (time.monotonic() - started_s)}
    breasts = breast_scores(score_NC, lines["exam_id"].to_numpy(str), lines["laterality"].to_numpy(str))
    patient_B = np.unique(lines["patient_id"].to_numpy(str)[breasts.first_image_B], return_inverse=True)[1]
    for index, finding in enumerate(FINDINGS):
        label_B = lines[finding.value].to_numpy(np.int64)[breasts.first_image_B]
        area = area_interval(Metric.AUROC, breasts.score_BC[:, index], label_B, patient_B, confidence=0.95)
        measured[f"test_{finding.value}"] = [
            None if value is None else round(value, 3) for value in (area.value, area.low, area.high)
        ]
    return measured


if __name__ == "__main__":
    main()
