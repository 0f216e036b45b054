"""Where the network computes: what cannot be had is said in words, and a step waits for the device once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gmic_model.devices import autocast, choose_device, computing, enough_memory, further_devices, quickest_kernels
from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.learner import new_learner, predict_batches
from gmic_model.learning.steps import Part, train_steps
from schemas.config.network import ResNet22Config
from schemas.config.training import TrainConfig
from schemas.errors import ConfigError, TrainingError

CPU = torch.device("cpu")
SMALL = ResNet22Config(kind="resnet-22", image_size=(64, 48))


def test_a_gpu_that_is_not_there_is_said_with_what_torch_was_built_for() -> None:
    """``device: cuda`` without a card: a ConfigError with the remedy, not an assertion of torch's."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=r"asks for a GPU and torch sees none.*CUDA_VISIBLE_DEVICES.*nvidia-smi.*device: cpu"):
        choose_device(TrainConfig(device="cuda"))
    assert choose_device(TrainConfig(device="auto")) == CPU


def test_processes_of_a_cpu_are_one_device_that_scores() -> None:
    """Each would have all threads of the machine; on GPUs there are as many as processes."""
    assert further_devices(TrainConfig(device="cpu", processes=2)) == ()
    if torch.cuda.device_count() > 1:
        assert further_devices(TrainConfig(device="cuda", processes=2)) == (torch.device("cuda", 1),)


def test_no_room_is_said_in_words() -> None:
    """A CPU that refuses a petabyte, and CUDA's own words: how many images, and which fields ask for less."""
    refused = r"not enough memory for 16 images at once.*Remedy: lower train\.part_images"
    with pytest.raises(TrainingError, match=refused), enough_memory(16, "lower train.part_images"):
        torch.empty(2**50)
    words = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.1 GiB"
    with pytest.raises(TrainingError, match=r"2\.50 GiB more were asked for"), enough_memory(4, "lower it"):
        raise torch.OutOfMemoryError(words)
    with pytest.raises(RuntimeError, match="shape"), enough_memory(4, "lower it"):  # another error is left as it is
        raise RuntimeError("a shape is wrong")


class _Waits(TorchDispatchMode):
    """Counts what makes a GPU's host wait for a number of it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero"):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.fixture
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_a_step_asks_the_device_for_no_single_number() -> None:
    """Losses of both parts and the gradient's norm come together, with clipping, warm-up and a running mean as well."""
    config = TrainConfig(device="cpu", clip_gradient_norm=1.0, warmup_steps=4, ema_decay=0.9)
    learner = new_learner(SMALL, config)
    batch = Batch(torch.randn(2, 1, 64, 48), torch.tensor([[0, 1], [1, 0]]), torch.arange(2))
    parts = [Part(batch, 0.5, 4, closes_step=False), Part(batch, 0.5, 4, closes_step=True)]
    with _Waits() as waits:
        (step,) = train_steps(learner, parts, config)
    assert step.images == 4 and waits.seen == []


@pytest.mark.usefixtures("_one_thread")
def test_each_precision_computes() -> None:
    """On a CPU ieee-fp32 and tf32 are fp32 to the bit; bf16 scores otherwise, and near it; torch's own settings come back."""
    learner = new_learner(SMALL, TrainConfig(device="cpu"))
    batch = Batch(torch.randn(2, 1, 64, 48), torch.zeros(2, 2), torch.arange(2))
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    scores = {}
    for precision in ("fp32", "ieee-fp32", "tf32", "bf16"):
        ((_, output),) = predict_batches(learner.network, [batch], precision=precision)  # type: ignore[arg-type]
        scores[precision] = output.y_NC
    assert torch.equal(scores["fp32"], scores["ieee-fp32"]) and torch.equal(scores["fp32"], scores["tf32"])
    assert not torch.equal(scores["fp32"], scores["bf16"])
    torch.testing.assert_close(scores["fp32"], scores["bf16"], rtol=0, atol=0.02)
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


def test_on_a_gpu_a_precision_says_where_tensorfloat_is_used() -> None:
    """What torch is told around a step of each precision, and that autocast is for bf16 alone."""
    gpu, seen = torch.device("cuda", 0), {}
    for precision in ("fp32", "ieee-fp32", "tf32", "bf16"):
        with computing(gpu, precision):  # type: ignore[arg-type]
            seen[precision] = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    shipped = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    assert seen == {"fp32": shipped, "ieee-fp32": (False, False), "tf32": (True, True), "bf16": shipped}
    assert autocast(CPU, "bf16")._enabled and not autocast(CPU, "tf32")._enabled


def test_on_a_gpu_the_quickest_kernels_are_looked_for() -> None:
    """What torch is told inside, of a GPU alone; its own setting comes back, after an error too."""
    shipped = torch.backends.cudnn.benchmark
    with quickest_kernels(CPU):
        assert torch.backends.cudnn.benchmark is shipped
    with pytest.raises(KeyError), quickest_kernels(torch.device("cuda", 0)):
        assert torch.backends.cudnn.benchmark is True
        raise KeyError
    assert torch.backends.cudnn.benchmark is shipped
