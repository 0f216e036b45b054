"""Scores of the log, device by device: the one whose software changed is told, the others are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tasks.adapters.lifecycle.watching.device_scores import scores_by_device


def exam(number: int, score: float, **changes: Any) -> dict[str, Any]:
    """A line of the log."""
    line = {
        "kind": "exam", "exam_id": f"E{number}", "model": "m", "when_utc": f"2026-01-01T{number:06d}",
        "scores": {"L": {"malignant": score}, "R": {"malignant": 0.0}}, "recalled": {"malignant": score > 0.5},
    }  # fmt: skip
    return line | changes


def test_the_device_whose_software_changed_is_told_and_no_other() -> None:
    """Three devices in turn; one gets new software and higher scores. Rescoring, other weights and images count nothing."""
    rng = np.random.default_rng(0)
    numbers = np.arange(1500)
    manifest = pd.DataFrame(
        {
            "exam_id": [f"E{number}" for number in numbers], "manufacturer": "ACME", "model_name": "One",
            "device_id": [f"D{number % 3}" if number < 1490 else None for number in numbers],
            "software_versions": ["2" if number >= 900 and number % 3 == 1 else "1" for number in numbers],
        }
    )  # fmt: skip
    logit_E = rng.normal(size=1500) - 1.0 + np.where(manifest["software_versions"] == "2", 1.0, 0.0)
    lines = [exam(number, 1 / (1 + np.exp(-logit_E[number]))) for number in numbers]
    lines = [exam(0, 0.9, model="before"), {"kind": "image", "exam_id": "E1"}, *lines, exam(0, 0.99), exam(4000, 0.5)]
    found = {one.name: one for one in scores_by_device(lines, manifest, baseline=200)}
    assert sorted(found) == ["ACME One", "ACME One D0", "ACME One D1", "ACME One D2"]
    changed = found["ACME One D1"]
    assert changed.alarm is not None and changed.alarm.is_upward and 290 <= changed.alarm.began <= 310
    assert changed.began_exam == f"E{3 * changed.alarm.began + 1}" and changed.began_utc.startswith("2026-01-01")
    assert [(one.name, one.exams) for one in changed.softwares] == [("1", 300), ("2", 197)]
    before, after = (one.recalled or 0 for one in changed.softwares)
    assert after / 197 > 2 * before / 300
    assert found["ACME One D0"].alarm is None and found["ACME One D2"].alarm is None and found["ACME One"].needed == 191
    since = scores_by_device(lines, manifest, since="2026-01-01T000900", baseline=150)
    assert all(one.alarm is None for one in since) and scores_by_device([], manifest) == []
    assert scores_by_device([exam(0, 0.5, recalled={})], manifest[["exam_id"]])[0].softwares[0].recalled is None
