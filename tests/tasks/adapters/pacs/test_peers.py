"""Who other systems are: secrets are read from files of their owner's only, and callers are known by title and address."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.certificates import Authority
from mammo_tests.other_systems import pacs_config
from schemas.config.pacs import DicomWebPeer, PacsConfig, TlsFiles
from schemas.errors import ConfigError
from tasks.adapters.pacs.peers import authorization, callers, client_context, peer_of, server_context


def _web(**changes: object) -> DicomWebPeer:
    return DicomWebPeer.model_validate({"kind": "dicomweb", "url": "http://127.0.0.1/dicom-web", **changes})


def test_a_peer_is_found_by_its_name() -> None:
    """Or the names that there are are told."""
    pacs = pacs_config(11112)
    assert peer_of(pacs, "router").kind == "dimse"
    with pytest.raises(ConfigError, match=r"one of pacs\.peers: router"):
        peer_of(pacs, "archive")
    with pytest.raises(ConfigError, match="there is none"):
        peer_of(None, "archive")


@pytest.mark.parametrize(
    ("calls_from", "address", "is_known"),
    [
        ([], "127.0.0.1", True),
        ([], "::ffff:127.0.0.1", True),
        ([], "10.0.0.1", False),
        (["10.0.0.0/24"], "10.0.0.7", True),
        (["10.0.0.0/24"], "127.0.0.1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_a_caller_is_known_by_its_address(calls_from: list[str], address: str, is_known: bool) -> None:
    """Its host's, or those that it is said to call from; an IPv4 address also as IPv6 writes it."""
    peer = {"kind": "dimse", "ae_title": "ROUTER", "host": "127.0.0.1", "calls_from": calls_from}
    (caller,) = callers(PacsConfig.model_validate({"peers": {"router": peer}})).values()
    assert caller.calls_from(address) is is_known


def test_a_host_without_an_address_is_a_sentence() -> None:
    """It names the peer, and a remedy."""
    peer = {"kind": "dimse", "ae_title": "ROUTER", "host": "nowhere.invalid"}
    with pytest.raises(ConfigError, match=r"pacs\.peers\.router has no address.*calls_from"):
        callers(PacsConfig.model_validate({"peers": {"router": peer}}))


def test_credentials_come_from_a_file_of_the_owner(tmp_path: Path) -> None:
    """A password or a token; a file that others may read, or of anything else, is refused, and never quoted."""
    secret = tmp_path / "secret"
    assert authorization(_web()) == ""
    for line, header in (("me:pass word\n", "Basic bWU6cGFzcyB3b3Jk"), ("Bearer abc.def\n", "Bearer abc.def")):
        secret.write_text(line)
        secret.chmod(0o600)
        assert authorization(_web(credentials_file=secret)) == header
    for content in ("CANARY", "a:b\nc:CANARY"):
        secret.write_text(content)
        with pytest.raises(ConfigError, match="holds no credentials") as refused:
            authorization(_web(credentials_file=secret))
        assert "CANARY" not in str(refused.value)
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640"):
        authorization(_web(credentials_file=secret))
    with pytest.raises(ConfigError, match="cannot be read"):
        authorization(_web(credentials_file=tmp_path / "nothing"))


def test_certificates_that_cannot_be_used_are_a_sentence(tmp_path: Path) -> None:
    """No file, no PEM, a key of another certificate, a key that others may read."""
    authority = Authority(tmp_path, "authority")
    good, other = authority.issue("good"), authority.issue("other")
    client_context(good)
    server_context(good)
    text = tmp_path / "text.pem"
    text.write_text("CANARY")
    for changes, why in (
        ({"authorities": text}, "cannot be used"),
        ({"authorities": tmp_path / "nothing"}, "cannot be used"),
        ({"certificate": text}, "cannot be used"),
        ({"key": other.key}, "KEY_VALUES_MISMATCH"),
    ):
        files = good.model_copy(update=changes)
        for make in (client_context, server_context):
            with pytest.raises(ConfigError, match=why) as refused:
                make(files)
            assert "CANARY" not in str(refused.value)
    good.key.chmod(0o644)
    with pytest.raises(ConfigError, match="a secret and others may read it"):
        server_context(TlsFiles(certificate=good.certificate, key=good.key, authorities=good.authorities))
