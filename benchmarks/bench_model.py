"""The network on a CPU: ratios to a plain reference path, measured side by side in one process.

The reference path has the same weights and code, but contiguous fp32 tensors, a three-channel patch stem, a gather that goes
patch by patch with one image minimum each, and torch's own BatchNorm. Pairs are interleaved; CPU time of the process is taken,
so that a busy machine disturbs ratios little. Run: ``python benchmarks/bench_model.py [--repeats 5] [--height 2944]``.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gmic_model.batch_norm import BatchNorm
from gmic_model.loss import gmic_loss
from gmic_model.model import GMIC, GMICConfig, GMICOutput, MultipleInstanceModule, pool_top_t
from gmic_model.roi import find_corners, gather_patches


def main() -> None:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--height", type=int, default=2944)
    parser.add_argument("--width", type=int, default=1920)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    image_N1HW = mammogram_like(arguments.height, arguments.width)
    fast = GMIC(GMICConfig())
    reference = ReferenceGMIC(fast)

    agreement(reference, fast, image_N1HW)
    print("\n| path | forward CPU s | forward ratio | step CPU s | step ratio |\n|---|---|---|---|---|")
    forward = measured({name: forward_call(path, image_N1HW) for name, path in paths(reference, fast)}, arguments.repeats)
    step = measured({name: step_call(path, image_N1HW) for name, path in paths(reference, fast)}, arguments.repeats)
    for name in forward:
        cells = [f"{median_s:.3f} | {ratio:.2f}" for median_s, ratio in (forward[name], step[name])]
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    detection_share(fast, image_N1HW, forward["channels last fp32"][0])


def mammogram_like(height: int, width: int) -> Tensor:
    """Texture on the left two thirds, constant background on the right, standardised."""
    image_HW = torch.randn(height, width)
    image_HW[:, 2 * width // 3 :] = -1.5
    return ((image_HW - image_HW.mean()) / image_HW.std())[None, None]


class ReferenceGMIC(nn.Module):
    """The plain path: written for the eye, not for speed."""

    def __init__(self, model: GMIC) -> None:
        super().__init__()
        self.config = model.config
        plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for module in plain.modules():
            if isinstance(module, BatchNorm):
                module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]  # torch's own forward, same state
        assert isinstance(plain.mil, MultipleInstanceModule)
        self.localization, self.mil = plain.localization, plain.mil
        stem = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        stem.weight = nn.Parameter(self.mil.patch_network.stem.weight.detach().expand(64, 3, 7, 7) / 3)
        self.mil.patch_network.stem = stem

    def forward(self, image_N1HW: Tensor) -> GMICOutput:
        """As GMIC.forward."""
        _, logit_NCIJ = self.localization(image_N1HW)
        saliency_NCIJ = torch.sigmoid(logit_NCIJ)
        y_loc_NC = pool_top_t(saliency_NCIJ, self.config.top_t)
        rows, columns = self.config.patch_size
        corner_NK2 = find_corners(
            saliency_NCIJ,
            K=self.config.K,
            patch_size=(rows, columns),
            image_size=(image_N1HW.shape[2], image_N1HW.shape[3]),
        )
        patches = []
        for pixels_HW, corner_K2 in zip(image_N1HW[:, 0], corner_NK2, strict=True):
            for top, left in corner_K2.tolist():
                patch_PQ = torch.full((rows, columns), pixels_HW.min().item())
                part = pixels_HW[top : top + rows, left : left + columns]
                patch_PQ[rows - part.shape[0] :, columns - part.shape[1] :] = part
                patches.append(patch_PQ)
        patch_NKPQ = torch.stack(patches).reshape(*corner_NK2.shape[:2], rows, columns)
        patch_NK3PQ = patch_NKPQ[:, :, None].expand(-1, -1, 3, -1, -1)
        attention_NK, _, y_mil_NC = self.mil(patch_NK3PQ)
        return GMICOutput(y_mil_NC, y_loc_NC, (y_mil_NC + y_loc_NC) / 2, None, saliency_NCIJ, corner_NK2, attention_NK)


Path = tuple[nn.Module, bool]
"""A network and whether it runs under bf16 autocast."""


def paths(reference: ReferenceGMIC, fast: GMIC) -> Iterator[tuple[str, Path]]:
    """What is compared, the reference first."""
    contiguous = copy.deepcopy(fast).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    yield "reference fp32", (reference, False)
    yield "contiguous fp32", (contiguous, False)
    yield "channels last fp32", (fast, False)
    yield "channels last bf16", (fast, True)


def forward_call(path: Path, image_N1HW: Tensor) -> Callable[[], None]:
    """An inference pass."""

    def call() -> None:
        with torch.inference_mode(), autocast(path[1]):
            path[0].eval()(image_N1HW)

    return call


def step_call(path: Path, image_N1HW: Tensor) -> Callable[[], None]:
    """Forward, loss, backward and Adam on one image."""
    model = copy.deepcopy(path[0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

    def call() -> None:
        model.train()
        with autocast(path[1]):
            output = model(image_N1HW)
        loss = gmic_loss(output, torch.tensor([[0, 1]]), saliency_weight=1e-4, saliency_exponent=1.0)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return call


def autocast(use_bf16: bool) -> contextlib.AbstractContextManager[object]:
    """bf16 or nothing."""
    return torch.autocast("cpu", torch.bfloat16) if use_bf16 else contextlib.nullcontext()


def measured(calls: dict[str, Callable[[], None]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median CPU seconds of each call, and the median over rounds of first / this."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start_s = time.process_time()
            call()
            if repeat > 0:  # the first round warms up
                times[name].append(time.process_time() - start_s)
    first = next(iter(times.values()))
    return {
        name: (statistics.median(taken), statistics.median(a / b for a, b in zip(first, taken, strict=True)))
        for name, taken in times.items()
    }


def agreement(reference: ReferenceGMIC, fast: GMIC, image_N1HW: Tensor) -> None:
    """Prints how far the outputs are apart."""
    with torch.inference_mode():
        plain, ours = reference.eval()(image_N1HW), fast.eval()(image_N1HW)
    apart = {
        "saliency": (plain.saliency_NCIJ - ours.saliency_NCIJ).abs().max().item(),
        "y": (plain.y_NC - ours.y_NC).abs().max().item(),
        "attention": (plain.attention_NK - ours.attention_NK).abs().max().item(),
    }
    print("largest differences, fp32:", ", ".join(f"{name} {value:.1e}" for name, value in apart.items()))
    print("corners equal:", torch.equal(plain.corner_NK2, ours.corner_NK2))


def detection_share(fast: GMIC, image_N1HW: Tensor, forward_s: float) -> None:
    """Prints what ROI search and gather cost of a forward."""
    saliency_NCIJ = torch.rand(1, 2, image_N1HW.shape[2] // 64, image_N1HW.shape[3] // 64)
    size = (image_N1HW.shape[2], image_N1HW.shape[3])

    def call() -> None:
        corner_NK2 = find_corners(saliency_NCIJ, K=fast.config.K, patch_size=fast.config.patch_size, image_size=size)
        gather_patches(image_N1HW, corner_NK2, patch_size=fast.config.patch_size)

    seconds, _ = measured({"detection": call}, 9)["detection"]
    print(f"\nROI search and gather: {1e3 * seconds:.1f} ms, {seconds / forward_s:.2%} of a forward")


if __name__ == "__main__":
    main()
