"""What runs inside the gate's child process: foreign bytes are opened, decoded and cropped here and nowhere else.

The process has limited address space, opens and writes no file, and dies with its parent; ``walls`` stand around it. What it
reads the parent has opened. It answers in JSON, which the parent checks; pixels go into memory that the parent made. The
parent's half is ``child``.
"""

from __future__ import annotations

import codecs
import ctypes
import importlib
import mmap
import os
import pickle
import resource
import signal
import socket
import stat
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from gmic_model.pixels.window import is_cut_by_window
from gmic_model.preprocess import PreparedView, crop_like, fit_canvas, prepare_view
from gmic_model.seen_lesions import lesions_beyond, lesions_in_window
from schemas.errors import DicomError, FileDeferred, GateRejection, MammoError, deferred_by
from schemas.exam import ImageRecord, LesionBeyond
from schemas.layout import MASK_BITS
from schemas.refusal import Refusal
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.dicom.bounded_reader import BoundedReader
from tasks.adapters.dicom.dicom_file import CHARACTER_ENCODINGS, read_image_from
from tasks.adapters.dicom.frame_codecs import missing_codecs
from tasks.adapters.gate.admission import GatedPixels, accept_image, inspect_header
from tasks.adapters.gate.messages import (
    ANSWER,
    MEMORY,
    READ_AT,
    SHARED_BYTES,
    Answer,
    DrawThumbnail,
    Errand,
    InspectHeader,
    PrepareImage,
    receive_errand,
    send,
)
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.walls import raise_walls

_SMALLEST_SHRINKING: Final = 8


def serve(socket_fd: int, pixels_fd: int, parent_pid: int, memory_bytes: int) -> None:
    """Answers requests until the parent closes its end.

    Args:
        socket_fd: A connected stream socket.
        pixels_fd: ``SHARED_BYTES`` of shared memory.
        parent_pid: Who started this process.
        memory_bytes: Address space that may be taken beyond what this process has now.
    """
    _die_with(parent_pid)
    cv2.setNumThreads(1)
    memory = mmap.mmap(pixels_fd, SHARED_BYTES)
    _import_what_is_imported_late()
    start_bytes = _address_space_bytes()
    is_limit_ours = _limit_resources(start_bytes + memory_bytes)
    with socket.socket(fileno=socket_fd) as connection:
        _send(connection, Answer(walls=raise_walls()))  # ready
        while (received := receive_errand(connection)) is not None:
            # The parent made these bytes: unpickling them is safe. The way back is not, and is JSON.
            answer = _answer(cast("Errand", pickle.loads(received[0])), received[1], memory)  # noqa: S301
            is_out_of_memory = answer.refusal is not None and "F11" in answer.refusal.rules
            if is_out_of_memory and not (is_limit_ours and _available_bytes() >= memory_bytes):
                answer = Answer(deferral=MEMORY)
            _send(connection, replace(answer, is_worn=_address_space_bytes() > start_bytes + memory_bytes // 2))


def _send(connection: socket.socket, answer: Answer) -> None:
    send(connection, ANSWER.dump_json(answer))


def _import_what_is_imported_late() -> None:
    """Loads what libraries load when a file first asks for it: behind the walls there is no disk."""
    missing_codecs()  # asks each codec
    for encoding in CHARACTER_ENCODINGS:
        codecs.lookup(encoding)
    for name in _IMPORTED_LATE:
        importlib.import_module(name)


_IMPORTED_LATE: Final = ("_strptime", "numpy.ma")


# ------------------------------------------------------------------------------------------------------------ limits

_PR_SET_PDEATHSIG: Final = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def _die_with(parent_pid: int) -> None:
    """Lets the kernel kill this process when its parent thread ends, and frees memory the way image work likes."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before the line above
        os._exit(0)
    # Images of 17 MB come and go: without this each is mapped, zeroed and unmapped again by the kernel (half the CPU time).
    libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    libc.mallopt(_M_TRIM_THRESHOLD, 128 << 20)
    libc.mallopt(_M_ARENA_MAX, 1)


def _address_space_bytes() -> int:
    return int(_read_again("/proc/self/statm").split()[0]) * resource.getpagesize()


def _available_bytes() -> int:
    """What the machine could still give (proc(5), MemAvailable); as much as one likes where it does not say."""
    lines = _read_again("/proc/meminfo").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), sys.maxsize)


def _read_again(path: str) -> str:
    """What a file of the kernel says now."""
    return os.pread(descriptor, 4096, 0).decode() if (descriptor := _kept_open(path)) >= 0 else ""


@cache
def _kept_open(path: str) -> int:
    """A descriptor of a file that is read behind the walls too, where nothing can be opened; -1 = there is none."""
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return -1


def _limit_resources(address_space_bytes: int) -> bool:
    """Sets the limits; False if the system allows less memory than one file may take."""
    limits = {
        resource.RLIMIT_AS: address_space_bytes,
        resource.RLIMIT_FSIZE: 0,  # no file of any length can be written; the shared memory is sized already
        resource.RLIMIT_CORE: 0,  # a core dump would hold the patient's image
    }
    for limit, value in limits.items():
        allowed = resource.getrlimit(limit)[1]  # a batch system may have set a lower one, which stays
        lowest = value if allowed == resource.RLIM_INFINITY else min(value, allowed)
        resource.setrlimit(limit, (lowest, lowest))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return resource.getrlimit(resource.RLIMIT_AS)[0] == address_space_bytes


# ------------------------------------------------------------------------------------------------------------- answers


def _answer(errand: Errand, descriptors: list[int], memory: mmap.mmap) -> Answer:
    """The answer to a request, whatever the file raises; its descriptors are closed.

    ``BaseException`` is caught on purpose: a decoder that raises SystemExit or KeyboardInterrupt must not end the child, or its
    file would be read twice and called F11. Nothing is hidden by it: the refusal names the class of what was raised.

    An error of the disk, or one of ours that is not about the file (the key is gone), is a deferral: it tells nothing of it.
    """
    try:
        match errand:
            case Errand(request=InspectHeader() as request, pseudonyms=Pseudonyms() as pseudonyms):
                return _inspected(request, pseudonyms, *descriptors)
            case Errand(request=PrepareImage() as request, pseudonyms=Pseudonyms() as pseudonyms):
                return _prepared(request, pseudonyms, memory, *descriptors)
            case Errand(request=DrawThumbnail() as request):
                return _thumbnail(request, memory, *descriptors)
            case _:
                raise TypeError(type(errand).__name__)
    except GateRejection as rejection:
        refusal = rejection.refusal
        return Answer(refusal=refusal if refusal.rules else replace(refusal, rules=("F14",)))
    except DicomError as error:
        return Answer(refusal=Refusal(rules=("F14",), what=str(error)))
    except FileDeferred as deferred:
        return Answer(deferral=deferred.reason)
    except MammoError as error:
        return Answer(deferral=type(error).__name__)
    except MemoryError:
        return Answer(refusal=Refusal(rules=("F11",), what="The file needs more memory than one file may take."))
    except BaseException as error:
        if isinstance(error, OSError) and (deferral := deferred_by(error)) is not None:
            return Answer(deferral=deferral.reason)
        # Only the class: the message of a foreign exception may quote the patient.
        return Answer(refusal=Refusal(rules=("X22",), what="The file cannot be prepared", got=type(error).__name__))
    finally:
        for descriptor in descriptors:
            with suppress(OSError):  # closed already
                os.close(descriptor)


def _inspected(request: InspectHeader, pseudonyms: Pseudonyms, file: int, mask: int | None = None) -> Answer:
    record = inspect_header(
        request.path,
        source_dir=request.gate.source_dir,
        profile=profile_named(request.gate.profile, image_types=request.gate.image_types),
        pseudonyms=pseudonyms,
        with_digest=request.with_digest,
        descriptor=file,
        present_bytes=request.present_bytes,
        named=request.named,
    )
    fault = "" if mask is None else _mask(mask, (record.rows_px, record.columns_px))[1]
    return Answer(record=record, mask_fault=fault)


def _prepared(request: PrepareImage, pseudonyms: Pseudonyms, memory: mmap.mmap, file: int, mask: int | None = None) -> Answer:
    record, gated = accept_image(
        request.path,
        source_dir=request.gate.source_dir,
        profile=profile_named(request.gate.profile, image_types=request.gate.image_types),
        pseudonyms=pseudonyms,
        voi=request.preprocess.voi,
        fingerprint=request.fingerprint,
        window_px=None if request.preprocess.oversize == "shrink" else request.preprocess.window_px,
        common_spacing_mm=request.preprocess.pixel_spacing_mm,
        when_read=lambda: memory.__setitem__(READ_AT, 1),
        descriptor=file,
        named=request.named,
    )
    prepared = prepare_view(
        gated.pixels_HW,
        record.laterality,
        record.view_position,
        settings=request.preprocess,
        pixel_spacing_mm=record.pixel_spacing_mm,
    )
    prepared = fit_canvas(prepared, request.canvas_px)
    # From here on as seen from the file: its masks, its boxes and whoever reads saliency know nothing of a turn.
    prepared = replace(prepared, geometry=gated.turn.source_geometry(prepared.geometry))
    _store(memory, prepared.pixels_HW, offset=0)
    marked = None if mask is None else _stored_mask(mask, prepared)
    if marked is not None and marked.mask_HW is not None:
        _store(memory, marked.mask_HW, offset=prepared.pixels_HW.nbytes)
    return _image_answer(record, gated, prepared, marked or _Marked())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Marked:
    """What a mask file says, in the stored crop's frame; see ``messages.Answer``."""

    mask_HW: NDArray[np.uint8] | None = None
    fault: str = ""
    seen_fraction: float = 1.0
    beyond: tuple[LesionBeyond, ...] = ()


def _image_answer(record: ImageRecord, gated: GatedPixels, prepared: PreparedView, marked: _Marked) -> Answer:
    return Answer(
        record=record,
        shape_px=(prepared.pixels_HW.shape[0], prepared.pixels_HW.shape[1]),
        geometry=prepared.geometry,
        tissue_fraction=prepared.tissue_fraction,
        seen_fraction=prepared.seen_fraction,
        lesion_seen_fraction=marked.seen_fraction,
        lesions_beyond=marked.beyond,
        has_mask=marked.mask_HW is not None,
        mask_fault=marked.fault,
        pixel_sha256=gated.pixel_sha256,
        warnings=gated.warnings,
        background_median=gated.background_median,
    )


def _stored_mask(mask: int, prepared: PreparedView) -> _Marked:
    """The lesion bits in the stored crop's frame, and what lies outside of it."""
    mask_HW, fault = _mask(mask, prepared.geometry.source_shape_px)
    if mask_HW is None:
        return _Marked(fault=fault)
    crop_HW = crop_like(mask_HW, prepared.geometry)
    beyond = tuple(
        lesion for finding, bit in MASK_BITS.items() for lesion in lesions_beyond(mask_HW & bit, prepared.geometry, finding)
    )
    return _Marked(
        mask_HW=np.ascontiguousarray(crop_HW, dtype=np.uint8) if crop_HW.any() else None,
        seen_fraction=_seen_lesion_fraction(crop_HW, prepared, beyond),
        beyond=beyond,
    )


def _seen_lesion_fraction(crop_HW: NDArray[np.uint8], prepared: PreparedView, beyond: tuple[LesionBeyond, ...]) -> float:
    """Share inside the network's window of the lesion that has least of it there; 1 where the whole crop is inside."""
    if not beyond and not is_cut_by_window(crop_HW.shape, prepared.geometry.window_px):
        return 1.0
    lesions = [
        lesions_in_window(crop_HW & bit, prepared.geometry, [one for one in beyond if one.finding is finding])
        for finding, bit in MASK_BITS.items()
    ]
    return min((float(share) for found in lesions for share in found.seen_fraction_P), default=1.0)


def _mask(descriptor: int, shape_px: tuple[int, int]) -> tuple[NDArray[np.uint8] | None, str]:
    """The lesion bits of an image of this shape, or why these are none, in words.

    Raises:
        OSError: As ``_png``.
    """
    content = _png(descriptor)
    if not content:
        return None, "no PNG"
    if content[_PNG_SIZE] != struct.pack(">II", *reversed(shape_px)):
        return None, "another size than the image"
    mask_HW = cast("NDArray[np.uint8] | None", cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))
    if mask_HW is None:
        return None, "damaged"
    if mask_HW.shape != shape_px:
        return None, "not grey"
    return (None, "values above 3") if mask_HW.max() > 0b11 else (mask_HW, "")


_PNG_SIZE: Final = slice(16, 24)  # width and height, the first of IHDR (PNG 11.2.1)


def _png(descriptor: int) -> bytes:
    """A picture's bytes; none if it is no PNG by its first bytes: OpenCV reads lossy pictures under that name too.

    Raises:
        OSError: The disk does not give them. That is no unusable mask: the image would be without it for good.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # a pipe would be waited for
        return b""
    with os.fdopen(descriptor, "rb") as file:
        content = file.read()
    return content if content.startswith(b"\x89PNG\r\n\x1a\n") else b""


def _thumbnail(request: DrawThumbnail, memory: mmap.mmap, file: int) -> Answer:
    with BoundedReader(file) as opened:
        pixels_HW = read_image_from(opened).pixels_HW
    scale = min(request.side_px / max(pixels_HW.shape), 1.0 / _SMALLEST_SHRINKING)
    size_px = tuple(max(1, round(side * scale)) for side in reversed(pixels_HW.shape))  # (columns, rows), as OpenCV wants it
    small_HW = cv2.resize(pixels_HW, size_px, interpolation=cv2.INTER_AREA).astype(np.float32)
    low, high = float(small_HW.min()), float(small_HW.max())
    grey_HW = np.rint((small_HW - low) * (255.0 / max(high - low, 1.0))).astype(np.uint8)
    _store(memory, grey_HW, offset=0)
    return Answer(shape_px=(grey_HW.shape[0], grey_HW.shape[1]))


def _store(memory: mmap.mmap, pixels_HW: NDArray[np.uint16] | NDArray[np.uint8], *, offset: int) -> None:
    target_HW = np.frombuffer(memory, pixels_HW.dtype, pixels_HW.size, offset).reshape(pixels_HW.shape)
    np.copyto(target_HW, pixels_HW)


if __name__ == "__main__":
    serve(*(int(argument) for argument in sys.argv[1:5]))
