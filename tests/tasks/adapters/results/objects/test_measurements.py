"""The TID 1500 report keeps its template's rows, and says of each breast the mean of its own views."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.report_rows import TID_1500, broken_rows
from mammo_tests.results import VIEWS, numeric_values, objects_of, referenced, sop_uid
from schemas.config.pacs import ResultKind


def test_the_rows_of_the_template_are_kept(tmp_path: Path) -> None:
    """Row by row; it refers to the exam's images only, and each breast's score stands on each of its views."""
    (made,), _ = objects_of(tmp_path, kinds=(ResultKind.MEASUREMENTS,))
    assert broken_rows(made.dataset, TID_1500, in_order=False) == []
    assert referenced(made.dataset) == {sop_uid(*view) for view in VIEWS}
    assert sorted(numeric_values(made.dataset, "111047")) == ["60.0", "60.0", "70.0", "70.0"]  # of 0.8, 0.6 and of 0.7, 0.5


def test_one_side_has_no_numbers_of_the_other(tmp_path: Path) -> None:
    """The report of a right breast alone names no left one, and its score is the mean of its own views."""
    (made,), _ = objects_of(tmp_path, views=(VIEWS[0], VIEWS[2]), kinds=(ResultKind.MEASUREMENTS,))
    assert "Left breast" not in str(made.dataset)
    assert set(numeric_values(made.dataset, "111047")) == {"70.0"}  # the mean of 0.8 and 0.6
