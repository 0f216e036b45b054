"""Is the class of a phantom finding in its fine detail? Patch classifiers at native resolution and after fourfold reduction.

    python -m benchmarks.phantom.phantom_detail_experiment [--difficulty 0.5] [--exams 200] [--json FILE]

Draws exams, cuts patches centred on malignant and benign findings and on normal glandular knots, trains the same small network
on them as they are and after 4x area reduction (and enlargement back), and prints AUROCs on patches of held-out patients with
intervals from a bootstrap over patients. About four processor minutes.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from gmic_model.phantom.drawing import draw_view, plan_exam
from schemas.exam import Finding, Laterality, ViewPosition

PATCH_PX = 64
MARGIN_PX = 4  # room for random shifts in training
REDUCTION = 4
CLASSES: tuple[Finding | None, ...] = (None, Finding.BENIGN, Finding.MALIGNANT)


def cut_patches(difficulty: float, exams: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Patches (N, side, side), their classes and their patients; one malignant and one benign breast per patient."""
    side_px = PATCH_PX + 2 * MARGIN_PX
    patches, classes, patients = [], [], []
    for patient in range(exams):
        rng = np.random.default_rng((seed, patient))
        findings = {Laterality.LEFT: frozenset({Finding.MALIGNANT}), Laterality.RIGHT: frozenset({Finding.BENIGN})}
        if patient % 2:
            findings = {Laterality.LEFT: frozenset({Finding.BENIGN}), Laterality.RIGHT: frozenset({Finding.MALIGNANT})}
        plan = plan_exam(
            image_size_px=(640, 448), findings=findings, difficulty=difficulty, patient_rng=rng.spawn(1)[0], exam_rng=rng
        )
        for side in Laterality:
            kept = [index for index, spot in enumerate(plan.spots[side]) if spot.finding is not None]
            kept += [index for index, spot in enumerate(plan.spots[side]) if spot.finding is None][:1]
            for view in ViewPosition:
                drawn = draw_view(plan, side, view)
                padded = np.pad(drawn.pixels_HW, side_px)
                for index in kept:
                    row, column = (round(float(center)) + side_px // 2 for center in drawn.spot_centers_px[index])
                    patches.append(padded[row : row + side_px, column : column + side_px])
                    classes.append(CLASSES.index(plan.spots[side][index].finding))
                    patients.append(patient)
    return np.stack(patches).astype(np.float32), np.array(classes), np.array(patients)


def reduced(patch_PQ: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is left of a patch after fourfold area reduction, on the original grid."""
    small = cv2.resize(patch_PQ, None, fx=1 / REDUCTION, fy=1 / REDUCTION, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, patch_PQ.shape[::-1], interpolation=cv2.INTER_CUBIC))


def small_network() -> nn.Module:
    """Four 3x3 convolutions, the largest and the mean response, one linear layer: 24 thousand weights."""
    layers: list[nn.Module] = []
    widths = (1, 12, 24, 32, 48)
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, PooledLinear(widths[-1]))


class PooledLinear(nn.Module):
    """Mean and largest response of each channel, then one score per class."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, len(CLASSES))

    def forward(self, features: Tensor) -> Tensor:
        """Scores (N, classes)."""
        pooled: Tensor = self.linear(torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1))
        return pooled


def held_out_scores(
    patch_NPQ: NDArray[np.float32], class_N: NDArray[np.int64], is_test_N: NDArray[np.bool_], epochs: int
) -> NDArray[np.float32]:
    """Train on the one part, score (N, classes) the other."""
    torch.manual_seed(0)
    image = torch.from_numpy(patch_NPQ)[:, None]
    image = (image - image.mean((2, 3), keepdim=True)) / 250.0
    train, label = image[torch.from_numpy(~is_test_N)], torch.from_numpy(class_N[~is_test_N])
    network, generator = small_network(), np.random.default_rng(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, weight_decay=1e-4)
    steps = epochs * (len(train) // 48)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        if step % (len(train) // 48) == 0:
            order = generator.permutation(len(train))
        batch = order[48 * (step % (len(train) // 48)) :][:48]
        top, left, turns = (int(value) for value in generator.integers((2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1, 4)))
        window = torch.rot90(train[batch][:, :, top : top + PATCH_PX, left : left + PATCH_PX], turns, (2, 3))
        loss = nn.functional.cross_entropy(network(window.flip(3) if generator.random() < 0.5 else window), label[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()
    center = slice(MARGIN_PX, MARGIN_PX + PATCH_PX)
    with torch.no_grad():
        return np.asarray(network(image[torch.from_numpy(is_test_N)][:, :, center, center]).numpy())


def auroc(score_NC: NDArray[np.float32], class_N: NDArray[np.int64], patient_N: NDArray[np.int64], other: int) -> list[float]:
    """Malignant against another class, with the 95 % interval over patients."""
    malignant = CLASSES.index(Finding.MALIGNANT)
    kept = (class_N == malignant) | (class_N == other)
    score, truth, patient = (score_NC[:, malignant] - score_NC[:, other])[kept], class_N[kept] == malignant, patient_N[kept]
    rng, ids = np.random.default_rng(2), np.unique(patient_N)
    rows = {identity: np.flatnonzero(patient == identity) for identity in ids}
    resampled = []
    for _ in range(500):
        chosen = np.concatenate([rows[identity] for identity in rng.choice(ids, len(ids))])
        resampled.append(roc_auc_score(truth[chosen], score[chosen]))
    return [float(roc_auc_score(truth, score)), *(float(edge) for edge in np.percentile(resampled, [2.5, 97.5]))]


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--exams", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    patch_NPQ, class_N, patient_N = cut_patches(arguments.difficulty, arguments.exams, seed=11)
    is_test_N = patient_N >= 0.6 * arguments.exams
    table = {}
    for name, image_NPQ in (("native", patch_NPQ), ("reduced 4x", np.stack([reduced(patch) for patch in patch_NPQ]))):
        score_NC = held_out_scores(image_NPQ, class_N, is_test_N, arguments.epochs)
        for other in (Finding.BENIGN, None):
            values = auroc(score_NC, class_N[is_test_N], patient_N[is_test_N], CLASSES.index(other))
            against = "benign finding" if other else "normal knot"
            table[f"{name}: malignant against {against}"] = values
            print(
                f"{name:11s} malignant against {against:15s} AUROC {values[0]:.3f} ({values[1]:.3f}-{values[2]:.3f})",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"difficulty": arguments.difficulty, "patches": len(class_N), **table}, indent=1))


if __name__ == "__main__":
    main()
