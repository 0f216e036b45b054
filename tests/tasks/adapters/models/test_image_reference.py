"""What weights say of their training images: counts, and nobody's name."""

from __future__ import annotations

import pytest

from mammo_tests.manifests import described_images
from schemas.errors import CheckpointError
from tasks.adapters.models.image_reference import image_reference, kept_reference
from tasks.adapters.models.model_files import IMAGE_REFERENCE


def test_the_summary_goes_through_the_sidecar_and_names_nobody() -> None:
    """As JSON and back it is the same; kinds of few images are counted together; a damaged one is refused with a sentence."""
    reference = image_reference(described_images(0))
    assert kept_reference({IMAGE_REFERENCE: reference.model_dump(mode="json")}) == reference and kept_reference({}) is None
    assert "Rare" not in reference.categories["model_name"] and reference.categories["model_name"]["others"] < 20
    assert sum(reference.numbers["pixel_mean"].counts) == reference.images == 1600 and reference.exams == 400
    assert "malignant" not in reference.categories and "E1" not in reference.model_dump_json()
    with pytest.raises(CheckpointError, match="cannot be read"):
        kept_reference({IMAGE_REFERENCE: {"images": "many"}})
