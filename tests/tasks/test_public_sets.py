"""A public set's excerpt, from the download to a published store, with the config that `mammo dataset` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mammo_tests.converted import converted, rows_of
from mammo_tests.excerpts import MAKERS, make
from schemas.config.run import RunConfig
from schemas.layout import UNKNOWN
from schemas.reports.data import IngestReport

IngestHere = Callable[[RunConfig], IngestReport]

SMALL = {
    "preprocess": {
        "window_px": [384, 256], "erosion_iterations": 10, "crop_buffer_px": 10, "jitter_shift_px": 8, "jitter_size_px": 0,
    },
    "model": {"image_size": [384, 256], "patch_size": [48, 48], "K": 2, "top_t": 0.1, "local_dim": 16},
}  # fmt: skip
WITHOUT_PIXELS = {"ddsm": "its pixels are decoded elsewhere", "mini-mias": "its excerpt has 96 pixels a side: rule X01"}
ALWAYS = (
    "cbis-ddsm",
    "rsna-2022",
    "cdd-cesm",
)  # masks beside images; headers that name nothing; no DICOM. The others take long.
SETS = [
    name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long)
    for name in sorted(MAKERS.keys() - WITHOUT_PIXELS.keys())
]


def test_sets_left_out_are_sets() -> None:
    """The list above names what exists, and every set is here or there."""
    assert WITHOUT_PIXELS.keys() <= MAKERS.keys()


@pytest.mark.parametrize("name", SETS)
def test_a_set_as_downloaded_is_published(name: str, tmp_path: Path, ingest_here: IngestHere) -> None:
    """The manifest says of patients, exams, sides, views, labels and lesions what the conversion says; not one file fails.

    What the set's terms forbid marks the store, and a config without them takes the mark away no more.
    """
    root, target = tmp_path / "set", tmp_path / "out"
    make(name, root, (1000, 820))
    converted(name, root, target)
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
