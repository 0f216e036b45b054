"""Where the networks' activations are channels last."""

import pytest
import torch
from torch import Tensor, nn

from gmic_model.backbones.memory_layout import as_channels_last
from gmic_model.backbones.resnet import ResNet18, ResNet22


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
def test_training_statistics_match_fp64(network: type[ResNet18 | ResNet22]) -> None:
    """Half of the image is constant background, whose sum drifts in a channels-last kernel: variances within 1e-5 of fp64's."""
    torch.manual_seed(0)
    image = torch.randn(1, 1, 768, 512)
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
