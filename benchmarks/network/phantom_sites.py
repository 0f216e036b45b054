"""The phantom world of `two_sites`: site A with many patients, site B with few and with a machine of its own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

import cv2
import numpy as np

from benchmarks.ingest.serial_ingest import ingest_serially
from gmic_model.phantom.drawing import PIXEL_SPACING_MM, DrawnView, draw_view
from schemas.config.run import RunConfig
from schemas.reports.data import SplitReport
from tasks.adapters.datasets import phantom_cohort
from tasks.split import split_patients

SPACING_MM_OF_B: Final = 0.06
MACHINE_OF_B: Final = (0.7, 60.0)
"""What is different at site B unless asked otherwise: its tone curve's exponent, the spread of its noise in stored values."""


Site = tuple[RunConfig, SplitReport]


def phantom_site(asked: argparse.Namespace, name: str) -> Site:
    """A site's store and splits, drawn and brought in if they are not there."""
    patients, test_fraction = asked.patients[name == "b"], 0.2 if name == "a" else 0.4
    tuning_fraction, coarser = 0.2 if name == "a" else 0.25, asked.coarser
    if name == "b" and asked.judges is not None:
        everybody = patients + asked.judges
        tuning_fraction, test_fraction, patients = 0.3 * patients / everybody, asked.judges / everybody, everybody
    folder = asked.out / f"site-{name}"
    cohort = folder / "cohort"
    config = RunConfig.model_validate(
        {
            "name": f"site-{name}",
            "workspace_dir": folder,
            "phantom": {
                "output_dir": cohort, "patients": patients, "exams_per_patient": [1, 1],
                "image_size_px": [384, 288], "malignant_fraction": 0.4, "benign_fraction": 0.4,
                "difficulty": asked.difficulty, "seed": int(name == "b"),
            },
            "ingest": {
                "source_dir": cohort / "dicom", "labels_csv": cohort / "labels.csv", "masks_dir": cohort / "masks",
                "profile": "phantom", "settle_s": 0,
            },
            "preprocess": {
                "window_px": [384 // coarser, 256 // coarser], "erosion_iterations": 10 // coarser,
                "crop_buffer_px": 10 // coarser, "jitter_shift_px": 16 // coarser, "jitter_size_px": 0,
                "pixel_spacing_mm": coarser * PIXEL_SPACING_MM,
            },
            "model": {"patch_size": [96, 96] if coarser == 1 else [64, 64], "K": 3 if coarser == 1 else 2, "top_t": 0.05},
            "split": {"tuning_fraction": tuning_fraction, "test_fraction": test_fraction},
            "evaluate": {"batch_images": 8},
        }
    )  # fmt: skip
    kept = folder / "splits.json"
    if kept.exists():
        return config, SplitReport.model_validate_json(kept.read_bytes())
    assert config.phantom is not None
    with _other_machine(*asked.machine) if name == "b" else patch.object(phantom_cohort, "draw_view", draw_view):
        phantom_cohort.write_cohort(config.phantom)
    splits: SplitReport = split_patients.body(config, ingest_serially(config)[0])
    kept.write_text(splits.model_dump_json())
    return config, splits


@contextmanager
def _other_machine(gamma: float, noise: float) -> Iterator[None]:
    """Inside, phantoms are drawn as site B's machine takes them."""
    factor = PIXEL_SPACING_MM / SPACING_MM_OF_B

    def taken(*what: Any) -> DrawnView:
        drawn = draw_view(*what)
        rows, columns = drawn.pixels_HW.shape
        size = (round(columns * factor), round(rows * factor))
        value_HW = np.asarray(cv2.resize(drawn.pixels_HW.astype(np.float32), size, interpolation=cv2.INTER_LINEAR))
        top = float(value_HW.max())
        rng = np.random.default_rng(int(drawn.pixels_HW.sum(dtype=np.int64)))
        noisy_HW = top * (value_HW / top) ** gamma + noise * rng.standard_normal(value_HW.shape)
        mask_HW = np.asarray(cv2.resize(drawn.lesion_mask_HW, size, interpolation=cv2.INTER_NEAREST))
        return replace(
            drawn,
            pixels_HW=np.where(value_HW > 0, noisy_HW.clip(1, 4095), 0).astype(np.uint16),
            lesion_mask_HW=mask_HW.astype(np.uint8),
        )

    with (
        patch.object(phantom_cohort, "draw_view", taken),
        patch.object(phantom_cohort, "PIXEL_SPACING_MM", SPACING_MM_OF_B),
    ):
        yield
