"""The shape and tissue of a phantom breast: outline, position in both views, parenchyma texture. Arrays only.

Everything is drawn in one frame: chest wall at column 0, nipple to the right, axilla up. ``phantom.py`` mirrors right breasts.
Lengths are pixels of the detector; only the outline scales with the image, so a small phantom is a small field of view.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from schemas.exam import Laterality, ViewPosition

Float = np.float32
STRIDE_PX = 8
"""Smooth maps (outline distance, tissue) are computed on a grid this coarse and enlarged."""

_TILE_PX = 512
_POWER_SLOPE = 3.0  # power ~ 1/f^3, as measured in mammograms
_FLAT_BELOW_PER_PX = 1 / 1600  # the law levels off here, so that the variance does not depend on the image's size
_UNIT_ABOVE_PER_PX = 1 / 640  # the law's part above has about unit variance; this fixes its height at every size
_CROSSOVER_PER_PX = 1 / 24  # below: the coarse grid; above: the tile
_ANGLES = 721


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientAnatomy:
    """What stays with a patient from exam to exam; fractions are of the image's rows or columns."""

    depth_fraction: float
    height_fraction: float
    roundness: float
    nipple_row_fraction: float
    pectoral_width_fraction: float
    pectoral_height_fraction: float
    density: float
    fat_level: float
    texture_seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The skin of one view in polar form about the foot of the nipple axis on the chest wall.

    Attributes:
        shape_px: (rows, columns) of the image.
        origin_row_px: Row of the nipple axis.
        depth_px: Chest wall to nipple, along the axis.
        pectoral_px: (height, width) of the pectoral triangle in the upper corner; None in CC.
    """

    shape_px: tuple[int, int]
    origin_row_px: float
    depth_px: float
    up_px: float
    down_px: float
    roundness: float
    pectoral_px: tuple[float, float] | None

    def skin_radius_px(self, angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance of the skin from the origin; angle 0 is the nipple, positive is down."""
        along = np.abs(np.cos(angle_rad)) / self.depth_px
        across = np.abs(np.sin(angle_rad)) / np.where(angle_rad < 0, self.up_px, self.down_px)
        radius = (along**self.roundness + across**self.roundness) ** (-1.0 / self.roundness)
        nipple_width_rad = (0.025 * self.shape_px[1] + 8.0) / self.depth_px
        bump_px = 0.012 * self.shape_px[1] + 5.0
        return np.asarray(radius + bump_px * np.exp(-((angle_rad / nipple_width_rad) ** 2)))

    def depth_below_skin_px(self, row: NDArray[np.float64], column: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance to the skin, positive inside the breast: first order in the distance, exact at the skin."""
        angle_grid, radius_grid, slope_grid = _skin_table(self)
        down = row - self.origin_row_px
        right = np.maximum(column, 1e-6)
        angle = np.arctan2(down, right)
        gap = np.interp(angle, angle_grid, radius_grid) - np.hypot(down, right)
        return np.asarray(gap / np.sqrt(1.0 + np.interp(angle, angle_grid, slope_grid) ** 2))

    def point_px(self, depth_from_nipple_px: float, across_px: float) -> tuple[float, float]:
        """(row, column) of a place given by its depth behind the nipple and its offset across the nipple axis."""
        return self.origin_row_px + across_px, self.depth_px - depth_from_nipple_px


def sample_patient(rng: np.random.Generator) -> PatientAnatomy:
    """Draw a patient."""
    return PatientAnatomy(
        depth_fraction=rng.uniform(0.60, 0.84),
        height_fraction=rng.uniform(0.38, 0.45),
        roundness=rng.uniform(2.0, 2.35),
        nipple_row_fraction=rng.uniform(0.54, 0.62),
        pectoral_width_fraction=rng.uniform(0.30, 0.42),
        pectoral_height_fraction=rng.uniform(0.46, 0.62),
        density=rng.uniform(-1.3, 0.5),
        fat_level=rng.uniform(780.0, 1050.0),
        texture_seed=int(rng.integers(2**62)),
    )


def view_outline(anatomy: PatientAnatomy, view: ViewPosition, shape_px: tuple[int, int], rng: np.random.Generator) -> Outline:
    """The outline of one view; ``rng`` moves it by a few per cent, as positioning and side do."""
    rows, columns = shape_px
    wobble = 1.0 + rng.uniform(-0.03, 0.03, size=4)
    depth_px = anatomy.depth_fraction * columns * wobble[0]
    if view is ViewPosition.CC:
        half_px = anatomy.height_fraction * rows
        return Outline(
            shape_px=shape_px,
            origin_row_px=rows * 0.5 * wobble[1],
            depth_px=depth_px,
            up_px=half_px * wobble[2],
            down_px=half_px * wobble[3],
            roundness=anatomy.roundness,
            pectoral_px=None,
        )
    origin_row_px = anatomy.nipple_row_fraction * rows * wobble[1]
    return Outline(
        shape_px=shape_px,
        origin_row_px=origin_row_px,
        depth_px=depth_px,
        up_px=origin_row_px * 1.17,  # beyond the upper edge: the skin leaves the image towards the axilla
        down_px=(0.95 * rows - origin_row_px) * min(wobble[2], 1.0),
        roundness=anatomy.roundness,
        pectoral_px=(
            anatomy.pectoral_height_fraction * rows * wobble[3],
            anatomy.pectoral_width_fraction * columns * wobble[2],
        ),
    )


def coarse_depth_below_skin(outline: Outline) -> NDArray[np.float32]:
    """Depth below the skin on the coarse grid, (ceil(rows / 8), ceil(columns / 8)) pixels."""
    row, column = _coarse_centers_px(outline.shape_px)
    return outline.depth_below_skin_px(row, column).astype(Float)


def enlarge(coarse: NDArray[np.float32], shape_px: tuple[int, int]) -> NDArray[np.float32]:
    """From the coarse grid to the image's, linearly."""
    full_px = (coarse.shape[1] * STRIDE_PX, coarse.shape[0] * STRIDE_PX)
    full = cv2.resize(coarse, full_px, interpolation=cv2.INTER_LINEAR)
    return np.asarray(full[: shape_px[0], : shape_px[1]])


def coarse_tissue(
    anatomy: PatientAnatomy, outline: Outline, field: NDArray[np.float32], below_skin: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gray level of fat, gland and muscle, and the share of gland, both on the coarse grid.

    Args:
        anatomy: The patient.
        outline: The view.
        field: Power-law field with a standard deviation of about 1 to 1.5: where gland is.
        below_skin: Distance to the skin in pixels.
    """
    row, column = _coarse_centers_px(outline.shape_px)
    inside_px = np.maximum(below_skin, 0.0)
    thickness = 1.0 - 0.72 * np.exp(-inside_px / (0.035 * outline.shape_px[1] + 8.0))
    muscle = _muscle(outline, row, column)
    # Gland fills a cone that opens from the nipple to the chest wall and thins out in front of it.
    across = (row - outline.origin_row_px + 0.06 * outline.up_px) / (0.55 * (outline.up_px + outline.down_px) / 2)
    along = (column - 0.52 * outline.depth_px) / (0.36 * outline.depth_px)
    cone = 1.5 * np.exp(-0.5 * (across**2 + along**2)) - 1.0
    gland = 1.0 / (1.0 + np.exp(-1.5 * (1.1 * field + 1.7 * cone + anatomy.density)))
    gland = gland * (1.0 - 0.75 * muscle) * (1.0 - np.exp(-inside_px / (0.05 * outline.shape_px[1])))
    level = anatomy.fat_level * thickness + 900.0 * gland + 640.0 * muscle * thickness
    return level.astype(Float), gland.astype(Float)


def power_law_field(coarse_shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """The part of a 1/f^3 field that the coarse grid can carry."""
    # A margin keeps opposite edges of the periodic field apart.
    shape = fft.next_fast_len(coarse_shape[0] + 48, real=True), fft.next_fast_len(coarse_shape[1] + 48, real=True)
    return _shaped_noise(shape, STRIDE_PX, rng)[: coarse_shape[0], : coarse_shape[1]]


@lru_cache(maxsize=1)
def fine_texture_tile() -> NDArray[np.float32]:
    """The rest of the law as a periodic tile: frequencies so high that its repetition is not seen.

    One tile serves every image: each lays it from another corner.
    """
    return _shaped_noise((_TILE_PX, _TILE_PX), 1, np.random.default_rng(20190913))


def tiled(tile: NDArray[np.float32], shape_px: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """The tile laid over the image from a random corner."""
    top, left = (int(offset) for offset in rng.integers(0, _TILE_PX, size=2))
    laid = np.empty(shape_px, Float)
    for row in range(-top, shape_px[0], _TILE_PX):
        for column in range(-left, shape_px[1], _TILE_PX):
            part = laid[max(row, 0) : row + _TILE_PX, max(column, 0) : column + _TILE_PX]
            up, ahead = max(-row, 0), max(-column, 0)
            part[...] = tile[up : up + part.shape[0], ahead : ahead + part.shape[1]]
    return laid


def persistent_field(
    anatomy: PatientAnatomy,
    side: Laterality,
    view: ViewPosition,
    coarse_shape: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The patient's own field for this side and view with a twentieth of its variance new, as from one exam to the next."""
    own = power_law_field(coarse_shape, patient_view_rng(anatomy, side, view, "texture"))
    return np.asarray(np.sqrt(0.95) * own + np.sqrt(0.05) * power_law_field(coarse_shape, rng), dtype=Float)


def patient_view_rng(
    anatomy: PatientAnatomy, side: Laterality, view: ViewPosition, part: Literal["texture", "vessels"]
) -> np.random.Generator:
    """For what one patient's view shows in every exam."""
    view_number = 2 * list(Laterality).index(side) + list(ViewPosition).index(view)
    return np.random.default_rng((anatomy.texture_seed, view_number, ("texture", "vessels").index(part)))


def _coarse_centers_px(shape_px: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = (-(-side // STRIDE_PX) for side in shape_px)
    center_px = (STRIDE_PX - 1) / 2  # cv2.resize puts coarse pixel i at image row 8 i + 3.5
    row_px = np.arange(rows, dtype=np.float64) * STRIDE_PX + center_px
    column_px = np.arange(columns, dtype=np.float64) * STRIDE_PX + center_px
    return row_px[:, None], column_px[None, :]


@lru_cache(maxsize=16)
def _skin_table(outline: Outline) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Angles, the skin's radius at them in pixels, and its relative slope."""
    angle_rad = np.linspace(-np.pi / 2, np.pi / 2, _ANGLES)
    radius_px = outline.skin_radius_px(angle_rad)
    return angle_rad, radius_px, np.gradient(radius_px, angle_rad) / radius_px


def _muscle(outline: Outline, row: NDArray[np.float64], column: NDArray[np.float64]) -> NDArray[np.float64]:
    if outline.pectoral_px is None:
        return np.zeros((row.shape[0], column.shape[1]))
    height_px, width_px = outline.pectoral_px
    # Slightly convex edge: the muscle bulges towards the breast.
    reach = 1.0 - row / height_px
    edge_px = width_px * np.sign(reach) * np.abs(reach) ** 0.85
    softness_px = 0.008 * outline.shape_px[1] + 3.0
    return np.asarray(1.0 / (1.0 + np.exp(np.clip((column - edge_px) / softness_px, -30.0, 30.0))))


@lru_cache(maxsize=4)
def _amplitude(shape: tuple[int, int], stride_px: int) -> NDArray[np.float32]:
    """Amplitude of the law for white noise of unit variance on a grid; the coarse grid has the low share, the tile the high.

    The variance above f1 is the integral of A^2 f^-3 over the plane, 2 pi A^2 / f1; so A^2 = f1 / (2 pi).
    White noise of unit variance has density stride^2 per unit frequency squared, which is divided out.
    """
    rows, columns = np.fft.fftfreq(shape[0], stride_px)[:, None], np.fft.rfftfreq(shape[1], stride_px)[None, :]
    frequency_per_px = np.hypot(rows, columns)
    law = np.maximum(frequency_per_px, _FLAT_BELOW_PER_PX) ** (-_POWER_SLOPE / 2) * np.sqrt(_UNIT_ABOVE_PER_PX / (2.0 * np.pi))
    low_power = 1.0 / (1.0 + (frequency_per_px / _CROSSOVER_PER_PX) ** 8)
    share = np.sqrt(low_power if stride_px > 1 else 1.0 - low_power)
    return np.asarray(law * share / stride_px, dtype=Float)


def _shaped_noise(shape: tuple[int, int], stride_px: int, rng: np.random.Generator) -> NDArray[np.float32]:
    white = rng.standard_normal(shape, dtype=Float)
    return np.asarray(fft.irfft2(fft.rfft2(white) * _amplitude(shape, stride_px), s=shape), dtype=Float)
