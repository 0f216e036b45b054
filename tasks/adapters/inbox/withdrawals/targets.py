"""What a person names is to be withdrawn: a pseudonym that a manifest or report shows, or the DICOM file itself.

A file is read through the gate, in its child process; of its path and of its identifiers nothing is kept or said. What is not
recognised is not repeated either: it may be a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError, GateRejection
from schemas.exam import ImageRecord
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import InspectHeader
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.inbox.withdrawals.removal import known_lines
from tasks.adapters.inbox.withdrawals.withdrawal import names_of_line, of_the_same_persons, withdrawn_with
from tasks.adapters.pseudonyms import open_key

_PSEUDONYM: Final = re.compile(r"[EFIP][0-9a-f]{24}")


class Whole(StrEnum):
    """What goes of what is named."""

    IMAGE = "image"
    EXAM = "exam"
    PATIENT = "patient"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What one name means.

    Attributes:
        name: What it is called in the log.
        names: All that goes with it; empty if it is withdrawn already.
    """

    name: str
    names: tuple[str, ...]


def targets(given: Sequence[str], ledger: StoreLedger, gate: GateSettings, whole: Whole | None) -> list[Target]:
    """What the names mean, in their order; what one brings with it the next does not bring again.

    Args:
        given: Pseudonyms and paths, as somebody typed them.
        ledger: Of the store.
        gate: How files are read.
        whole: Widen each name to its exam or patient; None = as it is named, and of a path the image.

    Raises:
        ConfigError: A name is none that this store knows, and no file.
        GateRejection: A file is refused, so that nobody can say what it shows.
        FileDeferred: A file cannot be read at the moment.
    """
    lines, gone = known_lines(ledger), ledger.withdrawn_names()
    meant = [_meant(text, index, ledger, lines, gate, whole) for index, text in enumerate(given, start=1)]
    related = of_the_same_persons([name for starts in meant for name in starts], lines)
    known = gone.union(*map(names_of_line, related), *(claim[1:] for claim in ledger.claims()))
    found: list[Target] = []
    for text, starts in zip(given, meant, strict=True):
        if _PSEUDONYM.fullmatch(text) and known.isdisjoint(starts):
            raise ConfigError(
                f"This store knows no {text}; nothing was withdrawn",
                expected="a pseudonym of its manifest or reports, or the path of a DICOM file",
            )
        names = withdrawn_with(starts, related)
        is_gone = names <= gone.union(*(target.names for target in found))
        found.append(Target(name=starts[0], names=() if is_gone else tuple(sorted(names))))
    return found


def _meant(
    text: str, index: int, ledger: StoreLedger, lines: Sequence[LedgerLine], gate: GateSettings, whole: Whole | None
) -> tuple[str, ...]:
    """The pseudonyms that one name stands for, the log's name of it first."""
    if _PSEUDONYM.fullmatch(text):
        return _named(text, ledger, lines, whole)
    return _shown(Path(text), index, ledger, lines, gate, whole)


def _named(text: str, ledger: StoreLedger, lines: Sequence[LedgerLine], whole: Whole | None) -> tuple[str, ...]:
    """A pseudonym's; a file stands for the image that it holds."""
    if not text.startswith("F"):
        return _widened(text, lines, whole)
    image_id = ledger.claim_of(text)
    if image_id is None:
        raise ConfigError(
            f"It is not known which image {text} holds; nothing was withdrawn",
            remedy="name the file by its path, or the exam or patient by its pseudonym",
        )
    return _widened(image_id, lines, whole)


def _widened(name: str, lines: Sequence[LedgerLine], whole: Whole | None) -> tuple[str, ...]:
    if whole in (None, Whole.IMAGE):
        return (name,)
    hit = [line for line in lines if name in (line.image_id, line.exam_id, line.patient_id)]
    wider = dict.fromkeys(line.exam_id if whole is Whole.EXAM else line.patient_id for line in hit)
    if not wider:
        raise ConfigError(
            f"Of {name} no {whole} is known, for it is not stored; nothing was withdrawn",
            remedy=f"name the {whole}, or one of its files by its path",
        )
    return (*wider, name)


def _shown(
    path: Path, index: int, ledger: StoreLedger, lines: Sequence[LedgerLine], gate: GateSettings, whole: Whole | None
) -> tuple[str, ...]:
    """A file's, by its header; if the gate refuses it now, by what the ledger knows of it."""
    try:
        is_file = path.is_file() and not path.is_symlink()
        place = path.parent.resolve() / path.name
    except (OSError, ValueError, RuntimeError):
        is_file = False
    if not is_file:
        raise ConfigError(
            f"Name {index} is neither a pseudonym nor a DICOM file; nothing was withdrawn",
            expected="I, E, P or F and 24 hex digits, or a path",
            remedy="never give a PatientID or a UID here: the file itself says it",
        )
    is_source = place.is_relative_to(gate.source_dir)
    source_dir = gate.source_dir if is_source else place.parent
    request = InspectHeader(
        path=place,
        gate=replace(gate, source_dir=source_dir),
        with_digest=False,
        named=gate.named(place),
    )
    try:
        with GateChild(gate.limits) as child:
            return _names(child.inspect(request), whole)
    except GateRejection:
        file_id = open_key(gate.key_path).file_id(place.relative_to(source_dir).as_posix())
        if not is_source or ledger.claim_of(file_id) is None:
            raise
        return _named(file_id, ledger, lines, whole)


def _names(record: ImageRecord, whole: Whole | None) -> tuple[str, ...]:
    if whole is Whole.EXAM:
        return record.exam_id, record.image_id
    if whole is Whole.PATIENT:
        return record.patient_id, record.bare_patient_id or record.patient_id, record.image_id
    return (record.image_id,)


def images_of(lines: Collection[LedgerLine]) -> str:
    """How much some stored images are, in words."""
    exams, patients = ({getattr(line, name) for line in lines} for name in ("exam_id", "patient_id"))
    return f"{len({line.image_id for line in lines})} images of {len(exams)} exams of {len(patients)} patients"
