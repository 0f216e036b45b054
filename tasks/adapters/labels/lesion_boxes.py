"""The boxes file: lesions marked by rectangles where no mask exists, one line per box (docs/reference/labels.md).

Identifiers leave as pseudonyms; no message quotes what a field holds.
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from schemas.errors import LabelError
from schemas.exam import Finding, LesionBox
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.separators import csv_rows, fault_of

EDGES: Final = ("xmin", "ymin", "xmax", "ymax")
COLUMNS: Final = ("sop_instance_uid", "finding", *EDGES)
LESION: Final = "lesion"
"""Optional column: what the lesion is called in every image of its breast, so that CC and MLO show one and not two."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,8}")


def read_boxes(path: Path, pseudonyms: Pseudonyms) -> dict[str, tuple[LesionBox, ...]]:
    """The boxes of each image, by its pseudonym.

    Args:
        path: CSV in UTF-8, separated by comma, semicolon or tab, with the columns ``COLUMNS``.
        pseudonyms: Replaces SOPInstanceUID (0008,0018).

    Raises:
        LabelError: The file cannot be read, lacks a column, or a line is no box.
    """
    boxes: dict[str, list[LesionBox]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv_rows(file)
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
                boxes[pseudonyms.image_id(uid)].append(_box(row, rows.line_num))
    except (OSError, UnicodeDecodeError, csv.Error) as unreadable:
        raise LabelError(
            f"The boxes file {path.name} cannot be read",
            expected="CSV in UTF-8 with a header line",
            got=fault_of(unreadable),
            remedy="check ingest.boxes_csv",
        ) from None  # the foreign message may quote a value
    return {image_id: tuple(found) for image_id, found in boxes.items()}


def box_texts(boxes: Mapping[str, tuple[LesionBox, ...]], image_id: str, shape_px: tuple[int, int]) -> str | None:
    """What the manifest's ``lesion_boxes`` holds of an image, clipped to it; None = none.

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
    return "; ".join(clipped(box, shape_px).text for box in found) or None


def clipped(box: LesionBox, shape_px: tuple[int, int]) -> LesionBox:
    """The part inside an image of (rows, columns): people draw beyond an edge, and what is inside is what they meant."""
    rows, columns = shape_px
    return replace(
        box,
        top_px=max(0, box.top_px),
        bottom_px=min(rows, box.bottom_px),
        left_px=max(0, box.left_px),
        right_px=min(columns, box.right_px),
    )


def _box(row: Mapping[str, str | None], line: int) -> LesionBox:
    """The box as it was drawn, some of it right of and below the upper left corner."""
    name = (row["finding"] or "").strip().lower()
    if name and name not in set(Finding):
        raise LabelError(f"Boxes line {line}, column finding", expected="benign, malignant or empty", got="something else")
    try:
        xmin, ymin, xmax, ymax = (float(row[edge] or "") for edge in EDGES)
    except ValueError:
        raise LabelError(
            f"Boxes line {line} is no box", expected="numbers in xmin, ymin, xmax, ymax", got="no number"
        ) from None
    if not all(-math.inf < low and max(low, 0.0) < high < math.inf for low, high in ((xmin, xmax), (ymin, ymax))):
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
    return LesionBox(
        lesion=lesion or None,
        finding=Finding(name) if name else None,
        top_px=math.floor(ymin),
        bottom_px=math.ceil(ymax),
        left_px=math.floor(xmin),
        right_px=math.ceil(xmax),
    )
