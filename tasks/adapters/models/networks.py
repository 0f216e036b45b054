"""From a model file to the network with its weights, refused where it is not what was reported or not for these images."""

from __future__ import annotations

from gmic_model.networks.network import FindingsNetwork
from gmic_model.networks.registry import unfilled_network
from schemas.config.network import NetworkConfig, TableRow, network_of_row
from schemas.errors import CheckpointError
from schemas.reports.training import EnsembleMember, TrainReport
from tasks.adapters.models.checkpoints import Checkpoint, load_checkpoint
from tasks.adapters.models.model_files import said_preprocessing


def load_trained(trained: TrainReport, *, preprocessing: str | None = None) -> FindingsNetwork:
    """The network that training reported, and no other.

    Raises:
        CheckpointError: The weights are gone, were altered, are those of another training or of another preprocessing.
    """
    member = EnsembleMember(path=trained.checkpoint_path, sha256=trained.checkpoint_sha256)
    return load_member(member, preprocessing=preprocessing)


def load_member(
    member: EnsembleMember,
    *,
    read_as: TableRow | None = None,
    window_px: tuple[int, int] | None = None,
    preprocessing: str | None = None,
) -> FindingsNetwork:
    """The network of an ensemble's member, and no other.

    Args:
        member: Folder and digest.
        read_as: The row of Table 1 that the weights stand for; None = the one they were trained as.
        window_px: The size of the images to come; None = any.
        preprocessing: Of the images to come, as ``store_preprocessing`` names it; None = any.

    Raises:
        CheckpointError: The weights are gone, were altered, are those of another training, image size or preprocessing.
    """
    return member_network(
        load_checkpoint(member.path), member, read_as=read_as, window_px=window_px, preprocessing=preprocessing
    )


def member_network(
    checkpoint: Checkpoint,
    member: EnsembleMember,
    *,
    read_as: TableRow | None = None,
    window_px: tuple[int, int] | None = None,
    preprocessing: str | None = None,
) -> FindingsNetwork:
    """The same of a checkpoint that was read already.

    Raises:
        CheckpointError: As ``load_member``.
    """
    require_member(checkpoint, member)
    if preprocessing is not None:
        require_preprocessing(checkpoint, preprocessing)
    network = load_network(checkpoint, read_as=read_as)
    image_size = checkpoint.model_config.image_size
    if window_px is not None and image_size != window_px:
        raise CheckpointError(
            f"{member.path} was trained on images of another size",
            expected=f"{window_px[0]} x {window_px[1]} pixels, as preprocess.window_px",
            got=f"{image_size[0]} x {image_size[1]}",
            remedy="evaluate it on a store with its own window",
        )
    return network


def require_member(checkpoint: Checkpoint, member: EnsembleMember) -> None:
    """Refuses weights that are not those that are meant.

    Raises:
        CheckpointError: They are of another training, or were put in their place.
    """
    if checkpoint.sha256 != member.sha256:
        raise CheckpointError(
            f"{member.path} holds other weights than were reported",
            expected=f"sha256 {member.sha256[:12]}...",
            got=f"{checkpoint.sha256[:12]}...",
            remedy="restore the checkpoint, or train again with --force train",
        )


def require_preprocessing(checkpoint: Checkpoint, preprocessing: str) -> None:
    """Refuses images that were made otherwise than those the network was trained on; imported weights name none.

    Raises:
        CheckpointError: Crop mode, version, VOI transform, common pixel spacing or what is done with large breasts differ.
    """
    trained_on = trained_preprocessing(checkpoint, preprocessing)
    if trained_on != preprocessing:
        raise CheckpointError(
            f"{checkpoint.folder} was trained on images of another preprocessing",
            expected=f"crop mode, version, VOI transform, common spacing and fitting {trained_on}",
            got=preprocessing,
            remedy="ingest with the preprocess section of its checkpoint.json into a new workspace_dir, or train on this store",
        )


def trained_preprocessing(checkpoint: Checkpoint, wanted: str) -> str:
    """What the images were made with that a network was trained on; as wanted, where its sidecar does not say."""
    return said_preprocessing(checkpoint.sidecar, wanted)


def load_network(checkpoint: Checkpoint, *, read_as: TableRow | None = None) -> FindingsNetwork:
    """The network with its weights.

    Raises:
        CheckpointError: The weights are not those of the network that the checkpoint describes.
    """
    config = checkpoint.model_config
    if read_as is not None:
        config = _of_row(checkpoint, read_as)
    network = unfilled_network(config)
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as misfit:
        raise CheckpointError(
            f"The weights of {checkpoint.folder} do not fit the network it describes",
            expected=f"the tensors of a {config.title} network",
            got=f"{len(checkpoint.weights)} tensors of other names or shapes",
            remedy="use a checkpoint whose checkpoint.json was not edited",
        ) from misfit
    return network


def _of_row(checkpoint: Checkpoint, row: TableRow) -> NetworkConfig:
    try:
        return network_of_row(checkpoint.model_config, row)
    except ValueError as other:
        raise CheckpointError(
            f"The weights of {checkpoint.folder} do not stand for this row of Table 1",
            expected=f"a network that can be read as {row.value}",
            got=checkpoint.model_config.title,
            remedy="leave out evaluate.read_as, or name the row's own weights",
        ) from other
