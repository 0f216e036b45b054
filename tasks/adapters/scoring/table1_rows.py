"""Table 1 in cells and in words: the rows' evaluations beside the paper's numbers, and each row's test against GMIC."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.config.network import TableRow
from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.exam import FINDINGS, Finding
from schemas.reports.evaluation import AurocDifference, EvaluationReport, ModelSpread
from schemas.reports.report import Interval
from schemas.reports.table1 import PAPER_AUROC, PAPER_LOCALIZATION, TRAINED_AS, Table1Cell, Table1Report, Table1Row
from tasks.adapters.models.model_files import model_names
from tasks.adapters.scoring.metrics_table import SHORT, difference_text, interval_text, patients_sentence
from tasks.adapters.scoring.model_ranking import paired_difference
from tasks.adapters.scoring.score_tables import BREAST, labelled, read_breast_scores

UNDEFINED = Interval(value=None, low=None, high=None)


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
        *_localizing_weights(report),
        "; ".join(f"{name}: {_counted(report, name)}" for name in report.breasts)
        + f". Intervals: {report.confidence:.0%}, over patients, these models.",
        *(f"{row.variant.value}: weights {', '.join(sha256[:SHORT] for sha256 in row.model_sha256)}." for row in report.rows),
        *_patients_lines(report),
        "Research use only.",
    ]
    return "\n".join(lines) + "\n"


def table1_rows(
    config: RunConfig, evaluated: Mapping[TableRow, EvaluationReport], localized: EvaluationReport | None
) -> tuple[Table1Row, ...]:
    """The rows that were evaluated, in the paper's order.

    Args:
        config: The run.
        evaluated: By row.
        localized: Of GMIC's weights that point best; None = the row's own.
    """
    gmic = evaluated.get(TableRow.GMIC)
    pointing = {**evaluated, **({} if localized is None else {TableRow.GMIC: localized})}
    return tuple(
        Table1Row(
            variant=row,
            trained_as=TRAINED_AS.get(row, row),
            models=len(evaluated[row].models),
            model_sha256=tuple(member.sha256 for member in evaluated[row].models),
            localization_sha256=localizing_sha256(pointing[row]),
            by_finding={
                finding.value: table1_cell(config, row, finding, evaluated[row], gmic, pointing[row]) for finding in FINDINGS
            },
            patients=evaluated[row].patients,
        )
        for row in PAPER_AUROC
        if row in evaluated
    )


def localizing_sha256(evaluated: EvaluationReport) -> str:
    """Of the weights whose saliency an evaluation measured; nothing where it does not say."""
    by_name = dict(zip(model_names(evaluated.models), evaluated.models, strict=True))
    found = by_name.get(evaluated.localization_model)
    return "" if found is None else found.sha256


def table1_cell(
    config: RunConfig,
    row: TableRow,
    finding: Finding,
    evaluated: EvaluationReport,
    gmic: EvaluationReport | None,
    localized: EvaluationReport,
) -> Table1Cell:
    """One row's numbers for one finding; there is no test against GMIC in its own row, or where GMIC was not evaluated.

    Args:
        config: The run.
        row: The row.
        finding: The finding.
        evaluated: The row's weights, which rank breasts.
        gmic: The row GMIC's.
        localized: Those of the same trainings that point best.
    """
    metrics, where = evaluated.by_finding[finding.value], localized.by_finding[finding.value]
    found = where.localization_intervals
    return Table1Cell(
        paper_auroc=PAPER_AUROC[row][finding],
        auroc=metrics.auroc_of_models or ModelSpread(mean=metrics.auroc, standard_deviation=None),
        auprc=metrics.auprc_of_models or ModelSpread(mean=metrics.auprc, standard_deviation=None),
        ensemble_auroc=metrics.auroc,
        minus_gmic=None if gmic is None or row is TableRow.GMIC else _difference(config, finding, evaluated, gmic),
        localization_images=where.localization_images,
        localization_f1=UNDEFINED if found is None else found.f1,
        localization_precision=UNDEFINED if found is None else found.precision,
        localization_recall=UNDEFINED if found is None else found.recall,
    )


def require_same_breasts(evaluated: Mapping[TableRow, EvaluationReport]) -> None:
    """Rows that leave out different patients, because their weights had seen these, cannot stand in one table.

    Raises:
        StoreError: They were judged by different patients.
    """
    breasts = {
        row: frozenset(read_breast_scores(report)[list(BREAST)].itertuples(index=False, name=None))
        for row, report in evaluated.items()
    }
    if len(set(breasts.values())) > 1:
        raise StoreError(
            "The rows of Table 1 were judged by different patients",
            expected="the same test breasts for each row",
            got=", ".join(f"{row.value} {len(found)} breasts" for row, found in breasts.items()),
            remedy="name weights that were trained on the same splits, in table1.checkpoints",
        )


def _patients_lines(report: Table1Report) -> list[str]:
    """What is known of the patients, once where it is the same for all rows."""
    rows_by_sentence: dict[str, list[str]] = {}
    for row in report.rows:
        if row.patients is not None:
            rows_by_sentence.setdefault(patients_sentence(row.patients), []).append(row.variant.value)
    if len(rows_by_sentence) == 1:
        return list(rows_by_sentence)
    return [f"{', '.join(rows)}: {sentence}" for sentence, rows in rows_by_sentence.items()]


def _difference(
    config: RunConfig, finding: Finding, evaluated: EvaluationReport, gmic: EvaluationReport
) -> AurocDifference | None:
    """Both rows scored the same test breasts in the same order: one store, one split."""
    ours, theirs = (labelled(read_breast_scores(report), finding, BREAST) for report in (evaluated, gmic))
    return paired_difference(ours, theirs, config.evaluate.confidence)


def _counted(report: Table1Report, name: str) -> str:
    said = f"{report.positive_breasts[name]} of {report.breasts[name]} test breasts"
    if name not in report.test_patients:
        return said
    return f"{said}, {report.positive_patients[name]} of {report.test_patients[name]} patients"


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
        text = "-" if less is None else difference_text(less)
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


def _localizing_weights(report: Table1Report) -> list[str]:
    shas = [row.localization_sha256[:12] for row in report.rows if row.variant is TableRow.GMIC and row.localization_sha256]
    return (
        [f"Localisation: of weights {sha}, which have the best malignant F1 on tuning (paper 3.3).", ""]
        if (sha := next(iter(shas), ""))
        else []
    )


def _spread_text(found: ModelSpread) -> str:
    deviation = "" if found.standard_deviation is None else f" ± {found.standard_deviation:.3f}"
    return interval_text(found.mean) + deviation
