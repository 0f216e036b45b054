"""Every error this project raises on purpose. Foreign exceptions are translated into these at the border, with ``from``.

MammoError
├── ConfigError           a config file or flag is wrong                                   exit 2
├── NoExamsFound          the source folder holds no readable exam                         exit 3
├── DicomError            a file cannot be read as DICOM, or its pixels cannot be decoded  exit 3
│   └── GateRejection     readable, but an acquisition rule refuses it (reason codes)      exit 3
├── SourceUnavailable     files cannot be read at the moment; the next run reads them      exit 75
│   ├── PeerUnavailable   another system cannot be reached, is overloaded or breaks off      exit 75
│   └── FileDeferred      one such file: the share, the disk or memory failed, not the file  exit 75
├── PeerRefused           another system does not accept who we are or what we ask             exit 9
├── GateChildFailed       the process that reads foreign files cannot be started           exit 1
├── LabelError            labels cannot be read, or join to no exam                        exit 3
├── DatasetError          a public data set's files or counts are not those that were published   exit 3
├── ValidationFailed      a blocking data check failed                                     exit 4
├── StoreError            the exam store is missing, damaged or of another layout          exit 5
│   └── StoreBusy         another run holds the store                                      exit 75
├── CheckpointError       weights or training state are missing, altered or of another config  exit 6
├── TrainingError         training cannot start or stopped on bad numbers                  exit 7
└── TooManyFailures       more images failed than ``max_failed_fraction`` allows           exit 8
    └── TooManyWithdrawn  more published images would go than ``max_withdrawn_fraction``     exit 8

A message says what is wrong, what was expected, what was found and what to do. It never quotes a DICOM value that could
identify a patient.
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final

from schemas.refusal import Refusal, in_words


class MammoError(Exception):
    """The root of the tree.

    Args:
        what: What is wrong, as a sentence without the final stop.
        expected: What would have been right.
        got: What was found instead.
        remedy: What the reader can do now.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> None:
        # Exception pickles its args, so a Dask worker's error arrives with the finished sentence.
        super().__init__(in_words(what, expected=expected, got=got, remedy=remedy))


class ConfigError(MammoError):
    """A config file or flag is wrong."""

    exit_code = 2


class NoExamsFound(MammoError):
    """The source folder holds no readable exam."""

    exit_code = 3


class DicomError(MammoError):
    """A file cannot be read as DICOM, or its pixels cannot be decoded."""

    exit_code = 3


class DatasetError(MammoError):
    """A public data set's files or tables are not there, or are not as they were published."""

    exit_code = 3


class GateRejection(DicomError):
    """An acquisition rule refuses the image; ``refusal`` says which and why (``tasks.adapters.gate.rules.table``)."""

    def __init__(
        self,
        what: str,
        *,
        reason_codes: tuple[str, ...] = (),
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, expected=expected, got=got, remedy=remedy)
        self.refusal = Refusal(
            rules=reason_codes,
            what=what,
            expected=None if expected is None else str(expected),
            got=None if got is None else str(got),
            remedy=remedy,
        )

    @classmethod
    def of(cls, refusal: Refusal) -> GateRejection:
        """The error that a refusal stands for."""
        said = {"expected": refusal.expected, "got": refusal.got}
        return cls(refusal.what, reason_codes=refusal.rules, remedy=refusal.remedy, **said)

    @property
    def reason_codes(self) -> tuple[str, ...]:
        """Ids of the rules that refuse the image."""
        return self.refusal.rules


class SourceUnavailable(MammoError):
    """Files cannot be read at the moment. Nothing about them is settled: the next run reads them."""

    exit_code = 75


class PeerUnavailable(SourceUnavailable):
    """Another system cannot be reached, is overloaded or breaks off. Nothing is lost: the next run asks again.

    Attributes:
        wait_s: How long it asked to be left alone; 0 = it said nothing.
    """

    wait_s: float = 0.0


class PeerRefused(MammoError):
    """Another system does not accept who we are or what we ask: to try again would change nothing, and may lock us out."""

    exit_code = 9


class FileDeferred(SourceUnavailable):
    """One file that cannot be read at the moment: what failed is the share, the disk or the machine, not the file.

    Attributes:
        reason: What failed: an error's name such as ``EIO``, or words. Never a path: it may spell a name.
    """

    reason: str = ""

    @classmethod
    def because(cls, reason: str) -> FileDeferred:
        """The error for a reason."""
        error = cls("The file cannot be read at the moment", got=reason, remedy="the next ingest reads it again")
        error.reason = reason
        return error


_OF_CONTENT: Final = frozenset({None, errno.EBADF, errno.EFBIG, errno.EINVAL, errno.ENOSYS, errno.EOVERFLOW, errno.ESPIPE})
"""What a file's own bytes can lead a reader to: seeking to nowhere, writing where nothing may be written, asking for another
file (ENOSYS: the walls around the gate's child)."""


def deferred_by(error: OSError) -> FileDeferred | None:
    """The deferral that an operating system's error means; None if the file's content can be its cause."""
    if error.errno in _OF_CONTENT:
        return None
    return FileDeferred.because("time-out" if isinstance(error, TimeoutError) else error_name(error))


def error_name(error: OSError) -> str:
    """``EIO`` and the like: what may be told of an operating system's error, whose message quotes the path."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


class GateChildFailed(MammoError):
    """The process that reads foreign files cannot be started: the installation is at fault, not a file."""


class LabelError(MammoError):
    """Labels cannot be read, or join to no exam."""

    exit_code = 3


class ValidationFailed(MammoError):
    """A blocking data check failed."""

    exit_code = 4


class StoreError(MammoError):
    """The exam store is missing, damaged or of another layout."""

    exit_code = 5


class StoreBusy(StoreError):
    """Another run holds the store."""

    exit_code = 75


class CheckpointError(MammoError):
    """Weights or training state are missing, altered or of another config."""

    exit_code = 6


class TrainingError(MammoError):
    """Training cannot start, or stopped on bad numbers."""

    exit_code = 7


class TooManyFailures(MammoError):
    """More images failed than the config allows."""

    exit_code = 8


class TooManyWithdrawn(TooManyFailures):
    """More published images would be withdrawn than the config allows; what was published stays."""


def extra_from(name: str) -> str:
    """What to do where an extra is wanting. The package is on no index: whoever takes its name there would be installed."""
    return f"pip install -c constraints.txt '.[{name}]' in the folder that mammo was installed from"
