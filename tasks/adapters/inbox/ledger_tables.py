"""The ledger's tables, and what a row means beside the others.

A table that is added here is made in old ledgers when they are opened; a column cannot be added so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar

from tasks.adapters.databases.database import Cursor
from tasks.adapters.inbox.lines import AcceptedFile

T = TypeVar("T")

TABLES: Final = """
CREATE TABLE IF NOT EXISTS files (
    file_id TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,          -- size and modification time: unchanged means not read again;
                                        -- of a refusal also what it depends on besides: GateSettings.refuses_under
    state TEXT NOT NULL,                -- accepted, duplicate (same bytes as an accepted one), quarantined, discarded,
                                        -- withdrawn
    image_id TEXT,
    source_sha256 TEXT NOT NULL,        -- keyed; '' = not known yet: an accepted file that nothing was compared with,
                                        -- until written
    attempts INTEGER NOT NULL DEFAULT 0,    -- times its header was read, or reading it ended in a refusal
    reason_codes TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT ''    -- of a refusal: Refusal.parts
);
CREATE TABLE IF NOT EXISTS images (
    file_id TEXT PRIMARY KEY,           -- several files may claim one image
    image_id TEXT NOT NULL,
    exam_id TEXT NOT NULL,
    row INTEGER UNIQUE,                 -- NULL until planned
    batch INTEGER,                      -- the plan that gave the row out
    mask_fingerprint TEXT NOT NULL DEFAULT '',  -- of the lesion mask it was written with; '' = none
    pixel_sha256 TEXT,                  -- keyed, also where the line beside it holds an older release's plain one
    manifest TEXT                       -- JSON of the manifest line; NULL until written to the store
);
CREATE INDEX IF NOT EXISTS files_by_image ON files (image_id);
CREATE INDEX IF NOT EXISTS files_undigested ON files (file_id) WHERE source_sha256 = '' AND state = 'accepted';
CREATE INDEX IF NOT EXISTS images_by_image ON images (image_id);
CREATE INDEX IF NOT EXISTS images_unwritten ON images (file_id) WHERE manifest IS NULL;
CREATE TABLE IF NOT EXISTS given_out (batch INTEGER PRIMARY KEY, rows INTEGER NOT NULL, planned_utc TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS files_discarded ON files (source_sha256) WHERE state = 'discarded';
CREATE TABLE IF NOT EXISTS deferred (   -- of the last run only
    file_id TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS superseded ( -- what is published of a claim that is to be written anew, until it is
    file_id TEXT PRIMARY KEY,
    manifest TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS damaged (    -- what was stored of claims that are damaged, until they are written again
    file_id TEXT PRIMARY KEY,
    manifest TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS releases (
    file_id TEXT NOT NULL,
    reason_codes TEXT NOT NULL,         -- why the file had been refused
    reason TEXT NOT NULL,               -- why a person wants it read again, or never used
    released_utc TEXT NOT NULL
);
"""


_NEVER_USED: Final = ("discarded", "withdrawn")


def is_settled(fingerprint: str, known: str, state: str, refuses_under: str, *, is_written: bool) -> bool:
    """True if a file of this fingerprint need not be read, by what the ledger holds of it."""
    if state == "quarantined":
        return known == f"{fingerprint} {refuses_under}".rstrip()
    # A file that was refused before it was discarded carries what it was refused under: nothing of that matters any more.
    is_same = known.partition(" ")[0] == fingerprint if state in _NEVER_USED else known == fingerprint
    return is_same and (is_written or state == "duplicate" or state in _NEVER_USED)


def give_up_claim(cursor: Cursor, file_id: str, *, unless: AcceptedFile | None = None) -> None:
    """Forgets the image a file claims, and its duplicates: the next scan reads those again, one may take its place.

    ``unless`` it holds the same as when it was registered: told by digests, and where one is missing by fingerprint and image.
    """
    query = "SELECT images.image_id, source_sha256, fingerprint FROM images JOIN files USING (file_id) WHERE file_id = ?"
    for image_id, sha256, fingerprint in cursor.execute(query, (file_id,)).fetchall():
        if unless is not None:
            file, record = unless
            by_digest = sha256 and record.source_sha256
            if sha256 == record.source_sha256 if by_digest else (fingerprint, image_id) == (file.fingerprint, record.image_id):
                return
        cursor.execute("DELETE FROM images WHERE file_id = ?", (file_id,))
        cursor.execute("DELETE FROM superseded WHERE file_id = ?", (file_id,))
        cursor.execute("DELETE FROM files WHERE state = 'duplicate' AND image_id = ? AND source_sha256 = ?", (image_id, sha256))


def state_of(cursor: Cursor, accepted: AcceptedFile) -> str:
    """What a file is beside the files that hold its very bytes; accepted while that is not known."""
    file, record = accepted
    if not record.source_sha256:
        return "accepted"
    same = cursor.execute(
        """SELECT state FROM files WHERE image_id = ? AND source_sha256 = ? AND file_id != ?
           UNION ALL SELECT state FROM files WHERE source_sha256 = ? AND state = 'discarded'""",
        (record.image_id, record.source_sha256, file.file_id, record.source_sha256),
    ).fetchall()
    states = {state for (state,) in same}
    if "discarded" in states:
        return "discarded"
    return "duplicate" if "accepted" in states else "accepted"


def add_unread(cursor: Cursor, files: Sequence[AcceptedFile]) -> None:
    """Enters accepted headers (``Ledger.add_accepted``); those of new files, whose bytes nobody has read, all at once."""
    known = entered(cursor, [file.file_id for file, _ in files])
    claims = [one for one in files if one[0].file_id not in known and not one[1].source_sha256]
    new = {file.file_id for file, _ in claims}
    for file, record in files:
        if file.file_id in new:
            continue
        cursor.execute("DELETE FROM deferred WHERE file_id = ?", (file.file_id,))
        give_up_claim(cursor, file.file_id, unless=(file, record))
        state = state_of(cursor, (file, record))
        _enter_files(cursor, [(file, record)], state)  # at once: the next may be its copy
        if state == "accepted":
            _enter_claims(cursor, [(file, record)])
        else:
            cursor.execute("DELETE FROM images WHERE file_id = ?", (file.file_id,))
    _enter_files(cursor, claims, "accepted")
    _enter_claims(cursor, claims)


def entered(cursor: Cursor, file_ids: Sequence[str]) -> set[str]:
    """Those of the files of which something is entered."""
    query = " UNION ".join(f"SELECT file_id FROM {table} WHERE file_id IN ({places(file_ids)})" for table in _OF_FILES)  # noqa: S608
    return {file_id for (file_id,) in cursor.execute(query, [*file_ids] * len(_OF_FILES)).fetchall()}


def in_parts(items: Iterable[T]) -> Iterator[list[T]]:
    """As many at a time as one statement names."""
    taken = iter(items)
    while some := list(islice(taken, _FILES_PER_QUERY)):
        yield some


def places(values: Sequence[object]) -> str:
    """A question mark for each."""
    return ",".join("?" * len(values))


_FILES_PER_QUERY: Final = 500
_OF_FILES: Final = ("files", "images", "deferred", "superseded")


def _enter_files(cursor: Cursor, files: Sequence[AcceptedFile], state: str) -> None:
    if files:
        cursor.executemany(
            """INSERT INTO files (file_id, fingerprint, state, image_id, source_sha256, attempts)
               VALUES (?, ?, ?, ?, ?, 1)
               ON CONFLICT (file_id) DO UPDATE SET fingerprint = excluded.fingerprint, state = excluded.state,
               image_id = excluded.image_id, source_sha256 = excluded.source_sha256, attempts = files.attempts + 1,
               reason_codes = '', message = ''""",
            [(file.file_id, file.fingerprint, state, record.image_id, record.source_sha256) for file, record in files],
        )


def _enter_claims(cursor: Cursor, files: Sequence[AcceptedFile]) -> None:
    if files:
        cursor.executemany(
            "INSERT INTO images (file_id, image_id, exam_id) VALUES (?, ?, ?) ON CONFLICT (file_id) DO NOTHING",
            [(file.file_id, record.image_id, record.exam_id) for file, record in files],
        )


def spelled_before(cursor: Cursor, lines: Mapping[str, Mapping[str, object]]) -> dict[str, Mapping[str, object]]:
    """The lines to keep of claims that are written, by file: digests of what has not changed stay as an earlier line has them.

    An older release took them without the key. In another spelling the same images would be another data version.
    """
    earlier_line = "coalesce(images.manifest, superseded.manifest, damaged.manifest)"
    query = f"""SELECT file_id, source_sha256, pixel_sha256, {earlier_line}
                FROM images JOIN files USING (file_id) LEFT JOIN superseded USING (file_id) LEFT JOIN damaged USING (file_id)
                WHERE file_id IN ({places(list(lines))}) AND {earlier_line} IS NOT NULL"""  # noqa: S608
    kept = dict(lines)
    for file_id, source_sha256, pixel_sha256, earlier in cursor.execute(query, list(lines)).fetchall():
        before = json.loads(earlier)
        spelled = {
            name: before[name]
            for name, keyed in (("source_sha256", source_sha256), ("pixel_sha256", pixel_sha256))
            if name in before and lines[file_id].get(name) == keyed
        }
        kept[file_id] = {**lines[file_id], **spelled}
    return kept
