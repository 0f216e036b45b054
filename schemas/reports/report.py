"""What reports are made of: the frozen record, an estimate with its interval, a measured field, where a result comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, SerializationInfo, ValidationInfo


class Report(BaseModel):
    """Frozen; equal results give equal reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Anchor:
    """The context in which a report is read from its file and written to it: a path inside the folder is relative to it.

    Attributes:
        folder: Whole path of the folder that is moved as one: the workspace.
        aliases: What the folder is or was called elsewhere: paths below these are paths inside it too.
    """

    folder: Path
    aliases: tuple[Path, ...] = ()

    def relative(self, path: Path) -> Path:
        """A path as a file holds it; one that leads out of the folder stays whole."""
        return next((path.relative_to(root) for root in (self.folder, *self.aliases) if path.is_relative_to(root)), path)

    def whole(self, path: Path) -> Path:
        """What ``relative`` was made of, in the folder as it is called now."""
        return self.folder / self.relative(path)


def _read(path: Path, info: ValidationInfo) -> Path:
    return info.context.whole(path) if isinstance(info.context, Anchor) else path


def _written(path: Path, info: SerializationInfo) -> str:
    return (info.context.relative(path) if isinstance(info.context, Anchor) else path).as_posix()


ReportPath = Annotated[Path, AfterValidator(_read), PlainSerializer(_written, return_type=str, when_used="json")]
"""A file or folder that a report names: whole in memory, relative to the workspace in the report's file."""


class Interval(Report):
    """An estimate with its bootstrap interval; None = not defined on this data (one class only)."""

    value: float | None
    low: float | None
    high: float | None


def measured(title: str, meaning: str, *, digits: int = 3, default: Any = ...) -> Any:
    """A field that the report page draws by itself, because it exists.

    Args:
        title: What the page calls it.
        meaning: A sentence on what it says, printed beside it.
        digits: Decimals shown.
        default: Of reports that were written before the field existed.
    """
    return Field(default, title=title, description=meaning, json_schema_extra={"digits": digits})


class Provenance(Report):
    """Where a result comes from."""

    code_version: str
    config_sha256: str
    data_version: str = Field(description="sha256 over the published images, labels and splits it was made from")
    preprocess_version: str
    seed: int
    created_utc: str
