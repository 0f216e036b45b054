"""All gate profiles by name. A new data set is a module in ``sets`` and its name here (docs/how-to/add-a-data-set.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from schemas.config.section import nearest_keys
from schemas.errors import ConfigError
from tasks.adapters.datasets.gate_profile import CLINICAL_STRICT, Profile
from tasks.adapters.datasets.sets import (
    cbis_ddsm,
    cmmd,
    embed,
    inbreast,
    phantom,
    rsna,
    vindr,
)

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
