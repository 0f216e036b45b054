"""Images of a site against those of a training: alike, brighter, of other devices, too few."""

from __future__ import annotations

from mammo_tests.manifests import described_images
from tasks.adapters.lifecycle.accepting.image_shifts import image_shifts
from tasks.adapters.models.image_reference import image_reference


def test_a_shift_is_told_and_the_same_population_is_not() -> None:
    """Brighter images of another maker are told, by column; others of the same population are alike; few are not compared."""
    reference = image_reference(described_images(0))
    alike = {one.column: one for one in image_shifts(described_images(1), reference)}
    assert set(alike) == {
        "view_position", "manufacturer", "model_name", "pixel_mean", "tissue_fraction", "patient_age_years",
    }  # fmt: skip
    assert not any(one.is_shifted for one in alike.values()) and all(one.excess is not None for one in alike.values())
    other = {one.column: one for one in image_shifts(described_images(2, brighter=150, maker="Else"), reference)}
    assert {name for name, one in other.items() if one.is_shifted} == {"pixel_mean", "manufacturer"}
    assert other["manufacturer"].here.startswith("Else 97%") and other["manufacturer"].there.startswith("ACME 97%")
    assert other["pixel_mean"].here.startswith("median 1") and other["pixel_mean"].here != other["pixel_mean"].there
    assert all(one.excess is None for one in image_shifts(described_images(3, exams=20), reference))
