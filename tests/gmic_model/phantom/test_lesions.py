"""Spots of a phantom: the class is in fine detail, which a fourfold reduction loses, and fades with difficulty."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gmic_model.phantom.lesions import SPOT_PX, Spot, SpotKind, SpotStyle, draw_spot
from schemas.exam import Finding


def _spots(finding: Finding | None, kind: SpotKind, difficulty: float, count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(31)  # the same sizes for every class
    spots = [
        Spot(
            kind=kind,
            finding=finding,
            depth_px=0.0,
            across_px=(0.0, 0.0),
            core_px=rng.uniform(10.0, 18.0),
            contrast=1.0,
            shape_seed=int(rng.integers(2**40)),
        )
        for _ in range(count)
    ]
    return np.stack([draw_spot(spot, SpotStyle.of_difficulty(difficulty), view_index=0).added_PQ for spot in spots])


def _reduced(spot_NPQ: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    side = SPOT_PX // factor
    reduced_NPQ: NDArray[np.float32] = spot_NPQ.reshape(-1, side, factor, side, factor).mean(axis=(2, 4))  # (N, side, side)
    return reduced_NPQ


@pytest.mark.parametrize("kind", list(SpotKind))
@pytest.mark.parametrize("other", [Finding.BENIGN, None])
def test_class_is_lost_in_fourfold_reduction_at_the_default_difficulty(kind: SpotKind, other: Finding | None) -> None:
    """The same shapes drawn as two classes: 4x reduction takes all but a 25th of their difference's share of the energy."""
    malignant_NPQ, other_NPQ = _spots(Finding.MALIGNANT, kind, 0.5, 12), _spots(other, kind, 0.5, 12)
    difference_share = {}
    for factor in (1, 4):
        here, there = _reduced(malignant_NPQ, factor), _reduced(other_NPQ, factor)
        difference_share[factor] = float(((here - there) ** 2).sum() / ((here**2).sum() + (there**2).sum()))
    assert difference_share[1] > 0.012
    assert difference_share[4] < difference_share[1] / 25


@pytest.mark.parametrize("kind", list(SpotKind))
def test_bold_lesions_differ_also_when_reduced(kind: SpotKind) -> None:
    """At difficulty 0 the class leaks into low frequencies on purpose: the mean gray level of malignant spots is higher."""
    malignant = _reduced(_spots(Finding.MALIGNANT, kind, 0.0, 12), 4).mean()
    knot = _reduced(_spots(None, kind, 0.0, 12), 4).mean()
    assert malignant > 1.5 * knot


def test_detail_grows_fainter_with_difficulty() -> None:
    """The fine detail's energy falls from difficulty 0 over 0.5 to 1."""
    energy = []
    for difficulty in (0.0, 0.5, 1.0):
        spot_NPQ = _spots(Finding.MALIGNANT, SpotKind.MASS, difficulty, 6)
        smooth = np.stack([cv2.GaussianBlur(spot_PQ, (0, 0), 3.0) for spot_PQ in spot_NPQ])
        energy.append(float(((spot_NPQ - smooth) ** 2).mean()))
    assert energy[0] > 1.5 * energy[1] > 2.0 * energy[2]
