"""The reader study as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gmic_model.reader_study.mrmc import CovarianceMethod
from gmic_model.reader_study.study import PAPER_NUMBERS
from schemas.reports.reader_study import MrmcComparison, MrmcTest, ReaderStudyReport, SystemResult
from schemas.reports.report import Interval
from tasks.adapters.scoring.metrics_table import p_text


def reader_study_text(report: ReaderStudyReport) -> str:
    """Summary beside the paper's numbers, readers, models, operating points, and the multi-reader comparison."""
    parts = [
        f"Reader study: {report.breasts:,} breasts of {report.exams:,} exams; {report.positive_breasts} breasts with cancer in "
        f"{report.positive_exams} exams; {len(report.readers)} readers, {len(report.systems)} models.",
        *(f"Note: {note}" for note in report.notes),
        f"Intervals: {report.confidence:.0%}, {report.resamples:,} bootstrap resamples of exams (seed {report.seed}), these "
        "readers; weights by DeLong; sensitivity, specificity, recall rate and PPV as in an evaluation, exams as clusters.",
        "",
        _table(("", "AUROC", "paper" if report.notes else "", "AUPRC"), _summary_rows(report)),
        _mean_sentences(report),
        "",
        _table(("reader", "AUROC", f"with {report.model}", "gain", "sens.", "spec."), _reader_rows(report)),
        f"Sensitivity, specificity: recall above probability {report.recall_above:g} (0.02 parts BI-RADS 3 from 4); the "
        "file holds no recall decisions.",
        "",
        _table(
            ("share of the reader", "mean AUROC of the hybrids"),
            [(f"{point.reader_weight:.2f}", interval_text(point.mean_auroc)) for point in report.weight_curve[::2]],
        ),
        "",
        _table(("model", "AUROC", "AUPRC"), [(one.name, *_areas(one)) for one in report.systems]),
        "",
        _table((f"{report.model}, threshold for", "sensitivity", "specificity", "recall rate", "PPV"), _point_rows(report)),
        "",
        "Obuchowski-Rockette, exams as cases, covariance by jackknife (DeLong in --json); difference of mean AUROC",
        _table(("comparison", "readers, cases", "difference", "df", "p"), _comparison_rows(report.comparisons)),
        "Research use only.",
    ]
    return "\n".join(part for part in parts)


def interval_text(interval: Interval) -> str:
    """``0.812 (0.701-0.903)``, or why there is none."""
    if interval.value is None:
        return "not defined (one class only)"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.4f} (interval not defined: too few exams)"
    return f"{interval.value:.4f} ({interval.low:.3f}-{interval.high:.3f})"


# ---------------------------------------------------------------------------------------------------------------------


def _areas(system: SystemResult) -> tuple[str, str]:
    return interval_text(system.auroc), interval_text(system.auprc)


def _summary_rows(report: ReaderStudyReport) -> list[tuple[str, ...]]:
    best = next((result for result in report.readers if result.reader == report.best_reader), None)
    best_hybrid = next((result for result in report.readers if result.reader == report.best_hybrid), None)
    model = next(system for system in report.systems if system.name == report.model)
    weight = f"{report.hybrid_weight:g} x reader + {1.0 - report.hybrid_weight:g} x model"

    def paper(key: str) -> str:
        # The paper's numbers stand beside its own file only.
        return f"{PAPER_NUMBERS[key]:.3f}" if report.notes else ""

    rows: list[tuple[str, ...]] = [("mean of readers", interval_text(report.mean_reader.auroc), paper("mean_reader"),
                                    interval_text(report.mean_reader.auprc))]  # fmt: skip
    if best is not None:
        rows.append(
            (f"best reader, {best.reader} *", interval_text(best.auroc), paper("best_reader"), interval_text(best.auprc))
        )
    rows.append((f"model {report.model}", interval_text(model.auroc), paper("model"), interval_text(model.auprc)))
    rows.append((f"mean of hybrids, {weight}", interval_text(report.mean_hybrid.auroc), paper("mean_hybrid"),
                 interval_text(report.mean_hybrid.auprc)))  # fmt: skip
    if best_hybrid is not None:
        rows.append((f"best hybrid, {best_hybrid.reader} *", interval_text(best_hybrid.hybrid_auroc), "",
                     interval_text(best_hybrid.hybrid_auprc)))  # fmt: skip
    if report.best_weight is not None:
        share = report.best_weight.reader_weight
        name = f"best weight, {share:g} x reader + {1.0 - share:g} x model *"
        rows.append((name, interval_text(report.best_weight.mean_auroc), "", ""))
    rows.append(
        (report.reader_panel.name, interval_text(report.reader_panel.auroc), "", interval_text(report.reader_panel.auprc))
    )
    rows.append(
        (report.panel_hybrid.name, interval_text(report.panel_hybrid.auroc), "", interval_text(report.panel_hybrid.auprc))
    )
    return rows


def _mean_sentences(report: ReaderStudyReport) -> str:
    lines = ["* chosen after seeing the scores: optimistic."]
    for name, tests in report.mrmc_means.items():
        shown = next(iter(_shown(tests)), None)
        if shown is not None:
            lines.append(
                f"Mean AUROC of {name}, {shown.inference} (Obuchowski-Rockette): "
                f"{shown.difference:.4f} ({shown.low:.3f}-{shown.high:.3f})"
            )
    return "\n".join(lines)


def _reader_rows(report: ReaderStudyReport) -> list[tuple[str, ...]]:
    rows = [
        (
            result.reader,
            interval_text(result.auroc),
            interval_text(result.hybrid_auroc),
            interval_text(result.hybrid_gain),
            _rate(result.sensitivity),
            _rate(result.specificity),
        )
        for result in report.readers
    ]
    mean = (_rate(report.readers_mean_sensitivity), _rate(report.readers_mean_specificity))
    return [*rows, ("mean", interval_text(report.mean_reader.auroc), interval_text(report.mean_hybrid.auroc), "", *mean)]


def _point_rows(report: ReaderStudyReport) -> list[tuple[str, ...]]:
    return [
        (
            f"{point.criterion} {point.target:.3f}" + (f" ({point.basis})" if point.basis else ""),
            *(interval_text(rate) for rate in (point.sensitivity, point.specificity, point.recall_rate)),
            interval_text(point.positive_predictive_value),
        )
        for point in report.model_points
    ]


def _comparison_rows(comparisons: Sequence[MrmcComparison]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for comparison in comparisons:
        for index, test in enumerate(_shown(comparison.tests)):
            freedom = "normal" if test.degrees_of_freedom is None else f"{test.degrees_of_freedom:.1f}"
            rows.append(
                (
                    f"{comparison.first} - {comparison.second}" if index == 0 else "",
                    test.inference,
                    f"{test.difference:+.4f} ({test.low:+.3f} to {test.high:+.3f})",
                    freedom,
                    p_text(test.p_value, least=0.0),
                )
            )
    return rows or [("not defined", "too few exams of one class, or one reader", "", "", "")]


def _shown(tests: Iterable[MrmcTest]) -> list[MrmcTest]:
    return [test for test in tests if test.covariance == CovarianceMethod.JACKKNIFE.value]


def _rate(rate: Interval) -> str:
    if rate.value is None:
        return "n.d."
    return (
        f"{rate.value:.3f}" if rate.low is None or rate.high is None else f"{rate.value:.3f} ({rate.low:.2f}-{rate.high:.2f})"
    )


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)]
    return "\n".join([lines[0], "-" * max(len(line) for line in lines), *lines[1:]])
