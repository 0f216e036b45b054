"""Every rule of the table: an image that breaks it, and the module that applies it."""

from __future__ import annotations

import ast
import logging
import os
import struct
import sys
import traceback
from collections.abc import Callable, Collection
from datetime import date
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from gmic_model.preprocess import prepare_view
from mammo_tests import code_streams, hostile
from mammo_tests.faulty_codec import FAULTY_CODEC, faulty
from mammo_tests.mammograms import (
    CANARIES,
    Edit,
    accept,
    both,
    breast,
    modifier,
    overlay,
    rejection,
    removing,
    setting,
    storing,
    view_code,
    write,
)
from schemas.config.ingest import GateLimits, PreprocessConfig, VoiMode
from schemas.errors import GateRejection
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.checks.image_suites import manifest_suites
from tasks.adapters.datasets.catalogue import PROFILES
from tasks.adapters.datasets.named_subjects import NamedSubject
from tasks.adapters.dicom.dicom_file import read_header
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import DrawThumbnail, PrepareImage
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, row, rule
from tasks.adapters.gate.rules.table import GROUPS, RULES, broken_rules, demand
from tasks.adapters.gate.source_file import file_fingerprint
from tasks.adapters.inbox.claims import publishable
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.pseudonyms import open_key

ROOT = Path(__file__).parents[5]

# ------------------------------------------------------------------------------------------ how a rule on a header is broken

EDITS: list[tuple[str, Edit]] = [
    ("F14", setting(Rows=[1000, 1000])),
    ("I01", setting(SOPInstanceUID="../../etc/x")),
    ("I01", setting(StudyInstanceUID="1." * 40 + "1")),
    ("I01", removing("StudyInstanceUID")),
    ("I02", setting(SOPInstanceUID="2.25.9")),
    ("I03", removing("PatientID")),
    ("I03", setting(PatientID="   ")),
    ("I04", setting(PatientID="<script>alert(1)</script>")),
    ("I04", setting(PatientID='=HYPERLINK("x")')),
    ("I04", setting(PatientID="../../etc/passwd")),
    ("I04", setting(PatientID="a\\b")),
    ("I04", setting(PatientID="a\x1b[2Jb")),
    *(("I04", setting(PatientID=f"a{sign}b")) for sign in ("\u200b", "\ufeff", "\u00a0", "\u202e")),
    ("I05", setting(Manufacturer="<b>ACME</b>")),
    *(("I07", setting(PatientID=text)) for text in ("12/345", "A+B", "a.b@c")),
    ("I08", setting(SpecificCharacterSet="ISO_IR 192", PatientID=b"M\xfcller-7")),
    ("I08", setting(SpecificCharacterSet="ISO_IR 192", IssuerOfPatientID=b"M\xfcnchen")),
    ("I08", both(removing("SpecificCharacterSet"), setting(AccessionNumber=b"M\xfcller-7"))),
    ("K01", setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.13.1.3")),
    ("K01", setting(ImageType=["DERIVED", "PRIMARY", "TOMO_PROJ"])),
    ("K02", setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")),
    ("K03", setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2.1")),
    ("K04", setting(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")),
    ("K05", setting(Modality="CR")),
    ("K06", setting(PresentationIntentType="FOR PROCESSING")),
    ("K07", setting(SeriesDescription="L CC C-View")),
    ("K08", setting(QualityControlImage="YES")),
    ("K09", setting(ImageType=["DERIVED", "PRIMARY", "STEREO_SCOUT"])),
    *(("K09", setting(ImageType=["DERIVED", "PRIMARY", moment])) for moment in ("PREFIRE", "POSTFIRE_MINUS", "POSTMARKER")),
    ("K09", setting(SeriesDescription="L CC NEEDLE LOC")),
    ("K09", setting(SeriesDescription="Wire localisation")),
    ("K09", setting(ProtocolName="NEEDLE LOC")),
    ("K09", setting(PerformedProcedureStepDescription="Hook-wire guided excision")),
    ("K09", setting(StudyDescription="MAMMOGRAPHIC NEEDLE LOCALIZATION LEFT")),
    ("K09", setting(RequestedProcedureDescription="Needle localization left")),
    ("K09", setting(AcquisitionDeviceProcessingDescription="SPECIMEN")),
    *(
        ("K10", setting(ImageType=["DERIVED", "PRIMARY", "POST_CONTRAST", energy]))
        for energy in ("SUBTRACTION", "ADDITION", "HIGH_ENERGY", "RECOMBINED")
    ),
    ("K10", setting(ImageType=["ORIGINAL", "PRIMARY", "POST_CONTRAST"])),
    ("K10", setting(ContrastBolusAgent="IODINE")),
    ("K10", setting(SeriesDescription="L CC CESM Subtraction")),
    ("K10", setting(SeriesDescription="L CC Recombined")),
    ("K10", setting(ProtocolName="Contrast enhanced mammo")),
    ("K10", setting(AcquisitionDeviceProcessingDescription="HIGH ENERGY")),
    ("K11", setting(ImageType=["ORIGINAL", "PRIMARY", "POST_CONTRAST", "LOW_ENERGY"], ContrastBolusAgent="IODINE")),
    ("K12", setting(ImageType=["ORIGINAL", "PRIMARY", "", "ELASTOGRAM"])),
    ("D01", setting(BurnedInAnnotation="YES")),
    ("D02", overlay),
    ("L01", removing("ImageLaterality")),
    ("L01", setting(ImageLaterality="B")),
    ("L02", both(setting(Laterality="L"), removing("ImageLaterality"))),
    ("L03", setting(Laterality="R")),
    ("L03", setting(ViewPosition="RCC")),
    ("L06", setting(PatientOrientation=["P", "FL"])),
    ("L08", setting(Laterality="B")),
    ("V01", view_code("399260004")),
    ("V01", view_code("R-10224")),
    ("V01", removing("ViewPosition", "ViewCodeSequence")),
    ("V02", removing("ViewCodeSequence")),
    ("V04", setting(ViewPosition="MLO")),
    ("V05", modifier("399055006")),
    ("V05", modifier("R-102D7")),
    ("V06", modifier("399209000")),
    ("V07", setting(EstimatedRadiographicMagnificationFactor="1.8")),
    ("V08", setting(PartialView="YES")),
    ("V09", setting(BreastImplantPresent="YES")),
    ("V10", setting(PaddleDescription="SPOT 9CM")),
    ("V11", removing("PatientOrientation")),
    ("V11", setting(PatientOrientation=["CC"])),
    *(("V13", setting(ViewPosition=text)) for text in ("LCC", "L CC")),
    *(("V14", modifier(code)) for code in ("399197002", "R-102D4", "399161006", "399011000")),
    *(("V15", modifier(code)) for code in ("442581004", "1234")),
    ("V12", setting(FieldOfViewHorizontalFlip="YES")),
    ("X01", setting(Rows=65535, Columns=65535)),
    ("X01", setting(Rows=200)),
    ("X01", setting(Rows=700, Columns=700)),
    ("X02", setting(NumberOfFrames=str(2**31 - 1))),
    ("X03", setting(SamplesPerPixel=3)),
    ("X04", setting(BitsAllocated=32)),
    ("X05", setting(HighBit=15)),
    ("X06", setting(PixelRepresentation=1)),
    ("X07", setting(PhotometricInterpretation="PALETTE COLOR")),
    ("X08", setting(PresentationLUTShape="INVERSE")),
    ("X09", removing("ImagerPixelSpacing")),
    ("X09", setting(ImagerPixelSpacing=["0.07", "0.1"])),
    ("X10", setting(WindowWidth="0")),
    ("X11", removing("WindowCenter", "WindowWidth")),
    ("X14", setting(NumberOfFrames="0")),
    ("X20", both(removing("PixelData"), setting(ImageComments="a long comment " * 200))),
    ("X21", setting(Columns=801)),
    ("X24", setting(BitsStored=8, HighBit=7)),
    ("P02", setting(LossyImageCompression="01")),
    ("T01", setting(StudyDate="00000000")),
    ("T02", setting(StudyDate="00010101")),
    ("T03", setting(StudyDate="29990101")),
    *(("T04", setting(PatientAge=text)) for text in ("55Y", "055", "-05Y", "150", "fifty")),
]

# ------------------------------------------------------------------------------------ how a rule on file or pixels is broken

Make = Callable[[Path], Path]
"""Writes the file into a folder."""


def pixels(pixels_HW: NDArray[np.uint16], laterality: Laterality = Laterality.LEFT) -> Make:
    """A sound header over these pixels."""
    return lambda folder: write(folder / "a.dcm", pixels_HW, laterality=laterality)


def lying(pixels_HW: NDArray[np.uint16], directions: list[str]) -> Make:
    """Pixels that lie as PatientOrientation says."""
    return lambda folder: write(folder / "a.dcm", pixels_HW, edit=setting(PatientOrientation=directions))


def oblique(pixels_HW: NDArray[np.uint16]) -> Make:
    """A sound header of an MLO view over these pixels."""
    return lambda folder: write(folder / "a.dcm", pixels_HW, view_position=ViewPosition.MLO)


def content(change: Callable[[bytes], bytes], name: str = "a.dcm") -> Make:
    """A sound file whose bytes are changed."""

    def make(folder: Path) -> Path:
        sound = write(folder / "sound.dcm").read_bytes()
        (folder / name).write_bytes(change(sound))
        return folder / name

    return make


def encoded(syntax: str, encode: Callable[[NDArray[np.uint16]], bytes], *, bits: int = 16) -> Make:
    """A sound image in another transfer syntax."""

    def change(sound: bytes) -> bytes:
        recoded = hostile.recoded(sound, syntax, bytes(encode(breast())))
        return hostile.edited(recoded, {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1})

    return content(change)


def link(folder: Path) -> Path:
    """A symbolic link to a sound file."""
    (folder / "link.dcm").symlink_to(write(folder / "a.dcm"))
    return folder / "link.dcm"


def second_name(folder: Path) -> Path:
    """A sound file that has two names."""
    (folder / "b.dcm").hardlink_to(write(folder / "a.dcm"))
    return folder / "b.dcm"


def large(folder: Path) -> Path:
    """A sound file with 600 MB of nothing after it; the nothing takes no room on the disk."""
    path = write(folder / "a.dcm")
    os.truncate(path, 600_000_001)
    return path


def saturated() -> NDArray[np.uint16]:
    """A third of the tissue at the largest value."""
    return np.where(breast() > 2000, 4095, breast()).astype(np.uint16)


def without_air() -> NDArray[np.uint16]:
    """Tissue everywhere, but for a strip of 32 columns near the right edge."""
    pixels_HW = np.tile(np.linspace(3000, 1000, 800).astype(np.uint16), (800, 1))
    pixels_HW[:, -32:-16] = 0
    return pixels_HW


def oblique_breast() -> NDArray[np.uint16]:
    """A breast below the chest muscle, which is a wedge from the upper edge down along the chest wall."""
    rows, columns = np.indices((800, 800))
    is_breast = np.hypot((rows - 400) / 250, columns / 480) < 1
    return np.where(columns < 350 * (1 - (rows / 760) ** 2), 3200, np.where(is_breast, 2000, 0)).astype(np.uint16)


def speck() -> NDArray[np.uint16]:
    """10,000 of 640,000 pixels: 1.6 %."""
    pixels_HW = np.zeros((800, 800), np.uint16)
    pixels_HW[400:500, :100] = 900
    return pixels_HW


def stray_bit() -> NDArray[np.uint16]:
    """A rectangle of an overlay in bit 15."""
    pixels_HW = breast().copy()
    pixels_HW[100:200, 300:500] |= 0x8000
    return pixels_HW


def noisy() -> NDArray[np.uint16]:
    """The breast with the noise of a detector in it."""
    noise_HW = np.random.default_rng(0).integers(0, 60, (800, 800))
    return np.where(breast() > 0, breast() + noise_HW, 0).astype(np.uint16)


def half_written(rows: int = 400) -> NDArray[np.uint16]:
    """The first rows of an image."""
    pixels_HW = breast().copy()
    pixels_HW[rows:] = 0
    return pixels_HW


def with_stray_bit(folder: Path) -> Path:
    """A sound header over an image with a stray bit, which nobody here would write."""
    return write(folder / "a.dcm", edit=storing(stray_bit().tobytes()))


def jpeg_ls_of_other_size(pixels_HW: NDArray[np.uint16]) -> bytes:
    """A stream of half the columns."""
    return bytes(imagecodecs.jpegls_encode(np.ascontiguousarray(pixels_HW[:, ::2])))


def jpeg_baseline(pixels_HW: NDArray[np.uint16]) -> bytes:
    """Eight bits, with a loss."""
    return bytes(imagecodecs.jpeg8_encode((pixels_HW >> 4).astype(np.uint8), level=98))


FILES: list[tuple[str, Make]] = [
    ("F01", link),
    ("F02", second_name),
    ("F03", content(lambda sound: sound[:1999])),
    ("F04", large),
    ("F05", content(lambda sound: b"Dear colleague, " * 500)),
    ("F09", content(lambda sound: b"Dear colleague, " * 500, "README.txt")),
    ("F06", content(lambda sound: b"MZ" + sound[2:])),
    ("F06", content(lambda sound: b"Hello <Script>".ljust(128) + sound[128:])),
    ("F08", content(lambda sound: b"made by nobody".ljust(128) + sound[128:])),
    ("F07", content(bytes, "a.dcm.part")),
    ("F07", content(bytes, "a.dcm.crdownload")),
    ("F07", content(bytes, "._a.dcm")),
    ("F12", content(lambda sound: hostile.with_syntax(sound, ""))),
    ("F13", content(lambda sound: hostile.with_syntax(sound, hostile.DEFLATE))),
    ("L04", pixels(breast(), Laterality.RIGHT)),
    ("L04", pixels(np.rot90(breast()).copy())),
    ("L05", lying(np.rot90(breast()).copy(), ["R", "P"])),
    ("L07", oblique(oblique_breast()[::-1].copy())),
    ("X12", encoded("1.2.840.10008.1.2.4.50", jpeg_baseline, bits=8)),
    ("P01", encoded("1.2.840.10008.1.2.4.50", jpeg_baseline, bits=8)),
    ("P01", encoded(hostile.JPEG_LL, jpeg_baseline, bits=8)),
    ("X15", lambda folder: write(folder / "a.dcm", edit=storing(breast().tobytes() + bytes(512)))),
    ("X16", encoded(hostile.J2K, lambda pixels_HW: code_streams.j2k(pixels_HW, boxes=True))),
    ("X17", with_stray_bit),
    ("X18", pixels(half_written())),
    ("X19", pixels(half_written(650))),
    (
        "X22",
        content(lambda sound: hostile.recoded(sound, hostile.RLE, struct.pack("<L", 15) + b"\xff" * 3000)),
    ),
    ("X23", encoded(hostile.JPEG_LS, jpeg_ls_of_other_size)),
    ("X25", pixels(np.full((800, 800), 77, np.uint16))),
    ("X26", pixels((4095 - breast()).astype(np.uint16))),
    ("X27", pixels(breast() + np.uint16(40))),
    ("X28", pixels(speck())),
    ("X29", pixels(without_air())),
    ("X30", pixels(saturated())),
    ("X31", lambda folder: write(folder / "a.dcm", breast(Laterality.LEFT, (4000, 3000)))),
    ("X32", lambda folder: write(folder / "a.dcm", edit=storing(noisy().byteswap().tobytes()))),
    ("X32", lambda folder: write(folder / "a.dcm", edit=storing(noisy().tobytes()[1:] + b"\0"))),
]

# ---------------------------------------------------------------------------------- how a rule is broken that others apply


def too_slow(folder: Path) -> Collection[str]:
    """A decoder that never returns, when the file's bytes are read."""
    (folder / "codec").mkdir()
    (folder / "codec" / "imagecodecs.py").write_text(FAULTY_CODEC)
    sound = write(folder / "a.dcm")
    open_key(folder / "key", creates=True)
    gate = GateSettings(source_dir=folder, profile="phantom", key_path=folder / "key")
    asked = PrepareImage(
        path=faulty(sound, folder / "b.dcm", "hang"), gate=gate, fingerprint=file_fingerprint((folder / "b.dcm").lstat()),
        preprocess=PreprocessConfig(), canvas_px=PreprocessConfig().canvas_px, mask_path=None,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, GateChild(GateLimits(timeout_s=4)) as child:
        patch.setattr(sys, "path", [str(folder / "codec"), *sys.path])
        with pytest.raises(GateRejection) as caught:
            child.prepare(asked)
    return caught.value.reason_codes


def too_large(folder: Path) -> Collection[str]:
    """A reader that has no memory to speak of, and 32 MB of pixels."""
    path = write(folder / "a.dcm", np.zeros((4000, 4000), np.uint16))
    with GateChild(GateLimits(memory_bytes=1 << 20)) as child, pytest.raises(GateRejection) as caught:
        child.thumbnail(DrawThumbnail(path=path, source_dir=path.parent, side_px=8))
    return caught.value.reason_codes


def no_window(folder: Path) -> Collection[str]:
    """Asked for the file's window, which it has not."""
    return rejection(write(folder / "a.dcm", edit=removing("WindowCenter", "WindowWidth")), voi=VoiMode.WINDOW).reason_codes


def unknown_view_code(folder: Path) -> Collection[str]:
    """The code is no view's. V01 or V04 refuse such a file, so its warning reaches nobody: asked of the header itself."""
    header = read_header(write(folder / "a.dcm", edit=view_code("1234")))
    profile = PROFILES["clinical-strict"]
    seen = Seen(header=header, subject=profile.identify(header, "a.dcm"), profile=profile, today=date(2026, 1, 1))
    return [broken.rule_id for broken in broken_rules(seen)]


def other_patient(folder: Path) -> Collection[str]:
    """A table names another patient than the header: the table's is taken."""
    sound = write(folder / "a.dcm")
    header, profile = read_header(sound), PROFILES["clinical-strict"]
    told = profile.identify(header, "a.dcm")
    assert told.laterality is not None and told.view_position is not None
    named = NamedSubject(patient="another", exam="1", laterality=told.laterality, view_position=told.view_position)
    seen = Seen(header=header, subject=named.over(told), profile=profile, today=date(2026, 1, 1))
    return [broken.rule_id for broken in broken_rules(seen)]


def no_breast(folder: Path) -> Collection[str]:
    """Nothing to cut out."""
    with pytest.raises(GateRejection) as caught:
        prepare_view(np.zeros((300, 200), np.uint16), Laterality.RIGHT)
    return caught.value.reason_codes


def no_spacing(folder: Path) -> Collection[str]:
    """Nothing to scale by, where all are to have one spacing."""
    with pytest.raises(GateRejection) as caught:
        prepare_view(np.ones((300, 200), np.uint16), Laterality.RIGHT, settings=PreprocessConfig(pixel_spacing_mm=0.1))
    return caught.value.reason_codes


def published(*images: dict[str, object]) -> Collection[str]:
    """Why some of these images, alike but for what is given, are not published."""
    same: dict[str, object] = {"image_id": "I", "exam_id": "E", "patient_id": "P", "pixel_sha256": "p", "source_sha256": "s"}
    lines = [LedgerLine(file_id=f"F{number}", stored=same | {"row": number} | image) for number, image in enumerate(images)]
    return {code for file in publishable(lines).refused for code in file.reason_codes}


def checked(**columns: list[str]) -> Collection[str]:
    """The rules that an exam breaks of whose four images some columns are as given."""
    same = {
        "exam_id": ["E"] * 4, "patient_id": ["P"] * 4, "exam_date": ["2020-01-01"] * 4, "laterality": ["R", "R", "L", "L"],
        "view_position": ["CC", "MLO"] * 2, "pixel_sha256": list("abcd"), "patient_age_years": [50.0] * 4,
    }  # fmt: skip
    broken = set()
    for suite in manifest_suites(pd.DataFrame(same | columns)):
        for check in suite.checks if suite.name == "exams" else ():
            low, high = check.arguments.get("min_value"), check.arguments.get("max_value")
            counts = suite.table[check.column] if check.column in suite.table else pd.Series(dtype=float)
            if (low is not None and (counts < low).any()) or (high is not None and (counts > high).any()):
                broken.add(check.name.split(":")[0])
    return broken


OTHERS: dict[str, Callable[[Path], Collection[str]]] = {
    "F10": too_slow,
    "F11": too_large,
    "V03": unknown_view_code,
    "X13": no_window,
    "I09": other_patient,
    "C01": no_breast,
    "C02": no_spacing,
    "I06": lambda folder: published({}, {"pixel_sha256": "q"}),
    "E01": lambda folder: checked(laterality=["R"] * 4),
    "E02": lambda folder: checked(view_position=["CC"] * 4),
    "E03": lambda folder: published({}, {"image_id": "J"}),
    "E04": lambda folder: published({}, {"image_id": "J", "pixel_sha256": "q", "patient_id": "Q"}),
}


# --------------------------------------------------------------------------------------------------------------- the facts


def codes_of(path: Path) -> dict[str, object]:
    """The rules that a file breaks, each with what came of it."""
    try:
        record, gated = accept(path)
    except GateRejection as refused:
        return dict.fromkeys(refused.reason_codes, BLOCK)
    return dict.fromkeys((*record.gate_warnings, *gated.warnings), WARN)


def names_of(cases: list[tuple[str, Edit]] | list[tuple[str, Make]]) -> list[str]:
    """A name for each case."""
    return [f"{rule_id}-{number}" for number, (rule_id, _) in enumerate(cases)]


@pytest.mark.parametrize(("rule_id", "edit"), EDITS, ids=names_of(EDITS))
def test_a_header_breaks_its_rule(tmp_path: Path, rule_id: str, edit: Edit) -> None:
    """A rule that blocks is among those that refuse the file; one that warns is the only warning of a file let in."""
    broken = codes_of(write(tmp_path / "a.dcm", edit=edit))
    assert broken[rule_id] is RULES[rule_id].severity
    assert RULES[rule_id].severity is BLOCK or list(broken) == [rule_id]


@pytest.mark.parametrize(("rule_id", "make"), FILES, ids=names_of(FILES))
def test_a_file_breaks_its_rule(tmp_path: Path, rule_id: str, make: Make) -> None:
    """The rule is applied to the file or its pixels, and refuses or warns as the table says."""
    assert codes_of(make(tmp_path))[rule_id] is RULES[rule_id].severity


@pytest.mark.parametrize("rule_id", OTHERS)
def test_a_rule_of_another_module_is_broken_there(tmp_path: Path, rule_id: str) -> None:
    """The child process, the crop, the claims and the data checks name the rule themselves."""
    assert rule_id in OTHERS[rule_id](tmp_path)


def test_every_rule_has_an_image_that_breaks_it() -> None:
    """A rule that nobody can break, or that nobody tried to, is not in the table; nor is a case for a rule that went."""
    assert {rule_id for rule_id, _ in (*EDITS, *FILES)} | set(OTHERS) == set(RULES)


@pytest.mark.parametrize("rule_id", RULES)
def test_every_rule_is_applied_by_the_module_it_names(rule_id: str) -> None:
    """A rule with a function is in a module of the table's groups; the module of another has the rule's id in its code."""
    entry = RULES[rule_id]
    addresses = (f"tasks.adapters.{entry.by}", entry.by)
    paths = [ROOT.joinpath(*address.split(".")).with_suffix(".py") for address in addresses]
    (path,) = [path for path in paths if path.exists()]
    if entry.decides is not None:
        assert entry.decides.__module__ in {group.__name__ for group in GROUPS} and path.name == f"{entry.by.split('.')[-1]}.py"
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs]
    assert any(isinstance(text, str) and text.split(":")[0] == rule_id for text in texts), f"{path.name} applies no {rule_id}"


def test_an_id_is_given_once() -> None:
    """A second row of an id is an error of the program, at import, and names where the first one is."""
    with pytest.raises(ValueError, match=r"V07 is in gate\.rules\.view"):
        row("V07", WARN, "Anything", by="gate.admission")

    def decides(seen: Seen) -> str | None:
        return None

    with pytest.raises(ValueError, match=r"V07 is in gate\.rules\.view"):
        rule("V07", WARN, "Anything")(decides)
    assert RULES["V07"].severity is BLOCK


def test_the_table_is_in_the_order_of_its_page() -> None:
    """By letter, then by number; demands are sentences without an end stop, and an unknown id is said to be unknown."""
    assert list(RULES) == sorted(RULES, key=lambda rule_id: ("FIKLVXCPDTE".index(rule_id[0]), rule_id))
    assert not any(entry.demand.endswith(".") for entry in RULES.values())
    assert demand("V07") == "Magnification factor below 1.4"
    assert "does not know" in demand("Z99")


@pytest.mark.parametrize(("rule_id", "edit"), EDITS, ids=names_of(EDITS))
def test_nothing_tells_who_the_patient_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder, rule_id: str, edit: Edit
) -> None:
    """Neither the error with its whole traceback, nor logs, nor warnings, nor the record's repr hold a canary."""
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "CANARYFILE"
    folder.mkdir()
    path = write(folder / "CANARYFILE.dcm", edit=edit)
    caplog.clear()
    recwarn.clear()
    try:
        told = repr(accept(path)[0])
    except GateRejection as error:
        told = "".join(traceback.format_exception(error)) + repr(error.__dict__)
    told += caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert [canary for canary in CANARIES if canary in told] == []
