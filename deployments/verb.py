"""What a row of ``verbs`` is made of: a verb, its options, and how a service runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from types import MappingProxyType
from typing import Any, Final, Literal

from schemas.config.run import Stage
from schemas.errors import ConfigError

_NEVER_FORCED: Final = MappingProxyType(
    {
        Stage.INGEST: "leave it out: ingest asks its ledger what is left to do, and cannot be forced",
        Stage.SEARCH: "leave it out: `mammo search CONFIG.yaml` goes on with its study, and another search.study is a new one",
        Stage.REPORT: "leave it out: the page is written anew by each `mammo pipeline CONFIG.yaml`",
    }
)
"""What to do about a stage that no verb runs again by force."""


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
    forces: tuple[Stage, ...] = ()
    """Stages that it runs and that a user may have run again; empty = none."""
    deployment: Deployment | None = None
    runs: str = ""
    """``module:function``, or ``module:app`` for a verb with verbs of its own; empty = the flow of the verb's name."""

    @property
    def can_force(self) -> bool:
        """True if it takes ``--force``."""
        return bool(self.forces)

    def require_forces(self, stages: Sequence[Stage]) -> None:
        """Refuses to force what it does not run: its other stages would be finished, and nothing be done again.

        Raises:
            ConfigError: A stage is none of its own.
        """
        others = [stage for stage in stages if stage not in self.forces]
        if others and self.forces:
            first = others[0].value
            raise ConfigError(
                f"mammo {self.name} does not run {' and '.join(others)}, so it cannot do that again",
                expected=f"to force {' or '.join(self.forces)}",
                got=", ".join(stages),
                remedy=_NEVER_FORCED.get(others[0], f"run `mammo {first} CONFIG.yaml --force {first}`"),
            )
