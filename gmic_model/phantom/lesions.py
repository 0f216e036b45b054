"""The spots of a phantom breast: malignant and benign findings and normal glandular knots. Arrays only.

Every spot is a *body* plus a *detail*. Bodies are drawn by one process whatever the class and hold only what survives a
fourfold reduction; the class is in the detail alone, which holds only what does not (the paper's introduction: fine details,
"often only a few pixels in size", determine the labels). Sizes are pixels of the detector, never fractions of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from schemas.exam import Finding

Float = np.float32
SPOT_PX = 128
"""Side of the square a spot is drawn on."""

_OVERSAMPLE = 3  # spicules and specks are drawn three times as fine and averaged: sub-pixel places and widths
_SHIFT = 4  # fractional bits of cv2's coordinates
_BODY_PASS_PER_PX = 0.13  # up to here all is body ...
_BODY_STOP_PER_PX = 0.28  # ... from here all is detail; a 4x4 mean takes all of 0.25 away and most of what is near


class SpotKind(StrEnum):
    """The two shapes of a body."""

    MASS = "mass"
    CALCIFICATIONS = "calcifications"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One spot of a breast, seen in both of its views.

    Attributes:
        finding: None = a glandular knot, which is normal.
        depth_px: Behind the nipple, along its axis: the same in both views.
        across_px: Offset across the nipple axis in CC and in MLO.
        core_px: Radius of the mass's core, or a bit less than half the radius of the group of calcifications.
        contrast: Factor on the gray levels of the body.
        shape_seed: Fixes the shape; a view draws its own projection from it.
    """

    kind: SpotKind
    finding: Finding | None
    depth_px: float
    across_px: tuple[float, float]
    core_px: float
    contrast: float
    shape_seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotStyle:
    """How visible spots are: functions of the config's difficulty.

    Attributes:
        detail_gain: Factor on the gray levels of the detail.
        body_leak: Share of the detail's low frequencies that is left in it: 0 from the default difficulty on.
        knot_gain: Contrast of normal knots relative to findings: 1 from the default difficulty on.
    """

    detail_gain: float
    body_leak: float
    knot_gain: float

    @classmethod
    def of_difficulty(cls, difficulty: float) -> SpotStyle:
        """0: bold, and the class leaks into low frequencies; 0.5: fine detail alone decides; 1: the detail is faint."""
        ease = max(0.0, 1.0 - 2.0 * difficulty)
        hardness = max(0.0, 2.0 * difficulty - 1.0)
        return cls(detail_gain=0.5 + 1.2 * ease - 0.25 * hardness, body_leak=ease, knot_gain=1.0 - 0.6 * ease)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSpot:
    """Gray levels to add and the extent, both on a square of ``SPOT_PX``."""

    added_PQ: NDArray[np.float32]
    extent_PQ: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Layers:
    body_PQ: NDArray[np.float32]
    detail_PQ: NDArray[np.float32]
    extent_PQ: NDArray[np.bool_]


def reach_px(spot: Spot) -> float:
    """How far a spot's pattern goes from its centre: it must stay this far from skin and image edge."""
    return 2.9 * spot.core_px + 4.0


def draw_spot(spot: Spot, style: SpotStyle, *, view_index: int, offset_px: tuple[float, float] = (0.0, 0.0)) -> DrawnSpot:
    """Draw one projection.

    Args:
        spot: What to draw.
        style: How visible it is.
        view_index: 0 for CC, 1 for MLO: other speck places and spicule angles, same size and counts.
        offset_px: Sub-pixel (row, column) offset of the centre.
    """
    rng = np.random.default_rng((spot.shape_seed, view_index))
    layers = (_mass if spot.kind is SpotKind.MASS else _calcifications)(spot, offset_px, rng)
    gain = spot.contrast * (style.knot_gain if spot.finding is None else 1.0)
    detail_PQ = style.detail_gain * layers.detail_PQ
    # low_pass(body) + detail - (1 - leak) low_pass(detail), in one filtering.
    added_PQ = low_pass(layers.body_PQ - (1.0 - style.body_leak) * detail_PQ) + detail_PQ
    return DrawnSpot(added_PQ=np.asarray(gain * added_PQ, dtype=Float), extent_PQ=layers.extent_PQ)


def low_pass(image_PQ: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a fourfold reduction keeps: raised-cosine filter between the two edges of the transition band."""
    spectrum = fft.rfft2(image_PQ) * _low_pass_gain(image_PQ.shape)
    return np.asarray(fft.irfft2(spectrum, s=image_PQ.shape), dtype=Float)


def _mass(spot: Spot, offset_px: tuple[float, float], rng: np.random.Generator) -> _Layers:
    """An oval core in a halo of spicules; benign keeps the core's edge, malignant the spicules, a knot neither."""
    axes_px = spot.core_px * np.array([1.0, rng.uniform(0.72, 0.95)])
    turn_deg = rng.uniform(0.0, 180.0)
    core_PQ = _filled_oval(axes_px, turn_deg, offset_px)
    spicules_PQ = _spicules(spot.core_px, offset_px, rng)
    glow_PQ = _glow(1.9 * spot.core_px, offset_px)
    body_PQ = 190.0 * core_PQ + 130.0 * glow_PQ + 60.0 * spicules_PQ
    if spot.finding is Finding.MALIGNANT:
        detail_PQ = 420.0 * spicules_PQ
    elif spot.finding is Finding.BENIGN:
        detail_PQ = 380.0 * core_PQ
    else:
        detail_PQ = np.zeros_like(core_PQ)
    extent_PQ = _filled_oval(axes_px * 1.6, turn_deg, offset_px) > 0.5
    return _Layers(body_PQ, detail_PQ, extent_PQ)


def _calcifications(spot: Spot, offset_px: tuple[float, float], rng: np.random.Generator) -> _Layers:
    """A group of specks; benign has coarse grains where they lie close, a knot only their blurred sum."""
    radius_px = 1.45 * spot.core_px
    count = int(np.random.default_rng(spot.shape_seed).integers(9, 20))  # the same in both views
    distance_px = radius_px * np.sqrt(rng.uniform(0.0, 1.0, count))
    angle = rng.uniform(0.0, 2 * np.pi, count)
    center = _spot_center(offset_px)
    at_N2 = np.stack([center[0] + distance_px * np.sin(angle), center[1] + distance_px * np.cos(angle)], axis=1)
    specks_PQ = _dots(at_N2, rng.uniform(1.0, 1.6, count), rng.uniform(0.65, 1.0, count))
    clumped_PQ = np.asarray(cv2.GaussianBlur(specks_PQ, (0, 0), 2.2), dtype=Float)
    glow_PQ = _glow(0.6 * radius_px, offset_px)
    body_PQ = 450.0 * specks_PQ + 120.0 * glow_PQ
    if spot.finding is Finding.MALIGNANT:
        detail_PQ = 1150.0 * specks_PQ
    elif spot.finding is Finding.BENIGN:
        detail_PQ = 480.0 * _sharp_above(clumped_PQ, 0.4 * float(clumped_PQ.max()))
    else:
        detail_PQ = np.zeros_like(specks_PQ)
    hull = cv2.convexHull(np.round(at_N2[:, ::-1]).astype(np.int32))
    extent_PQ = cv2.dilate(cv2.fillConvexPoly(np.zeros((SPOT_PX, SPOT_PX), np.uint8), hull, 1), np.ones((7, 7), np.uint8))
    return _Layers(body_PQ, detail_PQ, extent_PQ.astype(bool))


def _spicules(core_px: float, offset_px: tuple[float, float], rng: np.random.Generator) -> NDArray[np.float32]:
    """Thin bent lines that start inside the core and fade out at two to three core radii."""
    count = int(rng.integers(16, 25))
    angle = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count + rng.uniform(0.0, 2 * np.pi)
    length = core_px * rng.uniform(1.5, 2.8, count)
    bend = rng.uniform(-0.25, 0.25, count)
    width = rng.integers(3, 6, count)  # on the fine canvas: 1 to 1.7 pixels
    along = np.linspace(0.0, 1.0, 7)[None, :]
    radius_NS = 0.75 * core_px + along * (length - 0.75 * core_px)[:, None]
    turn_NS = angle[:, None] + bend[:, None] * along
    center = _spot_center(offset_px)
    points_NS2 = np.stack([center[0] + radius_NS * np.sin(turn_NS), center[1] + radius_NS * np.cos(turn_NS)], axis=-1)
    canvas = _fine_canvas()
    for width_px in np.unique(width):
        cv2.polylines(
            canvas, list(_fixed_points(points_NS2[width == width_px])), False, 255, int(width_px), cv2.LINE_AA, _SHIFT
        )
    fade_PQ = np.clip(1.4 - 0.42 * _distance_px(offset_px) / core_px, 0.0, 1.0)
    return np.asarray(_averaged(canvas) * fade_PQ, dtype=Float)


def _dots(at_N2: NDArray[np.float64], radius_px: NDArray[np.float64], level: NDArray[np.float64]) -> NDArray[np.float32]:
    canvas = _fine_canvas()
    for place, radius, brightness in zip(_fixed_points(at_N2), radius_px, level, strict=True):
        size = (_fixed(radius), _fixed(radius))
        cv2.ellipse(canvas, place.tolist(), size, 0, 0, 360, int(255 * brightness), -1, cv2.LINE_AA, _SHIFT)
    return _averaged(canvas)


def _filled_oval(axes_px: NDArray[np.float64], turn_deg: float, offset_px: tuple[float, float]) -> NDArray[np.float32]:
    canvas = _fine_canvas()
    center = _fixed_points(np.array(_spot_center(offset_px))).tolist()
    cv2.ellipse(canvas, center, (_fixed(axes_px[0]), _fixed(axes_px[1])), turn_deg, 0, 360, 255, -1, cv2.LINE_AA, _SHIFT)
    return _averaged(canvas)


def _glow(sigma_px: float, offset_px: tuple[float, float]) -> NDArray[np.float32]:
    return np.asarray(np.exp(-0.5 * (_distance_px(offset_px) / Float(sigma_px)) ** 2), dtype=Float)


def _sharp_above(image_PQ: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """The region above the threshold with an edge one pixel wide."""
    fine = cv2.resize(image_PQ, None, fx=_OVERSAMPLE, fy=_OVERSAMPLE, interpolation=cv2.INTER_LINEAR) > threshold
    return _averaged((255 * fine).astype(np.uint8))


def _fine_canvas() -> NDArray[np.uint8]:
    return np.zeros((SPOT_PX * _OVERSAMPLE, SPOT_PX * _OVERSAMPLE), np.uint8)


def _averaged(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
    reduced = cv2.resize(canvas, (SPOT_PX, SPOT_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced * Float(1 / 255), dtype=Float)


def _distance_px(offset_px: tuple[float, float]) -> NDArray[np.float32]:
    center = _spot_center(offset_px)
    pixel = np.arange(SPOT_PX, dtype=Float)
    return np.asarray(np.hypot(pixel[:, None] - Float(center[0]), pixel[None, :] - Float(center[1])), dtype=Float)


def _spot_center(offset_px: tuple[float, float]) -> tuple[float, float]:
    return SPOT_PX // 2 + offset_px[0], SPOT_PX // 2 + offset_px[1]


def _fixed(length_px: float) -> int:
    return round(float(length_px) * _OVERSAMPLE * (1 << _SHIFT))


def _fixed_points(place_px: NDArray[np.float64]) -> NDArray[np.int32]:
    """cv2's (column, row) of places; the centre of pixel 0 is at (oversample - 1) / 2 on the fine canvas."""
    fine = place_px[..., ::-1] * _OVERSAMPLE + (_OVERSAMPLE - 1) / 2
    return np.round(fine * (1 << _SHIFT)).astype(np.int32)


@lru_cache(maxsize=4)
def _low_pass_gain(shape: tuple[int, int]) -> NDArray[np.float32]:
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    position = (frequency - _BODY_PASS_PER_PX) / (_BODY_STOP_PER_PX - _BODY_PASS_PER_PX)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip(position, 0.0, 1.0)), dtype=Float)
