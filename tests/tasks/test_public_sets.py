"""A public set's excerpt, from the download to a published store, with the config that `mammo dataset` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pandas as pd
import pytest
import yaml

from deployments.configuration import load_config
from mammo_tests.converted import converted, rows_of
from mammo_tests.excerpt_images import VIEWS, breast
from mammo_tests.excerpts import MAKERS, make
from mammo_tests.small_films import mias_part
from schemas.config.run import RunConfig
from schemas.layout import UNKNOWN
from schemas.reports.data import IngestReport
from tasks.split import split_patients
from tasks.validate import check_manifest

IngestHere = Callable[[RunConfig], IngestReport]

SMALL = {
    "preprocess": {
        "window_px": [384, 256], "erosion_iterations": 10, "crop_buffer_px": 10, "jitter_shift_px": 8, "jitter_size_px": 0,
    },
    "model": {"image_size": [384, 256], "patch_size": [48, 48], "K": 2, "top_t": 0.1, "local_dim": 16},
}  # fmt: skip
ALWAYS = (
    "cbis-ddsm",
    "rsna-2022",
    "cdd-cesm",
)  # masks beside images; headers that name nothing; no DICOM. The others take long.
SETS = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in sorted(MAKERS)]
SHAPE_PX = (1000, 820)


def make_large(name: str, root: Path) -> None:
    """The set's excerpt with images that pass the gate's rule on sizes; DDSM's as they are once they are decoded."""
    if name == "mini-mias":  # its films are square
        mias_part(root, pairs=3)
        return
    make(name, root, SHAPE_PX)
    if name == "ddsm":
        for path in root.rglob("*.ics"):
            path.write_text(path.read_text().replace("LINES 96 PIXELS_PER_LINE 80", "LINES 1000 PIXELS_PER_LINE 820"))
            for side, view in VIEWS:
                film = breast(SHAPE_PX, side, (path.name, view), top=4000)
                cv2.imwrite(str(path.with_name(f"B_9013_1.{'LEFT' if side == 'L' else 'RIGHT'}_{view}.png")), film)


@pytest.mark.parametrize("name", SETS)
def test_a_set_as_downloaded_is_published(name: str, tmp_path: Path, ingest_here: IngestHere) -> None:
    """The manifest says of patients, exams, sides, views, labels and lesions what the conversion says; not one file fails.

    The written config is one as it is, and its patients are divided as the set divides them. What the set's terms forbid marks
    the store, and a config without them takes the mark away no more.
    """
    root, target = tmp_path / "set", tmp_path / "out"
    make_large(name, root)
    converted(name, root, target)
    assert load_config(target / "config.yaml").workspace_dir == target / "workspace"
    content = yaml.safe_load((target / "config.yaml").read_text())
    content["ingest"] |= {"settle_s": 0, "max_failed_fraction": 0.0}
    report = ingest_here(RunConfig.model_validate(content | SMALL))
    if terms := content["ingest"].pop("terms", ""):
        assert ingest_here(RunConfig.model_validate(content | SMALL)).terms == report.terms == terms
    subjects = [row for row in rows_of(target / "subjects.csv") if not row["left_out"]]
    assert report.files_quarantined == 0, report.quarantined_by_reason
    assert report.images_published == len(subjects)
    assert (report.masks_unusable, report.masks_unmatched, report.boxes_unmatched, report.orphan_labels) == (0, 0, 0, 0)
    manifest = pd.read_parquet(target / "workspace" / "exam_store" / "manifest.parquet")
    assert manifest["patient_id"].nunique() == len({row["patient_id"] for row in subjects})
    assert manifest["exam_id"].nunique() == len({row["exam"] for row in subjects})
    seen = sorted(zip(manifest["laterality"], manifest["view_position"], manifest["acquisition"], strict=True))
    assert seen == sorted((row["laterality"], row["view"], row["acquisition"]) for row in subjects)
    labels = rows_of(target / "labels.csv")
    breasts = manifest.drop_duplicates(["exam_id", "laterality"])
    for finding in ("benign", "malignant"):
        known = {value: sum(row[finding] == str(value) for row in labels) for value in (0, 1)}
        assert {value: int((breasts[finding] == value).sum()) for value in known} == known
        assert int((breasts[finding] == UNKNOWN).sum()) == len(breasts) - sum(known.values())
    assert int(manifest["lesion_boxes"].notna().sum()) == len({row["path"] for row in rows_of(target / "boxes.csv")})
    splits = split_patients.body(RunConfig.model_validate(content | SMALL), report)
    divided = {part: count.patients for part, count in splits.counts.items() if count.patients}
    assert sum(divided.values()) == manifest["patient_id"].nunique()
    if given := {row["patient_id"]: row["split"] for row in rows_of(target / "split.csv")}:
        assert divided["test"] == sum(given[patient] == "test" for patient in {row["patient_id"] for row in subjects})
    assert len(divided) == min(3, manifest["patient_id"].nunique())
    if name not in ALWAYS:
        assert not check_manifest.body(RunConfig.model_validate(content | SMALL), report).blocking
