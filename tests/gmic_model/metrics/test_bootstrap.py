"""Draws of patients: whole, of a seed, and the same whatever the chunks."""

from __future__ import annotations

import numpy as np
import pytest

from gmic_model.metrics import bootstrap
from gmic_model.metrics.bootstrap import patient_weights, percentile_ends


def test_a_patients_images_are_drawn_together_and_every_draw_is_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of a patient have one weight; a draw holds as many patients as there are; chunks change nothing."""
    patient_N = np.array([7, 7, 3, 5, 5])
    whole_RN = np.concatenate(list(patient_weights(patient_N, resamples=9, seed=5)))
    assert (whole_RN[:, 0] == whole_RN[:, 1]).all() and (whole_RN[:, 3] == whole_RN[:, 4]).all()
    assert (whole_RN[:, [0, 2, 3]].sum(axis=1) == 3).all()
    monkeypatch.setattr(bootstrap, "COUNTS_PER_CHUNK", 6)
    assert np.array_equal(np.concatenate(list(patient_weights(patient_N, resamples=9, seed=5))), whole_RN)


def test_resamples_that_define_nothing_are_left_out() -> None:
    """The ends are those of the finite values; without any there are none."""
    assert percentile_ends(np.array([np.nan, 0.0, 1.0]), confidence=0.5) == (0.25, 0.75)
    assert percentile_ends(np.array([np.nan]), confidence=0.5) == (None, None)
