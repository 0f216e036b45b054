"""What the gate's parent and child say to each other. No decoder is imported here: Dask workers read these classes, too."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from gmic_model.preprocess import PreparedView
from schemas.config.ingest import PreprocessConfig
from schemas.exam import ImageRecord, LesionBeyond, ViewGeometry
from schemas.refusal import Refusal
from tasks.adapters.buckets.exam_object import ExamObject
from tasks.adapters.datasets.named_subjects import NamedSubject
from tasks.adapters.dicom.header import LARGEST_SIDE_PX
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.pseudonyms import Pseudonyms

PIXELS_BYTES: Final = 3 * LARGEST_SIDE_PX**2
"""Shared memory: a uint16 image of the largest size and its uint8 mask. Only what was written takes up memory."""


READ_AT: Final = PIXELS_BYTES
"""Index in the shared memory of a byte that is 1 when the child has read the whole file; the parent sets it to 0 before."""


SHARED_BYTES: Final = PIXELS_BYTES + 1


MEMORY: Final = "memory"
"""``Answer.deferral`` where the machine, not the file's limit, had too little."""


LARGEST_MESSAGE_BYTES: Final = 1_000_000


LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectHeader:
    """Read a header through the gate.

    Attributes:
        with_digest: Read the rest of the file too, for its digest.
        mask_path: A lesion mask to look at beside it: whether it fits the image that the header tells of.
        named: What a table says of the file; None = its header says it.
        stored: The object of a bucket that it is; ``path`` then is a name and no place. None = it lies at ``path``.
        present_bytes: Of an object only so many first bytes are fetched; None = all.
    """

    path: Path
    gate: GateSettings
    with_digest: bool = True
    mask_path: Path | None = None
    named: NamedSubject | None = None
    stored: ExamObject | None = None
    present_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareImage:
    """Take a file through the whole gate, and crop it as it is stored.

    Attributes:
        fingerprint: The file's size and modification time when it was found; ``""`` of an object, which its entity tag names.
        mask_path: Lesion mask of the image, if there is one.
        named: What a table says of the file; None = its header says it.
        stored: As in ``InspectHeader``.
    """

    path: Path
    gate: GateSettings
    fingerprint: str
    preprocess: PreprocessConfig
    canvas_px: tuple[int, int]
    mask_path: Path | None
    named: NamedSubject | None = None
    stored: ExamObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawThumbnail:
    """Decode without judging, and shrink to at most ``side_px`` on the longer side, and at least eightfold.

    Eightfold, because a picture is for people who may not be meant to read what is burned into it.
    """

    path: Path
    source_dir: Path
    side_px: int
    stored: ExamObject | None = None


Request = InspectHeader | PrepareImage | DrawThumbnail


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A request on its way to the child, which opens nothing: descriptors of the file and of its mask go with it.

    Attributes:
        pseudonyms: Of the request's key; None where it names nobody.
    """

    request: Request
    pseudonyms: Pseudonyms | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the child reports. Refused, deferred, or the fields that the request asks for.

    Attributes:
        refusal: Why the file is refused; None if it is not.
        deferral: What kept the file from being read (``FileDeferred.reason``); "" = nothing.
        shape_px: (rows, columns) of the image in the shared memory: uint16 for ``PrepareImage``, uint8 for ``DrawThumbnail``.
        has_mask: True if a uint8 mask of the same shape follows the image.
        seen_fraction: Share of the breast inside the network's window.
        lesion_seen_fraction: The same of the mask's lesion that has the smallest share there.
        lesions_beyond: What the stored crop does not hold of the mask's lesions.
        mask_fault: Why the mask cannot be used: no PNG, damaged, of another size than the image, values above 3; "" = it can.
        walls: Of the first answer, which says that the child is ready: what stands around it (``walls.ALL_WALLS``).
    """

    refusal: Refusal | None = None
    deferral: str = ""
    record: ImageRecord | None = None
    shape_px: tuple[int, int] = (0, 0)
    geometry: ViewGeometry | None = None
    tissue_fraction: float = 0.0
    seen_fraction: float = 1.0
    lesion_seen_fraction: float = 1.0
    lesions_beyond: tuple[LesionBeyond, ...] = ()
    has_mask: bool = False
    mask_fault: str = ""
    pixel_sha256: str = ""
    warnings: tuple[str, ...] = ()
    background_median: float = 0.0
    is_worn: bool = False
    walls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImage:
    """An accepted image as it is stored, with what is known of it.

    Attributes:
        mask_HW: Lesion bits in the frame of ``prepared.pixels_HW``; None if there are none.
        is_mask_unusable: True if a mask file is there and cannot be used.
        pixel_sha256, warnings, background_median: See ``gate.admission.GatedPixels``.
        lesion_seen_fraction: Share inside the window of the mask's lesion that has least of it there.
        lesions_beyond: What the stored crop does not hold of the mask's lesions.
    """

    record: ImageRecord
    prepared: PreparedView
    mask_HW: NDArray[np.uint8] | None
    is_mask_unusable: bool
    pixel_sha256: str
    warnings: tuple[str, ...]
    background_median: float
    lesion_seen_fraction: float = 1.0
    lesions_beyond: tuple[LesionBeyond, ...] = ()


ANSWER: Final = TypeAdapter(Answer)


_MOST_DESCRIPTORS: Final = 2


def send(connection: socket.socket, content: bytes, descriptors: Sequence[int] = ()) -> None:
    """Sends one message, and with its first bytes what is open for the other side."""
    head = LENGTH.pack(len(content))
    if descriptors:
        socket.send_fds(connection, [head], descriptors)
    else:
        connection.sendall(head)
    connection.sendall(content)


def receive_errand(connection: socket.socket) -> tuple[bytes, list[int]] | None:
    """One message and the descriptors that came with it; None if the other side is gone."""
    head, descriptors, _, _ = socket.recv_fds(connection, LENGTH.size, _MOST_DESCRIPTORS)
    content = None if len(head) < LENGTH.size else _content(connection, head, None)
    return None if content is None else (content, descriptors)


def receive(connection: socket.socket, *, deadline_s: float | None = None) -> bytes | None:
    """One message; None if the other side is gone.

    Args:
        connection: Where from.
        deadline_s: ``time.monotonic`` of when the whole message must be here; None = whenever.

    Raises:
        TimeoutError: It is not.
        ValueError: The message is announced as longer than any message is.
    """
    head = _receive_exactly(connection, LENGTH.size, deadline_s)
    return None if head is None else _content(connection, head, deadline_s)


def _content(connection: socket.socket, head: bytes, deadline_s: float | None) -> bytes | None:
    (length,) = LENGTH.unpack(head)
    if length > LARGEST_MESSAGE_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return _receive_exactly(connection, length, deadline_s)


def _receive_exactly(connection: socket.socket, length: int, deadline_s: float | None) -> bytes | None:
    received = bytearray()
    while len(received) < length:
        # Per part: a sender of single bytes does not buy time with them.
        connection.settimeout(None if deadline_s is None else max(0.001, deadline_s - time.monotonic()))
        part = connection.recv(length - len(received))
        if not part:
            return None
        received += part
    return bytes(received)
