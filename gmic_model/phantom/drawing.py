"""A synthetic screening exam: what is in each breast, and the pixels and lesion mask of each view. Arrays only, no files.

Orientation is that of a stored "For Presentation" image: a left breast has its chest wall at column 0, a right one at the last
column; the air is exactly 0. Shape and tissue live in ``phantom_anatomy``, findings and normal knots in ``phantom_lesions``.
The phantom imitates what the paper's problem is made of (large images, small findings, fine detail), not the physics of a tube.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.phantom.anatomy import (
    Outline,
    PatientAnatomy,
    coarse_depth_below_skin,
    coarse_tissue,
    enlarge,
    fine_texture_tile,
    patient_view_rng,
    persistent_field,
    sample_patient,
    tiled,
    view_outline,
)
from gmic_model.phantom.lesions import SPOT_PX, Spot, SpotKind, SpotStyle, draw_spot, reach_px
from schemas.errors import ConfigError
from schemas.exam import FINDINGS, Finding, Laterality, ViewPosition

GENERATOR_VERSION = "1"
"""Changes whenever the same seed gives other pixels."""

BITS_STORED = 12
PIXEL_SPACING_MM = 0.07
SMALLEST_PX = (384, 288)
"""Smallest image, rows and columns: spots keep their size in pixels, so below this they would not fit into the breast."""

VIEWS: tuple[tuple[Laterality, ViewPosition], ...] = tuple((side, view) for side in Laterality for view in ViewPosition)

_DARKEST = 60.0  # inside the skin; the air alone is 0
_REFERENCE_AREA_PX = 640 * 448  # the counts of normal structures below are for an image of this size
_PLACE_TRIES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamPlan:
    """Everything that decides an exam's pixels; small, so that single views can be drawn again.

    Attributes:
        outlines: The skin of each view.
        spots: Findings and normal knots of each breast, seen in both of its views.
        view_seeds: For what is new in each view: texture, vessels, noise.
    """

    image_size_px: tuple[int, int]
    difficulty: float
    anatomy: PatientAnatomy
    outlines: Mapping[tuple[Laterality, ViewPosition], Outline]
    spots: Mapping[Laterality, tuple[Spot, ...]]
    view_seeds: Mapping[tuple[Laterality, ViewPosition], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnView:
    """One image.

    Attributes:
        pixels_HW: 12 bits, air exactly 0.
        lesion_mask_HW: Bit 0 benign, bit 1 malignant; normal knots are not in it.
        spot_centers_px: (row, column) in this image of each spot of the breast, in the plan's order.
    """

    pixels_HW: NDArray[np.uint16]
    lesion_mask_HW: NDArray[np.uint8]
    spot_centers_px: tuple[tuple[float, float], ...]


def plan_exam(
    *,
    image_size_px: tuple[int, int],
    findings: Mapping[Laterality, frozenset[Finding]],
    difficulty: float,
    patient_rng: np.random.Generator,
    exam_rng: np.random.Generator,
) -> ExamPlan:
    """Decide an exam.

    Args:
        image_size_px: Rows and columns of every view.
        findings: What each breast holds; a side left out holds nothing.
        difficulty: 0 bold lesions and few distractors, 1 faint lesions and many.
        patient_rng: Freshly seeded per patient: exams given equal generators show the same anatomy.
        exam_rng: Seeded per exam.

    Raises:
        ConfigError: The image is too small for findings of a fixed size in pixels.
    """
    if image_size_px[0] < SMALLEST_PX[0] or image_size_px[1] < SMALLEST_PX[1]:
        raise ConfigError(
            "A phantom image is too small to hold its findings, whose size in pixels is fixed",
            expected=f"at least {SMALLEST_PX[0]} rows and {SMALLEST_PX[1]} columns",
            got=f"{image_size_px[0]} rows and {image_size_px[1]} columns",
            remedy="raise phantom.image_size_px",
        )
    anatomy = sample_patient(patient_rng)
    outlines = {
        (side, view): view_outline(anatomy, view, image_size_px, exam_rng) for side in Laterality for view in ViewPosition
    }
    spots = {
        side: _plan_spots(
            findings.get(side, frozenset()),
            (outlines[side, ViewPosition.CC], outlines[side, ViewPosition.MLO]),
            difficulty,
            exam_rng,
        )
        for side in Laterality
    }
    view_seeds = {key: int(exam_rng.integers(2**62)) for key in VIEWS}
    return ExamPlan(
        image_size_px=image_size_px,
        difficulty=difficulty,
        anatomy=anatomy,
        outlines=outlines,
        spots=spots,
        view_seeds=view_seeds,
    )


def draw_view(plan: ExamPlan, side: Laterality, view: ViewPosition) -> DrawnView:
    """Draw one view of a planned exam; equal plans give equal pixels."""
    outline = plan.outlines[side, view]
    rng = np.random.default_rng(plan.view_seeds[side, view])
    coarse_below_skin = coarse_depth_below_skin(outline)
    field = persistent_field(plan.anatomy, side, view, coarse_below_skin.shape, rng)
    level, gland = coarse_tissue(plan.anatomy, outline, field, coarse_below_skin)
    pixels = enlarge(level, plan.image_size_px)
    texture = tiled(fine_texture_tile(), plan.image_size_px, rng)
    texture *= enlarge(60.0 + 190.0 * gland, plan.image_size_px)
    pixels += texture
    _add_strands(pixels, outline, plan.difficulty, patient_view_rng(plan.anatomy, side, view, "vessels"), rng)
    mask_HW = np.zeros(plan.image_size_px, np.uint8)
    centers = tuple(_add_spot(pixels, mask_HW, spot, outline, view, plan.difficulty) for spot in plan.spots[side])
    _add_lone_specks(pixels, outline, plan.difficulty, rng)
    pixels_HW = _with_skin(pixels, enlarge(coarse_below_skin, plan.image_size_px))
    mask_HW *= pixels_HW > 0
    if side is Laterality.RIGHT:
        pixels_HW, mask_HW = np.ascontiguousarray(pixels_HW[:, ::-1]), np.ascontiguousarray(mask_HW[:, ::-1])
        centers = tuple((row, plan.image_size_px[1] - 1 - column) for row, column in centers)
    return DrawnView(pixels_HW=pixels_HW, lesion_mask_HW=mask_HW, spot_centers_px=centers)


def draw_exam(plan: ExamPlan) -> dict[tuple[Laterality, ViewPosition], DrawnView]:
    """All four views of a planned exam."""
    return {(side, view): draw_view(plan, side, view) for side, view in VIEWS}


def _plan_spots(
    findings: frozenset[Finding], outlines: tuple[Outline, Outline], difficulty: float, rng: np.random.Generator
) -> tuple[Spot, ...]:
    """Findings take the place of normal knots: how many spots a breast has says nothing about its label."""
    area_factor = float(np.sqrt(np.prod(outlines[0].shape_px) / _REFERENCE_AREA_PX))
    count = 2 + int(rng.poisson(3.0 * difficulty * area_factor))
    classes: list[Finding | None] = [None] * count
    classes[: len(findings)] = [finding for finding in FINDINGS if finding in findings]
    spots: list[Spot] = []
    for finding in classes:
        spot = _sample_spot(finding, outlines, rng)
        for _ in range(_PLACE_TRIES):
            if _is_placed_well(spot, outlines, spots):
                break
            spot = _sample_spot(finding, outlines, rng, like=spot)
        else:
            if finding is None:
                continue  # a crowded breast goes without this knot
            spot = _centered(spot, outlines)
        spots.append(spot)
    return tuple(spots)


def _sample_spot(
    finding: Finding | None, outlines: tuple[Outline, Outline], rng: np.random.Generator, like: Spot | None = None
) -> Spot:
    depth_px = min(outline.depth_px for outline in outlines)
    return Spot(
        kind=like.kind if like else (SpotKind.MASS if rng.random() < 0.5 else SpotKind.CALCIFICATIONS),
        finding=finding,
        depth_px=rng.uniform(0.2, 0.8) * depth_px,
        across_px=(rng.normal(0.0, 0.3) * outlines[0].up_px, rng.normal(0.0, 0.3) * outlines[1].down_px),
        core_px=like.core_px if like else rng.uniform(10.0, 18.0),
        contrast=like.contrast if like else rng.uniform(0.8, 1.2),
        shape_seed=like.shape_seed if like else int(rng.integers(2**62)),
    )


def _is_placed_well(spot: Spot, outlines: tuple[Outline, Outline], others: list[Spot]) -> bool:
    """Inside the breast and the image in both views, and not on another spot."""
    reach = reach_px(spot)
    for outline, across_px in zip(outlines, spot.across_px, strict=True):
        row, column = outline.point_px(spot.depth_px, across_px)
        below_skin = float(outline.depth_below_skin_px(np.array(row), np.array(column)))
        if min(below_skin - 10.0, row, outline.shape_px[0] - 1 - row, column) < reach:
            return False
    return all(
        min(
            np.hypot(spot.depth_px - other.depth_px, here - there)
            for here, there in zip(spot.across_px, other.across_px, strict=True)
        )
        > 0.8 * (reach + reach_px(other))
        for other in others
    )


def _centered(spot: Spot, outlines: tuple[Outline, Outline]) -> Spot:
    """A finding that found no free place goes to the middle of the breast."""
    return Spot(
        kind=spot.kind,
        finding=spot.finding,
        depth_px=0.5 * min(outline.depth_px for outline in outlines),
        across_px=(0.0, 0.0),
        core_px=spot.core_px,
        contrast=spot.contrast,
        shape_seed=spot.shape_seed,
    )


def _add_spot(
    pixels: NDArray[np.float32],
    mask_HW: NDArray[np.uint8],
    spot: Spot,
    outline: Outline,
    view: ViewPosition,
    difficulty: float,
) -> tuple[float, float]:
    view_index = list(ViewPosition).index(view)
    row, column = outline.point_px(spot.depth_px, spot.across_px[view_index])
    whole = round(row), round(column)
    drawn = draw_spot(
        spot,
        SpotStyle.of_difficulty(difficulty),
        view_index=view_index,
        offset_px=(row - whole[0], column - whole[1]),
    )
    top, left = whole[0] - SPOT_PX // 2, whole[1] - SPOT_PX // 2
    rows = slice(max(top, 0), min(top + SPOT_PX, pixels.shape[0]))
    columns = slice(max(left, 0), min(left + SPOT_PX, pixels.shape[1]))
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    pixels[rows, columns] += drawn.added_PQ[part]
    if spot.finding is not None:
        mask_HW[rows, columns] |= drawn.extent_PQ[part].astype(np.uint8) << np.uint8(FINDINGS.index(spot.finding))
    return row, column


def _add_strands(
    pixels: NDArray[np.float32],
    outline: Outline,
    difficulty: float,
    vessel_rng: np.random.Generator,
    ligament_rng: np.random.Generator,
) -> None:
    """Vessels and Cooper's ligaments: normal thin lines, a few pixels wide like spicules but long and alone."""
    rows, columns = outline.shape_px
    canvas = np.zeros((rows, columns), np.uint8)
    rng = vessel_rng
    for _ in range(int(rng.integers(2, 6))):
        start = outline.origin_row_px + rng.uniform(-0.6, 0.6) * outline.down_px, 0.0
        stop = outline.point_px(rng.uniform(0.05, 0.35) * outline.depth_px, rng.uniform(-0.35, 0.35) * outline.down_px)
        _bent_line(canvas, start, stop, int(rng.integers(70, 150)), int(rng.integers(2, 5)), rng)
    rng = ligament_rng
    for _ in range(int(rng.poisson(12.0 * difficulty * rows * columns / _REFERENCE_AREA_PX))):
        start = outline.point_px(rng.uniform(0.1, 0.95) * outline.depth_px, rng.normal(0.0, 0.4) * outline.down_px)
        angle, length_px = rng.uniform(0.0, np.pi), rng.uniform(30.0, 110.0)
        stop = start[0] + length_px * np.sin(angle), start[1] + length_px * np.cos(angle)
        _bent_line(canvas, start, stop, int(rng.integers(70, 170)), int(rng.integers(1, 3)), rng)
    cv2.GaussianBlur(canvas, (3, 3), 0.7, dst=canvas)
    cv2.add(pixels, canvas, dst=pixels, dtype=cv2.CV_32F)


def _bent_line(
    canvas: NDArray[np.uint8],
    start: tuple[float, float],
    stop: tuple[float, float],
    level: int,
    width_px: int,
    rng: np.random.Generator,
) -> None:
    share = np.linspace(0.0, 1.0, 24)[:, None]
    chord = np.array(stop) - np.array(start)
    normal = np.array([chord[1], -chord[0]])
    bend = rng.uniform(-0.14, 0.14) * np.sin(np.pi * share) + rng.uniform(-0.05, 0.05) * np.sin(2 * np.pi * share)
    points = np.array(start) + share * chord + bend * normal
    fixed = np.round(points[:, ::-1] * 16.0).astype(np.int32)
    cv2.polylines(canvas, [fixed[:, None, :]], False, level, width_px, cv2.LINE_AA, 4)


def _add_lone_specks(pixels: NDArray[np.float32], outline: Outline, difficulty: float, rng: np.random.Generator) -> None:
    """Single punctate calcifications, as in many normal breasts: one speck is no cluster."""
    area_factor = float(np.sqrt(np.prod(outline.shape_px) / _REFERENCE_AREA_PX))
    for _ in range(int(rng.poisson(4.0 * difficulty * area_factor))):
        row, column = outline.point_px(rng.uniform(0.15, 0.9) * outline.depth_px, rng.normal(0.0, 0.4) * outline.down_px)
        top, left = round(row) - 1, round(column) - 1
        part = pixels[max(top, 0) : top + 3, max(left, 0) : left + 3]
        if part.shape == (3, 3):
            part += rng.uniform(300.0, 800.0) * np.array([[0.4, 0.9, 0.4], [0.9, 1.0, 0.9], [0.4, 0.9, 0.4]], np.float32)


def _with_skin(pixels: NDArray[np.float32], below_skin_px: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Add the bright skin line, clip to the stored range, and empty the air."""
    skin = np.abs(below_skin_px - np.float32(7.0))
    np.subtract(np.float32(6.0), skin, out=skin)
    np.maximum(skin, 0.0, out=skin)
    skin *= np.float32(170.0 / 6.0)
    pixels += skin
    np.clip(pixels, _DARKEST, (1 << BITS_STORED) - 1, out=pixels)
    pixels *= below_skin_px > 0.0
    return pixels.astype(np.uint16)
