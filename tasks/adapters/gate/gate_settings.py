"""How the files of a run are read: one record that jobs and messages carry, made of the config in one place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.config.ingest import GateLimits
from tasks.adapters.datasets.named_subjects import NamedSubject, read_subjects, subjects_version
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.workspace import Workspace

if TYPE_CHECKING:  # the gate's child imports this module, and needs none of the other sections
    from schemas.config.run import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What the gate must know besides the file.

    Attributes:
        source_dir: The folder that was searched.
        profile: Name of what the data set is allowed.
        key_path: The key of the pseudonyms.
        key_id: Names it: another key that was put there meanwhile makes no pseudonym. ``""`` where there is no store yet.
        limits: What reading one file may take.
        image_types: Values of ImageType that the site's plain mammograms have besides.
        subjects_csv: The table that says whom and what each file shows; None = the headers do.
    """

    source_dir: Path
    profile: str
    key_path: Path
    key_id: str = ""
    limits: GateLimits = field(default_factory=GateLimits)
    image_types: tuple[str, ...] = ()
    subjects_csv: Path | None = None

    @property
    def refuses_under(self) -> str:
        """What a refusal depends on besides the file: it is settled under this, and under another the file is read again."""
        limits = f"{self.limits.timeout_s:g}s {self.limits.memory_bytes >> 20}MiB"
        parts = (self.profile, limits, rules_version(), *sorted(self.image_types), subjects_version(self.subjects_csv))
        return " ".join(filter(None, parts))

    def named(self, path: Path) -> NamedSubject | None:
        """What the table says of a file; None = there is no table, or it does not name the file.

        Raises:
            LabelError: The table cannot be read.
        """
        if self.subjects_csv is None or not path.is_relative_to(self.source_dir):
            return None
        return read_subjects(self.subjects_csv).by_path.get(path.relative_to(self.source_dir).as_posix())


_DECIDING_PACKAGES: Final = (
    "gmic_model", "gmic_model.pixels", "tasks.adapters.datasets", "tasks.adapters.datasets.sets", "tasks.adapters.dicom",
    "tasks.adapters.gate", "tasks.adapters.gate.rules",
)  # fmt: skip
_DECIDING_LIBRARIES: Final = ("imagecodecs", "numpy", "opencv-python-headless", "pydicom", "pyjpegls")


@cache
def rules_version() -> str:
    """Digest of all that decides whether a file is refused: the sources of gate, decoders and profiles, and their libraries.

    An upgrade changes it, so what an older version refused is read again; nobody has to remember to raise a number.
    """
    digest = hashlib.sha256()
    for package in _DECIDING_PACKAGES:
        for source in sorted(files(package).iterdir(), key=lambda entry: entry.name):
            if source.name.endswith(".py"):
                digest.update(source.read_bytes())
    for library in _DECIDING_LIBRARIES:
        digest.update(f"{library} {_version(library)}".encode())
    return digest.hexdigest()[:12]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # installed without its metadata, or as another build
        return ""


def gate_settings(config: RunConfig) -> GateSettings:
    """The settings of a run."""
    store = Workspace(config.workspace_dir).store
    return GateSettings(
        source_dir=config.ingest.source_dir,
        profile=config.ingest.profile,
        key_path=Workspace(config.workspace_dir).key_path,
        key_id=read_settings(store).pseudonym_key_id if store.settings_path.exists() else "",
        limits=config.ingest.gate_limits,
        image_types=config.ingest.image_types,
        subjects_csv=config.ingest.subjects_csv,
    )
