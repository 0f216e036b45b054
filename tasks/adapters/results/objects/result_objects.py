"""All objects of an exam, one after the other: which kinds there are, and of what each is made."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from schemas.config.pacs import ResultKind
from schemas.errors import DicomError, MammoError
from tasks.adapters.results.exam_result import Maker, ViewResult
from tasks.adapters.results.objects.cad_report import cad_report
from tasks.adapters.results.objects.equipment import SIDES
from tasks.adapters.results.objects.measurements import measurement_report
from tasks.adapters.results.objects.pictures import key_note, panel_sc, picture_sc
from tasks.adapters.results.objects.presentation import presentation_state
from tasks.adapters.results.objects.saliency_seg import levels_seg, saliency_seg
from tasks.adapters.results.objects.source_header import VIEW_CODES, cleaned, quoting_nothing, with_voi

logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)  # it quotes values


@dataclass(frozen=True, kw_only=True, repr=False)
class ResultObject:
    """A finished object, under the real identity: it lives in memory, goes to the PACS and nowhere else.

    Attributes:
        kind: What it is.
        uid: Its SOPInstanceUID.
        dataset: The object.
    """

    kind: ResultKind
    uid: str
    dataset: Dataset

    @property
    def study_uid(self) -> str:
        """The source's study."""
        return str(self.dataset.StudyInstanceUID)

    @cached_property
    def content(self) -> bytes:
        """As a DICOM file."""
        buffer = io.BytesIO()
        self.dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    def uncompressed(self) -> bytes | None:
        """As a DICOM file in Explicit VR Little Endian; None where that is what ``content`` is."""
        dataset, buffer = dcmread(io.BytesIO(self.content)), io.BytesIO()
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            return None
        dataset.decompress(generate_instance_uid=False)
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    def is_in(self, content: bytes) -> bool:
        """True if a PACS gave back this very object: of the same patient and study, with the same pixels and the same content.

        Its header may have been coerced and its pixels encoded anew. Most servers give back the bytes that they got.
        """
        if content == self.content:
            return True
        try:
            with quoting_nothing():
                theirs, ours = dcmread(io.BytesIO(content)), dcmread(io.BytesIO(self.content))  # numbers as they are written
                if any(theirs.get(keyword) != ours.get(keyword) for keyword in _SAID):
                    return False
                # Decoding takes a hundred times as long as comparing.
                if "PixelData" in ours and theirs.get("PixelData") != ours.PixelData:
                    return bool(np.array_equal(theirs.pixel_array, ours.pixel_array))
        except Exception:  # whatever cannot be read is not our object
            return False
        return True


_SAID: Final = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "SeriesDescription",
    "ContentSequence", "GraphicAnnotationSequence",
)  # fmt: skip


def result_objects(
    headers: Sequence[Dataset],
    views: Sequence[ViewResult],
    maker: Maker,
    *,
    kinds: Sequence[ResultKind],
    cad_at_least: float,
) -> Iterator[ResultObject]:
    """The objects of the images of one study, made as they are asked for: one exam's pixels are large.

    Args:
        headers: Of the source images, as the PACS has them now.
        views: What was said of each, in the same order.
        maker: Whose they are.
        kinds: Those wanted.
        cad_at_least: See ``cad_report``.

    Raises:
        DicomError: An image has another size or side than the one that was scored, or a header that nothing can be made of.
    """
    objects = _objects(headers, views, maker, kinds, cad_at_least)
    while (made := _next(objects)) is not None:
        yield made


def _next(objects: Iterator[ResultObject]) -> ResultObject | None:
    """The next one, encoded. An odd header is its exam's matter; what libraries say of it quotes values, and is not told."""
    try:
        with quoting_nothing():
            made = next(objects, None)
            return made if made is not None and made.content else None
    except MammoError:
        raise
    except Exception as odd:
        kind = type(odd).__name__
    raise DicomError("No result can be made of what the PACS says of the exam's images", got=kind)


def _objects(
    headers: Sequence[Dataset], views: Sequence[ViewResult], maker: Maker, kinds: Sequence[ResultKind], cad_at_least: float
) -> Iterator[ResultObject]:
    sources = [cleaned(header) for header in headers]
    for source, view in zip(sources, views, strict=True):
        _require_as_scored(source, view)
    for kind in kinds:
        made = _made_of_exam if kind in OF_EXAM else _made_of_views
        yield from made(kind, headers, sources, views, maker, cad_at_least)


def _require_as_scored(source: Dataset, view: ViewResult) -> None:
    """Before anything is made: patches would lie elsewhere, and one breast's probabilities would be told of the other."""
    shape_px = (int(source.Rows), int(source.Columns))
    if shape_px != tuple(view.geometry.source_shape_px):
        raise DicomError(
            "The image in the PACS has another size than the one that was scored",
            expected=view.geometry.source_shape_px,
            got=shape_px,
            remedy="ingest and predict the exam again",
        )
    if source.ImageLaterality in SIDES and source.ImageLaterality != view.laterality.value:
        raise DicomError(
            "The image in the PACS is of another side than the one that was scored",
            expected=view.laterality.value,
            got=source.ImageLaterality,
            remedy="see which side is right; where it was corrected in the PACS, ingest and predict the exam again",
        )


OF_EXAM = frozenset({ResultKind.PANEL, ResultKind.MEASUREMENTS, ResultKind.CAD})
"""One object for the exam, or two; the others are made of each view."""


def _made_of_views(
    kind: ResultKind,
    headers: Sequence[Dataset],
    sources: list[Dataset],
    views: Sequence[ViewResult],
    maker: Maker,
    _cad_at_least: float,
) -> Iterator[ResultObject]:
    made: Dataset | None
    for number, (header, source, view) in enumerate(zip(headers, sources, views, strict=True), start=1):
        match kind:
            case ResultKind.SALIENCY:
                made = saliency_seg(source, view, maker, number)
            case ResultKind.LEVELS:
                made = levels_seg(source, view, maker, number)
            case ResultKind.PICTURE:
                made = picture_sc(source, view, maker, number)
            case _:
                made = presentation_state(source, with_voi(source, header), view, maker, number)
        if made is not None:
            yield ResultObject(kind=kind, uid=str(made.SOPInstanceUID), dataset=made)


def _made_of_exam(
    kind: ResultKind,
    _headers: Sequence[Dataset],
    sources: list[Dataset],
    views: Sequence[ViewResult],
    maker: Maker,
    cad_at_least: float,
) -> Iterator[ResultObject]:
    if kind is ResultKind.PANEL:
        panel = panel_sc(sources, list(views), maker)
        yield ResultObject(kind=kind, uid=str(panel.SOPInstanceUID), dataset=panel)
        note = key_note(panel, sources[0], maker, sources)
        yield ResultObject(kind=kind, uid=str(note.SOPInstanceUID), dataset=note)
    elif kind is ResultKind.MEASUREMENTS:
        report = measurement_report(sources, list(views), maker)
        yield ResultObject(kind=kind, uid=str(report.SOPInstanceUID), dataset=report)
    else:
        known = [
            (source, view)
            for source, view in zip(sources, views, strict=True)
            if source.ImageLaterality in SIDES and source.ViewPosition in VIEW_CODES
        ]
        if known:  # the template's library has no entry for an image of unknown side or view
            report = cad_report([one for one, _ in known], [view for _, view in known], maker, at_least=cad_at_least)
            yield ResultObject(kind=kind, uid=str(report.SOPInstanceUID), dataset=report)
