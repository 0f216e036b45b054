"""Numbers of a config by path, as ``train.learning_rate``: which there are, and a config with another value at one."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from schemas.config.section import Config, nearest_keys
from schemas.errors import ConfigError

ConfigType = TypeVar("ConfigType", bound=Config)


def numbers_by_path(model: type[Config], *, prefix: str = "") -> dict[str, type[int] | type[float]]:
    """Every field that holds a number, with its type; where a section has several forms, the fields of all of them."""
    found: dict[str, type[int] | type[float]] = {}
    for name, field in model.model_fields.items():
        types = set(_leaves(field.annotation))
        for section in types:
            if isinstance(section, type) and issubclass(section, Config):
                found |= numbers_by_path(section, prefix=f"{prefix}{name}.")
        if types <= {int, float, type(None)} and types & {int, float}:
            found[prefix + name] = float if float in types else int
    return found


def with_value(config: ConfigType, path: str, value: float) -> ConfigType:
    """The config with another number at a path.

    Raises:
        ConfigError: The config has no such number, or it cannot have that value.
    """
    *sections, name = path.split(".")
    inner: Config = config
    for part in sections:
        found = getattr(inner, part) if part in type(inner).model_fields else None
        if not isinstance(found, Config):
            raise _nothing_at(path, inner, part)
        inner = found
    if name not in type(inner).model_fields:
        raise _nothing_at(path, inner, name)
    try:
        changed: Config = type(inner).model_validate({**inner.model_dump(), name: value})
    except ValidationError as refused:
        reason = refused.errors()[0]["msg"]
        raise ConfigError(f"{path} cannot be {value:.6g}", expected=reason, remedy="narrow its range") from refused
    return _replaced(config, sections, changed)


def _replaced(config: ConfigType, sections: list[str], changed: Any) -> ConfigType:
    if not sections:
        result: ConfigType = changed
        return result
    inner = _replaced(getattr(config, sections[0]), sections[1:], changed)
    return config.model_copy(update={sections[0]: inner})


def _nothing_at(path: str, section: Config, name: str) -> ConfigError:
    near = nearest_keys(name, type(section).model_fields)
    return ConfigError(
        f"There is nothing at {path}: {type(section).__name__} has no field {name}",
        expected=" or ".join(near) if near else "one of its own fields",
        remedy="correct search.ranges, or leave this path out",
    )


def _leaves(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, without their constraints; a tuple or a mapping is one of them, and no number."""
    if hasattr(annotation, "__metadata__"):
        yield from _leaves(get_args(annotation)[0])
    elif isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        for one in get_args(annotation):
            yield from _leaves(one)
    else:
        yield annotation
