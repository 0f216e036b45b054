"""Which epoch is kept for what."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.exam import Finding
from schemas.reports.training import EpochRecord
from tasks.adapters.training.loop import EpochFacts
from tasks.adapters.training.process_main import epoch_record
from tasks.adapters.training.tuning import TuningResult, breast_loss


def _facts(epoch: int) -> EpochFacts:
    return EpochFacts(epoch=epoch, train_loss=1.0, images_per_s=1.0, memory_mib=1.0)


def _result(
    malignant_f1: float | None, mean_f1: float | None, malignant_auroc: float, loss: float | None = None
) -> TuningResult:
    return TuningResult(
        auroc={Finding.BENIGN: 0.5, Finding.MALIGNANT: malignant_auroc}, localization_f1=mean_f1, malignant_f1=malignant_f1,
        loss=loss, score_BC=np.zeros((0, 2)), label_BC=np.zeros((0, 2), np.int64), pictures=(),
    )  # fmt: skip


def test_the_weights_that_point_best_are_chosen_by_malignant_f1() -> None:
    """As in the paper (3.3): a better mean over findings, for the benign ones, does not choose; nor does a better AUROC."""
    first = epoch_record(_facts(0), _result(0.2, 0.2, 0.6), [])
    second = epoch_record(_facts(1), _result(0.1, 0.4, 0.9), [first])
    third = epoch_record(_facts(2), _result(0.3, 0.3, 0.7), [first, second])
    assert [one.is_best_localization for one in (first, second, third)] == [True, False, True]
    assert [one.is_best for one in (first, second, third)] == [True, True, False]
    without_masks = epoch_record(_facts(3), _result(None, 0.9, 0.5), [first, second, third])
    assert not without_masks.is_best_localization and without_masks.tuning_localization_f1 == 0.9


def test_with_few_positives_a_mean_of_epochs_chooses_the_best() -> None:
    """One lucky epoch does not win over several good ones; whole windows go before the shorter ones at the beginning."""
    seen = [0.9, 0.5, 0.7, 0.72, 0.74, 0.95, 0.4]
    for best_of_epochs, expected in ((1, [0, 5]), (3, [0, 2, 4, 5])):
        records: list[EpochRecord] = []
        for epoch, auroc in enumerate(seen):
            records.append(epoch_record(_facts(epoch), _result(None, None, auroc), records, best_of_epochs=best_of_epochs))
        assert [record.epoch for record in records if record.is_best] == expected


def test_the_lowest_loss_can_choose_the_best_instead() -> None:
    """The AUROC of a few positives jumps with one of them; by loss, epoch 2 is the best, whatever the order says."""
    seen = [(0.7, 0.9), (0.6, 0.5), (0.5, 0.6), (0.65, 0.4)]
    records: list[EpochRecord] = []
    for epoch, (loss, auroc) in enumerate(seen):
        records.append(epoch_record(_facts(epoch), _result(None, None, auroc, loss), records, best_by="loss"))
    assert [record.epoch for record in records if record.is_best] == [0, 1, 2]
    assert [record.tuning_loss for record in records] == [loss for loss, _ in seen]


def test_the_loss_counts_both_classes_of_both_findings_alike() -> None:
    """1 of 4 malignant, scored 0.5, others 0.1: (ln 2 - ln 0.9) / 2; benign known of two breasts of one class: nothing."""
    score_BC = np.array([[0.2, 0.5], [0.2, 0.1], [0.2, 0.1], [0.2, 0.1]])
    label_BC = np.array([[0, 1], [0, 0], [255, 0], [255, 0]])
    assert breast_loss(score_BC, label_BC) == pytest.approx((np.log(2.0) - np.log(0.9)) / 2.0)
    label_BC[1, 0] = 1
    benign = (-np.log(0.2) - np.log(0.8)) / 2.0
    assert breast_loss(score_BC, label_BC) == pytest.approx((benign + (np.log(2.0) - np.log(0.9)) / 2.0) / 2.0)
    assert breast_loss(score_BC[:1], label_BC[:1]) is None
