"""Every network that a config can ask for. A new one is a line in ``NETWORKS`` (docs/how-to/add-a-network.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gmic_model.backbones.group_norm import normalised_by_groups
from gmic_model.model import GMIC
from gmic_model.networks.gmic import configured_gmic_loss, require_patches
from gmic_model.networks.network import Network, NetworkLoss
from gmic_model.networks.resnet22_classifier import ResNet22Classifier
from gmic_model.weights import LOCALIZATION_BACKBONE, PATCH_NETWORK
from schemas.config.network import GMICConfig, NetworkConfig, NetworkSection, ResNet22Config
from schemas.config.training import TrainConfig

NETWORKS: Final[Mapping[type[NetworkSection], Network]] = MappingProxyType(
    {
        GMICConfig: Network(
            build=GMIC,
            loss=configured_gmic_loss,
            backbone="localization.backbone",
            patches="mil.patch_network",
            require=require_patches,
        ),
        ResNet22Config: Network(build=ResNet22Classifier, backbone="localization.backbone"),
    }
)


def build_network(config: NetworkConfig, *, checkpoint_activations: bool = False) -> nn.Module:
    """The network that a config describes, with fresh weights drawn from torch's default generator.

    Args:
        config: Which network, and its numbers.
        checkpoint_activations: As in ``GMIC``: less memory in training, the same gradients.
    """
    network = NETWORKS[type(config)].build(config, checkpoint_activations=checkpoint_activations)
    return normalised_by_groups(network) if config.normalization == "group" else network


_DRAWING: Final = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


class _Undrawn(TorchFunctionMode):
    """Inside, tensors that random numbers are to be drawn into stay as they are."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _DRAWING:
            return args[0] if args else None
        return func(*args, **(kwargs or {}))


def unfilled_network(config: NetworkConfig) -> nn.Module:
    """The same for who loads all of its weights, which hold anything: to draw them first takes longer than to load them."""
    with _Undrawn():
        return build_network(config)


def config_of(network: nn.Module) -> NetworkConfig:
    """What the network was built from; every network keeps it as ``config``."""
    config: NetworkConfig = network.config  # type: ignore[assignment]  # torch knows of tensors and modules only
    return config


def network_loss(config: NetworkConfig, train: TrainConfig) -> NetworkLoss:
    """What the network is trained with."""
    return NETWORKS[type(config)].loss(config, train)


def require_trainable(config: NetworkConfig) -> None:
    """Refuses a network that no training makes sense of.

    Raises:
        ConfigError: For GMIC: its saliency map holds fewer patches than K.
    """
    NETWORKS[type(config)].require(config)


def part_places(config: NetworkConfig) -> dict[str, str]:
    """Where the parts are that files of weights may begin: how a part's names begin in a file, and in the network."""
    network = NETWORKS[type(config)]
    places = ((LOCALIZATION_BACKBONE, network.backbone), (PATCH_NETWORK, network.patches))
    return {in_files: f"{here}." for in_files, here in places if here is not None}
