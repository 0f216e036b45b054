"""Every measured field of a report as tables: a metric is on the page because it exists (``schemas.reports.report.measured``).

The tables are made from the fields themselves. What a field is called and what it means are said where it is declared.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from schemas.reports.report import Interval, Report
from tasks.adapters.pages.render import known_text


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRow:
    """One measure.

    Attributes:
        title: What it is called.
        meaning: A sentence on what it says.
        texts: Its value in each column, in words.
    """

    title: str
    meaning: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTable:
    """The measured fields of one kind of report, a column for each finding or model."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[MeasuredRow, ...]


def measured_tables(report_by_column: Mapping[str, Report], *, title: str, of: str = "") -> Iterator[MeasuredTable]:
    """Tables of reports of one kind beside each other, then of the groups of numbers inside them, then of their lists.

    Args:
        report_by_column: Reports of one class by the heading of their column.
        title: Of the first table.
        of: What the titles of all these tables end with: the finding whose models they are of.
    """
    if not report_by_column:
        return
    columns = tuple(report_by_column)
    kind = type(next(iter(report_by_column.values())))
    if rows := tuple(_rows(kind, list(report_by_column.values()))):
        yield MeasuredTable(title=f"{title}{of}", columns=columns, rows=rows)
    for name, field in kind.model_fields.items():
        inner = _report_type(field.annotation)
        if inner is None or inner is Interval or _is_measured(field):
            continue
        words = name.replace("_", " ").capitalize().replace("Auroc", "AUROC").replace("Auprc", "AUPRC")
        for grouped, member_of in _groups(name, report_by_column):
            yield from measured_tables(grouped, title=words, of=f"{of}{member_of}")


def count_table(report: Report, *, title: str, column: str) -> MeasuredTable:
    """The whole numbers of a report that counts: every one has its line, whether or not a sentence elsewhere tells of it."""
    rows = tuple(
        MeasuredRow(
            title=name.replace("_", " ").capitalize(),
            meaning=str(field.description or ""),
            texts=(f"{getattr(report, name):,}",),
        )
        for name, field in type(report).model_fields.items()
        if field.annotation is int
    )
    return MeasuredTable(title=title, columns=(column,), rows=rows)


def _groups(name: str, report_by_column: Mapping[str, Report]) -> Iterator[tuple[dict[str, Report], str]]:
    """The sub-reports of a field: one group of a single report per column; of a list that names its members, one per column."""
    found = {column: getattr(report, name) for column, report in report_by_column.items()}
    single = {column: value for column, value in found.items() if isinstance(value, Report)}
    if single:
        yield single, ""
    for column, values in found.items():
        if isinstance(values, tuple) and values and all(hasattr(value, "name") for value in values):
            yield {value.name: value for value in values}, f", {column}"


def _rows(kind: type[Report], reports: list[Report]) -> Iterator[MeasuredRow]:
    for name, field in kind.model_fields.items():
        if _is_measured(field):
            digits = _extra(field)["digits"]
            texts = tuple(_text(getattr(report, name), digits) for report in reports)
            yield MeasuredRow(title=str(field.title), meaning=str(field.description), texts=texts)


def _is_measured(field: FieldInfo) -> bool:
    return "digits" in _extra(field)


def _extra(field: FieldInfo) -> dict[str, Any]:
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _report_type(annotation: Any) -> type[Report] | None:
    """The report class in an annotation: itself, optional, or the member of a tuple."""
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return next((found for part in get_args(annotation) if (found := _report_type(part)) is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Report) else None


def _text(value: Interval | float | int | None, digits: int) -> str:
    if isinstance(value, Interval):
        if value.value is None:
            return known_text(None, unknown="not defined")
        ends = "" if value.low is None or value.high is None else f" ({value.low:.{digits}f}–{value.high:.{digits}f})"
        return f"{value.value:.{digits}f}{ends}"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return known_text(None if value is None else f"{value:,}", unknown="not defined")
