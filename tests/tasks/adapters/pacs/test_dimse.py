"""DICOM's own protocol: who does not answer, or not to us, is a sentence with a remedy."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from mammo_tests.certificates import Authority
from mammo_tests.other_systems import ROUTER, ListenerProcess, Orthanc, free_port, pacs_config
from schemas.config.pacs import DimsePeer, PacsConfig
from schemas.errors import ConfigError, PeerRefused, PeerUnavailable
from tasks.adapters.pacs.sources import reach

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")


def _reach(port: int, *, calling: str = "MAMMO", **changes: Any) -> None:
    content = {"kind": "dimse", "ae_title": "MAMMO", "host": "127.0.0.1", "port": port}
    tls = changes.pop("tls", None)
    peer = DimsePeer.model_validate(content | changes)
    reach(PacsConfig.model_validate({"ae_title": calling, "tls": tls}), peer)


def test_both_protocols_reach_a_pacs(archive: Orthanc) -> None:
    """A C-ECHO, and a question whose answer is empty."""
    pacs = pacs_config(11112, archive=archive)
    for name in ("dimse", "web"):
        reach(pacs, pacs.peers[name])


def test_nobody_there_is_told_apart_from_nobody_for_us(listener: ListenerProcess, archive: Orthanc) -> None:
    """No listener; one that says nothing; one that rejects our title, or its own; a path that is not there."""
    with pytest.raises(PeerUnavailable, match="cannot be reached"):
        _reach(free_port())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(PeerUnavailable, match="cannot be reached"):
            _reach(silent.getsockname()[1])
    with pytest.raises(PeerRefused, match="it does not know our title"):
        _reach(listener.port, calling="STRANGER")
    with pytest.raises(PeerRefused, match="it is not called by that title"):
        _reach(listener.port, calling=ROUTER, ae_title="OTHER")
    pacs = pacs_config(11112, archive=archive)
    with pytest.raises(PeerRefused, match="does not have it"):
        reach(pacs, pacs.peers["web"].model_copy(update={"url": archive.url + "/elsewhere"}))


def test_tls_with_the_wrong_certificate_is_a_sentence(listener: ListenerProcess, tmp_path: Path) -> None:
    """Encrypted to a peer that is not; and without files there is no such config."""
    files = Authority(tmp_path, "authority").issue("us").model_dump(mode="json")
    with pytest.raises(PeerUnavailable, match=r"TLS on both sides"):
        _reach(listener.port, calling=ROUTER, uses_tls=True, tls=files)
    with pytest.raises(ConfigError, match="cannot be used"):
        _reach(listener.port, calling=ROUTER, uses_tls=True, tls=files | {"authorities": str(tmp_path / "nothing")})
