"""What a gate rule is: an id, a severity, what it demands, and the function below its row that decides it.

    @rule("V07", BLOCK, "Magnification factor below 1.4")
    def is_not_magnified(seen: Seen) -> str | None:
        ...                                        what was found ("" = nothing to add) if the rule is broken, else None

A function looks at one record: an open file (``file.Opened``), a header (``Seen``), what follows the header
(``image.Remainder``), decoded values (``look.Decoded``) or the finished image (``look.Looked``); which one, its annotation
says. A rule that no function decides is a row that names the module which applies it. ``table`` puts all rows together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Final, TypeVar, get_type_hints

from schemas.layout import Severity
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.subject import Subject
from tasks.adapters.dicom.header import DicomHeader, parse_date

BLOCK: Final = Severity.BLOCK
WARN: Final = Severity.WARN

_HERE: Final = "tasks.adapters."
_SeenT = TypeVar("_SeenT")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule demands, and what happens to a file that breaks it: BLOCK refuses it, WARN accepts it and counts.

    Attributes:
        by: The module that applies it, by its address below ``tasks.adapters``, or in full if it is not there.
        decides: The function that says how an image breaks it; None = ``by`` applies it in its own way.
        looks_at: The type of the record that the function takes.
    """

    severity: Severity
    demand: str
    by: str
    decides: Callable[[Any], str | None] | None = None
    looks_at: type | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that an image breaks, with what was found: numbers and DICOM keywords, never free text of the file."""

    rule_id: str
    got: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Seen:
    """What a rule on the header may look at. Raw identifiers are in it: its ``repr`` shows none.

    Attributes:
        subject: Whom the file shows, by the profile's data set.
        today: An exam after tomorrow is dated wrongly.
    """

    header: DicomHeader
    subject: Subject
    profile: Profile
    today: date

    @cached_property
    def exam_date(self) -> date | None:
        """StudyDate (0008,0020), if it is one."""
        return parse_date(self.header.study_date)


ROWS: Final[dict[str, Rule]] = {}
"""Filled by the modules of this folder as they are imported; ``table.RULES`` is the whole of it."""


def rule(
    rule_id: str, severity: Severity, demand: str
) -> Callable[[Callable[[_SeenT], str | None]], Callable[[_SeenT], str | None]]:
    """Puts a function into the table as the one that decides a rule.

    Raises:
        ValueError: There is a rule of this id.
    """

    def enter(function: Callable[[_SeenT], str | None]) -> Callable[[_SeenT], str | None]:
        hints = get_type_hints(function)
        hints.pop("return")
        (looks_at,) = hints.values()
        by = function.__module__.removeprefix(_HERE)
        _enter(rule_id, Rule(severity, demand, by, decides=function, looks_at=looks_at))
        return function

    return enter


def row(rule_id: str, severity: Severity, demand: str, *, by: str) -> None:
    """Puts a rule into the table that no function decides; ``by`` is the module that applies it.

    Raises:
        ValueError: There is a rule of this id.
    """
    _enter(rule_id, Rule(severity, demand, by))


def _enter(rule_id: str, entry: Rule) -> None:
    if rule_id in ROWS:
        raise ValueError(f"rule {rule_id} is in {ROWS[rule_id].by} already")
    ROWS[rule_id] = entry
