"""Which profile would have fitted a folder that was refused for one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tasks.adapters.datasets.catalogue import PROFILES
from tasks.adapters.gate.rules.table import RULES


def advise_profile(rejections: Iterable[str]) -> str | None:
    """Says which profile fits when a whole folder was refused for the same reasons.

    Args:
        rejections: The reason codes of all refused files, repeated as often as they occurred; a Counter of them will do.

    Returns:
        A sentence, or None if no profile would have accepted what most files were refused for.
    """
    counts = Counter(rejections)
    if not counts:
        return None
    usual = {code for code, count in counts.items() if 2 * count >= max(counts.values())}
    fitting = [profile for profile in PROFILES.values() if usual <= profile.accepts]
    if not fitting:
        return None
    best = min(fitting, key=lambda profile: len(profile.accepts))
    reasons = "; ".join(f"{code} ({RULES[code].demand})" for code in sorted(usual))
    return f"Files broke {reasons}. If this is {best.title}, set `profile: {best.name}` under `ingest:` in the config."
