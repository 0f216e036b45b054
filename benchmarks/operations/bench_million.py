"""A million rows of ledger, manifest and scores, made by a script: every stage but the pixels runs over them.

    OMP_NUM_THREADS=1 python -m benchmarks.operations.bench_million [--rows 100000 1000000] [--steps publish] [--json FILE]

Each step is what its verb does, in a process of its own: CPU seconds of the step without what the imports before it take, and
the peak of the whole process. What reads pixels or runs the network is left out: the scores are drawn, no panel is. The ledger
holds four views an exam and two exams a patient; labels are put into the manifest after publishing, one patient in fifty with a
malignant finding (a million label lines were measured by ``benchmarks.ingest.bench_labels``). Half of the patients test, four
in ten tune: evaluation, gallery and report have nine tenths of the rows. With two numbers of rows the last column says which
step grows faster than the images. ``--json`` keeps the numbers for ``mammo plan``.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.store.bench_rows import VIEWS, manifest_of, peak_gib
from schemas.config.run import RunConfig, Stage
from schemas.exam import Finding
from schemas.layout import MANIFEST_COLUMNS, PIXELS, Source
from schemas.reports.data import IngestReport, SplitReport, ValidationReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.pages import ExplainReport
from schemas.reports.training import EpochRecord, TrainReport
from tasks.adapters.workspace import Workspace

GOALS: Final = {"split": (10.0, 1.5), "training start": (10.0, 1.5)}
"""CPU seconds and GiB of a million; where nothing stands none was set."""
FASTER_THAN_IMAGES: Final = 1.1
_LINES_AT_ONCE = 10_000


def config_of(folder: Path) -> RunConfig:
    """Everything at its default but the places, the shares, and that a prediction draws nothing."""
    return RunConfig.model_validate(
        {
            "name": "million",
            "workspace_dir": folder / "workspace",
            "ingest": {"source_dir": folder / "source", "profile": "phantom"},
            "split": {"tuning_fraction": 0.4, "test_fraction": 0.5},
            "evaluate": {"checkpoints": [folder / "weights"]},
            "report": {"pdf": False},
            "predicted_panels": False,
        }
    )


# --------------------------------------------------------------------------------------------------------------- making it


def make(folder: Path, rows: int) -> None:
    """The store, and weights that nobody trained."""
    import torch

    from gmic_model.networks.registry import build_network
    from tasks.adapters.models.checkpoints import save_checkpoint

    config = config_of(folder)
    make_store(config, rows)
    torch.manual_seed(0)
    weights = build_network(config.model).state_dict()
    save_checkpoint(folder / "weights", weights=weights, training={}, model=config.model, about={})


def make_store(config: RunConfig, rows: int) -> None:
    """A store with its ledger, and the names of its shards without a byte in them."""
    from tasks.adapters.inbox.batches import open_exams
    from tasks.adapters.store.exam_store import reserve_rows, shard_path

    config.ingest.source_dir.mkdir(parents=True)
    store, _ = open_exams(config)
    reserve_rows(store, rows)
    for shard in range(-(-rows // store.rows_per_shard)):
        path = shard_path(store, PIXELS, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    manifest = manifest_of(rows)
    stored = [one.name for one in MANIFEST_COLUMNS if one.source in (Source.RECORD, Source.HEADER, Source.CROP)]
    with closing(sqlite3.connect(store.ledger_path)) as ledger:
        ledger.execute("INSERT INTO given_out VALUES (1, ?, '2026-01-02T03:04:05+00:00')", (rows,))
        for start in range(0, rows, _LINES_AT_ONCE):
            part = manifest.iloc[start : start + _LINES_AT_ONCE]
            lines = part[stored].astype(object).where(part[stored].notna(), None).to_dict("records")
            files = [f"F{line['image_id'][1:]}" for line in lines]
            ledger.executemany(
                """INSERT INTO files (file_id, fingerprint, state, image_id, source_sha256, attempts)
                   VALUES (?, '1-1', 'accepted', ?, ?, 1)""",
                [(file, line["image_id"], line["source_sha256"]) for file, line in zip(files, lines, strict=True)],
            )
            ledger.executemany(
                """INSERT INTO images (file_id, image_id, exam_id, row, batch, pixel_sha256, manifest)
                   VALUES (?, ?, ?, ?, 1, ?, ?)""",
                [
                    (file, line["image_id"], line["exam_id"], line["row"], line["pixel_sha256"], json.dumps(line))
                    for file, line in zip(files, lines, strict=True)
                ],
            )
        ledger.commit()


def _label(folder: Path) -> None:
    """Puts labels into the manifest that was published, and says its new version."""
    from tasks.adapters.inbox.publication import manifest_sizes
    from tasks.adapters.store.exam_store import open_store
    from tasks.adapters.store.manifest import read_manifest
    from tasks.adapters.store.parts import write_manifest

    files = Workspace(folder / "workspace")
    store = open_store(files.store_dir)
    manifest = read_manifest(store)
    exam_N = manifest["row"].to_numpy() // len(VIEWS)
    manifest["malignant"] = ((exam_N // 2 % 50 == 0) & (manifest["laterality"] == "L")).astype(np.int64)
    manifest["benign"] = ((exam_N // 2 % 20 == 1) & (manifest["laterality"] == "R")).astype(np.int64)
    manifest["birads"], manifest["label_source"] = 2, "biopsy"
    manifest = manifest.astype({column.name: column.dtype for column in MANIFEST_COLUMNS})
    write_manifest(store.files, pa.Table.from_pandas(manifest, preserve_index=False), store.store_id)
    ingested = files.read_report(Stage.INGEST, IngestReport)
    files.write_report(Stage.INGEST, ingested.model_copy(update=manifest_sizes(manifest)))


# ------------------------------------------------------------------------------------------------------------------- steps


def publish(folder: Path) -> str:
    """The end of an ingest that found nothing new."""
    from tasks.adapters.inbox.batches import Scan
    from tasks.adapters.inbox.store_ledger import StoreLedger
    from tasks.adapters.store.exam_store import open_store
    from tasks.publish import publish_exams

    config = config_of(folder)
    with StoreLedger(open_store(Workspace(config.workspace_dir).store_dir)) as ledger:
        file_ids = frozenset(file_id for file_id, _, _ in ledger.claims())
    report = publish_exams.fn(config, Scan(file_ids=file_ids, unsettled=()))
    return f"{report.images_published:,} images"


def validate(folder: Path) -> str:
    """All data checks."""
    from tasks.validate import check_manifest

    config = config_of(folder)
    report = check_manifest.body(config, _said(folder, Stage.INGEST, IngestReport))
    return f"{sum(check.is_met for check in report.checks)} of {len(report.checks)} checks met"


def split(folder: Path) -> str:
    """Patients into splits, with the audit."""
    from tasks.split import split_patients
    from tasks.stage import save_report

    config = config_of(folder)
    report = save_report(config, Stage.SPLIT, split_patients.body(config, _said(folder, Stage.INGEST, IngestReport)))
    return ", ".join(f"{name} {count.patients:,}" for name, count in report.counts.items())


def begin_training(folder: Path) -> str:
    """What a training, and the measuring before a search, reads before its first step."""
    from tasks.adapters.training.training_data import training_data

    data = training_data(config_of(folder), _said(folder, Stage.SPLIT, SplitReport))
    return f"{len(data.sampler.draw(0)):,} exams an epoch, {len(data.tuning):,} tuning images"


def evaluate(folder: Path) -> str:
    """Everything but the scoring: tables, measures with intervals, pages."""
    from tasks.adapters.scoring import evaluation
    from tasks.evaluate import evaluate_network
    from tasks.stage import save_report

    def drawn(config: RunConfig, members: Any, images: Any, scored: Callable[[int], None]) -> Any:
        both = pd.concat([images.test, images.tuning])
        return evaluation._Scored(
            networks=(config.model,),
            rows=both["row"].tolist(),
            score_SNC=_scores_of(both)[None],
            localized_S=[[]],
            marked_S=[[]],
        )

    evaluation._score = drawn
    config = config_of(folder)
    report = save_report(config, Stage.EVALUATE, evaluate_network.body(config, _said(folder, Stage.SPLIT, SplitReport), None))
    return f"{report.images:,} test images, AUROC {report.by_finding[Finding.MALIGNANT].auroc.value:.3f}"


def predict(folder: Path) -> str:
    """The bookkeeping of all images, none of which was scored before: log, table of scores, report, page."""
    from tasks.adapters.pages import panels
    from tasks.adapters.scoring.scored_views import ScoredView
    from tasks.predict import predict_exams

    nothing = np.zeros((2, 1, 1), np.float32)

    def scored(network: Any, views: Any, rows: Any, **options: Any) -> Any:
        score_NC = np.random.default_rng(rows[0]).random((len(rows), 2))
        for row, score_C in zip(rows, score_NC, strict=True):
            yield ScoredView(
                row=row, score_C=score_C, saliency_CIJ=nothing, corner_K2=nothing.astype(np.int64), attention_K=nothing[0, 0]
            )

    panels.score_rows = scored
    report = predict_exams.fn(config_of(folder), _said(folder, Stage.INGEST, IngestReport), folder / "weights")
    return f"{report.images_new:,} images"


def verify_log(folder: Path) -> str:
    """The prediction log's chain."""
    from tasks.adapters.lifecycle.prediction_log import PredictionLog

    check = PredictionLog(Workspace(folder / "workspace").prediction_log_dir).check()
    return f"{check.lines:,} lines{', ' + check.fault if check.fault else ', whole'}"


def explain(folder: Path) -> str:
    """Which exams are shown, and the gallery's index; no picture."""
    from tasks.adapters.pages.gallery import drawn_exams
    from tasks.explain import explain_exams
    from tasks.stage import save_report

    drawn_exams.draw_exams = lambda *inputs: ()
    config = config_of(folder)
    evaluated = _said(folder, Stage.EVALUATE, EvaluationReport)
    report = explain_exams.body(config, _said(folder, Stage.SPLIT, SplitReport), None, evaluated)
    save_report(config, Stage.EXPLAIN, report)
    return f"{len(report.failures)} failures"


def report(folder: Path) -> str:
    """The page of the whole run, without its PDF."""
    from tasks.report import write_report

    config, evaluated = config_of(folder), _said(folder, Stage.EVALUATE, EvaluationReport)
    ingested = _said(folder, Stage.INGEST, IngestReport)
    epoch = EpochRecord(
        epoch=0, train_loss=1.0, tuning_malignant_auroc=0.7, tuning_benign_auroc=0.7, images_per_s=1.0, is_best=True
    )
    trained = TrainReport(
        checkpoint_path=folder / "weights", checkpoint_sha256=evaluated.model_sha256, run_dir=folder, epochs=(epoch,),
        best_epoch=0, train_exams=1, provenance=evaluated.provenance,
    )  # fmt: skip
    validated = ValidationReport(
        data_version=ingested.data_version, images=ingested.images_published, checks=(), page_path=folder
    )
    explained = _said(folder, Stage.EXPLAIN, ExplainReport)
    made = write_report.fn(config, ingested, validated, _said(folder, Stage.SPLIT, SplitReport), trained, evaluated, explained)
    return f"{made.report_path.stat().st_size / 1e6:.1f} MB"


def prune(folder: Path) -> str:
    """What of a workspace is old: trainings and months of the log. Prefect's history does not grow with the images."""
    from deployments.commands import prune as prune_verb

    async def no_history(*inputs: Any, **options: Any) -> tuple[int, int]:
        return 0, 0

    prune_verb._prune_history = no_history
    pruned = prune_verb.prune_workspace(config_of(folder), timedelta(days=1), is_dry=True)
    return f"{len(pruned.trainings)} trainings, {pruned.log_months} months"


def backup(folder: Path) -> str:
    """Everything that cannot be made again, in one archive."""
    from deployments.commands.backup import backup as write_backup

    archive = folder / "backup.tar"
    archive.unlink(missing_ok=True)
    write_backup(folder / "workspace", archive)
    size = archive.stat().st_size
    archive.unlink()
    return f"{size / 1e9:.2f} GB"


STEPS: Final[dict[str, Callable[[Path], str]]] = {
    "publish": publish,
    "validate": validate,
    "split": split,
    "training start": begin_training,
    "evaluate": evaluate,
    "predict": predict,
    "log verify": verify_log,
    "gallery": explain,
    "report": report,
    "prune": prune,
    "backup": backup,
}


def _said(folder: Path, stage: Stage, kind: Any) -> Any:
    return Workspace(folder / "workspace").read_report(stage, kind)


def _scores_of(lines: pd.DataFrame) -> np.ndarray:
    noise_NC = np.random.default_rng(0).normal(size=(len(lines), 2))
    return 1.0 / (1.0 + np.exp(-noise_NC - lines[[finding.value for finding in Finding]].to_numpy(np.float64)))


# --------------------------------------------------------------------------------------------------------------- measuring


def measure(step: str, folder: Path) -> dict[str, float | str]:
    """CPU seconds of a step, and the peak of this process."""
    start, before = time.perf_counter(), _cpu_s()
    said = STEPS[step](folder)
    took_s, cpu_s = time.perf_counter() - start, _cpu_s() - before
    return {
        "took_s": took_s,
        "cpu_s": cpu_s,
        "peak_gib": peak_gib(),
        "said": said,
    }


def measure_all(rows: int, steps: list[str], keep: Path | None) -> dict[str, tuple[float, float]]:
    """CPU seconds and peak GiB of each step."""
    found: dict[str, tuple[float, float]] = {}
    folder = keep / str(rows) if keep else Path(tempfile.mkdtemp())
    try:
        if not (folder / "weights").exists():
            subprocess.run(_command(rows, folder, "make"), check=True)
        for step in steps:
            ended = subprocess.run(_command(rows, folder, step), stdout=subprocess.PIPE, text=True, check=False)
            if ended.returncode:
                print(f"{rows:9,} {step:15s} failed", flush=True)
                continue
            one = json.loads(ended.stdout.splitlines()[-1])
            found[step] = (one["cpu_s"], one["peak_gib"])
            took = f"CPU {one['cpu_s']:7.1f} s ({one['took_s']:.1f} s), peak {one['peak_gib']:.2f} GiB"
            goal = GOALS.get(step)
            wanted = f"; goal for a million {goal[0]:g} s, {goal[1]:g} GiB" if goal else ""
            print(f"{rows:9,} {step:15s} {took}  {one['said']}{wanted}", flush=True)
            if step == "publish":
                subprocess.run(_command(rows, folder, "label"), check=True)
    finally:
        if keep is None:
            shutil.rmtree(folder)
    return found


def main() -> None:
    """Print a line per step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--keep", type=Path, help="folder whose workspaces are used again")
    parser.add_argument("--json", type=Path, help="numbers for mammo plan are added here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one in ("make", "label"):
        make(options.folder, options.rows[0]) if options.one == "make" else _label(options.folder)
        return
    if options.one:
        print(json.dumps(measure(options.one, options.folder)))
        return
    found = {rows: measure_all(rows, options.steps, options.keep) for rows in sorted(options.rows)}
    few, many = min(found), max(found)
    for step in [one for one in options.steps if few < many and one in found[few] and one in found[many]]:
        growth = (found[many][step][0] / many) / max(found[few][step][0] / few, 1e-9)
        print(f"{step:15s} CPU an image, {many:,} / {few:,}: {growth:.2f}{'  FASTER' if growth > FASTER_THAN_IMAGES else ''}")
    if options.json:
        known = json.loads(options.json.read_text()) if options.json.exists() else {}
        steps = {step: [[rows, *found[rows][step]] for rows in found if step in found[rows]] for step in options.steps}
        known["steps"] = known.get("steps", {}) | steps
        options.json.write_text(json.dumps(known, indent=1))


def _command(rows: int, folder: Path, one: str) -> list[str]:
    module = "benchmarks.operations.bench_million"
    return [sys.executable, "-m", module, "--rows", str(rows), "--one", one, "--folder", str(folder)]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
