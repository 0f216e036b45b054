"""Each device with its software: what is recalled there, and which threshold would recall what is wanted."""

from __future__ import annotations

import numpy as np
import pytest

from mammo_tests.site_cohort import site_cohort, site_images
from schemas.config.evaluation import AcceptanceConfig
from tasks.adapters.lifecycle.accepting.device_recall import device_recalls
from tasks.adapters.models.image_reference import image_reference

CONFIG = AcceptanceConfig(recall_rate=0.1)


def test_each_software_has_a_threshold_of_its_own_and_a_small_device_is_told_what_is_missing() -> None:
    """New software raises scores: its recall is beyond what is wanted, and a higher threshold is proposed for it alone.

    50 exams of another device are too few, and it is said by how many.
    """
    rng = np.random.default_rng(0)
    software = np.array(["1"] * 600 + ["2"] * 600 + ["1"] * 50)
    images = site_images(1250, software_versions=software, device_id=np.array(["D1"] * 1200 + ["D2"] * 50))
    score_E = rng.random(1250) + np.where(software == "2", 0.2, 0.0)
    found = device_recalls(site_cohort(images, score_E, config=CONFIG), CONFIG)
    assert [(one.name, one.software, one.exams) for one in found] == [
        ("ACME One D1", "1", 600), ("ACME One D1", "2", 600), ("ACME One D2", "1", 50),
    ]  # fmt: skip
    old, new, few = found
    assert (old.is_within, new.is_within, few.is_within) == (True, False, None)
    assert old.proposed == pytest.approx(0.9, abs=0.03) and new.proposed == pytest.approx(1.1, abs=0.03)
    assert new.expected.low is not None and 0.07 <= new.expected.low <= 0.1 <= (new.expected.high or 0) <= 0.13
    assert few.proposed is None and few.needed_patients + 50 > 300 and old.needed_patients == 0
    for exams, is_proposed in ((few.needed_patients + 60, True), (few.needed_patients + 40, False)):
        (again,) = device_recalls(site_cohort(site_images(exams), rng.random(exams), config=CONFIG), CONFIG)
        assert (again.proposed is not None) is is_proposed


def test_without_a_target_or_a_threshold_nothing_is_proposed_or_recalled() -> None:
    """Nobody says how many should be recalled: rates and no proposal. No threshold is locked: a proposal and no rate."""
    images = site_images(500)
    score_E = np.linspace(0, 1, 500)
    untold = AcceptanceConfig()
    (alone,) = device_recalls(site_cohort(images, score_E, config=untold), untold)
    assert alone.recall_rate.value == pytest.approx(0.1) and alone.proposed is None and alone.needed_patients == 0
    (unlocked,) = device_recalls(site_cohort(images, score_E, threshold=None, config=CONFIG), CONFIG)
    assert unlocked.recall_rate.value is None and unlocked.is_within is None and unlocked.proposed is not None


def test_what_a_proposed_threshold_finds_and_whose_images_are_other_ones_is_said() -> None:
    """All exams have the finding, so a tenth of these is found; without labels nothing is said. One device is brighter."""
    rng = np.random.default_rng(1)
    images = site_images(1000, model_name=np.array(["One"] * 500 + ["Two"] * 500), pixel_mean=rng.normal(1000, 100, 1000))
    reference = image_reference(images)
    brighter = images.assign(pixel_mean=images["pixel_mean"] + np.where(images["model_name"] == "Two", 200, 0))
    cohort = site_cohort(brighter, rng.random(1000), label=1, config=CONFIG)
    found = {one.name: one for one in device_recalls(cohort, CONFIG, reference)}
    assert found["ACME One"].unlike == () and found["ACME Two"].unlike == ("pixel_mean",)
    assert found["ACME One"].found.value == pytest.approx(0.1, abs=0.01) and found["ACME One"].found.low is not None
    assert device_recalls(site_cohort(images, rng.random(1000), config=CONFIG), CONFIG)[0].found.value is None
