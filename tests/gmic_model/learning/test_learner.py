"""The training loop: it learns what can be learnt, learns nothing of what is not known, and stops before it breaks weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from gmic_model.learning.exam_loader import Batch, ExamViews
from gmic_model.learning.learner import (
    Learner,
    averaged_weights,
    new_learner,
    predict_batches,
    random_state,
    set_random_state,
)
from gmic_model.learning.step_plan import plan_steps
from gmic_model.learning.steps import Part, step_parts, train_steps
from gmic_model.model import GMIC
from gmic_model.networks.registry import require_trainable
from gmic_model.preprocess import PreparedView
from gmic_model.sampling import EpochSampler
from mammo_tests.batches import whole_steps
from schemas.config.network import GMICConfig
from schemas.config.training import LossForm, TrainConfig
from schemas.errors import ConfigError, TrainingError
from schemas.exam import ExamRecord, Finding, Laterality, ViewGeometry, ViewPosition
from tasks.adapters.training.tuning import breast_auroc

MODEL = GMICConfig(image_size=(64, 48), patch_size=(16, 16), K=2, local_dim=8, attention_dim=8)
CONFIG = TrainConfig(learning_rate=1e-3, device="cpu", saliency_weight=1e-4)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _batch(seed: int, labels: list[list[int]]) -> Batch:
    """Noise, with a bright square where the second finding is present."""
    generator = torch.Generator().manual_seed(seed)
    image_N1HW = 0.3 * torch.randn(len(labels), 1, 64, 48, generator=generator)
    for index, label_C in enumerate(labels):
        if label_C[1] == 1:
            image_N1HW[index, :, 20:32, 20:32] += 4
    return Batch(image_N1HW, torch.tensor(labels), torch.arange(10 * seed, 10 * seed + len(labels)))


def fresh(model: GMICConfig, config: TrainConfig) -> Learner:
    """A new learner. Drawing eleven million weights takes longer than a step: once for each config."""
    return copy.deepcopy(_drawn(model.model_dump_json(), config.model_dump_json()))


@cache
def _drawn(model: str, config: str) -> Learner:
    return new_learner(GMICConfig.model_validate_json(model), TrainConfig.model_validate_json(config))


def _weights(network: GMIC) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in network.named_parameters()}


def _changed(network: GMIC, before: dict[str, Tensor]) -> list[str]:
    return [name for name, weight in network.named_parameters() if not torch.allclose(weight, before[name], 0, 0, True)]


def test_the_loss_falls_on_what_can_be_learnt() -> None:
    """A bright square means malignant: four steps on four images, each loss below the one before, the last below 80 %."""
    config = CONFIG.model_copy(update={"learning_rate": 5e-3})
    learner = fresh(MODEL, config)
    batch = _batch(1, [[0, 1], [0, 0], [0, 1], [0, 0]])
    losses = [step.loss for step in train_steps(learner, whole_steps([batch] * 4), config)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    # Four cross-entropies at probability 0.5 to begin with: y_loc and y_mil of two findings.
    assert losses[0] == pytest.approx(4 * np.log(2), rel=0.2)


def test_a_step_reports_its_images_and_leaves_the_network_training() -> None:
    """One step per batch; the network is in training mode whatever it was before."""
    learner = fresh(MODEL, CONFIG)
    learner.network.eval()
    batches = [_batch(1, [[0, 1], [0, 0]]), _batch(2, [[1, 0], [0, 0], [0, 1]])]
    assert [step.images for step in train_steps(learner, whole_steps(batches), CONFIG)] == [2, 3]
    assert learner.network.training


def test_batches_are_drawn_one_at_a_time() -> None:
    """An epoch of thousands of exams is never in memory: the second batch is asked for after the first step."""
    learner, drawn = fresh(MODEL, CONFIG), []

    def batches() -> Iterator[Batch]:
        for seed in range(2):
            drawn.append(seed)
            yield _batch(seed, [[0, 1], [0, 0]])

    steps = train_steps(learner, whole_steps(batches()), CONFIG)
    next(steps)
    assert drawn == [0]


# ----------------------------------------------------------------------------------------------------------- bad numbers


def test_an_infinite_loss_stops_before_the_weights_change() -> None:
    """An infinite learning rate breaks the weights in step one: step two names its rows and changes nothing more."""
    learner = fresh(MODEL, CONFIG)
    learner.optimizer = torch.optim.SGD(learner.network.parameters(), lr=float("inf"), fused=True)
    batches = [_batch(1, [[0, 1], [1, 0]]), _batch(2, [[0, 1], [1, 0]])]
    steps = train_steps(learner, whole_steps(batches), CONFIG)
    next(steps)
    before = _weights(learner.network)
    with pytest.raises(TrainingError, match=r"The loss is not a finite number\. Got: nan on store rows \[20, 21\]\. Remedy: "):
        list(steps)
    assert _changed(learner.network, before) == []


def test_a_broken_step_is_told_late_by_one_and_none_after_it_moves_a_weight() -> None:
    """The gradient of the second of five steps is infinite: told when the third was begun, with the weights of the first."""
    learner, passes, drawn = fresh(MODEL, CONFIG), [], []

    def broken(gradient: Tensor) -> Tensor:
        passes.append(gradient)
        return gradient * (float("inf") if len(passes) == 2 else 1.0)

    def batches() -> Iterator[Batch]:
        for seed in range(1, 6):
            drawn.append(seed)
            yield _batch(seed, [[0, 1], [1, 0]])

    learner.network.localization.saliency.weight.register_hook(broken)  # type: ignore[no-untyped-call,union-attr]
    steps = train_steps(learner, whole_steps(batches()), CONFIG)
    first, before = next(steps), _weights(learner.network)  # type: ignore[arg-type]
    second = next(steps)
    assert np.isfinite(first.loss) and drawn == [1, 2]
    with pytest.raises(TrainingError, match=r"The gradient is not a finite number.*store rows \[20, 21\]"):
        next(steps)
    assert drawn == [1, 2, 3] and _changed(learner.network, before) == []  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="gradient is not a finite number"):
        second.settled()


def test_an_infinite_gradient_of_a_finite_loss_stops_too() -> None:
    """Without this the last step of an epoch would write NaN weights into its checkpoint unseen."""
    learner = fresh(MODEL, CONFIG)
    learner.network.localization.saliency.weight.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    before = _weights(learner.network)
    with pytest.raises(TrainingError, match=r"The gradient is not a finite number.*store rows \[10, 11\]"):
        list(train_steps(learner, whole_steps([_batch(1, [[0, 1], [1, 0]])]), CONFIG))
    assert _changed(learner.network, before) == []


def test_pixels_that_are_not_finite_count_as_background() -> None:
    """The network reads them as 0, so one broken pixel does not stop a run of days; the step is the same as with zeros."""
    broken, zeroed = (_batch(1, [[0, 1], [1, 0]]) for _ in range(2))
    broken.image_N1HW[0, 0, 3, 3] = float("nan")
    broken.image_N1HW[1, 0, 4, 4] = float("inf")
    zeroed.image_N1HW[0, 0, 3, 3] = zeroed.image_N1HW[1, 0, 4, 4] = 0.0
    losses = []
    for batch in (broken, zeroed):
        learner = fresh(MODEL, CONFIG)
        losses += [step.loss for step in train_steps(learner, whole_steps([batch]), CONFIG)]
    assert losses[0] == losses[1]


# ------------------------------------------------------------------------------------------------------------ not known


def test_a_batch_of_which_nothing_is_known_changes_nothing() -> None:
    """All labels 255 and no regulariser: loss 0, not one weight moves, momentum included."""
    config = CONFIG.model_copy(update={"saliency_weight": 0.0})
    learner = fresh(MODEL, config)
    before = _weights(learner.network)
    (step,) = train_steps(learner, whole_steps([_batch(1, [[255, 255], [255, 255]])]), config)
    assert step.loss == 0.0
    assert _changed(learner.network, before) == []


def test_a_finding_that_is_not_known_gives_its_classifiers_no_gradient() -> None:
    """Malignant is 255 in every image: its rows of both heads keep their weights, those of benign move."""
    config = CONFIG.model_copy(update={"saliency_weight": 0.0})
    learner = fresh(MODEL, config)
    assert learner.network.mil is not None
    heads = (learner.network.localization.saliency.weight, learner.network.mil.classifier.weight)
    before = [head.detach().clone() for head in heads]
    list(train_steps(learner, whole_steps([_batch(1, [[1, 255], [0, 255]])]), config))
    for head, was in zip(heads, before, strict=True):
        assert torch.equal(head[1], was[1])
        assert not torch.equal(head[0], was[0])


def test_not_known_is_not_trained_as_absent() -> None:
    """With 255 in place of 0 the step is another one."""
    outcomes = []
    for label in (255, 0):
        learner = fresh(MODEL, CONFIG)
        list(train_steps(learner, whole_steps([_batch(1, [[1, label], [0, label]])]), CONFIG))
        outcomes.append(learner.network.localization.saliency.weight.detach().clone())
    assert not torch.equal(outcomes[0], outcomes[1])


# ------------------------------------------------------------------------------------------------- learner and prediction


def test_a_learner_follows_from_its_seed() -> None:
    """The same seed, the same weights; another seed, others; Adam with the configured rate."""
    first, second = new_learner(MODEL, CONFIG), new_learner(MODEL, CONFIG)
    assert isinstance(first, Learner)
    assert _changed(second.network, _weights(first.network)) == []
    assert _changed(new_learner(MODEL, CONFIG.model_copy(update={"seed": 1})).network, _weights(first.network))
    assert first.optimizer.param_groups[0]["lr"] == CONFIG.learning_rate


def test_the_random_state_can_be_put_back() -> None:
    """What was drawn after keeping it is drawn again."""
    kept = random_state(CPU)
    drawn = torch.rand(3)
    set_random_state(kept, CPU)
    assert torch.equal(torch.rand(3), drawn)


def test_prediction_is_the_networks_in_evaluation_mode() -> None:
    """Batches come back in order with their outputs; no gradient, no change of running statistics."""
    network = fresh(MODEL, CONFIG).network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    batches = [_batch(1, [[0, 1], [1, 0]]), _batch(2, [[0, 0]])]
    predicted = list(predict_batches(network, batches))
    assert [batch.row_N.tolist() for batch, _ in predicted] == [[10, 11], [20]]
    for batch, output in predicted:
        with torch.no_grad():
            expected = network(batch.image_N1HW)
        assert torch.equal(output.y_NC, expected.y_NC)
        assert torch.equal(output.saliency_NCIJ, expected.saliency_NCIJ)
        assert torch.equal(output.corner_NK2, expected.corner_NK2)
        assert not output.y_NC.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_fusion_branch_is_trained_and_predicted() -> None:
    """The released form's loss counts y_fusion: its classifier moves with loss_form unset, and stays with the paper's."""
    model = MODEL.model_copy(update={"fusion": True})
    for form, moves in ((None, True), (LossForm.PAPER, False)):
        config = CONFIG.model_copy(update={"loss_form": form})
        learner = fresh(model, config)
        assert learner.network.fusion is not None
        before = learner.network.fusion.classifier.weight.detach().clone()
        list(train_steps(learner, whole_steps([_batch(1, [[0, 1], [1, 0]])]), config))
        assert torch.equal(learner.network.fusion.classifier.weight, before) is not moves
    ((_, output),) = predict_batches(learner.network, [_batch(1, [[0, 1]])])
    assert output.y_fusion_NC is not None
    assert torch.equal(output.y_NC, output.y_fusion_NC)


# ---------------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True)
class RowViews:
    """A reader whose view of row r is noise seeded by r."""

    def __call__(self, row: int) -> PreparedView:
        """The row's view, one window large."""
        geometry = ViewGeometry(
            source_shape_px=(64, 48),
            crop_box_px=(0, 64, 0, 48),
            is_flipped=False,
            scale=1.0,
            best_center_px=(32, 24),
            window_px=(64, 48),
            view_position=ViewPosition.MLO,
        )
        pixels_HW = np.random.default_rng(row).integers(1, 99, (64, 48), dtype=np.uint16)
        return PreparedView(pixels_HW=pixels_HW, geometry=geometry, tissue_fraction=0.5)


def test_exam_batches_follow_the_sampler_exam_by_exam() -> None:
    """Five exams of two views, two exams a batch: 4, 4 and 2 images in the sampler's order."""
    exams = [
        ExamRecord(exam_id=f"E{i}", patient_id=f"P{i}", findings={Laterality.LEFT: frozenset({Finding.BENIGN})})
        for i in range(5)
    ]
    views = ExamViews(
        rows_of_exam=[(2 * i, 2 * i + 1) for i in range(5)], label_by_row=dict.fromkeys(range(10), (1, 0)), read_view=RowViews()
    )
    sampler = EpochSampler(exams, negatives_per_positive=0, seed=3)
    parts = list(step_parts(views, plan_steps(sampler.draw(0), batch_exams=2), TrainConfig(batch_exams=2), CPU))
    assert [len(part.batch.row_N) for part in parts] == [part.step_images for part in parts] == [4, 4, 2]
    assert torch.cat([part.batch.row_N for part in parts]).tolist() == [
        row for i in sampler.draw(0) for row in (2 * i, 2 * i + 1)
    ]


def test_breast_auroc_ranks_means_of_views() -> None:
    """Left breast of E1: mean of 0.9 and 0.1 is 0.5, below E2's 0.6 (negative) and above E3's 0.2: AUROC 1/2."""
    score_NC = np.array([[0.9, 0.5], [0.1, 0.5], [0.6, 0.5], [0.2, 0.5], [0.99, 0.5]])
    label_NC = np.array([[1, 0], [1, 0], [0, 0], [0, 0], [255, 0]])
    exam_id_N = np.array(["E1", "E1", "E2", "E3", "E4"])
    laterality_N = np.array(["L"] * 5)
    assert breast_auroc(score_NC, label_NC, exam_id_N, laterality_N) == [0.5, None]


# ------------------------------------------------------------------------------------------------------------ fit options


def _two_parts(batch: Batch) -> list[Part]:
    """A batch of four images as two parts of two."""
    halves = [Batch(*(values[part] for values in batch[:3])) for part in (slice(0, 2), slice(2, 4))]
    return [Part(half, 0.5, 4, index == 1) for index, half in enumerate(halves)]


def test_accumulated_parts_move_the_weights_as_the_whole_batch_does() -> None:
    """Batch statistics frozen (evaluation mode), two parts of two images give the step of four: gradients to 1e-6."""
    batch = _batch(1, [[0, 1], [0, 0], [0, 1], [1, 0]])
    outcomes = []
    for parts in (list(whole_steps([batch])), _two_parts(batch)):
        learner = fresh(MODEL, CONFIG)
        learner.network.train = lambda mode=True, network=learner.network: torch.nn.Module.train(network, False)  # type: ignore[method-assign,assignment,misc]
        learner.optimizer = torch.optim.SGD(learner.network.parameters(), lr=1.0, fused=True)
        (step,) = train_steps(learner, parts, CONFIG)
        outcomes.append((step, learner.network.localization.saliency.weight.detach().clone()))  # type: ignore[union-attr]
    assert outcomes[0][0].images == outcomes[1][0].images == 4
    assert outcomes[0][0].loss == pytest.approx(outcomes[1][0].loss, abs=1e-5)
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1], rtol=0, atol=1e-6)


def test_clipping_warm_up_and_running_mean_do_what_they_say() -> None:
    """A gradient of norm 0.01 (SGD moves by that at rate 1); rate 1/4 in the first of 4 steps; mean of 0.9 old, 0.1 new."""
    config = CONFIG.model_copy(update={"clip_gradient_norm": 0.01, "warmup_steps": 4, "ema_decay": 0.9, "learning_rate": 1.0})
    learner = fresh(MODEL, config)
    learner.optimizer = torch.optim.SGD(learner.network.parameters(), lr=1.0, fused=True)
    before = _weights(learner.network)  # type: ignore[arg-type]
    list(train_steps(learner, whole_steps([_batch(1, [[0, 1], [1, 0]])]), config))
    moved = {name: weight.detach() - before[name] for name, weight in learner.network.named_parameters()}
    assert float(torch.sqrt(sum(step.square().sum() for step in moved.values()))) == pytest.approx(0.01 / 4, rel=1e-3)  # type: ignore[arg-type]
    assert learner.averaged is not None and learner.steps_done == 1
    name = "localization.saliency.weight"
    torch.testing.assert_close(learner.averaged[name], before[name] + 0.1 * moved[name], rtol=0, atol=1e-7)
    with averaged_weights(learner):
        assert torch.equal(learner.network.state_dict()[name], learner.averaged[name])
    torch.testing.assert_close(learner.network.state_dict()[name], before[name] + moved[name])


def test_bf16_keeps_loss_and_saliency_in_fp32() -> None:
    """One step under bf16 autocast: a finite loss near the fp32 one, computed from fp32 probabilities."""
    seen: list[torch.dtype] = []
    losses = []
    for precision in ("fp32", "bf16"):
        learner = fresh(MODEL, CONFIG.model_copy(update={"precision": precision}))
        learner.network.register_forward_hook(lambda module, inputs, output: seen.append(output.saliency_NCIJ.dtype))
        config = CONFIG.model_copy(update={"precision": precision})
        losses += [step.loss for step in train_steps(learner, whole_steps([_batch(1, [[0, 1], [1, 0]])]), config)]
    assert seen == [torch.float32, torch.float32]
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], abs=0.05)


def test_fewer_cells_than_patches_are_refused() -> None:
    """64 x 48 pixels are one cell: K = 2 would show the same patch twice; the paper's form holds 87 windows."""
    require_trainable(GMICConfig())
    with pytest.raises(ConfigError, match=r"fewer patches than K.*at most 1: .*1 x 1 cells.*Got: 2"):
        require_trainable(MODEL)
