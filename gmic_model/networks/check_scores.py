"""What a network says of an image that arithmetic makes: two machines that agree on it score alike.

Also the network as a program for others: what ``torch.export`` makes of it, for viewers of networks.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gmic_model.networks.network import FindingsNetwork
from gmic_model.networks.registry import config_of

_CELL_PX = 16


def check_image(shape_px: tuple[int, int]) -> NDArray[np.float32]:
    """An image (rows, columns) with mean 0 and deviation 1, of coarse and fine grain; the same bits on every machine.

    Made of integers and of sums, products and one quotient of doubles, which IEEE 754 fixes; no function of a library's.
    """
    rows, columns = shape_px
    generator = np.random.Generator(np.random.PCG64(20191017))
    coarse = generator.integers(0, 4096, (-(-rows // _CELL_PX), -(-columns // _CELL_PX)))
    fine_HW = generator.integers(0, 1024, shape_px)
    whole_HW = np.kron(coarse, np.ones((_CELL_PX, _CELL_PX), np.int64))[:rows, :columns] + fine_HW
    return ((whole_HW - 2559.0) / 1218.0).astype(np.float32)


def check_scores(network: FindingsNetwork) -> NDArray[np.float32]:
    """``y`` (C) of the check image, on the CPU, with one thread: how many there are would change the order of sums."""
    image_N1HW = torch.from_numpy(check_image(config_of(network).image_size))[None, None]
    with _as_in_use(network):
        scores_C: NDArray[np.float32] = network(image_N1HW).y_NC[0].numpy()
    return scores_C


def exported_program(network: FindingsNetwork) -> bytes:
    """The network as ``torch.export`` has it: image (1, 1, H, W) to ``y`` (1, C) and the saliency maps (1, C, I, J).

    Raises:
        ValueError: What was made scores the check image otherwise than the network.
    """
    image_N1HW = torch.from_numpy(check_image(config_of(network).image_size))[None, None]
    with _as_in_use(network):
        scored_NC = network(image_N1HW).y_NC
        program = torch.export.export(_Outputs(network), (image_N1HW,), strict=False)
        content = io.BytesIO()
        torch.export.save(program, content)
        read = torch.export.load(io.BytesIO(content.getvalue()))
        said_NC = read.module()(image_N1HW)[0]
    if not torch.equal(said_NC, scored_NC):
        raise ValueError(f"{(said_NC - scored_NC).abs().max().item():.3g}")
    return content.getvalue()


class _Outputs(nn.Module):
    """The network with outputs that a file can describe: a tuple of tensors."""

    def __init__(self, network: FindingsNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_N1HW: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(image_N1HW)
        return output.y_NC, output.saliency_NCIJ


@contextmanager
def _as_in_use(network: FindingsNetwork) -> Iterator[None]:
    """One thread, no gradients, statistics as kept, and the draws of the random rows of Table 1 fixed; then as it was."""
    threads, is_training = torch.get_num_threads(), network.training
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            network.to("cpu").eval()
            yield
    finally:
        torch.set_num_threads(threads)
        network.train(is_training)
