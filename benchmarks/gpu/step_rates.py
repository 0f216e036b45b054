"""The product's own training step: images a second with and without loader and transfer, and where its time goes.

    python -m benchmarks.gpu.step_rates --workspace W [--device cpu --small --span-s 0.1]

The stages of the network *in* the step, forward and backward, by torch's profiler, with the traffic that is counted as the
step is dispatched; ``train_steps`` fed by the loader from a store of phantom_store.py, and the scoring of tuning images; last
``train_steps`` on a batch that lies on the device, by precision and number of images. A line of JSON each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

import gmic_model.model
from benchmarks.gpu.correctness import Bench
from benchmarks.gpu.loader_rates import EXAMS_A_STEP, endless, exam_views, opened
from benchmarks.gpu.traffic import counted
from benchmarks.network.model_table import Record
from gmic_model.learning.exam_loader import batches_of, loaded
from gmic_model.learning.learner import predict_batches
from gmic_model.learning.step_plan import PlannedStep
from gmic_model.learning.steps import step_parts, train_steps
from gmic_model.model import GMIC, GMICConfig
from schemas.config.training import StoreReader
from schemas.errors import MammoError
from tasks.adapters.allocator import keep_freed_memory

STAGE = "stage: "
BACKWARD = "autograd::engine::evaluate_function: "


def main(given: Sequence[str] | None = None) -> None:
    """Measures part after part; what breaks is a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--span-s", type=float, default=1.2)
    asked = parser.parse_args(given)
    keep_freed_memory()
    device = torch.device("cuda", 0) if asked.device == "cuda" else torch.device("cpu")
    size = {"image_size": (128, 96), "patch_size": (32, 32), "K": 2, "top_t": 0.5} if asked.small else {}
    bench = Bench(device=device, is_small=asked.small, form=GMICConfig.model_validate(size))
    torch.backends.cudnn.benchmark = bench.on_gpu  # as in a training
    # Least time first: cuDNN tries for seconds what is quickest for each further size and precision.
    measures = {"stages": stages, "fed": fed, "scored": scored, "resident": resident}
    for name, measure in measures.items():
        try:
            for record in measure(bench, asked):
                print(json.dumps({"step": name, **record}), flush=True)
        except (MammoError, RuntimeError) as broken:
            print(json.dumps({"step": name, "end": f"{type(broken).__name__}: {broken}"[:200]}), flush=True)


def resident(bench: Bench, asked: argparse.Namespace) -> Iterator[Record]:
    """``train_steps`` on a batch that lies on the device already."""
    cases: list[tuple[str, int, bool, dict[str, Any]]] = [
        ("bf16", 16, True, {"precision": "bf16"}),
        ("bf16, cudnn.benchmark off", 16, False, {"precision": "bf16"}),
        ("bf16", 64, True, {"precision": "bf16"}),
        ("bf16, recomputed", 64, True, {"precision": "bf16", "checkpoint_activations": True}),
        ("bf16, beyond 2^31 elements of the stem", 96, True, {"precision": "bf16"}),
        ("bf16", 160, True, {"precision": "bf16"}),
        ("tf32", 16, True, {"precision": "tf32"}),
        ("ieee-fp32", 16, True, {"precision": "ieee-fp32"}),
        ("bf16", 94, True, {"precision": "bf16"}),
    ]
    for name, images, is_benchmark, train in cases if bench.on_gpu else cases[:1]:
        images = images if bench.on_gpu else 2
        torch.backends.cudnn.benchmark = is_benchmark
        try:
            learner, config = bench.learner(**train)
            batch = bench.batch(images)
            per_s, gib = spun(bench, lambda: bench.steps(learner, config, [batch, batch]), 2 * images, asked.span_s)  # noqa: B023
            yield {"way": name, "batch": images, "images_per_s": per_s, "peak_gib": gib}
        except torch.OutOfMemoryError:
            yield {"way": name, "batch": images, "oom": True}
        except MammoError as refused:
            yield {"way": name, "batch": images, "end": str(refused)[:200]}
        learner = batch = None  # type: ignore[assignment]  # freed before the next is made
        if bench.on_gpu:
            torch.cuda.empty_cache()
    torch.backends.cudnn.benchmark = True


def fed(bench: Bench, asked: argparse.Namespace) -> Iterator[Record]:
    """The same from the store: reading, transfer and standardising beside the steps."""
    store, manifest, preprocess = opened(asked.workspace)
    readers = [StoreReader.TENSORSTORE, StoreReader.ZARR]
    for reader, threads in [(reader, threads) for reader in readers for threads in ((4, 12) if bench.on_gpu else (1,))]:
        learner, config = bench.learner(
            precision="bf16" if bench.on_gpu else "fp32", loader_workers=threads, prefetch_batches=4
        )
        views = exam_views(store, manifest, preprocess, reader)
        exams, first = (
            (EXAMS_A_STEP, 2) if bench.on_gpu else (1, 0)
        )  # first: algorithms are chosen, what was read ahead is used
        plan = [PlannedStep(parts_by_process=((tuple(step),),)) for step in endless(len(views), exams)]
        images, started_s = 0, 0.0
        for done, step in enumerate(train_steps(learner, step_parts(views, plan, config, bench.device), config)):
            if done == first:
                started_s = time.perf_counter()
            elif done > first:
                images += step.images
                if time.perf_counter() - started_s > asked.span_s:
                    break
        per_s = images / (time.perf_counter() - started_s)
        yield {"way": f"loader {reader.value}, {threads} threads", "batch": step.images, "images_per_s": per_s}


def scored(bench: Bench, asked: argparse.Namespace) -> Iterator[Record]:
    """What tuning, evaluate and predict do: images scored from the store."""
    store, manifest, preprocess = opened(asked.workspace)
    learner, _ = bench.learner()
    views = exam_views(store, manifest, preprocess, StoreReader.TENSORSTORE)
    size = 4 if bench.on_gpu else 1  # exams
    plan = batches_of(len(views), size)[:48]
    for name in ("first", "second") if bench.on_gpu else ("first",):
        started_s, images = time.perf_counter(), 0
        for batch, _ in predict_batches(learner.network, loaded(views, plan, bench.device, threads=12, ahead=4)):
            images += len(batch.row_N)
        yield {"way": f"{name} pass over {images} images", "images_per_s": images / (time.perf_counter() - started_s)}


def stages(bench: Bench, _asked: argparse.Namespace) -> Iterator[Record]:
    """Device time of each stage in a training step, forward and backward; what is counted of the step."""
    learner, config = bench.learner(precision="bf16" if bench.on_gpu else "fp32")
    images = 16 if bench.on_gpu else 2
    batch = bench.batch(images)
    bench.steps(learner, config, [batch, batch])
    yield {"way": "counted", "batch": images, **counted(lambda: bench.steps(learner, config, [batch]), images)}
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.on_gpu else [])]
    assert isinstance(learner.network, GMIC)
    with named_stages(learner.network), profile(activities=activities) as profiler:
        bench.steps(learner, config, [batch])
        if bench.on_gpu:
            torch.cuda.synchronize()
    for name, (forward_ms, backward_ms) in by_stage(profiler, on_gpu=bench.on_gpu).items():
        yield {"way": name, "batch": images, "forward_ms": forward_ms, "backward_ms": backward_ms}


def spun(bench: Bench, call: Any, images: int, span_s: float) -> tuple[float, float]:
    """Images a second and peak GiB of a call, after two that warm up."""
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(2 if bench.on_gpu else 1):
        call()
    started_s, done = time.perf_counter(), 0
    while not done or time.perf_counter() - started_s < span_s:
        call()
        done += images
    if bench.on_gpu:
        torch.cuda.synchronize()
    per_s = done / (time.perf_counter() - started_s)
    return per_s, torch.cuda.max_memory_allocated() / 2**30 if bench.on_gpu else 0.0


@contextmanager
def named_stages(network: GMIC) -> Iterator[None]:
    """Inside, each stage's forward pass is a named range of the profiler."""
    with ExitStack() as undo:
        for name, module in stage_modules(network):
            open_ranges: list[Any] = []

            def begin(_module: nn.Module, _given: Any, name: str = name, ranges: list[Any] = open_ranges) -> None:
                ranges.append(record_function(STAGE + name))
                ranges[-1].__enter__()

            def end(_module: nn.Module, _given: Any, _made: Any, ranges: list[Any] = open_ranges) -> None:
                ranges.pop().__exit__(None, None, None)

            undo.callback(module.register_forward_pre_hook(begin).remove)
            undo.callback(module.register_forward_hook(end).remove)
        for function in ("find_corners", "gather_patches", "pool_top_t", "gray_image"):
            former = getattr(gmic_model.model, function)

            def ranged(*given: Any, former: Any = former, name: str = function, **named: Any) -> Any:
                with record_function(STAGE + name):
                    return former(*given, **named)

            setattr(gmic_model.model, function, ranged)
            undo.callback(setattr, gmic_model.model, function, former)
        yield


def stage_modules(network: GMIC) -> Iterator[tuple[str, nn.Module]]:
    """What is called, with the name of its stage; blocks are called one by one."""
    for kind, backbone in (("image", network.localization.backbone), ("patch", network.mil.patch_network)):
        assert isinstance(backbone, nn.Module)
        yield f"{kind} stem", backbone.get_submodule("stem")
        yield f"{kind} stem", backbone.get_submodule("pool")
        for number, blocks in enumerate(backbone.get_submodule("stages").children()):
            yield from ((f"{kind} stage {number}", block) for block in blocks.children())
    yield "saliency", network.localization.saliency


def by_stage(profiler: Any, *, on_gpu: bool) -> dict[str, tuple[float, float]]:
    """Forward and backward milliseconds of each stage: a backward kernel belongs where its forward operation was.

    Autograd gives both the same sequence number. What belongs nowhere (heads, loss, Adam, copies) is the rest.
    """
    events = [event for event in profiler.events() if "CPU" in str(event.device_type)]

    def ms(event: Any) -> float:
        return float(event.device_time_total if on_gpu else event.cpu_time_total) / 1000

    forward_ms, backward_ms, stage_of = dict[str, float](), dict[str, float](), dict[int, str]()

    def number(event: Any, name: str) -> None:
        for child in event.cpu_children:
            if child.sequence_nr >= 0:
                stage_of[child.sequence_nr] = name  # the last one with a number has made what goes back
            number(child, name)

    for event in events:
        if event.name.startswith(STAGE):
            name = event.name.removeprefix(STAGE)
            forward_ms[name] = forward_ms.get(name, 0.0) + ms(event)
            number(event, name)
    for event in events:
        if event.name.startswith(BACKWARD) and event.sequence_nr in stage_of:
            name = stage_of[event.sequence_nr]
            backward_ms[name] = backward_ms.get(name, 0.0) + ms(event)
    whole_ms = sum(ms(event) for event in events if event.cpu_parent is None)
    rest_ms = whole_ms - sum(forward_ms.values()) - sum(backward_ms.values())
    found = {name: (spent, backward_ms.get(name, 0.0)) for name, spent in forward_ms.items()}
    return {**found, "heads, loss, Adam and the rest": (max(rest_ms, 0.0), 0.0)}


if __name__ == "__main__":
    main()
