"""The exam store on disk: file names, arrays, chunks, and the manifest's columns.

The writer makes its table from ``MANIFEST_COLUMNS`` and the data checks are generated from the same, so they cannot disagree.

    exam_store/
      pixels.zarr/pixels        uint16 [R, H, W]  the breast crop, chest wall at column 0, raw stored values, 0 outside
      pixels.zarr/lesion_mask   uint8  [R, H, W]  bit 0 benign, bit 1 malignant; same frame as pixels
      manifest.parquet          one line per published image, ``row`` = index R; replaced atomically
      quarantine.csv            one line per refused file, by pseudonym
      leakage.csv               images left out because another image has their pixels, by pseudonym
      same_patient.csv          patients who share a PatientID under several issuers, by pseudonym; only if there are any
      withdrawn.jsonl           who withdrew what, when and why, by pseudonym; only if anybody did; lines are only added
      ledger.sqlite             what was seen, where it went; the truth for resuming
      store.json                layout version, canvas, preprocessing, pseudonym key id, store id
      lock                      held by the one writer

Arrays, ledger and manifest carry the id that ``store.json`` names: parts of two stores are never read together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.exam import UNKNOWN_LABEL, Acquisition, Finding, FindingType

STORE_VERSION: Final = "2"
PIXELS: Final = "pixels"
LESION_MASK: Final = "lesion_mask"
VIEWS_PER_EXAM: Final = 4
LABELS: Final = (0, 1, UNKNOWN_LABEL)
"""Values of a finding's column: absent, present, not known."""


class Severity(StrEnum):
    """What a failed check does to the run."""

    BLOCK = "critical"
    WARN = "warning"


class Watch(StrEnum):
    """How a column's distribution is compared between ingests (rule R63)."""

    CATEGORY = "category"
    NUMBER = "number"  # by tenths of the earlier values


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One manifest column and what must hold for it.

    Attributes:
        dtype: pandas dtype.
        is_nullable: False if every image must have a value.
        allowed: Closed set of values, if there is one.
        minimum, maximum: Inclusive limits in the column's unit.
        severity: What a violation of limits or set does.
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


MANIFEST_COLUMNS: Final = (
    Column(name="row", dtype="int64", description="Index R in the store", is_unique=True, minimum=0),
    Column(name="image_id", dtype="string", description="Pseudonym of SOPInstanceUID", is_unique=True),
    Column(name="exam_id", dtype="string", description="Pseudonym of StudyInstanceUID"),
    Column(name="patient_id", dtype="string", description="Pseudonym of PatientID"),
    Column(name="laterality", dtype="string", description="Side", allowed=("R", "L")),
    Column(name="view_position", dtype="string", description="View", allowed=("CC", "MLO")),
    Column(name="acquisition", dtype="string", description="How acquired", allowed=tuple(kind.value for kind in Acquisition)),
    Column(name="benign", dtype="int64", description="0 absent, 1 present, 255 not known", allowed=LABELS),
    Column(name="malignant", dtype="int64", description="0 absent, 1 present, 255 not known", allowed=LABELS),
    Column(name="birads", dtype="int64", description="BI-RADS category, 255 not known", allowed=(*range(7), UNKNOWN_LABEL)),
    Column(name="label_source", dtype="string", description="Where the label comes from", is_nullable=True),
    Column(
        name="density", dtype="string", description="BI-RADS breast density", is_nullable=True, allowed=("a", "b", "c", "d")
    ),
    Column(
        name="finding_type",
        dtype="string",
        description="What the breast's finding looks like",
        is_nullable=True,
        allowed=tuple(kind.value for kind in FindingType),
    ),
    Column(name="lesion_boxes", dtype="string", description="LesionBox.text of each box, '; ' between", is_nullable=True),
    Column(name="has_lesion_mask", dtype="bool", description="True if lesion_mask holds this image's lesions"),
    Column(name="mask_sha256", dtype="string", description="Digest of the stored lesion mask", is_nullable=True),
    Column(name="source_sha256", dtype="string", description="Digest of the DICOM file"),
    Column(name="pixel_sha256", dtype="string", description="Digest of the decoded image"),
    Column(name="written_sha256", dtype="string", description="Digest of the stored crop: what `mammo scrub` compares"),
    Column(name="source_rows_px", dtype="int64", description="Rows of the source image", minimum=64, maximum=8192),
    Column(name="source_columns_px", dtype="int64", description="Columns of the source image", minimum=64, maximum=8192),
    Column(name="bits_stored", dtype="int64", description="BitsStored", minimum=8, maximum=16),
    Column(name="photometric", dtype="string", description="As in the source", allowed=("MONOCHROME1", "MONOCHROME2")),
    Column(name="transfer_syntax_uid", dtype="string", description="Encoding of the source"),
    Column(
        name="pixel_spacing_mm",
        dtype="float64",
        description="At the detector",
        is_nullable=True,
        minimum=0.03,
        maximum=0.5,
        severity=Severity.WARN,
    ),
    Column(name="manufacturer", dtype="string", description="Manufacturer", is_nullable=True),
    Column(name="model_name", dtype="string", description="ManufacturerModelName", is_nullable=True),
    Column(name="exam_date", dtype="string", description="Shifted per patient, ISO 8601", is_nullable=True),
    Column(
        name="patient_age_years",
        dtype="float64",
        description="90 = 90 or more",
        is_nullable=True,
        minimum=18,
        maximum=90,
        severity=Severity.WARN,
    ),
    Column(name="gate_warnings", dtype="string", description="Ids of rules that warned, space separated"),
    Column(name="batch", dtype="int64", description="Which ingest brought the image, counted from 1", minimum=1),
    Column(name="batch_date", dtype="string", description="When that ingest planned its rows, ISO 8601, UTC"),
    Column(name="crop_top_px", dtype="int64", description="Crop box in the source", minimum=0),
    Column(name="crop_bottom_px", dtype="int64", description="Crop box in the source, exclusive", minimum=1),
    Column(name="crop_left_px", dtype="int64", description="Crop box in the source", minimum=0),
    Column(name="crop_right_px", dtype="int64", description="Crop box in the source, exclusive", minimum=1),
    Column(name="is_flipped", dtype="bool", description="True if mirrored to bring the chest wall to column 0"),
    Column(name="scale", dtype="float64", description="Stored pixels per source pixel", minimum=0.05, maximum=1.0),
    Column(name="best_center_row_px", dtype="int64", description="Window centre in the stored crop"),
    Column(name="best_center_column_px", dtype="int64", description="Window centre in the stored crop"),
    Column(name="stored_rows_px", dtype="int64", description="Rows of the stored crop", minimum=1),
    Column(name="stored_columns_px", dtype="int64", description="Columns of the stored crop", minimum=1),
    Column(name="pixel_min", dtype="int64", description="Smallest stored value", minimum=0),
    Column(name="pixel_max", dtype="int64", description="Largest stored value", minimum=1, maximum=65535),
    Column(name="pixel_mean", dtype="float64", description="Mean of the crop", minimum=0.0),
    Column(
        name="background_median",
        dtype="float64",
        description="Median along the image border away from the chest wall",
        severity=Severity.WARN,
        maximum=4096.0,
    ),
    Column(
        name="tissue_fraction",
        dtype="float64",
        description="Share of the source image inside the breast",
        minimum=0.03,
        maximum=0.97,
        severity=Severity.WARN,
    ),
)

OPTIONAL_COLUMNS: Final = (
    Column(
        name="quarter_turns",
        dtype="int64",
        description="Clockwise quarter turns between the source's crop and the stored one, before the mirroring",
        allowed=(0, 1, 2, 3),
    ),
)
"""Integer columns that the manifest has only while one of its images needs it; absent stands for 0 in every line.

So a store of upright images is, to the byte, what older versions wrote, and theirs are read as they are.
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

MANIFEST_NAMES: Final = tuple(column.name for column in MANIFEST_COLUMNS)
SPLIT_NAMES: Final = ("patient_id", "split")


MASK_BITS: Final[Mapping[Finding, int]] = {Finding.BENIGN: 1, Finding.MALIGNANT: 2}
"""Of a lesion mask (``schemas.layout``)."""
