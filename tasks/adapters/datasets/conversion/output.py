"""The folder that a conversion leaves: tables, masks, copies, a config and a report, all of it or nothing.

Everything is written aside and takes its place at the end; what an earlier conversion left is replaced, and what else lies in
the folder (a workspace) stays.
"""

from __future__ import annotations

import csv
import filecmp
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from schemas.errors import ConfigError, StoreError, error_name
from schemas.exam import Finding
from schemas.layout import MASK_BITS
from tasks.adapters.datasets.conversion.dicom_copies import copy_path
from tasks.adapters.datasets.conversion.marking import Mark
from tasks.adapters.datasets.named_subjects import SUBJECT_COLUMNS
from tasks.adapters.datasets.phantom_cohort import LABELS_FILE
from tasks.adapters.datasets.published.reading import Breast, DataSet, Image
from tasks.adapters.datasets.published.tree import is_picture
from tasks.adapters.lock import LOCK_FILE, held_lock
from tasks.adapters.workspace import REPORT_FILE, aside_of

SUBJECTS_FILE: Final = "subjects.csv"
BOXES_FILE: Final = "boxes.csv"
SPLIT_FILE: Final = "split.csv"
CONFIG_FILE: Final = "config.yaml"
PAGE_FILE: Final = "report.md"
MASKS_FOLDER: Final = "masks"
COPIES_FOLDER: Final = "dicom"
OUTPUTS: Final = (
    SUBJECTS_FILE, LABELS_FILE, BOXES_FILE, SPLIT_FILE, REPORT_FILE, PAGE_FILE, MASKS_FOLDER, COPIES_FOLDER, CONFIG_FILE,
)  # fmt: skip
"""What takes its place, in this order: a folder that holds a config holds all that it names."""
_LABEL_COLUMNS: Final = (
    "patient_id", "study_instance_uid", "laterality", "benign", "malignant", "label_source", "birads", "density",
    "finding_type",
)  # fmt: skip
_BOX_COLUMNS: Final = ("sop_instance_uid", "finding", "xmin", "ymin", "xmax", "ymax", "shape", "path")


@dataclass(frozen=True, slots=True)
class BoxesFile:
    """Open for one line after another."""

    write: Callable[[Sequence[object]], object]


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Where a conversion writes: aside until it is done."""

    stage: Path

    def write_subjects(self, images: Iterable[Image]) -> None:
        """Who and what each file shows, and which are left out."""
        rows = (
            (
                image.path, image.patient, image.exam, image.laterality, image.view, image.acquisition, image.left_out or "",
                copy_path(image.path) if is_picture(image.path) else "",
            )
            for image in images
        )  # fmt: skip
        _write_csv(self.stage / SUBJECTS_FILE, SUBJECT_COLUMNS, rows)

    def write_labels(self, breasts: Iterable[Breast]) -> None:
        """One line a breast; what is not known is empty."""
        rows = (
            (
                breast.patient, breast.exam, breast.laterality, breast.benign, breast.malignant, breast.label_source,
                breast.birads, breast.density, breast.finding_type,
            )
            for breast in breasts
        )  # fmt: skip
        _write_csv(self.stage / LABELS_FILE, _LABEL_COLUMNS, rows)

    def write_split(self, split_of_patient: Mapping[str, str]) -> None:
        """The set's own split."""
        _write_csv(self.stage / SPLIT_FILE, ("patient_id", "split"), split_of_patient.items())

    @contextmanager
    def boxes(self) -> Iterator[BoxesFile]:
        """The boxes file, open for ``add_mark``."""
        with (self.stage / BOXES_FILE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_BOX_COLUMNS)
            yield BoxesFile(writer.writerow)

    def add_mark(self, boxes: BoxesFile, mark: Mark, sop_uid: str) -> None:
        """Every mark becomes a box; one whose pixels and class are known is drawn into its image's mask, too."""
        extent = mark.extent
        edges = (extent.left, extent.top, extent.right, extent.bottom)
        boxes.write((sop_uid, mark.finding or "", *edges, mark.kind, mark.image.path))
        if mark.mask_HW is None or mark.finding is None:
            return
        path = self.stage / MASKS_FOLDER / f"{sop_uid}.png"
        path.parent.mkdir(exist_ok=True)
        before_HW = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.exists() else None
        bits_HW = mark.mask_HW.astype(np.uint8) * np.uint8(MASK_BITS[Finding(mark.finding)])
        if before_HW is not None:
            bits_HW |= before_HW.astype(np.uint8)
        path.write_bytes(cv2.imencode(".png", bits_HW)[1].tobytes())

    def has(self, name: str) -> bool:
        """True if a table below its header, or a folder, holds anything."""
        path = self.stage / name
        if path.is_dir():
            return any(path.iterdir())
        if not path.exists():
            return False
        with path.open(encoding="utf-8") as file:
            return len([line for _, line in zip(range(2), file, strict=False)]) > 1

    def write_config(self, data_set: DataSet, root: Path, target: Path, *, has_copies: bool) -> None:
        """A config that runs as it is; JSON's strings are YAML's."""

        def here(name: str) -> str:
            return json.dumps(str(target / name))

        source = here(COPIES_FOLDER) if has_copies else json.dumps(str(root))
        lines = [
            f"# {data_set.facts.title}, {data_set.facts.licence}: written by `mammo dataset {data_set.facts.name}`.",
            f"workspace_dir: {here('workspace')}",
            "ingest:",
            f"  source_dir: {source}",
            f"  subjects_csv: {here(SUBJECTS_FILE)}",
            f"  profile: {data_set.profile}",
        ]
        lines += [f"  terms: {json.dumps(data_set.facts.terms)}"] if data_set.facts.terms else []
        inputs = (("labels_csv", LABELS_FILE), ("boxes_csv", BOXES_FILE), ("masks_dir", MASKS_FOLDER))
        lines += [f"  {key}: {here(name)}" for key, name in inputs if self.has(name)]
        if self.has(SPLIT_FILE):
            lines += ["split:", f"  file: {here(SPLIT_FILE)}"]
        (self.stage / CONFIG_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def write_report(self, content: Mapping[str, object], page: Sequence[str]) -> None:
        """The same for programs and for people."""
        (self.stage / REPORT_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        (self.stage / PAGE_FILE).write_text("\n".join(page) + "\n", encoding="utf-8")


@contextmanager
def whole_output(target: Path) -> Iterator[OutputFolder]:
    """A folder to write into, whose content is in ``target`` when the block ends well, and nowhere when it does not.

    Raises:
        ConfigError: ``target`` is a file, or holds other things than a conversion and what was made of it.
        StoreBusy: Another process converts into it.
        StoreError: It cannot be written, or the disk is full.
    """
    require_ours(target)
    stage = aside_of(target)
    failure = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with held_lock(stage, purpose=f"mammo dataset into {target.name}"):
            _empty(stage)
            try:
                yield OutputFolder(stage)
                _take_place(stage, target)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    except OSError as trouble:
        failure = error_name(trouble)
    if failure:
        raise StoreError(
            f"{target} cannot be written",
            expected="a folder that you may write, on a disk with room for the copies",
            got=failure,
            remedy="make room, or give another --out; nothing is left of what was begun",
        )


def _empty(stage: Path) -> None:
    """Deletes what a killed conversion left."""
    for left in stage.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != LOCK_FILE:
            left.unlink()


def require_ours(target: Path) -> None:
    """Says at once that a folder is not one to write into.

    Raises:
        ConfigError: It is a file, or holds other things than a conversion and what was made of it.
    """
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file", expected="a folder, or a name for a new one", remedy="give another --out")
    if target.is_dir() and any(target.iterdir()) and not (target / SUBJECTS_FILE).exists():
        raise ConfigError(
            f"{target} holds other things",
            expected="a new folder, an empty one, or one that `mammo dataset` has written",
            remedy="give another --out",
        )


def _take_place(stage: Path, target: Path) -> None:
    """A new folder in one step; over an earlier conversion the config goes first and comes last."""
    if not target.exists() or not any(target.iterdir()):
        (stage / LOCK_FILE).unlink()
        stage.chmod(0o700)
        stage.replace(target)
        return
    (target / CONFIG_FILE).unlink(missing_ok=True)
    for name in OUTPUTS:
        written, old = stage / name, target / name
        if old.is_dir():
            _keep_times(written, old)
            old.rename(stage / f"old-{name}")
        elif not written.exists():
            old.unlink(missing_ok=True)
        if written.exists():
            written.replace(old)


def _keep_times(written: Path, old: Path) -> None:
    """What is as it was keeps the time of its file: ingest, which knows files by size and time, does not read it again."""
    for path in written.rglob("*"):
        before = old / path.relative_to(written)
        if path.is_file() and before.is_file() and filecmp.cmp(path, before, shallow=False):
            status = before.stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)  # None becomes an empty field
