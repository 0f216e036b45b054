"""The reader study's figure as one SVG file that holds its own style."""

from __future__ import annotations

from schemas.reports.reader_study import ReaderStudyReport
from tasks.adapters.pages.charts.reader_study import _LEGEND_LINE, roc_figure, weight_figure
from tasks.adapters.pages.render import render_template


def render_figure(report: ReaderStudyReport) -> str:
    """Both charts in one SVG file that holds its own style; opens from disk, loads nothing."""
    charts = [roc_figure(report), weight_figure(report)]
    return render_template("reader_study.svg.jinja", charts=charts, report=report, legend_line=_LEGEND_LINE)
