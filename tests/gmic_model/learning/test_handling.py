"""Parts of a network in training: rates, decay, what stands still, and how batches are normalised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.handling import made_optimizer, remeasure_statistics
from gmic_model.learning.learner import Learner, new_learner, remeasure
from gmic_model.learning.steps import train_steps
from mammo_tests.batches import whole_steps
from schemas.config.network import GMICConfig, ResNet22Config
from schemas.config.training import TrainConfig
from schemas.errors import ConfigError, TrainingError

ROOT = Path(__file__).parents[3]
MODEL = GMICConfig(image_size=(64, 48), patch_size=(16, 16), K=2, local_dim=8, attention_dim=8)


def batch(seed: int = 0, images: int = 4) -> Batch:
    """Noise with labels."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        image_N1HW=torch.randn(images, 1, 64, 48, generator=generator) * 2 + 1,
        label_NC=torch.randint(0, 2, (images, 2), generator=generator),
        row_N=torch.arange(images),
    )


def learner(**train: Any) -> tuple[Learner, TrainConfig]:
    """A small GMIC and its config."""
    config = TrainConfig.model_validate({"device": "cpu", "learning_rate": 1e-3, **train})
    return new_learner(MODEL, config), config


def trained(made: tuple[Learner, TrainConfig], *, epoch: int = 0, steps: int = 2) -> dict[str, Tensor]:
    """The largest change of each tensor over some steps of an epoch."""
    it, config = made
    before = {name: value.clone() for name, value in it.network.state_dict().items()}
    it.handling.begin_epoch(epoch, is_alone=True)
    list(train_steps(it, whole_steps([batch(step) for step in range(steps)]), config))
    return {name: (value - before[name]).abs().max() for name, value in it.network.state_dict().items()}


def test_without_options_there_is_one_group_in_the_networks_order() -> None:
    """As every earlier checkpoint has its moments: Adam, one rate."""
    it, config = learner()
    (group,) = it.optimizer.param_groups
    assert isinstance(it.optimizer, torch.optim.Adam) and not isinstance(it.optimizer, torch.optim.AdamW)
    assert group["lr"] == config.learning_rate
    assert all(one is other for one, other in zip(group["params"], it.network.parameters(), strict=True))


def test_each_part_has_its_rate_and_only_matrices_decay() -> None:
    """Under Adam the first step moves a weight by its rate, whatever its gradient."""
    made = learner(
        parts={"localization": {"learning_rate": 1e-5}, "patches": {"learning_rate": 1e-4}}, recipe={"weight_decay": 0.1}
    )
    assert isinstance(made[0].optimizer, torch.optim.AdamW)
    decays = {id(weight): group["weight_decay"] for group in made[0].optimizer.param_groups for weight in group["params"]}
    assert {decays[id(weight)] for weight in made[0].network.parameters() if weight.ndim == 1} == {0.0}
    assert {decays[id(weight)] for weight in made[0].network.parameters() if weight.ndim > 1} == {0.1}
    moved = trained(made, steps=1)
    for name, rate in (("localization.backbone.stages.0.0.norm1.bias", 1e-5), ("mil.patch_network.stem_norm.bias", 1e-4)):
        assert moved[name] == pytest.approx(rate, rel=1e-2), name
    assert moved["mil.project.bias"] == pytest.approx(1e-3, rel=1e-2)


# As a training's process does it; argv: the network's config, how its weights decay.
_TRAINED = """
import gc, sys
gc.disable()  # what is imported is there to stay
import torch
from gmic_model.learning.exam_loader import Batch
from gmic_model.learning.learner import new_learner
from gmic_model.networks.registry import require_trainable
from schemas.config.network import GMICConfig
from schemas.config.training import TrainConfig
model = GMICConfig.model_validate_json(sys.argv[1])
config = TrainConfig(device="cpu", recipe={"weight_decay": float(sys.argv[2])})
require_trainable(model)
made = new_learner(model, config)
batch = Batch(image_N1HW=torch.ones(2, 1, *model.image_size), label_NC=torch.ones(2, 2), row_N=torch.arange(2))
for _ in range(2):
    made.optimizer.zero_grad()
    made.objective(made.network, batch).backward()
    made.optimizer.step()
made.optimizer.load_state_dict(made.optimizer.state_dict())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_a_training_brings_no_compiler() -> None:
    """Checked, built, stepped and restored without torch's compiler, whose import takes more than a second."""
    command = [sys.executable, "-P", "-c", _TRAINED, MODEL.model_copy(update={"K": 1}).model_dump_json(), "0.1"]
    said = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert said.stdout == "[]\n", said.stdout + said.stderr


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_optimizer_gives_torch_s_bits(decay: float) -> None:
    """Three steps, then three more from its state: weights and moments are those of torch's own Adam and AdamW."""
    start = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = (nn.Linear(4, 5, bias=False) for _ in range(2))
    config = TrainConfig.model_validate({"device": "cpu", "learning_rate": 1e-2, "recipe": {"weight_decay": decay}})
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    made = made_optimizer(ours, (), config)
    other = kind(theirs.parameters(), lr=1e-2, weight_decay=decay, fused=True)
    for layer in (ours, theirs):
        layer.weight.data.copy_(start)
    for step in range(6):
        if step == 3:
            made, saved = made_optimizer(ours, (), config), made.state_dict()
            made.load_state_dict(saved)
        for layer, optimizer in ((ours, made), (theirs, other)):
            optimizer.zero_grad()
            (layer.weight.sin() * (step + 1)).sum().backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight) and not torch.equal(ours.weight, start)
    for name, value in other.state[theirs.weight].items():
        assert torch.equal(made.state[ours.weight][name], value), name


@pytest.mark.parametrize("statistics", ["adapt", "keep"])
def test_a_frozen_part_stands_still_and_then_moves(statistics: str) -> None:
    """Its weights are the same bits; its running statistics follow the images or not, as the config says."""
    made = learner(parts={"localization": {"frozen_epochs": 1}, "frozen_statistics": statistics}, ema_decay=0.5)
    moved = trained(made)
    ours = {name: change for name, change in moved.items() if name.startswith("localization.backbone.")}
    is_statistic = {name: name.endswith(("running_mean", "running_var")) for name in ours}
    assert all(change == 0 for name, change in ours.items() if not is_statistic[name] and "num_batches" not in name)
    assert all(bool(change > 0) is (statistics == "adapt") for name, change in ours.items() if is_statistic[name])
    assert moved["localization.saliency.weight"] > 0 and moved["mil.patch_network.stem.weight"] > 0
    later = trained(made, epoch=1)
    assert later["localization.backbone.stem.weight"] > 0


def test_gradients_that_others_computed_move_nothing_frozen() -> None:
    """Several processes exchange all gradients; those of a frozen part are dropped."""
    it, config = learner(parts={"patches": {"frozen_epochs": 1}})
    before = {name: value.clone() for name, value in it.network.state_dict().items()}
    it.handling.begin_epoch(0, is_alone=False)
    list(train_steps(it, whole_steps([batch()]), config))
    after = it.network.state_dict()
    assert torch.equal(after["mil.patch_network.stem.weight"], before["mil.patch_network.stem.weight"])
    assert not torch.equal(after["mil.project.weight"], before["mil.project.weight"])


def test_a_part_that_the_network_does_not_have_is_refused() -> None:
    """The baseline reads no patches."""
    config = TrainConfig.model_validate({"device": "cpu", "parts": {"patches": {"learning_rate": 1e-4}}})
    with pytest.raises(ConfigError, match=r"train\.parts\.patches"):
        new_learner(ResNet22Config(kind="resnet-22", image_size=(64, 48)), config)


def test_running_statistics_are_used_and_kept_where_they_are_asked_for() -> None:
    """Fine-tuning in small batches: no statistic of the whole network changes."""
    moved = trained(learner(recipe={"batch_norm": "running"}))
    assert all(change == 0 for name, change in moved.items() if "running_" in name)
    assert moved["localization.backbone.stem.weight"] > 0


@pytest.mark.parametrize("ema", [None, 0.5])
def test_remeasured_statistics_are_those_of_the_images(ema: float | None) -> None:
    """The mean over the batches of each layer's own mean: for the first layer, of its inputs. Weights stay the same."""
    it, _ = learner(recipe={"batch_norm": "remeasured"}, ema_decay=ema)
    batches = [batch(seed) for seed in range(3)]
    before = {name: value.clone() for name, value in it.weights().items()}
    inputs: list[Tensor] = []
    name, layer = next((name, layer) for name, layer in it.network.named_modules() if isinstance(layer, torch.nn.BatchNorm2d))
    with torch.no_grad():
        hook = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].mean(dim=(0, 2, 3))))
        remeasure(it, batches)
        hook.remove()
    after = it.weights()
    assert all(torch.equal(after[key], before[key]) for key, _ in it.network.named_parameters())
    torch.testing.assert_close(after[f"{name}.running_mean"], torch.stack(inputs).mean(dim=0), rtol=1e-4, atol=1e-5)
    assert len(inputs) == 3 and not torch.allclose(before[f"{name}.running_mean"], after[f"{name}.running_mean"])


@pytest.mark.parametrize("ema", [None, 0.5])
@pytest.mark.parametrize("statistics", ["adapt", "keep"])
def test_statistics_that_are_kept_are_not_measured_anew(statistics: str, ema: float | None) -> None:
    """Of a frozen part those it began with, for as long as it is frozen; those of the rest, and afterwards all, are anew."""
    parts = {"localization": {"frozen_epochs": 1}, "frozen_statistics": statistics}
    it, _ = learner(parts=parts, recipe={"batch_norm": "remeasured"}, ema_decay=ema)
    frozen, free = "localization.backbone.stages.0.0.norm1.running_mean", "mil.patch_network.stem_norm.running_mean"
    began = {name: it.weights()[name].clone() for name in (frozen, free)}
    it.handling.begin_epoch(0, is_alone=True)
    remeasure(it, [batch()])
    assert torch.equal(it.weights()[frozen], began[frozen]) is (statistics == "keep")
    assert not torch.equal(it.weights()[free], began[free])
    it.handling.begin_epoch(1, is_alone=True)
    remeasure(it, [batch()])
    assert not torch.equal(it.weights()[frozen], began[frozen])


def test_groups_have_no_statistics_that_a_recipe_could_speak_of() -> None:
    """A recipe that keeps or remeasures them would do nothing, silently."""
    by_groups = MODEL.model_copy(update={"normalization": "group"})
    new_learner(by_groups, TrainConfig(device="cpu"))
    with pytest.raises(ConfigError, match=r"no batch normalisation that train\.recipe\.batch_norm: remeasured"):
        new_learner(by_groups, TrainConfig.model_validate({"device": "cpu", "recipe": {"batch_norm": "remeasured"}}))


def test_no_room_for_a_batch_that_is_measured_anew_is_said_in_words() -> None:
    """An epoch's steps may be parts of a batch; its statistics are measured by whole ones."""

    class Full(nn.Module):
        def forward(self, image_N1HW: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity")

    with pytest.raises(TrainingError, match=r"not enough memory for 6 images.*Remedy: lower train\.batch_exams"):
        remeasure_statistics(Full(), [torch.zeros(6, 1, 8, 8)])
