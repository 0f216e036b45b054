"""A trained network over store rows: scores, saliency and patches, for evaluate, explain and predict alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.dataset import ExamViews
from gmic_model.fit import Device, predict_batches, view_batches
from gmic_model.model import GMIC
from schemas.errors import CheckpointError
from schemas.exam import FINDINGS
from schemas.reports import TrainReport
from tasks.adapters.checkpoints import Checkpoint, load_checkpoint
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


def load_trained(trained: TrainReport) -> GMIC:
    """The network that training reported, and no other.

    Raises:
        CheckpointError: The weights are gone, were altered, or are those of another training.
    """
    checkpoint = load_checkpoint(trained.checkpoint_path)
    if checkpoint.sha256 != trained.checkpoint_sha256:
        raise CheckpointError(
            f"{trained.checkpoint_path} holds other weights than training reported",
            expected=f"sha256 {trained.checkpoint_sha256[:12]}...",
            got=f"{checkpoint.sha256[:12]}...",
            remedy="restore the checkpoint, or train again with --force train",
        )
    return load_network(checkpoint)


def load_network(checkpoint: Checkpoint) -> GMIC:
    """The network with its weights.

    Raises:
        CheckpointError: The weights are not those of the network that the checkpoint describes.
    """
    network = GMIC(checkpoint.model_config)
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as misfit:
        raise CheckpointError(
            f"The weights of {checkpoint.folder} do not fit the network it describes",
            expected=f"the tensors of a {checkpoint.model_config.variant.value} network",
            got=f"{len(checkpoint.weights)} tensors of other names or shapes",
            remedy="use a checkpoint whose checkpoint.json was not edited",
        ) from misfit
    return network


def score_rows(
    network: GMIC, views: StoredViews, rows: Sequence[int], *, batch_images: int, device: Device
) -> Iterator[ScoredView]:
    """Runs the network over rows of the store, in order."""
    single_views = ExamViews(
        rows_of_exam=[(row,) for row in rows],
        label_by_row={row: (0,) * len(FINDINGS) for row in rows},
        read_view=views,
    )
    network.to(device)
    for batch, output in predict_batches(network, view_batches(single_views, batch_images), device):
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
