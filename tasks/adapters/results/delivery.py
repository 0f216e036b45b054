"""An exam's results on their way: sources found, objects made, sent, read back and recorded, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from schemas.config.pacs import ResultsConfig
from schemas.errors import MammoError
from tasks.adapters.pacs.peers import Pace
from tasks.adapters.results.border import Border, NotReturnable, SourceImage
from tasks.adapters.results.exam_result import Maker
from tasks.adapters.results.kept_prediction import KeptPrediction, PredictedExam
from tasks.adapters.results.objects.result_objects import ResultObject, result_objects
from tasks.adapters.results.objects.source_header import header_of_json
from tasks.adapters.results.outbox import Delivery, Outbox

DUPLICATE: Final = 0x0111
"""What some peers answer to an object that they have (PS3.7 C.4.2). Its UID is keyed, so what they have is ours."""


class NotStored(MammoError):
    """The peer answered, and did not take an object; the exam is tried again later."""

    exit_code = 3


class Target(Protocol):
    """Where results go."""

    def held(self, study_uid: str) -> set[str]:
        """SOPInstanceUIDs that it is known to have of a study; those that it has besides are sent again, which is harmless."""

    def store(self, made: ResultObject) -> None:
        """Sends an object.

        Raises:
            NotStored: It was not taken.
        """

    def prove(self, made: ResultObject) -> str:
        """Finds out that a sent object is there, and says how.

        Raises:
            NotStored: It is not there.
        """

    def lost(self, objects: Collection[tuple[str, str]]) -> set[str]:
        """Of objects that were sent now or earlier (class, UID) those that it does not keep; they are sent again."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a delivery came to: objects that were sent now, and those that were there already."""

    sent: int
    there: int


@dataclass(frozen=True, slots=True)
class Courier:
    """Delivers to one peer.

    Attributes:
        maker_of: Whose results a delivery's are.
        pace: How many objects the peer is sent in a second; one at a time, whatever may be in flight.
    """

    outbox: Outbox
    target: Target
    border: Border
    prediction: KeptPrediction
    maker_of: Callable[[Delivery], Maker]
    settings: ResultsConfig
    pace: Pace

    def deliver(self, delivery: Delivery) -> Sent:
        """Brings every object of an exam to the peer. What an earlier try has brought there is not sent again.

        Raises:
            NotReturnable: The sources are not there, or the results are no longer those that were queued.
            NotStored: The peer did not take an object.
            PeerUnavailable: It cannot be asked now.
            PeerRefused: It does not accept us.
        """
        exam = self._exam(delivery)
        views = {image_id: self.prediction.view(image_id) for image_id in exam.image_ids}
        proven, sent, there = self.outbox.proven(delivery), 0, 0
        for study_uid, images in self.border.sources(exam).items():
            held = self.target.held(study_uid)
            ordered = sorted(images, key=_hung(self.prediction.places))
            made_of_study = result_objects(
                [header_of_json(image.attributes) for image in ordered],
                [views[image.image_id] for image in ordered],
                self.maker_of(delivery),
                kinds=self.settings.kinds,
                cad_at_least=self.settings.cad_at_least,
            )
            objects: list[tuple[str, str]] = []
            for made in made_of_study:
                objects.append((str(made.dataset.SOPClassUID), made.uid))
                if made.uid in proven:
                    there += 1
                    continue
                if made.uid in held:  # keyed: nobody else gives an object this name
                    proof, there = "was there", there + 1
                else:
                    self.pace.wait()
                    self.target.store(made)
                    proof, sent = self.target.prove(made), sent + 1
                self.outbox.record(delivery, uid=made.uid, kind=made.kind.value, proof=proof)
            if lost := self.target.lost(objects):
                self.outbox.forget(delivery, lost)
                raise NotStored("The peer does not keep what it was sent", got=f"{len(lost)} of {len(objects)} objects")
        self.outbox.delivered(delivery)
        return Sent(sent, there)

    def _exam(self, delivery: Delivery) -> PredictedExam:
        exam = self.prediction.exams.get(delivery.exam_id)
        if exam is None or (exam.image_ids, exam.weights_sha256) != (delivery.image_ids, delivery.weights_sha256):
            raise NotReturnable.for_good(
                "The exam's results are no longer those that were queued",
                remedy="it was withdrawn, predicted with other weights, or got more images: what is new is queued by itself",
            )
        return exam


def _hung(places: Mapping[str, tuple[str, str]]) -> Callable[[SourceImage], tuple[str, ...]]:
    """Right before left, CC before MLO: the same order on every run."""

    def key(image: SourceImage) -> tuple[str, ...]:
        side, view = places[image.image_id]
        return view, "" if side == "R" else side, image.image_id

    return key
