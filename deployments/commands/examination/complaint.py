"""One thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One thing looked at."""

    check: str
    is_well: bool
    found: str
    remedy: str = ""
