"""The inputs that a config names beside the images: labels, boxes and masks must be there, and be readable, before decoding.

An input that is gone is not an empty one: a folder of masks that is not there would else take every stored mask away. What is
there and cannot be used, or belongs to no published image, is counted for the report.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.config.ingest import IngestConfig
from schemas.errors import LabelError, SourceUnavailable, error_name
from schemas.exam import LesionBox
from tasks.adapters.labels.labels_file import read_labels
from tasks.adapters.labels.lesion_boxes import clipped, read_boxes
from tasks.adapters.pseudonyms import Pseudonyms

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputCounts:
    """What of the masks and boxes is used.

    Attributes:
        masks_found: Files of the masks' folder, whatever they are.
        masks_unusable: Of published images, but no PNG, of another size or with values above 3; and files of another name.
        masks_unmatched: Named as a mask is, of no published image.
        boxes_unmatched: Images with boxes that are not published.
        boxes_clipped: Boxes of published images that leave their image, at any edge.
    """

    masks_found: int = 0
    masks_unusable: int = 0
    masks_unmatched: int = 0
    boxes_unmatched: int = 0
    boxes_clipped: int = 0


def require_inputs(config: IngestConfig) -> None:
    """Says at once that an input is not there.

    Raises:
        LabelError: A file or folder that the config names does not exist, or is the other of the two.
    """
    for name, path, is_kind, kind in (
        ("labels_csv", config.labels_csv, stat.S_ISREG, "a file"),
        ("boxes_csv", config.boxes_csv, stat.S_ISREG, "a file"),
        ("subjects_csv", config.subjects_csv, stat.S_ISREG, "a file"),
        ("masks_dir", config.masks_dir, stat.S_ISDIR, "a folder"),
    ):
        if path is None:
            continue
        got: str | None = None
        try:
            got = None if is_kind(path.stat().st_mode) else "something else"
        except OSError as error:
            got = error.strerror
        if got is not None:
            raise LabelError(
                f"ingest.{name} cannot be read",
                expected=kind,
                got=got,
                remedy=f"check {name} in the config, or leave it out; stored masks stay if masks_dir is left out"
                if name == "masks_dir"
                else f"check {name} in the config, or leave it out",
            )


def read_inputs(config: IngestConfig, pseudonyms: Pseudonyms, group_columns: Sequence[str] = ()) -> None:
    """Reads labels and boxes for their faults alone, before hours of decoding; which exams they name is asked later.

    Raises:
        LabelError: Labels or boxes cannot be read, or a line is not of its schema.
    """
    if config.labels_csv is not None:
        read_labels(config.labels_csv, pseudonyms, exams_by_day={}, exams_by_accession={}, group_columns=group_columns)
    if config.boxes_csv is not None:
        read_boxes(config.boxes_csv, pseudonyms)


class InputCounter:
    """Counts what is used of masks and boxes, image by image; holds nothing of an image that has neither.

    Args:
        config: Names the masks' folder.
        pseudonyms: Replace the SOPInstanceUIDs that masks are named by.
        boxes: By image, as ``read_boxes`` gives them.

    Raises:
        SourceUnavailable: The masks' folder cannot be looked at.
    """

    def __init__(self, config: IngestConfig, pseudonyms: Pseudonyms, boxes: Mapping[str, tuple[LesionBox, ...]]) -> None:
        names = [] if config.masks_dir is None else _file_names(config.masks_dir)
        masks = [pseudonyms.image_id(Path(name).stem) for name in names if name.endswith(".png")]
        self._found, self._misnamed = len(names), len(names) - len(masks)
        self._unmatched_masks, self._boxes, self._unmatched_boxes = {*masks}, boxes, {*boxes}
        self._unusable = self._clipped = 0

    def see(self, image_id: str, shape_px: tuple[int, int], *, is_mask_unusable: bool = False) -> None:
        """Takes note of an image that readers see, with its rows and columns; once."""
        if image_id in self._unmatched_masks:
            self._unmatched_masks.remove(image_id)
            self._unusable += is_mask_unusable
        if image_id in self._unmatched_boxes:
            self._unmatched_boxes.remove(image_id)
            self._clipped += sum(clipped(box, shape_px) != box for box in self._boxes[image_id])

    @property
    def counts(self) -> InputCounts:
        """What came to be known."""
        return InputCounts(
            masks_found=self._found,
            masks_unusable=self._misnamed + self._unusable,
            masks_unmatched=len(self._unmatched_masks),
            boxes_unmatched=len(self._unmatched_boxes),
            boxes_clipped=self._clipped,
        )


def warn_of_masks(config: IngestConfig, pseudonyms: Pseudonyms, claimed: Iterable[str], faults: Mapping[str, int]) -> None:
    """Says before anything is decoded which masks will not be used.

    Args:
        config: Names the masks' folder.
        pseudonyms: Replace the SOPInstanceUIDs that masks are named by.
        claimed: Images of which there is a file.
        faults: Of the masks of images that are to be stored, by what is wrong with them.

    Raises:
        SourceUnavailable: The masks' folder cannot be looked at.
    """
    counter = InputCounter(config, pseudonyms, boxes={})
    for image_id in claimed:
        counter.see(image_id, (0, 0))
    counts = counter.counts
    every = {**faults, "misnamed": counts.masks_unusable, "of no image": counts.masks_unmatched}
    if any(every.values()):
        logger.warning(
            "%d of %d masks cannot be used: %s. Their images go on without. See docs/reference/labels.md",
            sum(every.values()),
            counts.masks_found,
            ", ".join(f"{fault}: {count}" for fault, count in every.items() if count),
        )


def _file_names(masks_dir: Path) -> list[str]:
    """What lies in the folder; hidden files are the system's."""
    try:
        with os.scandir(masks_dir) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        failure = error_name(error)
    raise SourceUnavailable("The lesion masks cannot be counted at the moment", got=failure, remedy="run again")
