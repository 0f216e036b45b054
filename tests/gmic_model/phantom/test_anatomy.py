"""The breast of a phantom: its skin in polar form, and tissue whose power falls as that of real parenchyma does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from gmic_model.phantom.anatomy import sample_patient, view_outline
from gmic_model.phantom.drawing import draw_view, plan_exam
from schemas.exam import Laterality, ViewPosition


@pytest.mark.parametrize("view", ViewPosition)
def test_depth_is_none_at_the_skin_and_grows_inwards(view: ViewPosition) -> None:
    """0 on the skin itself; a pixel further in along the radius it is at most a pixel more, and outside it is negative."""
    rng = np.random.default_rng(4)
    outline = view_outline(sample_patient(rng), view, (448, 352), rng)
    angle_rad = np.linspace(-1.2, 1.2, 49)
    skin_px = outline.skin_radius_px(angle_rad)

    def depth_px(radius_px: NDArray[np.float64]) -> NDArray[np.float64]:
        return outline.depth_below_skin_px(outline.origin_row_px + radius_px * np.sin(angle_rad), radius_px * np.cos(angle_rad))

    np.testing.assert_allclose(depth_px(skin_px), 0.0, atol=0.05)
    inner, outer = depth_px(skin_px - 1.0), depth_px(skin_px + 1.0)
    assert (inner > 0.2).all() and (inner < 1.05).all() and (outer < 0).all()


def test_parenchyma_has_a_power_law_near_one_over_f_cubed() -> None:
    """The mean radial power of tissue falls with a log-log slope of -3 +- 0.5 between periods of 64 and 6 pixels."""
    powers = []
    for seed in range(4):
        plan = plan_exam(
            image_size_px=(1024, 768),
            findings={},
            difficulty=0.0,
            patient_rng=np.random.default_rng((seed, 0)),
            exam_rng=np.random.default_rng((seed, 1)),
        )
        image = draw_view(plan, Laterality.LEFT, ViewPosition.CC).pixels_HW.astype(np.float64)
        square_PQ = image[384:640, 60:316]
        window_PQ = np.hanning(256)[:, None] * np.hanning(256)[None, :]
        powers.append(np.abs(np.fft.fft2((square_PQ - square_PQ.mean()) * window_PQ)) ** 2)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :])
    edges = np.geomspace(1 / 64, 1 / 6, 9)
    mean_power = np.mean(powers, axis=0)
    radial = [mean_power[(frequency >= low) & (frequency < high)].mean() for low, high in pairwise(edges)]
    slope = np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), np.log(radial), 1)[0]
    assert -3.5 < slope < -2.5
