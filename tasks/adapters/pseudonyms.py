"""Pseudonyms: keyed, domain-separated digests that stand for DICOM identifiers, and the key file they come from.

Raw identifiers go in, hex digits come out; nothing here reads DICOM. The same key gives the same pseudonyms on every machine
and run, so a store can grow; another key makes another, unlinkable data set.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import unicodedata
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from schemas.errors import ConfigError
from tasks.adapters.workspace import place_secret

KEY_BYTES = 32
_HEX_DIGITS = 24  # 96 bits: no collision to expect below 10^14 identifiers
_LONGEST_SHIFT_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Makes pseudonyms with one secret key.

    Attributes:
        key: At least 32 secret bytes; never shown, logged or stored beside the data.
    """

    key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """Names the key without revealing it; goes into provenance, so that two keys are never mixed in one store."""
        return self._hex_digits("key")[:12]

    def patient_id(self, patient_id: str, issuer: str = "") -> str:
        """``P`` and 24 hex digits for PatientID (0010,0020) with IssuerOfPatientID (0010,0021); outer spaces do not count."""
        return "P" + self._hex_digits("pid", issuer.strip(), patient_id.strip())

    def exam_id(self, study_uid: str) -> str:
        """``E`` and 24 hex digits for StudyInstanceUID (0020,000D), or for what a profile puts in its place."""
        return "E" + self._hex_digits("study", study_uid.strip())

    def accession_id(self, accession_number: str) -> str:
        """``A`` and 24 hex digits for AccessionNumber (0008,0050)."""
        return "A" + self._hex_digits("accession", accession_number.strip())

    def image_id(self, sop_uid: str) -> str:
        """``I`` and 24 hex digits for SOPInstanceUID (0008,0018)."""
        return "I" + self._hex_digits("sop", sop_uid.strip())

    def file_id(self, relative_path: str) -> str:
        """``F`` and 24 hex digits for a file's path below the source folder: names a refused file in reports."""
        return "F" + self._hex_digits("file", relative_path)

    def shifted_date(self, patient_id: str, exam_date: date) -> date:
        """Moves a date 1 to 3650 days back, by the same number for one patient: intervals stay, the calendar day goes.

        Args:
            patient_id: The patient's pseudonym, as ``patient_id`` gives it.
            exam_date: The date to move; must be after the year 10.
        """
        digits = self._hex_digits("date", patient_id)
        return exam_date - timedelta(days=1 + int(digits, 16) % _LONGEST_SHIFT_DAYS)

    def _hex_digits(self, domain: str, *parts: str) -> str:
        # Each part is preceded by its length: no two lists of parts give the same message, whatever bytes they hold.
        message = domain.encode() + b"\0"
        for part in parts:
            # One name in two spellings of Unicode, as two systems write it, is one name.
            encoded = unicodedata.normalize("NFC", part).encode("utf-8", "surrogateescape")
            message += len(encoded).to_bytes(8, "big") + encoded
        return hmac.digest(self.key, message, "sha256").hex()[:_HEX_DIGITS]


def open_key(path: Path, *, creates: bool = False) -> Pseudonyms:
    """Opens the pseudonym key.

    Args:
        path: The key file.
        creates: Make 32 random bytes with mode 0600 if there is none: right only where no pseudonym was made yet.

    Raises:
        ConfigError: It is gone, is readable by others, has another length, or cannot be read or made.
    """
    try:
        if not path.exists():
            if not creates:
                raise ConfigError(
                    f"The pseudonym key {path} is gone",
                    expected="the key that the pseudonyms were made with: under another one every patient is a stranger",
                    remedy="restore it from a backup (`mammo restore`)",
                )
            place_key(path, secrets.token_bytes(KEY_BYTES))
        return Pseudonyms(_read_key(path))
    except OSError as error:
        raise ConfigError(
            f"The pseudonym key {path} cannot be opened",
            got=error.strerror,
            remedy="name a file in a folder that this user may read and write",
        ) from error


def place_key(path: Path, key: bytes) -> None:
    """Writes a key file with mode 0600; a key that is already there stays.

    Args:
        path: The key file.
        key: 32 bytes. A key that others know makes reproducible pseudonyms and protects nobody: for synthetic patients only, or
            to give a partner site the same pseudonyms.

    Raises:
        OSError: The folder cannot be written.
    """
    place_secret(path, key)


def _read_key(path: Path) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"The pseudonym key {path} is not a regular file", remedy="name a file")
        if status.st_mode & 0o077:
            raise ConfigError(
                f"The pseudonym key {path} can be read by others",
                expected="mode 0600",
                got=f"mode {stat.S_IMODE(status.st_mode):04o}",
                remedy=f"chmod 600 {path}; if others may have read it, make a new key and ingest again",
            )
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"The pseudonym key {path} is damaged",
            expected=f"{KEY_BYTES} bytes",
            got="more" if len(key) > KEY_BYTES else f"{len(key)} bytes",
            remedy="restore it from a backup; with a new key the exams are ingested again under new pseudonyms",
        )
    return key
