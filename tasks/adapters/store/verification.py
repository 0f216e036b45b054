"""Comparing what is stored with the digests taken when it was written. Reads, changes nothing.

A chunk's crc32c finds flipped bits; the digest of the crop also finds a sound chunk in the wrong place: a row of another image,
a shard of an older backup, a shard that is missing and reads as zeros.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import MammoError, PeerRefused, SourceUnavailable, StoreError, deferred_by
from schemas.layout import LESION_MASK, PIXELS
from tasks.adapters.store.exam_store import ExamStore, crop_digest, read_row
from tasks.adapters.workspace import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedImage:
    """What a stored image must be.

    Attributes:
        shape_px: (rows, columns) of the crop.
        mask_sha256: None = it has no lesion mask.
    """

    file_id: str
    image_id: str
    row: int
    shape_px: tuple[int, int]
    written_sha256: str
    mask_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """An image that is not what was written.

    Attributes:
        array: ``pixels`` or ``lesion_mask``.
        got: What is wrong, in words.
    """

    image: ExpectedImage
    array: str
    got: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestJob:
    """Images that one worker reads."""

    store: ExamStore
    images: tuple[ExpectedImage, ...]


def find_damage(job: DigestJob) -> tuple[Damage, ...]:
    """Reads every image of the job, pixels and mask."""
    return tuple(damage for image in job.images for damage in _damage_of(job.store, image))


def cannot_be_read(cause: BaseException | None, said: str) -> MammoError:
    """What to raise where a worker cannot read at all: of a bucket that it is away, or that it does not let us in."""
    if isinstance(cause, PeerRefused):
        return PeerRefused("The store's bucket does not let us read", got=said, remedy="see what the credentials may do there")
    if isinstance(cause, SourceUnavailable):
        return SourceUnavailable("The store's bucket cannot be read at the moment", got=said, remedy="run again later")
    return StoreError("The store cannot be read", got=said, remedy="see that its disk is there")


def _damage_of(store: ExamStore, image: ExpectedImage) -> Iterator[Damage]:
    for array, expected in ((PIXELS, image.written_sha256), (LESION_MASK, image.mask_sha256)):
        try:
            canvas_HW = read_row(store, image.row, array)
        except StoreError as error:
            _require_disk(store, error.__cause__)
            yield Damage(image=image, array=array, got="unreadable: a checksum does not match, or its shard is missing")
            continue
        rows_px, columns_px = image.shape_px
        if (crop_digest(canvas_HW[:rows_px, :columns_px]) if expected or canvas_HW.any() else None) != expected:
            yield Damage(image=image, array=array, got="readable, but not what was written there")


def _require_disk(store: ExamStore, cause: BaseException | None) -> None:
    """Says that it is the disk that fails: what it does not give at the moment is not damaged.

    Raises:
        StoreError: The system's error is none that damaged bytes can cause.
    """
    if isinstance(cause, OSError) and (failure := deferred_by(cause)) is not None:
        raise StoreError(
            f"Pixels in {store.folder} cannot be read at the moment",
            got=failure.reason,
            remedy="see that their disk is there and may be read, then run again; nothing is called damaged",
        ) from cause


def write_damage_list(path: Path, damage: Sequence[Damage]) -> None:
    """Writes one line per damaged image and array, by pseudonym; without damage there is a list without lines."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image_id", "row", "array", "got"))
    writer.writerows((one.image.image_id, one.image.row, one.array, one.got) for one in damage)
    write_atomically(path, text.getvalue().encode())
