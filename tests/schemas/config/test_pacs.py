"""The section ``pacs``: what cannot work is refused when it is read, and old digests stay."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config.run import RunConfig

ROUTER = {"kind": "dimse", "ae_title": "ROUTER", "host": "10.0.0.5"}
ARCHIVE = {"kind": "dicomweb", "url": "https://pacs.example.org/dicom-web"}
TLS = {"certificate": "a.pem", "key": "a.key", "authorities": "ca.pem"}


def _run(source: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    ingest = {"source_dir": "s"} | ({} if source is None else {"source": source})
    return RunConfig.model_validate({"workspace_dir": "w", "ingest": ingest, **changes})


def test_a_config_without_a_pacs_has_the_digest_that_it_had() -> None:
    """Nobody's finished work is another because a section was added."""
    assert {"pacs"} & _run().identity_content().keys() == set()
    assert "source" not in _run().identity_content()["ingest"]
    assert _run(pacs={"peers": {"archive": ARCHIVE}}).sha256() != _run().sha256()


@pytest.mark.parametrize(
    ("pacs", "source", "says"),
    [
        ({"peers": {"router": ROUTER | {"ae_title": "SEVENTEEN_LETTERS"}}}, None, "ae_title"),
        ({"peers": {"router": ROUTER | {"ae_title": r"BACK\SLASH"}}}, None, "ae_title"),
        ({"peers": {"router": ROUTER | {"calls_from": ["10.0.0.300"]}}}, None, "calls_from"),
        ({"peers": {"a": ROUTER, "b": ROUTER}}, None, "two peers have the AE title ROUTER"),
        ({"peers": {"router": ROUTER | {"uses_tls": True}}}, None, "peers.router need tls"),
        ({"listen": {"uses_tls": True}}, None, "listen need tls"),
        (
            {"peers": {"a": ROUTER}, "listen": {"port": 11112}, "results": {"peer": "a", "commitment": {"port": 11112}}},
            None,
            "are both 11112",
        ),
        ({"peers": {"archive": ARCHIVE | {"url": "https://me:secret@pacs/dicom-web"}}}, None, "url"),
        ({"peers": {"archive": ARCHIVE}}, {"peer": "archiv", "last_days": 3}, "is none of pacs.peers: archive"),
        (None, {"peer": "archive", "last_days": 3}, "there is none"),
        ({"peers": {"archive": ARCHIVE}}, {"peer": "archive"}, "which exams, not by none"),
        ({"peers": {"a": ARCHIVE}, "results": {"peer": "a", "sources": "b"}}, None, "results.sources b is none of peers: a"),
        ({"peers": {"a": ROUTER | {"retrieve": "move"}}, "results": {"peer": "a"}}, None, "with retrieve: get"),
        (
            {"peers": {"archive": ARCHIVE}},
            {"peer": "archive", "since": "2026-01-01", "last_days": 3},
            "not by last_days and since",
        ),
        ({"peers": {"archive": ARCHIVE}}, {"peer": "archive", "last_days": 3, "until": "2026-01-01"}, "what since begins"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(
    pacs: dict[str, Any] | None, source: dict[str, Any] | None, says: str
) -> None:
    """A title that DICOM forbids, a peer that is not there, TLS without files, days said twice."""
    with pytest.raises(ValidationError, match=says):
        _run(source, pacs=pacs)


def test_a_whole_section_is_read() -> None:
    """As the how-to writes it."""
    peers = {"router": ROUTER | {"calls_from": ["10.0.0.0/24"], "uses_tls": True}, "archive": ARCHIVE}
    config = _run(
        {"peer": "archive", "since": "2026-01-01"},
        pacs={"ae_title": "MAMMO", "tls": TLS, "listen": {"port": 11113, "uses_tls": True}, "peers": peers},
    )
    assert config.pacs is not None and config.pacs.listen is not None
    assert config.pacs.listen.port == 11113 and config.ingest.source is not None
    assert config.pacs.peers["router"].in_flight == 4
