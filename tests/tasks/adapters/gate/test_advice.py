"""Which profile is named to somebody whose whole folder was refused, and what no profile may lift."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.layout import Severity
from tasks.adapters.datasets.catalogue import PROFILES
from tasks.adapters.datasets.gate_profile import CLINICAL_STRICT
from tasks.adapters.gate.advice import advise_profile
from tasks.adapters.gate.rules.table import RULES


def test_advice_names_the_profile_that_fits() -> None:
    """All refused for K02 and V01, with some junk between: CBIS-DDSM. Nothing fits burned-in text, or nothing refused."""
    advice = advise_profile(Counter({"K02": 40, "V01": 40, "F05": 2}))
    assert advice is not None and "profile: cbis-ddsm" in advice
    assert "phantom" in str(advise_profile(["X01"] * 3))
    assert advise_profile(["D01"]) is None
    assert advise_profile([]) is None


@pytest.mark.parametrize(
    "name", [name for name, profile in PROFILES.items() if profile.is_advised and name != "clinical-strict"]
)
def test_each_data_set_s_refusals_advise_its_profile(name: str) -> None:
    """A folder of that set under clinical-strict: what refuses its files, on each of them, leads to its profile by name."""
    refusing = [rule for rule in PROFILES[name].accepts if RULES[rule].severity is Severity.BLOCK]
    assert refusing
    assert f"profile: {name}`" in str(advise_profile(refusing * 50))


def test_advice_never_goes_in_a_circle() -> None:
    """Who names a data set's profile and is refused is told of the set's tables, never of this or another set's profile."""
    for name in ("vindr", "embed", "rsna"):
        advice = str(advise_profile(["I03", "L01", "V01"] * 9, in_force=name))
        assert "set `profile:" not in advice
        assert f"`mammo dataset {'vindr-mammo' if name == 'vindr' else 'rsna-2022' if name == 'rsna' else name} ROOT" in advice
    assert advise_profile(["X01"] * 3, in_force="phantom") is None


def test_profiles_name_known_rules() -> None:
    """Every relaxed or mapped rule exists, and no profile lifts a rule against hostile files or burned-in names."""
    lifted = {rule for profile in PROFILES.values() for rule in profile.accepts}
    assert lifted <= set(RULES)
    assert not any(rule.startswith(("F", "D", "X2")) for rule in lifted)
    assert CLINICAL_STRICT.accepts == frozenset()
