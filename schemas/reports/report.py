"""What reports are made of: the frozen record, an estimate with its interval, a measured field, where a result comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, SerializationInfo, ValidationInfo
from pydantic.fields import FieldInfo

ADDED_TO_REPORT: dict[str, Any] = {"added_later": True}
"""``json_schema_extra`` of a report's field that a release did not have: see ``Report.said``."""


class Report(BaseModel):
    """Frozen; equal results give equal reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def said(self) -> str:
        """The report as JSON for keys: fields that were added after a release are left out while they have their default.

        So what was made of a former release's report is still recognised as made of this one, which is that report read again.
        """
        return self.model_dump_json(exclude=_added_at_default(self))


def _added_at_default(value: object) -> dict[Any, Any]:
    """What ``said`` leaves out, as pydantic's ``exclude`` takes it."""
    parts: dict[Any, Any]
    if isinstance(value, Report):
        fields = type(value).model_fields
        parts = {name: getattr(value, name) for name in fields}
        added = {name for name, field in fields.items() if "added_later" in _extra(field)}
        left_out = {name for name in added if parts[name] == fields[name].get_default(call_default_factory=True)}
    elif isinstance(value, tuple | dict):
        parts, left_out = dict(value) if isinstance(value, dict) else dict(enumerate(value)), set()
    else:
        return {}
    inside = {name: found for name, part in parts.items() if name not in left_out and (found := _added_at_default(part))}
    return {**inside, **dict.fromkeys(left_out, True)}


def _extra(field: FieldInfo) -> dict[str, Any]:
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


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
    """An estimate with its interval over patients.

    ``value`` None = not defined on this data (one class only); ``low`` and ``high`` None = too few patients for an interval.
    """

    value: float | None
    low: float | None
    high: float | None


def measured(title: str, meaning: str, *, digits: int = 3, default: Any = ..., is_added: bool = False) -> Any:
    """A field that the report page draws by itself, because it exists.

    Args:
        title: What the page calls it.
        meaning: A sentence on what it says, printed beside it.
        digits: Decimals shown.
        default: Of reports that were written before the field existed.
        is_added: True if a release had no such field: see ``Report.said``.
    """
    extra = {"digits": digits, **(ADDED_TO_REPORT if is_added else {})}
    return Field(default, title=title, description=meaning, json_schema_extra=extra)


class Provenance(Report):
    """Where a result comes from."""

    code_version: str
    config_sha256: str
    data_version: str = Field(description="sha256 over the published images and labels it was made from")
    preprocess_version: str
    seed: int
    created_utc: str
    splits_sha256: str = Field("", description="SHA-256 of the table of splits; empty in what a former release made")
