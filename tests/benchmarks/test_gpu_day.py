"""The scripts for a day with a GPU run on a CPU: every part says its lines, and a table stands whatever happens to a part."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]
Module = Callable[[str], ModuleType]
QUICK = ("versions and defaults", "corners and patches, ties and empty maps among them", "gradients against this machine's CPU")
"""The other checks take seconds each on a CPU."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Module:
    """The scripts by name, with one thread of torch."""
    monkeypatch.syspath_prepend(str(ROOT))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    yield lambda name: importlib.import_module(f"benchmarks.gpu.{name}")  # type: ignore[misc]
    torch.set_num_threads(threads)


def test_all_parts_say_their_lines_on_a_cpu(script: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Phantoms, correctness, loader, the product's step and its stages, a row of Table 1, at 192 x 128: all in one table.

    In this process, for each of them takes seconds to start: the command that starts them is the next test's.
    """
    store = ["--workspace", str(tmp_path)]
    small = ["--size", "384", "288", "--window", "192", "128", "--workers", "1", "--malignant", "0.5"]
    given = {
        "phantom_store": [*store, "--exams", "12", *small],
        "correctness": ["--device", "cpu", "--small", "--only", *QUICK],
        "loader_rates": [*store, "--device", "cpu", "--threads", "1", "--span-s", "0.05"],
        "step_rates": [*store, "--device", "cpu", "--small", "--span-s", "0.05"],
        "table1_rows": [
            *store, "--device", "cpu", "--rows", "resnet-22", "--epochs", "1", "--precision", "fp32", "--loader-workers", "1",
        ],
    }  # fmt: skip
    parts = {"phantom_store": "phantoms", "loader_rates": "loader", "step_rates": "step", "table1_rows": "rows"}
    records = [{"part": "machine", "cores": 2, "python": "3", "plan": "measure"}]
    for name, arguments in given.items():
        script(name).main(arguments)
        heard = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        records += [{"part": parts.get(name, name), **record} for record in heard]
    assert [one for one in records if "end" in one] == []
    assert [one["check"] for one in records if one.get("holds") is False] == []
    assert {one["step"] for one in records if "step" in one} == {"resident", "fed", "scored", "stages"}
    records.append({"part": "network", "case": "machine", "matmul": {"bf16": 1e12, "fp32": 1e12}, "copy_bytes_per_s": 1e10})
    table = script("day_table").day_table(records)
    for row in (
        f"| {QUICK[1]} | yes |",
        "| tensorstore | 1 |",
        "| image stage 4 |",
        "| resnet-22 | 1 |",
    ):
        assert row in table
    resident = next(line for line in table.splitlines() if line.startswith("| resident | bf16 | 2 |"))
    assert resident.endswith("% |")  # of the roofline
    backward = [one for one in records if one.get("way") == "image stage 0"]
    assert backward and backward[0]["forward_ms"] > 0 and backward[0]["backward_ms"] > 0


def test_a_part_that_is_late_or_breaks_leaves_the_rest(script: Module, tmp_path: Path) -> None:
    """One that hangs is ended, one that fails says why, one that begins after the time is named; each line was kept at once."""
    day_script = script("gpu_day")
    day = day_script.Day(folder=tmp_path)
    program = tmp_path / "said.py"
    program.write_text(
        'import sys, time\nprint(\'{"reader": "zarr", "threads": 1, "end": "x"}\', flush=True)\n'
        "time.sleep(600) if sys.argv[1] == 'late' else sys.exit('no such thing')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    parts = [
        day_script.Part(name=name, command=("said", name), limit_s=limit_s) for name, limit_s in (("late", 6), ("broken", 60))
    ]
    started_s = time.monotonic()
    day_script.run_parts(parts, day, environment, started_s + 60, started_s)
    day_script.run_parts(parts[:1], day, environment, started_s, started_s)
    kept = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [(one["part"], one["end"]) for one in kept] == [
        ("late", "x"),
        ("late", "ended after its 6 s"),
        ("broken", "x"),
        ("broken", "exit 1: no such thing"),
        ("late", "not started: the time is over"),
    ]
    assert "* broken: exit 1: no such thing" in (tmp_path / "table.md").read_text()


@pytest.mark.long
@pytest.mark.parametrize("plan", ["measure", "table1", "both"])
def test_the_command_runs_without_a_gpu(tmp_path: Path, plan: str) -> None:
    """As on the day, but small: every part is begun as a child, none breaks, and the table is printed."""
    command = [sys.executable, "-m", "benchmarks.gpu.gpu_day", "--device", "cpu", "--small", "--plan", plan]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONSAFEPATH", None)
    run = subprocess.run(
        [*command, "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=12_000,
    )
    assert run.stdout.strip() == (tmp_path / "table.md").read_text().strip()
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [one for one in records if "end" in one] == [] and not [one for one in records if one.get("holds") is False]
    wanted = {"measure": {"correctness", "loader", "step", "network"}, "table1": {"phantoms", "rows"}}
    wanted["both"] = wanted["measure"] | wanted["table1"]
    assert wanted[plan] <= {one["part"] for one in records}
