"""Whoever follows the page about manifest columns has one, from the header to the data checks."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.seams import copy_of_repository

_INGESTED = """
import sys
from pathlib import Path

from mammo_tests.mammograms import accept, setting, write
from mammo_tests.manifests import clean_manifest
from mammo_tests.reference import wanted
from gmic_model.preprocess import prepare_view
from schemas.exam import UNKNOWN
from tasks.adapters.checks.image_suites import manifest_suites
from tasks.adapters.gate.messages import PreparedImage
from tasks.adapters.inbox.shard_writer import stored_line
from tasks.adapters.store.exam_store import create_store, reserve_rows
from tasks.adapters.store.manifest import publish, read_manifest
from schemas.config.ingest import PreprocessConfig

folder, lines = Path(sys.argv[1]), []
for row, edit in enumerate([setting(BodyPartThickness="61"), None]):
    record, gated = accept(write(folder / f"{row}.dcm", edit=edit))
    prepared = prepare_view(gated.pixels_HW, record.laterality)
    ready = PreparedImage(
        record=record, prepared=prepared, mask_HW=None, is_mask_unusable=False, pixel_sha256=gated.pixel_sha256,
        warnings=gated.warnings, background_median=gated.background_median,
    )
    labels = dict.fromkeys(("benign", "malignant", "birads"), UNKNOWN) | {"batch": 1, "batch_date": "2026-01-02"}
    lines.append(stored_line(row, ready) | labels)
store = create_store(folder / "exam_store", preprocess=PreprocessConfig(), preprocess_version="1", rows_per_shard=4, key_id="k")
reserve_rows(store, 4)
publish(store, lines, [])
column = read_manifest(store)["body_part_thickness_mm"]
print(column[0], column.isna().tolist())
checks = [check for suite in manifest_suites(clean_manifest().assign(body_part_thickness_mm=300.0)) for check in suite.checks]
print([check.name for check in checks if check.column == "body_part_thickness_mm"])
print(["body_part_thickness_mm" in line for line in (lines[0], lines[1])])
(page,) = [text for name, text in wanted().items() if name.endswith("store-layout.md")]
print([line for line in page.splitlines() if "body_part_thickness_mm` |" in line])
"""


def test_the_page_s_steps_bring_an_attribute_into_the_manifest(tmp_path: Path) -> None:
    """Three files are touched. The value is published where the header has one, checked, and has its row in the reference."""
    copy = copy_of_repository(tmp_path)
    touched = {step.path for step in copy.follow("docs/how-to/add-a-manifest-column.md")}
    assert touched == {"schemas/exam.py", "schemas/layout.py", "tasks/adapters/dicom/header.py"}
    copy.python("-m", "ruff", "check", *touched)
    copy.python("-m", "ruff", "format", "--check", *touched)
    published, checks, written, row = copy.python("-c", _INGESTED, str(tmp_path)).splitlines()[-4:]
    assert published == "61.0 [False, True]" and written == "[True, False]"
    assert "is float64" in checks and "is at least 5 and at most 200" in checks and "never empty" not in checks
    assert "BodyPartThickness (0018,11A0) | header | `55.0` | may be empty; at least 5; at most 200 | warning" in row
    copy.pytest("--noconftest", "tests/schemas/test_layout.py")
