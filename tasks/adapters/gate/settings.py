"""How the files of a run are read: one record that jobs and messages carry, made of the config in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from schemas.config.ingest import GateLimits
from schemas.config.run import RunConfig
from tasks.adapters.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What the gate must know besides the file.

    Attributes:
        source_dir: The folder that was searched.
        profile: Name of what the data set is allowed.
        key_path: The key of the pseudonyms.
        limits: What reading one file may take.
    """

    source_dir: Path
    profile: str
    key_path: Path
    limits: GateLimits = field(default_factory=GateLimits)


def gate_settings(config: RunConfig) -> GateSettings:
    """The settings of a run."""
    return GateSettings(
        source_dir=config.ingest.source_dir,
        profile=config.ingest.profile,
        key_path=Workspace(config.workspace_dir).key_path,
        limits=config.ingest.gate_limits,
    )
