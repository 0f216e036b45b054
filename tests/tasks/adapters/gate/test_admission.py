"""The acquisition gate: what it accepts, what it refuses and why, and that it never tells who the patient is."""

from __future__ import annotations

import logging
import os
import re
import time
import traceback
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mammo_tests.mammograms import (
    CANARIES,
    PSEUDONYMS,
    accept,
    both,
    breast,
    inspect,
    modifier,
    rejection,
    setting,
    storing,
    write,
)
from schemas.errors import FileDeferred, GateRejection
from schemas.exam import Acquisition, Laterality, Photometric, ViewPosition
from tasks.adapters.datasets.catalogue import PROFILES, profile_named
from tasks.adapters.gate.admission import inspect_header
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.rules.table import RULES, is_of_another_kind

STRICT = PROFILES["clinical-strict"]
REPOSITORY = Path(__file__).parents[4]
REFERENCE_DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.mark.parametrize("laterality", list(Laterality))
@pytest.mark.parametrize("view_position", list(ViewPosition))
def test_a_screening_view_is_accepted_without_warning(
    tmp_path: Path, laterality: Laterality, view_position: ViewPosition
) -> None:
    """What the phantom writes passes the strictest profile; the record holds pseudonyms and the pixels are unchanged."""
    path = write(tmp_path / "a.dcm", laterality=laterality, view_position=view_position)
    record, gated = accept(path)
    assert (record.laterality, record.view_position) == (laterality, view_position)
    assert (record.gate_warnings, gated.warnings, gated.background_median) == ((), (), 0.0)
    assert (record.rows_px, record.columns_px, record.bits_stored, record.pixel_spacing_mm) == (800, 800, 12, 0.07)
    assert record.patient_age_years == 90  # 95 in the header: 90 stands for 90 and above
    assert record.acquisition is Acquisition.FFDM
    assert record.patient_id == PSEUDONYMS.patient_id("CANARYID")
    assert record.exam_id == PSEUDONYMS.exam_id("2.25.8100")
    assert record.image_id == PSEUDONYMS.image_id("2.25.8300")
    assert record.exam_date == PSEUDONYMS.shifted_date(record.patient_id, date(2021, 5, 4))
    np.testing.assert_array_equal(gated.pixels_HW, breast(laterality))


def test_dates_that_are_none_are_none(tmp_path: Path) -> None:
    """00000000 and 00010101 are what de-identification leaves: no date rather than a wrong one."""
    for text in ("00000000", "00010101", "yesterday"):
        assert inspect(write(tmp_path / "a.dcm", edit=setting(StudyDate=text))).exam_date is None


def test_device_names_are_cleaned(tmp_path: Path) -> None:
    """Manufacturer is free text and reaches tables and pages: only harmless characters stay."""
    record = inspect(write(tmp_path / "a.dcm", edit=setting(Manufacturer="<img onerror=x>ACME\x1b[2J")))
    assert record.manufacturer == "img onerrorxACME2J"


def test_what_made_an_image_is_told_under_pseudonyms(tmp_path: Path) -> None:
    """Detector and institution; the institution's code goes before its name."""
    made = {"DetectorID": "CANARYNAME", "DetectorType": "SCINTILLATOR", "InstitutionName": "CANARYID House"}
    named = inspect(write(tmp_path / "a.dcm", edit=setting(**made)))
    assert named.detector_id == PSEUDONYMS.detector_id("CANARYNAME") and named.detector_type == "SCINTILLATOR"
    assert named.institution_id == PSEUDONYMS.institution_id("CANARYID House")
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "H1", "99LOCAL", "CANARYNAME"
    coded = inspect(write(tmp_path / "b.dcm", edit=setting(**made, InstitutionCodeSequence=[code])))
    assert coded.institution_id == PSEUDONYMS.institution_id("99LOCAL H1")
    assert not any(canary in repr((named, coded)) for canary in CANARIES)
    plain = inspect(write(tmp_path / "c.dcm"))
    assert (plain.detector_id, plain.institution_id) == (None, None)


@pytest.mark.parametrize("impossible", ["0", "-0.07", "70", "0.001", "inf", "1e300", "1e-300"])
def test_a_spacing_that_no_pixel_has_is_not_known(tmp_path: Path, impossible: str) -> None:
    """Micrometres or 0 would make an image of one common spacing a dot, or more than any memory: PixelSpacing is asked then."""
    path = write(tmp_path / "a.dcm", edit=setting(ImagerPixelSpacing=[impossible] * 2))
    record, _ = accept(path)
    assert record.pixel_spacing_mm is None and "X09" in record.gate_warnings
    write(path, edit=setting(ImagerPixelSpacing=[impossible] * 2, PixelSpacing=["0.085", "0.085"]))
    assert accept(path)[0].pixel_spacing_mm == pytest.approx(0.085)


def test_spacing_is_divided_by_magnification(tmp_path: Path) -> None:
    """0.07 mm at the detector under a factor of 1.25 are 0.056 mm in the breast."""
    record = inspect(write(tmp_path / "a.dcm", edit=setting(EstimatedRadiographicMagnificationFactor="1.25")))
    assert record.pixel_spacing_mm == pytest.approx(0.056)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    """A MONOCHROME1 file of 4095 - v gives v, and background 0."""
    inverted_HW = (4095 - breast()).astype(np.uint16)
    edit = setting(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    record, gated = accept(write(tmp_path / "a.dcm", inverted_HW, edit=edit))
    assert record.photometric is Photometric.MONOCHROME1
    assert (record.gate_warnings, gated.warnings) == ((), ())
    np.testing.assert_array_equal(gated.pixels_HW, breast())


def test_a_wrong_photometric_interpretation_is_refused(tmp_path: Path) -> None:
    """A bright background under MONOCHROME2, and a dark one under MONOCHROME1, are X26: the polarity is mislabelled."""
    bright_HW = (4095 - breast(Laterality.RIGHT)).astype(np.uint16)
    assert rejection(write(tmp_path / "a.dcm", bright_HW, laterality=Laterality.RIGHT)).reason_codes == ("X26",)
    edit = setting(PhotometricInterpretation="MONOCHROME1")
    assert rejection(write(tmp_path / "b.dcm", edit=edit)).reason_codes == ("X26",)


@pytest.mark.parametrize(("value", "limit"), [(0, 30), (30, 0), (30, None)])
def test_padding_becomes_0(tmp_path: Path, value: int, limit: int | None) -> None:
    """Padding is a value or a range in either order; what it covers becomes 0 and nothing else changes."""
    padded_HW = breast().copy()
    padded_HW[padded_HW == 0] = 30
    padded_HW[:5, -50:] = 31  # just above the range: stays
    values = {"PixelPaddingValue": value} | ({} if limit is None else {"PixelPaddingRangeLimit": limit})
    _, gated = accept(write(tmp_path / "a.dcm", padded_HW, edit=setting(**values)))
    np.testing.assert_array_equal(gated.pixels_HW, np.where(padded_HW == 30, 0, padded_HW))


@pytest.mark.parametrize(("value", "stored"), [(65535, 65535), (40000, 40000), (4000, 4000 + 2**15)])
def test_padding_of_more_bits_than_the_values_becomes_0(tmp_path: Path, value: int, stored: int) -> None:
    """16 bits of ones among values of 12: white rows were taken for tissue. An overlay's bit hides no padding either."""
    pixels_HW = breast().copy()
    pixels_HW[:60] = stored
    path = write(tmp_path / "a.dcm", edit=both(setting(PixelPaddingValue=value), storing(pixels_HW.astype("<u2").tobytes())))
    np.testing.assert_array_equal(accept(path)[1].pixels_HW, breast())


def test_padding_of_monochrome1_is_not_inverted(tmp_path: Path) -> None:
    """Padding 0 in an inverted image would become the brightest value: it becomes 0."""
    inverted_HW = (4095 - breast()).astype(np.uint16)
    inverted_HW[:50] = 0
    edit = setting(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", PixelPaddingValue=0)
    _, gated = accept(write(tmp_path / "a.dcm", inverted_HW, edit=edit))
    assert gated.pixels_HW[:50].max() == 0


def test_a_background_above_0_warns(tmp_path: Path) -> None:
    """Air at 40 without a padding value is X27; the median is reported."""
    _, gated = accept(write(tmp_path / "a.dcm", breast() + np.uint16(40)))
    assert gated.warnings == ("X27",)
    assert gated.background_median == 40.0


def test_blank_images_are_refused(tmp_path: Path) -> None:
    """A constant image is X25, also if only padding removal makes it so; a speck of tissue is X28."""
    constant_HW = np.full((800, 800), 77, np.uint16)
    assert rejection(write(tmp_path / "a.dcm", constant_HW)).reason_codes == ("X25",)
    edit = setting(PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    assert rejection(write(tmp_path / "b.dcm", edit=edit)).reason_codes == ("X25",)
    speck_HW = np.zeros((800, 800), np.uint16)
    speck_HW[400:500, :100] = 900  # 10,000 of 640,000 pixels: 1.6 %
    assert rejection(write(tmp_path / "c.dcm", speck_HW)).reason_codes == ("X28",)


def test_a_saturated_image_warns(tmp_path: Path) -> None:
    """A third of the tissue at 4095 is X30."""
    pixels_HW = breast().copy()
    pixels_HW[pixels_HW > 2000] = 4095
    _, gated = accept(write(tmp_path / "a.dcm", pixels_HW))
    assert gated.warnings == ("X30",)


def test_the_wrong_side_is_refused(tmp_path: Path) -> None:
    """A breast at the left of an image labelled R is L04: mirrored or mislabelled, a person must look."""
    path = write(tmp_path / "a.dcm", breast(Laterality.LEFT), laterality=Laterality.RIGHT)
    assert rejection(path).reason_codes == ("L04",)


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("055Y", 55),
        ("55Y", 55),
        ("055", 55),
        ("55", 55),
        ("660M", 55),
        ("020D", None),
        ("000Y", None),
        ("095Y", 90),
        ("55 y", 55),
    ]
    + [(text, None) for text in ("-05Y", "-5", "150Y", "550Y", "fifty", "5.5", "")],
)
def test_an_age_is_read_or_left_out(tmp_path: Path, text: str, years: int | None) -> None:
    """Years without their zero or unit are years; what nobody's age is, is none, and never a wrong one."""
    assert inspect(write(tmp_path / "a.dcm", edit=setting(PatientAge=text))).patient_age_years == years


def test_one_identifier_in_two_encodings_is_one_patient(tmp_path: Path) -> None:
    """Latin-1, UTF-8 and UTF-8 with a combining accent spell one name; undecodable bytes are refused, not replaced."""
    spellings = [("ISO_IR 100", b"M\xfcller"), ("ISO_IR 192", b"M\xc3\xbcller"), ("ISO_IR 192", b"Mu\xcc\x88ller")]
    edits = [setting(SpecificCharacterSet=name, PatientID=raw, IssuerOfPatientID=raw) for name, raw in spellings]
    assert len({inspect(write(tmp_path / "a.dcm", edit=edit)).patient_id for edit in edits}) == 1
    assert PSEUDONYMS.accession_id("\u00e9") == PSEUDONYMS.accession_id("e\u0301")
    undecodable = [("ISO_IR 192", b"M\xfcller"), ("", b"M\xfcller"), ("ISO_IR 6", b"M\xc3\xbcller"), ("KOI8", b"M\xfcller")]
    for name, raw in undecodable:
        path = write(tmp_path / "a.dcm", edit=setting(SpecificCharacterSet=name, PatientID=raw))
        assert rejection(path).reason_codes == ("I08",)


def test_the_low_energy_image_of_a_contrast_study_is_named(tmp_path: Path) -> None:
    """It is accepted with a warning, as an acquisition of its own; an agent that was not given is none."""
    edit = setting(ImageType=["ORIGINAL", "PRIMARY", "POST_CONTRAST", "LOW_ENERGY"], ContrastBolusAgent="IODINE")
    record = inspect(write(tmp_path / "a.dcm", edit=edit))
    assert (record.acquisition, record.gate_warnings) == (Acquisition.LOW_ENERGY, ("K11",))
    for agent in ("", "NONE"):
        assert inspect(write(tmp_path / "a.dcm", edit=setting(ContrastBolusAgent=agent))).gate_warnings == ()


def test_an_image_type_that_nobody_knows_is_let_in_by_name_alone(tmp_path: Path) -> None:
    """ImageType's third to fifth value: unknown ones are refused, as a failure, unless the site names them.

    Numbers, and what makers put after the fifth, say nothing of a kind. A refusal is settled under the names.
    """
    path = write(tmp_path / "a.dcm", edit=setting(ImageType=["ORIGINAL", "PRIMARY", "", "ELASTOGRAM", "RESEARCH"]))
    assert rejection(path).reason_codes == ("K12",) and not is_of_another_kind(("K12",))
    named = profile_named("clinical-strict", image_types=("ELASTOGRAM", "RESEARCH"))
    record = inspect_header(path, source_dir=tmp_path, profile=named, pseudonyms=PSEUDONYMS)
    assert (record.acquisition, record.gate_warnings) == (Acquisition.FFDM, ())
    plain = setting(ImageType=["DERIVED", "PRIMARY", "POST_PROCESSED", "", "150000", "", "", "E10"])
    assert inspect(write(tmp_path / "b.dcm", edit=plain)).gate_warnings == ()
    settings = GateSettings(source_dir=tmp_path, profile="clinical-strict", key_path=tmp_path / "key")
    assert replace(settings, image_types=("RESEARCH",)).refuses_under != settings.refuses_under


def test_a_modifier_beside_the_view_counts_too(tmp_path: Path) -> None:
    """Some devices put ViewModifierCodeSequence (0054,0222) at the top, and not into the item of the view."""

    def beside(dataset: pydicom.Dataset) -> None:
        modifier("399055006")(dataset)
        dataset.ViewModifierCodeSequence = dataset.ViewCodeSequence[0].ViewModifierCodeSequence
        del dataset.ViewCodeSequence[0].ViewModifierCodeSequence

    assert rejection(write(tmp_path / "a.dcm", edit=beside)).reason_codes == ("V05",)


def test_equal_pixels_have_equal_digests(tmp_path: Path) -> None:
    """Another UID changes the file's digest and not the pixels': copies under new identifiers are found by it."""
    record, gated = accept(write(tmp_path / "a.dcm"))
    other_record, other = accept(write(tmp_path / "b.dcm", edit=setting(StudyInstanceUID="2.25.5")))
    assert gated.pixel_sha256 == other.pixel_sha256
    assert record.source_sha256 != other_record.source_sha256


def test_files_that_are_not_files_are_refused(tmp_path: Path) -> None:
    """Symbolic link, pipe and folder are F01, a hard link F02; none of them hangs. An absent file is nobody's fault."""
    target = write(tmp_path / "a.dcm")
    (tmp_path / "link.dcm").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "folder.dcm").mkdir()
    for name in ("link.dcm", "pipe.dcm", "folder.dcm"):
        assert rejection(tmp_path / name).reason_codes == ("F01",)
    with pytest.raises(FileDeferred) as caught:
        rejection(tmp_path / "absent.dcm")
    assert caught.value.reason == "ENOENT"
    (tmp_path / "hard.dcm").hardlink_to(target)
    assert rejection(target).reason_codes == ("F02",)


def test_a_file_outside_the_source_folder_is_refused(tmp_path: Path) -> None:
    """A linked folder does not lead out of the folder that the config names."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "source").mkdir()
    write(tmp_path / "outside" / "a.dcm")
    (tmp_path / "source" / "inside").symlink_to(tmp_path / "outside")
    with pytest.raises(GateRejection) as caught:
        inspect_header(
            tmp_path / "source" / "inside" / "a.dcm", source_dir=tmp_path / "source", profile=STRICT, pseudonyms=PSEUDONYMS
        )
    assert caught.value.reason_codes == ("F01",)


def test_junk_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    """Empty file, text, an executable preamble and unfinished names."""
    path = write(tmp_path / "a.dcm")
    content = path.read_bytes()
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "text.dcm").write_text("CANARYNAME " * 500)
    (tmp_path / "program.dcm").write_bytes(b"MZ" + content[2:])
    (tmp_path / "a.dcm.part").write_bytes(content)
    (tmp_path / "._a.dcm").write_bytes(content)
    expected = {
        "empty.dcm": ("F05", "F03"),
        "text.dcm": ("F05",),
        "program.dcm": ("F06",),
        "a.dcm.part": ("F07",),
        "._a.dcm": ("F07",),
    }
    assert {name: rejection(tmp_path / name).reason_codes for name in expected} == expected


def test_a_truncated_file_is_refused_and_its_whole_copy_accepted(tmp_path: Path) -> None:
    """Cut in the pixels X21, cut in the header F14 or the rules on what is missing; the complete file passes later."""
    path = write(tmp_path / "a.dcm")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert rejection(path).reason_codes == ("X21",)
    with pytest.raises(GateRejection):
        inspect(path)  # from the header alone: a part of an image must not stand for it
    path.write_bytes(content[:2100])
    assert rejection(path).reason_codes
    path.write_bytes(content)
    accept(path)


def test_a_header_without_a_digest_leaves_the_pixels_unread(tmp_path: Path) -> None:
    """A folder of a million files is read once, not twice: the same record, the digest aside, from a part of the file."""
    path = write(tmp_path / "a.dcm")
    whole = inspect(path)
    before = _bytes_read()
    record = inspect_header(path, source_dir=tmp_path, profile=STRICT, pseudonyms=PSEUDONYMS, with_digest=False)
    assert _bytes_read() - before < path.stat().st_size / 2
    assert record == replace(whole, source_sha256="")


def _bytes_read() -> int:
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])  # type: ignore[index]


def test_deep_nesting_is_a_rejection(tmp_path: Path) -> None:
    """5,000 nested sequences, which crash other readers, are F14."""
    path = write(tmp_path / "a.dcm")
    content = path.read_bytes()
    nested = b"\x18\x00\x12\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    at = content.index(b"\x20\x00\x0d\x00UI")  # before StudyInstanceUID
    path.write_bytes(content[:at] + nested + content[at:])
    assert rejection(path).reason_codes == ("F14",)


def test_a_dimension_bomb_costs_nothing(tmp_path: Path) -> None:
    """65535 x 65535 is refused from the header within half a second of processor time."""
    path = write(tmp_path / "a.dcm", edit=setting(Rows=65535, Columns=65535))
    start = time.process_time()
    rejection(path)
    assert time.process_time() - start < 0.5


def test_random_header_damage_only_ever_rejects(tmp_path: Path) -> None:
    """150 files with random bytes changed in the header: accepted or rejected with known codes, nothing else."""
    path = write(tmp_path / "a.dcm")
    content, rng = path.read_bytes(), np.random.default_rng(3)
    header_bytes = len(content) - breast().nbytes
    outcomes: Counter[str] = Counter()
    for _ in range(150):
        damaged = bytearray(content)
        for at in rng.integers(132, header_bytes, 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            inspect(path)
            outcomes["accepted"] += 1
        except GateRejection as error:
            assert error.reason_codes and set(error.reason_codes) <= set(RULES)
            outcomes["rejected"] += 1
    assert min(outcomes["accepted"], outcomes["rejected"]) > 10


def test_unreadable_values_are_not_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Canaries in numbers, dates, UIDs and the character set, where pydicom's own messages quote them, stay unquoted."""
    caplog.set_level(logging.DEBUG)
    path = write(tmp_path / "a.dcm")
    content = path.read_bytes()
    for old, new in [(b"0.07\\0.07 ", b"CANARYNAME"), (b"2.25.8100", b"CANARYID "), (b"ISO_IR 192", b"CANARYNAME")]:
        path.write_bytes(content.replace(old, new))
        try:
            told = repr(inspect(path))
        except GateRejection as error:
            told = "".join(traceback.format_exception(error))
        assert [canary for canary in CANARIES if canary in told + caplog.text] == []


def test_the_record_of_a_pseudonymised_image_holds_no_identifier(tmp_path: Path) -> None:
    """Every text of the record is checked against the canaries."""
    record = inspect(write(tmp_path / "a.dcm"))
    assert not any(canary in repr(record) for canary in CANARIES)
    assert re.fullmatch(r"[0-9a-f]{64}", record.source_sha256)


# ---------------------------------------------------------------------------------------------------------- real files


def real(name: str) -> Path:
    """A reference file, or a skip."""
    path = REFERENCE_DATA / name
    if not path.exists():
        pytest.skip(f"reference data are absent: {name} (MAMMO_REFERENCE_DATA)")
    return path


def test_a_real_ge_image_passes_the_strict_profile() -> None:
    """GH133: right MLO, three windows and an icon, accepted without warning; padding 0..30 becomes 0, the rest stays."""
    record, gated = accept(real("ge_ffdm/GH133.dcm"))
    assert (record.laterality, record.view_position) == (Laterality.RIGHT, ViewPosition.MLO)
    assert (record.rows_px, record.columns_px, record.bits_stored) == (3062, 2394, 12)
    assert (record.gate_warnings, gated.warnings, gated.background_median) == ((), (), 0.0)
    assert record.patient_age_years is None  # 000Y
    assert gated.pixels_HW[gated.pixels_HW > 0].min() == 31
    assert gated.pixels_HW.max() == 3471


def test_a_real_cbis_exam_is_accepted_under_its_profile_only() -> None:
    """The four views of one patient: refused strictly, no public set named; one exam of four views under cbis-ddsm."""
    real("cbis_ddsm/1-130.dcm")
    records = []
    for path in sorted((REFERENCE_DATA / "cbis_ddsm").glob("*.dcm")):
        refused = rejection(path)
        assert set(refused.reason_codes) == {"K02", "V01"}
        assert "profile: cbis-ddsm" not in str(refused)
        record, gated = accept(path, "cbis-ddsm")
        assert gated.pixels_HW.shape == (record.rows_px, record.columns_px)
        assert set(gated.warnings) <= {"X27"}  # film air is not 0
        records.append(record)
    assert len({(record.laterality, record.view_position) for record in records}) == 4
    assert len({record.exam_id for record in records}) == len({record.patient_id for record in records}) == 1
    assert {record.acquisition for record in records} == {Acquisition.FILM}
