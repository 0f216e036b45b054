"""The GPU benchmark runs to its table wherever it is, and a table is printed whatever happens to a case."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
MODULE = "benchmarks.network.bench_model_gpu"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that makes the table."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.network.model_table")


def run(*arguments: str) -> str:
    """What the script prints, on the CPU and at a tiny size."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop(
        "PYTHONSAFEPATH", None
    )  # `benchmarks` is found where the command is given, wherever this process ran commands
    command = [sys.executable, "-m", MODULE, "--device", "cpu", "--small", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.long
def test_small_run_prints_the_table(tmp_path: Path) -> None:
    """Two batches of one path and every stage of the forward pass; the JSON holds the same measurements."""
    said = run("--only", "training fp32", "stages", "--json", str(tmp_path / "result.json"))
    assert said.count("| training fp32 |") == 2
    for stage in ("stem and pooling", "image stage 4", "ROI search", "patch gather", "patch network and attention"):
        assert f"| {stage} |" in said
    assert "of the forward pass" in said
    records = json.loads((tmp_path / "result.json").read_text())
    assert all(record["images_per_s"] > 0 and record["peak_gib"] > 0 for record in records if "images_per_s" in record)


def test_a_spent_budget_still_prints_a_table(
    table: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No case starts after the budget; each is named with the reason. As a command the script runs in the test above."""
    script = importlib.import_module(MODULE)
    monkeypatch.setattr(sys, "argv", [MODULE, "--device", "cpu", "--small", "--only", "machine", "--budget-s", "0"])
    script.main()
    assert "| machine | - | not started: the budget is spent |" in capsys.readouterr().out


def test_memory_and_time_limits_are_rows_of_the_table(table: ModuleType) -> None:
    """4 images a second against 1 of the reference: 4.00; utilisation 2 of 8 Tflop/s: 25 %; two cases that did not finish."""
    measured = {"batch": 8, "peak_gib": 1.0, "flop_per_s": 2e12, "precision": "fp32"}
    text = table.summary(
        [
            {"case": "machine", "matmul": {"fp32": 8e12}, "copy_bytes_per_s": 1e12},
            {"case": "training reference fp32", "images_per_s": 1.0, **measured},
            {"case": "training fp32", "images_per_s": 4.0, **measured},
            {"case": "training fp32", "batch": 16, "oom": True},
            {"case": "training + compile", "end": "ended after 90 s"},
        ]
    )
    assert "| training fp32 | 8 | 4.00 | 4.00 | 1.00 | 25.0% |" in text
    assert "| training fp32 | 16 | out of memory |" in text
    assert "| training + compile | - | ended after 90 s |" in text


def test_every_case_can_be_a_row(table: ModuleType) -> None:
    """However it is called: a name with a comma once ended a quarter of an hour with a card."""
    cases = importlib.import_module(MODULE).CASES
    measured = {"batch": 8, "peak_gib": 1.0, "flop_per_s": 2e12, "precision": "fp32", "images_per_s": 4.0}
    text = table.summary([{"case": case.name, **measured} for case in cases if case.work in ("training", "inference")])
    assert all(f"| {case.name} | 8 | 4.00 |" in text for case in cases if case.work in ("training", "inference"))


def test_stage_is_bound_by_its_nearest_roof(table: ModuleType) -> None:
    """1e9 flop at 1e12 a second are 1 ms of 1.25 ms: arithmetic. The same with 2e9 bytes at 1e12: memory. In 10 ms: neither."""
    machine = {"matmul": {"fp32": 1e12}, "copy_bytes_per_s": 1e12}
    stage = {"precision": "fp32", "flop": 1e9, "bytes": 0, "ms": 1.25}
    assert table.bound(stage, machine) == "arithmetic (80% of that roof)"
    assert table.bound({**stage, "bytes": 2e9, "ms": 2.5}, machine) == "memory (80% of that roof)"
    assert table.bound({**stage, "ms": 10.0}, machine).startswith("launches")
