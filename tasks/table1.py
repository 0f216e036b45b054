"""Table 1: the rows' evaluations put beside the paper's numbers. Training and evaluation are the stages' own tasks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.network import TableRow, network_of_row
from schemas.config.recipe import PartConfig, StartPart
from schemas.config.run import RunConfig
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.table1 import PAPER_AUROC, TRAINED_AS, Table1Report
from schemas.reports.training import TrainReport
from tasks.adapters.provenance import provenance
from tasks.adapters.scoring.table1_rows import require_same_breasts, table1_markdown, table1_rows
from tasks.adapters.workspace import TABLE1, Workspace, exam_store_dir, write_atomically
from tasks.artifacts import show_markdown

logger = logging.getLogger(__name__)


def training_run(config: RunConfig, variant: TableRow, seed: int) -> RunConfig:
    """The run that trains one row with one seed: a workspace below ours, with our store. The baseline reads no patches."""
    train: dict[str, object] = {"seed": seed}
    if variant is TableRow.RESNET22:
        train["start"] = config.train.start.without(StartPart.PATCHES)
        train["parts"] = config.train.parts.model_copy(update={"patches": PartConfig()})
    return _below(config, f"{variant.value}-seed-{seed}").model_copy(
        update={"model": network_of_row(config.model, variant), "train": config.train.model_copy(update=train)}
    )


def evaluation_run(config: RunConfig, row: TableRow, checkpoints: tuple[Path, ...], *, part: str = "") -> RunConfig:
    """The run that evaluates one row: its models alone and together; ``part`` sets it apart from others of the row."""
    named = {"checkpoints": checkpoints, "ensemble": None, "read_as": row}
    return _below(config, f"row-{row.value}{part}").model_copy(update={"evaluate": config.evaluate.model_copy(update=named)})


def row_checkpoints(config: RunConfig, row: TableRow, trained: Mapping[TableRow, list[TrainReport]]) -> tuple[Path, ...]:
    """The row's weights: those that the config names for it, else those of the row it was trained as."""
    source = TRAINED_AS.get(row, row)
    named = config.table1.checkpoints
    return named.get(row) or named.get(source) or tuple(report.checkpoint_path for report in trained[source])


def localization_checkpoints(config: RunConfig, trained: Mapping[TableRow, list[TrainReport]]) -> tuple[Path, ...]:
    """Of each training of GMIC the weights of the best malignant F1 on tuning: the paper's localisation is theirs (3.3).

    Empty where these are the very weights that the row is evaluated with, or where the config names weights.
    """
    named = config.table1.checkpoints.get(TableRow.GMIC)
    reports = [] if named or TableRow.GMIC not in config.table1.rows else trained.get(TableRow.GMIC, [])
    pointing = tuple(report.localization_checkpoint_path or report.checkpoint_path for report in reports)
    return () if pointing == tuple(report.checkpoint_path for report in reports) else pointing


def variants_to_train(config: RunConfig) -> list[TableRow]:
    """What must be trained for the rows that the config asks for, in the paper's order."""
    named = config.table1.checkpoints
    missing = {
        TRAINED_AS.get(row, row) for row in config.table1.rows if not (named.get(row) or named.get(TRAINED_AS.get(row, row)))
    }
    return [variant for variant in PAPER_AUROC if variant in missing]


@task(name="write-table1", cache_policy=NO_CACHE, persist_result=False)
def write_table1(
    config: RunConfig,
    splits: SplitReport,
    evaluated: dict[TableRow, EvaluationReport],
    localized: EvaluationReport | None = None,
) -> Table1Report:
    """Puts the rows together; leaves ``table1/table1.md`` and ``table1/report.json``.

    Args:
        config: The run.
        splits: Of its store.
        evaluated: The rows.
        localized: Of the weights whose localisation stands beside the paper's; None = the row GMIC's own.

    Raises:
        StoreError: The rows were judged by different patients.
    """
    require_same_breasts(evaluated)
    folder = Workspace(config.workspace_dir).stage_dir(TABLE1)
    rows = table1_rows(config, evaluated, localized)
    any_row = next(iter(evaluated.values())).by_finding
    report = Table1Report(
        rows=rows,
        breasts={name: metrics.breasts for name, metrics in any_row.items()},
        positive_breasts={name: metrics.positive_breasts for name, metrics in any_row.items()},
        test_patients={name: metrics.patients for name, metrics in any_row.items()},
        positive_patients={name: metrics.positive_patients for name, metrics in any_row.items()},
        confidence=config.evaluate.confidence,
        resamples=config.evaluate.bootstrap_resamples,
        markdown_path=folder / "table1.md",
        provenance=provenance(config, splits, seed=config.evaluate.seed),
    )
    markdown = table1_markdown(report)
    write_atomically(report.markdown_path, markdown.encode())
    Workspace(config.workspace_dir).write_report(TABLE1, report)
    show_markdown(TABLE1, markdown, "Table 1 of the paper, and ours")
    return report


# ---------------------------------------------------------------------------------------------------------------------


def _below(config: RunConfig, name: str) -> RunConfig:
    folder = Workspace(config.workspace_dir).stage_dir(TABLE1) / name
    return config.model_copy(update={"name": name, "workspace_dir": folder, "store_dir": exam_store_dir(config)})
