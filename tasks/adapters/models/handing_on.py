"""A checkpoint for others: the weights and what is said of them, without the state of their training."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from schemas.errors import CheckpointError, error_name
from tasks.adapters.models.checkpoints import TRAINING, Checkpoint, load_checkpoint
from tasks.adapters.models.model_files import (
    OPERATING_POINTS,
    PATIENTS,
    RECALIBRATION,
    SIDECAR,
    TEMPERATURE,
    WEIGHTS,
    require_new_folder,
    sealed,
)
from tasks.adapters.workspace import aside_of, write_atomically

_HANDED_ON = (WEIGHTS, PATIENTS, RECALIBRATION, OPERATING_POINTS, TEMPERATURE)


def export_checkpoint(source: Path, folder: Path) -> Checkpoint:
    """Copies a checkpoint's folder byte for byte but for its training state; provenance and terms stay with it.

    Raises:
        CheckpointError: The source is no checkpoint or damaged, or there is no room; nothing appears under ``folder`` then.
        ConfigError: There is something under that name.
    """
    checkpoint = load_checkpoint(source)
    require_new_folder(folder)
    aside = aside_of(folder, os.getpid())
    try:
        aside.mkdir(parents=True, mode=0o700)
        for name in _HANDED_ON:
            if (source / name).exists():
                shutil.copyfile(source / name, aside / name)
        digests = {name: digest for name, digest in checkpoint.sidecar["sha256"].items() if name != TRAINING}
        write_atomically(aside / SIDECAR, sealed({**checkpoint.sidecar, "sha256": digests}))
        aside.rename(folder)
    except OSError as trouble:
        raise CheckpointError(
            f"The checkpoint cannot be written to {folder}", got=error_name(trouble), remedy="see that there is room"
        ) from trouble
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return load_checkpoint(folder)
