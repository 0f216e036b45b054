"""Lesion masks: each that will not be used is told before an image is decoded, by what is wrong with it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from prefect import Task

from flows.ingest import ingest_steps
from mammo_tests.plain_tasks import PlainSubmit
from schemas.config.ingest import ExistingDask
from schemas.config.run import RunConfig
from schemas.reports.data import IngestReport
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.workspace import Workspace
from tasks.ingest import ingest_batch

IngestHere = Callable[[RunConfig], IngestReport]
SHAPE_PX = (384, 288)


class _BeforeDecoding(Exception):
    """Here an image would be decoded."""


class _StopsBeforeDecoding(PlainSubmit):
    """The steps of ingest up to the first that decodes."""

    def each(self, step: Task[..., int], config: RunConfig, scheduler: str, batches: Iterable[Any]) -> None:
        """Raises instead of decoding."""
        if step is ingest_batch:
            raise _BeforeDecoding
        super().each(step, config, scheduler, batches)


def png(value: int, shape_px: tuple[int, ...] = SHAPE_PX, *parameters: int) -> bytes:
    """A mask with a square of one value."""
    mask_HW = np.zeros(shape_px, np.uint8)
    mask_HW[50:90, 20:200] = value
    return bytes(cv2.imencode(".png", mask_HW, parameters)[1])


def test_every_mask_that_will_not_be_used_is_told_before_an_image_is_decoded(
    tmp_path: Path,
    two_exams: Path,
    make_config: Callable[..., RunConfig],
    ingest_here: IngestHere,
    scheduler: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Values, size and kind by the headers' Rows and Columns, and masks of no image; the report counts the same ones later.

    Names of files may spell names and are not told.
    """
    config = make_config(tmp_path / "workspace", two_exams)
    masks_dir = two_exams / "masks"
    shutil.rmtree(masks_dir)
    masks_dir.mkdir()
    paths = sorted((two_exams / "dicom").rglob("*.dcm"))
    first, *uids = [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]
    faulty = [
        png(255), png(3, (SHAPE_PX[1], SHAPE_PX[0])), b"no picture", png(2)[:-40], png(1, (*SHAPE_PX, 3)),
        png(255, SHAPE_PX, cv2.IMWRITE_PNG_BILEVEL, 1),
    ]  # fmt: skip
    for uid, content in zip(uids, faulty, strict=False):
        (masks_dir / f"{uid}.png").write_bytes(content)
    (masks_dir / f"{uids[-1]}.png").symlink_to("nowhere")
    (masks_dir / f"{first}.png").write_bytes(png(3))
    (masks_dir / "JANE.png").write_bytes(png(2))
    (masks_dir / "JANE.tiff").write_bytes(png(2))
    dask = ExistingDask(kind="address", address=scheduler)
    here = config.model_copy(update={"ingest": config.ingest.model_copy(update={"dask": dask})})
    with caplog.at_level(logging.WARNING), pytest.raises(_BeforeDecoding):
        ingest_steps(here, submit=_StopsBeforeDecoding())
    (said,) = [record.getMessage() for record in caplog.records if "masks" in record.getMessage()]
    assert said.startswith("9 of 10 masks cannot be used: ") and "JANE" not in said
    wrong = (
        "values above 3: 2", "another size than the image: 1", "no PNG: 1", "damaged: 1", "not grey: 1", "link to nowhere: 1",
        "misnamed: 1", "of no image: 1",
    )  # fmt: skip
    assert all(fault in said for fault in wrong)
    with Ledger(Workspace(config.workspace_dir).store_dir / "ledger.sqlite") as ledger:
        assert len(ledger.unwritten_rows()) == 8
    report = ingest_here(config)
    assert (report.images_published, report.masks_found, report.masks_unusable, report.masks_unmatched) == (8, 10, 8, 1)
