"""The outbox: which exams' results are to go to which peer, what was sent, and what failed and why. The truth for resuming.

SQLite with full sync: what is recorded survives a power cut. It holds pseudonyms and the keyed UIDs of our own objects, no
object and no identifier: an object is made again, the same to the byte, whenever it is sent. A process that is killed between
sending and recording sends again, and that changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from tasks.adapters.databases.sqlite_file import SqliteFile

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS deliveries (
    delivery TEXT PRIMARY KEY,      -- exam, weights, images and peer: see Delivery.name
    exam_id TEXT NOT NULL,
    weights TEXT NOT NULL,
    images TEXT NOT NULL,           -- JSON list of image_ids
    peer TEXT NOT NULL,             -- its name in the config
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_s REAL NOT NULL,            -- not tried before, Unix time
    reason TEXT NOT NULL DEFAULT '',
    queued_utc TEXT NOT NULL,       -- the time that its objects carry
    settled_utc TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_s) WHERE state = 'queued';
CREATE TABLE IF NOT EXISTS objects (
    uid TEXT NOT NULL,              -- ours, keyed
    peer TEXT NOT NULL,
    delivery TEXT NOT NULL,
    kind TEXT NOT NULL,
    proof TEXT NOT NULL,            -- read back, committed, found, or was there
    sent_utc TEXT NOT NULL,
    PRIMARY KEY (uid, peer)
);
"""
_FIRST_WAIT_S: Final = 60.0
_LONGEST_WAIT_S: Final = 6 * 3600.0


class DeliveryState(StrEnum):
    """What becomes of an exam's results."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up, with a reason; a person may send it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An exam's results on their way to a peer.

    Attributes:
        queued: Local time; its objects say that they were made then.
        reason: Of the last failure, without identifiers.
    """

    exam_id: str
    weights_sha256: str
    image_ids: tuple[str, ...]
    peer: str
    queued: datetime
    state: DeliveryState = DeliveryState.QUEUED
    attempts: int = 0
    reason: str = ""

    @property
    def name(self) -> str:
        """What it is known by: other weights, more images or another peer are another delivery."""
        return " ".join((self.exam_id, self.weights_sha256, self.peer, *self.image_ids))


class Outbox(SqliteFile):
    """One connection; use as a context manager. One process writes.

    Raises:
        StoreError: The file is no outbox, is damaged or cannot be written. Also raised by every method.
    """

    NAME = "outbox"
    TABLES = _TABLES
    IF_DAMAGED = "delete it: what the peer has is found there"

    def queue(self, deliveries: Collection[Delivery]) -> int:
        """Adds those that are not there yet; how many they are."""
        with self.transaction() as cursor:
            before = cursor.execute("SELECT count(*) FROM deliveries").fetchone()[0]
            cursor.executemany(
                """INSERT OR IGNORE INTO deliveries (delivery, exam_id, weights, images, peer, state, due_s, queued_utc)
                   VALUES (?, ?, ?, ?, ?, 'queued', 0, ?)""",
                [
                    (one.name, one.exam_id, one.weights_sha256, json.dumps(one.image_ids), one.peer, one.queued.isoformat())
                    for one in deliveries
                ],
            )
            after = cursor.execute("SELECT count(*) FROM deliveries").fetchone()[0]
        return int(after - before)

    def due(self, peer: str, now_s: float) -> list[Delivery]:
        """What may be tried now, the longest waiting first; also what was put off while the clock was ahead of now."""
        return self._read(
            "WHERE state = 'queued' AND peer = ? AND (due_s <= ? OR due_s > ?) ORDER BY due_s, queued_utc, delivery",
            (peer, now_s, now_s + _LONGEST_WAIT_S),
        )

    def of_state(self, state: DeliveryState) -> list[Delivery]:
        """All of a state, the oldest first."""
        return self._read("WHERE state = ? ORDER BY queued_utc, delivery", (state.value,))

    def counts(self) -> dict[DeliveryState, int]:
        """How many deliveries are in each state."""
        found = dict(self.query("SELECT state, count(*) FROM deliveries GROUP BY state"))
        return {state: int(found.get(state.value, 0)) for state in DeliveryState}

    def proven(self, delivery: Delivery) -> set[str]:
        """UIDs of the exam's objects that are known to be at the peer, also by an earlier delivery, of fewer images.

        What is made of the same images is the same object: made again it would carry another time under the same UID.
        """
        of_exam = "SELECT delivery FROM deliveries WHERE exam_id = ? AND peer = ?"
        found = self.query(
            f"SELECT uid FROM objects WHERE delivery = ? OR (peer = ? AND delivery IN ({of_exam}))",  # noqa: S608  # our own text
            (delivery.name, delivery.peer, delivery.exam_id, delivery.peer),
        )
        return {uid for (uid,) in found}

    def record(self, delivery: Delivery, *, uid: str, kind: str, proof: str) -> None:
        """An object is at the peer, and how that is known."""
        with self.transaction() as cursor:
            cursor.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
                (uid, delivery.peer, delivery.name, kind, proof, _now_utc()),
            )

    def forget(self, delivery: Delivery, uids: Collection[str]) -> None:
        """These objects are not at the peer after all."""
        with self.transaction() as cursor:
            cursor.executemany("DELETE FROM objects WHERE uid = ? AND peer = ?", [(uid, delivery.peer) for uid in uids])

    def delivered(self, delivery: Delivery) -> None:
        """All of its objects are at the peer."""
        self._settle(delivery, DeliveryState.DELIVERED, "")

    def failed(self, delivery: Delivery, reason: str, *, now_s: float, most_attempts: int | None) -> DeliveryState:
        """Puts it off, each time for twice as long, or gives it up; which of the two.

        Args:
            delivery: It.
            reason: Without identifiers.
            now_s: Unix time.
            most_attempts: After so many it is given up; None = never, for it is not the exam that fails.
        """
        if most_attempts is not None and delivery.attempts + 1 >= most_attempts:
            self._settle(delivery, DeliveryState.DEAD, reason)
            return DeliveryState.DEAD
        wait_s = min(_FIRST_WAIT_S * 2.0 ** min(delivery.attempts, 30), _LONGEST_WAIT_S)
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE deliveries SET attempts = attempts + 1, due_s = ?, reason = ? WHERE delivery = ?",
                (now_s + wait_s, reason, delivery.name),
            )
        return DeliveryState.QUEUED

    def send_again(self, exam_ids: Collection[str] = ()) -> int:
        """Queues given-up deliveries anew, and what waits is tried at once; all of them if no exam is named. How many."""
        with self.transaction() as cursor:
            changed = 0
            for name, exam_id in cursor.execute(
                "SELECT delivery, exam_id FROM deliveries WHERE state IN ('queued', 'dead')"
            ).fetchall():
                if not exam_ids or exam_id in exam_ids:
                    cursor.execute(
                        "UPDATE deliveries SET state = 'queued', attempts = 0, due_s = 0, settled_utc = '' WHERE delivery = ?",
                        (name,),
                    )
                    changed += 1
        return changed

    # -----------------------------------------------------------------------------------------------------------------

    def _settle(self, delivery: Delivery, state: DeliveryState, reason: str) -> None:
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE deliveries SET state = ?, attempts = attempts + 1, reason = ?, settled_utc = ? WHERE delivery = ?",
                (state.value, reason, _now_utc(), delivery.name),
            )

    def _read(self, where: str, values: Sequence[object]) -> list[Delivery]:
        columns = "exam_id, weights, images, peer, queued_utc, state, attempts, reason"
        rows = self.query(f"SELECT {columns} FROM deliveries {where}", values)  # noqa: S608  # our own text
        return [
            Delivery(
                exam_id=exam_id,
                weights_sha256=weights,
                image_ids=tuple(json.loads(images)),
                peer=peer,
                queued=datetime.fromisoformat(queued),
                state=DeliveryState(state),
                attempts=attempts,
                reason=reason,
            )
            for exam_id, weights, images, peer, queued, state, attempts, reason in rows
        ]


def _now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
