"""A trained network over store rows: scores, saliency and patches, for evaluate, explain and predict alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmic_model.learning.batches import ExamViews, batches_of, loaded
from gmic_model.learning.learner import Device, predict_batches
from gmic_model.model import GMIC, GMICOutput
from gmic_model.preprocess import PreparedView
from schemas.config.network import GMICVariant
from schemas.errors import CheckpointError
from schemas.exam import FINDINGS
from schemas.reports.training import EnsembleMember, TrainReport
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.models.checkpoints import Checkpoint, load_checkpoint
from tasks.adapters.store.views import StoredViews

_READING_THREADS = 2  # they read the next batch while the network has this one


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


def load_trained(trained: TrainReport, *, preprocessing: str | None = None) -> GMIC:
    """The network that training reported, and no other.

    Raises:
        CheckpointError: The weights are gone, were altered, are those of another training or of another preprocessing.
    """
    member = EnsembleMember(path=trained.checkpoint_path, sha256=trained.checkpoint_sha256)
    return load_member(member, preprocessing=preprocessing)


def load_member(
    member: EnsembleMember,
    *,
    read_as: GMICVariant | None = None,
    window_px: tuple[int, int] | None = None,
    preprocessing: str | None = None,
) -> GMIC:
    """The network of an ensemble's member, and no other.

    Args:
        member: Folder and digest.
        read_as: The row of Table 1 that the weights stand for; None = the one they were trained as.
        window_px: The size of the images to come; None = any.
        preprocessing: Of the images to come, as ``store_preprocessing`` names it; None = any.

    Raises:
        CheckpointError: The weights are gone, were altered, are those of another training, image size or preprocessing.
    """
    checkpoint = load_checkpoint(member.path)
    if checkpoint.sha256 != member.sha256:
        raise CheckpointError(
            f"{member.path} holds other weights than were reported",
            expected=f"sha256 {member.sha256[:12]}...",
            got=f"{checkpoint.sha256[:12]}...",
            remedy="restore the checkpoint, or train again with --force train",
        )
    if preprocessing is not None:
        require_preprocessing(checkpoint, preprocessing)
    network = load_network(checkpoint, read_as=read_as)
    if window_px is not None and network.config.image_size != window_px:
        raise CheckpointError(
            f"{member.path} was trained on images of another size",
            expected=f"{window_px[0]} x {window_px[1]} pixels, as preprocess.window_px",
            got=f"{network.config.image_size[0]} x {network.config.image_size[1]}",
            remedy="evaluate it on a store with its own window",
        )
    return network


def require_preprocessing(checkpoint: Checkpoint, preprocessing: str) -> None:
    """Refuses images that were made otherwise than those the network was trained on; imported weights name none.

    Raises:
        CheckpointError: Crop mode, version or VOI transform differ.
    """
    trained_on = str(checkpoint.sidecar.get("provenance", {}).get("preprocess_version", preprocessing))
    if trained_on != preprocessing:
        raise CheckpointError(
            f"{checkpoint.folder} was trained on images of another preprocessing",
            expected=f"crop mode, version and VOI transform {trained_on}",
            got=preprocessing,
            remedy="ingest with the preprocess section of its checkpoint.json into a new workspace_dir, or train on this store",
        )


def load_network(checkpoint: Checkpoint, *, read_as: GMICVariant | None = None) -> GMIC:
    """The network with its weights.

    Raises:
        CheckpointError: The weights are not those of the network that the checkpoint describes.
    """
    config = checkpoint.model_config
    network = GMIC(config if read_as is None else config.model_copy(update={"variant": read_as}))
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as misfit:
        raise CheckpointError(
            f"The weights of {checkpoint.folder} do not fit the network it describes",
            expected=f"the tensors of a {network.config.variant.value} network",
            got=f"{len(checkpoint.weights)} tensors of other names or shapes",
            remedy="use a checkpoint whose checkpoint.json was not edited",
        ) from misfit
    return network


def score_rows(
    network: GMIC, views: StoredViews, rows: Sequence[int], *, batch_images: int, device: Device
) -> Iterator[ScoredView]:
    """Runs the network over rows of the store, in order."""
    for (view,) in score_rows_of_each([network], views, rows, batch_images=batch_images, device=device):
        yield view


def score_rows_of_each(
    networks: Sequence[GMIC], views: Callable[[int], PreparedView], rows: Sequence[int], *, batch_images: int, device: Device
) -> Iterator[tuple[ScoredView, ...]]:
    """Runs several networks over rows of the store, in order; each image is read and prepared once."""
    single_views = ExamViews(
        rows_of_exam=[(row,) for row in rows],
        label_by_row={row: (0,) * len(FINDINGS) for row in rows},
        read_view=views,
    )
    keep_freed_memory()
    for network in networks:
        network.to(device)
    for batch in loaded(single_views, batches_of(len(rows), batch_images), device, threads=_READING_THREADS, ahead=1):
        outputs = [output for network in networks for _, output in predict_batches(network, [batch])]
        for index, row in enumerate(batch.row_N.tolist()):
            yield tuple(_view_of(output, index, row) for output in outputs)


# ---------------------------------------------------------------------------------------------------------------------


def _view_of(output: GMICOutput, index: int, row: int) -> ScoredView:
    return ScoredView(
        row=row,
        score_C=output.y_NC[index].double().numpy(),
        saliency_CIJ=output.saliency_NCIJ[index].numpy(),
        corner_K2=output.corner_NK2[index].long().numpy(),
        attention_K=output.attention_NK[index].numpy(),
    )
