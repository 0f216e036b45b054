"""Pictures for every viewer: where they lie, which views a panel shows, and what names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.results import VIEWS, objects_of, sop_uid
from schemas.config.pacs import ResultKind


def test_a_picture_has_side_orientation_and_spacing_of_its_source(tmp_path: Path) -> None:
    """The phantom is smaller than a picture may be: pixel for pixel the source's."""
    made, sources = objects_of(tmp_path, views=VIEWS[:2], kinds=(ResultKind.PICTURE,))
    for one, side, orientation in zip(made, "RL", (["P", "L"], ["A", "R"]), strict=True):
        assert one.dataset.Laterality == side and list(one.dataset.PatientOrientation) == orientation
        assert [float(part) for part in one.dataset.PixelSpacing] == pytest.approx([0.07, 0.07])
        assert one.dataset.BurnedInAnnotation == "NO"
    assert made[0].dataset.SeriesInstanceUID != made[1].dataset.SeriesInstanceUID  # laterality is the series'
    assert len(sources) == 2


def test_the_key_object_names_the_panel_and_the_panel_its_images(tmp_path: Path) -> None:
    """Four views beside each other, from which sources is said; the note refers to this one object."""
    (panel, note), _ = objects_of(tmp_path, kinds=(ResultKind.PANEL,))
    assert {str(item.ReferencedSOPInstanceUID) for item in panel.dataset.SourceImageSequence} == {
        sop_uid(*one) for one in VIEWS
    }
    assert panel.dataset.Columns > 4 * 301 and panel.dataset.Rows == 403
    (study,) = note.dataset.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert [str(item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence] == [panel.uid]
