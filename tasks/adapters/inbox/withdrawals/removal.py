"""Taking out what was withdrawn: out of the manifest, the arrays, the ledger and the lists beside them, in this order.

Each step leaves what the next one needs, so a stop anywhere is made up for by the next call: readers lose sight of the images
first, then their bytes are overwritten, then the ledger forgets them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.inbox.withdrawals.withdrawal import Withdrawal, add_to_log, names_of_line, parsed, read_log
from tasks.adapters.store.erasure import erase_unowned, unpublish
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.manifest import published_rows
from tasks.adapters.store.store_settings import objects_of
from tasks.adapters.workspace import StoreFolder, write_atomically

_NAME: Final = re.compile(r"[EFIP][0-9a-f]{24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What some names mean in a store.

    Attributes:
        lines: Stored images, those found damaged included.
        file_ids: The files that claim the images, stored or not.
        image_ids: The images.
    """

    lines: tuple[LedgerLine, ...]
    file_ids: frozenset[str]
    image_ids: frozenset[str]


def known_lines(ledger: StoreLedger) -> list[LedgerLine]:
    """Every stored image, those found damaged included."""
    return [*ledger.manifest_lines(), *ledger.damaged_lines()]


def find(ledger: StoreLedger, names: Collection[str]) -> Found:
    """What is withdrawn under these names."""
    lines = tuple(line for line in known_lines(ledger) if not names_of_line(line).isdisjoint(names))
    claims = [(file_id, image_id) for file_id, image_id, exam_id in ledger.claims() if image_id in names or exam_id in names]
    return Found(
        lines=lines,
        file_ids=frozenset(line.file_id for line in lines).union(file_id for file_id, _ in claims),
        image_ids=frozenset(line.image_id for line in lines).union(image_id for _, image_id in claims),
    )


def take_out(store: ExamStore, ledger: StoreLedger, names: Collection[str]) -> Found:
    """Takes what these names mean out of the store; call under its lock, while nobody reads.

    Raises:
        StoreError: The manifest or the ledger is damaged.
        OSError: The disk refuses. The next call goes on.
    """
    found = find(ledger, names)
    unpublish(store, found.image_ids)
    gone = {line.row for line in found.lines}
    erase_unowned(store, (ledger.rows() - gone) | set(published_rows(store).values()), gone)
    withdrawn = found.image_ids.union(name for name in names if name[0] == "I")
    ledger.withdraw(found.file_ids, withdrawn)
    files = store.files
    for path in (files.leakage_path, files.same_patient_path, files.former_patients_path, store.quarantine_path):
        _drop_lines(path, withdrawn | found.file_ids | frozenset(names))
    if store.url:
        objects_of(files, store.url).put_lists()
    return found


def pending(files: StoreFolder, ledger: StoreLedger) -> list[Withdrawal]:
    """Withdrawals that have not taken effect in this store yet; the log is whole again when this returns.

    Raises:
        StoreError: The log is damaged.
    """
    in_force = ledger.withdrawals()
    log = add_to_log(files, parsed("\n".join((*in_force, *ledger.asked_withdrawals())).encode()))
    return [withdrawal for withdrawal in log if withdrawal.line not in set(in_force)]


def unheard(files: StoreFolder, ledger: StoreLedger) -> frozenset[str]:
    """The names of what another machine has taken out: this folder's log does not have it yet (``pending`` adds it).

    Raises:
        StoreError: The log is damaged.
    """
    known = set(read_log(files))
    said = parsed("\n".join(ledger.withdrawals()).encode())
    return frozenset(name for withdrawal in said if withdrawal not in known for name in withdrawal.names)


def ask_for(files: StoreFolder, ledger: StoreLedger, withdrawals: Sequence[Withdrawal]) -> None:
    """From here on they are in force, whatever becomes of this process, and of this machine where others share the ledger.

    Raises:
        StoreError: The log is damaged, or the ledger.
        OSError: The disk is full or gone.
    """
    ledger.ask_withdrawals(withdrawal.line for withdrawal in withdrawals)
    add_to_log(files, withdrawals)


def _drop_lines(path: Path, names: Collection[str]) -> None:
    """Leaves out of a list, whose first line is its heading, every line that speaks of one of these names."""
    try:
        heading, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (FileNotFoundError, ValueError):  # there is none, or it is empty
        return
    stays = [line for line in lines if frozenset(_NAME.findall(line)).isdisjoint(names)]
    if len(stays) < len(lines):
        write_atomically(path, "".join((heading, *stays)).encode())
