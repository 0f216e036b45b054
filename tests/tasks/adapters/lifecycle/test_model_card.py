"""The card of a pack."""

from __future__ import annotations

from schemas.reports.life.packs import CheckScores, PackedWeights, PackManifest
from tasks.adapters.lifecycle.model_card import model_card


def test_the_card_says_what_is_not_known() -> None:
    """What the model's files hold is on it, and what they do not say is said to be missing."""
    packed = PackedWeights(
        sha256="a" * 64,
        title="gmic",
        network={"image_size": [2944, 1920]},
        preprocess={"pixel_spacing_mm": 0.1},
        provenance={"data_version": "d" * 64},
        tuning_malignant_auroc=0.9,
        check=CheckScores(scores=((0.25).hex(),), machine="a processor"),
    )
    manifest = PackManifest(
        code_version="1", sha256="a" * 64, models=(packed,), kept=("locked thresholds",), terms=("Not on.",), members={}
    )
    card = model_card(manifest)
    assert "Research use only" in card and "locked thresholds" in card and "0.1 mm, resampled" in card and "Not on." in card
    assert "2944 x 1920 pixels" in card and f"Training data (digest): {'d' * 64}" in card and "0.250000, by a processor" in card
    assert "Division of patients (digest): not said" in card
