"""The page docs/how-to/when-the-share-goes-away.md, followed: its codes, and what is published meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.config.run import RunConfig
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.workspace import Workspace

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "when-the-share-goes-away.md"
Mammo = Callable[..., Any]


def test_the_share_goes_and_comes_back(
    tmp_path: Path, cohort_dir: Path, make_config: Callable[..., RunConfig], mammo: Mammo
) -> None:
    """Gone, back, written over, allowed: the page's codes and sentences; all is published until somebody lets some go."""
    page = " ".join(PAGE.read_text().split())
    source = tmp_path / "cohort" / "dicom"
    exam = next(path for path in sorted((cohort_dir / "dicom").iterdir()) if path.is_dir())
    shutil.copytree(exam, source / exam.name)
    config = make_config(
        tmp_path / "workspace", tmp_path / "cohort",
        **{"ingest.labels_csv": None, "ingest.masks_dir": None, "ingest.max_failed_fraction": 1.0},
    )  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(config.model_dump_json())

    def published() -> int:
        return len(read_manifest(open_store(Workspace(config.workspace_dir).store_dir)))

    assert mammo("ingest", path).code == 0 and published() == 4
    away = source.rename(tmp_path / "away")
    answer = mammo("ingest", path)
    assert (answer.code, published()) == (3, 4) and "No exams found" in answer.message and "`No exams found in ...` | " in page
    away.rename(source)
    assert mammo("ingest", path).code == 0 and published() == 4
    for image in sorted(source.rglob("*.dcm"))[:2]:
        image.write_text("no mammogram " * 500)
    answer = mammo("ingest", path)
    assert (answer.code, published()) == (8, 4)
    assert "published images would be withdrawn" in answer.message and "published images would be withdrawn` | " in page
    assert "mammo ingest CONFIG --allow-withdrawals" in page
    assert mammo("ingest", path, "--allow-withdrawals").code == 0 and published() == 2
    report = json.loads((config.workspace_dir / "ingest" / "report.json").read_text())
    assert (report["deferred_by_reason"], report["paths_unreadable"]) == ({}, {})
