"""A metric is on the page because it exists: the tables are made from the reports' own fields."""

from __future__ import annotations

from mammo_tests.measures import every_measure, measured_titles
from schemas.reports.report import Interval
from tasks.adapters.pages.measures import measured_tables


def test_every_measured_field_has_its_row_with_its_value() -> None:
    """No field of any report of the evaluation is left out, whatever group it is in."""
    tables = list(measured_tables({"Malignant": every_measure()}, title="Breasts"))
    rows = {row.title: row.texts for table in tables for row in table.rows}
    assert set(measured_titles()) == rows.keys()
    assert rows["Breasts"] == ("1,071",) and rows["AUROC of exams"] == ("0.990 (0.980–1.000)",)
    assert rows["p"] == ("0.0321",) and rows["Saliency inside boxes"] == ("0.620 (0.610–0.630)",)
    assert rows["Log loss after"] == ("0.960",) and rows["Difference of AUROC"] == ("-0.031",)


def test_findings_stand_side_by_side_and_models_by_name() -> None:
    """One column for each finding; the models of a finding in a table of their own."""
    tables = {
        table.title: table
        for table in measured_tables({"Malignant": every_measure(), "Benign": every_measure()}, title="Breasts")
    }
    assert tables["Breasts"].columns == ("Malignant", "Benign")
    assert tables["Models, Malignant"].columns == tables["Minus ensemble, Malignant"].columns == ("seed 0",)
    assert "AUROC of models" in tables


def test_what_is_not_there_has_no_table_and_what_is_not_defined_says_so() -> None:
    """Without boxes there is no table of boxes; an AUROC of one class is named as not defined."""
    undefined = Interval(value=None, low=None, high=None)
    tables = {
        table.title: table for table in measured_tables({"Benign": every_measure(boxes=None, auroc=undefined)}, title="Breasts")
    }
    assert "Boxes" not in tables
    assert next(row.texts for row in tables["Breasts"].rows if row.title == "AUROC") == ("not defined",)
