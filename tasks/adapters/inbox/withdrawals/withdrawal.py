"""What was withdrawn, by whom, when and why: the log of withdrawals, and which images its names mean.

The log is a file beside the ledger, one JSON object a line. Lines are added, never changed or taken out, and a backup that is
restored adds its lines to those that are there. The ledger holds the same lines once they have taken effect. A line that it
lacks is still to be carried out: the process was killed, or the ledger is a restored one. A line that the file lacks comes back
from the ledger. Nothing in a line identifies a patient but to whoever has the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from schemas.errors import StoreError
from schemas.exam import ImageRecord
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.workspace import StoreFolder, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """One line of the log.

    Attributes:
        name: What was named: pseudonym of an image, exam or patient.
        names: All that is withdrawn with it, ``name`` included (``withdrawn_with``).
        reason: Why, in the words of whoever asked for it.
        withdrawn_by: Who asked for it.
        withdrawn_utc: When.
    """

    name: str
    names: tuple[str, ...]
    reason: str
    withdrawn_by: str
    withdrawn_utc: str

    @property
    def line(self) -> str:
        """As the log has it."""
        return json.dumps(asdict(self), sort_keys=True)


def read_log(files: StoreFolder) -> list[Withdrawal]:
    """Every withdrawal, in the order in which they were said; none if nobody withdrew anything.

    Raises:
        StoreError: The log is damaged.
    """
    try:
        return parsed(files.withdrawn_path.read_bytes())
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, OSError) as damage:
        raise StoreError(
            f"The log of withdrawals {files.withdrawn_path} is damaged",
            expected="one JSON object a line",
            got=type(damage).__name__,
            remedy="restore it from a backup; without it, what was withdrawn could be published again",
        ) from damage


def parsed(content: bytes) -> list[Withdrawal]:
    """The lines of a log.

    Raises:
        ValueError, TypeError, KeyError: They are none.
    """
    found = []
    for line in content.decode().splitlines():
        fields = json.loads(line)
        found.append(Withdrawal(**{**fields, "names": tuple(fields["names"])}))
    return found


def add_to_log(files: StoreFolder, withdrawals: Iterable[Withdrawal]) -> list[Withdrawal]:
    """Adds lines that the log does not have yet; from here on they are in force. Returns the whole log.

    Raises:
        StoreError: The log is damaged.
        OSError: The disk is full or gone; nothing is changed then.
    """
    known = read_log(files)
    new = [withdrawal for withdrawal in dict.fromkeys(withdrawals) if withdrawal not in known]
    if new:
        text = "".join(f"{withdrawal.line}\n" for withdrawal in (*known, *new))
        write_atomically(files.withdrawn_path, text.encode())
    return [*known, *new]


# ------------------------------------------------------------------------------------------------------- what it means


def names_of_line(line: LedgerLine) -> frozenset[str]:
    """The names under which a stored image is withdrawn: image, exam, patient, and its pixels as this person's.

    The last finds the same picture that comes again under another SOPInstanceUID. Under another patient it is another matter:
    a picture that was filed under a wrong patient may come again under the right one.
    """
    person = line.bare_patient_id or line.patient_id
    pixels = hashlib.sha256(f"{person} {line.pixel_sha256}".encode()).hexdigest()[:24]
    return frozenset({line.image_id, line.exam_id, line.patient_id, person, f"X{pixels}"})


def names_of_record(record: ImageRecord) -> frozenset[str]:
    """The names under which a file is withdrawn whose header was read."""
    names = {record.image_id, record.exam_id, record.patient_id, record.bare_patient_id}
    return frozenset(name for name in names if name)


def of_the_same_persons(names: Iterable[str], lines: Sequence[LedgerLine]) -> list[LedgerLine]:
    """All stored images of the patients whom these names are about: what is withdrawn with them is among these."""
    named = set(names)
    persons = named | {
        line.bare_patient_id or line.patient_id
        for line in lines
        if not named.isdisjoint((line.image_id, line.exam_id, line.patient_id))
    }
    return [line for line in lines if (line.bare_patient_id or line.patient_id) in persons]


def withdrawn_with(names: Iterable[str], lines: Sequence[LedgerLine]) -> frozenset[str]:
    """All names that are withdrawn with these, by what is stored.

    A patient is withdrawn under each of her pseudonyms (some files may lack the issuer of her number), an exam or patient with
    the images that are known of them, and an image with its pixels, so that neither another profile nor another
    SOPInstanceUID brings one back.
    """
    all_names = set(names)
    while True:
        before = len(all_names)
        for line in lines:
            persons = {line.patient_id, line.bare_patient_id or line.patient_id}
            if not persons.isdisjoint(all_names):
                all_names |= persons
            of_line = names_of_line(line)
            if not of_line.isdisjoint(all_names):
                all_names |= {name for name in of_line if name[0] in "IX"}
        if len(all_names) == before:
            return frozenset(all_names)
