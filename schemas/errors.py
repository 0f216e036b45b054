"""Every error this project raises on purpose. Foreign exceptions are translated into these at the border, with ``from``.

MammoError
├── ConfigError           a config file or flag is wrong                                   exit 2
├── NoExamsFound          the source folder holds no readable exam                         exit 3
├── DicomError            a file cannot be read as DICOM, or its pixels cannot be decoded  exit 3
│   └── GateRejection     readable, but an acquisition rule refuses it (reason codes)      exit 3
├── GateChildFailed       the process that reads foreign files cannot be started           exit 1
├── LabelError            labels cannot be read, or join to no exam                        exit 3
├── ValidationFailed      a blocking data check failed                                     exit 4
├── StoreError            the exam store is missing, damaged or of another layout          exit 5
│   └── StoreBusy         another run holds the store                                      exit 75
├── CheckpointError       weights or training state are missing, altered or of another config  exit 6
├── TrainingError         training cannot start or stopped on bad numbers                  exit 7
└── TooManyFailures       more images failed than ``max_failed_fraction`` allows           exit 8

A message says what is wrong, what was expected, what was found and what to do. It never quotes a DICOM value that could
identify a patient.
"""

from __future__ import annotations

from typing import ClassVar

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
