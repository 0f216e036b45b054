"""What a row of the ledger means beside the others, asked of its tables in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from mammo_tests.ledger_files import accepted_file
from tasks.adapters.inbox.ledger_tables import TABLES, give_up_claim, is_settled, state_of
from tasks.adapters.inbox.lines import AcceptedFile


@pytest.fixture
def tables() -> Iterator[sqlite3.Connection]:
    """An accepted file with its image, and a duplicate of it."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(TABLES)
    add = "INSERT INTO files (file_id, fingerprint, state, image_id, source_sha256) VALUES (?, '1-1', ?, 'I', 's')"
    connection.executemany(add, [("F1", "accepted"), ("F2", "duplicate")])
    connection.execute("INSERT INTO images (file_id, image_id, exam_id) VALUES ('F1', 'I', 'E')")
    yield connection
    connection.close()


def file(file_id: str, *, sha: str = "s", at: str = "1-1", image: str = "I") -> AcceptedFile:
    """A file that is registered."""
    return accepted_file(file_id, at=at, image_id=image, exam_id="E", source_sha256=sha)


@pytest.mark.parametrize(
    ("known", "state", "is_written", "settled"),
    [
        ("1-1", "accepted", True, True),
        ("1-1", "accepted", False, False),  # its pixels are still to be read
        ("2-2", "accepted", True, False),  # it was touched
        ("1-1", "duplicate", False, True),
        ("1-1 of these rules", "quarantined", False, True),
        ("1-1 of other rules", "quarantined", False, False),  # other rules may take it
        ("1-1 of other rules", "discarded", False, True),  # whatever the rules say, nobody wants it
    ],
)
def test_a_file_need_not_be_read(known: str, state: str, is_written: bool, settled: bool) -> None:
    """By its fingerprint, its state, and for a refusal by the rules that it was refused under."""
    assert is_settled("1-1", known, state, "of these rules", is_written=is_written) is settled


def test_the_same_bytes_are_a_duplicate_and_unknown_bytes_are_none(tables: sqlite3.Connection) -> None:
    """Compared with other files of the image; what was discarded is discarded under every image's name."""
    assert state_of(tables.cursor(), file("F3")) == "duplicate"
    assert state_of(tables.cursor(), file("F3", sha="")) == "accepted"
    assert state_of(tables.cursor(), file("F3", sha="other")) == "accepted"
    assert state_of(tables.cursor(), file("F1")) == "accepted"  # itself
    tables.execute("UPDATE files SET state = 'discarded' WHERE file_id = 'F1'")
    assert state_of(tables.cursor(), file("F3", image="J")) == "discarded"


def test_a_claim_is_given_up_with_its_duplicates(tables: sqlite3.Connection) -> None:
    """Not while the file holds the same; then the copy is forgotten too, so that the next scan may let it take the place."""
    for same in (file("F1"), file("F1", at="2-2"), file("F1", sha="")):
        give_up_claim(tables.cursor(), "F1", unless=same)
        assert tables.execute("SELECT count(*) FROM images").fetchone() == (1,)
    give_up_claim(tables.cursor(), "F1", unless=file("F1", sha="other"))
    assert tables.execute("SELECT count(*) FROM images").fetchone() == (0,)
    assert tables.execute("SELECT file_id FROM files").fetchall() == [("F1",)]
