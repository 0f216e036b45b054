"""All classes of a kind in a package, whatever was imported before: workers that differ in it collect different tests."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def all_of_kind(kind: type[T], package: ModuleType, *others: type[T]) -> list[type[T]]:
    """Subclasses that a package defines, by name of their module, and others that are named."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        import_module(module.name)
    found = {one for one in _below(kind) if one.__module__.startswith(f"{package.__name__}.")}
    return [*sorted(found, key=lambda one: (one.__module__, one.__qualname__)), *others]


def _below(kind: type[T]) -> Iterator[type[T]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
