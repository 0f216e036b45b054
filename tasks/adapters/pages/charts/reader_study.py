"""The reader study's figure as SVG: ROC curves with each reader's point (paper, Figure 3), and the hybrid's weight curve."""

from __future__ import annotations

from schemas.reports.reader_study import ReaderStudyReport
from tasks.adapters.pages.charts.frame import Chart, Frame, Series
from tasks.adapters.pages.render import render_template

_WIDTH, _HEIGHT = 560.0, 560.0
_LEGEND_LINE = 19.0
_CURVES = {"mean reader": "mean-reader", "best reader": "best-reader", "model": "model", "mean hybrid": "hybrid"}


def render_figure(report: ReaderStudyReport) -> str:
    """Both charts in one SVG file that holds its own style; opens from disk, loads nothing."""
    charts = [roc_figure(report), weight_figure(report)]
    return render_template("reader_study.svg.jinja", charts=charts, report=report, legend_line=_LEGEND_LINE)


def roc_figure(report: ReaderStudyReport) -> Chart:
    """Figure 3: model, mean reader, best reader, mean hybrid; every reader thin, with the point of their recalls."""
    frame = Frame(width=_WIDTH, height=_HEIGHT, x_limits=(0.0, 1.0), y_limits=(0.0, 1.0))
    curves = {curve.name: curve for curve in report.curves}
    area = {
        "model": report_value(report, report.model),
        "mean reader": report.mean_reader.auroc.value,
        "best reader": max((result.auroc.value or 0.0 for result in report.readers), default=0.0),
        "mean hybrid": report.mean_hybrid.auroc.value,
    }
    titles = {"model": report.model, "best reader": f"best reader, {report.best_reader}"}
    series = [
        frame.series("reader", curve.false_positive_rate, curve.true_positive_rate, text="")
        for curve in report.curves
        if curve.name not in _CURVES
    ]
    if series:
        series[0] = Series(kind="reader", lines=series[0].lines, dots=(), text=f"each of {len(report.readers)} readers")
    series += [
        frame.series(
            kind,
            curves[name].false_positive_rate,
            curves[name].true_positive_rate,
            text=f"{titles.get(name, name)} ({area[name]:.3f})",
        )
        for name, kind in _CURVES.items()
        if name in curves
    ]
    points = [
        (frame.x(1.0 - result.specificity.value), frame.y(result.sensitivity.value))
        for result in report.readers
        if result.specificity.value is not None and result.sensitivity.value is not None
    ]
    above = f"readers' recalls (probability above {report.recall_above:g})"
    series.append(Series(kind="reader-point", lines=(), dots=tuple(points), text=above))
    return frame.chart(
        chart_id="reader-roc",
        title="Reader study: ROC",
        description="; ".join(one.text for one in series if one.text) + ".",
        x_title="False positive rate (1 − specificity)",
        y_title="True positive rate (sensitivity)",
        series=series,
        guides=((frame.points([0.0, 1.0], [0.0, 1.0]), "chance"),),
    )


def weight_figure(report: ReaderStudyReport) -> Chart:
    """Mean AUROC of the hybrids by the reader's share, with its interval over cases."""
    ends = [(point.mean_auroc.low, point.mean_auroc.high) for point in report.weight_curve]
    known = [end for pair in ends for end in pair if end is not None]
    known += [point.mean_auroc.value for point in report.weight_curve if point.mean_auroc.value is not None]
    # Tenths around everything drawn.
    low, high = (int(10 * min(known)) / 10, -int(-10 * max(known) // 1) / 10) if known else (0.0, 1.0)
    frame = Frame(width=_WIDTH, height=_HEIGHT, x_limits=(0.0, 1.0), y_limits=(low, min(1.0, high)))
    weights = [point.reader_weight for point in report.weight_curve]
    band = f"{report.confidence:.0%} interval over cases"
    best = report.best_weight
    return frame.chart(
        chart_id="hybrid-weight",
        title="Hybrid: share of the reader",
        description="Mean over readers of the AUROC of share x reader + the rest x model.",
        x_title="Share of the reader (0 = model alone)",
        y_title="Mean AUROC over readers",
        series=[
            frame.series("bound", weights, [low_end for low_end, _ in ends], text=band),
            frame.series("bound", weights, [high_end for _, high_end in ends], text=""),
            frame.series("hybrid", weights, [point.mean_auroc.value for point in report.weight_curve], text="mean AUROC"),
        ],
        y_values=[round(low + 0.02 * step, 2) for step in range(round((min(1.0, high) - low) / 0.02) + 1)],
        marker=None
        if best is None or best.mean_auroc.value is None
        else (best.reader_weight, f"best {best.mean_auroc.value:.3f} at {best.reader_weight:g}"),
    )


def report_value(report: ReaderStudyReport, name: str) -> float:
    """AUROC of a system by name; 0 where not defined, as no curve is drawn then."""
    return next((system.auroc.value or 0.0 for system in report.systems if system.name == name), 0.0)
