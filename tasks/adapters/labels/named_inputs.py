"""The inputs that a config names beside the images: labels, boxes and masks must be there, and be readable, before decoding.

An input that is gone is not an empty one: a folder of masks that is not there would else take every stored mask away. What is
there and cannot be used, or belongs to no published image, is counted for the report.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.config.ingest import IngestConfig
from schemas.errors import LabelError, SourceUnavailable, error_name
from schemas.exam import LesionBox
from tasks.adapters.labels.labels_file import read_labels
from tasks.adapters.labels.lesion_boxes import read_boxes
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
    """

    masks_found: int = 0
    masks_unusable: int = 0
    masks_unmatched: int = 0
    boxes_unmatched: int = 0


def require_inputs(config: IngestConfig) -> None:
    """Says at once that an input is not there.

    Raises:
        LabelError: A file or folder that the config names does not exist, or is the other of the two.
    """
    for name, path, is_kind, kind in (
        ("labels_csv", config.labels_csv, stat.S_ISREG, "a file"),
        ("boxes_csv", config.boxes_csv, stat.S_ISREG, "a file"),
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


def read_inputs(config: IngestConfig, pseudonyms: Pseudonyms) -> None:
    """Reads labels, boxes and the heads of masks for their faults alone, before hours of decoding.

    Which exams they name is asked later; what the pixels of a mask hold, and whether it has its image's size, when it is
    stored: decoding each mask twice would tell that sooner and cost more than it saves.

    Raises:
        LabelError: Labels or boxes cannot be read, or a line is not of its schema.
    """
    if config.labels_csv is not None:
        read_labels(config.labels_csv, pseudonyms, exams_by_day={}, exams_by_accession={})
    if config.boxes_csv is not None:
        read_boxes(config.boxes_csv, pseudonyms)
    if config.masks_dir is not None:
        _warn_of_masks(config.masks_dir)


_PNG_HEAD: Final = struct.Struct(">8s4x4s8xBB")  # signature; IHDR's length, name, width and height, bits, colour (PNG 11.2.1)


def _warn_of_masks(masks_dir: Path) -> None:
    names = [name for name in _file_names(masks_dir) if name.endswith(".png")]
    faults = Counter(fault for name in names if (fault := _fault_of_head(masks_dir / name)))
    if faults:
        logger.warning(
            "%d of %d masks cannot be used, their images go on without: %s. See docs/reference/labels.md",
            faults.total(),
            len(names),
            ", ".join(f"{fault}: {count}" for fault, count in faults.most_common()),
        )


def _fault_of_head(path: Path) -> str:
    """Why a file cannot be a mask whatever follows its first bytes; "" where they are a mask's, or are not to be had now."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            return "no file"
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD.size)
    except OSError as error:
        return "a link to nowhere" if error.errno in (errno.ENOENT, errno.ELOOP) else ""
    if len(head) < _PNG_HEAD.size:
        return "no PNG"
    signature, chunk, bits, colour = _PNG_HEAD.unpack(head)
    if (signature, chunk) != (b"\x89PNG\r\n\x1a\n", b"IHDR"):
        return "no PNG"
    return "" if colour == 0 and bits >= 8 else "not grey" if colour else f"{bits} bit a pixel"


def count_inputs(
    config: IngestConfig,
    pseudonyms: Pseudonyms,
    *,
    boxes: Mapping[str, tuple[LesionBox, ...]],
    published: Collection[str],
    with_unusable_mask: Collection[str],
) -> InputCounts:
    """Counts what is used of masks and boxes.

    Args:
        config: Names the masks' folder.
        pseudonyms: Replace the SOPInstanceUIDs that masks are named by.
        boxes: By image, as ``read_boxes`` gives them.
        published: Images that readers see.
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
    )


def _file_names(masks_dir: Path) -> list[str]:
    """What lies in the folder; hidden files are the system's."""
    try:
        with os.scandir(masks_dir) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        failure = error_name(error)
    raise SourceUnavailable("The lesion masks cannot be counted at the moment", got=failure, remedy="run again")
