"""The published lines one after another, and what must be known of all of them together: keys and counts alone.

A line takes a kilobyte and a half, its keys a seventh of that. So the ledger is asked anew for each purpose, and nothing of a
line stays but what is named here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.errors import StoreError
from schemas.exam import Laterality
from schemas.layout import PIXELS
from schemas.reports.data import SeenBreasts
from tasks.adapters.allocator import uncollected
from tasks.adapters.inbox.lines import LedgerLine, LinePart, each_parsed
from tasks.adapters.inbox.publishing.stored_columns import key_columns
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.labels.named_inputs import InputCounter
from tasks.adapters.store.exam_store import ExamStore, missing_shards
from tasks.adapters.store.views import seen_breasts, seen_fractions

Key = TypeVar("Key")


def published_parts(store: ExamStore, left_out: Collection[str]) -> Iterator[LinePart]:
    """The lines to publish as the ledger keeps them, by row, some at a time.

    Args:
        store: Whose ledger is asked.
        left_out: Files whose claim is not published.

    Raises:
        StoreError: The ledger cannot be read.
    """
    with StoreLedger(store) as ledger:
        for part in ledger.line_parts():
            if kept := [line for line in part if line[0] not in left_out] if left_out else part:
                yield kept


@contextmanager
def whole_lines(store: ExamStore) -> Iterator[None]:
    """Makes a sentence of what goes wrong with a line that is not as ingest wrote it.

    Raises:
        StoreError: A line lacks a value, or holds one of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError) as damage:
        raise StoreError(
            f"What the ledger {store.ledger_path} holds of an image is damaged",
            expected="every value that ingest wrote",
            got=type(damage).__name__,
            remedy="restore it from a backup (`mammo restore`)",
        ) from damage


@dataclass(slots=True)
class Keys:
    """What is kept of all published lines.

    Attributes:
        images: Their number.
        new: Those that were not published before.
        gone: Images that were published before, and are not among them.
        published_before: Number of images of the manifest in force.
        without_source: Those whose file is not in the source folder any more.
        renamed: Patients of images that were another's before, and whose.
        patients: Pseudonym of PatientID, and that of PatientID without its issuer.
        patient_of: The same by exam.
        views_of: Side and view of the images of each exam.
        shards: Those that hold the images.
        exams_by_day: Exams by patient and shifted date.
        exams_by_accession: Exams by their accession pseudonym.
    """

    gone: set[str]
    published_before: int
    images: int = 0
    new: int = 0
    without_source: int = 0
    renamed: set[tuple[str, str]] = field(default_factory=set)
    patients: dict[tuple[str, str | None], tuple[str, str | None]] = field(default_factory=dict)
    patient_of: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    views_of: dict[str, frozenset[str]] = field(default_factory=dict)
    shards: set[int] = field(default_factory=set)
    exams_by_day: dict[tuple[str, date], tuple[str, ...]] = field(default_factory=dict)
    exams_by_accession: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def breasts(self) -> Iterator[tuple[str, Laterality]]:
        """Exam and side of every breast that has an image."""
        sides = {views: [Laterality(side) for side in {view[0] for view in views}] for views in {*self.views_of.values()}}
        for exam_id, views in self.views_of.items():
            for side in sides[views]:
                yield exam_id, side


@uncollected()
def read_keys(
    store: ExamStore,
    parts: Iterable[LinePart],
    published_before: Mapping[str, str],
    present: Collection[str],
    inputs: InputCounter,
) -> Keys:
    """Takes from each line what is asked of all together.

    Args:
        store: Where the images lie.
        parts: The lines to publish, as ``published_parts`` gives them.
        published_before: Images of the manifest in force, and whose they are.
        present: Files of the source folder.
        inputs: Is shown each image.
    """
    before = set(published_before)
    keys = Keys(gone=before, published_before=len(before))
    views = _Views()
    previous: tuple[object, ...] | None = None  # an exam's images come one after another
    for one in chain.from_iterable(map(_keys_of, parts)):
        keys.images += 1
        keys.new += one.image_id not in before
        keys.without_source += one.file_id not in present
        keys.shards.add(one.row // store.rows_per_shard)
        before.discard(one.image_id)
        if (former := published_before.get(one.image_id, one.patient[0])) != one.patient[0]:
            keys.renamed.add((one.patient[0], former))
        inputs.see(one.image_id, one.shape_px, is_mask_unusable=one.is_mask_unusable)
        exam_id = one.exam_id
        keys.views_of[exam_id] = views.with_one(keys.views_of.get(exam_id), one.laterality, one.view_position)
        if previous != (of_exam := (exam_id, one.patient, one.exam_date, one.accession_id)):
            previous = of_exam
            keys.patient_of[exam_id] = keys.patients.setdefault(one.patient, one.patient)
            if one.exam_date is not None:
                _add(keys.exams_by_day, (one.patient[0], date.fromisoformat(one.exam_date)), exam_id)
            if one.accession_id is not None:
                _add(keys.exams_by_accession, one.accession_id, exam_id)
    return keys


class _Key(NamedTuple):
    """What is asked of a line."""

    file_id: str
    row: int
    image_id: str
    exam_id: str
    patient: tuple[str, str | None]
    laterality: str
    view_position: str
    exam_date: str | None
    accession_id: str | None
    shape_px: tuple[int, int]
    is_mask_unusable: bool


def _keys_of(part: LinePart) -> Iterator[_Key]:
    found = key_columns(part)
    if found is None:
        return map(_key_of, each_parsed([part]))
    patients = zip(found["patient_id"], found["bare_patient_id"], strict=True)
    shapes = zip(found["source_rows_px"], found["source_columns_px"], strict=True)
    named = (found[name] for name in ("laterality", "view_position", "exam_date", "accession_id"))
    return map(
        _Key, map(itemgetter(0), part), found["row"], found["image_id"], found["exam_id"], patients, *named, shapes,
        map(bool, found["is_mask_unusable"]),
    )  # fmt: skip


def _key_of(line: LedgerLine) -> _Key:
    return _Key(
        file_id=line.file_id,
        row=line.row,
        image_id=line.image_id,
        exam_id=line.exam_id,
        patient=(line.patient_id, line.bare_patient_id),
        laterality=line.laterality.value,
        view_position=str(line.stored["view_position"]),
        exam_date=None if (day := line.exam_date) is None else day.isoformat(),
        accession_id=line.accession_id,
        shape_px=line.source_shape_px,
        is_mask_unusable=line.is_mask_unusable,
    )


class _Views:
    """Side and view of the images of an exam: one of few sets, whatever the number of exams."""

    def __init__(self) -> None:
        self._kinds: dict[frozenset[str], frozenset[str]] = {}
        self._with_one: dict[tuple[frozenset[str] | None, str, str], frozenset[str]] = {}

    def with_one(self, views: frozenset[str] | None, laterality: str, view_position: str) -> frozenset[str]:
        """The views of an exam, None where none was seen yet, and another."""
        step = views, laterality, view_position
        if (found := self._with_one.get(step)) is None:
            made = (views or frozenset()) | {f"{Laterality(laterality)}{view_position}"}
            found = self._with_one[step] = self._kinds.setdefault(made, made)
        return found


def require_pixels(store: ExamStore, keys: Keys) -> None:
    """Says that pixels are gone before their images are published: a file is looked for, `mammo scrub` reads it.

    Raises:
        StoreError: Shards are not there.
    """
    gone = len(missing_shards(store, PIXELS, keys.shards))
    if gone:
        raise StoreError(
            f"Pixels of images that are to be published are gone from {store.url or store.folder}; the manifest stays as it is",
            expected=f"{len(keys.shards)} files that ingest wrote",
            got=f"{gone} of them are not there",
            remedy="see that the disk they lie on is there; if they are lost, `mammo scrub --repair` reads their files again",
        )


def _add(exams_by: dict[Key, tuple[str, ...]], key: Key, exam_id: str) -> None:
    if exam_id not in (exams := exams_by.get(key, ())):
        exams_by[key] = tuple(sorted((*exams, exam_id)))


_SIZES: Final = ("stored_rows_px", "stored_columns_px", "breast_seen_fraction", "scale")


class Tally:
    """What the manifest's lines come to, part by part as they are written.

    Args:
        window_px: Rows and columns of the network's window.
    """

    def __init__(self, window_px: tuple[int, int]) -> None:
        self._window_px = window_px
        self._seen: list[NDArray[np.float64]] = []
        self._scales: list[float] = []
        self.warnings: Counter[str] = Counter()
        self.with_boxes = 0

    def see(self, batch: pa.RecordBatch) -> None:
        """Takes note of some lines."""
        part = batch.select(list(_SIZES)).replace_schema_metadata(None).to_pandas()
        self._seen.append(seen_fractions(part, self._window_px))
        self._scales += [float(part["scale"].min())] if len(part) else []
        for said in batch["gate_warnings"].value_counts().to_pylist():  # the same few, in the order in which they come
            for code in said["values"].split():
                self.warnings[code] += said["counts"]
        self.with_boxes += batch.num_rows - batch["lesion_boxes"].null_count

    @property
    def warnings_by_rule(self) -> Mapping[str, int]:
        """Images by rule, the most first."""
        return dict(self.warnings.most_common())

    @property
    def seen(self) -> SeenBreasts:
        """What the window holds of the breasts."""
        return seen_breasts(np.concatenate(self._seen), min(self._scales, default=None))
