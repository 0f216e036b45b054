"""The inputs that a config names beside the images: labels, boxes and masks must be there, and be readable, before decoding.

An input that is gone is not an empty one: a folder of masks that is not there would else take every stored mask away. What is
there and cannot be used, or belongs to no published image, is counted for the report.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Collection, Mapping, Sequence
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


def count_inputs(
    config: IngestConfig,
    pseudonyms: Pseudonyms,
    *,
    boxes: Mapping[str, tuple[LesionBox, ...]],
    published: Mapping[str, tuple[int, int]],
    with_unusable_mask: Collection[str],
) -> InputCounts:
    """Counts what is used of masks and boxes.

    Args:
        config: Names the masks' folder.
        pseudonyms: Replace the SOPInstanceUIDs that masks are named by.
        boxes: By image, as ``read_boxes`` gives them.
        published: Images that readers see, and their rows and columns.
        with_unusable_mask: Images whose mask could not be used when they were stored.

    Raises:
        SourceUnavailable: The masks' folder cannot be looked at.
    """
    names = [] if config.masks_dir is None else _file_names(config.masks_dir)
    image_ids = [pseudonyms.image_id(Path(name).stem) for name in names if name.endswith(".png")]
    return InputCounts(
        masks_found=len(names),
        masks_unusable=len(names) - len(image_ids) + len({*image_ids} & {*with_unusable_mask} & {*published}),
        masks_unmatched=len({*image_ids}.difference(published)),
        boxes_unmatched=len({*boxes}.difference(published)),
        boxes_clipped=sum(
            clipped(box, published[image_id]) != box
            for image_id, found in boxes.items()
            if image_id in published
            for box in found
        ),
    )


def warn_of_masks(config: IngestConfig, pseudonyms: Pseudonyms, claimed: Collection[str], faults: Mapping[str, int]) -> None:
    """Says before anything is decoded which masks will not be used.

    Args:
        config: Names the masks' folder.
        pseudonyms: Replace the SOPInstanceUIDs that masks are named by.
        claimed: Images of which there is a file.
        faults: Of the masks of images that are to be stored, by what is wrong with them.

    Raises:
        SourceUnavailable: The masks' folder cannot be looked at.
    """
    counts = count_inputs(config, pseudonyms, boxes={}, published=dict.fromkeys(claimed, (0, 0)), with_unusable_mask=())
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
