"""Table 1: the rows' evaluations put beside the paper's numbers. Training and evaluation are the stages' own tasks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from gmic_model.metrics.bootstrap import Bootstrap
from schemas.config.network import TableRow, network_of_row
from schemas.config.run import RunConfig
from schemas.exam import FINDINGS, Finding
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import AurocDifference, EvaluationReport, ModelSpread
from schemas.reports.report import Interval
from schemas.reports.table1 import PAPER_AUROC, PAPER_LOCALIZATION, Table1Cell, Table1Report, Table1Row
from schemas.reports.training import TrainReport
from tasks.adapters.provenance import provenance
from tasks.adapters.scoring.metrics_table import interval_text
from tasks.adapters.scoring.model_ranking import paired_difference
from tasks.adapters.scoring.score_tables import BREAST, labelled, read_breast_scores
from tasks.adapters.workspace import Workspace, exam_store_dir, write_atomically
from tasks.artifacts import show_markdown

logger = logging.getLogger(__name__)

TRAINED_AS = {TableRow.LOC: TableRow.GMIC, TableRow.MIL: TableRow.GMIC, TableRow.LOC_RANDOM: TableRow.RANDOM}
"""Rows that are another prediction of another row's weights (paper 3.2); every other row is trained as itself."""
UNDEFINED = Interval(value=None, low=None, high=None)


def training_run(config: RunConfig, variant: TableRow, seed: int) -> RunConfig:
    """The run that trains one row with one seed: a workspace below ours, with our store."""
    return _below(config, f"{variant.value}-seed-{seed}").model_copy(
        update={
            "model": network_of_row(config.model, variant),
            "train": config.train.model_copy(update={"seed": seed}),
        }
    )


def evaluation_run(config: RunConfig, row: TableRow, checkpoints: tuple[Path, ...]) -> RunConfig:
    """The run that evaluates one row: its models alone and together."""
    named = {"checkpoints": checkpoints, "ensemble": None, "read_as": row}
    return _below(config, f"row-{row.value}").model_copy(update={"evaluate": config.evaluate.model_copy(update=named)})


def row_checkpoints(config: RunConfig, row: TableRow, trained: Mapping[TableRow, list[TrainReport]]) -> tuple[Path, ...]:
    """The row's weights: those that the config names for it, else those of the row it was trained as."""
    source = TRAINED_AS.get(row, row)
    named = config.table1.checkpoints
    return named.get(row) or named.get(source) or tuple(report.checkpoint_path for report in trained[source])


def variants_to_train(config: RunConfig) -> list[TableRow]:
    """What must be trained for the rows that the config asks for, in the paper's order."""
    named = config.table1.checkpoints
    missing = {
        TRAINED_AS.get(row, row) for row in config.table1.rows if not (named.get(row) or named.get(TRAINED_AS.get(row, row)))
    }
    return [variant for variant in PAPER_AUROC if variant in missing]


@task(name="write-table1", cache_policy=NO_CACHE, persist_result=False)
def write_table1(config: RunConfig, splits: SplitReport, evaluated: dict[TableRow, EvaluationReport]) -> Table1Report:
    """Puts the rows together; leaves ``table1/table1.md`` and ``table1/report.json``."""
    folder = Workspace(config.workspace_dir).stage_dir("table1")
    gmic = evaluated.get(TableRow.GMIC)
    rows = tuple(
        Table1Row(
            variant=row,
            trained_as=TRAINED_AS.get(row, row),
            models=len(evaluated[row].models),
            model_sha256=tuple(member.sha256 for member in evaluated[row].models),
            by_finding={finding.value: _cell(config, row, finding, evaluated[row], gmic) for finding in FINDINGS},
        )
        for row in PAPER_AUROC
        if row in evaluated
    )
    any_row = next(iter(evaluated.values())).by_finding
    report = Table1Report(
        rows=rows,
        breasts={name: metrics.breasts for name, metrics in any_row.items()},
        positive_breasts={name: metrics.positive_breasts for name, metrics in any_row.items()},
        confidence=config.evaluate.confidence,
        resamples=config.evaluate.bootstrap_resamples,
        markdown_path=folder / "table1.md",
        provenance=provenance(config, splits.data_version, seed=config.evaluate.seed),
    )
    markdown = table1_markdown(report)
    write_atomically(report.markdown_path, markdown.encode())
    write_atomically(folder / "report.json", report.model_dump_json(indent=1).encode())
    show_markdown("table1", markdown, "Table 1 of the paper, and ours")
    return report


def table1_markdown(report: Table1Report) -> str:
    """The table, the tests against GMIC and the localisation, in words that stand without the code."""
    lines = [
        "Test AUROC of breasts: mean of the models (interval over patients) ± standard deviation over models. The paper's data",
        "and networks are not public: its columns are there to compare the order of the rows, not the values.",
        "",
        "| model | n | malignant, paper | malignant, here | benign, paper | benign, here | malignant AUPRC | benign AUPRC |",
        "|---|---|---|---|---|---|---|---|",
        *(_row_line(row) for row in report.rows),
        "",
        "| mean score of the models | malignant AUROC | less GMIC (DeLong, patients as clusters) | benign AUROC | less GMIC |",
        "|---|---|---|---|---|",
        *(_ensemble_line(row) for row in report.rows),
        "",
        "| localisation of GMIC | images | F1 | paper | precision | paper | recall | paper |",
        "|---|---|---|---|---|---|---|---|",
        *_localization_lines(report),
        "",
        "; ".join(f"{name}: {report.positive_breasts[name]} of {count} test breasts" for name, count in report.breasts.items())
        + f". Intervals: {report.confidence:.0%}, {report.resamples:,} resamples of patients, these models.",
        "Research use only.",
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------------------------------


def _below(config: RunConfig, name: str) -> RunConfig:
    folder = Workspace(config.workspace_dir).stage_dir("table1") / name
    return config.model_copy(update={"name": name, "workspace_dir": folder, "store_dir": exam_store_dir(config)})


def _cell(
    config: RunConfig, row: TableRow, finding: Finding, evaluated: EvaluationReport, gmic: EvaluationReport | None
) -> Table1Cell:
    metrics = evaluated.by_finding[finding.value]
    found = metrics.localization_intervals
    return Table1Cell(
        paper_auroc=PAPER_AUROC[row][finding],
        auroc=metrics.auroc_of_models or ModelSpread(mean=metrics.auroc, standard_deviation=None),
        auprc=metrics.auprc_of_models or ModelSpread(mean=metrics.auprc, standard_deviation=None),
        ensemble_auroc=metrics.auroc,
        minus_gmic=None if gmic is None or row is TableRow.GMIC else _difference(config, finding, evaluated, gmic),
        localization_images=metrics.localization_images,
        localization_f1=UNDEFINED if found is None else found.f1,
        localization_precision=UNDEFINED if found is None else found.precision,
        localization_recall=UNDEFINED if found is None else found.recall,
    )


def _difference(
    config: RunConfig, finding: Finding, evaluated: EvaluationReport, gmic: EvaluationReport
) -> AurocDifference | None:
    """Both rows scored the same test breasts in the same order: one store, one split."""
    bootstrap = Bootstrap(resamples=0, confidence=config.evaluate.confidence, seed=0)
    ours, theirs = (labelled(read_breast_scores(report), finding, BREAST) for report in (evaluated, gmic))
    return paired_difference(ours, theirs, bootstrap)


def _row_line(row: Table1Row) -> str:
    cells = [row.variant.value, str(row.models)]
    for finding in (Finding.MALIGNANT, Finding.BENIGN):
        cell = row.by_finding[finding.value]
        cells += [f"{cell.paper_auroc:.3f}", _spread_text(cell.auroc)]
    cells += [_spread_text(row.by_finding[finding.value].auprc) for finding in (Finding.MALIGNANT, Finding.BENIGN)]
    return "| " + " | ".join(cells) + " |"


def _ensemble_line(row: Table1Row) -> str:
    cells = [row.variant.value]
    for finding in (Finding.MALIGNANT, Finding.BENIGN):
        cell = row.by_finding[finding.value]
        less = cell.minus_gmic
        text = "-" if less is None else f"{less.difference:+.3f} ({less.low:+.3f} to {less.high:+.3f}), p = {less.p_value:.2g}"
        cells += [interval_text(cell.ensemble_auroc), text]
    return "| " + " | ".join(cells) + " |"


def _localization_lines(report: Table1Report) -> list[str]:
    lines = []
    shown = [(row, finding) for row in report.rows if row.variant is TableRow.GMIC for finding in PAPER_LOCALIZATION]
    for gmic, finding in shown:
        cell = gmic.by_finding[finding.value]
        if not cell.localization_images:
            lines.append(f"| {finding.value} | 0 | no test image has a mask | | | | | |")
            continue
        paper = PAPER_LOCALIZATION[finding]
        ours = (cell.localization_f1, cell.localization_precision, cell.localization_recall)
        pairs = " | ".join(f"{interval_text(one)} | {published:.3f}" for one, published in zip(ours, paper, strict=True))
        lines.append(f"| {finding.value} | {cell.localization_images} | {pairs} |")
    return lines


def _spread_text(found: ModelSpread) -> str:
    deviation = "" if found.standard_deviation is None else f" ± {found.standard_deviation:.3f}"
    return interval_text(found.mean) + deviation
