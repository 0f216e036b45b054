"""The phantom's pixels: reproducible, the right way round, findings inside the breast and only in fine detail."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gmic_model.phantom.drawing import VIEWS, DrawnView, ExamPlan, draw_exam, draw_view, plan_exam
from schemas.errors import ConfigError
from schemas.exam import FINDINGS, Finding, Laterality, ViewPosition

SIZE_PX = (448, 352)
BOTH = {Laterality.RIGHT: frozenset({Finding.BENIGN}), Laterality.LEFT: frozenset({Finding.BENIGN, Finding.MALIGNANT})}


def _plan(seed: int, *, exam: int = 0, difficulty: float = 0.5, size_px: tuple[int, int] = SIZE_PX) -> ExamPlan:
    return plan_exam(
        image_size_px=size_px,
        findings=BOTH,
        difficulty=difficulty,
        patient_rng=np.random.default_rng((seed, 0)),
        exam_rng=np.random.default_rng((seed, 1, exam)),
    )


@lru_cache(maxsize=8)
def _drawn(seed: int) -> tuple[ExamPlan, dict[tuple[Laterality, ViewPosition], DrawnView]]:
    plan = _plan(seed)
    return plan, draw_exam(plan)


def test_equal_generators_give_equal_pixels() -> None:
    """A view drawn alone, from a plan made again, has the same pixels and mask as within its exam."""
    _, drawn = _drawn(0)
    for side, view in VIEWS:
        again = draw_view(_plan(0), side, view)
        np.testing.assert_array_equal(again.pixels_HW, drawn[side, view].pixels_HW)
        np.testing.assert_array_equal(again.lesion_mask_HW, drawn[side, view].lesion_mask_HW)


def test_pixels_are_twelve_bits_with_black_air() -> None:
    """uint16 below 4096, air exactly 0, and what is above 0 is one breast without holes."""
    for image in _drawn(0)[1].values():
        assert image.pixels_HW.dtype == np.uint16
        assert image.pixels_HW.shape == SIZE_PX
        assert image.pixels_HW.max() < 4096
        count, _ = cv2.connectedComponents((image.pixels_HW > 0).astype(np.uint8))
        assert count == 2  # air and one breast
        holes, _ = cv2.connectedComponents((np.pad(image.pixels_HW, 1) == 0).astype(np.uint8))
        assert holes == 2


def test_left_breast_has_its_chest_wall_at_column_0() -> None:
    """Images are stored unflipped: L points right, R points left, and their outlines mirror each other."""
    drawn = _drawn(1)[1]
    for view in ViewPosition:
        left_HW, right_HW = drawn[Laterality.LEFT, view].pixels_HW > 0, drawn[Laterality.RIGHT, view].pixels_HW > 0
        assert left_HW[:, 0].mean() > 0.5
        assert not left_HW[:, -1].any()
        mirrored_HW = right_HW[:, ::-1]
        assert (left_HW & mirrored_HW).sum() / (left_HW | mirrored_HW).sum() > 0.88
        assert (left_HW & right_HW).sum() / (left_HW | right_HW).sum() < 0.7


def test_pectoral_muscle_is_bright_in_the_upper_chest_corner_of_mlo_only() -> None:
    """MLO: the corner is muscle, brighter than CC's, which is air."""
    for seed in range(3):
        drawn = _drawn(seed)[1]
        corner = np.s_[:20, :20]
        assert drawn[Laterality.LEFT, ViewPosition.MLO].pixels_HW[corner].min() > 1000
        assert drawn[Laterality.LEFT, ViewPosition.CC].pixels_HW[:8, :20].max() == 0
        assert drawn[Laterality.RIGHT, ViewPosition.MLO].pixels_HW[:20, -20:].min() > 1000


def test_lesions_lie_inside_the_breast_in_every_view() -> None:
    """Each finding's bit is in both views' masks, on tissue, away from the skin and image edge, and at its centre."""
    for seed in range(5):
        plan, drawn = _drawn(seed)
        for (side, _), image in drawn.items():
            skin_free_HW = cv2.erode((image.pixels_HW > 0).astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
            for spot, center in zip(plan.spots[side], image.spot_centers_px, strict=True):
                row, column = (round(float(place)) for place in center)
                if spot.finding is None:
                    continue
                bit_HW = (image.lesion_mask_HW >> FINDINGS.index(spot.finding)) & 1
                assert bit_HW[row - 3 : row + 4, column - 3 : column + 4].any()
                assert bit_HW.sum() > 100
                assert not bit_HW[~skin_free_HW].any()
            expected = sum(1 << FINDINGS.index(finding) for finding in BOTH[side])
            assert np.bitwise_or.reduce(image.lesion_mask_HW, axis=None) == expected


def test_both_views_show_the_finding_at_the_same_depth() -> None:
    """A finding's distance behind the nipple line is the same in CC and MLO (the radiologist's arc), to a pixel."""
    plan, drawn = _drawn(2)
    for side in Laterality:
        for index in range(len(plan.spots[side])):
            depths = []
            for view in ViewPosition:
                column = drawn[side, view].spot_centers_px[index][1]
                from_chest_px = column if side is Laterality.LEFT else SIZE_PX[1] - 1 - column
                depths.append(plan.outlines[side, view].depth_px - from_chest_px)
            assert abs(depths[0] - depths[1]) < 1.0


def test_exams_of_a_patient_look_alike_and_others_do_not() -> None:
    """Anatomy persists: blurred tissue of two exams of one patient correlates more than that of two patients."""

    def tissue(seed: int, exam: int) -> NDArray[np.float32]:
        image = draw_view(_plan(seed, exam=exam, difficulty=0.0), Laterality.LEFT, ViewPosition.CC)
        blurred_HW = cv2.GaussianBlur(image.pixels_HW.astype(np.float32), (0, 0), 8.0)
        return np.asarray(blurred_HW[140:310, 5:180].ravel(), dtype=np.float32)

    same = [np.corrcoef(tissue(seed, 0), tissue(seed, 1))[0, 1] for seed in range(4)]
    other = [np.corrcoef(tissue(seed, 0), tissue(seed + 50, 0))[0, 1] for seed in range(4)]
    assert float(np.mean(same)) > float(np.mean(other)) + 0.2


def test_findings_do_not_change_the_number_of_spots() -> None:
    """A finding takes a knot's place: on average, breasts with and without one have as many spots, so a count tells nothing."""
    counts: dict[int, list[int]] = {0: [], 1: []}
    for seed in range(150):
        plan = plan_exam(
            image_size_px=(640, 448),
            findings={Laterality.LEFT: frozenset({Finding.MALIGNANT})},
            difficulty=0.5,
            patient_rng=np.random.default_rng((seed, 0)),
            exam_rng=np.random.default_rng((seed, 1)),
        )
        counts[1].append(len(plan.spots[Laterality.LEFT]))
        counts[0].append(len(plan.spots[Laterality.RIGHT]))
    # Poisson(1.5): standard error of the difference of two means of 150 is sqrt(2 * 1.5 / 150) = 0.14.
    assert abs(np.mean(counts[0]) - np.mean(counts[1])) < 0.45


def test_lesions_keep_their_size_in_pixels_in_larger_images() -> None:
    """A large phantom is a large field of view: the lesion masks of 448 x 352 and 1664 x 1280 images are equally large."""
    areas = []
    for size_px in ((448, 352), (1664, 1280)):
        plans = [_plan(seed, size_px=size_px) for seed in range(4)]
        views = [draw_view(plan, Laterality.LEFT, ViewPosition.CC) for plan in plans]
        areas.append(np.mean([(view.lesion_mask_HW > 0).sum() for view in views]))
    assert 0.6 < areas[0] / areas[1] < 1.6


def test_too_small_an_image_is_refused() -> None:
    """Findings of 100 pixels do not fit into 256 x 192."""
    with pytest.raises(ConfigError, match="too small"):
        _plan(0, size_px=(256, 192))
