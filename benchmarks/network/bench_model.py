"""The network on a CPU: ratios to a plain reference path, measured side by side in one run, and peak memory.

The reference path has the same weights and code, but contiguous fp32 tensors, a three-channel patch stem, a gather that goes
patch by patch with one image minimum each, and torch's own BatchNorm. Each path is a child process of one
thread, round after round; a child's figure is the least process time of its repeats, so that a busy machine disturbs little.
"memory kept" is ``tasks.adapters.allocator``, which the network's processes use; the reference is measured with it too.

    taskset -c 1 python -m benchmarks.network.bench_model [--rounds 3] [--repeats 3] [--bf16]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gmic_model.backbones.batch_norm import BatchNorm
from gmic_model.backbones.resnet import ResNet18, ResNet22
from gmic_model.loss import gmic_loss
from gmic_model.model import GMIC, GMICConfig, GMICOutput, MultipleInstanceModule, pool_top_t
from gmic_model.roi import find_corners, gather_patches
from tasks.adapters.allocator import keep_freed_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way to run the network."""

    is_reference: bool = False
    channels_last: bool = True
    use_bf16: bool = False
    keeps_memory: bool = True


PATHS = {
    "reference fp32": Path(is_reference=True, keeps_memory=False),
    "reference fp32, memory kept": Path(is_reference=True),
    "contiguous fp32, memory kept": Path(channels_last=False),
    "channels last fp32": Path(keeps_memory=False),
    "channels last fp32, memory kept": Path(),
    "channels last bf16, memory kept": Path(use_bf16=True),
}


def main() -> None:
    """Measures in children and prints a table in Markdown, or is such a child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--height", type=int, default=2944)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--bf16", action="store_true", help="also bf16: slow on a processor without bf16 instructions")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    image_N1HW = mammogram_like(arguments.height, arguments.width)
    if arguments.child is not None:
        print(json.dumps(measured_here(PATHS[arguments.child[0]], arguments.child[1], image_N1HW, arguments.repeats)))
        return
    agreement(image_N1HW)
    names = [name for name, path in PATHS.items() if arguments.bf16 or not path.use_bf16]
    print("\n| path | forward CPU s | ratio | peak MiB | step CPU s | ratio | peak MiB |\n|---|---|---|---|---|---|---|")
    measured = {work: measured_in_children(names, work, arguments.rounds) for work in ("forward", "step")}
    for name in names:
        cells = (f"{seconds:.3f} | {ratio:.2f} | {peak:.0f}" for seconds, ratio, peak in (of[name] for of in measured.values()))
        print(f"| {name} | {' | '.join(cells)} |")
    detection_share(image_N1HW, measured["forward"]["channels last fp32, memory kept"][0])


def measured_in_children(names: list[str], work: str, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Least CPU seconds of each path, the median over rounds of first path / this, and the highest peak in MiB."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, *sys.argv, "--child", name, work]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            taken_s, peak_mib = json.loads(said)
            seconds[name].append(taken_s)
            peaks[name].append(peak_mib)
    first = seconds[names[0]]
    return {
        name: (min(taken), statistics.median(a / b for a, b in zip(first, taken, strict=True)), max(peaks[name]))
        for name, taken in seconds.items()
    }


def measured_here(path: Path, work: str, image_N1HW: Tensor, repeats: int) -> tuple[float, float]:
    """Least CPU seconds of a call in this process, and its peak memory in MiB."""
    if path.keeps_memory:
        keep_freed_memory()
    network: nn.Module = GMIC(GMICConfig(channels_last=path.channels_last))
    if path.is_reference:
        network = ReferenceGMIC(network)  # type: ignore[arg-type]
    call = forward_call(network, path, image_N1HW) if work == "forward" else step_call(network, path, image_N1HW)
    taken = least_s(call, repeats)
    return taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def least_s(call: Callable[[], None], repeats: int) -> float:
    """CPU seconds of the fastest call; one goes before."""
    taken = []
    for _ in range(repeats + 1):
        start_s = time.process_time()
        call()
        taken.append(time.process_time() - start_s)
    return min(taken[1:])


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
        plain = copy.deepcopy(model)
        for module in plain.modules():  # torch's own forward, same state
            if isinstance(module, BatchNorm):
                module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
            elif isinstance(module, ResNet18 | ResNet22):
                module.channels_last = False
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
                patch_PQ = pixels_HW.new_full((rows, columns), pixels_HW.min().item())
                part = pixels_HW[top : top + rows, left : left + columns]
                patch_PQ[rows - part.shape[0] :, columns - part.shape[1] :] = part
                patches.append(patch_PQ)
        patch_NKPQ = torch.stack(patches).reshape(*corner_NK2.shape[:2], rows, columns)
        patch_NK3PQ = patch_NKPQ[:, :, None].expand(-1, -1, 3, -1, -1)
        attention_NK, _, y_mil_NC = self.mil(patch_NK3PQ)
        return GMICOutput(y_mil_NC, y_loc_NC, (y_mil_NC + y_loc_NC) / 2, None, saliency_NCIJ, corner_NK2, attention_NK)


def forward_call(network: nn.Module, path: Path, image_N1HW: Tensor) -> Callable[[], None]:
    """An inference pass."""
    network.eval()

    def call() -> None:
        with torch.inference_mode(), autocast(path.use_bf16):
            network(image_N1HW)

    return call


def step_call(network: nn.Module, path: Path, image_N1HW: Tensor) -> Callable[[], None]:
    """Forward, loss, backward and Adam on one image."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6, fused=not path.is_reference)

    def call() -> None:
        with autocast(path.use_bf16):
            output = network(image_N1HW)
        loss = gmic_loss(output, torch.tensor([[0, 1]]), saliency_weight=1e-4, saliency_exponent=1.0)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return call


def autocast(use_bf16: bool) -> contextlib.AbstractContextManager[object]:
    """bf16 or nothing."""
    return torch.autocast("cpu", torch.bfloat16) if use_bf16 else contextlib.nullcontext()


def agreement(image_N1HW: Tensor) -> None:
    """Prints how far the outputs are apart."""
    fast = GMIC(GMICConfig())
    reference = ReferenceGMIC(fast)
    with torch.inference_mode():
        plain, ours = reference.eval()(image_N1HW), fast.eval()(image_N1HW)
    apart = {
        "saliency": (plain.saliency_NCIJ - ours.saliency_NCIJ).abs().max().item(),
        "y": (plain.y_NC - ours.y_NC).abs().max().item(),
        "attention": (plain.attention_NK - ours.attention_NK).abs().max().item(),
    }
    print("largest differences, fp32:", ", ".join(f"{name} {value:.1e}" for name, value in apart.items()))
    print("corners equal:", torch.equal(plain.corner_NK2, ours.corner_NK2))


def detection_share(image_N1HW: Tensor, forward_s: float) -> None:
    """Prints what ROI search and gather cost of a forward."""
    config = GMICConfig()
    saliency_NCIJ = torch.rand(1, 2, image_N1HW.shape[2] // 64, image_N1HW.shape[3] // 64)
    size = (image_N1HW.shape[2], image_N1HW.shape[3])

    def call() -> None:
        corner_NK2 = find_corners(saliency_NCIJ, K=config.K, patch_size=config.patch_size, image_size=size)
        gather_patches(image_N1HW, corner_NK2, patch_size=config.patch_size)

    seconds = least_s(call, 9)
    print(f"\nROI search and gather: {1e3 * seconds:.1f} ms, {seconds / forward_s:.2%} of a forward")


if __name__ == "__main__":
    main()
