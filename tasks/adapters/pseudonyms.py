"""Pseudonyms: keyed, domain-separated digests that stand for DICOM identifiers, and the key file they come from.

Raw identifiers go in, hex digits come out; nothing here reads DICOM. The same key gives the same pseudonyms on every machine
and run, so a store can grow; another key makes another, unlinkable data set.

A key file is 32 bytes; behind them stands the id of the store whose pseudonyms were made with it, once there is one.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from schemas.errors import ConfigError
from tasks.adapters.workspace import place_secret, write_atomically

KEY_BYTES = 32
_STORE = re.compile(rb"\nstore ([0-9a-z]{1,64})\n")
_LONGEST_FILE = KEY_BYTES + 72
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

    def device_id(self, manufacturer: str, model_name: str, serial_number: str) -> str:
        """``D`` and 24 hex digits for DeviceSerialNumber (0018,1000), which its maker counts model by model."""
        return "D" + self._hex_digits("device", manufacturer.strip(), model_name.strip(), serial_number.strip())

    def detector_id(self, detector_id: str) -> str:
        """``T`` and 24 hex digits for DetectorID (0018,700A)."""
        return "T" + self._hex_digits("detector", detector_id.strip())

    def institution_id(self, institution: str) -> str:
        """``N`` and 24 hex digits for an institution's code, or its name."""
        return "N" + self._hex_digits("institution", institution.strip())

    def file_id(self, relative_path: str) -> str:
        """``F`` and 24 hex digits for a file's path below the source folder: names a refused file in reports."""
        return "F" + self._hex_digits("file", relative_path)

    def source_digest(self, sha256: str) -> str:
        """64 hex digits for the sha256 of a source file's bytes: without the key nobody who has the file finds its line."""
        return self._hmac("source", sha256).hex()

    def pixel_digest(self, sha256: str) -> str:
        """64 hex digits for the sha256 of a source image's decoded values."""
        return self._hmac("pixels", sha256).hex()

    def result_uid(self, *parts: str) -> str:
        """The UID of an object of ours (``2.25.`` and a UUID, PS3.5 B.2): who lacks the key cannot tell its source."""
        number = int.from_bytes(self._hmac("result", *parts)[:16], "big")
        number = number & ~(0xF << 76) | 8 << 76
        return f"2.25.{number & ~(0b11 << 62) | 0b10 << 62}"

    def subject_digest(self, *parts: str) -> str:
        """24 hex digits for what a subjects file says of a file: another word is another digest."""
        return self._hex_digits("subject", *parts)

    def shifted_date(self, patient_id: str, exam_date: date) -> date:
        """Moves a date 1 to 3650 days back, by the same number for one patient: intervals stay, the calendar day goes.

        Args:
            patient_id: The patient's pseudonym, as ``patient_id`` gives it.
            exam_date: The date to move; must be after the year 10.
        """
        return exam_date - self._shift(patient_id)

    def unshifted_date(self, patient_id: str, shifted: date) -> date:
        """Undoes ``shifted_date``: the day on which a PACS has the exam. For the border only; it is kept nowhere."""
        return shifted + self._shift(patient_id)

    def _shift(self, patient_id: str) -> timedelta:
        return timedelta(days=1 + int(self._hex_digits("date", patient_id), 16) % _LONGEST_SHIFT_DAYS)

    def _hex_digits(self, domain: str, *parts: str) -> str:
        return self._hmac(domain, *parts).hex()[:_HEX_DIGITS]

    def _hmac(self, domain: str, *parts: str) -> bytes:
        # Each part is preceded by its length: no two lists of parts give the same message, whatever bytes they hold.
        message = domain.encode() + b"\0"
        for part in parts:
            # One name in two spellings of Unicode, as two systems write it, is one name.
            encoded = unicodedata.normalize("NFC", part).encode("utf-8", "surrogateescape")
            message += len(encoded).to_bytes(8, "big") + encoded
        return hmac.digest(self.key, message, "sha256")


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
        return Pseudonyms(_read_key(path)[0])
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


def names_of_key(path: Path) -> tuple[str, str] | None:
    """``Pseudonyms.key_id`` of a key file, and the id of its store ("" if it carries none); None if this user sees no file.

    Raises:
        ConfigError: It holds something else than a key.
    """
    try:
        with path.open("rb") as file:
            key, store_id = _divided(path, file.read(_LONGEST_FILE + 1))
    except OSError:
        return None
    return Pseudonyms(key).key_id, store_id


def carry_store_id(path: Path, store_id: str) -> None:
    """Lets a key file say which store it is of; one that is a link, or may not be written, goes on without."""
    key, found = _read_key(path)
    if found != store_id and not path.is_symlink():
        with suppress(OSError):
            write_atomically(path, key + f"\nstore {store_id}\n".encode())


def _read_key(path: Path) -> tuple[bytes, str]:
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
        return _divided(path, file.read(_LONGEST_FILE + 1))


def _divided(path: Path, content: bytes) -> tuple[bytes, str]:
    key, rest = content[:KEY_BYTES], content[KEY_BYTES:]
    carried = _STORE.fullmatch(rest)
    if len(key) != KEY_BYTES or (rest and carried is None):
        raise ConfigError(
            f"The pseudonym key {path} is damaged",
            expected=f"{KEY_BYTES} bytes, and the id of its store if that was made",
            got="something else behind them" if rest else f"{len(key)} bytes",
            remedy="restore it from a backup; with a new key the exams are ingested again under new pseudonyms",
        )
    return key, carried[1].decode() if carried else ""
