"""From a patient to her pseudonyms under the site's key, and from a pseudonym back to the source files that are still there.

What somebody typed and what a header says stays in memory and goes to the terminal or file of whoever asked; nothing is logged.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.config.run import RunConfig
from schemas.errors import ConfigError, FileDeferred, GateRejection
from tasks.adapters.dicom.dicom_file import read_header_from
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import GateSettings, gate_settings
from tasks.adapters.gate.messages import InspectHeader
from tasks.adapters.gate.opening import open_exam
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.inbox.sources.exam_source import find_sources
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.inbox.withdrawals.removal import known_lines
from tasks.adapters.pseudonyms import Pseudonyms, open_key
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.workspace import Workspace


class Asked(StrEnum):
    """What a person knows of a patient."""

    ACCESSION = "accession"
    PATIENT = "patient"
    STUDY = "study"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Identity:
    """Who an exam is of, as its source file says now; its ``repr`` shows nothing."""

    patient_id: str
    issuer_of_patient_id: str
    accession_number: str
    study_instance_uid: str


def site_key(workspace: Workspace) -> Pseudonyms:
    """The key that this store's pseudonyms were made with.

    Raises:
        ConfigError: It is gone, or another lies there: under another key everybody is a stranger.
        StoreError: There is no store.
    """
    pseudonyms = open_key(workspace.key_path)
    wanted = read_settings(workspace.store).pseudonym_key_id
    if pseudonyms.key_id != wanted:
        raise ConfigError(
            f"{workspace.key_path} is another key than the store's",
            expected=f"key {wanted}",
            got=pseudonyms.key_id,
            remedy="restore it from a backup",
        )
    return pseudonyms


def stored_lines(workspace: Workspace) -> list[LedgerLine]:
    """Every stored image, as the ledger knows it.

    Raises:
        StoreError: There is no store, or its ledger is damaged.
    """
    with StoreLedger(open_store(workspace.store_dir)) as ledger:
        return known_lines(ledger)


def lines_of_asked(
    asked: Asked, value: str, issuer: str, lines: Sequence[LedgerLine], pseudonyms: Pseudonyms
) -> list[LedgerLine]:
    """The stored images of an accession number, a patient or a study.

    Args:
        asked: What the value is.
        value: As it was typed.
        issuer: Of a patient's id; "" = whoever issued it.
        lines: Of the store.
        pseudonyms: Under the store's key.
    """
    if asked is Asked.ACCESSION:
        accession_id = pseudonyms.accession_id(value)
        return [line for line in lines if line.accession_id == accession_id]
    if asked is Asked.STUDY:
        exam_id = pseudonyms.exam_id(value)
        return [line for line in lines if line.exam_id == exam_id]
    patient_id = pseudonyms.patient_id(value, issuer)
    return [line for line in lines if patient_id in (line.patient_id, None if issuer else line.stored.get("bare_patient_id"))]


def lines_of_names(names: Collection[str], lines: Sequence[LedgerLine]) -> list[LedgerLine]:
    """The stored images of pseudonyms of images, exams or patients."""
    return [line for line in lines if not {line.image_id, line.exam_id, line.patient_id}.isdisjoint(names)]


def source_paths(config: RunConfig, lines: Sequence[LedgerLine], pseudonyms: Pseudonyms) -> dict[str, SourceFile]:
    """The files that images came from, by image; those that are gone are left out. Paths may spell names."""
    found = find_sources(config.ingest, (line.file_id for line in lines), pseudonyms)
    return {line.image_id: found[line.file_id] for line in lines if line.file_id in found}


def identities(config: RunConfig, lines: Sequence[LedgerLine], pseudonyms: Pseudonyms) -> dict[str, Identity]:
    """Who exams are of, by exam, from the first of their source files that still shows the image it showed then.

    A file goes through the gate's child first, as at ingest. Exams of which no file is left are left out.
    """
    gate, paths = gate_settings(config), source_paths(config, lines, pseudonyms)
    found: dict[str, Identity] = {}
    with GateChild(gate.limits) as child:
        for line in lines:
            if line.exam_id not in found and line.image_id in paths:
                found.update(_identity(child, gate, line, paths[line.image_id]))
    return found


def with_identities(rows: Iterator[Mapping[str, str]], known: Mapping[str, Identity]) -> Iterator[dict[str, str]]:
    """Lines of a table, each with whom its exam is of in front; of an exam that is not known the columns are empty."""
    for row in rows:
        who = known.get(row.get("exam_id", ""))
        yield {
            "PatientID": who.patient_id if who else "",
            "IssuerOfPatientID": who.issuer_of_patient_id if who else "",
            "AccessionNumber": who.accession_number if who else "",
            "StudyInstanceUID": who.study_instance_uid if who else "",
            **row,
        }


# ---------------------------------------------------------------------------------------------------------------------


def _identity(child: GateChild, gate: GateSettings, line: LedgerLine, file: SourceFile) -> dict[str, Identity]:
    named = gate.named(file.path)
    request = InspectHeader(path=file.path, gate=gate, with_digest=False, named=named, stored=file.stored)
    try:
        if child.inspect(request).image_id != line.image_id:
            return {}  # another image lies there by now
        with os.fdopen(open_exam(file.path, gate.source_dir, file.stored), "rb") as opened:
            header = read_header_from(opened)
    except (GateRejection, FileDeferred, OSError):
        return {}
    return {
        line.exam_id: Identity(
            patient_id=header.patient_id,
            issuer_of_patient_id=header.issuer_of_patient_id,
            accession_number=header.accession_number,
            study_instance_uid=header.study_instance_uid,
        )
    }
