"""The acquisition gate: a file from outside becomes an ``ImageRecord`` and checked pixels, or a rejection with reason codes.

    inspect_header   file rules (F), then header rules (I K L V X P D T); gives the record, under pseudonyms
    accept_image     the same, then decodes and applies the rules on pixels (X14-X30, P01, L04); gives what may be stored, too

Nothing here survives a decoder that crashes or hangs: foreign files are given to ``child``, which calls these functions in
a process of its own.

Rules are in ``rules`` and on the page ``docs/reference/gate-rules.md``; what a data set is allowed is in its profile, and
lifted here and nowhere else. No message holds a value that could identify a patient: rule ids, numbers and attribute names.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from io import BufferedReader
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.orientation import UPRIGHT, Turn
from gmic_model.pixels.voi import Window, lut_table, window_table
from gmic_model.pixels.window import DEFAULT_SETTINGS
from schemas.config.ingest import VoiMode
from schemas.errors import DicomError
from schemas.exam import Acquisition, ImageRecord, Photometric
from schemas.layout import HEADER_NAMES
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.named_subjects import NamedSubject
from tasks.adapters.datasets.subject import Subject
from tasks.adapters.dicom.bounded_reader import BoundedReader
from tasks.adapters.dicom.dicom_file import quoting_no_value, read_header_from, read_image_from
from tasks.adapters.dicom.header import MAMMOGRAPHY_FOR_PRESENTATION, DicomHeader, parse_date
from tasks.adapters.dicom.stored_image import StoredImage
from tasks.adapters.gate.opening import open_source
from tasks.adapters.gate.orientation import told_by
from tasks.adapters.gate.other_kinds import named_by_its_class
from tasks.adapters.gate.rules.file import START_BYTES, Opened
from tasks.adapters.gate.rules.image import EARLIEST_EXAM, Remainder, age_years, detector_spacing_mm
from tasks.adapters.gate.rules.kind import is_low_energy, is_synthetic
from tasks.adapters.gate.rules.look import Decoded, decoded, look_at
from tasks.adapters.gate.rules.rule import WARN, Broken, Seen
from tasks.adapters.gate.rules.table import RULES, broken_rules, refuse
from tasks.adapters.gate.source_file import file_fingerprint
from tasks.adapters.pseudonyms import Pseudonyms

_FEWEST_BITS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedPixels:
    """An accepted image.

    Attributes:
        pixels_HW: Shape (rows, columns): stored values without rescale and window (``raw``), or after the transform that
            ``preprocess.voi`` names; then MONOCHROME1 inverted, padding values and ranges set to 0, and brought upright.
        pixel_sha256: Keyed digest of the values as decoded, little endian, before any transform.
        warnings: Ids of the pixel rules that warned.
        background_median: Median along the image border away from the chest wall, in the values of ``pixels_HW``.
        turn: What brought the image of the file upright; its ``source_geometry`` is the way back.
    """

    pixels_HW: NDArray[np.uint16]
    pixel_sha256: str
    warnings: tuple[str, ...]
    background_median: float
    turn: Turn = UPRIGHT


@quoting_no_value("F14", "The file cannot be inspected")
def inspect_header(
    path: Path,
    *,
    source_dir: Path,
    profile: Profile,
    pseudonyms: Pseudonyms,
    with_digest: bool = True,
    descriptor: int | None = None,
    present_bytes: int | None = None,
    named: NamedSubject | None = None,
) -> ImageRecord:
    """Applies the file and header rules; reads no pixels.

    Args:
        path: The file, below ``source_dir``.
        source_dir: The folder that was searched.
        profile: What this data set is allowed.
        pseudonyms: Makes the record's identifiers.
        with_digest: Reads the whole file for its digest; else the header alone, and the record's digest is "".
        descriptor: The file, if it is open already; it is closed. None = it is opened here.
        present_bytes: Of its first bytes only so many are there (``BoundedReader``); None = it is whole.
        named: What a table says of whom and what it shows; None = its header says it.

    Raises:
        GateRejection: The file is refused; ``reason_codes`` names every rule that refuses it.
        FileDeferred: It cannot be read at the moment, or more of it is needed than is there.
    """
    with _opened(path, source_dir, profile, descriptor, present_bytes) as (file, odd):
        source_sha256 = _source_digest(file, pseudonyms) if with_digest else ""
        header = read_header_from(file)
        remaining_bytes = os.fstat(file.fileno()).st_size - file.tell()
    whose = _Whose(path=path, source_dir=source_dir, profile=profile, pseudonyms=pseudonyms, named=named)
    return _gated_record(header, whose, source_sha256, remaining_bytes, odd)


@quoting_no_value("X22", "The image cannot be inspected")
def accept_image(
    path: Path,
    *,
    source_dir: Path,
    profile: Profile,
    pseudonyms: Pseudonyms,
    voi: VoiMode = VoiMode.RAW,
    fingerprint: str | None = None,
    window_px: tuple[int, int] | None = DEFAULT_SETTINGS.window_px,
    common_spacing_mm: float | None = None,
    when_read: Callable[[], None] = lambda: None,
    descriptor: int | None = None,
    named: NamedSubject | None = None,
) -> tuple[ImageRecord, GatedPixels]:
    """Applies every rule to a file that is opened, hashed and parsed once.

    Args:
        path: The file, below ``source_dir``.
        source_dir: The folder that was searched.
        profile: What this data set is allowed.
        pseudonyms: Makes the record's identifiers.
        voi: The transform of stored values, ``preprocess.voi``.
        fingerprint: The file's ``file_fingerprint`` when it was found; None = not known.
        window_px: (rows, columns) of the image that a network will see, for rule X31; None = all of it.
        common_spacing_mm: The window's pixel spacing, if images are brought to one.
        when_read: Called when every byte was read once: from then on the file's content is what takes time.
        descriptor: The file, if it is open already; it is closed. None = it is opened here.
        named: What a table says of whom and what it shows; None = its header says it.

    Raises:
        GateRejection: The file is refused, or changed since it was found or while it was read (F07).
        FileDeferred: It cannot be read at the moment.
    """
    with _opened(path, source_dir, profile, descriptor) as (file, odd):
        status = os.fstat(file.fileno())
        source_sha256 = _source_digest(file, pseudonyms)
        when_read()
        header = read_header_from(file, with_voi_lut=voi is VoiMode.VOI_LUT)
        remaining_bytes = status.st_size - file.tell()
        whose = _Whose(path=path, source_dir=source_dir, profile=profile, pseudonyms=pseudonyms, named=named)
        record = _gated_record(header, whose, source_sha256, remaining_bytes, odd)
        stored = read_image_from(file)
        after = file_fingerprint(os.fstat(file.fileno()))
    before = file_fingerprint(status)
    if len({before, after, fingerprint or before}) > 1:
        refuse((Broken("F07", "changed while it was read"),), profile)
    if window_px is not None and common_spacing_mm is not None and record.pixel_spacing_mm is not None:
        per_px = common_spacing_mm / record.pixel_spacing_mm
        window_px = (round(window_px[0] * per_px), round(window_px[1] * per_px))
    return record, _gated_pixels(stored, header, record, profile, pseudonyms, voi, window_px)


def _source_digest(file: BufferedReader, pseudonyms: Pseudonyms) -> str:
    return pseudonyms.source_digest(hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Whose:
    """What decides whom a header is of."""

    path: Path
    source_dir: Path
    profile: Profile
    pseudonyms: Pseudonyms
    named: NamedSubject | None

    def subject(self, header: DicomHeader) -> Subject:
        """Of the header, by the data set's ways; a table's word goes before its patient and exam."""
        is_below = self.path.is_relative_to(self.source_dir)
        told = self.profile.identify(header, self.path.relative_to(self.source_dir).as_posix() if is_below else self.path.name)
        return told if self.named is None else self.named.over(told)


def _gated_record(
    header: DicomHeader, whose: _Whose, source_sha256: str, remaining_bytes: int, odd: tuple[Broken, ...]
) -> ImageRecord:
    subject, profile = whose.subject(header), whose.profile
    seen = Seen(header=header, subject=subject, profile=profile, today=date.today())
    broken = _kept((*odd, *broken_rules(seen)), profile)
    refuse((*broken, *broken_rules(Remainder(header=header, size_bytes=remaining_bytes))), profile)
    record = _record(header, subject, profile, whose.pseudonyms, source_sha256, _warned(broken))
    if whose.named is not None and whose.named.acquisition is not None:
        return replace(record, acquisition=whose.named.acquisition)
    return record


def _gated_pixels(
    stored: StoredImage,
    header: DicomHeader,
    record: ImageRecord,
    profile: Profile,
    pseudonyms: Pseudonyms,
    voi: VoiMode,
    window_px: tuple[int, int] | None,
) -> GatedPixels:
    values = decoded(stored.pixels_HW, record.bits_stored)
    raw_HW = values.pixels_HW
    coding = _kept((*broken_rules(replace(stored, pixels_HW=raw_HW)), *broken_rules(values)), profile)
    refuse(coding, profile)
    values_HW, bits, largest = _transformed(raw_HW, header, record, voi, profile)
    pixels_HW = _dark_background(stored.pixels_HW, raw_HW, values_HW, largest, header, record)
    if pixels_HW is not raw_HW:
        values = Decoded(pixels_HW, bits)
        refuse(broken_rules(values), profile)  # X25: nothing left but padding
    turn = told_by(header.patient_orientation, record.laterality).turn or UPRIGHT
    pixels_HW = turn(pixels_HW)
    looked = look_at(
        pixels_HW,
        bits,
        laterality=record.laterality,
        view_position=record.view_position,
        spacing_mm=record.pixel_spacing_mm,
        window_px=window_px,
        maximum=values.maximum,
    )
    broken = _kept(broken_rules(looked), profile)
    refuse(broken, profile)
    return GatedPixels(
        pixels_HW=pixels_HW,
        pixel_sha256=pseudonyms.pixel_digest(hashlib.sha256(raw_HW.astype("<u2", copy=False).data).hexdigest()),
        warnings=_warned((*coding, *broken)),
        background_median=looked.background_median,
        turn=turn,
    )


def _transformed(
    raw_HW: NDArray[np.uint16], header: DicomHeader, record: ImageRecord, voi: VoiMode, profile: Profile
) -> tuple[NDArray[np.uint16], int, int]:
    """The values, their number of bits and their white after the transform that ``preprocess.voi`` names."""
    if voi is VoiMode.RAW:
        bits = _used_bits(raw_HW, record)
        return raw_HW, bits, 2**bits - 1
    slope = 1.0 if header.rescale_slope is None else header.rescale_slope
    intercept = 0.0 if header.rescale_intercept is None else header.rescale_intercept
    failure = "the file has none"
    if header.has_modality_lut:
        refuse((Broken("X13", "ModalityLUTSequence comes before it, and is not applied here"),), profile)
    if voi is VoiMode.VOI_LUT and "VOILUTSequence" in header.unreadable:
        refuse((Broken("X13", "VOILUTSequence cannot be read"),), profile)  # never the window instead, without a word
    try:
        if voi is VoiMode.VOI_LUT and header.voi_lut is not None:
            table = lut_table(header.voi_lut, bits_stored=record.bits_stored, slope=slope, intercept=intercept)
            return table(raw_HW), table.bits, table.largest
        if header.window_center and header.window_width:
            function = header.voi_lut_function or "LINEAR"
            window = Window(center=header.window_center[0], width=header.window_width[0], function=function)
            table = window_table(window, bits_stored=record.bits_stored, slope=slope, intercept=intercept)
            return table(raw_HW), table.bits, table.largest
    except DicomError:
        failure = "it cannot be applied"
    refuse((Broken("X13", failure),), profile)
    raise AssertionError  # X13 refuses


def _used_bits(raw_HW: NDArray[np.uint16], record: ImageRecord) -> int:
    """Bits that the values span: BitsStored, or fewer of a MONOCHROME1 image that leaves upper ones unused.

    Its air is its brightest. Inverted at a value that it never had, twelve bits stored in sixteen would become a white image.
    """
    if record.photometric is Photometric.MONOCHROME2:
        return record.bits_stored
    return max(_FEWEST_BITS, min(record.bits_stored, int(raw_HW.max()).bit_length()))


# --------------------------------------------------------------------------------------------------------------- files


@contextmanager
def _opened(
    path: Path, source_dir: Path, profile: Profile, descriptor: int | None, present_bytes: int | None = None
) -> Iterator[tuple[BufferedReader, tuple[Broken, ...]]]:
    """Opens a file, or takes one that is open, with the file rules that it breaks and is let in all the same."""
    opened = open_source(path, source_dir) if descriptor is None else descriptor
    with BoundedReader(opened, present_bytes=present_bytes) as file, named_by_its_class(file, profile):
        status = os.fstat(file.fileno())
        start = file.read(START_BYTES)
        broken = broken_rules(Opened(links=status.st_nlink, size_bytes=status.st_size, start=start, name=path.name))
        refuse(broken, None)
        file.seek(0)
        yield file, broken


# ------------------------------------------------------------------------------------------------------------ verdicts


def _kept(broken: tuple[Broken, ...], profile: Profile) -> tuple[Broken, ...]:
    return tuple(rule for rule in broken if rule.rule_id not in profile.relaxed)


def _warned(broken: tuple[Broken, ...]) -> tuple[str, ...]:
    return tuple(rule.rule_id for rule in broken if RULES[rule.rule_id].severity is WARN)


def _record(
    header: DicomHeader,
    subject: Subject,
    profile: Profile,
    pseudonyms: Pseudonyms,
    source_sha256: str,
    gate_warnings: tuple[str, ...],
) -> ImageRecord:
    # The rules have refused what is missing here; the assertions say so to the type checker.
    assert subject.laterality is not None and subject.view_position is not None  # noqa: S101
    assert header.rows is not None and header.columns is not None and header.bits_stored is not None  # noqa: S101
    # A table's patient has no issuer: what a header says of one is of the header's patient.
    patient_id = pseudonyms.patient_id(subject.patient, "" if subject.is_named else header.issuer_of_patient_id)
    exam_date = parse_date(header.study_date)
    spacing_mm = detector_spacing_mm(header)
    institution = header.institution_code or header.institution_name
    return ImageRecord(
        image_id=pseudonyms.image_id(header.sop_instance_uid),
        exam_id=pseudonyms.exam_id(subject.exam),
        patient_id=patient_id,
        laterality=subject.laterality,
        view_position=subject.view_position,
        acquisition=_acquisition(header, profile),
        source_sha256=source_sha256,
        rows_px=header.rows,
        columns_px=header.columns,
        photometric=Photometric(header.photometric_interpretation),
        pixel_spacing_mm=spacing_mm[0] if spacing_mm and spacing_mm[0] > 0 else None,
        manufacturer=_device_name(header.manufacturer),
        model_name=_device_name(header.model_name),
        exam_date=pseudonyms.shifted_date(patient_id, exam_date) if exam_date and exam_date >= EARLIEST_EXAM else None,
        patient_age_years=_age_years(header.patient_age),
        gate_warnings=gate_warnings,
        bare_patient_id=pseudonyms.patient_id(subject.patient),
        accession_id=pseudonyms.accession_id(header.accession_number) if header.accession_number.strip() else None,
        software_versions=_device_name(", ".join(header.software_versions)),
        device_id=_device_id(header, pseudonyms),
        processing=_device_name(header.processing),
        detector_id=pseudonyms.detector_id(header.detector_id) if header.detector_id.strip() else None,
        detector_type=_device_name(header.detector_type),
        institution_id=pseudonyms.institution_id(institution) if institution.strip() else None,
        **{name: getattr(header, name) for name in HEADER_NAMES},
    )


def _acquisition(header: DicomHeader, profile: Profile) -> Acquisition:
    if header.sop_class_uid != MAMMOGRAPHY_FOR_PRESENTATION and profile.acquisition is not None:
        return profile.acquisition
    if is_low_energy(header):
        return Acquisition.LOW_ENERGY
    return Acquisition.SYNTHETIC_2D if is_synthetic(header) else Acquisition.FFDM


def _device_name(text: str) -> str | None:
    """What of a device's name may be shown anywhere: it is free text, and reaches tables and pages."""
    return re.sub(r"[^A-Za-z0-9 ._,()-]", "", text).strip()[:64] or None


def _device_id(header: DicomHeader, pseudonyms: Pseudonyms) -> str | None:
    if not header.device_serial_number.strip():
        return None
    return pseudonyms.device_id(header.manufacturer, header.model_name, header.device_serial_number)


def _age_years(text: str) -> int | None:
    """PatientAge (0010,1010). 000Y is what de-identification leaves; above 89 becomes 90."""
    years = age_years(text)
    return min(years, 90) or None if years is not None else None


def _dark_background(
    stored_HW: NDArray[np.uint16],
    raw_HW: NDArray[np.uint16],
    values_HW: NDArray[np.uint16],
    largest: int,
    header: DicomHeader,
    record: ImageRecord,
) -> NDArray[np.uint16]:
    """Inverts MONOCHROME1 and sets padding (0028,0120), or the range up to (0028,0121), to 0 (PS3.3 C.7.5.1.1.2).

    Padding is told by stored values, whatever a window made of them; with the bits above BitsStored if its value has such.
    """
    is_inverted = record.photometric is Photometric.MONOCHROME1
    pixels_HW = np.uint16(largest) - values_HW if is_inverted else values_HW
    value, limit = header.pixel_padding_value, header.pixel_padding_range_limit
    if value is None:
        return pixels_HW
    low, high = sorted((value, value if limit is None else limit))
    if high == 0 and pixels_HW is raw_HW:
        return raw_HW  # padding that is 0 already, as most vendors write it
    told_HW = stored_HW if low >> record.bits_stored > 0 else raw_HW
    return np.where((told_HW >= max(low, 0)) & (told_HW <= min(high, 0xFFFF)), np.uint16(0), pixels_HW)
