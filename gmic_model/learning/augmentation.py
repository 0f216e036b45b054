"""Random changes of training images, drawn from (seed, epoch, row): the same whatever thread, process or order they come in.

Images are changed on the device that trains. All breasts lie with the chest wall on one side; nothing here changes that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from gmic_model.preprocess import SMALLEST_STD
from schemas.config.recipe import AugmentConfig


class Purpose(IntEnum):
    """What a draw is for: a number in its seed, so that one option's draws do not depend on another's."""

    IMAGE = 1
    MIXING = 2
    VIEW = 3
    BREAST = 4
    HIDING = 5


@dataclass(frozen=True, slots=True)
class ViewFacts:
    """What augmentation knows of the training views.

    Attributes:
        position_of_row: "CC" or "MLO".
        side_of_row: The breast of a view, among its exam's.
        rows_of_position: Training rows of each position, in ascending order.
    """

    position_of_row: Mapping[int, str] = field(default_factory=dict)
    side_of_row: Mapping[int, str] = field(default_factory=dict)
    rows_of_position: Mapping[str, Sequence[int]] = field(default_factory=dict)


NO_FACTS: Final = ViewFacts()
"""Of views that nothing changes."""


class Change(NamedTuple):
    """What is drawn for one image; what is off is the identity.

    Attributes:
        is_flipped: Upside down.
        angle_deg: Rotation.
        scale: Size against the image's own.
        gamma: Exponent of brightness.
        contrast: Factor of the standardised values.
        noise: Spread of the noise.
        noise_seed: Of its values.
    """

    is_flipped: bool = False
    angle_deg: float = 0.0
    scale: float = 1.0
    gamma: float = 1.0
    contrast: float = 1.0
    noise: float = 0.0
    noise_seed: int = 0


class Mixing(NamedTuple):
    """With which other image one is mixed, and its own share, at least a half."""

    row: int
    share: float


def generator_of(seed: int, epoch: int, key: int, purpose: Purpose) -> np.random.Generator:
    """The draws of a row, or of an exam by its first row."""
    return np.random.default_rng((seed, epoch, key, purpose))


def draw_change(config: AugmentConfig, position: str, rng: np.random.Generator) -> Change:
    """The change of one image; every number is drawn whether it is used or not, so that no option moves another's draws."""
    flip, angle, scale, gamma, contrast, noise = rng.uniform(-1.0, 1.0, 6)
    return Change(
        is_flipped=position == "CC" and (flip + 1.0) / 2.0 < config.flip_cc,
        angle_deg=angle * config.rotation_deg,
        scale=1.0 + scale * config.scaling,
        gamma=(1.0 + config.gamma) ** gamma,
        contrast=1.0 + contrast * config.contrast,
        noise=(noise + 1.0) / 2.0 * config.noise,
        noise_seed=int(rng.integers(2**62)),
    )


def draw_mixing(config: AugmentConfig, row: int, facts: ViewFacts, rng: np.random.Generator) -> Mixing:
    """Another training view of the same position, whatever breast it is of; its share is never the larger one."""
    rows = facts.rows_of_position[facts.position_of_row[row]]
    share = float(rng.beta(config.mixup, config.mixup))
    return Mixing(int(rows[int(rng.integers(len(rows)))]), max(share, 1.0 - share))


def kept_rows(config: AugmentConfig, rows: Sequence[int], facts: ViewFacts, *, seed: int, epoch: int) -> tuple[int, ...]:
    """The views of an exam that an epoch shows: at least one of at least one breast."""
    sides = sorted({facts.side_of_row[row] for row in rows})
    drop, which = generator_of(seed, epoch, rows[0], Purpose.BREAST).uniform(0.0, 1.0, 2)
    if len(sides) > 1 and drop < config.drop_breasts:
        left_out = sides[int(which * len(sides))]
        rows = [row for row in rows if facts.side_of_row[row] != left_out]
    drawn = {row: float(generator_of(seed, epoch, row, Purpose.VIEW).uniform()) for row in rows}
    return tuple(row for row in rows if drawn[row] >= config.drop_views) or (max(rows, key=lambda row: drawn[row]),)


def changed(image_HW: Tensor, change: Change) -> Tensor:
    """A standardised image, changed; its background is its smallest value, and is what comes in at the borders."""
    background = image_HW.amin()
    if change.is_flipped:
        image_HW = image_HW.flip(0)
    if change.angle_deg or change.scale != 1.0:
        image_HW = _turned(image_HW - background, change) + background
    if change.gamma != 1.0:
        image_HW = _brightened(image_HW, change.gamma)
    breast_HW = image_HW > image_HW.amin()
    if change.contrast != 1.0:
        image_HW = image_HW * change.contrast
    if change.noise:
        generator = torch.Generator(image_HW.device).manual_seed(change.noise_seed)
        noise_HW = torch.randn(image_HW.shape, generator=generator, device=image_HW.device)
        image_HW = image_HW + torch.where(breast_HW, change.noise * noise_HW, 0.0)
    return image_HW


def _turned(image_HW: Tensor, change: Change) -> Tensor:
    """Rotated about the image's middle and scaled, bilinear; pixels are square whatever the image's shape."""
    rows, columns = image_HW.shape
    angle = math.radians(change.angle_deg)
    cosine, sine = math.cos(angle) / change.scale, math.sin(angle) / change.scale
    matrix_123 = image_HW.new_tensor([[[cosine, -sine * rows / columns, 0.0], [sine * columns / rows, cosine, 0.0]]])
    grid = affine_grid(matrix_123, [1, 1, rows, columns], align_corners=False)
    return grid_sample(image_HW[None, None], grid, padding_mode="zeros", align_corners=False)[0, 0]


def _brightened(image_HW: Tensor, gamma: float) -> Tensor:
    low, high = image_HW.aminmax()
    bright_HW = ((image_HW - low) / (high - low).clamp_min(SMALLEST_STD)).pow(gamma)
    std, mean = torch.std_mean(bright_HW, correction=0)
    return (bright_HW - mean) / std.clamp_min(SMALLEST_STD)
