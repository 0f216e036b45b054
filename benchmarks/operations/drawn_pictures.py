"""Image statistics of phantoms before and after a change of a device's software that is really drawn. Not a benchmark itself.

Each exam is drawn once. Its four images are written as DICOM files as they are, and again with a gamma on their values and
noise added; both go through the gate's child and the crop, and the table holds what an ingest writes into the manifest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.phantom.drawing import draw_exam, plan_exam
from schemas.config.run import RunConfig
from schemas.exam import Finding, Laterality
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram
from tasks.adapters.gate.child import child_of_this_thread
from tasks.adapters.gate.gate_settings import gate_settings
from tasks.adapters.gate.messages import PrepareImage
from tasks.adapters.gate.source_file import file_fingerprint
from tasks.adapters.inbox.shard_writer import stored_line
from tasks.adapters.lifecycle.watching.device_streams import IMAGE_MEASURES
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.workspace import Workspace

SHAPE_PX = (384, 288)
WHITE = 4095.0
_SMALL = {"window_px": (384, 256), "erosion_iterations": 10, "crop_buffer_px": 10, "jitter_shift_px": 8, "jitter_size_px": 0}


def drawn_before_and_after(exams: int, *, gamma: float, noise: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The image measures of as many exams, a line each, in the same order: with the former software and with the new one."""
    rows: dict[str, list[dict[str, float]]] = {"before": [], "after": []}
    with tempfile.TemporaryDirectory() as name:
        config = RunConfig.model_validate(
            {
                "name": "drawn",
                "workspace_dir": Path(name) / "w",
                "ingest": {"source_dir": Path(name), "profile": "phantom"},
                "preprocess": _SMALL,
            }
        )
        open_key(Workspace(config.workspace_dir).key_path, creates=True)
        for number in range(exams):
            rng = np.random.default_rng((number, 2))
            positive = rng.random() < 0.2
            plan = plan_exam(
                image_size_px=SHAPE_PX,
                findings={Laterality.LEFT: frozenset({Finding.MALIGNANT})} if positive else {},
                difficulty=0.5,
                patient_rng=np.random.default_rng((number, 0)),
                exam_rng=np.random.default_rng((number, 1)),
            )
            images = {place: drawn.pixels_HW for place, drawn in draw_exam(plan).items()}
            rows["before"].append(_measured(config, images, number))
            changed = {place: changed_pixels(pixels_HW, gamma, noise, rng) for place, pixels_HW in images.items()}
            rows["after"].append(_measured(config, changed, number))
    return pd.DataFrame(rows["before"]), pd.DataFrame(rows["after"])


def changed_pixels(pixels_HW: NDArray[np.uint16], gamma: float, noise: float, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Values of 12 bits as shares of white to the power of gamma, with normal noise of that many values added."""
    steeper_HW = WHITE * (pixels_HW / WHITE) ** gamma + rng.normal(0.0, noise, pixels_HW.shape)
    return np.clip(np.rint(steeper_HW), 0.0, WHITE).astype(np.uint16)


def _measured(config: RunConfig, images: Mapping[tuple[Laterality, object], NDArray[np.uint16]], exam: int) -> dict[str, float]:
    """Means over the images of an exam, as the watching has them of a manifest."""
    gate, found = gate_settings(config), list[dict[str, object]]()
    for number, ((side, view), pixels_HW) in enumerate(images.items()):
        path = config.ingest.source_dir / f"{number}.dcm"
        header = MammogramHeader(
            patient_id=f"DRAWN{exam}", patient_name="DRAWN", patient_age_years=55, study_instance_uid=f"2.25.1{exam}",
            series_instance_uid=f"2.25.2{exam}", sop_instance_uid=f"2.25.3{exam}{number}", accession_number="",
            study_date=date(2021, 5, 4), laterality=side, view_position=view, pixel_spacing_mm=0.07,
        )  # fmt: skip
        write_mammogram(path, pixels_HW, header)
        request = PrepareImage(
            path=path, gate=gate, fingerprint=file_fingerprint(path.lstat()), preprocess=config.preprocess,
            canvas_px=config.preprocess.canvas_px, mask_path=None, named=None,
        )  # fmt: skip
        found.append(stored_line(number, child_of_this_thread(gate.limits).prepare(request)))
    return {str(name): float(mean) for name, mean in pd.DataFrame(found)[list(IMAGE_MEASURES)].astype(float).mean().items()}
