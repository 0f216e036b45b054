"""The two convolutional networks."""

import functools

import pytest
import torch

from gmic_model.backbones.resnet import PreActivationBlock, ResNet18, ResNet22, grid_cells, run_block


def parameters(network: torch.nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in network.parameters())


def test_resnet22_has_the_published_size() -> None:
    """2,799,536 parameters (GMIC.md 1.1)."""
    assert parameters(ResNet22()) == 2_799_536


def test_resnet18_has_torchvisions_size_less_two_stem_channels() -> None:
    """11,176,512 with a three-channel stem; each channel of the stem is 64 x 7 x 7 weights."""
    assert parameters(ResNet18()) == 11_176_512 - 2 * 64 * 7 * 7


@pytest.mark.parametrize(("image", "grid"), [((736, 480), (12, 8)), ((512, 320), (8, 5)), ((5, 5), (1, 1))])
def test_resnet22_grid_follows_unpadded_pooling(image: tuple[int, int], grid: tuple[int, int]) -> None:
    """Stem: ceil(n / 2); pool: floor((m - 3) / 2) + 1; four times ceil(m / 2). 736 -> 368 -> 183 -> 92, 46, 23, 12."""
    with torch.no_grad():
        features = ResNet22().eval()(torch.randn(1, 1, *image))
    assert features.shape == (1, 256, *grid) and tuple(map(grid_cells, image)) == grid


def test_resnet22_grid_at_the_papers_size_is_46_by_30() -> None:
    """2944 x 1920 pixels, on the meta device: shapes only."""
    with torch.device("meta"):
        assert ResNet22().eval()(torch.empty(1, 1, 2944, 1920)).shape == (1, 256, 46, 30)
    assert (grid_cells(2944), grid_cells(1920)) == (46, 30)


def test_resnet18_gives_one_vector_per_patch() -> None:
    """512 features, whatever the patch size."""
    network = ResNet18().eval()
    with torch.no_grad():
        assert network(torch.randn(3, 1, 64, 96)).shape == (3, 512)


def test_fresh_features_keep_a_usable_scale() -> None:
    """A start from nothing neither dies nor explodes: unit-variance pixels give features of order one, with gradients."""
    torch.manual_seed(0)
    network = ResNet22().train()
    features = network(torch.randn(2, 1, 256, 256))
    assert 0.1 < features.std().item() < 10
    torch.autograd.backward(features.square().mean())
    gradient = network.stem.weight.grad
    assert gradient is not None
    assert 1e-6 < gradient.norm().item() < 1e3


def test_compiled_blocks_recompute_and_count_each_batch_once() -> None:
    """Under torch.compile, in one graph: the gradients and running statistics of the plain pass."""
    values = torch.randn(2, 4, 9, 7)
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        block = PreActivationBlock(4, 8, stride=2, project=True).train()
        run = functools.partial(run_block, block, recompute=recompute)
        output = (torch.compile(run, fullgraph=True, backend="aot_eager") if recompute else run)(values)
        torch.autograd.backward(output.square().sum())
        results.append({"grad": block.conv1.weight.grad, **dict(block.named_buffers())})
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name], msg=name)
    assert results[1]["norm1.num_batches_tracked"] == 1
