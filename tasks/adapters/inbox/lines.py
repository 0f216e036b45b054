"""What goes into the ledger and what comes out of it: accepted files, and the line of each stored image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from schemas.exam import ImageRecord, Laterality
from tasks.adapters.gate.source_file import SourceFile

AcceptedFile = tuple[SourceFile, ImageRecord]
"""A file whose header the gate accepted; the record's digest is "" if nobody needed it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One written claim: a file, the image that it holds, and the store row that it was written to.

    Attributes:
        batch: Which ingest planned its row, counted from 1; None in ledgers from before rows were planned in batches.
        batch_date: When that ingest planned its rows, ISO 8601.
        keyed_pixel_sha256: ``pixel_sha256`` where an older release wrote the line with a plain digest; "" = as it is stored.
        mask_fingerprint: Of the lesion mask file it was written with; "" = none. It is kept by the ledger and not read back.
        stored: What was written beside the pixels, by the manifest's column; ``accession_id``, ``bare_patient_id`` and
            ``is_mask_unusable`` too, which are not published. It is what the ledger keeps as JSON.
    """

    file_id: str
    batch: int | None = None
    batch_date: str | None = None
    keyed_pixel_sha256: str = ""
    mask_fingerprint: str = ""
    stored: Mapping[str, object] = field(repr=False)

    @property
    def row(self) -> int:
        """Index in the store."""
        return int(str(self.stored["row"]))

    @property
    def image_id(self) -> str:
        """Pseudonym of SOPInstanceUID."""
        return str(self.stored["image_id"])

    @property
    def exam_id(self) -> str:
        """Pseudonym of StudyInstanceUID."""
        return str(self.stored["exam_id"])

    @property
    def patient_id(self) -> str:
        """Pseudonym of PatientID."""
        return str(self.stored["patient_id"])

    @property
    def laterality(self) -> Laterality:
        """Side of the breast."""
        return Laterality(str(self.stored["laterality"]))

    @property
    def breast(self) -> tuple[str, Laterality]:
        """What a label is about: exam and side."""
        return self.exam_id, self.laterality

    @property
    def exam_date(self) -> date | None:
        """Shifted per patient; None = not known."""
        text = self.stored["exam_date"]
        return None if text is None else date.fromisoformat(str(text))

    @property
    def accession_id(self) -> str | None:
        """Pseudonym of AccessionNumber, by which labels may name the exam; None = not given."""
        text = self.stored.get("accession_id")
        return None if text is None else str(text)

    @property
    def pixel_sha256(self) -> str:
        """Keyed digest of the decoded image, by which lines are compared; a manifest holds what is stored."""
        return self.keyed_pixel_sha256 or str(self.stored["pixel_sha256"])

    @property
    def source_shape_px(self) -> tuple[int, int]:
        """Rows and columns of the source image."""
        return int(str(self.stored["source_rows_px"])), int(str(self.stored["source_columns_px"]))

    @property
    def stored_shape_px(self) -> tuple[int, int]:
        """Rows and columns of the stored crop."""
        return int(str(self.stored["stored_rows_px"])), int(str(self.stored["stored_columns_px"]))

    @property
    def written_sha256(self) -> str:
        """Digest of the stored crop."""
        return str(self.stored["written_sha256"])

    @property
    def mask_sha256(self) -> str | None:
        """Digest of the stored lesion mask; None = there is none."""
        digest = self.stored["mask_sha256"]
        return None if digest is None else str(digest)

    @property
    def bare_patient_id(self) -> str | None:
        """Pseudonym of PatientID without its issuer; None in lines of older versions."""
        text = self.stored.get("bare_patient_id")
        return None if text is None else str(text)

    @property
    def is_mask_unusable(self) -> bool:
        """True if its mask file could not be used; older versions did not say."""
        return bool(self.stored.get("is_mask_unusable"))

    @property
    def columns(self) -> dict[str, object]:
        """The manifest's columns that ingest knows; labels and boxes join later."""
        stored = self.stored.in_one() if isinstance(self.stored, _Stored) else self.stored
        return {**stored, "batch": self.batch, "batch_date": self.batch_date}


class _Stored(Mapping[str, object]):
    """The values of one line by name.

    The names stand once for all lines that have the same: a dictionary for each takes more memory than what it holds.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: tuple[object, ...]) -> None:
        self._places, self._values = places, values

    def __getitem__(self, name: str) -> object:
        return self._values[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._values)

    def in_one(self) -> dict[str, object]:
        """All of them; to ask for each by its name takes four times as long."""
        return dict(zip(self._places, self._values, strict=True))


LinePart = Sequence[tuple[str, int | None, str | None, str | None, str]]
"""Some rows of the ledger: file, batch, its date, keyed pixel digest ("" = as in the line), the line's JSON."""


def parsed_lines(parts: Iterable[LinePart]) -> list[LedgerLine]:
    """Lines of rows that come in parts.

    Names are kept once, and so are texts and sizes that images repeat: a million lines take a third of the memory so, and
    their JSON is never there as a whole.
    """
    kept: dict[object, object] = {}
    places: _Places = {}
    return [line for rows in parts for line in _parsed(rows, kept, places)]


def each_parsed(parts: Iterable[LinePart]) -> Iterator[LedgerLine]:
    """The same lines in turn: nothing is kept of a part but the names."""
    places: _Places = {}
    for rows in parts:
        yield from _parsed(rows, None, places)


_Places = dict[tuple[str, ...], dict[str, int]]


def _parsed(rows: LinePart, kept: dict[object, object] | None, places: _Places) -> list[LedgerLine]:
    """A part is one document; ``kept`` is what is there once for all lines, None where none of them stays."""
    lines = []
    stored: list[dict[str, object]] = json.loads(f"[{','.join(row[-1] for row in rows)}]")
    for line, (file_id, batch, date_, keyed, _) in zip(stored, rows, strict=True):
        if kept is not None:
            date_ = None if date_ is None else str(kept.setdefault(date_, date_))
            for name in _REPEATED:
                if type(value := line.get(name)) in _KEPT_ONCE:  # not 1.0 nor True, which are equal to 1
                    line[name] = kept.setdefault(value, value)
        names = tuple(line)
        if (place_of := places.get(names)) is None:
            place_of = places[names] = {name: place for place, name in enumerate(names)}
        lines.append(
            LedgerLine(
                file_id=file_id,
                batch=batch,
                batch_date=date_,
                keyed_pixel_sha256=keyed or "",
                stored=_Stored(place_of, tuple(line.values())),
            )
        )
    return lines


_KEPT_ONCE: Final = (str, int)
_REPEATED: Final = (
    "exam_id", "patient_id", "bare_patient_id", "accession_id", "laterality", "view_position", "acquisition", "photometric",
    "transfer_syntax_uid", "manufacturer", "model_name", "exam_date", "gate_warnings", "source_rows_px", "source_columns_px",
    "crop_top_px", "crop_bottom_px", "crop_left_px", "crop_right_px", "best_center_row_px", "best_center_column_px",
    "stored_rows_px", "stored_columns_px", "pixel_min", "pixel_max",
)  # fmt: skip
