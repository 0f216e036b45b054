"""The pages on what a YAML file may say and on what a store holds, written from the types themselves."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from enum import Enum
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas import layout
from schemas.config.run import RunConfig
from schemas.config.section import Config
from schemas.config.service import ServiceConfig
from schemas.layout import MANIFEST_COLUMNS, OPTIONAL_COLUMNS, Column, Severity

_LIMITS: Final = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
_PLAIN: Final[Mapping[Any, str]] = {bool: "true or false", int: "whole number", float: "number", str: "text", date: "date"}


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)


def fields_by_path(model: type[Config], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a config with its path; a section with several forms has the fields of each."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        for section in sections_of(field.annotation):
            yield from fields_by_path(section, f"{prefix}{name}.")


def sections_of(annotation: Any) -> list[type[Config]]:
    """The sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def config_page() -> str:
    """``docs/reference/config.md``."""
    head = """# Configuration

This page is written from `schemas/config` by `make reference`. A run is one YAML file; `mammo configs` lists the
shipped ones, and every key that is left out has its default. A misspelt key is an error.
Paths are relative to the folder in which the command is given. `train.epochs` is the field `epochs` of the section
`train`, and is written `train: {epochs: 30}`.

"""
    run = _section("A run", RunConfig, "")
    service = _section("A workstation", ServiceConfig, "")
    told = "The file of `mammo serve --service FILE` and `mammo deploy --service FILE`.\n\n"
    return head + run + service.replace("\n\n", f"\n\n{told}", 1)


def store_layout_page() -> str:
    """``docs/reference/store-layout.md``."""
    files = (layout.__doc__ or "").split("\n\n", 2)[2].rstrip()
    drawing = "\n".join(line.removeprefix("    ") for line in files.splitlines())
    columns = table(
        ("column", "type", "meaning", "from", "for example", "must hold", "if not"),
        (
            (
                f"`{column.name}`",
                column.dtype,
                column.description,
                column.source.value,
                _example(column),
                _demands(column),
                _severity(column),
            )
            for column in (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS)
        ),
    )
    watched = table(
        ("column", "compared by"),
        (
            (f"`{name}`", {"category": "category", "number": "tenths"}[watch.value])
            for name, watch in layout.WATCHED_COLUMNS.items()
        ),
    )
    bits = ", ".join(f"{bit} {finding.value}" for finding, bit in layout.MASK_BITS.items())
    names = textwrap.fill(", ".join(f"`{column.name}`" for column in OPTIONAL_COLUMNS), 99)
    return f"""# The exam store

This page is written from `schemas/layout.py` by `make reference`. It describes layout version {layout.STORE_VERSION}.

```
{drawing}
```

Lesion masks add up bits: {bits}. A canvas is the network's window and every pixel
that train-time jitter can reach.

## The manifest's columns

A value that breaks a *critical* demand stops `mammo validate`; a *warning* goes into the report. A column that
may be empty has no value where the source had none. Only while an image of
the manifest needs them there are
{names};
where one is absent it is 0 in every line, or empty if it may be. *From* says who knows it: the
header as it is, the gate's record of it, the crop, the labels and boxes files, or the ledger. A
further column: [how-to](../how-to/add-a-manifest-column.md).

{columns}
## Columns that are watched from ingest to ingest

{watched}
## The table of splits

`split/splits.parquet` has the columns {" and ".join(f"`{name}`" for name in layout.SPLIT_NAMES)}.
"""


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/reference/config.md": config_page,
    "docs/reference/store-layout.md": store_layout_page,
}


def _section(title: str, model: type[Config], prefix: str) -> str:
    about = " ".join((model.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")
    rows = [
        (
            f"`{prefix}{name}`",
            _words(field.annotation, field.metadata),
            _default(field),
            (field.description or "").replace("<", "&lt;"),
        )
        for name, field in model.model_fields.items()
    ]
    text = f"## {title}\n\n{about}\n\n" + table(("field", "type", "default", "meaning"), rows) + "\n"
    for name, field in model.model_fields.items():
        forms = sections_of(field.annotation)
        for form in forms:
            kind = form.model_fields.get("kind")
            which = f", kind {get_args(kind.annotation)[0]}" if kind is not None and len(forms) > 1 else ""
            key = (".<path>." if name == "ranges" else ".<name>.") if get_origin(field.annotation) is dict else "."
            text += _section(f"`{prefix}{name}`{which}", form, f"{prefix}{name}{key}")
    return text


def _words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words, with its limits."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(parts[0], [*parts[1:], *metadata])
    if isinstance(annotation, UnionType) or origin is Union:
        some = [part for part in parts if part is not type(None)]
        sections = sections_of(annotation)
        words = "section" if sections else " or ".join(_words(part, metadata) for part in some)
        return words + (" or null" if len(some) < len(parts) else "")
    if origin is Literal:
        return _one_of(parts)
    if origin is tuple:
        return f"list of {_words(parts[0])}" if parts[-1] is ... else f"{len(parts)} values: {_words(parts[0])}"
    if origin is dict:
        return f"mapping of {_words(parts[0])} to {_words(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _one_of([member.value for member in annotation])
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "section"
    plain = "path" if isinstance(annotation, type) and issubclass(annotation, PurePath) else _PLAIN[annotation]
    return plain + _limits(list(metadata))


def _one_of(values: Iterable[Any]) -> str:
    return " or ".join(f"`{value}`" for value in values)


def _limits(metadata: list[Any]) -> str:
    """Constraints stand in the metadata itself or in that of a nested field."""
    nested = [inner for each in metadata for inner in getattr(each, "metadata", [])]
    found = []
    for key, word in _LIMITS:
        values = [getattr(each, key) for each in [*metadata, *nested] if getattr(each, key, None) is not None]
        found += [f" {word} {values[0]:g}"] if values else []
    patterns = [each.pattern for each in metadata if isinstance(getattr(each, "pattern", None), str)]
    return ",".join(found) + (f", of the form `{patterns[0]}`" if patterns else "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Config):
        kind = getattr(value, "kind", None)
        return f"kind `{kind}`" if kind and len(sections_of(field.annotation)) > 1 else "its own defaults"
    return f"`{json.dumps(_plain(value))}`"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, PurePath) else value


def _example(column: Column) -> str:
    text = str(column.example)
    return f"`{text[:6]}...`" if len(text) == 64 else f"`{text}`"


def _demands(column: Column) -> str:
    found = ["may be empty" if column.is_nullable else "never empty"]
    found += ["unique"] if column.is_unique else []
    found += [f"one of {', '.join(map(str, column.allowed))}"] if column.allowed is not None else []
    limits = (("at least", column.minimum), ("at most", column.maximum))
    found += [f"{word} {limit:g}" for word, limit in limits if limit is not None]
    return "; ".join(found)


def _severity(column: Column) -> str:
    return (
        "critical"
        if column.severity is Severity.BLOCK
        else "warning; critical if it is empty"
        if not column.is_nullable
        else "warning"
    )
