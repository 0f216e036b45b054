"""Mammography CAD SR keeps its template's rows, with findings and without, and refers to the exam's images only."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from mammo_tests.report_rows import TID_4000, broken_rows
from mammo_tests.results import VIEWS, objects_of, referenced, sop_uid
from schemas.config.pacs import ResultKind
from tasks.adapters.results.objects.result_objects import ResultObject


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ResultObject:
    """Of an exam of which two views have a finding."""
    objects, _ = objects_of(tmp_path_factory.mktemp("exam"), kinds=(ResultKind.CAD,))
    return objects[0]


def test_the_rows_of_the_template_are_kept(report: ResultObject) -> None:
    """TID 4000, row by row and in its order; every view is in the library, and two have a finding on themselves."""
    assert broken_rows(report.dataset, TID_4000, in_order=True) == []
    assert referenced(report.dataset) == {sop_uid(*view) for view in VIEWS}
    findings = report.dataset.ContentSequence[2].ContentSequence
    places = [one.ContentSequence[1].ContentSequence[-1].ContentSequence[0].ReferencedContentItemIdentifier for one in findings]
    assert [list(place) for place in places] == [[1, 2, 1], [1, 2, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda items: items.pop(0),
        lambda items: items.append(items[4]),
        lambda items: items.insert(0, items.pop(3)),
        lambda items: items[1].ContentSequence[0].ContentSequence.pop(0),
        lambda items: setattr(
            items[3].ContentSequence[0].ContentSequence[0].ContentSequence[-1], "ReferencedContentItemIdentifier", [1, 3, 1]
        ),
    ],
    ids=["taken out", "doubled", "moved", "of an image taken out", "leads elsewhere"],
)
def test_a_broken_row_is_found(report: ResultObject, spoil: Callable[[list[Dataset]], object]) -> None:
    """The test above can fail."""
    broken = pydicom.dcmread(io.BytesIO(report.content))
    spoil(broken.ContentSequence)
    assert broken_rows(broken, TID_4000, in_order=True) != []


def test_no_finding_is_a_result(tmp_path: Path) -> None:
    """Low scores make a report "without findings", which keeps the rows too."""
    (made,), _ = objects_of(
        tmp_path,
        views=VIEWS[:1],
        change=lambda view: replace(view, scores={"benign": 0.0, "malignant": 0.1}),
        kinds=(ResultKind.CAD,),
    )
    assert made.dataset.ContentSequence[2].ConceptCodeSequence[0].CodeValue == "111241"
    assert broken_rows(made.dataset, TID_4000, in_order=True) == []
