"""Which stored images may be published: one per SOPInstanceUID (rule I06), one per pixel digest (rule E03).

Both rules need what is in the store, not only what this run brings, so they are asked at every publication: an image that was
published leaves the manifest when a later file contradicts it. Files are not read here.

The same mammogram under two patients would stand in two splits, and a network would be tested on what it has learnt. Public
sets have such pairs (CMMD: five; CBIS-DDSM: across its official splits). The digest is of decoded values, so another
compression or another header hides nothing. Of such images of one patient one is used; of
those of two patients none, for nobody can tell whose it is. What is left out is on the leakage list.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from schemas.exam import QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.workspace import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishable:
    """Manifest lines divided.

    Attributes:
        lines: Those to publish, by row.
        copies: Images that came again in another file with all that is published of them; the first stored is used.
        contested: SOPInstanceUIDs under which files came that contradict each other: none of them is used.
        twins: Images left out because another SOPInstanceUID has their pixels.
        refused: The files of contested images, of exams of two patients or dates, and of twins, for the quarantine list.
    """

    lines: tuple[LedgerLine, ...]
    copies: int
    contested: int
    twins: tuple[PixelTwin, ...]
    refused: tuple[QuarantinedFile, ...]


def publishable(lines: Sequence[LedgerLine]) -> Publishable:
    """Divides the lines of every written claim (``Ledger.manifest_lines``)."""
    count_of = Counter(line.image_id for line in lines)
    claims_by_image: defaultdict[str, list[LedgerLine]] = defaultdict(list)  # of those that came more than once: few
    for line in lines:
        if count_of[line.image_id] > 1:
            claims_by_image[line.image_id].append(line)
    settled = [line for line in lines if count_of[line.image_id] == 1]
    contested: list[list[LedgerLine]] = []
    for claims in claims_by_image.values():
        if not differing(claims):
            settled.append(min(claims, key=_row))
        else:
            contested.append(claims)
    whole, mixed = whole_exams(sorted(settled, key=_row))
    kept, twins = one_of_each(whole)
    return Publishable(
        lines=tuple(kept),
        copies=len(lines) - len(settled) - sum(map(len, contested)),
        contested=len(contested),
        twins=tuple(twins),
        refused=(
            *(_contradiction(claim, claims) for claims in contested for claim in claims),
            *map(_mixed_exam, mixed),
            *refusals(twins),
        ),
    )


ISSUER_OF_EXAM: Final = "has_issuer_of_exam"
"""Is true in lines whose file lacks the issuer of PatientID, and which have it from the other files of their exam."""


def with_issuer_of_exam(lines: Sequence[LedgerLine], pseudonyms: Pseudonyms) -> list[LedgerLine]:
    """Those of the lines that are to be another patient's: their files lack the issuer that others of their exam name.

    An issuer that is missing is not known; it is not another one. The PatientID must be the same, and one issuer alone be
    named. Dates are shifted by patient, so they move too. Call it before the rules compare patients and dates.
    """
    named: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    lacking = []
    for line in lines:
        if (bare := line.bare_patient_id) is None:
            continue
        if line.patient_id == bare or line.stored.get(ISSUER_OF_EXAM):
            lacking.append((line, bare))
        else:
            named[line.exam_id, bare].add(line.patient_id)
    changed = []
    for line, bare in lacking:
        of_exam = named.get((line.exam_id, bare), set())
        if len(of_exam) == 1 and line.patient_id not in of_exam:
            (patient_id,) = of_exam
            day = None if line.stored.get("exam_date") is None else line.exam_date
            if day is not None:
                day = pseudonyms.shifted_date(patient_id, pseudonyms.unshifted_date(line.patient_id, day))
            said = {"patient_id": patient_id, "exam_date": day and day.isoformat(), ISSUER_OF_EXAM: True}
            changed.append(replace(line, stored={**line.stored, **said}))
    return changed


def whole_exams(lines: Sequence[LedgerLine]) -> tuple[list[LedgerLine], list[LedgerLine]]:
    """Divides lines into those of exams of one patient and one date, and the others (E04); order is kept."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    dates: defaultdict[str, set[object]] = defaultdict(set)
    for line in lines:
        owners[line.exam_id].add(line.patient_id)
        if line.stored.get("exam_date") is not None:
            dates[line.exam_id].add(line.stored["exam_date"])
    mixed = {exam_id for exam_id, patients in owners.items() if len(patients) > 1 or len(dates[exam_id]) > 1}
    return [line for line in lines if line.exam_id not in mixed], [line for line in lines if line.exam_id in mixed]


def _mixed_exam(line: LedgerLine) -> QuarantinedFile:
    return QuarantinedFile(
        file_id=line.file_id,
        refusal=Refusal(
            rules=("E04",),
            what="Images under this StudyInstanceUID are of two patients, or of two days. None of the exam is used",
            remedy="find out which are right, then `mammo quarantine discard` the others and ingest again",
        ),
    )


NOT_COMPARED: Final = frozenset(
    {
        # Where and when a claim was stored, and the file that it came in: of copies these differ.
        "row", "batch", "batch_date", "source_sha256", "transfer_syntax_uid", "gate_warnings", ISSUER_OF_EXAM,
        # The lesion mask is found by the image, so it is one; one claim may have been written before it came.
        "has_lesion_mask", "mask_sha256", "is_mask_unusable",
        # Computed from the pixels, by whatever version stored them; what reaches a network is compared as written_sha256.
        "crop_top_px", "crop_bottom_px", "crop_left_px", "crop_right_px", "scale", "best_center_row_px",
        "best_center_column_px", "stored_rows_px", "stored_columns_px", "pixel_min", "pixel_max", "pixel_mean",
        "background_median", "tissue_fraction", "is_flipped", "quarter_turns", "breast_seen_fraction",
        "lesion_seen_fraction", "lesions_beyond",
    }
)  # fmt: skip
"""What claims to one image may differ in. Everything else that is published, or that labels are joined by, must be equal."""

_OF_THE_IMAGE: Final = frozenset({"V06", "V08", "V09", "P02"})
"""Warnings of what an image shows, or lost. Others are about its file, or of rules that an older release did not know."""

_IN_WORDS: Final = {
    "pixel_sha256": "pixels", "written_sha256": "stored pixels", "exam_id": "an exam",
    "patient_id": "a patient", "bare_patient_id": "a patient",
    "laterality": "a side", "view_position": "a view", "exam_date": "a date", "patient_age_years": "an age",
    "accession_id": "an accession number", "gate_warnings": "a kind of view",
}  # fmt: skip


def differing(claims: Sequence[LedgerLine]) -> list[str]:
    """Names of what claims to one image contradict each other in.

    What only one of two releases wrote is no contradiction: a name counts where every claim has it.
    """
    first, *others = claims
    if not others:
        return []
    shown = {_shown(claim) for claim in claims}
    found = ["gate_warnings"] if len(shown) > 1 else []
    found += [
        name
        for name, value in first.stored.items()
        if name not in NOT_COMPARED and any(name in other.stored and other.stored[name] != value for other in others)
    ]
    if "pixel_sha256" in found and len({claim.pixel_sha256 for claim in claims}) == 1:
        found.remove("pixel_sha256")  # one release wrote the plain digest, the other the keyed one
    return found


def _shown(claim: LedgerLine) -> frozenset[str]:
    """What the gate warned of that is in the image, whichever file it came in."""
    return _OF_THE_IMAGE.intersection(str(claim.stored.get("gate_warnings") or "").split())


def rivals(lines: Sequence[LedgerLine], file_id: str) -> list[QuarantinedFile]:
    """The other files of the contested image that this one claims: those to discard where it is the right one."""
    of_image = next((line.image_id for line in lines if line.file_id == file_id), None)
    claims = [line for line in lines if line.image_id == of_image]
    if len(claims) < 2 or not differing(claims):
        return []
    return [_contradiction(claim, claims) for claim in claims if claim.file_id != file_id]


def _row(line: LedgerLine) -> int:
    return line.row


def _contradiction(claim: LedgerLine, claims: Sequence[LedgerLine]) -> QuarantinedFile:
    names = dict.fromkeys(_IN_WORDS.get(name, name) for name in differing(claims))
    others = ", ".join(sorted(other.file_id for other in claims if other is not claim))
    return QuarantinedFile(
        file_id=claim.file_id,
        refusal=Refusal(
            rules=("I06",),
            what=f"Another file has the same SOPInstanceUID and {' and '.join(names)}: {others}. None of them is used",
            remedy="find out which is right, then `mammo quarantine keep` it and ingest again",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelTwin:
    """One image that is left out because another has its pixels; pseudonyms only.

    Attributes:
        kept_image_id: The image of the lowest row, which was stored first: later arrivals do not change what is used. ``""``
            where two patients have the image: nobody can tell whose it is, and none is used.
        shares: What the two have in common besides the pixels: ``exam``, ``patient`` or ``nothing`` (leakage).
    """

    pixel_sha256: str
    kept_image_id: str
    left_out_image_id: str
    left_out_file_id: str
    shares: str


def one_of_each(lines: Sequence[LedgerLine]) -> tuple[list[LedgerLine], list[PixelTwin]]:
    """Divides manifest lines into those to publish, at most one per pixel digest, and those left out; order is kept."""
    first_by_digest: dict[str, LedgerLine] = {}
    of_two_patients: set[str] = set()
    for line in sorted(lines, key=lambda line: line.row):
        if _person(first_by_digest.setdefault(line.pixel_sha256, line)) != _person(line):
            of_two_patients.add(line.pixel_sha256)
    kept, twins = [], []
    for line in lines:
        first = first_by_digest[line.pixel_sha256]
        if line.pixel_sha256 in of_two_patients:
            twins.append(_of_two_patients(line))
        elif first.image_id == line.image_id:
            kept.append(line)
        else:
            twins.append(_twin(first, line))
    return kept, twins


def _person(line: LedgerLine) -> str:
    return line.bare_patient_id or line.patient_id


def refusals(twins: Sequence[PixelTwin]) -> list[QuarantinedFile]:
    """The twins' files, for the quarantine list."""
    return [
        QuarantinedFile(
            file_id=twin.left_out_file_id,
            refusal=Refusal(
                rules=("E03",),
                what=f"Left out: image {twin.kept_image_id} has the same pixels; the two share {_SHARED[twin.shares]}"
                if twin.kept_image_id
                else "Left out: an image of another patient has the same pixels, and none of them is used",
                remedy="remove the copy"
                if twin.kept_image_id
                else "find out whose image it is, then `mammo quarantine discard` the others and ingest again",
            ),
        )
        for twin in twins
    ]


def write_leakage_list(path: Path, twins: Sequence[PixelTwin]) -> None:
    """Writes one line per twin, those that share nothing first; without twins there is a list without lines."""
    ordered = sorted(twins, key=lambda twin: (tuple(_SHARED).index(twin.shares), twin.kept_image_id, twin.left_out_image_id))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("shares", "kept_image_id", "left_out_image_id", "pixel_sha256"))
    writer.writerows((twin.shares, twin.kept_image_id, twin.left_out_image_id, twin.pixel_sha256) for twin in ordered)
    write_atomically(path, text.getvalue().encode())


_SHARED = {"nothing": "neither exam nor patient", "patient": "the patient", "exam": "the exam"}


def _twin(first: LedgerLine, line: LedgerLine) -> PixelTwin:
    shares = "exam" if first.exam_id == line.exam_id else "patient"
    return PixelTwin(
        pixel_sha256=line.pixel_sha256,
        kept_image_id=first.image_id,
        left_out_image_id=line.image_id,
        left_out_file_id=line.file_id,
        shares=shares,
    )


def _of_two_patients(line: LedgerLine) -> PixelTwin:
    return PixelTwin(
        pixel_sha256=line.pixel_sha256,
        kept_image_id="",
        left_out_image_id=line.image_id,
        left_out_file_id=line.file_id,
        shares="nothing",
    )
