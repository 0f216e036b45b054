"""Where a result comes from: code version, digests of config and files, the time, a reason. The clock of tasks is read here."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from gmic_model.preprocess import preprocess_version
from schemas.config.ingest import PreprocessConfig
from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.reports.data import SplitReport
from schemas.reports.report import Provenance

_LONGEST_TEXT: Final = 500


def provenance(config: RunConfig, splits: SplitReport, *, seed: int) -> Provenance:
    """What every result carries.

    Raises:
        StoreError: The table of splits is gone.
    """
    return Provenance(
        code_version=version("mammography-gmic"),
        config_sha256=config.sha256(),
        data_version=splits.data_version,
        preprocess_version=config_preprocessing(config.preprocess),
        seed=seed,
        created_utc=now().isoformat(timespec="seconds"),
        splits_sha256=file_sha256(splits.splits_path),
    )


def now() -> datetime:
    """The clock of every report, UTC."""
    return datetime.now(UTC)


def file_sha256(path: Path) -> str:
    """Digest of a file.

    Raises:
        StoreError: It is gone, or cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as missing:
        raise StoreError(
            f"{path} cannot be read", got=missing.strerror, remedy="restore its folder from a backup, or run its stage again"
        ) from missing


def config_preprocessing(config: PreprocessConfig) -> str:
    """Crop mode, version and VOI transform of what this version makes, as checkpoints say it."""
    return f"{config.crop_mode.value}-{preprocess_version(config)}"


def cleaned_text(text: str) -> str:
    """What a person gave as a reason or a name, as it is kept: one line, not endless."""
    return "".join(character for character in text if character.isprintable()).strip()[:_LONGEST_TEXT]
