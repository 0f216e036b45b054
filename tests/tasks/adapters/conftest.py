"""Fixtures of the adapters' tests: a sound file for the hostile set, and one thread for all their ingests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mammo_tests import hostile
from schemas.config.ingest import LocalDask
from schemas.config.run import RunConfig
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.cluster import open_cluster
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram

SHAPE_PX = (320, 288)


@pytest.fixture(scope="session")
def write_sound() -> Callable[..., Path]:
    """``write_sound(path, number=1)``: a small left CC view that every rule of the profile ``phantom`` accepts.

    Each number is another patient, exam, image and other pixels; the header is longer than the smallest file may be.
    """

    def write(path: Path, number: int = 1) -> Path:
        header = MammogramHeader(
            patient_id=f"CANARYID{number}", patient_name="CANARYNAME", patient_age_years=55,
            study_instance_uid=f"2.25.8100{number}", series_instance_uid=f"2.25.8200{number}",
            sop_instance_uid=f"2.25.8300{number}", accession_number="CANARYACC", study_date=date(2021, 5, 4),
            laterality=Laterality.LEFT, view_position=ViewPosition.CC, pixel_spacing_mm=0.07,
        )  # fmt: skip
        pixels_HW = hostile.sound_pixels(SHAPE_PX)
        pixels_HW[pixels_HW > 0] -= number
        write_mammogram(path, pixels_HW, header)
        path.write_bytes(hostile.edited(path.read_bytes(), {"ImageComments": "x" * 3000}))
        return path

    return write


@pytest.fixture(scope="session")
def this_process() -> Iterator[str]:
    """A scheduler's address that stands for one thread of this process: its gate's child is started once for all ingests."""
    with open_cluster(LocalDask(), files=0) as address:
        yield address


@pytest.fixture(scope="session")
def make_config(make_config: Callable[..., RunConfig], this_process: str) -> Callable[..., RunConfig]:
    """The same configs, whose ingests share that thread."""

    def make(workspace: Path, cohort: Path, **changes: Any) -> RunConfig:
        return make_config(workspace, cohort, **{"ingest.dask": {"kind": "address", "address": this_process}, **changes})

    return make
