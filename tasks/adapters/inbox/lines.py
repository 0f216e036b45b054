"""What goes into the ledger and what comes out of it: accepted files, and the line of each stored image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
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
            ``is_mask_unusable`` too, which are not published. It is the dictionary that the ledger keeps as JSON: a million of
            them share their keys.
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
        return {**self.stored, "batch": self.batch, "batch_date": self.batch_date}


def parsed_lines(parts: Iterable[Sequence[tuple[str, int | None, str | None, str | None, str]]]) -> list[LedgerLine]:
    """Lines of rows that come in parts: file, batch, its date, keyed pixel digest ("" = as in the line), the line's JSON.

    A part is one document, whose lines share their keys; texts that images repeat are kept once. A million lines take half of
    the memory so, and their JSON is never there as a whole.
    """
    lines: list[LedgerLine] = []
    texts: dict[object, object] = {}
    for rows in parts:
        stored: list[dict[str, object]] = json.loads(f"[{','.join(row[-1] for row in rows)}]")
        for line, (file_id, batch, date_, keyed, _) in zip(stored, rows, strict=True):
            for name in _REPEATED:
                if (text := line.get(name)) is not None:
                    line[name] = texts.setdefault(text, text)
            lines.append(
                LedgerLine(file_id=file_id, batch=batch, batch_date=date_, keyed_pixel_sha256=keyed or "", stored=line)
            )
    return lines


_REPEATED: Final = (
    "exam_id", "patient_id", "bare_patient_id", "laterality", "view_position", "acquisition", "photometric",
    "transfer_syntax_uid", "manufacturer", "model_name", "exam_date", "gate_warnings",
)  # fmt: skip
