"""``mammo scrub``: damage is found and named, repaired from the files that are there, and never silent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import RunConfig
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest

pytestmark = pytest.mark.e2e

MakeConfig = Callable[..., RunConfig]
Mammo = Callable[..., Any]


def test_damage_is_found_repaired_and_what_cannot_be_is_unpublished(
    tmp_path: Path, cohort_dir: Path, make_config: MakeConfig, mammo: Mammo, read_here: dict[str, str]
) -> None:
    """A flipped bit and a lost shard: code 5 with a list; --repair brings back the same data, or unpublishes."""
    cohort, workspace = tmp_path / "cohort", tmp_path / "workspace"
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    shutil.copytree(cohort_dir, cohort, ignore=shutil.ignore_patterns(*(exam.name for exam in exams[2:]), "CANARY-*"))
    config = tmp_path / "config.yaml"
    changes = {"ingest.dask": read_here}
    config.write_text(make_config(workspace, cohort, **changes).model_dump_json())
    first = json.loads(mammo("ingest", config, "--json").stdout)
    shards = workspace / "exam_store" / "pixels.zarr" / "pixels" / "c"
    flipped = bytearray((shards / "0" / "0" / "0").read_bytes())
    flipped[100] ^= 1
    (shards / "0" / "0" / "0").write_bytes(flipped)
    (shards / "1" / "0" / "0").unlink()
    answer = mammo("scrub", config)
    assert answer.code == 5 and "5 of 8 images" in answer.message and "--repair" in answer.message
    assert len((workspace / "scrub" / "damage.csv").read_text().splitlines()) == 6

    repaired = json.loads(mammo("scrub", config, "--repair", "--json").stdout)
    assert (repaired["images_repaired"], repaired["images_lost"], repaired["images_read"]) == (5, 0, 8)
    manifest = read_manifest(open_store(workspace / "exam_store"))
    assert json.loads((workspace / "ingest" / "report.json").read_text())["data_version"] == first["data_version"]

    (shards / "1" / "0" / "0").unlink()
    for path in sorted((cohort / "dicom").rglob("*.dcm")):
        path.unlink()
    (cohort / "dicom" / "letter.txt").write_text("nothing is left but this " * 200)
    answer = mammo("scrub", config, "--repair")
    assert answer.code in (5, 8), answer.message
    assert len(read_manifest(open_store(workspace / "exam_store"))) == 4 < len(manifest)
