"""What a page says of the epoch that was kept."""

from __future__ import annotations

import math

from schemas.config.recipe import RecipeConfig
from schemas.reports.training import EpochRecord
from tasks.adapters.pages.charts.training_curves import choice_note, kept_for


def _epochs(*aurocs: float | None) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=epoch, train_loss=1.0, tuning_malignant_auroc=auroc, tuning_benign_auroc=None, images_per_s=1.0, is_best=True
        )
        for epoch, auroc in enumerate(aurocs)
    ]


def test_epochs_within_a_standard_error_of_the_kept_one_are_counted() -> None:
    """0.8 over 5 malignant breasts and 95 others, 0.75 with a sixth that scores as any other: two epochs lie within."""
    said = choice_note(_epochs(0.6, 0.7, 0.8), 2, malignant=5, others=95)
    assert (
        "0.800 over 5 malignant breasts" in said
        and "2 of 3 epochs lie within it: which of them was kept is partly luck" in said
    )
    q1, q2 = 0.75 / 1.25, 2 * 0.75**2 / 1.75
    by_hand = math.sqrt((0.75 * 0.25 + 4 * (q1 - 0.75**2) + 94 * (q2 - 0.75**2)) / (5 * 95))
    assert float(said.split("about ")[1].split(";")[0]) == round(by_hand, 3)
    assert "no other epoch comes near" in choice_note(_epochs(0.6, 0.7, 0.8), 2, malignant=500, others=9500)


def test_a_perfect_auroc_over_few_is_no_sure_choice() -> None:
    """Two malignant breasts above all others prove little: an epoch that had one of them a few places lower is as good."""
    said = choice_note(_epochs(0.9, 1.0), 1, malignant=2, others=13)
    assert "2 of 2 epochs lie within it" in said and "partly luck" in said
    assert "there was no other epoch" in choice_note(_epochs(1.0), 0, malignant=2, others=13)


def test_without_tuning_positives_nothing_is_claimed() -> None:
    """The last epoch is kept, and the page says what that is worth."""
    assert "nothing says" in choice_note(_epochs(None, None), 1, malignant=0, others=40)


def test_the_page_names_what_chose() -> None:
    """The paper's way, and the others."""
    assert kept_for(RecipeConfig()) == "best malignant AUROC on the tuning split"
    assert kept_for(RecipeConfig(best_by="loss", best_of_epochs=3)).startswith(
        "the lowest cross-entropy on the tuning split, as"
    )
