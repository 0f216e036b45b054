"""What a server lists is believed only as far as it can be: what is no UID leads nowhere, a short list is an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from schemas.config.pacs import DicomWebPeer, PacsConfig
from schemas.errors import PeerUnavailable
from tasks.adapters.pacs.sources import FoundExam, Slice
from tasks.adapters.pacs.web_source import WebSource, open_web_source

PIECE = Slice(date(2026, 1, 1), date(2026, 1, 2))


def _match(**values: Any) -> dict[str, Any]:
    """One match of DICOM JSON, by tag."""
    return {tag.removeprefix("t"): {"vr": "UI", "Value": [value]} for tag, value in values.items()}


def _several(tag: str, *values: Any) -> dict[str, Any]:
    return {tag: {"vr": "CS", "Value": list(values)}}


@contextmanager
def _source(answers: dict[str, list[dict[str, Any]]]) -> Iterator[WebSource]:
    """A server that answers by the end of a path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name http.server calls
            body = json.dumps(answers[self.path.split("?")[0].rsplit("/", 1)[-1]]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    peer = DicomWebPeer.model_validate({"kind": "dicomweb", "url": f"http://127.0.0.1:{server.server_port}/dicom-web"})
    try:
        with open_web_source(PacsConfig(), peer) as source:
            yield source
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("uid", ["../../CANARY", "1.2/CANARY", "1.2?CANARY", "", 17, None])
def test_what_is_no_uid_leads_nowhere(uid: object) -> None:
    """It would be part of the next question's path."""
    with _source({"studies": [_match(t0020000D=uid)]}) as source, pytest.raises(PeerUnavailable, match="no UID") as refused:
        source.exams_of(PIECE)
    assert "CANARY" not in str(refused.value)


def test_a_server_that_does_not_know_the_modality_is_heard() -> None:
    """Of exams of every kind those with mammograms are taken, and those that do not say."""
    studies = [
        _match(t0020000D="1.1", t00080061="MG"),
        _match(t0020000D="1.2", t00080061="CT"),
        _match(t0020000D="1.3"),
        _match(t0020000D="1.4") | _several("00080061", "SR", "MG"),
        _match(t0020000D="1.5") | _several("00080061", "SR\\MG"),
        _match(t0020000D="1.6") | _several("00080061", None),
        _match(t0020000D="1.7") | _several("00080061", "SR", None),
        _match(t0020000D="1.8", t00201208="none"),
    ]
    with _source({"studies": studies}) as source:
        assert [exam.study_uid for exam in source.exams_of(PIECE)] == ["1.1", "1.3", "1.4", "1.5", "1.6", "1.8"]


def test_a_listing_that_is_shorter_than_the_server_counts_is_an_error() -> None:
    """And one of images of another class is not: they are only not asked for. A match that is repeated counts once."""
    counted = [_match(t0020000E="1.1.1", t00201209=3)]
    listed = [_match(t0020000E="1.1.1", t00080018=f"1.1.1.{number}") for number in range(3)]
    listed[2] |= _match(t00080016="1.2.840.10008.5.1.4.1.1.1.2.1")
    exam = FoundExam(study_uid="1.1")
    with _source({"series": counted, "instances": listed}) as source:
        assert [image.sop_uid for image in source.images_of(exam)] == ["1.1.1.0", "1.1.1.1"]
    with (
        _source({"series": counted, "instances": listed[:2]}) as source,
        pytest.raises(PeerUnavailable, match="lists fewer images than it counts"),
    ):
        source.images_of(exam)
    odd = [_match(t0020000E="1.1.1", t00201209="many"), _match(t0020000E="1.1.2", t00201209=None)]
    with _source(
        {"series": odd, "instances": [*listed[:1], _match(t0020000E="1.1.1", t00080018="9\0", t00080016=None)]}
    ) as source:
        assert [image.sop_uid for image in source.images_of(exam)] == ["1.1.1.0", "9"]
    counted.append(_match(t0020000E="1.1.9", t00201209=7, t00080060="SR"))
    with _source(
        {"series": counted, "instances": [*listed, _match(t0020000E="1.1.9", t00080018="8", t00080060="SR")]}
    ) as source:
        assert [image.sop_uid for image in source.images_of(exam)] == ["1.1.1.0", "1.1.1.1"]
    with (
        _source({"series": counted * 2, "instances": [*listed[:2], *listed[:2]]}) as source,
        pytest.raises(PeerUnavailable, match=r"Expected: 3\. Got: 2"),
    ):
        source.images_of(exam)
    with _source({"series": [], "instances": listed}) as source:
        assert source.images_of(exam) == []


def test_an_exam_that_is_listed_as_long_as_it_is_counted_is_asked_for_once() -> None:
    """The question for exams tells how many objects each holds; a listing of fewer is held against its series' own counts."""
    listed = [_match(t0020000E="1.1.1", t00080018=f"1.1.1.{number}") for number in range(2)]
    for said in (2, "2"):
        with _source({"studies": [_match(t0020000D="1.1", t00201208=said)], "instances": listed}) as source:
            (exam,) = source.exams_of(PIECE)
            assert len(source.images_of(exam)) == 2
    studies, series = [_match(t0020000D="1.1", t00201208=5)], [_match(t0020000E="1.1.1", t00201209=4)]
    with _source({"studies": studies, "series": series, "instances": listed}) as source:
        (exam,) = source.exams_of(PIECE)
        with pytest.raises(PeerUnavailable, match="lists fewer images than it counts"):
            source.images_of(exam)
