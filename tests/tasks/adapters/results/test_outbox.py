"""The outbox: what is queued once, put off, given up with a reason, and sent again by a person."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from schemas.errors import StoreError
from tasks.adapters.results.outbox import Delivery, DeliveryState, Outbox

DELIVERY = Delivery(
    exam_id="E1", weights_sha256="ab" * 32, image_ids=("I1", "I2"), peer="pacs", queued=datetime(2026, 11, 27, 12, 0, 5)
)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """A new one."""
    return Outbox(tmp_path / "results" / "outbox.sqlite")


def test_an_exam_is_queued_once(outbox: Outbox) -> None:
    """The same exam, weights, images and peer are one delivery, with the time of the first; anything else is another."""
    later = replace(DELIVERY, queued=datetime(2027, 1, 1))
    others = [replace(later, weights_sha256="cd" * 32), replace(later, image_ids=("I1",)), replace(later, peer="other")]
    assert outbox.queue([DELIVERY]) == 1
    assert outbox.queue([later]) == 0
    assert outbox.queue([later, *others]) == 3
    assert [one.queued for one in outbox.due("pacs", 0.0) if one.name == DELIVERY.name] == [DELIVERY.queued]


def test_a_failure_waits_twice_as_long_each_time_and_ends_as_a_dead_letter(outbox: Outbox) -> None:
    """After 1, 2, 4 minutes; the fourth failure is the last. Its reason is kept."""
    outbox.queue([DELIVERY])
    now_s = 1000.0
    for wait_s in (60.0, 120.0, 240.0):
        (due,) = outbox.due("pacs", now_s)
        outbox.failed(due, "The server cannot answer now", now_s=now_s, most_attempts=4)
        assert outbox.due("pacs", now_s + wait_s - 1) == []
        now_s += wait_s
    (due,) = outbox.due("pacs", now_s)
    outbox.failed(due, "The server cannot answer now", now_s=now_s, most_attempts=4)
    assert outbox.due("pacs", now_s + 1e9) == []
    (dead,) = outbox.of_state(DeliveryState.DEAD)
    assert (dead.exam_id, dead.attempts, dead.reason) == ("E1", 4, "The server cannot answer now")


def test_what_cannot_succeed_is_given_up_at_once_and_sent_again_when_a_person_says_so(outbox: Outbox) -> None:
    """Named or all; what is delivered is left alone."""
    done = replace(DELIVERY, exam_id="E2")
    outbox.queue([DELIVERY, done])
    outbox.delivered(done)
    assert outbox.failed(DELIVERY, "another patient", now_s=0.0, most_attempts=0) is DeliveryState.DEAD
    assert outbox.counts() == {DeliveryState.QUEUED: 0, DeliveryState.DELIVERED: 1, DeliveryState.DEAD: 1}
    assert outbox.send_again(["E2"]) == 0
    assert outbox.send_again(["E1"]) == 1
    assert [(one.exam_id, one.attempts) for one in outbox.due("pacs", 0.0)] == [("E1", 0)]


def test_a_silent_peer_is_no_reason_to_give_up(outbox: Outbox) -> None:
    """However often: it waits six hours at most."""
    outbox.queue([DELIVERY])
    now_s = 0.0
    for _ in range(40):
        (due,) = outbox.due("pacs", now_s)
        assert outbox.failed(due, "The server cannot be reached", now_s=now_s, most_attempts=None) is DeliveryState.QUEUED
        now_s += 6 * 3600
    assert len(outbox.due("pacs", now_s)) == 1


def test_a_clock_that_was_ahead_holds_nothing_back(outbox: Outbox) -> None:
    """What was put off in the year 2100 is tried now, for nothing is ever put off for longer than six hours."""
    outbox.queue([DELIVERY])
    outbox.failed(DELIVERY, "The server cannot be reached", now_s=4.1e9, most_attempts=None)
    assert [one.attempts for one in outbox.due("pacs", 1.8e9)] == [1]
    outbox.failed(DELIVERY, "The server cannot be reached", now_s=1.8e9, most_attempts=None)
    assert outbox.due("pacs", 1.8e9) == []


def test_what_was_proven_is_known_after_a_restart(tmp_path: Path) -> None:
    """Recorded objects are not sent again by the next process; the file is the owner's only."""
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        outbox.queue([DELIVERY])
        outbox.record(DELIVERY, uid="2.25.1", kind="cad", proof="read back")
    with Outbox(path) as again:
        assert again.proven(DELIVERY) == {"2.25.1"}
        assert again.proven(replace(DELIVERY, exam_id="E9")) == set()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_outbox_says_what_to_do(tmp_path: Path) -> None:
    """It can be deleted: what the PACS has is found there."""
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(b"no database" * 400)
    with pytest.raises(StoreError, match="if the file is damaged, delete it"):
        Outbox(path)


def test_another_writer_is_not_lost(tmp_path: Path, outbox: Outbox) -> None:
    """A second connection sees what the first has committed, and nothing of what it rolled back."""
    outbox.queue([DELIVERY])
    with sqlite3.connect(tmp_path / "results" / "outbox.sqlite") as other:
        assert other.execute("SELECT exam_id FROM deliveries").fetchall() == [("E1",)]
