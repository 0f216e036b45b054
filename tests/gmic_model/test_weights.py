"""Foreign weights under our names."""

import json
from pathlib import Path

import pytest
import torch

from gmic_model.model import GMIC, GMICConfig
from gmic_model.weights import from_nyu_state_dict, from_torchvision_resnet18
from schemas.errors import CheckpointError


def test_recipe_has_not_drifted(released_state: dict[str, torch.Tensor], parity_dir: Path) -> None:
    """The generated weights have the recorded sums: a failing parity test is then the network's fault."""
    checksums = json.loads((parity_dir / "weights_checksums.json").read_text())["weights"]
    assert checksums.keys() == released_state.keys()
    for key, facts in checksums.items():
        assert released_state[key].double().sum().item() == pytest.approx(facts["sum"], rel=1e-6, abs=1e-6), key


def test_released_weights_load_strictly(released_state: dict[str, torch.Tensor]) -> None:
    """258 tensors, none left over; 14,110,322 parameters less the two stem channels that the sum removes."""
    state = from_nyu_state_dict(released_state)
    model = GMIC(GMICConfig.released())
    model.load_state_dict(state, strict=True)
    assert len(state) == 258
    assert sum(parameter.numel() for parameter in model.parameters()) == 14_110_322 - 2 * 64 * 49


def test_patch_stem_is_summed_over_its_equal_channels(released_state: dict[str, torch.Tensor]) -> None:
    """Three equal gray channels through the released stem equal one through ours."""
    released_stem = released_state["dn_resnet.conv1.weight"]
    stem = from_nyu_state_dict(released_state)["mil.patch_network.stem.weight"]
    patch = torch.randn(1, 1, 16, 16)
    ours = torch.nn.functional.conv2d(patch, stem)
    theirs = torch.nn.functional.conv2d(patch.expand(1, 3, 16, 16), released_stem)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_known_extra_key_is_allowed(released_state: dict[str, torch.Tensor]) -> None:
    """The released files carry shared_rep_filter.weight, which nothing reads."""
    state = from_nyu_state_dict({**released_state, "shared_rep_filter.weight": torch.zeros(3)})
    assert not any("shared_rep_filter" in name for name in state)


@pytest.mark.parametrize(
    "extra", ["shared_rep_filter.bias", "ds_net.layer_list.5.0.bn1.weight", "localization.saliency.weight"]
)
def test_any_other_extra_key_is_refused_by_name(released_state: dict[str, torch.Tensor], extra: str) -> None:
    """Even one of our own names: a mixed checkpoint is nobody's."""
    with pytest.raises(CheckpointError, match=extra):
        from_nyu_state_dict({**released_state, extra: torch.zeros(1)})


@pytest.mark.parametrize(
    "missing", ["mil_attn_V.weight", "dn_resnet.bn1.running_var", "fusion_dnn.bias", "dn_resnet.conv1.weight"]
)
def test_missing_key_is_refused_by_its_released_name(released_state: dict[str, torch.Tensor], missing: str) -> None:
    """The message names the tensor as the file would."""
    with pytest.raises(CheckpointError, match=missing):
        from_nyu_state_dict({key: tensor for key, tensor in released_state.items() if key != missing})


def test_other_shape_is_refused_with_both_shapes(released_state: dict[str, torch.Tensor]) -> None:
    """Three findings in the classifier: refused here and not in load_state_dict."""
    with pytest.raises(CheckpointError, match=r"classifier_linear.weight \(3, 512\) instead of \(2, 512\)"):
        from_nyu_state_dict({**released_state, "classifier_linear.weight": torch.zeros(3, 512)})


def test_torchvision_weights_load_into_the_patch_network(released_state: dict[str, torch.Tensor]) -> None:
    """The released patch network has torchvision's names behind a prefix, so both importers agree."""
    torchvision = {key.removeprefix("dn_resnet."): t for key, t in released_state.items() if key.startswith("dn_resnet.")}
    state = from_torchvision_resnet18({**torchvision, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)})
    released = from_nyu_state_dict(released_state)
    for name, tensor in state.items():
        assert torch.equal(tensor, released[f"mil.patch_network.{name}"])
    with pytest.raises(CheckpointError, match=r"layer4\.1\.bn2\.bias"):
        from_torchvision_resnet18({key: tensor for key, tensor in torchvision.items() if key != "layer4.1.bn2.bias"})
