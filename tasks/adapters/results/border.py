"""The border at which pseudonyms become patients again: the PACS is asked for the exams of a day, and its UIDs are digested.

What comes of it lives in memory as long as an exam is being returned, and is written, logged and told nowhere: not in an error
either. Nothing has to be stored for the way back, and a name that was corrected meanwhile is the corrected one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from schemas.errors import MammoError
from tasks.adapters.pacs.encoded_object import Incomplete
from tasks.adapters.pacs.sources import FoundExam, FoundImage, NotThere, Source, exams_between
from tasks.adapters.pseudonyms import Pseudonyms
from tasks.adapters.results.kept_prediction import PredictedExam

_SOP_UID, _STUDY_UID = "00080018", "0020000D"
_PATIENT_ID, _ISSUER = "00100020", "00100021"
_A_DAY: Final = timedelta(days=1)


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
        archive: The PACS.
        pseudonyms: With the workspace's key.
        today: Of the PACS's clock, as far as we know it.
        search_days: Among how many last days an exam without a date is looked for.
    """

    archive: Source
    pseudonyms: Pseudonyms
    today: date
    search_days: int
    _studies: dict[tuple[date, date], list[str]] = field(default_factory=dict)

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
            here = {image_id: image for image_id, image in self._images_of(study_uid) if image_id in wanted}
            if here:
                found[study_uid] = [self._source(image_id, image) for image_id, image in here.items()]
                wanted -= here.keys()
            if not wanted:
                break
        if wanted:
            raise NotReturnable(
                "Images of the exam are not in the PACS on its day",
                expected=f"{len(exam.image_ids)} images",
                got=f"{len(exam.image_ids) - len(wanted)} in {asked} exams",
                remedy="were they deleted, or moved to another day there?",
            )
        for images in found.values():
            _require_one_patient(images)
        return found

    def _candidates(self, exam: PredictedExam) -> list[str]:
        """Studies of the exam's day, the one of its own name first."""
        if exam.shifted_date is None:
            # A device's clock, or its time zone, may be ahead of ours.
            days = (self.today - timedelta(days=self.search_days), self.today + _A_DAY)
        else:
            day = self.pseudonyms.unshifted_date(exam.patient_id, exam.shifted_date)
            days = (day, day)
        return sorted(self._studies_of(*days), key=lambda uid: self.pseudonyms.exam_id(uid) != exam.exam_id)

    def _studies_of(self, first: date, last: date) -> list[str]:
        if (first, last) not in self._studies:
            self._studies[first, last] = [found.study_uid for found in exams_between(self.archive, first, last)]
        return self._studies[first, last]

    def _images_of(self, study_uid: str) -> list[tuple[str, FoundImage]]:
        """A study's mammograms by image_id."""
        try:
            listed = self.archive.images_of(FoundExam(study_uid=study_uid))
        except NotThere:  # deleted since it was listed
            return []
        return [(self.pseudonyms.image_id(image.sop_uid), image) for image in listed]

    def _source(self, image_id: str, image: FoundImage) -> SourceImage:
        try:
            header = self.archive.header_of(image)
        except (NotThere, Incomplete):
            header = {}
        if self.pseudonyms.image_id(_text(header, _SOP_UID)) != image_id:
            raise NotReturnable("The PACS does not have an image that it listed, or answered with another object")
        if _text(header, _STUDY_UID) != image.study_uid:
            raise NotReturnable("The PACS answered with an image of another study than was asked for")
        return SourceImage(image_id=image_id, study_uid=image.study_uid, attributes=header)


def _require_one_patient(images: Sequence[SourceImage]) -> None:
    """An issuer that some images lack is not another one, as for the gate (E04)."""
    people = {_text(image.attributes, _PATIENT_ID) for image in images}
    issuers = {_text(image.attributes, _ISSUER) for image in images} - {""}
    if len(people) != 1 or len(issuers) > 1:
        raise NotReturnable.for_good(
            "The images of the exam are of different patients in the PACS",
            expected="one PatientID, of one issuer",
            got=f"{len(people)} PatientIDs, of {len(issuers)} issuers",
            remedy="have the study corrected there, and send again",
        )


def _text(match: Mapping[str, Any], tag: str) -> str:
    attribute = match.get(tag)
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    return str(values[0] or "").strip("\0 ") if isinstance(values, list) and values else ""
