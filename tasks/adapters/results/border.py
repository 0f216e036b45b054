"""The border at which pseudonyms become patients again: the PACS is asked for the exams of a day, and its UIDs are digested.

What comes of it lives in memory as long as an exam is being returned, and is written, logged and told nowhere: not in an error
either. Nothing has to be stored for the way back, and a name that was corrected meanwhile is the corrected one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from schemas.errors import MammoError
from tasks.adapters.pacs.sources import NotThere
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.results.kept_prediction import PredictedExam

Ask = Callable[[str, Mapping[str, str]], list[dict[str, Any]]]
"""A QIDO-RS question: path and keys to matches in DICOM JSON."""

_SOP_UID, _STUDY_UID, _SERIES_UID = "00080018", "0020000D", "0020000E"
_PATIENT_ID, _ISSUER = "00100020", "00100021"
_SUSPICIOUSLY_MANY: Final = 100
"""Servers cut their answers at such numbers, and some say nothing of it."""


class NotReturnable(MammoError):
    """An exam's results cannot go back.

    Attributes:
        is_final: To try again would change nothing.
    """

    exit_code = 3
    is_final: bool = False

    @classmethod
    def for_good(cls, what: str, **said: Any) -> NotReturnable:
        """One that no other try changes."""
        made = cls(what, **said)
        made.is_final = True
        return made


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SourceImage:
    """An image as the PACS has it now.

    Attributes:
        attributes: Its header in DICOM JSON.
    """

    image_id: str
    study_uid: str
    attributes: Mapping[str, Any]


@dataclass(slots=True, repr=False)
class Border:
    """Finds source images by their pseudonyms; remembers the studies of a day while a run lasts.

    Attributes:
        ask: Of the PACS.
        pseudonyms: With the workspace's key.
        today: Of the PACS's clock, as far as we know it.
        search_days: Among how many last days an exam without a date is looked for.
    """

    ask: Ask
    pseudonyms: Pseudonyms
    today: date
    search_days: int
    _studies: dict[str, list[str]] = field(default_factory=dict)

    def sources(self, exam: PredictedExam) -> dict[str, list[SourceImage]]:
        """The exam's images by study; an exam that a profile joined of several studies has several.

        Raises:
            NotReturnable: They are not there, or one study holds images of two patients.
            PeerUnavailable: The PACS cannot be asked now.
            PeerRefused: It does not accept us.
        """
        wanted = set(exam.image_ids)
        found: dict[str, list[SourceImage]] = {}
        asked = 0
        for study_uid in self._candidates(exam):
            asked += 1
            here = [one for one in self._images_of(study_uid) if one[0] in wanted]
            if here:
                found[study_uid] = [self._source(image_id, study_uid, *place) for image_id, *place in here]
                wanted -= {image_id for image_id, *_ in here}
            if not wanted:
                break
        if wanted:
            raise NotReturnable(
                "Images of the exam are not in the PACS on its day",
                expected=f"{len(exam.image_ids)} images",
                got=f"{len(exam.image_ids) - len(wanted)} in {asked} exams",
                remedy="were they deleted or moved to another day there? The server may also cut its answers"
                if asked >= _SUSPICIOUSLY_MANY
                else "were they deleted, or moved to another day there?",
            )
        for images in found.values():
            _require_one_patient(images)
        return found

    def _candidates(self, exam: PredictedExam) -> list[str]:
        """Studies of the exam's day, the one of its own name first."""
        if exam.shifted_date is None:
            slices = [
                (self.today - timedelta(days=days + 6), self.today - timedelta(days=days))
                for days in range(0, self.search_days + 1, 7)
            ]
        else:
            day = self.pseudonyms.unshifted_date(exam.patient_id, exam.shifted_date)
            slices = [(day, day)]
        studies = [uid for first, last in slices for uid in self._studies_of(first, last)]
        return sorted(studies, key=lambda uid: self.pseudonyms.exam_id(uid) != exam.exam_id)

    def _studies_of(self, first: date, last: date) -> list[str]:
        days = f"{first:%Y%m%d}" if first == last else f"{first:%Y%m%d}-{last:%Y%m%d}"
        if days not in self._studies:
            matches = self.ask("/studies", {"ModalitiesInStudy": "MG", "StudyDate": days})
            self._studies[days] = [uid for match in matches if (uid := _text(match, _STUDY_UID))]
        return self._studies[days]

    def _images_of(self, study_uid: str) -> Sequence[tuple[str, str, str]]:
        """(image_id, series UID, SOP UID) of a study's mammograms."""
        try:
            matches = self.ask(f"/studies/{study_uid}/instances", {"Modality": "MG"})
        except NotThere:  # deleted since it was listed
            return []
        places = [(_text(match, _SERIES_UID), _text(match, _SOP_UID)) for match in matches]
        return [(self.pseudonyms.image_id(sop), series, sop) for series, sop in places if series and sop]

    def _source(self, image_id: str, study_uid: str, series_uid: str, sop_uid: str) -> SourceImage:
        try:
            answer = self.ask(f"/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}/metadata", {})
        except NotThere:
            answer = []
        if len(answer) != 1 or self.pseudonyms.image_id(_text(answer[0], _SOP_UID)) != image_id:
            raise NotReturnable("The PACS does not have an image that it listed, or answered with another object")
        if _text(answer[0], _STUDY_UID) != study_uid:
            raise NotReturnable("The PACS answered with an image of another study than was asked for")
        return SourceImage(image_id=image_id, study_uid=study_uid, attributes=answer[0])


def _require_one_patient(images: Sequence[SourceImage]) -> None:
    people = {(_text(image.attributes, _PATIENT_ID), _text(image.attributes, _ISSUER)) for image in images}
    if len(people) != 1:
        raise NotReturnable.for_good(
            "The images of the exam are of different patients in the PACS",
            expected="one PatientID, of one issuer",
            got=len(people),
            remedy="have the study corrected there, and send again",
        )


def _text(match: Mapping[str, Any], tag: str) -> str:
    values = match.get(tag, {}).get("Value") or [""]
    return str(values[0]).strip()
