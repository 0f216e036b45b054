"""A trained network over store rows: scores, saliency and patches, for evaluate, explain and predict alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from gmic_model.dataset import ExamViews, join_exams
from gmic_model.fit import predict_batches
from gmic_model.model import GMIC
from schemas.config import TrainConfig
from schemas.exam import FINDINGS
from tasks.adapters.checkpoints import Checkpoint
from tasks.adapters.exam_store import StoredViews


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredView:
    """The network's outputs for one view.

    Attributes:
        score_C: ``y`` per finding.
        saliency_CIJ: Saliency maps.
        corner_K2: Upper left (row, column) of each patch in the window, pixels.
        attention_K: Attention of each patch.
    """

    row: int
    score_C: NDArray[np.float64]
    saliency_CIJ: NDArray[np.float32]
    corner_K2: NDArray[np.int64]
    attention_K: NDArray[np.float32]


def choose_device(config: TrainConfig) -> torch.device:
    """The device the config asks for; ``auto`` takes a GPU where there is one."""
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def load_network(checkpoint: Checkpoint) -> GMIC:
    """The network with its weights."""
    network = GMIC(checkpoint.model_config)
    network.load_state_dict(checkpoint.weights)
    return network


def score_rows(
    network: GMIC, views: StoredViews, rows: Sequence[int], *, batch_images: int, device: torch.device
) -> Iterator[ScoredView]:
    """Runs the network over rows of the store, in order."""
    single_views = ExamViews(
        rows_of_exam=[(row,) for row in rows],
        label_by_row={row: (0,) * len(FINDINGS) for row in rows},
        read_view=views,
    )
    network.to(device)
    starts = range(0, len(rows), batch_images)
    batches = (
        join_exams([single_views[index] for index in range(start, min(start + batch_images, len(rows)))]) for start in starts
    )
    for batch, output in predict_batches(network, batches, device):
        for index, row in enumerate(batch.row_N.tolist()):
            yield ScoredView(
                row=row,
                score_C=output.y_NC[index].double().numpy(),
                saliency_CIJ=output.saliency_NCIJ[index].numpy(),
                corner_K2=output.corner_NK2[index].long().numpy(),
                attention_K=output.attention_NK[index].numpy(),
            )


def score_table(manifest: pd.DataFrame, scored: Sequence[ScoredView]) -> pd.DataFrame:
    """One line per image: ids, labels and ``<finding>_score``."""
    scores = pd.DataFrame(
        [[view.row, *view.score_C.tolist()] for view in scored],
        columns=["row", *(f"{finding.value}_score" for finding in FINDINGS)],
    )
    kept = ["row", "image_id", "exam_id", "patient_id", "laterality", "view_position", "benign", "malignant", "gate_warnings"]
    return manifest[kept].merge(scores, on="row")
