"""Augmentation: draws follow from (seed, epoch, row) alone, anatomy is kept, and each change does what it is named for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gmic_model.learning.augmentation import (
    Change,
    Purpose,
    ViewFacts,
    changed,
    draw_change,
    generator_of,
    kept_rows,
)
from gmic_model.learning.exam_loader import Batch, ExamViews, loaded
from gmic_model.preprocess import PreparedView
from schemas.config.recipe import AugmentConfig
from schemas.exam import UNKNOWN, ViewGeometry, ViewPosition

CPU = torch.device("cpu")
SIZE = (48, 32)
ALL = AugmentConfig(
    flip_cc=0.5, rotation_deg=10, scaling=0.1, gamma=0.3, contrast=0.2, noise=0.1, mixup=0.4, drop_views=0.3, drop_breasts=0.3
)
EXAMS = 6


def _read(row: int) -> PreparedView:
    rng = np.random.default_rng(row)
    pixels_HW = rng.integers(100, 400, SIZE, dtype=np.uint16)
    pixels_HW[:, 20:] = 0
    geometry = ViewGeometry(
        source_shape_px=SIZE, crop_box_px=(0, SIZE[0], 0, SIZE[1]), is_flipped=False, scale=1.0,
        best_center_px=(SIZE[0] // 2, SIZE[1] // 2), window_px=SIZE, view_position=ViewPosition.CC,
    )  # fmt: skip
    return PreparedView(pixels_HW=pixels_HW, geometry=geometry, tissue_fraction=0.5)


def views(augment: AugmentConfig | None, **changes: object) -> ExamViews:
    """Exams of four views; the labels of every third row are not known."""
    rows = range(4 * EXAMS)
    position = {row: "CC" if row % 2 == 0 else "MLO" for row in rows}
    facts = ViewFacts(
        position_of_row=position,
        side_of_row={row: "L" if row % 4 < 2 else "R" for row in rows},
        rows_of_position={name: [row for row in rows if position[row] == name] for name in ("CC", "MLO")},
    )
    made = ExamViews(
        rows_of_exam=[tuple(range(4 * exam, 4 * exam + 4)) for exam in range(EXAMS)],
        label_by_row={row: (UNKNOWN if row % 3 == 0 else 0, row % 2) for row in rows},
        read_view=_read,
        seed=5,
        augment=augment,
        facts=facts,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def by_row(batches: list[Batch]) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Image and labels of each row."""
    return {
        row: (batch.image_N1HW[index], batch.label_NC[index])
        for batch in batches
        for index, row in enumerate(batch.row_N.tolist())
    }


def test_a_row_s_change_is_the_same_in_any_thread_batch_and_order() -> None:
    """Every option on: one exam at a time without threads, and three a batch, backwards, read by three threads."""
    epoch = views(ALL).of_epoch(2)
    alone = by_row(list(loaded(epoch, [[exam] for exam in range(EXAMS)], CPU)))
    together = by_row(list(loaded(epoch, [[5, 3, 1], [4, 2, 0]], CPU, threads=3, ahead=2)))
    assert alone.keys() == together.keys() and 0 < len(alone) < 4 * EXAMS
    for row, (image, label) in alone.items():
        assert torch.equal(image, together[row][0]) and torch.equal(label, together[row][1])
    other = by_row(list(loaded(views(ALL).of_epoch(3), [[exam] for exam in range(EXAMS)], CPU)))
    shared = alone.keys() & other.keys()
    assert shared and not any(torch.equal(alone[row][0], other[row][0]) for row in shared)


def test_without_options_images_are_as_they_were() -> None:
    """No augmentation, and one whose every option is off, give the same bits and whole labels."""
    batches = [list(loaded(views(augment).of_epoch(1), [[0, 1]], CPU)) for augment in (None, AugmentConfig())]
    for first, second in zip(*batches, strict=True):
        assert torch.equal(first.image_N1HW, second.image_N1HW) and first.label_NC.dtype == torch.int64
        assert torch.equal(first.label_NC, second.label_NC)


def test_one_option_does_not_move_the_draws_of_another() -> None:
    """With noise beside it, a rotation is by the same angle."""
    draws = [
        draw_change(config, "CC", generator_of(0, 1, 7, Purpose.IMAGE))
        for config in (AugmentConfig(rotation_deg=10), AugmentConfig(rotation_deg=10, noise=0.5, flip_cc=1.0, gamma=0.2))
    ]
    assert draws[0].angle_deg == draws[1].angle_deg != 0.0 and draws[1].is_flipped and not draws[0].is_flipped


def test_only_cc_views_are_turned_upside_down() -> None:
    """An MLO view upside down would have its muscle at the wrong end; the chest wall stays on its side in both."""
    flip = AugmentConfig(flip_cc=1.0)
    for row in range(20):
        drawn = [draw_change(flip, position, generator_of(0, 0, row, Purpose.IMAGE)) for position in ("MLO", "CC")]
        assert [change._replace(noise_seed=0) for change in drawn] == [Change(), Change(is_flipped=True)]
    image = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(changed(image, Change(is_flipped=True)), torch.tensor([[8.0, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]))


def test_a_rotation_turns_by_its_angle_and_a_scaling_by_its_share() -> None:
    """A square dot right of the middle of a 61 x 41 image goes to where trigonometry says; square pixels stay square."""
    image = torch.zeros(61, 41)
    image[29:32, 33:36] = 1.0  # middle of the dot: 14 pixels right of the image's
    rows, columns = torch.meshgrid(torch.arange(61.0), torch.arange(41.0), indexing="ij")

    def middle(change: Change) -> tuple[float, float]:
        moved = changed(image, change)
        return float((moved * rows).sum() / moved.sum()) - 30, float((moved * columns).sum() / moved.sum()) - 20

    assert middle(Change(angle_deg=30.0)) == pytest.approx((-14 * 0.5, 14 * 3**0.5 / 2), abs=0.1)
    assert middle(Change(scale=1.2)) == pytest.approx((0.0, 16.8), abs=0.1)
    assert float(changed(image, Change(scale=1.2)).sum()) == pytest.approx(9 * 1.44, rel=0.05)
    assert float(changed(image - 3.0, Change(angle_deg=30.0)).amin()) == -3.0  # what comes in is background


def test_brightness_contrast_and_noise_do_what_they_say() -> None:
    """Gamma keeps the order, the mean 0 and the spread 1; contrast multiplies; noise is in the breast alone, by its seed."""
    image = torch.randn(40, 30).clamp_min(-1.0)
    image = (image - image.mean()) / image.std(correction=0)
    gamma = changed(image, Change(gamma=1.3))
    assert torch.equal(gamma.flatten().argsort(stable=True), image.flatten().argsort(stable=True))
    assert float(gamma.mean()) == pytest.approx(0, abs=1e-5) and float(gamma.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert torch.equal(changed(image, Change(contrast=1.2)), image * 1.2)
    noisy = changed(image, Change(noise=0.1, noise_seed=3))
    is_air = image == image.amin()
    assert torch.equal(noisy[is_air], image[is_air]) and float((noisy - image)[~is_air].std()) == pytest.approx(0.1, rel=0.1)
    assert torch.equal(noisy, changed(image, Change(noise=0.1, noise_seed=3)))
    assert not torch.equal(noisy, changed(image, Change(noise=0.1, noise_seed=4)))


def test_a_mixed_image_and_its_labels_have_the_same_shares() -> None:
    """Between two images of one position, the own share at least a half; a label that is not known of one is not of both."""
    mixed = by_row(list(loaded(views(AugmentConfig(mixup=1.0)).of_epoch(0), [list(range(EXAMS))], CPU)))
    plain = by_row(list(loaded(views(None).of_epoch(0), [list(range(EXAMS))], CPU)))
    shares = []
    for row, (image, label) in mixed.items():
        if torch.allclose(image, plain[row][0], atol=1e-3):  # mixed with itself, or hardly
            continue
        fits = []
        for other in {*range(row % 2, 4 * EXAMS, 2)} - {row}:  # rows of the same position
            direction = plain[other][0] - plain[row][0]
            share = 1 - float(((image - plain[row][0]) * direction).sum() / direction.square().sum())
            if torch.allclose(image, plain[row][0] + (1 - share) * direction, atol=1e-4):
                fits.append((other, share))
        ((other, share),) = fits
        shares.append(share)
        assert 0.5 - 1e-4 <= share <= 1 + 1e-4
        for finding in range(2):
            own, theirs = float(plain[row][1][finding]), float(plain[other][1][finding])
            expected = UNKNOWN if UNKNOWN in (own, theirs) else share * own + (1 - share) * theirs
            assert float(label[finding]) == pytest.approx(expected, abs=1e-4)
    assert len(shares) > 12 and np.std(shares) > 0.05


def test_an_exam_keeps_a_view_of_a_breast() -> None:
    """However much is dropped; the shares are those that are asked for, and every process counts the same views."""
    facts = views(None).facts
    everything = AugmentConfig(drop_views=1.0, drop_breasts=1.0)
    assert all(len(kept_rows(everything, (0, 1, 2, 3), facts, seed=0, epoch=epoch)) == 1 for epoch in range(20))
    some = AugmentConfig(drop_breasts=0.25)
    kept = [kept_rows(some, (0, 1, 2, 3), facts, seed=0, epoch=epoch) for epoch in range(400)]
    assert {(0, 1), (2, 3), (0, 1, 2, 3)} == {*kept}
    assert 60 < sum(len(rows) == 2 for rows in kept) < 140  # 100 with a standard deviation of 9
    single = [kept_rows(AugmentConfig(drop_views=0.25), (0, 1, 2, 3), facts, seed=0, epoch=epoch) for epoch in range(400)]
    assert 1100 < sum(map(len, single)) < 1300  # 1200 with a standard deviation of 17
