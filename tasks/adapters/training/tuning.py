"""How good a network is on the tuning split, after each epoch; the processes of a training share the views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.devices import Device
from gmic_model.learning.exam_loader import Batch, ExamViews, batches_of, loaded
from gmic_model.learning.learner import Learner, averaged_weights, predict_batches
from gmic_model.learning.pretraining import predict_groups, predict_hidden
from gmic_model.learning.processes import Processes
from gmic_model.metrics.lesions.localization import continuous_f1
from gmic_model.metrics.ranking import auroc, breast_scores
from gmic_model.model import GMICOutput
from gmic_model.networks.birads_classifier import CATEGORIES, Categories
from schemas.config.training import FitConfig, PretrainConfig
from schemas.exam import FINDINGS, Finding
from tasks.adapters.store.views import StoredViews

_LEAST_PROBABILITY: Final = 1e-7
"""A score of 0 or 1 that is wrong would make every other breast's loss nothing beside its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPicture:
    """A tuning view for people: the network's window and its malignant saliency, in [0, 1]."""

    image_HW: NDArray[np.float32]
    saliency_IJ: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """What the tuning split says of a network; None = not defined on this split.

    Attributes:
        auroc: Breast-level, by finding.
        localization_f1: Mean over findings of the continuous F1 over the views that have a mask of it.
        loss: Cross-entropy of the breasts, mean of the findings; breasts with and without one count half each.
        malignant_f1: Of the views with a mask of a malignant finding alone: the weights that point best are chosen by it.
        score_BC, label_BC: Breasts, for a precision-recall curve; 255 = not known.
        pictures: The first few views, those with a malignant finding before the others.
    """

    auroc: dict[Finding, float | None]
    localization_f1: float | None
    malignant_f1: float | None
    loss: float | None
    score_BC: NDArray[np.float64]
    label_BC: NDArray[np.int64]
    pictures: tuple[ViewPicture, ...]


def measure_findings(
    learner: Learner,
    lines: pd.DataFrame,
    views: StoredViews,
    *,
    config: FitConfig,
    processes: Processes,
    batch_images: int,
) -> TuningResult:
    """Scores every tuning view and measures. All processes of a training call it; the result is whole in each of them."""
    is_malignant = lines[Finding.MALIGNANT.value] == 1
    lines = pd.concat([lines[is_malignant], lines[~is_malignant]]).reset_index(drop=True)  # pictures show the first ones
    masked = {int(row) for row in lines["row"]} & (views.masked_rows | set(views.beyond))
    seen: list[_SeenView] = []
    processes.share_statistics(learner.network, learner.averaged)
    with averaged_weights(learner):
        batches = _batches(lines.iloc[processes.rank :: processes.size], views, batch_images, config, learner.device)
        for batch, output in predict_batches(learner.network, batches, precision=config.tuning_precision):
            for index, row in enumerate(batch.row_N.tolist()):
                place = processes.rank + len(seen) * processes.size
                seen.append(
                    _SeenView(
                        place,
                        output.y_NC[index].double().tolist(),
                        _localization(output, index, row, views) if row in masked else [],
                        _picture(batch, output, index) if place < config.tracking.pictures else None,
                    )
                )
    whole = sorted((view for views_of_one in processes.gathered(seen) for view in views_of_one), key=lambda view: view.place)
    return _result(lines, whole)


def can_choose(lines: pd.DataFrame, best_by: Literal["auroc", "loss"]) -> bool:
    """True if tuning tells epochs apart: some breasts are known to have a finding, and some to lack it.

    Args:
        lines: Of the tuning split.
        best_by: By AUROC malignant findings choose, by loss either.
    """
    asked = FINDINGS if best_by == "loss" else (Finding.MALIGNANT,)
    return any({0, 1} <= set(lines[finding.value].tolist()) for finding in asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingResult:
    """What the tuning split says of a network of pre-training, and of who has learnt nothing; None = not defined on it.

    Attributes:
        loss: Mean cross-entropy of the views; of hidden tissue the mean squared error.
        accuracy: Share of views whose category is named.
        auroc: Each category against the others, mean of those that some views have and some lack.
        baseline_loss: The loss of the categories' shares; of hidden tissue, of the mean of what is seen.
        baseline_accuracy: Of who always names the commonest category.
    """

    loss: float | None = None
    accuracy: float | None = None
    auroc: float | None = None
    baseline_loss: float | None = None
    baseline_accuracy: float | None = None


def measure_pretraining(
    learner: Learner,
    lines: pd.DataFrame,
    views: StoredViews,
    *,
    config: PretrainConfig,
    processes: Processes,
    batch_images: int,
) -> PretrainingResult:
    """Reads every tuning view and measures. All processes of a training call it; the result is whole in each of them."""
    own, found = lines.iloc[processes.rank :: processes.size], list[tuple[int, list[float]]]()
    categories = CATEGORIES.get(config.target)
    processes.share_statistics(learner.network, learner.averaged)
    with averaged_weights(learner):
        batches = _batches(own, views, batch_images, config, learner.device)
        network, precision = learner.network, config.tuning_precision
        told = (
            predict_hidden(network, batches, seed=config.seed, precision=precision)
            if categories is None
            else predict_groups(network, batches, precision=precision)
        )
        for batch, values_NV in told:
            found += zip(batch.row_N.tolist(), values_NV.tolist(), strict=True)
    by_row = dict(item for items in processes.gathered(found) for item in items)
    if not by_row:
        return PretrainingResult()
    values_NV = np.array([by_row[int(row)] for row in lines["row"]], np.float64)
    if categories is not None:
        return _of_categories(values_NV, categories, lines[categories.column].tolist())
    values_NV = values_NV[~np.isnan(values_NV[:, 0])]
    if not len(values_NV):
        return PretrainingResult()
    error, of_mean = values_NV.mean(axis=0)
    return PretrainingResult(loss=float(error), baseline_loss=float(of_mean))


# ---------------------------------------------------------------------------------------------------------------------


def _of_categories(probability_NG: NDArray[np.float64], categories: Categories, values: list[Any]) -> PretrainingResult:
    group_N = np.array([categories.group(value) for value in values], np.int64)
    share_G = np.bincount(group_N, minlength=categories.groups) / len(group_N)
    own_N = probability_NG[np.arange(len(group_N)), group_N]
    areas = [auroc(probability_NG[:, group], (group_N == group).astype(np.int64)) for group in range(categories.groups)]
    known = [area for area in areas if area is not None]
    return PretrainingResult(
        loss=float(-np.log(own_N.clip(1e-12)).mean()),
        accuracy=float((probability_NG.argmax(axis=1) == group_N).mean()),
        auroc=float(np.mean(known)) if known else None,
        baseline_loss=float((share_G * -np.log(share_G.clip(1e-12))).sum()),
        baseline_accuracy=float(share_G.max()),
    )


class _SeenView(NamedTuple):
    """What one view adds; ``place`` is its line."""

    place: int
    score_C: list[float]
    f1_by_finding: list[tuple[int, float]]
    picture: ViewPicture | None


def _result(lines: pd.DataFrame, seen: list[_SeenView]) -> TuningResult:
    score_NC = np.array([view.score_C for view in seen], np.float64).reshape(len(lines), len(FINDINGS))
    label_NC = lines[[finding.value for finding in FINDINGS]].to_numpy(np.int64)
    exam_id_N, laterality_N = lines["exam_id"].to_numpy(str), lines["laterality"].to_numpy(str)
    breasts = breast_scores(score_NC, exam_id_N, laterality_N)
    f1_C = [[f1 for view in seen for finding, f1 in view.f1_by_finding if finding == index] for index in range(len(FINDINGS))]
    means = {finding: float(np.mean(values)) for finding, values in zip(FINDINGS, f1_C, strict=True) if values}
    return TuningResult(
        auroc=dict(zip(FINDINGS, breast_auroc(score_NC, label_NC, exam_id_N, laterality_N), strict=True)),
        localization_f1=float(np.mean(list(means.values()))) if means else None,
        malignant_f1=means.get(Finding.MALIGNANT),
        loss=breast_loss(breasts.score_BC, label_NC[breasts.first_image_B]),
        score_BC=breasts.score_BC,
        label_BC=label_NC[breasts.first_image_B],
        pictures=tuple(view.picture for view in seen if view.picture is not None),
    )


def _localization(output: GMICOutput, index: int, row: int, views: StoredViews) -> list[tuple[int, float]]:
    if not output.saliency_NCIJ.numel():  # a network without a map
        return []
    found = []
    for name, lesions in views.lesions(row).items():
        saliency_IJ = output.saliency_NCIJ[index, FINDINGS.index(name)].numpy()
        f1 = continuous_f1(saliency_IJ, lesions.mask_HW, lesion_px=int(lesions.size_P.sum())).f1
        found.append((FINDINGS.index(name), f1))
    return found


def _picture(batch: Batch, output: GMICOutput, index: int) -> ViewPicture | None:
    if not output.saliency_NCIJ.numel():
        return None
    image_HW = batch.image_N1HW[index, 0].cpu().numpy()
    low, high = float(image_HW.min()), float(np.percentile(image_HW, 99.5))
    malignant = FINDINGS.index(Finding.MALIGNANT)
    return ViewPicture(
        image_HW=((image_HW - low) / max(high - low, 1e-6)).clip(0.0, 1.0).astype(np.float32),
        saliency_IJ=output.saliency_NCIJ[index, malignant].numpy(),
    )


def _batches(lines: pd.DataFrame, views: StoredViews, batch_images: int, config: FitConfig, device: Device) -> Iterator[Batch]:
    rows = [int(row) for row in lines["row"]]
    items = ExamViews(
        rows_of_exam=[(row,) for row in rows], label_by_row=dict.fromkeys(rows, (0,) * len(FINDINGS)), read_view=views
    )
    return loaded(
        items,
        batches_of(len(rows), batch_images),
        device,
        threads=config.loader_workers,
        ahead=config.prefetch_batches,
    )


def breast_auroc(
    score_NC: NDArray[np.float64], label_NC: NDArray[np.int64], exam_id_N: NDArray[np.str_], laterality_N: NDArray[np.str_]
) -> list[float | None]:
    """Breast-level AUROC per finding: breast score = mean of its views (paper section 3.1); None = one class only."""
    breasts = breast_scores(score_NC, exam_id_N, laterality_N)
    label_BC = label_NC[breasts.first_image_B]  # views of a breast share its label
    return [auroc(breasts.score_BC[:, finding], label_BC[:, finding]) for finding in range(score_NC.shape[1])]


def breast_loss(score_BC: NDArray[np.float64], label_BC: NDArray[np.int64]) -> float | None:
    """Mean over the findings of the cross-entropy, breasts with and without the finding counting half each; None = one class.

    A training shows as many exams with as without a finding: by their shares in the tuning split, the few with one would
    hardly count, and a network that is right about the balance of its training would seem wrong.
    """
    score_BC = score_BC.clip(_LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY)
    losses = []
    for score_B, label_B in zip(score_BC.T, label_BC.T, strict=True):
        classes = -np.log(score_B[label_B == 1]), -np.log1p(-score_B[label_B == 0])
        if all(loss_B.size for loss_B in classes):
            losses.append(np.mean([loss_B.mean() for loss_B in classes]))
    return float(np.mean(losses)) if losses else None
