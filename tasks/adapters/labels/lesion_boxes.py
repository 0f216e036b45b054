"""The boxes file: lesions marked by rectangles where no mask exists, one line per box (docs/reference/labels.md).

Identifiers leave as pseudonyms; no message quotes what a field holds.
"""

from __future__ import annotations

import csv
import logging
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from schemas.errors import LabelError
from schemas.exam import Finding, LesionBox
from tasks.adapters.pseudonyms import Pseudonyms

logger = logging.getLogger(__name__)

EDGES: Final = ("xmin", "ymin", "xmax", "ymax")
COLUMNS: Final = ("sop_instance_uid", "finding", *EDGES)
LESION: Final = "lesion"
"""Optional column: what the lesion is called in every image of its breast, so that CC and MLO show one and not two."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,8}")


def read_boxes(path: Path, pseudonyms: Pseudonyms) -> dict[str, tuple[LesionBox, ...]]:
    """The boxes of each image, by its pseudonym.

    Args:
        path: CSV in UTF-8 with the columns ``COLUMNS``.
        pseudonyms: Replaces SOPInstanceUID (0008,0018).

    Raises:
        LabelError: The file cannot be read, lacks a column, or a line is no box.
    """
    boxes: dict[str, list[LesionBox]] = defaultdict(list)
    clipped = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
            if missing:
                raise LabelError(
                    f"{path.name} lacks columns of a boxes file", expected=", ".join(COLUMNS), got=f"no {missing[0]}"
                )
            for row in rows:
                uid = (row["sop_instance_uid"] or "").strip()
                if not uid:
                    raise LabelError(
                        f"Boxes line {rows.line_num} names no image", expected="SOPInstanceUID (0008,0018)", got="nothing"
                    )
                box, is_clipped = _box(row, rows.line_num)
                boxes[pseudonyms.image_id(uid)].append(box)
                clipped += is_clipped
    except (OSError, UnicodeDecodeError, csv.Error) as unreadable:
        raise LabelError(
            f"The boxes file {path.name} cannot be read",
            expected="CSV in UTF-8 with a header line",
            got=type(unreadable).__name__,
            remedy="check ingest.boxes_csv",
        ) from None  # the foreign message may quote a value
    if clipped:
        logger.warning("%d lesion boxes begin left of or above their image: clipped to its edge", clipped)
    return {image_id: tuple(found) for image_id, found in boxes.items()}


def box_texts(boxes: Mapping[str, tuple[LesionBox, ...]], image_id: str, shape_px: tuple[int, int]) -> str | None:
    """What the manifest's ``lesion_boxes`` holds of an image; None = none.

    Raises:
        LabelError: A box lies outside its image: it is of another frame.
    """
    found = boxes.get(image_id, ())
    if any(box.top_px >= shape_px[0] or box.left_px >= shape_px[1] for box in found):
        raise LabelError(
            "A lesion box lies outside its image",
            expected=f"edges within {shape_px[0]} rows and {shape_px[1]} columns",
            got="a box below or right of them",
            remedy="give pixels of the DICOM file's image, not of a resized or cropped copy",
        )
    return "; ".join(box.text for box in found) or None


def _box(row: Mapping[str, str | None], line: int) -> tuple[LesionBox, bool]:
    """The box, and whether it was clipped: people draw beyond an edge, and a part inside is what they meant."""
    name = (row["finding"] or "").strip().lower()
    if name and name not in set(Finding):
        raise LabelError(f"Boxes line {line}, column finding", expected="benign, malignant or empty", got="something else")
    try:
        xmin, ymin, xmax, ymax = (float(row[edge] or "") for edge in EDGES)
    except ValueError:
        raise LabelError(
            f"Boxes line {line} is no box", expected="numbers in xmin, ymin, xmax, ymax", got="no number"
        ) from None
    is_clipped = xmin < 0.0 or ymin < 0.0
    xmin, ymin = max(xmin, 0.0), max(ymin, 0.0)
    if not (xmin < xmax < math.inf and ymin < ymax < math.inf):
        raise LabelError(
            f"Boxes line {line} is no box", expected="xmin < xmax and ymin < ymax, some of it inside", got="other edges",
            remedy="x counts columns, y rows, from the image's upper left corner",
        )  # fmt: skip
    lesion = (row.get(LESION) or "").strip()
    if lesion and not _NAME.fullmatch(lesion):
        raise LabelError(
            f"Boxes line {line}, column {LESION}",
            expected="at most 8 letters, digits, - and _, or empty",
            got="something else",
            remedy="number the lesions of each breast: 1, 2",
        )
    box = LesionBox(
        lesion=lesion or None,
        finding=Finding(name) if name else None,
        top_px=math.floor(ymin),
        bottom_px=math.ceil(ymax),
        left_px=math.floor(xmin),
        right_px=math.ceil(xmax),
    )
    return box, is_clipped
