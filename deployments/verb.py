"""What a row of ``verbs`` is made of: a verb, its options, and how a service runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One option of a verb that runs a flow: it changes the config, or is a parameter of the flow."""

    option: str
    help: str
    kind: type
    config_key: str = ""
    """Dotted key of the config that it sets; empty = the flow's parameter of the option's name."""
    stands_for: str = ""
    """Dotted key of the config that says the same in another way, and does not count where the option is given."""
    has_negative: bool = False
    """True for a switch with a ``--no-`` form."""

    @property
    def name(self) -> str:
        """As a parameter."""
        name = self.option.removeprefix("--").replace("-", "_")
        return f"{name}_" if iskeyword(name) else name


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a service starts it, in UTC: no hour is missing or doubled when clocks change."""

    cron: str
    slug: str


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """How a service runs a verb: one run at a time, in one of the two pools."""

    about: str
    pool: Literal["mammo-cpu", "mammo-gpu"]
    schedule: Schedule | None = None
    skips_when_busy: bool = False
    """True: a new run is cancelled, for the one that is on does its work. False: it waits."""
    event: Mapping[str, Any] = field(default_factory=dict)
    """Also started by this event, besides the clock."""
    needs: tuple[str, ...] = ()
    """The config's section without which it does nothing: there, neither clock nor event starts it."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A row."""

    name: str
    group: str
    help: str
    flags: tuple[Flag, ...] = ()
    can_force: bool = False
    deployment: Deployment | None = None
    runs: str = ""
    """``module:function``, or ``module:app`` for a verb with verbs of its own; empty = the flow of the verb's name."""
