"""All rules of the gate in one table, and the one place where they are applied.

Letters: F file, I identifiers, K kind of object, L laterality, V view, X image, C crop, P earlier loss, D disclosure, T time,
E exam. ``docs/reference/gate-rules.md`` shows this table to users; it is generated from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

from schemas.errors import GateRejection
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.gate.rules import coding, cohort, file, identity, image, kind, look, view
from tasks.adapters.gate.rules.rule import BLOCK, ROWS, Broken, Rule

GROUPS: Final = (file, identity, kind, view, image, coding, look, cohort)
"""The modules that hold the rules: importing them fills the table. A new group of rules is a module in this list."""

_LETTERS: Final = "FIKLVXCPDTE"

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    dict(sorted(ROWS.items(), key=lambda entry: (_LETTERS.index(entry[0][0]), entry[0])))
)
"""Every rule by its id, in the order of the reference page."""


def demand(rule_id: str) -> str:
    """What a rule demands, in words; ids of another version of this program are told as such."""
    return RULES[rule_id].demand if rule_id in RULES else "A rule that this version does not know"


def is_of_another_kind(rule_ids: Collection[str]) -> bool:
    """True if a file refused by these rules is a whole object of another kind, as every export of an archive holds some.

    Raw images, tomosynthesis, captures, reports, ultrasound, and the viewer on the CD (F09): they are recognised, and nobody
    has lost a mammogram. K06 and K12 are not among them: what contradicts itself or says what nobody knows may be one.
    """
    return any(rule_id == "F09" or (rule_id.startswith("K") and rule_id not in ("K06", "K12")) for rule_id in rule_ids)


def broken_rules(seen: object) -> tuple[Broken, ...]:
    """The rules that a record breaks, of those that look at records of its type.

    By letter, and among rules of one letter in the order in which they are written: that is the order of reason codes.
    """
    return tuple(Broken(rule_id, got) for rule_id, decides in _DECIDING[type(seen)] if (got := decides(seen)) is not None)


def refuse(broken: tuple[Broken, ...], profile: Profile | None) -> None:
    """Refuses a file by those of the rules that it breaks which refuse; does nothing if none does.

    Args:
        broken: What it breaks.
        profile: Under which it does; None = under each: no profile relaxes the rules on files.

    Raises:
        GateRejection: With every such rule as a reason.
    """
    refusing = [rule for rule in broken if RULES[rule.rule_id].severity is BLOCK]
    if not refusing:
        return
    codes = tuple(dict.fromkeys(rule.rule_id for rule in refusing))
    raise GateRejection(
        f"The gate refuses this file under {f'the profile {profile.name}' if profile else 'every profile'}: {', '.join(codes)}",
        reason_codes=codes,
        expected="; ".join(f"{code} {RULES[code].demand}" for code in codes),
        got="; ".join(f"{rule.rule_id} {rule.got}" for rule in refusing if rule.got) or None,
        remedy="docs/reference/gate-rules.md tells what to do about each rule",
    )


def _deciding() -> Mapping[type, tuple[tuple[str, Callable[[Any], str | None]], ...]]:
    found: defaultdict[type, list[tuple[str, Callable[[Any], str | None]]]] = defaultdict(list)
    for rule_id, entry in sorted(ROWS.items(), key=lambda entry: _LETTERS.index(entry[0][0])):  # stable: as written
        if entry.decides is not None and entry.looks_at is not None:
            found[entry.looks_at].append((rule_id, entry.decides))
    return MappingProxyType({looks_at: tuple(functions) for looks_at, functions in found.items()})


_DECIDING: Final = _deciding()
