"""Where the network computes, in which precision, and what is said when there is no room.

On a CPU every precision but bf16 is the same. On a GPU torch computes convolutions in TensorFloat-32 unless it is told
otherwise, which no number of ours was recorded in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from schemas.config.training import FitConfig, Precision
from schemas.errors import ConfigError, TrainingError

Device = torch.device

_NO_ROOM: Final = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
_TRIED: Final = re.compile(r"[Tt]ried to allocate (?P<size>[\d.]+ ?\w+)")


def choose_device(config: FitConfig, *, rank: int = 0) -> Device:
    """The device the config asks for; ``auto`` takes a GPU where there is one. Sets torch's CPU threads too.

    Raises:
        ConfigError: A GPU is asked for and torch sees none, or fewer than training processes.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    kind = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cpu":
        return Device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "train.device asks for a GPU and torch sees none",
            expected="a card, its driver, a torch that was built for it, and CUDA_VISIBLE_DEVICES that names it",
            got=torch_in_words(),
            remedy="`nvidia-smi` shows what the driver sees; or set train.device: cpu",
        )
    if config.processes > torch.cuda.device_count():
        raise ConfigError(
            "There are fewer GPUs than training processes",
            expected=f"at least {config.processes} visible GPUs",
            got=torch.cuda.device_count(),
            remedy="lower train.processes, widen CUDA_VISIBLE_DEVICES, or set train.device: cpu",
        )
    return Device("cuda", rank)


def further_devices(config: FitConfig) -> tuple[Device, ...]:
    """The other GPUs of a training of several processes, which score too; none on a CPU: all its threads are one device.

    Raises:
        ConfigError: As of ``choose_device``.
    """
    kind = choose_device(config).type
    return tuple(Device(kind, rank) for rank in range(1, config.processes)) if kind == "cuda" else ()


def torch_in_words() -> str:
    """Its version, and which cards it was built for."""
    return f"torch {torch.__version__}, built for " + (f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs alone")


@contextmanager
def computing(device: Device, precision: Precision) -> Iterator[None]:
    """Inside, products of fp32 are rounded as the precision says, backward passes among them; bf16 needs ``autocast`` too."""
    if device.type != "cuda" or precision in ("fp32", "bf16"):
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def quickest_kernels(device: Device) -> Iterator[None]:
    """Inside, cuDNN tries for each further shape which of its kernels is the quickest.

    Of full-size images an H100 takes some seconds for each further number of them, and then learns from a fifth more a second:
    for a training, not for a few scores. Which kernel is taken may differ between runs, and then so does the rounding.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def autocast(device: Device, precision: Precision) -> torch.autocast:
    """Around a forward pass: bf16 where that is the precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def enough_memory(images: int, remedy: str) -> Iterator[None]:
    """Says in words that there is no room for what is computed inside.

    Args:
        images: That are computed at once.
        remedy: Which fields ask for less.

    Raises:
        TrainingError: The device's memory, or the machine's, is full.
    """
    try:
        yield
    except RuntimeError as full:  # torch.OutOfMemoryError is one; of a CPU's there is no type of its own
        if not isinstance(full, torch.OutOfMemoryError) and not _NO_ROOM.search(str(full)):
            raise
        tried = _TRIED.search(str(full))
        raise TrainingError(
            f"There is not enough memory for {images} images at once",
            expected="room for their activations" + (f"; {tried['size']} more were asked for" if tried else ""),
            got=_room_in_words(),
            remedy=remedy,
        ) from full


def _room_in_words() -> str:
    if not torch.cuda.is_available():
        return "a machine whose memory is full"
    free, whole = torch.cuda.mem_get_info()
    return f"{free / 2**30:.1f} of {whole / 2**30:.1f} GiB of the GPU free; this process holds the most of the rest"
