"""One line of the labels file: what each field says of the breast, and that empty is not known."""

from __future__ import annotations

import pytest

from schemas.errors import LabelError
from schemas.exam import BreastLabel
from tasks.adapters.labels.breast_label import LabelLine, is_study_uid, parse_date, parse_label


def label_of(**values: str) -> BreastLabel:
    """What a line says that holds these values."""
    return parse_label(LabelLine(number=2, values={"label_source": "followup", **values}))


@pytest.mark.parametrize(("text", "known"), [("", None), ("0", False), ("1", True), ("0.0", False), ("1.0", True)])
def test_empty_stays_unknown(text: str, known: bool | None) -> None:
    """Empty is not known, never absent; 1.0 is how pandas writes 1 beside an empty field."""
    label = label_of(benign=text, malignant=text)
    assert (label.benign, label.malignant, label.birads) == (known, known, None)


@pytest.mark.parametrize(("text", "category"), [("0", 0), ("6", 6), ("4A", 4), ("4c", 4), ("3.0", 3), ("", None)])
def test_birads_categories_are_read(text: str, category: int | None) -> None:
    """BI-RADS 4 comes with and without its letter."""
    assert label_of(birads=text).birads == category


def test_density_and_finding_type_are_read_where_they_are_given() -> None:
    """Density by letter or number; a finding type of the schema; empty is not known."""
    for values, density, finding_type in (
        ({"density": "C", "finding_type": "mass"}, "c", "mass"),
        ({"density": "density 4"}, "d", None),
        ({"density": "1.0"}, "a", None),
        ({"finding_type": "Calcification"}, None, "calcification"),
    ):
        label = label_of(**values)
        assert (label.density, label.finding_type) == (density, finding_type)
    for column, value in (("density", "e"), ("finding_type", "tumour CANARY")):
        with pytest.raises(LabelError, match=rf"line 2, column {column}") as refused:
            label_of(**{column: value})
        assert "CANARY" not in str(refused.value)


def test_rounded_numbers_and_days_before_mammography_are_no_values() -> None:
    """A spreadsheet's 1.2E+15 names no exam, and a date of 1899 is one that somebody left empty."""
    assert is_study_uid("1.2.840") and not is_study_uid("1.2E+15")
    assert parse_date(LabelLine(number=2, values={}), "study_date") is None
    with pytest.raises(LabelError, match="column study_date"):
        parse_date(LabelLine(number=2, values={"study_date": "1899-12-31"}), "study_date")
