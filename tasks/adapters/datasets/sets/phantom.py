"""The synthetic exams of `mammo phantom`: sound headers, also on small images."""

from __future__ import annotations

from typing import Final

from tasks.adapters.datasets.gate_profile import Profile

PROFILE: Final = Profile(
    name="phantom",
    title="synthetic exams of `mammo phantom`, also small ones",
    relaxed=frozenset({"X09"}),
    mapped=frozenset({"X01"}),
    smallest_side_px=256,
)
