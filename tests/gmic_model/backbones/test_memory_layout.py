"""Where the networks' activations are channels last."""

import pytest
import torch
from torch import Tensor, nn

from gmic_model.backbones.memory_layout import as_channels_last, placed
from gmic_model.backbones.resnet import ResNet18, ResNet22
from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.learner import new_learner, random_state
from gmic_model.learning.steps import train_steps
from mammo_tests.batches import whole_steps
from schemas.config.network import ResNet22Config
from schemas.config.training import TrainConfig
from tasks.adapters.models.checkpoints import flatten_training, restore_training


def layouts(network: nn.Module, *, training: bool) -> set[bool]:
    """Of every 3 x 3 convolution in a pass: is what it reads channels last?"""
    seen: set[bool] = set()

    def note(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.add(given[0].is_contiguous(memory_format=torch.channels_last) and not given[0].is_contiguous())

    hooks = [
        module.register_forward_pre_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    ]
    network.train(training)(torch.randn(2, 1, 192, 128))
    for hook in hooks:
        hook.remove()
    return seen


def test_the_view_has_the_same_pixels_and_says_its_layout() -> None:
    """No copy; a convolution that reads it writes channels last, at one image too."""
    image = torch.randn(1, 1, 12, 8)
    view = as_channels_last(image)
    assert torch.equal(view, image) and view.data_ptr() == image.data_ptr()
    features = nn.Conv2d(1, 4, 3)(view)
    assert features.is_contiguous(memory_format=torch.channels_last) and not features.is_contiguous()


@pytest.mark.parametrize("network", [ResNet18, ResNet22])
def test_channels_last_but_in_training_on_a_cpu(network: type[ResNet18 | ResNet22]) -> None:
    """All layers after the stem agree; without the option none is channels last."""
    assert layouts(network(), training=False) == {True}
    assert layouts(network(), training=True) == {False}
    assert layouts(network(channels_last=False), training=False) == {False}


@pytest.mark.parametrize("network", [ResNet18, ResNet22])
def test_kernels_lie_as_the_activations_do_but_on_a_cpu(network: type[ResNet18 | ResNet22]) -> None:
    """On a device without memory, which is asked as a GPU is; without the option, and on a CPU, they stay as they were."""

    def kernels(made: nn.Module) -> set[bool]:
        return {
            kernel.is_contiguous(memory_format=torch.channels_last)
            for kernel in made.parameters()
            if kernel.ndim == 4 and min(kernel.shape[1], kernel.shape[2]) > 1  # of others torch cannot tell
        }

    device = torch.device("meta")
    assert kernels(placed(network(), device)) == {True}
    assert kernels(placed(network(channels_last=False), device)) == {False}
    assert kernels(placed(network(), torch.device("cpu"))) == {False}


def test_a_training_goes_on_whatever_the_layout_of_its_kernels() -> None:
    """Files keep none: weights and Adam's moments of a network in channels last come back into one, and move as they would."""
    learners = [
        new_learner(ResNet22Config(kind="resnet-22", image_size=(64, 48)), TrainConfig(device="cpu", seed=seed))
        for seed in (0, 1)
    ]
    batch = Batch(torch.randn(2, 1, 64, 48), torch.tensor([[0, 1], [1, 0]]), torch.arange(2))
    for learner in learners:
        learner.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first, second = learners
    list(train_steps(first, whole_steps([batch]), TrainConfig(device="cpu")))
    saved = {name: value.clone().contiguous() for name, value in first.network.state_dict().items()}
    moments = flatten_training(first.optimizer, [random_state(torch.device("cpu"))])
    second.network.load_state_dict(saved)
    restore_training(second.optimizer, {name: value.clone().contiguous() for name, value in moments.items()})
    for learner in learners:
        list(train_steps(learner, whole_steps([batch]), TrainConfig(device="cpu")))
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other) and one.stride() == other.stride()


@pytest.mark.parametrize(("network", "rows"), [(ResNet18, 384), (ResNet22, 768)])  # enough for the drift of each to be seen
def test_training_statistics_match_fp64(network: type[ResNet18 | ResNet22], rows: int) -> None:
    """Half of the image is constant background, whose sum drifts in a channels-last kernel: variances within 1e-5 of fp64's."""
    torch.manual_seed(0)
    image = torch.randn(1, 1, rows, 512)
    image[..., 256:] = -1.5
    ours = network().train()
    exact = network().double().train()
    exact.load_state_dict(ours.state_dict())
    ours(image)
    exact(image.double())
    wanted = exact.state_dict()
    for name, value in ours.state_dict().items():
        if name.endswith("running_var"):
            torch.testing.assert_close(
                value.double(), wanted[name], rtol=1e-5, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
            )
