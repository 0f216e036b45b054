"""Is the network right on this device? Recorded numbers, this machine's own CPU, gradients, corners, resume, NCCL of one.

    python -m benchmarks.gpu.correctness [--device cpu --small] [--only NAMES]

Each check is guarded: one that breaks is a line, not the end. Prints a line of JSON for each: what was looked at, whether it
holds (null: nothing to hold it against), and what was found.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from gmic_model.learning.exam_loader import Batch, ExamViews, loaded, network_batch
from gmic_model.learning.learner import Learner, new_learner, random_state, set_random_state
from gmic_model.learning.processes import shared_network
from gmic_model.learning.steps import Part, train_steps
from gmic_model.loss import gmic_loss
from gmic_model.model import GMIC, GMICConfig, GMICOutput
from gmic_model.preprocess import fit_canvas, prepare_view
from gmic_model.roi import find_corners, gather_patches, searched_corners
from gmic_model.weights import from_nyu_state_dict
from schemas.config.ingest import PreprocessConfig
from schemas.config.training import TrainConfig
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.models.checkpoints import flatten_training, restore_training

ROOT = Path(__file__).parents[2]
CHECKS: dict[str, Callable[[Bench], tuple[bool | None, str]]] = {}
STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where it runs, and how large.

    Attributes:
        form: Sizes of the network.
    """

    device: torch.device
    is_small: bool
    form: GMICConfig

    @property
    def on_gpu(self) -> bool:
        """True on a card."""
        return self.device.type == "cuda"

    def batch(self, images: int, seed: int = 0) -> Batch:
        """Noise, half of it background; of many images four are drawn, which takes seconds each hundred at full size."""
        rows, columns = self.form.image_size
        drawn_N1HW = torch.randn((min(images, 4), 1, rows, columns), generator=torch.Generator().manual_seed(seed))
        drawn_N1HW[..., columns // 2 :] = float(drawn_N1HW.min())
        image_N1HW = drawn_N1HW.to(self.device).repeat(-(-images // 4), 1, 1, 1)[:images]
        return Batch(image_N1HW, torch.tensor([(0, 1)] * images).to(self.device), torch.arange(images))

    def learner(self, *, seed: int = 0, variant: str = "gmic", **train: Any) -> tuple[Learner, TrainConfig]:
        """As a training has it."""
        settings = {"device": self.device.type, "seed": seed, "learning_rate": 1e-4, "num_threads": None, **train}
        config = TrainConfig.model_validate(settings)
        return new_learner(GMICConfig.model_validate({**self.form.model_dump(), "variant": variant}), config), config

    def steps(self, learner: Learner, config: TrainConfig, batches: list[Batch]) -> list[float]:
        """Losses of steps of a batch each."""
        parts = [Part(batch, 1.0, len(batch.row_N), True) for batch in batches]
        return [step.loss for step in list(train_steps(learner, parts, config))]  # asked afterwards: no step waits for it


def check(name: str) -> Callable[[Callable[[Bench], tuple[bool | None, str]]], None]:
    """Adds a check under its name."""
    return lambda made: CHECKS.update({name: made})


def main(given: Sequence[str] | None = None) -> None:
    """Runs the checks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", nargs="*")
    asked = parser.parse_args(given)
    form = {"image_size": (128, 96), "patch_size": (32, 32), "K": 2, "top_t": 0.5} if asked.small else {}
    device = torch.device("cuda", 0) if asked.device == "cuda" else torch.device("cpu")
    bench = Bench(device=device, is_small=asked.small, form=GMICConfig.model_validate(form))
    for name, made in CHECKS.items():
        if asked.only and name not in asked.only:
            continue
        started_s = time.monotonic()
        try:
            holds, said = made(bench)
        except Exception as broken:
            holds, said = False, f"{type(broken).__name__}: {broken}"[:300]
        print(
            json.dumps({"check": name, "holds": holds, "said": said, "s": round(time.monotonic() - started_s, 1)}), flush=True
        )


@contextmanager
def tf32(is_allowed: bool) -> Iterator[None]:
    """TensorFloat-32 in matrix products and convolutions, or nowhere."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = is_allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def ways(bench: Bench) -> Iterator[tuple[str, bool, bool]]:
    """Name, TensorFloat-32, autocast."""
    yield "ieee-fp32", False, False
    if bench.on_gpu:
        yield "tf32", True, False
    yield "bf16", True, True


def forward(bench: Bench, model: GMIC, image_N1HW: Tensor, *, is_tf32: bool, is_bf16: bool) -> GMICOutput:
    """One pass in one precision."""
    with tf32(is_tf32), torch.no_grad(), torch.autocast(bench.device.type, torch.bfloat16, enabled=is_bf16):
        output: GMICOutput = model(image_N1HW)
    return output


@check("versions and defaults")
def versions(bench: Bench) -> tuple[bool | None, str]:
    """What torch is, and what it does unasked."""
    card = torch.cuda.get_device_name() if bench.on_gpu else "CPU"
    backends = torch.backends
    return None, (
        f"{card}, torch {torch.__version__}, cuDNN {backends.cudnn.version()}; TF32 in convolutions "
        f"{backends.cudnn.allow_tf32}, in matrix products {backends.cuda.matmul.allow_tf32}, cudnn.benchmark "
        f"{backends.cudnn.benchmark}"
    )


@check("the released network's recorded numbers, 736 x 480")
def recorded(bench: Bench) -> tuple[bool | None, str]:
    """Map to 5e-6 and corners equal without TensorFloat-32; 0.02 in bf16."""
    spec = importlib.util.spec_from_file_location("parity", ROOT / "tests" / "gmic_model" / "conftest.py")
    assert spec is not None and spec.loader is not None
    parity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parity)
    with np.load(parity.PARITY_DIR / "small_736x480.npz") as arrays:
        numbers = dict(arrays)
    shapes = json.loads((parity.PARITY_DIR / "nyu_state_dict_shapes.json").read_text())
    model = GMIC(GMICConfig.released(image_size=(736, 480), patch_size=128, top_t=0.1))
    model.load_state_dict(from_nyu_state_dict({key: parity.tensor_by_recipe(key, shape) for key, shape in shapes.items()}))
    model.to(bench.device).eval()
    image_N1HW = torch.from_numpy(numbers["image"])[None, None].to(bench.device)
    holds, said = True, []
    for name, is_tf32, is_bf16 in ways(bench):
        output = forward(bench, model, image_N1HW, is_tf32=is_tf32, is_bf16=is_bf16)
        off = float(np.abs(output.saliency_NCIJ[0].float().cpu().numpy() - numbers["saliency"]).max())
        is_same = bool((output.corner_NK2[0].cpu().numpy() == numbers["patch_locations"]).all())
        said.append(f"{name}: map off by {off:.1e}, corners {'equal' if is_same else 'OTHERS'}")
        if name != "tf32":
            holds = holds and off <= (2e-2 if is_bf16 else 5e-6) and (is_bf16 or is_same)
    return holds, "; ".join(said)


@check("full size against this machine's CPU")
def against_cpu(bench: Bench) -> tuple[bool | None, str]:
    """Fresh weights: map and scores to 1e-4 and the same corners, without TensorFloat-32."""
    torch.manual_seed(0)
    model, batch = GMIC(bench.form).eval(), bench.batch(2)
    with torch.no_grad():
        on_cpu = model(batch.image_N1HW.cpu())
    model.to(bench.device)
    holds, said = True, []
    for name, is_tf32, is_bf16 in ways(bench):
        output = forward(bench, model, batch.image_N1HW, is_tf32=is_tf32, is_bf16=is_bf16)
        off = float((output.saliency_NCIJ.cpu() - on_cpu.saliency_NCIJ).abs().max())
        y_off = float((output.y_NC.cpu() - on_cpu.y_NC).abs().max())
        is_same = bool(torch.equal(output.corner_NK2.cpu(), on_cpu.corner_NK2))
        said.append(f"{name}: map {off:.1e}, scores {y_off:.1e}, corners {'equal' if is_same else 'OTHERS'}")
        if name == "ieee-fp32":
            holds = off <= 1e-4 and y_off <= 1e-4 and is_same
    return holds, "; ".join(said)


@check("corners and patches, ties and empty maps among them")
def corners(bench: Bench) -> tuple[bool | None, str]:
    """Search and gather are equal to the CPU's, map for map, without a host synchronisation."""
    rows, columns = bench.form.image_size
    generator = torch.Generator().manual_seed(1)
    saliency_NCIJ = torch.rand((16, 2, rows // 64, columns // 64), generator=generator)
    saliency_NCIJ[8:12] = saliency_NCIJ[8:12].mul(4).round().div(4)  # many equal windows
    saliency_NCIJ[12:] = 0.25
    image_N1HW = torch.randn((16, 1, rows, columns), generator=generator)
    sizes = {"patch_size": bench.form.patch_size, "image_size": bench.form.image_size}
    expected = searched_corners(saliency_NCIJ, K=bench.form.K, **sizes)
    patches = gather_patches(image_N1HW, expected, patch_size=bench.form.patch_size)
    given, images = saliency_NCIJ.to(bench.device), image_N1HW.to(bench.device)
    find_corners(given.flip(0), K=bench.form.K, **sizes)  # of a shape that is new to a GPU, its kernels are captured
    if bench.on_gpu:
        torch.cuda.set_sync_debug_mode("error")
    try:
        found = find_corners(given, K=bench.form.K, **sizes)
        cut = gather_patches(images, found, patch_size=bench.form.patch_size)
    finally:
        if bench.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    same_N = (found.cpu() == expected).all(dim=(1, 2))
    is_cut = bool(torch.equal(cut.cpu()[same_N], patches[same_N]))
    return bool(same_N.all()) and is_cut, f"{int(same_N.sum())} of 16 maps the same corners; their patches equal: {is_cut}"


@check("the search as one launch")
def captured(bench: Bench) -> tuple[bool | None, str]:
    """Captured and kernel by kernel: the same corners of fresh maps in three shapes, and of two streams; their times."""
    rows, columns = bench.form.image_size
    sizes = {"K": bench.form.K, "patch_size": bench.form.patch_size, "image_size": bench.form.image_size}
    generator = torch.Generator().manual_seed(2)
    same = looked = 0
    said = []
    for images in (1, 16, 5):
        drawn = torch.rand((24, images, 2, rows // 64, columns // 64), generator=generator).to(bench.device)
        with torch.inference_mode(images == 16):
            found = [find_corners(saliency_NCIJ, **sizes) for saliency_NCIJ in drawn]
        if bench.on_gpu:
            aside = torch.cuda.Stream(bench.device)
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                found += [find_corners(saliency_NCIJ, **sizes) for saliency_NCIJ in drawn]
            found += [find_corners(saliency_NCIJ, **sizes) for saliency_NCIJ in drawn]  # while the other stream is at it
            torch.cuda.current_stream().wait_stream(aside)
        for index, corner_NK2 in enumerate(found):
            same += bool(torch.equal(corner_NK2, searched_corners(drawn[index % len(drawn)], **sizes)))
        looked += len(found)
        ms = []
        for search in (searched_corners, find_corners):
            started_s = time.perf_counter()
            for saliency_NCIJ in drawn:
                search(saliency_NCIJ, **sizes)
            if bench.on_gpu:
                torch.cuda.synchronize()
            ms.append(1000 * (time.perf_counter() - started_s) / len(drawn))
        said.append(f"{images} images: {ms[0]:.2f} and {ms[1]:.2f} ms")
    return same == looked, f"{same} of {looked} the same; kernel by kernel and at once, {', '.join(said)}"


@check("gradients against this machine's CPU")
def gradients(bench: Bench) -> tuple[bool | None, str]:
    """Of the paper's loss, all weights together, to one part in a thousand."""
    torch.manual_seed(0)
    on_cpu = GMIC(bench.form).train()
    there, batch = copy.deepcopy(on_cpu).to(bench.device), bench.batch(2)
    found = []
    with tf32(False):
        for model, device in ((on_cpu, torch.device("cpu")), (there, bench.device)):
            output = model(batch.image_N1HW.to(device))
            loss = gmic_loss(output, batch.label_NC.to(device), saliency_weight=1e-4, saliency_exponent=0.5)
            torch.autograd.backward(loss)
            gradient = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
            found.append((float(loss.detach()), gradient))
    off = float((found[0][1] - found[1][1]).norm() / found[0][1].norm())
    return off < 1e-3, f"loss {found[0][0]:.6f} and {found[1][0]:.6f}; gradient off by {off:.1e} of its norm"


@check("inputs made on the device")
def inputs(bench: Bench) -> tuple[bool | None, str]:
    """The loader's batches equal the one that a CPU makes, to 2e-3 of a standard deviation, while the network is busy.

    OpenCV and torch both say in fp32 where a pixel lies, 1e-4 of a pixel apart at 2,000: of white noise as here 1e-3 at most
    (two CPUs' too) and 2e-5 in the mean. What is not written yet, or overwritten, is off by standard deviations.
    """
    rows, columns = bench.form.image_size
    shift = 8 if bench.is_small else 100
    settings = PreprocessConfig(
        window_px=bench.form.image_size, erosion_iterations=5, jitter_shift_px=shift, jitter_size_px=shift
    )
    rng, views = np.random.default_rng(0), {}
    for row in range(4):
        width = columns // 2 + 20 * row
        drawn_HW = np.zeros((rows + 100, columns + 80), np.uint16)
        drawn_HW[40:-40, :width] = rng.integers(200, 4000, (rows + 20, width))
        view = ViewPosition.CC if row % 2 else ViewPosition.MLO
        views[row] = fit_canvas(prepare_view(drawn_HW, Laterality.LEFT, view, settings=settings), settings.canvas_px)
    exam = ExamViews(
        rows_of_exam=[(0, 1, 2, 3)], label_by_row=dict.fromkeys(views, (0, 1)), read_view=views.__getitem__, jitter=settings
    )
    expected, kept = network_batch(exam[0], torch.device("cpu")).image_N1HW, []
    square = torch.ones((64 if bench.is_small else 8192,) * 2, device=bench.device)
    for there in loaded(exam, [[0]] * 6, bench.device, threads=2, ahead=1):
        square = square @ square / len(square)  # what the network would do: the batch below must wait for it, the next need not
        kept.append(there.image_N1HW * square[0, 0])
    off = max(float((image_N1HW.cpu() - expected).abs().max()) for image_N1HW in kept)
    mean_off = max(float((image_N1HW.cpu() - expected).abs().mean()) for image_N1HW in kept)
    return off < 2e-3 and mean_off < 1e-4, f"{len(kept)} batches: largest difference {off:.1e}, in the mean {mean_off:.1e}"


@check("host synchronisations of a training step")
def syncs(bench: Bench) -> tuple[bool | None, str]:
    """At most one: that which looks whether loss and gradient are finite, which waits for an event, late by a step."""
    if not bench.on_gpu:
        return None, "needs a GPU"
    learner, config = bench.learner(precision="bf16")
    batch = bench.batch(2)
    bench.steps(learner, config, [batch, batch])
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            bench.steps(learner, config, [batch])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = sum("synchroniz" in str(one.message) for one in heard)
    return found <= 1, f"{found} in a step of 2 images"


@check("two runs, and one that is resumed")
def resumed(bench: Bench) -> tuple[bool | None, str]:
    """With random patches: what is drawn must come back too. On a CPU all three give the same bits."""

    def run(first: int, learner: Learner, config: TrainConfig, last: int = STEPS) -> list[float]:
        return bench.steps(learner, config, [bench.batch(2, seed) for seed in range(first, last)])

    one, two = (run(0, *bench.learner(variant="gmic-random")) for _ in range(2))
    begun, config = bench.learner(variant="gmic-random")
    losses = run(0, begun, config, STEPS // 2)
    state = {
        name: value.clone().cpu() for name, value in flatten_training(begun.optimizer, [random_state(bench.device)]).items()
    }
    weights = {name: value.clone().cpu() for name, value in begun.network.state_dict().items()}
    other, _ = bench.learner(seed=99, variant="gmic-random")
    other.network.load_state_dict(weights)
    set_random_state(restore_training(other.optimizer, state), bench.device)
    losses += run(STEPS // 2, other, config)
    apart = max(abs(a - b) for a, b in zip(one, two, strict=True))
    resumed_apart = max(abs(a - b) for a, b in zip(one, losses, strict=True))
    holds = max(apart, resumed_apart) <= (1e-2 if bench.on_gpu else 0.0)
    return (
        holds,
        f"losses of two runs differ by {apart:.1e}, of one resumed after {STEPS // 2} of {STEPS} by {resumed_apart:.1e}",
    )


@check("recomputed activations")
def recomputed(bench: Bench) -> tuple[bool | None, str]:
    """The same losses in less memory."""
    found = []
    for is_recomputed in (False, True):
        learner, config = bench.learner(checkpoint_activations=is_recomputed)
        if bench.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        losses = bench.steps(learner, config, [bench.batch(4, seed) for seed in range(2)])
        found.append((losses[-1], torch.cuda.max_memory_allocated() / 2**30 if bench.on_gpu else 0.0))
        del learner
    off = abs(found[0][0] - found[1][0])
    gib = f"; {found[0][1]:.2f} and {found[1][1]:.2f} GiB at 4 images" if bench.on_gpu else ""
    return off < 1e-3, f"losses of the second step differ by {off:.1e}{gib}"


@check("a group of one process, with synchronised statistics")
def group_of_one(bench: Bench) -> tuple[bool | None, str]:
    """NCCL on a GPU, gloo on a CPU: three steps, the running statistics broadcast, the group taken down."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1")
    dist.init_process_group("nccl" if bench.on_gpu else "gloo")
    try:
        learner, config = bench.learner()
        alone = bench.steps(*bench.learner(), [bench.batch(2, seed) for seed in range(3)])
        learner.shared = shared_network(learner.network, bench.device, sync_batch_norm=True, has_idle_weights=False)
        learner.optimizer = torch.optim.Adam(learner.network.parameters(), lr=1e-4, fused=True)
        losses = bench.steps(learner, config, [bench.batch(2, seed) for seed in range(3)])
        for buffer in learner.network.buffers():
            dist.broadcast(buffer, 0)
    finally:
        dist.destroy_process_group()
    off = [abs(a - b) for a, b in zip(alone, losses, strict=True)]
    # Adam's first steps are the signs of gradients: what rounding turns round moves on.
    return off[0] < 1e-4 and max(off) < 0.05, f"losses differ from those without a group by {off[0]:.1e}, then {max(off):.1e}"


if __name__ == "__main__":
    main()
