"""Why a file is refused, in parts: it goes from the gate's child to the ledger as itself; who shows it makes text of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


def in_words(what: str, *, expected: object = None, got: object = None, remedy: str | None = None) -> str:
    """One line of whole sentences; what is not known is left out."""
    parts = [what.rstrip(".") + "."]
    if expected is not None:
        parts.append(f"Expected: {expected}.")
    if got is not None:
        parts.append(f"Got: {got}.")
    if remedy is not None:
        parts.append(f"Remedy: {remedy.rstrip('.')}.")
    return " ".join(parts) if len(parts) > 1 else what


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refusal, free of values that could identify a patient.

    Attributes:
        rules: Ids of the rules that refuse the file.
        what: What is wrong, as a sentence without the final stop.
        expected: What would have been right.
        got: What was found instead.
        remedy: What the reader can do now.
    """

    rules: tuple[str, ...]
    what: str
    expected: str | None = None
    got: str | None = None
    remedy: str | None = None

    @property
    def text(self) -> str:
        """As people read it."""
        return in_words(self.what, expected=self.expected, got=self.got, remedy=self.remedy)

    @property
    def parts(self) -> str:
        """All but the rules, as JSON: how the ledger keeps it."""
        return json.dumps({name: part for name, part in asdict(self).items() if name != "rules" and part is not None})

    @classmethod
    def of_parts(cls, rules: tuple[str, ...], parts: str) -> Refusal:
        """The refusal that ``parts`` was made of; ledgers of older versions hold its text instead."""
        return cls(rules=rules, **json.loads(parts)) if parts.startswith("{") else cls(rules=rules, what=parts)
