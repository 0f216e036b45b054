"""The network on a GPU: images a second, memory, utilisation and what bounds each stage. Unattended, below ten minutes.

Each case is a child process with its own time limit, and tells every measurement at once: a case that runs out of memory or
time leaves the table with what it had. The most telling cases come first. Needs this repository, torch, numpy and pydantic:

    python -m benchmarks.network.bench_model_gpu --json result.json        # one GPU
    python -m benchmarks.network.bench_model_gpu --device cpu --small      # does the script work? a minute

The reference is ``bench_model.ReferenceGMIC``: contiguous fp32 eager, three-channel patch stem, a gather patch by patch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.traffic import counted
from benchmarks.network.bench_model import ReferenceGMIC, mammogram_like
from benchmarks.network.model_table import Record, summary
from gmic_model.loss import gmic_loss
from gmic_model.model import GMIC, GMICConfig, MultipleInstanceModule, pool_top_t
from gmic_model.roi import find_corners, gather_patches


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One child process."""

    name: str
    work: str  # machine, inference, training, stages
    precision: str = "fp32"  # fp32, tf32, bf16
    is_reference: bool = False
    channels_last: bool = False
    compiled: bool = False
    graphed: bool = False
    recompute: bool = False
    are_weights_channels_last: bool = False
    lets_cudnn_choose: bool = True
    batches: tuple[int, ...] = (1, 4, 16)
    limit_s: int = 45


SWEEP = (1, 4, 16, 64, 96, 160)
"""Of 95 images the stem's features have more than 2^31 elements, which not every kernel can count. cuDNN tries for many seconds
what is quickest for each further number of images: hence few."""
FULL = {"precision": "bf16", "channels_last": True}
CASES = (
    Case(name="machine", work="machine"),
    Case(name="training reference fp32", work="training", is_reference=True, batches=(1, 4)),
    Case(name="training bf16 + channels last", work="training", batches=SWEEP, limit_s=90, **FULL),  # type: ignore[arg-type]
    Case(name="stages", work="stages", batches=(16,), **FULL),  # type: ignore[arg-type]
    Case(name="inference bf16 + channels last", work="inference", batches=SWEEP, limit_s=60, **FULL),  # type: ignore[arg-type]
    Case(
        name="training + weights channels last",
        work="training",
        are_weights_channels_last=True,
        batches=(16, 64),
        **FULL,  # type: ignore[arg-type]
    ),
    Case(name="training, cudnn.benchmark off", work="training", lets_cudnn_choose=False, batches=(16,), **FULL),  # type: ignore[arg-type]
    Case(name="training + checkpointing", work="training", recompute=True, batches=(16, 64, 160), limit_s=75, **FULL),  # type: ignore[arg-type]
    Case(name="inference + CUDA graph", work="inference", graphed=True, batches=(1, 4, 16), **FULL),  # type: ignore[arg-type]
    Case(name="training + CUDA graph", work="training", graphed=True, batches=(1, 4, 8), **FULL),  # type: ignore[arg-type]
    Case(name="inference reference fp32", work="inference", is_reference=True),
    Case(name="training tf32", work="training", precision="tf32", batches=(1, 8)),
    Case(name="training fp32", work="training", batches=(1, 8)),
    Case(name="training fp32 + channels last", work="training", channels_last=True, batches=(1, 8)),
    Case(name="training bf16", work="training", precision="bf16", batches=(1, 8)),
    Case(name="inference fp32", work="inference"),
    Case(name="inference tf32", work="inference", precision="tf32"),
    Case(name="inference tf32 + channels last", work="inference", precision="tf32", channels_last=True),
    Case(name="inference bf16", work="inference", precision="bf16"),
    Case(name="inference + compile", work="inference", compiled=True, batches=(16,), limit_s=90, **FULL),  # type: ignore[arg-type]
    Case(name="training + compile", work="training", compiled=True, batches=(8,), limit_s=120, **FULL),  # type: ignore[arg-type]
)


def main() -> None:
    """Runs the cases as children, or is such a child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="192 x 128 pixels, batches of 1 and 2: only to try the script")
    parser.add_argument("--only", nargs="*", help="names of cases")
    parser.add_argument("--budget-s", type=float, default=560.0, help="no case starts later; a running one is ended")
    parser.add_argument("--json", type=Path, help="file for all measurements")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        measure_case(chosen(arguments.child, small=arguments.small), torch.device(arguments.device), small=arguments.small)
        return
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu --small tries the script without one")
    names = arguments.only or [case.name for case in CASES if arguments.device == "cuda" or not (case.compiled or case.graphed)]
    records = run_children(names, arguments)
    print(summary(records), flush=True)


def chosen(name: str, *, small: bool) -> Case:
    """The case of a name; ``--small`` keeps two batch sizes, and runs the stages in fp32, which every processor has."""
    case = next(case for case in CASES if case.name == name)
    if not small:
        return case
    return replace(case, batches=(2,), precision="fp32") if case.work == "stages" else replace(case, batches=(1, 2))


# ------------------------------------------------------------------------------------------------------------- parent


def run_children(names: list[str], arguments: argparse.Namespace) -> list[Record]:
    """One child after the other; what each said, and how it ended if not well."""
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {device_name(arguments.device)}", flush=True)
    deadline_s = time.monotonic() + arguments.budget_s
    records: list[Record] = []
    for name in names:
        case = chosen(name, small=arguments.small)
        patience = 1 if arguments.device == "cuda" else 4  # a CPU run only tries the script, and may share its processor
        limit_s = min(float(patience * case.limit_s), deadline_s - time.monotonic())
        said, end = run_child(case, limit_s, arguments) if limit_s > 5 else ("", "not started: the budget is spent")
        for line in said.splitlines():
            if line.startswith("{"):
                with contextlib.suppress(json.JSONDecodeError):  # an ended child may leave half a line
                    records.append({"case": name, **json.loads(line)})
        if end:
            records.append({"case": name, "end": end})
        print(f"  {name}: {[record for record in records if record['case'] == name]}", file=sys.stderr, flush=True)
        if arguments.json is not None:  # case by case: who is killed leaves what there is
            arguments.json.write_text(json.dumps(records, indent=1))
    return records


def run_child(case: Case, limit_s: float, arguments: argparse.Namespace) -> tuple[str, str]:
    """What the child printed, and why it ended ("" = well)."""
    command = [sys.executable, "-m", "benchmarks.network.bench_model_gpu", "--device", arguments.device, "--child", case.name]
    try:
        child = subprocess.run(
            [*command, *(["--small"] if arguments.small else [])], capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        return said.decode() if isinstance(said, bytes) else said, f"ended after {limit_s:.0f} s"
    lines = child.stderr.strip().splitlines()
    return child.stdout, "" if child.returncode == 0 else f"exit {child.returncode}: {lines[-1] if lines else ''}"[:200]


def device_name(device: str) -> str:
    """Of the processor that is measured."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


# -------------------------------------------------------------------------------------------------------------- child


def measure_case(case: Case, device: torch.device, *, small: bool) -> None:
    """Prints one JSON line a measurement."""
    if case.work == "machine":
        tell(machine_rates(device, small=small))
        return
    torch.manual_seed(0)
    allow_tf32(case.precision == "tf32")
    torch.backends.cudnn.benchmark = case.lets_cudnn_choose
    config = GMICConfig(channels_last=case.channels_last)
    if small:
        config = config.model_copy(update={"image_size": (192, 128), "patch_size": (64, 64), "K": 2})
    model = GMIC(config, checkpoint_activations=case.recompute)
    network: nn.Module = (ReferenceGMIC(model) if case.is_reference else model).to(device)
    if case.are_weights_channels_last:
        network = network.to(memory_format=torch.channels_last)
    flop, moved = 0.0, 0.0
    if case.work != "stages":
        one_N1HW = mammogram_like(*config.image_size).to(device)
        flop, moved = forward_flop(network, one_N1HW), eager_bytes(network, one_N1HW, case)
    for batch in case.batches:
        image_N1HW = mammogram_like(*config.image_size).to(device).expand(batch, -1, -1, -1).contiguous()
        try:
            if case.work == "stages":
                measure_stages(model, image_N1HW, case)
                continue
            seconds, peak_gib = timed(step_of(network, image_N1HW, case), device, case)
        except torch.OutOfMemoryError:
            tell({"batch": batch, "oom": True})
            return
        images_per_s = batch / seconds
        # A training step is three forward passes of arithmetic: once forward, once for each operand's gradient.
        used = images_per_s * flop * (3 if case.work == "training" else 1)
        rates = {"images_per_s": images_per_s, "flop_per_s": used, "peak_gib": peak_gib, "bytes_per_image": moved}
        tell({"batch": batch, "precision": case.precision, **rates})


def tell(record: Record) -> None:
    """To the parent, at once."""
    print(json.dumps(record), flush=True)


def step_of(network: nn.Module, image_N1HW: Tensor, case: Case) -> Callable[[], object]:
    """One inference pass, or forward, loss, backward and Adam."""
    run: Callable[[Tensor], Any] = torch.compile(network, fullgraph=True, dynamic=False) if case.compiled else network
    if case.work == "inference":
        network.eval()

        def infer() -> object:
            with torch.inference_mode(), autocast(case, image_N1HW.device):
                return run(image_N1HW)

        return infer
    network.train()
    on_gpu = image_N1HW.device.type == "cuda"
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6, fused=not case.is_reference, capturable=case.graphed and on_gpu)
    label_NC = torch.tensor([[0.0, 1.0]], device=image_N1HW.device).repeat(len(image_N1HW), 1)

    def learn() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(case, image_N1HW.device):
            output = run(image_N1HW)
        loss = gmic_loss(output, label_NC, saliency_weight=1e-4, saliency_exponent=1.0)
        torch.autograd.backward(loss)
        optimizer.step()

    return learn


def allow_tf32(is_allowed: bool) -> None:
    """TensorFloat-32 in matrix products and convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = is_allowed
    torch.backends.cudnn.allow_tf32 = is_allowed


def autocast(case: Case, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bf16 or nothing; without the cast cache under a CUDA graph, which would keep casts of another pass."""
    if case.precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=not case.graphed)


def timed(
    call: Callable[[], object], device: torch.device, case: Case | None = None, span_s: float = 1.0
) -> tuple[float, float]:
    """Seconds a call, the least of several, and the peak memory in GiB: of the GPU's tensors, or of the process on a CPU."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if case is not None and case.graphed and on_gpu:
        call = graph_of(call)
    for _ in range(3 if on_gpu else 1):  # algorithms are chosen, the compiler compiles
        call()
    taken: list[float] = []
    end_s = time.perf_counter() + (span_s if on_gpu else 0.0)  # a CPU run only tries the script
    while len(taken) < 2 or (time.perf_counter() < end_s and len(taken) < 200):
        synchronise(device)
        start_s = time.perf_counter()
        call()
        synchronise(device)
        taken.append(time.perf_counter() - start_s)
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return min(taken), peak / 2**30


def graph_of(call: Callable[[], object]) -> Callable[[], object]:
    """The call's kernels, recorded once and replayed without Python. A host synchronisation in the call would raise here."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def synchronise(device: torch.device) -> None:
    """Waits for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def forward_flop(network: nn.Module, image_N1HW: Tensor) -> float:
    """Multiplications and additions of one image's forward pass."""
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(image_N1HW[:1])
    return float(counter.get_total_flops())


def eager_bytes(network: nn.Module, image_N1HW: Tensor, case: Case) -> float:
    """What the case's work moves of one image if nothing is fused: forward, and for training loss and backward too."""
    label_NC = torch.tensor([[0.0, 1.0]], device=image_N1HW.device)

    def learn() -> None:
        with autocast(case, image_N1HW.device):
            output = network(image_N1HW)
        torch.autograd.backward(gmic_loss(output, label_NC, saliency_weight=1e-4, saliency_exponent=1.0))

    network.train(case.work == "training")
    if case.work == "training":
        found = counted(learn, 1)
        network.zero_grad(set_to_none=True)
        return float(found["bytes_per_image"])
    with torch.inference_mode(), autocast(case, image_N1HW.device):
        return float(counted(lambda: network(image_N1HW), 1)["bytes_per_image"])


def machine_rates(device: torch.device, *, small: bool) -> Record:
    """What the card reaches at its best: matrix products in each precision, and a copy's traffic."""
    size = 256 if small else 8192
    rates = {}
    for precision in ("fp32", "tf32", "bf16"):
        allow_tf32(precision == "tf32")
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        rates[precision] = 2 * size**3 / timed(lambda left=left, right=right: left @ right, device)[0]  # type: ignore[misc]
    source = torch.empty((2**22 if small else 2**30), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return {"matmul": rates, "copy_bytes_per_s": 2 * source.nbytes / timed(lambda: target.copy_(source), device)[0]}


# ------------------------------------------------------------------------------------------------------------- stages


def measure_stages(model: GMIC, image_N1HW: Tensor, case: Case) -> None:
    """Time, arithmetic and least memory traffic of each part of an inference pass."""
    model.eval()
    with torch.inference_mode(), autocast(case, image_N1HW.device):
        for name, call in stage_calls(model, image_N1HW):
            seconds, _ = timed(call, image_N1HW.device, span_s=0.7)
            with FlopCounterMode(display=False) as counter, traffic(model) as moved:
                call()
            tell(
                {
                    "stage": name,
                    "batch": len(image_N1HW),
                    "ms": 1e3 * seconds,
                    "flop": counter.get_total_flops(),
                    "bytes": sum(moved),
                    "precision": case.precision,
                }
            )


def stage_calls(model: GMIC, image_N1HW: Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    """The parts in order, each on the output of the one before."""
    backbone, config = model.localization.backbone, model.config
    assert isinstance(model.mil, MultipleInstanceModule)
    mil = model.mil
    yield "stem and pooling", lambda: backbone.pool(backbone.stem(image_N1HW))
    features_NDIJ = backbone.pool(backbone.stem(image_N1HW))
    for number, stage in enumerate(backbone.stages):
        yield f"image stage {number}", lambda stage=stage, features=features_NDIJ: stage(features)  # type: ignore[misc]
        features_NDIJ = stage(features_NDIJ)
    features_NDIJ = torch.relu(backbone.final_norm(features_NDIJ)).float()

    def saliency() -> Tensor:
        return torch.sigmoid(model.localization.saliency(features_NDIJ).float())

    yield "saliency and top-t", lambda: pool_top_t(saliency(), config.top_t)
    saliency_NCIJ, size = saliency(), (image_N1HW.shape[2], image_N1HW.shape[3])

    def search() -> Tensor:
        return find_corners(saliency_NCIJ, K=config.K, patch_size=config.patch_size, image_size=size)

    yield "ROI search", search
    corner_NK2 = search()
    yield "patch gather", lambda: gather_patches(image_N1HW, corner_NK2, patch_size=config.patch_size)
    patch_NK1PQ = gather_patches(image_N1HW, corner_NK2, patch_size=config.patch_size)
    yield "patch network and attention", lambda: mil(patch_NK1PQ)


@contextlib.contextmanager
def traffic(model: nn.Module) -> Iterator[list[int]]:
    """Bytes that layers read and write, each tensor once a layer: what a perfect cache would still move."""
    moved: list[int] = []

    def note(_module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        moved.append(sum(tensor.nbytes for tensor in given) + made.nbytes)

    hooks = [module.register_forward_hook(note) for module in model.modules() if not list(module.children())]
    try:
        yield moved
    finally:
        for hook in hooks:
            hook.remove()


if __name__ == "__main__":
    main()
