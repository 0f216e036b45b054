"""The parts of a network in training: their learning rates, which of them stand still, and how they are normalised."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import unwrap

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gmic_model.backbones.batch_norm import BatchNorm
from gmic_model.devices import enough_memory
from gmic_model.weights import LOCALIZATION_BACKBONE, PATCH_NETWORK
from schemas.config.recipe import PartConfig, PartsConfig
from schemas.config.training import FitConfig
from schemas.errors import ConfigError

BASE_RATE = "base_rate"
"""Key in an optimiser's group: its learning rate before warm-up and schedule."""


@dataclass(slots=True, kw_only=True)
class Handling:
    """How a network's parts are handled, epoch by epoch.

    Attributes:
        parts: Module of each part, with its config.
        keeps_statistics: A frozen part normalises by the running statistics that it began with.
        keeps_all_statistics: So does the whole network, always.
        frozen: The parts that stand still in the present epoch.
    """

    parts: Sequence[tuple[nn.Module, PartConfig]] = ()
    keeps_statistics: bool = False
    keeps_all_statistics: bool = False
    frozen: list[nn.Module] = field(default_factory=list)

    def begin_epoch(self, epoch: int, *, is_alone: bool) -> None:
        """Freezes what stands still in this epoch. A process that is alone does not compute its gradients either."""
        self.frozen = [module for module, config in self.parts if epoch < config.frozen_epochs]
        for module, _ in self.parts:
            for weight in module.parameters():
                weight.requires_grad_(not (is_alone and module in self.frozen))

    def set_training(self, network: nn.Module) -> None:
        """Training mode, but for the batch normalisation that keeps its statistics."""
        network.train()
        for layer in self.kept_layers(network):
            layer.eval()

    def kept_layers(self, network: nn.Module) -> list[nn.Module]:
        """The batch normalisation whose running statistics are used and stay as they are, in the present epoch."""
        kept: Iterable[nn.Module] = (network,) if self.keeps_all_statistics else self.frozen if self.keeps_statistics else ()
        return [layer for module in kept for layer in norm_layers(module)]

    def drop_frozen_gradients(self) -> None:
        """What processes have exchanged for a part that stands still: it moves nothing, and is in no norm."""
        for module in self.frozen:
            for weight in module.parameters():
                weight.grad = None


def handling(network: nn.Module, places: Mapping[str, str], parts: PartsConfig, config: FitConfig) -> Handling:
    """The handling that a config asks for.

    Args:
        network: The network.
        places: As ``registry.part_places``.
        parts: Rates and frozen epochs.
        config: Says how batches are normalised.

    Raises:
        ConfigError: The network has no such part, or no statistics that batches could be normalised by.
    """
    if config.recipe.batch_norm != "batch" and not any(norm_layers(network)):
        raise ConfigError(
            f"The network has no batch normalisation that train.recipe.batch_norm: {config.recipe.batch_norm} could speak of",
            expected="batch, where model.normalization is group",
            remedy="leave out train.recipe.batch_norm, or model.normalization",
        )
    found = []
    for name, in_files, part in (
        ("localization", LOCALIZATION_BACKBONE, parts.localization),
        ("patches", PATCH_NETWORK, parts.patches),
    ):
        if part == PartConfig():
            continue
        if in_files not in places:
            raise ConfigError(
                f"The network has no part that train.parts.{name} could speak of", remedy=f"leave out train.parts.{name}"
            )
        found.append((network.get_submodule(places[in_files].removesuffix(".")), part))
    return Handling(
        parts=found,
        keeps_statistics=parts.frozen_statistics == "keep",
        keeps_all_statistics=config.recipe.batch_norm == "running",
    )


def made_optimizer(
    network: nn.Module, parts: Sequence[tuple[nn.Module, PartConfig]], config: FitConfig
) -> torch.optim.Optimizer:
    """Adam, or AdamW where weights decay: kernels and matrices do, what scales and shifts does not.

    Weights of one rate and decay are one group, in the network's order; without parts and decay there is one group.
    """
    rate_of = {id(weight): part.learning_rate for module, part in parts for weight in module.parameters()}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for weight in network.parameters():
        rate = rate_of.get(id(weight)) or config.learning_rate
        decay = config.recipe.weight_decay if weight.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(weight)
    made = [
        {"params": weights, "lr": rate, BASE_RATE: rate, "weight_decay": decay} for (rate, decay), weights in groups.items()
    ]
    kind = _without_compiler(torch.optim.AdamW if config.recipe.weight_decay else torch.optim.Adam)
    return kind(made, lr=config.learning_rate, fused=True)


@cache
def _without_compiler(optimizer: type[torch.optim.Adam]) -> type[torch.optim.Adam]:
    """The optimizer without what torch puts around its methods for its compiler, which no step of ours goes through.

    The first call of such a wrapper imports the compiler: more than a second of every training's start.
    """
    plain = {
        name: unwrap(getattr(optimizer, name)) for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    }
    return type(optimizer.__name__, (optimizer,), {**plain, "step": torch.no_grad()(unwrap(optimizer.step))})


def norm_layers(module: nn.Module) -> Iterator[nn.Module]:
    """The batch normalisation layers of a module: ours, and what several processes have in their place."""
    return (layer for layer in module.modules() if isinstance(layer, _BatchNorm))


@torch.no_grad()
def remeasure_statistics(network: nn.Module, images: Iterable[Tensor], kept: Collection[nn.Module] = ()) -> None:
    """Running statistics as the mean of the batches' own, for the weights as they are; leaves the network in training mode.

    An exponential mean follows weights that have moved on: with few and small steps it can be far from what the present weights
    give (precise batch normalisation, Wu and Johnson, 2021, section 3).

    Args:
        network: The network.
        images: Batches of training images, image_N1HW.
        kept: Layers that normalise by the statistics they have, and keep them.

    Raises:
        TrainingError: There is no room for a batch.
    """
    network.train()
    for layer in kept:
        layer.eval()
    layers = [layer for layer in norm_layers(network) if layer not in kept]
    former = [(layer.momentum, layer.__class__) for layer in layers]
    for layer in layers:
        layer.__class__ = BatchNorm  # every process looks at the same images: exchanged, each would count once a process
    try:
        for count, image_N1HW in enumerate(images, 1):
            for layer in layers:
                layer.momentum = 1.0 / count  # type: ignore[assignment]
            with enough_memory(len(image_N1HW), "lower train.batch_exams: statistics are measured anew by whole batches"):
                network(image_N1HW)
    finally:
        for layer, (momentum, kind) in zip(layers, former, strict=True):
            layer.momentum, layer.__class__ = momentum, kind
