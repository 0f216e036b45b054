"""Which stored images may be published: one per SOPInstanceUID (rule I06), one per pixel digest (rule E03).

Both rules need what is in the store, not only what this run brings, so they are asked at every publication: an image that was
published leaves the manifest when a later file contradicts it. Files are not read here.

The same mammogram under two patients would stand in two splits, and a network would be tested on what it has learnt. Public
sets have such pairs (CMMD: five; CBIS-DDSM: across its official splits). The digest is of decoded values, so another
compression or another header hides nothing. Of such images one is used, the others are on the leakage list.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.exam import QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.inbox.lines import LedgerLine
from tasks.adapters.workspace import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishable:
    """Manifest lines divided.

    Attributes:
        lines: Those to publish, by row.
        copies: Images that came again with the same pixels in another file; the first stored is used.
        contested: SOPInstanceUIDs under which different images, patients or exams came: none of them is used.
        twins: Images left out because another SOPInstanceUID has their pixels.
        refused: The files of contested images and of twins, for the quarantine list.
    """

    lines: tuple[LedgerLine, ...]
    copies: int
    contested: int
    twins: tuple[PixelTwin, ...]
    refused: tuple[QuarantinedFile, ...]


def publishable(lines: Sequence[LedgerLine]) -> Publishable:
    """Divides the lines of every written claim (``Ledger.manifest_lines``)."""
    claims_by_image: defaultdict[str, list[LedgerLine]] = defaultdict(list)
    for line in lines:
        claims_by_image[line.image_id].append(line)
    settled: list[LedgerLine] = []
    contested: list[list[LedgerLine]] = []
    for claims in claims_by_image.values():
        if len({(claim.pixel_sha256, claim.patient_id, claim.exam_id) for claim in claims}) == 1:
            settled.append(min(claims, key=_row))
        else:
            contested.append(claims)
    kept, twins = one_of_each(sorted(settled, key=_row))
    return Publishable(
        lines=tuple(kept),
        copies=len(lines) - len(settled) - sum(map(len, contested)),
        contested=len(contested),
        twins=tuple(twins),
        refused=(*(_contradiction(claim, claims) for claims in contested for claim in claims), *refusals(twins)),
    )


def _row(line: LedgerLine) -> int:
    return line.row


def _contradiction(claim: LedgerLine, claims: Sequence[LedgerLine]) -> QuarantinedFile:
    differing = [
        word
        for name, word in (("pixel_sha256", "pixels"), ("patient_id", "a patient"), ("exam_id", "an exam"))
        if len({other.stored[name] for other in claims}) > 1
    ]
    others = ", ".join(sorted(other.file_id for other in claims if other is not claim))
    return QuarantinedFile(
        file_id=claim.file_id,
        refusal=Refusal(
            rules=("I06",),
            what=f"Another file has the same SOPInstanceUID and other {' and '.join(differing)}: {others}. "
            "None of them is used",
            remedy="find out which is right, then `mammo quarantine discard` the others and ingest again",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelTwin:
    """One image that is left out because another has its pixels; pseudonyms only.

    Attributes:
        kept_image_id: The image of the lowest row, which was stored first: later arrivals do not change what is used.
        shares: What the two have in common besides the pixels: ``exam``, ``patient`` or ``nothing`` (leakage).
    """

    pixel_sha256: str
    kept_image_id: str
    left_out_image_id: str
    left_out_file_id: str
    shares: str


def one_of_each(lines: Sequence[LedgerLine]) -> tuple[list[LedgerLine], list[PixelTwin]]:
    """Divides manifest lines into those to publish, one per pixel digest, and the twins left out; order is kept."""
    first_by_digest: dict[str, LedgerLine] = {}
    for line in sorted(lines, key=lambda line: line.row):
        first_by_digest.setdefault(line.pixel_sha256, line)
    kept, twins = [], []
    for line in lines:
        first = first_by_digest[line.pixel_sha256]
        if first.image_id == line.image_id:
            kept.append(line)
        else:
            twins.append(_twin(first, line))
    return kept, twins


def refusals(twins: Sequence[PixelTwin]) -> list[QuarantinedFile]:
    """The twins' files, for the quarantine list."""
    return [
        QuarantinedFile(
            file_id=twin.left_out_file_id,
            refusal=Refusal(
                rules=("E03",),
                what=f"Left out: image {twin.kept_image_id} has the same pixels; the two share {_SHARED[twin.shares]}",
                remedy="remove the copy, or find out whose image it is",
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
        shares=shares if first.patient_id == line.patient_id else "nothing",
    )
