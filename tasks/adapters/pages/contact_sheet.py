"""The contact sheet: every refused file with its reasons, and a small picture of what its pixels show where they decode.

No identifier is on the page: files have their pseudonym, messages hold rule ids and numbers. Pictures are shrunk at least
eightfold, so that burned-in text is a few pixels, and there is none of files that are likely to have such text. Foreign bytes
are decoded in the gate's child process only.
"""

from __future__ import annotations

import base64
import logging
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import cv2

from schemas.config.ingest import GateLimits
from schemas.errors import DicomError, SourceUnavailable
from schemas.exam import QuarantinedFile
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.messages import DrawThumbnail
from tasks.adapters.gate.rules.table import demand
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.pages.render import write_page

logger = logging.getLogger(__name__)

PICTURE_SIDE_PX: Final = 160
MOST_CARDS: Final = 1000
"""Files shown; more are counted only. A page of 1000 pictures has 6 MB."""

_NO_PICTURE: Final = {
    "D01": "text is burned in",
    "K02": "a secondary capture may hold burned-in text",
    "K04": "not a mammogram: may hold burned-in text",
    "K05": "not a mammogram: may hold burned-in text",
    "F04": "too large to be drawn",
    "F05": "not a DICOM file",
    "F10": "reading it took too long",
    "F11": "reading it broke the reader",
    "X21": "its pixels are too few or too many bytes",
}
"""By the rule that refused it why a file has no picture: it may show a name, or nothing can be drawn and no child need try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One refused file on the page.

    Attributes:
        reasons: (rule id, what the rule demands).
        data_uri: The picture; None = there is none, ``note`` says why.
    """

    file_id: str
    reasons: tuple[tuple[str, str], ...]
    message: str
    data_uri: str | None
    note: str


def write_contact_sheet(
    refused: Sequence[QuarantinedFile],
    sources: Mapping[str, SourceFile],
    *,
    source_dir: Path,
    output_path: Path,
    created: datetime,
    limits: GateLimits,
    pictures: int = MOST_CARDS,
) -> Path:
    """Writes the page.

    Args:
        refused: Every refused file.
        sources: Where they are, of those that are still there.
        source_dir: The folder below which they are; of objects of a bucket the start of their names.
        output_path: Where the page goes; replaced atomically.
        created: When the page was made.
        limits: What decoding one file may take.
        pictures: At most so many are drawn; a large file takes a second.

    Returns:
        ``output_path``.
    """
    shown = sorted(refused, key=lambda file: (file.reason_codes, file.file_id))[:MOST_CARDS]
    with GateChild(limits) as child:
        cards = [
            _card(file, sources.get(file.file_id), source_dir, child if place < pictures else None)
            for place, file in enumerate(shown)
        ]
    counts = Counter(code for file in refused for code in file.reason_codes)
    write_page(
        output_path,
        "contact_sheet.html.jinja",
        created=created,
        files=len(refused),
        cards=cards,
        counts=[(code, demand(code), count) for code, count in counts.most_common()],
    )
    logger.info("contact sheet of %d refused files written", len(refused))
    return output_path


def _card(file: QuarantinedFile, source: SourceFile | None, source_dir: Path, child: GateChild | None) -> Card:
    data_uri, note = _picture(file, source, source_dir, child)
    return Card(
        file_id=file.file_id,
        reasons=tuple((code, demand(code)) for code in file.reason_codes),
        message=file.refusal.text,
        data_uri=data_uri,
        note=note,
    )


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # taken away since it was listed; the system's error quotes its path, which may spell a name
        return False


def _picture(
    file: QuarantinedFile, source: SourceFile | None, source_dir: Path, child: GateChild | None
) -> tuple[str | None, str]:
    withheld = next((why for code, why in _NO_PICTURE.items() if code in file.reason_codes), None)
    if withheld is not None:
        return None, f"No picture: {withheld}."
    if child is None:
        return None, "No picture here: `mammo quarantine sheet` draws it."
    if source is None or not (source.stored or _is_plain_file(source.path)):
        return None, "No picture: not in the source as a plain file."
    try:
        grey_HW = child.thumbnail(
            DrawThumbnail(path=source.path, source_dir=source_dir, side_px=PICTURE_SIDE_PX, stored=source.stored)
        )
    except (DicomError, SourceUnavailable):
        return None, "No picture: its pixels do not decode."
    _, jpeg = cv2.imencode(".jpg", grey_HW, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode('ascii')}", ""
