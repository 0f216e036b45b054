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
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from schemas.errors import StoreError
from schemas.exam import Laterality
from schemas.layout import PIXELS
from schemas.reports.data import SeenBreasts
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.labels.named_inputs import InputCounter
from tasks.adapters.store.exam_store import ExamStore, missing_shards
from tasks.adapters.store.views import seen_breasts, seen_fractions

Key = TypeVar("Key")


def published_lines(store: ExamStore, left_out: Collection[str]) -> Iterator[LedgerLine]:
    """The lines to publish in turn, by row.

    Args:
        store: Whose ledger is asked.
        left_out: Files whose claim is not published.

    Raises:
        StoreError: The ledger cannot be read.
    """
    with StoreLedger(store) as ledger:
        yield from (line for line in ledger.each_line() if line.file_id not in left_out)


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
    patients: dict[tuple[str, str | None], tuple[str, str | None]] = field(default_factory=dict)
    patient_of: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    views_of: dict[str, frozenset[str]] = field(default_factory=dict)
    shards: set[int] = field(default_factory=set)
    exams_by_day: dict[tuple[str, date], tuple[str, ...]] = field(default_factory=dict)
    exams_by_accession: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def breasts(self) -> Iterator[tuple[str, Laterality]]:
        """Exam and side of every breast that has an image."""
        for exam_id, views in self.views_of.items():
            for side in {view[0] for view in views}:
                yield exam_id, Laterality(side)


def read_keys(
    store: ExamStore,
    lines: Iterable[LedgerLine],
    published_before: Iterable[str],
    present: Collection[str],
    inputs: InputCounter,
) -> Keys:
    """Takes from each line what is asked of all together.

    Args:
        store: Where the images lie.
        lines: Those to publish.
        published_before: Images of the manifest in force.
        present: Files of the source folder.
        inputs: Is shown each image.
    """
    before = set(published_before)
    keys = Keys(gone=before, published_before=len(before))
    kinds: dict[frozenset[str], frozenset[str]] = {}
    for line in lines:
        exam_id, image_id = line.exam_id, line.image_id
        keys.images += 1
        keys.new += image_id not in before
        keys.without_source += line.file_id not in present
        keys.shards.add(line.row // store.rows_per_shard)
        before.discard(image_id)
        inputs.see(image_id, line.source_shape_px, is_mask_unusable=line.is_mask_unusable)
        patient = (line.patient_id, line.bare_patient_id)
        keys.patient_of[exam_id] = keys.patients.setdefault(patient, patient)
        views = keys.views_of.get(exam_id, frozenset()) | {f"{line.laterality}{line.stored['view_position']}"}
        keys.views_of[exam_id] = kinds.setdefault(views, views)  # one of few sets, whatever the number of exams
        if (day := line.exam_date) is not None:
            _add(keys.exams_by_day, (line.patient_id, day), exam_id)
        if (accession_id := line.accession_id) is not None:
            _add(keys.exams_by_accession, accession_id, exam_id)
    return keys


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

    def see(self, part: pd.DataFrame) -> None:
        """Takes note of some lines."""
        self._seen.append(seen_fractions(part, self._window_px))
        self._scales += [float(part["scale"].min())] if len(part) else []
        self.warnings.update(code for codes in part["gate_warnings"] for code in codes.split())
        self.with_boxes += int(part["lesion_boxes"].notna().sum())

    @property
    def warnings_by_rule(self) -> Mapping[str, int]:
        """Images by rule, the most first."""
        return dict(self.warnings.most_common())

    @property
    def seen(self) -> SeenBreasts:
        """What the window holds of the breasts."""
        return seen_breasts(np.concatenate(self._seen), min(self._scales, default=None))
