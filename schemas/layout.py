"""The exam store on disk: file names, arrays, chunks, and the manifest's columns.

The writer makes its table from ``MANIFEST_COLUMNS`` and the data checks are generated from the same, so they cannot disagree.

    exam_store/
      pixels.zarr/pixels        uint16 [R, H, W]  the breast crop, chest wall at column 0, raw stored values, 0 outside
      pixels.zarr/lesion_mask   uint8  [R, H, W]  bit 0 benign, bit 1 malignant; same frame as pixels
      manifest.parquet          one line per published image, ``row`` = index R; replaced atomically
      quarantine.csv            one line per refused file, by pseudonym
      leakage.csv               images left out because another image has their pixels, by pseudonym
      same_patient.csv          patients who share a PatientID under several issuers, by pseudonym; only if there are any
      former_patients.csv       whose images were another patient's before, by pseudonym; only if any were; only added to
      withdrawn.jsonl           who withdrew what, when and why, by pseudonym; only if anybody did; lines are only added
      ledger.sqlite             what was seen, where it went; the truth for resuming
      ledger.json               in its place: address, schema and turn of a ledger in a database (``ingest.ledger``)
      store.json                layout version, canvas, preprocessing, pseudonym key id, store id, terms of its data
      lock                      held by the one writer
      objects.json              entity tags of the objects that this folder has seen; only of a store in a bucket

Of a store in a bucket (``ingest.store``) the arrays' shards lie there alone, and manifest, ``store.json`` and the two lists of
patients there too, under these names.

Arrays, ledger, manifest and the key file carry the id that ``store.json`` names: parts of two stores are never read together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from schemas.exam import UNKNOWN, Acquisition, Finding, FindingType

STORE_VERSION: Final = "2"
BUCKET_SCHEME: Final = "s3://"
"""What an address in an object store begins with."""
LABEL_GROUPS: Final = "label_groups"
PIXELS: Final = "pixels"
LESION_MASK: Final = "lesion_mask"
VIEWS_PER_EXAM: Final = 4
DAYS_TO_DIAGNOSIS, DAYS_OF_FOLLOWUP = "days_to_diagnosis", "days_of_followup"
SOFTWARE_VERSIONS: Final = "software_versions"
LABELS: Final = (0, 1, UNKNOWN)
"""Values of a finding's column: absent, present, not known."""
SEEN_ENOUGH: Final = 0.95
"""Share of a breast, or of a lesion, inside the network's window below which a check warns: the rim is muscle and fold."""


class Severity(StrEnum):
    """What a failed check does to the run."""

    BLOCK = "critical"
    WARN = "warning"


class Watch(StrEnum):
    """How a column's distribution is compared between ingests (rule R63)."""

    CATEGORY = "category"
    NUMBER = "number"  # by tenths of the earlier values


class Source(StrEnum):
    """Who says what a column holds of an image."""

    HEADER = "header"  # DicomHeader's field of this name, by way of ImageRecord's, both as they are
    RECORD = "record"  # ImageRecord: the header, judged by the gate, under pseudonyms
    CROP = "crop"  # the pixels as they were decoded, cropped and stored
    LABELS = "labels"  # the labels and boxes files
    LEDGER = "ledger"  # the ingest that brought the image


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One manifest column and what must hold for it.

    Attributes:
        dtype: pandas dtype.
        is_nullable: False if every image must have a value.
        allowed: Closed set of values, if there is one.
        minimum, maximum: Inclusive limits in the column's unit.
        severity: What a violation of limits or set does.
        source: Who says it. A column of the header needs no line of code but its field in ``DicomHeader`` and ``ImageRecord``.
        example: A value as it may stand there.
    """

    name: str
    dtype: str
    description: str
    is_nullable: bool = False
    is_unique: bool = False
    allowed: tuple[str, ...] | tuple[int, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    severity: Severity = Severity.BLOCK
    source: Source = Source.CROP
    example: str | int | float | None = None


def _text(name: str, description: str, example: str, source: Source = Source.RECORD) -> Column:
    return Column(name=name, dtype="string", description=description, is_nullable=True, source=source, example=example)


DEVICE_COLUMNS: Final = (  # what made an image; no part of data_version
    _text(SOFTWARE_VERSIONS, "SoftwareVersions (0018,1020): thresholds hold for what they were chosen on", "3.1, 2.0.7"),
    _text("device_id", "Pseudonym of DeviceSerialNumber (0018,1000)", "D0123456789abcdef01234567"),
    _text("processing", "AcquisitionDeviceProcessingDescription (0018,1400)", "Contrast 3"),
    _text("detector_id", "Pseudonym of DetectorID (0018,700A)", "T0123456789abcdef01234567"),
    _text("detector_type", "DetectorType (0018,7004)", "DIRECT"),
    _text("institution_id", "Pseudonym of InstitutionCodeSequence (0008,0082), or of InstitutionName", "N0123456789abcdef0123"),
)

MANIFEST_COLUMNS: Final = (
    Column(name="row", dtype="int64", description="Index R in the store", is_unique=True, minimum=0, example=0),
    Column(
        name="image_id",
        dtype="string",
        description="Pseudonym of SOPInstanceUID",
        is_unique=True,
        source=Source.RECORD,
        example="I0f3a",
    ),
    Column(name="exam_id", dtype="string", description="Pseudonym of StudyInstanceUID", source=Source.RECORD, example="E51c2"),
    Column(name="patient_id", dtype="string", description="Pseudonym of PatientID", source=Source.RECORD, example="P9b07"),
    Column(name="laterality", dtype="string", description="Side", allowed=("R", "L"), source=Source.RECORD, example="R"),
    Column(name="view_position", dtype="string", description="View", allowed=("CC", "MLO"), source=Source.RECORD, example="CC"),
    Column(
        name="acquisition",
        dtype="string",
        description="How acquired",
        allowed=tuple(kind.value for kind in Acquisition),
        source=Source.RECORD,
        example="ffdm",
    ),
    Column(
        name="benign",
        dtype="int64",
        description="0 absent, 1 present, 255 not known",
        allowed=LABELS,
        source=Source.LABELS,
        example=0,
    ),
    Column(
        name="malignant",
        dtype="int64",
        description="0 absent, 1 present, 255 not known",
        allowed=LABELS,
        source=Source.LABELS,
        example=1,
    ),
    Column(
        name="birads",
        dtype="int64",
        description="BI-RADS category, 255 not known",
        allowed=(*range(7), UNKNOWN),
        source=Source.LABELS,
        example=5,
    ),
    _text("label_source", "Where the label comes from", "biopsy", Source.LABELS),
    Column(
        name="density",
        dtype="string",
        description="BI-RADS breast density",
        is_nullable=True,
        allowed=("a", "b", "c", "d"),
        source=Source.LABELS,
        example="b",
    ),
    Column(
        name="finding_type",
        dtype="string",
        description="What the breast's finding looks like",
        is_nullable=True,
        allowed=tuple(kind.value for kind in FindingType),
        source=Source.LABELS,
        example="mass",
    ),
    _text("lesion_boxes", "LesionBox.text of each box, '; ' between", "malignant 10 20 30 40", Source.LABELS),
    Column(name="has_lesion_mask", dtype="bool", description="True if lesion_mask holds this image's lesions", example=True),
    Column(
        name="mask_sha256", dtype="string", description="Digest of the stored lesion mask", is_nullable=True, example="d" * 64
    ),
    Column(
        name="source_sha256",
        dtype="string",
        description="Keyed digest of the DICOM file",
        source=Source.RECORD,
        example="a" * 64,
    ),
    Column(name="pixel_sha256", dtype="string", description="Keyed digest of the decoded image", example="b" * 64),
    Column(
        name="written_sha256",
        dtype="string",
        description="Digest of the stored crop: what `mammo scrub` compares",
        example="c" * 64,
    ),
    Column(
        name="source_rows_px",
        dtype="int64",
        description="Rows of the source image",
        minimum=64,
        maximum=8192,
        source=Source.RECORD,
        example=3328,
    ),
    Column(
        name="source_columns_px",
        dtype="int64",
        description="Columns of the source image",
        minimum=64,
        maximum=8192,
        source=Source.RECORD,
        example=2560,
    ),
    Column(
        name="bits_stored", dtype="int64", description="BitsStored", minimum=8, maximum=16, source=Source.HEADER, example=12
    ),
    Column(
        name="photometric",
        dtype="string",
        description="As in the source",
        allowed=("MONOCHROME1", "MONOCHROME2"),
        source=Source.RECORD,
        example="MONOCHROME2",
    ),
    Column(
        name="transfer_syntax_uid",
        dtype="string",
        description="Encoding of the source",
        source=Source.HEADER,
        example="1.2.840.10008.1.2.4.70",
    ),
    Column(
        name="pixel_spacing_mm",
        dtype="float64",
        description="At the detector",
        is_nullable=True,
        minimum=0.03,
        maximum=0.5,
        severity=Severity.WARN,
        source=Source.RECORD,
        example=0.07,
    ),
    _text("manufacturer", "Manufacturer", "ACME"),
    _text("model_name", "ManufacturerModelName", "Phantom"),
    _text("exam_date", "Shifted per patient, ISO 8601", "2019-03-05"),
    Column(
        name="patient_age_years",
        dtype="float64",
        description="90 = 90 or more",
        is_nullable=True,
        minimum=18,
        maximum=90,
        severity=Severity.WARN,
        source=Source.RECORD,
        example=54.0,
    ),
    Column(
        name="gate_warnings",
        dtype="string",
        description="Ids of rules that warned, space separated",
        source=Source.RECORD,
        example="V11",
    ),
    Column(
        name="batch",
        dtype="int64",
        description="Which ingest brought the image, counted from 1",
        minimum=1,
        source=Source.LEDGER,
        example=1,
    ),
    Column(
        name="batch_date",
        dtype="string",
        description="When that ingest planned its rows, ISO 8601, UTC",
        source=Source.LEDGER,
        example="2026-01-02",
    ),
    Column(name="crop_top_px", dtype="int64", description="Crop box in the source", minimum=0, example=100),
    Column(name="crop_bottom_px", dtype="int64", description="Crop box in the source, exclusive", minimum=1, example=3000),
    Column(name="crop_left_px", dtype="int64", description="Crop box in the source", minimum=0, example=0),
    Column(name="crop_right_px", dtype="int64", description="Crop box in the source, exclusive", minimum=1, example=1500),
    Column(name="is_flipped", dtype="bool", description="True if mirrored to bring the chest wall to column 0", example=True),
    Column(
        name="scale", dtype="float64", description="Stored pixels per source pixel", minimum=0.05, maximum=20.0, example=1.0
    ),
    Column(name="best_center_row_px", dtype="int64", description="Window centre in the stored crop", example=1450),
    Column(name="best_center_column_px", dtype="int64", description="Window centre in the stored crop", example=-200),
    Column(name="stored_rows_px", dtype="int64", description="Rows of the stored crop", minimum=1, example=2900),
    Column(name="stored_columns_px", dtype="int64", description="Columns of the stored crop", minimum=1, example=1500),
    Column(name="pixel_min", dtype="int64", description="Smallest stored value", minimum=0, example=0),
    Column(name="pixel_max", dtype="int64", description="Largest stored value", minimum=1, maximum=65535, example=4095),
    Column(name="pixel_mean", dtype="float64", description="Mean of the crop", minimum=0.0, example=1200.5),
    Column(
        name="background_median",
        dtype="float64",
        description="Median along the image border away from the chest wall",
        severity=Severity.WARN,
        maximum=4096.0,
        example=0.0,
    ),
    Column(
        name="tissue_fraction",
        dtype="float64",
        description="Share of the source image inside the breast",
        minimum=0.03,
        maximum=0.97,
        severity=Severity.WARN,
        example=0.4,
    ),
)


def _days_column(name: str, description: str, example: float) -> Column:
    of_labels: dict[str, Any] = {"minimum": 0.0, "severity": Severity.WARN, "source": Source.LABELS}
    return Column(name=name, dtype="float64", description=description, is_nullable=True, example=example, **of_labels)


OPTIONAL_COLUMNS: Final = (
    *DEVICE_COLUMNS,
    Column(
        name="quarter_turns",
        dtype="int64",
        description="Clockwise quarter turns between the source's crop and the stored one, before the mirroring",
        allowed=(0, 1, 2, 3),
        example=1,
    ),
    Column(
        name="breast_seen_fraction",
        dtype="float64",
        description="Share of the breast inside the network's window; empty where the crop fits in, or an older version cut it",
        is_nullable=True,
        minimum=0.0,
        maximum=1.0,
        example=0.74,
    ),
    Column(
        name="lesion_seen_fraction",
        dtype="float64",
        description="Share inside the network's window of the mask's lesion that has least of it there; empty where all is",
        is_nullable=True,
        minimum=0.0,
        maximum=1.0,
        example=0.5,
    ),
    _text(
        "lesions_beyond",
        "LesionBeyond.text of each lesion of the mask that the stored crop does not hold whole, '; ' between",
        "malignant 5320 120 33",
        Source.CROP,
    ),
    _text(
        LABEL_GROUPS,
        "Of the labels file, the columns that `evaluate.subgroup_columns` names, by column, as JSON",
        '{"site": "A"}',
        Source.LABELS,
    ),
    _days_column(
        DAYS_TO_DIAGNOSIS, "Days from the exam to the diagnosis of the breast's cancer; below 0 it was known at the exam", 311.0
    ),
    _days_column(DAYS_OF_FOLLOWUP, "Days from the exam to the last one on which the breast was known to have no cancer", 790.0),
)
"""Columns that the manifest has only while one of its images needs it; absent stands for 0, or for empty if it may be that.

So a store of upright images that fit into the window is, to the byte, what older versions wrote, and theirs are read as they
are.
"""

_BY_CATEGORY: Final = (
    "view_position", "acquisition", "benign", "malignant", "birads", "density", "bits_stored", "photometric",
    "transfer_syntax_uid", "manufacturer", "model_name",
)  # fmt: skip
WATCHED_COLUMNS: Final = {
    **dict.fromkeys(_BY_CATEGORY, Watch.CATEGORY),
    **dict.fromkeys(("patient_age_years", "pixel_mean", "background_median", "tissue_fraction"), Watch.NUMBER),
}
"""Columns whose distribution is compared from ingest to ingest."""

HEADER_NAMES: Final = tuple(column.name for column in (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS) if column.source is Source.HEADER)
"""Columns that hold an attribute of the header as it is: numbers and UIDs, never free text, which may name somebody."""
MANIFEST_NAMES: Final = tuple(column.name for column in MANIFEST_COLUMNS)
SPLIT_NAMES: Final = ("patient_id", "split")

MASK_BITS: Final[Mapping[Finding, int]] = {Finding.BENIGN: 1, Finding.MALIGNANT: 2}
"""Of a lesion mask (``schemas.layout``)."""
