"""Which epoch is kept for what."""

from __future__ import annotations

import numpy as np

from schemas.exam import Finding
from schemas.reports.training import EpochRecord
from tasks.adapters.training.loop import EpochFacts
from tasks.adapters.training.process_main import epoch_record
from tasks.adapters.training.tuning import TuningResult


def _facts(epoch: int) -> EpochFacts:
    return EpochFacts(epoch=epoch, train_loss=1.0, images_per_s=1.0, memory_mib=1.0)


def _result(malignant_f1: float | None, mean_f1: float | None, malignant_auroc: float) -> TuningResult:
    return TuningResult(
        auroc={Finding.BENIGN: 0.5, Finding.MALIGNANT: malignant_auroc}, localization_f1=mean_f1, malignant_f1=malignant_f1,
        score_BC=np.zeros((0, 2)), label_BC=np.zeros((0, 2), np.int64), pictures=(),
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
