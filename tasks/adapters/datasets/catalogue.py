"""All gate profiles and public data sets by name.

A new data set is a module in ``sets`` and its name here (docs/how-to/add-a-data-set.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from schemas.config.section import nearest_keys
from schemas.errors import ConfigError
from tasks.adapters.datasets.gate_profile import CLINICAL_STRICT, Profile
from tasks.adapters.datasets.published.reading import DataSet
from tasks.adapters.datasets.sets import (
    bmcd,
    cbis_ddsm,
    cdd_cesm,
    cmmd,
    csaw_cc,
    ddsm,
    embed,
    inbreast,
    kau_bcmd,
    mini_ddsm,
    mini_mias,
    omi_db,
    phantom,
    rsna,
    vindr,
)

_PUBLIC: Final = (
    cbis_ddsm, cmmd, vindr, rsna, inbreast, embed, csaw_cc, ddsm, mini_ddsm, mini_mias, omi_db, bmcd, cdd_cesm, kau_bcmd,
)  # fmt: skip
DATA_SETS: Final[Mapping[str, DataSet]] = MappingProxyType({each.DATA_SET.facts.name: each.DATA_SET for each in _PUBLIC})
"""The public data sets that `mammo dataset` converts, by name."""

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            CLINICAL_STRICT,
            cbis_ddsm.PROFILE,
            cmmd.PROFILE,
            vindr.PROFILE,
            rsna.PROFILE,
            inbreast.PROFILE,
            embed.PROFILE,
            csaw_cc.PROFILE,
            ddsm.PROFILE,
            mini_ddsm.PROFILE,
            mini_mias.PROFILE,
            omi_db.PROFILE,
            bmcd.PROFILE,
            cdd_cesm.PROFILE,
            kau_bcmd.PROFILE,
            phantom.PROFILE,
        )
    }
)


def profile_named(name: str, *, image_types: Collection[str] = ()) -> Profile:
    """Finds a profile.

    Args:
        name: As the config has it.
        image_types: What a site's own devices write into ImageType, ``ingest.image_types``.

    Raises:
        ConfigError: There is none of this name; the message names the nearest.
    """
    if name not in PROFILES:
        nearest = nearest_keys(name, PROFILES)
        raise ConfigError(
            f"There is no gate profile {name!r}",
            expected=f"one of {', '.join(PROFILES)}",
            remedy=f"did you mean {nearest[0]}?" if nearest else "set ingest.profile to one of them",
        )
    profile = PROFILES[name]
    return replace(profile, image_types=profile.image_types.union(image_types)) if image_types else profile


def data_set_named(name: str) -> DataSet:
    """Finds a public data set, by its name or another that is in use.

    Raises:
        ConfigError: There is none of this name; the message names the nearest.
    """
    by_name = {**DATA_SETS} | {alias: each for each in DATA_SETS.values() for alias in each.facts.aliases}
    if name.casefold() not in by_name:
        nearest = nearest_keys(name, by_name)
        raise ConfigError(
            f"There is no data set {name!r}",
            expected=f"one of {', '.join(DATA_SETS)}",
            remedy=f"did you mean {nearest[0]}?" if nearest else "`mammo dataset --list` says what each needs",
        )
    return by_name[name.casefold()]
