"""A delivery: what is proven is not sent again, what is there is found, and old results of an exam are not sent at all."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mammo_tests.results import MAKER, STUDY_UID, VIEWS, read_header, view_result, write_view
from schemas.config.pacs import ResultKind, ResultsConfig
from tasks.adapters.pacs.peers import Pace
from tasks.adapters.results.border import Border, NotReturnable, SourceImage
from tasks.adapters.results.delivery import Courier, NotStored, Sent
from tasks.adapters.results.kept_prediction import KeptPrediction, PredictedExam
from tasks.adapters.results.objects.result_objects import ResultObject
from tasks.adapters.results.outbox import Delivery, DeliveryState, Outbox

RESULTS = {view.image_id: view for view in (view_result(*one) for one in VIEWS)}
EXAM = PredictedExam(
    exam_id="E1",
    weights_sha256=MAKER.weights_sha256,
    image_ids=tuple(sorted(RESULTS)),
    patient_id="P1",
    shifted_date=None,
)
DELIVERY = Delivery(
    exam_id="E1", weights_sha256=MAKER.weights_sha256, image_ids=EXAM.image_ids, peer="pacs", queued=datetime(2026, 1, 2)
)


class Shelf:
    """A target in memory that keeps what it gets, and fails after so many."""

    def __init__(self, fails_after: int = 99) -> None:
        self.objects: dict[str, ResultObject] = {}
        self.fails_after = fails_after

    def held(self, study_uid: str) -> set[str]:
        """What it has."""
        assert study_uid == STUDY_UID
        return set(self.objects)

    def store(self, made: ResultObject) -> None:
        """Takes it, or not."""
        if len(self.objects) == self.fails_after:
            raise ConnectionError
        assert made.uid not in self.objects
        self.objects[made.uid] = made

    def prove(self, made: ResultObject) -> str:
        """It is there."""
        return "read back" if made.uid in self.objects else ""

    def lost(self, objects: Collection[tuple[str, str]]) -> set[str]:
        """Those that fell off it since."""
        return {uid for _, uid in objects} - set(self.objects)


@pytest.fixture
def courier(tmp_path: Path) -> Courier:
    """To an empty shelf."""
    images = []
    for one, view in zip(VIEWS, RESULTS.values(), strict=True):
        header = read_header(write_view(tmp_path / "source.dcm", *one))
        images.append(SourceImage(image_id=view.image_id, study_uid=STUDY_UID, attributes=header.to_json_dict()))
    border = SimpleNamespace(sources=lambda exam: {STUDY_UID: images[::-1]})
    places = {name: (view.laterality.value, view.view_position.value) for name, view in RESULTS.items()}
    prediction = SimpleNamespace(exams={"E1": EXAM}, view=RESULTS.__getitem__, places=places)
    outbox = Outbox(tmp_path / "outbox.sqlite")
    outbox.queue([DELIVERY])
    return Courier(
        outbox,
        Shelf(),
        cast("Border", border),
        cast("KeptPrediction", prediction),
        lambda delivery: replace(MAKER, made=delivery.queued),
        ResultsConfig(peer="pacs", kinds=(ResultKind.PRESENTATION, ResultKind.CAD)),
        Pace(None),
    )


def test_views_are_hung_in_one_order(courier: Courier) -> None:
    """However the PACS lists them: right before left, craniocaudal before oblique."""
    assert courier.deliver(DELIVERY) == Sent(5, 0)
    shelf: Any = courier.target
    *states, report = [made.dataset for made in shelf.objects.values()]
    assert [one.InstanceNumber for one in states] == [1, 2, 3, 4]
    assert [one.Laterality for one in states] == ["R", "L", "R", "L"]
    assert [len(item.ContentSequence) for item in report.ContentSequence[1].ContentSequence] == [8] * 4
    assert courier.outbox.counts()[DeliveryState.DELIVERED] == 1


def test_what_was_brought_there_is_not_sent_again(courier: Courier) -> None:
    """Known from the outbox, or seen there when the outbox knows nothing of it: the shelf refuses to take a thing twice."""
    shelf = Shelf(fails_after=2)
    with pytest.raises(ConnectionError):
        replace(courier, target=shelf).deliver(DELIVERY)
    assert len(courier.outbox.proven(DELIVERY)) == 2
    shelf.fails_after = 99
    assert replace(courier, target=shelf).deliver(DELIVERY) == Sent(3, 2)
    with Outbox(Path(str(courier.outbox._path)).with_name("other.sqlite")) as forgetful:
        forgetful.queue([DELIVERY])
        assert replace(courier, target=shelf, outbox=forgetful).deliver(DELIVERY) == Sent(0, 5)


class Mailbox(Shelf):
    """A peer that only takes, as by C-STORE: what it has nobody can ask."""

    def held(self, study_uid: str) -> set[str]:
        """Nothing is asked."""
        return set()


def test_an_exam_that_got_an_image_more_brings_what_is_new(courier: Courier) -> None:
    """Of the other images the objects are there, with the time of the delivery before; the report of all is another one."""
    mailbox, exams = Mailbox(), cast("Any", courier.prediction).exams
    fewer = replace(DELIVERY, image_ids=EXAM.image_ids[:3], queued=datetime(2026, 1, 1))
    sources: Any = courier.border.sources
    some = SimpleNamespace(
        sources=lambda exam: {STUDY_UID: [each for each in sources(exam)[STUDY_UID] if each.image_id in exam.image_ids]}
    )
    to_it = replace(courier, target=mailbox, border=cast("Border", some))
    courier.outbox.queue([fewer])
    exams["E1"] = replace(EXAM, image_ids=fewer.image_ids)
    assert to_it.deliver(fewer) == Sent(4, 0)
    exams["E1"] = EXAM
    assert to_it.deliver(DELIVERY) == Sent(2, 3)


def test_so_many_are_sent_in_a_second_and_no_more(courier: Courier) -> None:
    """Five objects at twenty a second take four twentieths; what the peer has already costs no turn."""
    shelf, began_s = Shelf(), time.monotonic()
    assert replace(courier, target=shelf, pace=Pace(20)).deliver(DELIVERY) == Sent(5, 0)
    assert time.monotonic() - began_s >= 4 / 20
    with Outbox(Path(str(courier.outbox._path)).with_name("other.sqlite")) as forgetful:
        forgetful.queue([DELIVERY])
        never = Pace(1e-9)
        never.wait()  # the next turn comes in thirty years
        assert replace(courier, target=shelf, outbox=forgetful, pace=never).deliver(DELIVERY) == Sent(0, 5)


def test_what_a_peer_does_not_keep_is_sent_again(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """It said that it had stored it, and does not commit to it: the delivery fails, and the next one sends what is missing."""
    shelf: Any = courier.target
    plain = shelf.lost

    def drops_one(objects: Collection[tuple[str, str]]) -> set[str]:
        shelf.objects.popitem()
        return set(plain(objects))

    monkeypatch.setattr(shelf, "lost", drops_one)
    with pytest.raises(NotStored, match="1 of 5 objects"):
        courier.deliver(DELIVERY)
    assert courier.outbox.counts()[DeliveryState.DELIVERED] == 0
    monkeypatch.setattr(shelf, "lost", plain)
    assert courier.deliver(DELIVERY) == Sent(1, 4)


@pytest.mark.parametrize("change", [{"weights_sha256": "ff" * 32}, {"image_ids": EXAM.image_ids[:3]}, {"exam_id": "E2"}])
def test_results_that_are_no_longer_those_that_were_queued_are_not_sent(courier: Courier, change: dict[str, Any]) -> None:
    """Other weights, more images, withdrawn: the new ones are queued by themselves."""
    with pytest.raises(NotReturnable, match="no longer") as old:
        courier.deliver(replace(DELIVERY, **change))
    shelf: Any = courier.target
    assert old.value.is_final and shelf.objects == {}
