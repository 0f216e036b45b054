"""A plan of precision as a table for the terminal."""

from __future__ import annotations

from schemas.reports.precision import PlannedInterval, PrecisionReport

_HEADINGS = ("measure", "foreseen", "interval", "width", "patients with", "patients", "breasts")


def precision_text(report: PrecisionReport) -> str:
    """What is supposed, and one line for each planned interval."""
    lines = [_HEADINGS, *(_line(row) for row in report.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    alike = f", {report.likeness:g} alike" if report.breasts_per_patient > 1 else ""
    return "\n".join(
        [
            f"Supposed: {report.prevalence:.4g} of the patients have the finding, each in one breast; "
            f"{report.breasts_per_patient} breast{'s' if report.breasts_per_patient > 1 else ''} a patient{alike}.",
            f"Intervals: {report.confidence:.0%}, as an evaluation makes them.",
            "",
            *("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines),
            "",
            "A study of that size has such an interval on average if the value is as foreseen; half of the studies have a",
            "wider one. A threshold that is chosen on the same breasts adds to it. Research use only.",
        ]
    )


def _line(row: PlannedInterval) -> tuple[str, ...]:
    return (
        row.measure,
        f"{row.value:g}",
        f"{row.low:.3f}-{row.high:.3f}",
        f"{row.high - row.low:.3f}" + ("" if row.wanted_width is None else f" (at most {row.wanted_width:g})"),
        f"{row.positive_patients:,}",
        f"{row.patients:,}",
        f"{row.breasts:,}",
    )
