"""Pseudonyms: stable under one key, unlinkable under another, and a key file only its owner can read."""

from __future__ import annotations

import pickle
import re
from datetime import date
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest

from schemas.errors import ConfigError
from tasks.adapters.pseudonyms import KEY_BYTES, Pseudonyms, open_key

PSEUDONYMS = Pseudonyms(bytes(range(KEY_BYTES)))


def test_identifiers_are_a_letter_and_24_hex_digits() -> None:
    """P, E, I and F say what is named; the digits are the same on each call."""
    made = [
        PSEUDONYMS.patient_id("CANARY"),
        PSEUDONYMS.exam_id("CANARY"),
        PSEUDONYMS.image_id("CANARY"),
        PSEUDONYMS.file_id("CANARY"),
    ]
    assert [identifier[0] for identifier in made] == ["P", "E", "I", "F"]
    assert all(re.fullmatch(r"[PEIF][0-9a-f]{24}", identifier) for identifier in made)
    assert made[0] == PSEUDONYMS.patient_id("CANARY")


def test_domains_are_separated() -> None:
    """The same text as patient, exam, image and file gives four unrelated digests."""
    digits = {
        make("1.2.3")[1:] for make in (PSEUDONYMS.patient_id, PSEUDONYMS.exam_id, PSEUDONYMS.image_id, PSEUDONYMS.file_id)
    }
    assert len(digits) == 4


def test_issuer_and_patient_id_do_not_run_into_each_other() -> None:
    """Issuer "A" with patient "BC" is another patient than issuer "AB" with patient "C"."""
    assert PSEUDONYMS.patient_id("BC", "A") != PSEUDONYMS.patient_id("C", "AB")


def test_outer_spaces_do_not_make_another_patient() -> None:
    """DICOM pads texts with spaces: they are no part of the value (PS3.5 6.2)."""
    assert PSEUDONYMS.patient_id("17 ") == PSEUDONYMS.patient_id("17")


def test_another_key_gives_other_pseudonyms() -> None:
    """Two data sets made with two keys cannot be joined."""
    other = Pseudonyms(bytes(KEY_BYTES))
    assert other.patient_id("17") != PSEUDONYMS.patient_id("17")
    assert other.key_id != PSEUDONYMS.key_id


def test_shifted_dates_keep_the_interval_of_a_patient() -> None:
    """Two exams 730 days apart stay 730 days apart, and neither keeps its day."""
    patient = PSEUDONYMS.patient_id("17")
    first, second = date(2018, 3, 1), date(2020, 2, 29)
    moved_first, moved_second = (PSEUDONYMS.shifted_date(patient, day) for day in (first, second))
    assert moved_second - moved_first == second - first
    assert 1 <= (first - moved_first).days <= 3650
    assert PSEUDONYMS.shifted_date(PSEUDONYMS.patient_id("18"), first) != moved_first


def test_the_key_is_never_shown() -> None:
    """repr, which logs and tracebacks use, names no byte of the key; a worker still receives it."""
    assert "key" not in repr(PSEUDONYMS)
    assert pickle.loads(pickle.dumps(PSEUDONYMS)) == PSEUDONYMS  # noqa: S301  # our own bytes, as Dask sends them


def test_open_key_makes_the_key_once(tmp_path: Path) -> None:
    """The first call writes 32 random bytes for the owner alone; the second reads the same."""
    path = tmp_path / "secrets" / "pseudonym.key"
    made = open_key(path, creates=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_nlink == 1
    assert path.stat().st_size == KEY_BYTES
    assert open_key(path) == made
    assert list(path.parent.iterdir()) == [path]
    assert open_key(tmp_path / "other.key", creates=True) != made


def test_a_key_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """Under another key every known patient would be a stranger: only a workspace without a store gets a new one."""
    with pytest.raises(ConfigError, match=r"is gone.*restore it from a backup"):
        open_key(tmp_path / "pseudonym.key")
    assert not list(tmp_path.iterdir())


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Mode 0640 is refused, and the message says how to mend it."""
    path = tmp_path / "pseudonym.key"
    open_key(path, creates=True)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_key(path)


@pytest.mark.parametrize("length", [0, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    """A truncated or foreign file does not silently become another key."""
    path = tmp_path / "pseudonym.key"
    path.write_bytes(bytes(length))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="32 bytes"):
        open_key(path)


def test_a_folder_in_place_of_the_key_is_a_config_error(tmp_path: Path) -> None:
    """What the system says becomes ours, with a remedy."""
    with pytest.raises(ConfigError, match="Remedy"):
        open_key(tmp_path)


def test_a_result_has_a_uid_that_only_the_key_gives() -> None:
    """The same under the same key, another under another and for other parts; a UUID of the version for one's own content."""
    mine = Pseudonyms(b"k" * KEY_BYTES)
    uid = mine.result_uid("saliency", "weights", "2.25.1")
    assert uid == mine.result_uid("saliency", "weights", "2.25.1")
    others = {
        mine.result_uid("saliency", "weights", "2.25.2"),
        mine.result_uid("saliency", "weights2.25.1"),
        mine.result_uid("weights", "saliency", "2.25.1"),
        Pseudonyms(b"l" * KEY_BYTES).result_uid("saliency", "weights", "2.25.1"),
    }
    assert len(others | {uid}) == 5
    named = UUID(int=int(uid.removeprefix("2.25.")))
    assert uid.startswith("2.25.") and len(uid) <= 44 and named.variant == RFC_4122 and named.version == 8


def test_a_shifted_date_is_brought_back_by_the_key() -> None:
    """At the border the PACS is asked for the day on which it has the exam."""
    mine = Pseudonyms(b"k" * KEY_BYTES)
    day = date(2024, 2, 29)
    assert mine.unshifted_date("P1", mine.shifted_date("P1", day)) == day
