"""Objects that lie beside screening mammograms in an archive: each is recognised by a rule, not by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.mammograms import Edit, inspect, modifier, setting, view_code, write
from schemas.errors import GateRejection
from schemas.exam import Acquisition, ImageRecord

TOMO, FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.13.1.3", "1.2.840.10008.5.1.4.1.1.1.2.1"
CT, CAPTURE, MULTI_CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.3"


def inspected(folder: Path, edit: Edit) -> ImageRecord:
    """The record of an edited sound file."""
    return inspect(write(folder / "a.dcm", edit=edit))


REFUSED: dict[str, tuple[Edit, set[str]]] = {
    "tomosynthesis": (setting(SOPClassUID=TOMO, NumberOfFrames="60"), {"K01", "X02"}),
    "one tomosynthesis slice as a mammogram": (setting(ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS"]), {"K01"}),
    "a tomosynthesis projection as a mammogram": (setting(ImageType=["ORIGINAL", "PRIMARY", "TOMO_PROJ", "LEFT"]), {"K01"}),
    "a slice by its series alone": (setting(SeriesDescription="L CC Tomosynthesis Reconstruction"), {"K01"}),
    "a projection by its series alone": (setting(SeriesDescription="L CC Tomosynthesis Projection"), {"K01"}),
    "slices by another maker's word": (setting(SeriesDescription="ROUTINE3D_SLAB MLO"), {"K01"}),
    "slices of a word in two": (setting(SeriesDescription="R CC Tomo-Synthesis slices"), {"K01"}),
    "tomosynthesis stored as CT": (setting(SOPClassUID=CT, NumberOfFrames="60"), {"K04", "X02"}),
    "tomosynthesis stored as secondary capture": (setting(SOPClassUID=MULTI_CAPTURE, NumberOfFrames="60"), {"K02", "X02"}),
    "a secondary capture": (setting(SOPClassUID=CAPTURE), {"K02"}),
    "an unprocessed image": (
        setting(SOPClassUID=FOR_PROCESSING, PresentationIntentType="FOR PROCESSING"), {"K03", "K06"},
    ),
    "an unprocessed image under the processed class": (setting(PresentationIntentType="FOR PROCESSING"), {"K06"}),
    "a multi-frame mammogram": (setting(NumberOfFrames="2"), {"X02"}),
    "spot compression": (modifier("399055006"), {"V05"}),
    "spot compression, retired code": (modifier("R-102D7"), {"V05"}),
    "magnification": (modifier("399163009"), {"V05"}),
    "magnification, retired code": (modifier("R-102D6"), {"V05"}),
    "tangential": (modifier("399110001"), {"V05"}),
    "magnification by its factor alone": (setting(EstimatedRadiographicMagnificationFactor="1.8"), {"V07"}),
    "a specimen": (view_code("127457009"), {"V01"}),
    "a lateral view": (view_code("399260004"), {"V01"}),
    "an exaggerated view": (view_code("399192008"), {"V01"}),
    "a stereotactic scout": (setting(ImageType=["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]), {"K09"}),
    "a test image": (setting(QualityControlImage="YES"), {"K08"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(REFUSED))
def test_it_is_refused_by_its_rule(tmp_path: Path, kind: str) -> None:
    """Exactly the rules that name it."""
    edit, codes = REFUSED[kind]
    with pytest.raises(GateRejection) as caught:
        inspected(tmp_path, edit)
    assert set(caught.value.reason_codes) == codes


WARNED: dict[str, tuple[Edit, str, Acquisition]] = {
    "synthetic, by the standard's word": (
        setting(ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]), "K07", Acquisition.SYNTHETIC_2D,
    ),
    "synthetic, by a maker's name": (setting(SeriesDescription="R CC Intelligent 2D"), "K07", Acquisition.SYNTHETIC_2D),
    "synthetic, of slices": (
        setting(SeriesDescription="R CC C-View of tomosynthesis slices"), "K07", Acquisition.SYNTHETIC_2D,
    ),
    "implant displaced": (modifier("399209000"), "V06", Acquisition.FFDM),
    "implant displaced, retired code": (modifier("R-102D5"), "V06", Acquisition.FFDM),
    "an implant": (setting(BreastImplantPresent="YES"), "V09", Acquisition.FFDM),
    "a spot paddle": (setting(PaddleDescription="SPOT 9CM"), "V10", Acquisition.FFDM),
    "a partial view": (setting(PartialView="YES"), "V08", Acquisition.FFDM),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(WARNED))
def test_it_is_accepted_and_marked(tmp_path: Path, kind: str) -> None:
    """One warning, and the acquisition that a report counts by: synthetic images never mix in unseen."""
    edit, code, acquisition = WARNED[kind]
    record = inspected(tmp_path, edit)
    assert (record.gate_warnings, record.acquisition) == ((code,), acquisition)


@pytest.mark.parametrize(
    "series",
    [
        "L MLO Combo 2D/Tomo", "MAMOGRAFIA 2D PROYECCION CC", "Mammographie 2D 2 projections", "2D Projektion MLO",
        "Mamografia bilateral 2D + tomo proyecciones CC y MLO",
    ],
)  # fmt: skip
def test_a_mammogram_of_a_tomosynthesis_protocol_is_plain(tmp_path: Path, series: str) -> None:
    """Its series is named for the exam's protocol, or for its views; nothing says that it is a slice."""
    record = inspected(tmp_path, setting(SeriesDescription=series, StudyDescription="Tomosynthesis slices"))
    assert (record.gate_warnings, record.acquisition) == ((), Acquisition.FFDM)
