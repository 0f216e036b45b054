"""Which stored images may be published: one per SOPInstanceUID (rule I06), one per pixel digest (rule E03).

Both rules need what is in the store, not only what this run brings, so they are asked at every publication: an image that was
published leaves the manifest when a later file contradicts it. Files are not read here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.exam import QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.inbox.pixel_twins import Line, PixelTwin, one_of_each, refusals


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

    lines: tuple[Line, ...]
    copies: int
    contested: int
    twins: tuple[PixelTwin, ...]
    refused: tuple[QuarantinedFile, ...]


def publishable(lines: Sequence[Line]) -> Publishable:
    """Divides the lines of every written claim (``Ledger.manifest_lines``)."""
    claims_by_image: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        claims_by_image[str(line["image_id"])].append(line)
    settled: list[Line] = []
    contested: list[list[Line]] = []
    for claims in claims_by_image.values():
        if len({(claim["pixel_sha256"], claim["patient_id"], claim["exam_id"]) for claim in claims}) == 1:
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


def _row(line: Line) -> int:
    return int(str(line["row"]))


def _contradiction(claim: Line, claims: Sequence[Line]) -> QuarantinedFile:
    differing = [
        word
        for name, word in (("pixel_sha256", "pixels"), ("patient_id", "a patient"), ("exam_id", "an exam"))
        if len({other[name] for other in claims}) > 1
    ]
    others = ", ".join(sorted(str(other["file_id"]) for other in claims if other is not claim))
    return QuarantinedFile(
        file_id=str(claim["file_id"]),
        refusal=Refusal(
            rules=("I06",),
            what=f"Another file has the same SOPInstanceUID and other {' and '.join(differing)}: {others}. "
            "None of them is used",
            remedy="find out which is right, then `mammo quarantine discard` the others and ingest again",
        ),
    )
