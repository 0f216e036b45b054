"""Objects that lie beside screening mammograms in an archive: each is recognised by a rule, not by accident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from schemas.errors import GateRejection
from schemas.exam import Acquisition, ImageRecord
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.gate.admission import inspect_header
from tasks.adapters.pseudonyms import Pseudonyms

WriteSound = Callable[..., Path]
Edit = Callable[[pydicom.Dataset], object]

TOMO, FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.13.1.3", "1.2.840.10008.5.1.4.1.1.1.2.1"
CT, CAPTURE, MULTI_CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.3"


def setting(**values: object) -> Edit:
    """An edit that sets attributes."""
    return lambda dataset: [setattr(dataset, keyword, value) for keyword, value in values.items()]


def view(code: str) -> Edit:
    """An edit that makes another view of it, named by its code alone."""

    def edit(dataset: pydicom.Dataset) -> None:
        dataset.ViewCodeSequence[0].CodeValue = code
        del dataset.ViewPosition

    return edit


def modifier(code: str) -> Edit:
    """An edit that adds a view modifier."""

    def edit(dataset: pydicom.Dataset) -> None:
        item = pydicom.Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", "a modifier"
        dataset.ViewCodeSequence[0].ViewModifierCodeSequence = [item]

    return edit


def inspected(path: Path, edit: Edit) -> ImageRecord:
    """The record of an edited sound file."""
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path, enforce_file_format=False)
    return inspect_header(path, source_dir=path.parent, profile=profile_named("phantom"), pseudonyms=Pseudonyms(b"k" * 32))


REFUSED: dict[str, tuple[Edit, set[str]]] = {
    "tomosynthesis": (setting(SOPClassUID=TOMO, NumberOfFrames="60"), {"K01", "X02"}),
    "one tomosynthesis slice as a mammogram": (setting(ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS"]), {"K01"}),
    "a tomosynthesis projection as a mammogram": (setting(ImageType=["ORIGINAL", "PRIMARY", "TOMO_PROJ", "LEFT"]), {"K01"}),
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
    "a specimen": (view("127457009"), {"V01"}),
    "a lateral view": (view("399260004"), {"V01"}),
    "an exaggerated view": (view("399192008"), {"V01"}),
    "a stereotactic scout": (setting(ImageType=["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]), {"K09"}),
    "a test image": (setting(QualityControlImage="YES"), {"K08"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(REFUSED))
def test_it_is_refused_by_its_rule(tmp_path: Path, write_sound: WriteSound, kind: str) -> None:
    """Exactly the rules that name it."""
    edit, codes = REFUSED[kind]
    with pytest.raises(GateRejection) as caught:
        inspected(write_sound(tmp_path / "a.dcm"), edit)
    assert set(caught.value.reason_codes) == codes


WARNED: dict[str, tuple[Edit, str, Acquisition]] = {
    "synthetic, by the standard's word": (
        setting(ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]), "K07", Acquisition.SYNTHETIC_2D,
    ),
    "synthetic, by a maker's name": (setting(SeriesDescription="R CC Intelligent 2D"), "K07", Acquisition.SYNTHETIC_2D),
    "implant displaced": (modifier("399209000"), "V06", Acquisition.FFDM),
    "implant displaced, retired code": (modifier("R-102D5"), "V06", Acquisition.FFDM),
    "an implant": (setting(BreastImplantPresent="YES"), "V09", Acquisition.FFDM),
    "a spot paddle": (setting(PaddleDescription="SPOT 9CM"), "V10", Acquisition.FFDM),
    "a partial view": (setting(PartialView="YES"), "V08", Acquisition.FFDM),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(WARNED))
def test_it_is_accepted_and_marked(tmp_path: Path, write_sound: WriteSound, kind: str) -> None:
    """One warning, and the acquisition that a report counts by: synthetic images never mix in unseen."""
    edit, code, acquisition = WARNED[kind]
    record = inspected(write_sound(tmp_path / "a.dcm"), edit)
    assert (record.gate_warnings, record.acquisition) == ((code,), acquisition)
