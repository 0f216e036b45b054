"""Which profile would have fitted a folder that was refused for one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tasks.adapters.datasets.catalogue import DATA_SETS, PROFILES
from tasks.adapters.gate.rules.table import RULES


def advise_profile(rejections: Iterable[str], *, in_force: str = "clinical-strict") -> str | None:
    """Says which profile fits when a whole folder was refused for the same reasons.

    Args:
        rejections: The reason codes of all refused files, repeated as often as they occurred; a Counter of them will do.
        in_force: The profile that they were refused under. It is never advised, and whoever names a data set's own has said
            which set it is: then the set's tables say what its headers do not.

    Returns:
        A sentence, or None if no profile would have accepted what most files were refused for.
    """
    counts = Counter(rejections)
    if not counts:
        return None
    usual = {code for code, count in counts.items() if 2 * count >= max(counts.values())}
    reasons = "; ".join(f"{code} ({RULES[code].demand})" for code in sorted(usual))
    named = next((each.facts for each in DATA_SETS.values() if each.profile == in_force), None)
    if named is not None:
        return (
            f"Files broke {reasons}, although the profile {in_force} is in force. If this is {named.title} as downloaded, "
            f"`mammo dataset {named.name} ROOT --out DIR` reads its tables and writes a config that brings it in."
        )
    fitting = [each for each in PROFILES.values() if each.is_advised and usual <= each.accepts and each.name != in_force]
    if not fitting:
        return None
    best = min(fitting, key=lambda profile: len(profile.accepts))
    return f"Files broke {reasons}. If this is {best.title}, set `profile: {best.name}` under `ingest:` in the config."
