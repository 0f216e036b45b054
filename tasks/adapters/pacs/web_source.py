"""A PACS that is asked over HTTP as a source of exams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from schemas.config.pacs import DicomWebPeer, PacsConfig
from schemas.errors import PeerUnavailable
from tasks.adapters.dicom.header import MAMMOGRAPHY_FOR_PRESENTATION
from tasks.adapters.pacs.arrivals import Arrivals
from tasks.adapters.pacs.sources import Cut, FoundExam, FoundImage, NotThere, Slice, uid_of
from tasks.adapters.pacs.web import Client, ask, copy_object, web_client

_SOP_CLASS, _SOP_UID, _STUDY_UID, _SERIES_UID = "00080016", "00080018", "0020000D", "0020000E"
_MODALITY, _MODALITIES, _OBJECTS_OF_EXAM, _IMAGES_OF_SERIES = "00080060", "00080061", "00201208", "00201209"
_LONGEST_S: Final = 600.0
"""For one object, however steadily it trickles."""


@dataclass(frozen=True, slots=True)
class WebSource:
    """See ``Source``."""

    client: Client

    def exams_of(self, piece: Slice, ending: str = "") -> list[FoundExam]:
        """See ``Source``."""
        patients = {"PatientID": f"*{ending}"} if ending else {}
        try:
            return _with_mammograms(ask(self.client, "/studies", {"ModalitiesInStudy": "MG", **_time_of(piece), **patients}))
        except Cut as cut:
            raise Cut(_with_mammograms(cut.answered)) from None

    def exam_named(self, *, accession_number: str = "", study_uid: str = "") -> list[FoundExam]:
        """See ``Source``."""
        keys = {"StudyInstanceUID": study_uid} if study_uid else {"AccessionNumber": accession_number}
        return _with_mammograms(ask(self.client, "/studies", {"ModalitiesInStudy": "MG", **keys}))

    def images_of(self, exam: FoundExam) -> list[FoundImage]:
        """See ``Source``; the listing must hold as many images as the server counts in its series, or in all of the exam."""
        path = f"/studies/{exam.study_uid}"
        listed = _mammograms(ask(self.client, f"{path}/instances", {"Modality": "MG"}), _SOP_UID)
        if exam.objects is None or len(listed) < exam.objects:
            series = _mammograms(ask(self.client, f"{path}/series", {"Modality": "MG"}), _SERIES_UID)
            listed = listed if series else []
            counted = [_count(each, _IMAGES_OF_SERIES) for each in series]
            said = sum(count or 0 for count in counted)
            if None not in counted and len(listed) < said:
                raise PeerUnavailable("The server lists fewer images than it counts", expected=said, got=len(listed))
        return [
            FoundImage(study_uid=exam.study_uid, series_uid=_uid(each, _SERIES_UID), sop_uid=_uid(each, _SOP_UID))
            for each in listed
            if not (kind := _values(each, _SOP_CLASS)) or str(kind[0]).strip("\0 ") == MAMMOGRAPHY_FOR_PRESENTATION
        ]

    def fetch(self, image: FoundImage, arrivals: Arrivals) -> int:
        """See ``Source``."""
        with arrivals.aside() as aside:
            copy_object(self.client, _path(image), aside.write, longest_s=_LONGEST_S)
            arrivals.adopt(aside, sop_uid=image.sop_uid)
        return aside.size_bytes

    def header_of(self, image: FoundImage) -> dict[str, Any]:
        """See ``Source``."""
        answer = ask(self.client, f"{_path(image)}/metadata", {})
        if len(answer) != 1:
            raise NotThere("The server does not have an image that it listed")
        return answer[0]


@contextmanager
def open_web_source(pacs: PacsConfig, peer: DicomWebPeer) -> Iterator[WebSource]:
    """A peer as a source; its connections end with the block."""
    with web_client(pacs, peer) as client:
        yield WebSource(client)


def _path(image: FoundImage) -> str:
    return f"/studies/{image.study_uid}/series/{image.series_uid}/instances/{image.sop_uid}"


def _time_of(piece: Slice) -> dict[str, str]:
    return {"StudyDate": piece.study_date} | ({"StudyTime": piece.study_time} if piece.study_time else {})


def _with_mammograms(found: Iterable[dict[str, Any]]) -> list[FoundExam]:
    """A server that does not know the key ModalitiesInStudy answers with exams of every kind, and may not say which."""
    return [
        FoundExam(study_uid=_uid(each, _STUDY_UID), objects=_count(each, _OBJECTS_OF_EXAM))
        for each in found
        if "MG" in ("\\".join(map(str, _values(each, _MODALITIES))) or "MG").split("\\")
    ]


def _values(match: dict[str, Any], tag: str) -> list[Any]:
    attribute = match.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return [value for value in values if value not in (None, "")] if isinstance(values, list) else []


def _mammograms(listed: Iterable[dict[str, Any]], tag: str) -> list[dict[str, Any]]:
    """What is of mammograms: not all servers know the key Modality below an exam.

    Some repeat a match, and one that is there twice would make up for another that is not.
    """
    return list({_uid(each, tag): each for each in listed if (_values(each, _MODALITY) or ["MG"])[0] == "MG"}.values())


def _count(match: dict[str, Any], tag: str) -> int | None:
    """A number, which servers also write as text; None where there is none."""
    text = str((_values(match, tag) or [""])[0])
    return int(text) if text.isdecimal() else None


def _uid(match: dict[str, Any], tag: str) -> str:
    """Raises PeerUnavailable where it is missing, or none."""
    return uid_of(next(iter(_values(match, tag)), None))
