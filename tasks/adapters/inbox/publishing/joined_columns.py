"""The manifest's lines of what the ledger holds of images and what was said of their breasts: by column, or line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pyarrow as pa

from schemas.exam import UNKNOWN, BreastLabel, Laterality, LesionBox
from schemas.layout import DAYS_OF_FOLLOWUP, DAYS_TO_DIAGNOSIS, LABEL_GROUPS
from tasks.adapters.inbox.lines import LedgerLine, LinePart, each_parsed
from tasks.adapters.inbox.publishing.stored_columns import stored_columns
from tasks.adapters.labels.joining import LabelJoin
from tasks.adapters.labels.lesion_boxes import box_texts
from tasks.adapters.store.tables.line_columns import TYPES, LineColumns, columns_of, columns_together

Boxes = Mapping[str, tuple[LesionBox, ...]]
_BOXES, _EXAM_DATE = "lesion_boxes", "exam_date"


def manifest_columns(part: LinePart, joined: LabelJoin, boxes: Boxes) -> LineColumns:
    """Some lines of the manifest.

    Raises:
        KeyError, TypeError, ValueError: A line lacks a value, or has one of another kind.
    """
    stored = stored_columns(part)
    if stored is not None:
        said = _label_columns_of(stored, joined) | _box_columns_of(stored, boxes)
        if (made := columns_together(stored | said, len(part))) is not None:
            return made
    return columns_of([manifest_line(line, joined, boxes) for line in each_parsed([part])])


def manifest_line(line: LedgerLine, joined: LabelJoin, boxes: Boxes) -> dict[str, object]:
    """One line of the manifest, by column."""
    label = joined.label_of(line.breast)
    return {
        **line.columns,
        **_label_columns(label),
        DAYS_TO_DIAGNOSIS: _days_to(None if label is None else label.diagnosis_date, line.stored),
        DAYS_OF_FOLLOWUP: _days_to(None if label is None else label.followup_date, line.stored),
        _BOXES: box_texts(boxes, line.image_id, line.source_shape_px),
    }


def _label_columns_of(stored: Mapping[str, pa.Array], joined: LabelJoin) -> dict[str, pa.Array]:
    """Of thousands of lines some ten different things are said: each is looked up once."""
    labels = _labels_of(stored, joined)
    place_of: dict[int, int] = {}  # by what it is in memory: a label takes longer to compare than all else of a line
    places = pa.array([place_of.setdefault(id(label), len(place_of)) for label in labels], pa.int32())
    by_id = {id(label): label for label in labels}
    kinds = [_label_columns(by_id[one]) for one in place_of]
    columns = {name: pa.array([kind[name] for kind in kinds], TYPES[name]).take(places) for name in kinds[0]}
    if any(label is not None and (label.diagnosis_date or label.followup_date) for label in by_id.values()):
        dates = ({_EXAM_DATE: text} for text in stored[_EXAM_DATE].to_pylist())
        both = list(zip(labels, dates, strict=True))
        for name, days in (
            (DAYS_TO_DIAGNOSIS, [_days_to(None if label is None else label.diagnosis_date, day) for label, day in both]),
            (DAYS_OF_FOLLOWUP, [_days_to(None if label is None else label.followup_date, day) for label, day in both]),
        ):
            columns[name] = pa.array(days, TYPES[name])
    return columns


def _labels_of(stored: Mapping[str, pa.Array], joined: LabelJoin) -> Sequence[BreastLabel | None]:
    exams = stored["exam_id"]
    sides = {text: Laterality(text) for text in stored["laterality"].unique().to_pylist()}
    if not len(joined.labels):
        return [None] * len(exams)
    breasts = zip(exams.to_pylist(), stored["laterality"].to_pylist(), strict=True)
    return [joined.label_of((exam_id, sides[side])) for exam_id, side in breasts]


def _box_columns_of(stored: Mapping[str, pa.Array], boxes: Boxes) -> dict[str, pa.Array]:
    if not boxes:
        return {}
    images = stored["image_id"].to_pylist()
    shapes = zip(stored["source_rows_px"].to_pylist(), stored["source_columns_px"].to_pylist(), strict=True)
    texts = [box_texts(boxes, image_id, shape_px) for image_id, shape_px in zip(images, shapes, strict=True)]
    return {_BOXES: pa.array(texts, TYPES[_BOXES])}


def _days_to(day: date | None, stored: Mapping[str, object]) -> float | None:
    """From the exam; both dates are shifted alike. None = one that is not known."""
    return None if day is None or (text := stored[_EXAM_DATE]) is None else float((day - date.fromisoformat(str(text))).days)


def _label_columns(label: BreastLabel | None) -> dict[str, object]:
    if label is None:
        unknown: dict[str, object] = dict.fromkeys(("benign", "malignant", "birads"), UNKNOWN)
        return {**unknown, **dict.fromkeys(("label_source", "density", "finding_type", LABEL_GROUPS))}
    return {
        "benign": UNKNOWN if label.benign is None else int(label.benign),
        "malignant": UNKNOWN if label.malignant is None else int(label.malignant),
        "birads": UNKNOWN if label.birads is None else label.birads,
        "label_source": label.label_source,
        "density": label.density,
        "finding_type": label.finding_type,
        LABEL_GROUPS: label.groups,
    }
