"""The VOI option through the gate: raw by default, otherwise what pydicom's own functions give, before inversion."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels.processing import apply_voi, apply_windowing

from gmic_model.preprocess import PREPROCESS_VERSION, preprocess_version
from mammo_tests import hostile
from schemas.config.ingest import PreprocessConfig, VoiMode
from schemas.errors import GateRejection, StoreError
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.dicom.dicom_file import read_pixels
from tasks.adapters.gate.admission import GatedPixels, accept_image
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.store.exam_store import create_store

WriteSound = Callable[..., Path]

REFERENCE_DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", Path(__file__).parents[5] / "shared" / "data"))
GE_IMAGE = REFERENCE_DATA / "ge_ffdm" / "GH133.dcm"


def gated(path: Path, voi: VoiMode, profile: str = "phantom") -> GatedPixels:
    """What is accepted under a VOI option."""
    return accept_image(
        path, source_dir=path.parent, profile=profile_named(profile), pseudonyms=Pseudonyms(b"k" * 32), voi=voi
    )[1]


def codes(path: Path, voi: VoiMode) -> tuple[str, ...]:
    """Why a file is refused."""
    with pytest.raises(GateRejection) as caught:
        gated(path, voi)
    return caught.value.reason_codes


@pytest.fixture
def dataset() -> pydicom.Dataset:
    """The GE image with three windows, SIGMOID and three LUTs at once."""
    if not GE_IMAGE.exists():
        pytest.skip(f"{GE_IMAGE.name} is not there; set MAMMO_REFERENCE_DATA")
    return pydicom.dcmread(GE_IMAGE)


@pytest.mark.usefixtures("dataset")
def test_raw_is_the_default_and_changes_nothing() -> None:
    """Stored values, apart from the padding range 0 to 30, which becomes 0."""
    raw_HW = read_pixels(GE_IMAGE)
    accepted = gated(GE_IMAGE, VoiMode.RAW, "clinical-strict")
    np.testing.assert_array_equal(accepted.pixels_HW, np.where(raw_HW <= 30, 0, raw_HW))


def test_the_first_of_three_sigmoid_windows_is_pydicom_s(dataset: pydicom.Dataset) -> None:
    """Every pixel that is no padding equals pydicom's apply_windowing, rounded."""
    raw_HW = read_pixels(GE_IMAGE)
    wanted_HW = np.rint(apply_windowing(raw_HW, dataset, index=0)).astype(np.uint16)
    accepted = gated(GE_IMAGE, VoiMode.WINDOW, "clinical-strict")
    np.testing.assert_array_equal(accepted.pixels_HW, np.where(raw_HW <= 30, 0, wanted_HW))
    assert accepted.pixel_sha256 == gated(GE_IMAGE, VoiMode.RAW, "clinical-strict").pixel_sha256  # of stored values


def test_the_first_of_three_luts_is_pydicom_s(dataset: pydicom.Dataset) -> None:
    """Every pixel that is no padding equals pydicom's apply_voi."""
    raw_HW = read_pixels(GE_IMAGE)
    wanted_HW = apply_voi(raw_HW, dataset, index=0)
    accepted = gated(GE_IMAGE, VoiMode.VOI_LUT, "clinical-strict")
    np.testing.assert_array_equal(accepted.pixels_HW, np.where(raw_HW <= 30, 0, wanted_HW))


def test_linear_windows_are_pydicom_s(tmp_path: Path, write_sound: WriteSound) -> None:
    """LINEAR and LINEAR_EXACT, with a rescale, against pydicom with the same output range."""
    path = write_sound(tmp_path / "a.dcm")
    sound = path.read_bytes()
    for function in ("LINEAR", "LINEAR_EXACT"):
        path.write_bytes(
            hostile.edited(sound, {"WindowCenter": ["1900", "1"], "WindowWidth": ["1501", "2"], "VOILUTFunction": function})
        )
        dataset = pydicom.dcmread(path)
        wanted_HW = np.rint(apply_windowing(dataset.pixel_array, dataset, index=0)).astype(np.uint16)
        np.testing.assert_array_equal(gated(path, VoiMode.WINDOW).pixels_HW, wanted_HW)


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path, write_sound: WriteSound) -> None:
    """4095 - window(v), not window(4095 - v): with centre 1000 and width 500 the two differ."""
    path = write_sound(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    dataset.PixelData = (4095 - dataset.pixel_array).astype(np.uint16).tobytes()
    dataset.save_as(path)
    path.write_bytes(
        hostile.edited(
            path.read_bytes(),
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE", "WindowCenter": "2500",
             "WindowWidth": "2500"},
        )
    )  # fmt: skip
    inverted = pydicom.dcmread(path)
    wanted_HW = 4095 - np.rint(apply_windowing(inverted.pixel_array, inverted)).astype(np.uint16)
    pixels_HW = gated(path, VoiMode.WINDOW).pixels_HW
    np.testing.assert_array_equal(pixels_HW, wanted_HW)
    assert pixels_HW[0, -1] == 0  # the air


@pytest.mark.parametrize("voi", [VoiMode.WINDOW, VoiMode.VOI_LUT])
def test_without_a_transform_the_file_is_refused(tmp_path: Path, write_sound: WriteSound, voi: VoiMode) -> None:
    """No window and no LUT is X13 under both options: raw values are never slipped in among transformed ones."""
    path = write_sound(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    del dataset.WindowCenter, dataset.WindowWidth
    dataset.save_as(path)
    assert codes(path, voi) == ("X13",)
    assert gated(path, VoiMode.RAW).warnings == ()


@pytest.mark.parametrize(
    ("keyword", "value"), [("WindowWidth", b"0 "), ("WindowWidth", b"nan "), ("WindowCenter", b"-inf"), ("WindowCenter", b"ab")]
)
def test_hostile_windows_are_refused(tmp_path: Path, write_sound: WriteSound, keyword: str, value: bytes) -> None:
    """A width of 0, numbers that are none, text."""
    path = write_sound(tmp_path / "a.dcm")
    path.write_bytes(hostile.with_value(path.read_bytes(), keyword, value))
    assert codes(path, VoiMode.WINDOW) == ("X13",)


def test_hostile_luts_are_refused(tmp_path: Path, write_sound: WriteSound) -> None:
    """Entries beyond their bits are X13; a LUT in OW bytes is read."""
    path = write_sound(tmp_path / "a.dcm")
    item = pydicom.Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for bits, data, wanted in ((10, [4095] * 4096, "X13"), (12, list(range(4096)), "")):
            item.add_new("LUTDescriptor", "US", [4096, 0, bits])
            item.add_new("LUTData", "OW", np.array(data, "<u2").tobytes())
            dataset = pydicom.dcmread(path)
            dataset.VOILUTSequence = [item]
            dataset.save_as(path)
            if wanted:
                assert codes(path, VoiMode.VOI_LUT) == (wanted,)
            else:  # the identity
                np.testing.assert_array_equal(gated(path, VoiMode.VOI_LUT).pixels_HW, dataset.pixel_array)


def with_lut(path: Path, data: bytes | list[int] | None, *, bits: int = 8, vr: str = "OW", **attributes: object) -> Path:
    """Rewrites a file with a VOI LUT of 4096 entries and the window it had."""
    item = pydicom.Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        item.add_new("LUTDescriptor", "US", [4096, 0, bits])
        if data is not None:
            item.add_new("LUTData", vr, data)
        dataset = pydicom.dcmread(path)
        dataset.VOILUTSequence = [item]
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return path


CURVE_L = np.rint(255 * (np.arange(4096) / 4095) ** 1.4).astype(np.uint8)
EIGHT_BIT_LUTS: dict[str, tuple[bytes | list[int], str]] = {
    "packed, OW": (CURVE_L.tobytes(), "OW"),
    "packed, US": (np.frombuffer(CURVE_L.tobytes(), "<u2").tolist(), "US"),
    "in words, OW": (CURVE_L.astype("<u2").tobytes(), "OW"),
    "in words, US": (CURVE_L.tolist(), "US"),
}


@pytest.mark.parametrize("form", EIGHT_BIT_LUTS)
@pytest.mark.parametrize("bits", [8, 16])
def test_eight_bit_luts_are_applied_in_every_form(tmp_path: Path, write_sound: WriteSound, form: str, bits: int) -> None:
    """Packed two to a word or in words, as bytes or as numbers, whatever bits the descriptor says (DICOM CP-522)."""
    path = write_sound(tmp_path / "a.dcm")
    raw_HW = pydicom.dcmread(path).pixel_array
    data, vr = EIGHT_BIT_LUTS[form]
    np.testing.assert_array_equal(gated(with_lut(path, data, bits=bits, vr=vr), VoiMode.VOI_LUT).pixels_HW, CURVE_L[raw_HW])


@pytest.mark.parametrize("form", ["packed", "in words"])
def test_big_endian_luts_are_applied(tmp_path: Path, write_sound: WriteSound, form: str) -> None:
    """Words of a file in the retired byte order, and entries packed into such words."""
    path = write_sound(tmp_path / "a.dcm")
    raw_HW = pydicom.dcmread(path).pixel_array
    words_N = np.frombuffer(CURVE_L.tobytes(), "<u2") if form == "packed" else CURVE_L.astype("<u2")
    dataset = pydicom.dcmread(with_lut(path, words_N.astype(">u2").tobytes()))
    dataset.file_meta.TransferSyntaxUID = hostile.BIG_ENDIAN
    dataset.PixelData = raw_HW.astype(">u2").tobytes()
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False, enforce_file_format=False, force_encoding=True)
    np.testing.assert_array_equal(gated(path, VoiMode.VOI_LUT).pixels_HW, CURVE_L[raw_HW])


@pytest.mark.parametrize("data", [None, CURVE_L.tobytes()[:-2], CURVE_L.tobytes() + b"\0\0", b""])
def test_a_lut_that_cannot_be_read_is_refused(tmp_path: Path, write_sound: WriteSound, data: bytes | None) -> None:
    """Without data, or of another length than its descriptor says: X13, although the file has a window too."""
    assert codes(with_lut(write_sound(tmp_path / "a.dcm"), data), VoiMode.VOI_LUT) == ("X13",)


@pytest.mark.parametrize("voi", [VoiMode.WINDOW, VoiMode.VOI_LUT])
def test_a_modality_lut_before_the_transform_is_refused(tmp_path: Path, write_sound: WriteSound, voi: VoiMode) -> None:
    """It would have to be applied first; raw values do not ask for it."""
    path = write_sound(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "OW", bytes(8192))
    dataset.ModalityLUTSequence = [item]
    dataset.save_as(path)
    assert codes(path, voi) == ("X13",)
    assert gated(path, VoiMode.RAW).warnings == ()


@pytest.mark.parametrize("bits", [12, 16])
def test_monochrome1_is_inverted_within_the_entries_of_its_lut(tmp_path: Path, write_sound: WriteSound, bits: int) -> None:
    """A LUT of 12-bit values said to have 12 or 16: air is 0."""
    path = write_sound(tmp_path / "a.dcm")
    raw_HW = pydicom.dcmread(path).pixel_array
    with_lut(
        path, np.arange(4096).astype("<u2").tobytes(), bits=bits, PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE", PixelData=(4095 - raw_HW).astype("<u2").tobytes(),
    )  # fmt: skip
    np.testing.assert_array_equal(gated(path, VoiMode.VOI_LUT).pixels_HW, raw_HW)


def test_the_option_is_part_of_the_store_s_settings(tmp_path: Path) -> None:
    """Its name and version are recorded; a store of raw values takes no windowed ones."""
    raw, window = PreprocessConfig(), PreprocessConfig(voi=VoiMode.WINDOW)
    assert preprocess_version(raw) == PREPROCESS_VERSION
    assert preprocess_version(window) == f"{PREPROCESS_VERSION}+window-1"
    keywords = {"rows_per_shard": 4, "key_id": "k"}
    create_store(tmp_path / "store", preprocess=raw, preprocess_version=preprocess_version(raw), **keywords)
    with pytest.raises(StoreError, match="other settings"):
        create_store(tmp_path / "store", preprocess=window, preprocess_version=preprocess_version(window), **keywords)
