"""A stand-in for ImageNet's ResNet-18 where no file of it can be had: the same network, taught by public pictures.

The task is made of what comes with scikit-learn: one of its handwritten digits (UCI, 8 x 8 pixels) is drawn somewhere, at some
size, into a piece of one of its two photographs; which digit is it? What such a network brings to mammograms is edges, forms,
and that they may lie anywhere: what that is worth, `two_sites` tells. It is no ImageNet, and its numbers are not ImageNet's.

    python -m benchmarks.network.stand_in_resnet18 stand-in.safetensors [--steps 600] [--threads 1]
    python -m benchmarks.network.two_sites OUT --resnet18 stand-in.safetensors
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn

from gmic_model.backbones.resnet import ResNet18
from gmic_model.weights import torchvision_name

PIECE_PX: Final = 64
BATCH: Final = 32
DIGIT_PX: Final = (20, 48)
CONTRAST: Final = (0.4, 1.0)
LEARNING_RATE: Final = 1e-3


def main() -> None:
    """Trains, says how many digits of others it names right, and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600, help=f"Of {BATCH} pieces each")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    began = time.process_time()
    network, classifier = ResNet18(), nn.Linear(512, 10)
    said = {"right": taught(network, classifier, asked.steps), "steps": asked.steps, "cpu_s": time.process_time() - began}
    save_file(torchvision_state(network), asked.out)
    print(json.dumps(said))


def taught(network: ResNet18, classifier: nn.Linear, steps: int) -> float:
    """Trains both; returns the share of named digits among those that were kept back, a fifth of all."""
    digits = load_digits()
    at = len(digits.images) * 4 // 5
    photographs = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 for one in load_sample_images().images]
    rng = np.random.default_rng(0)
    parameters = [*network.parameters(), *classifier.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = rng.integers(at, size=BATCH)
        pieces_N1PQ = drawn(rng, photographs, digits.images[chosen])
        loss = nn.functional.cross_entropy(classifier(network(pieces_N1PQ)), torch.from_numpy(digits.target[chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        named = [
            classifier(network(drawn(rng, photographs, digits.images[first : first + BATCH]))).argmax(dim=1).numpy()
            for first in range(at, len(digits.images), BATCH)
        ]
    return float((np.concatenate(named) == digits.target[at:]).mean())


def drawn(rng: np.random.Generator, photographs: list[np.ndarray], digits_N88: np.ndarray) -> Tensor:
    """A piece of a photograph for each digit, with the digit in it, brighter or darker; of mean 0 and deviation 1."""
    pieces = []
    for digit_88 in digits_N88:
        photograph_HW = photographs[rng.integers(len(photographs))]
        top, left = (rng.integers(length - PIECE_PX) for length in photograph_HW.shape)
        piece_PQ = photograph_HW[top : top + PIECE_PX, left : left + PIECE_PX].copy()
        size = int(rng.integers(*DIGIT_PX))
        form = cv2.resize(digit_88.astype(np.float32) / 16, (size, size), interpolation=cv2.INTER_LINEAR)
        top, left = (rng.integers(PIECE_PX - size, size=2)).tolist()
        piece_PQ[top : top + size, left : left + size] += rng.choice((-1, 1)) * rng.uniform(*CONTRAST) * form
        pieces.append((piece_PQ - piece_PQ.mean()) / (piece_PQ.std() + 1e-3))
    return torch.from_numpy(np.stack(pieces)[:, None].astype(np.float32))


def torchvision_state(network: ResNet18) -> dict[str, Tensor]:
    """The network's tensors under torchvision's names; its stem for three equal channels."""
    state = {torchvision_name(name): value.detach().contiguous() for name, value in network.state_dict().items()}
    state["conv1.weight"] = (state["conv1.weight"] / 3).repeat(1, 3, 1, 1).contiguous()
    return state


if __name__ == "__main__":
    main()
