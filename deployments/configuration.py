"""YAML to configs, with errors a person can act on. Paths in a YAML file are relative to the working directory."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.config.run import RunConfig
from schemas.config.service import ServiceConfig
from schemas.errors import ConfigError
from tasks.adapters.workspace import whole_path

ConfigType = TypeVar("ConfigType", bound=BaseModel)

SHIPPED_CONFIGS = Path(__file__).parent / "configs"
_FILES_OF_OTHERS = (".p", ".pt", ".pth", ".safetensors")


def load_config(path: Path, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """Reads a run's config; ``changes`` (dotted key -> value) come from flags and win.

    Raises:
        ConfigError: No such file, no YAML, an unknown key (named, with the nearest right one) or a value out of range.
    """
    if not path.is_absolute() and _is_nowhere(path) and not _is_nowhere(SHIPPED_CONFIGS / path.name):
        path = SHIPPED_CONFIGS / path.name
    content = _read_mapping(path)
    for dotted, value in (changes or {}).items():
        _set(content, dotted.split("."), value)
    return _validated(RunConfig, _with_sections_of_start(content), path)


def load_service(path: Path) -> ServiceConfig:
    """Reads the settings of ``mammo serve``.

    Raises:
        ConfigError: As for ``load_config``.
    """
    return _validated(ServiceConfig, _read_mapping(path), path)


def _with_sections_of_start(content: dict[str, Any]) -> dict[str, Any]:
    """A config that goes on training a network of ours, and says nothing of network or preprocessing, has those of its weights.

    Raises:
        ConfigError: The checkpoint to begin with is not there, or does not say.
    """
    train = content.get("train")
    start = train.get("start") if isinstance(train, dict) else None
    network = start.get("network") if isinstance(start, dict) and not start.get("from_scratch") else None
    wanting = [section for section in ("preprocess", "model") if section not in content]
    if not isinstance(network, str) or not wanting or Path(network).suffix in _FILES_OF_OTHERS:
        return content
    from tasks.adapters.models.model_files import SIDECAR  # late: every report's words, which only this question needs

    try:
        sidecar = json.loads((whole_path(Path(network)) / SIDECAR).read_bytes())
        return content | {section: sidecar[section] for section in wanting if section in sidecar}
    except (OSError, ValueError, TypeError) as missing:
        raise ConfigError(
            f"The checkpoint to begin with, train.start.network {network}, does not say what it was trained as",
            expected=f"a checkpoint folder with {SIDECAR}",
            got=type(missing).__name__,
            remedy=f"restore it, or write the sections {' and '.join(wanting)} into the config",
        ) from missing


def configs(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A shipped one: print it whole, to be copied")] = None,
) -> None:
    """List the shipped configs with their first line, or print one, to be copied."""
    if name is not None:
        shipped = {path.name: path for path in SHIPPED_CONFIGS.glob("*.yaml")}
        if name not in shipped:
            raise ConfigError(f"No config {name} is shipped", remedy=f"shipped ones: {', '.join(sorted(shipped))}")
        typer.echo(shipped[name].read_text(), nl=False)
        return
    for path in sorted(SHIPPED_CONFIGS.glob("*.yaml")):
        typer.echo(f"{path.name:<20} {path.read_text().splitlines()[0].lstrip('# ')}")


def _is_nowhere(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # there, or not, it cannot be read: whoever opens it says so
        return False
    return False


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as missing:
        shipped = ", ".join(sorted(shipped.name for shipped in SHIPPED_CONFIGS.glob("*.yaml")))
        raise ConfigError(f"There is no config {path}", expected="a YAML file", remedy=f"shipped ones: {shipped}") from missing
    except (OSError, ValueError, yaml.YAMLError) as unreadable:
        raise ConfigError(f"{path} is not readable YAML", got=_first_line(unreadable)) from unreadable
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings", expected="key: value lines", got=type(content).__name__)
    return content


def _validated(model: type[ConfigType], content: Mapping[str, Any], path: Path) -> ConfigType:
    try:
        config = model.model_validate(content)
    except ValidationError as invalid:
        errors = invalid.errors()
        # What is a section was not meant as the word that might stand in its place.
        meant = [error for error in errors if not (error["type"] == "string_type" and isinstance(error["input"], Mapping))]
        said = "; ".join(_in_words(model, error) for error in meant or errors)
        raise ConfigError(f"{path} is not right: {said}") from invalid
    return _with_whole_paths(config)


def _with_whole_paths(config: ConfigType) -> ConfigType:
    """Every path made absolute, so that a worker or a later retry with another working directory means the same files."""
    changes: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, Path):
            changes[name] = whole_path(value)
        elif isinstance(value, tuple):
            changes[name] = _whole(value)
        elif isinstance(value, dict):
            changes[name] = {key: _whole(one) for key, one in value.items()}
        elif isinstance(value, BaseModel):
            changes[name] = _with_whole_paths(value)
    return config.model_copy(update=changes)


def _whole(value: object) -> object:
    if isinstance(value, BaseModel):
        return _with_whole_paths(value)
    return tuple(whole_path(one) if isinstance(one, Path) else one for one in value) if isinstance(value, tuple) else value


def _set(content: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
    content[keys[-1]] = value


def _in_words(model: type[BaseModel], error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"] if not str(part).startswith(("function-", "constrained-")))
    if error["type"] == "extra_forbidden":
        *above, key = [str(part) for part in error["loc"]]
        known = _fields_at(model, above)
        meant = _homes_of(model, above, key) or [f"'{near}'" for near in get_close_matches(key, known, n=1, cutoff=0.5)]
        return f"unknown key '{where}'" + (
            f", did you mean {' or '.join(meant)}?" if meant else f"; known keys: {', '.join(known)}"
        )
    if error["type"] == "union_tag_not_found":
        return f"{where}: the key {error['ctx']['discriminator']} is missing, it says which form is meant"
    # A section is not repeated: what is wrong with it as a whole is said, and it may be long.
    got = "" if isinstance(error["input"], Mapping) else f", got {error['input']!r}"
    return f"{where}: {error['msg']}{got}" if where else error["msg"]


def _homes_of(model: type[BaseModel], above: list[str], key: str) -> list[str]:
    """What was meant, as YAML has it, by a key that is a path, or at the top of a file by a field of its sections."""
    *sections, field = key.split(".")
    if sections:
        leads = sections[0] in _fields_at(model, above) and field in _fields_at(model, [*above, *sections])
        return [f"'{': {'.join([*sections, field])}: ...{'}' * len(sections)}'"] if leads else []
    homes = [name for name in model.model_fields if any(key in found.model_fields for found in _models(model, name))]
    return [] if above else [f"'{home}: {{{key}: ...}}'" for home in homes]


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the model that a path of keys leads to; union tags and list indices in the path are passed over."""
    candidates = [model]
    for part in path:
        following = [found for each in candidates if part in each.model_fields for found in _models(each, part)]
        candidates = following or candidates
    return sorted({name for each in candidates for name in each.model_fields})


def _models(model: type[BaseModel], field: str) -> list[type[BaseModel]]:
    pending: list[Any] = [model.model_fields[field].annotation]
    found: list[type[BaseModel]] = []
    while pending:
        annotation = pending.pop()
        if get_origin(annotation) is not None or isinstance(annotation, types.UnionType):
            pending.extend(get_args(annotation))
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
    return found


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
