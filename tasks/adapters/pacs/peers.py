"""Who the other systems are: by their names in the config, with their secrets, and whose calls are answered."""

from __future__ import annotations

import re
import socket
import ssl
import stat
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from schemas.config.pacs import DicomWebPeer, DimsePeer, PacsConfig, Peer, TlsFiles
from schemas.errors import ConfigError, PeerRefused, error_name, extra_from

_SECONDS_TO_SHAKE_HANDS = 10.0
_SECONDS_TO_OBJECT = 2.0
_ALERT_OF_OURS = re.compile("ALERT.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)")


def require_extra() -> None:
    """Asked before DICOM's own protocol is spoken.

    Raises:
        ConfigError: pynetdicom is not installed.
    """
    if find_spec("pynetdicom") is None:
        raise ConfigError(
            "DICOM's own protocol needs a package that is not installed",
            expected="the extra pacs",
            remedy=extra_from("pacs"),
        )


def peer_of(pacs: PacsConfig | None, name: str) -> Peer:
    """The peer that a config calls so.

    Raises:
        ConfigError: None of them is called so.
    """
    known = {} if pacs is None else pacs.peers
    if name not in known:
        raise ConfigError(
            f"There is no peer {name}",
            expected=f"one of pacs.peers: {', '.join(known) or 'there is none'}",
            remedy="correct the name, or add the peer to the config",
        )
    return known[name]


class Pace:
    """Lets so many images or objects through in a second, of all threads together; None = any number."""

    def __init__(self, per_second: float | None) -> None:
        self._apart_s = 0.0 if per_second is None else 1 / per_second
        self._next_s = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Until it is this caller's turn."""
        with self._lock:
            now_s = time.monotonic()
            turn_s = max(now_s, self._next_s)
            self._next_s = turn_s + self._apart_s
        time.sleep(max(0.0, turn_s - now_s))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who may associate with our listener under a title."""

    peer: DimsePeer
    networks: tuple[IPv4Network | IPv6Network, ...]

    def calls_from(self, address: str) -> bool:
        """True if the peer calls from this address."""
        here = ip_address(address.split("%", maxsplit=1)[0])
        mapped = getattr(here, "ipv4_mapped", None)
        return any((mapped or here) in network for network in self.networks)


def callers(pacs: PacsConfig) -> Mapping[str, Caller]:
    """By AE title, everybody whose associations are accepted.

    Raises:
        ConfigError: A peer's host has no address now, and the config names no other that it calls from.
    """
    return {
        peer.ae_title: Caller(peer, _networks(name, peer)) for name, peer in pacs.peers.items() if isinstance(peer, DimsePeer)
    }


def _networks(name: str, peer: DimsePeer) -> tuple[IPv4Network | IPv6Network, ...]:
    if peer.calls_from:
        return tuple(ip_network(text, strict=False) for text in peer.calls_from)
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(peer.host, None, proto=socket.IPPROTO_TCP)}
    except OSError as unknown:
        raise ConfigError(
            f"The host of pacs.peers.{name} has no address",
            got=error_name(unknown) if unknown.errno and unknown.errno > 0 else "no such name",
            remedy="correct host, or write the addresses it calls from into calls_from",
        ) from unknown
    return tuple(ip_network(address) for address in sorted(found))


def authorization(peer: DicomWebPeer) -> str:
    """The value of the Authorization header; empty if no credentials are configured.

    Raises:
        ConfigError: The file cannot be read, is readable by others, or holds something else.
    """
    if peer.credentials_file is None:
        return ""
    line = _secret(peer.credentials_file).strip()
    if line.startswith("Bearer ") and len(line.split()) == 2:
        return line
    if ":" not in line or "\n" in line:
        raise ConfigError(
            f"{peer.credentials_file} holds no credentials",
            expected="one line: user:password, or Bearer and a token",
            got="something else",
        )
    import base64

    return f"Basic {base64.b64encode(line.encode()).decode()}"


def client_context(tls: TlsFiles | None, *, authorities: Path | None = None, shows_certificate: bool = True) -> ssl.SSLContext:
    """For connections that we make: the other's certificate must be believed and be its host's.

    Raises:
        ConfigError: A file cannot be read or is none of its kind.
    """
    believed = authorities or (None if tls is None else tls.authorities)
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=believed)
    except (OSError, ssl.SSLError) as unreadable:
        raise _not_pem(believed, unreadable) from unreadable
    if tls is not None and shows_certificate:
        _show_certificate(context, tls)
    return context


def not_believed(*, remedy: str) -> PeerRefused:
    """A peer's certificate is none that we believe: nobody is told anything, and no other try changes that."""
    return PeerRefused(
        "The peer's certificate is not believed",
        expected="one that has not expired, is of the peer's host, and of a known authority",
        remedy=remedy,
    )


def ours_not_believed() -> PeerRefused:
    """A peer does not believe the certificate that we show: no other try changes that."""
    return PeerRefused(
        "The peer does not believe our certificate",
        expected="uses_certificate, and in pacs.tls one that has not expired, of an authority that the peer knows",
        remedy="have it renewed, or its authority registered there",
    )


def is_about_ours(error: BaseException) -> bool:
    """True if a peer said that it does not believe the certificate that we showed, or that it misses one."""
    return isinstance(error, ssl.SSLError) and bool(_ALERT_OF_OURS.search(error.reason or ""))


def certificate_fault(peer: DimsePeer, context: ssl.SSLContext) -> PeerRefused | None:
    """Whose certificate is not believed, if that is why there is no association: pynetdicom does not tell."""
    try:
        with (
            socket.create_connection((peer.host, peer.port), _SECONDS_TO_SHAKE_HANDS) as plain,
            context.wrap_socket(plain, server_hostname=peer.host) as link,
        ):
            link.settimeout(_SECONDS_TO_OBJECT)
            link.recv(1)  # what it thinks of ours it says when its own part of the handshake is done
    except ssl.SSLCertVerificationError:
        return not_believed(remedy="have it renewed, or name its authority in pacs.tls.authorities")
    except OSError as other:
        return ours_not_believed() if is_about_ours(other) else None
    return None


def server_context(tls: TlsFiles) -> ssl.SSLContext:
    """For connections that are made to us: whoever calls shows a certificate that is believed.

    Raises:
        ConfigError: A file cannot be read or is none of its kind.
    """
    context = _PatientContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(tls.authorities)
    except (OSError, ssl.SSLError) as unreadable:
        raise _not_pem(tls.authorities, unreadable) from unreadable
    _show_certificate(context, tls)
    return context


class _PatientContext(ssl.SSLContext):
    """Shakes hands at the first read, in the association's thread: in the accept loop one silent caller stopped all others."""

    def wrap_socket(self, sock: socket.socket, *arguments: object, **keywords: object) -> ssl.SSLSocket:
        sock.settimeout(_SECONDS_TO_SHAKE_HANDS)
        keywords["do_handshake_on_connect"] = False
        return super().wrap_socket(sock, *arguments, **keywords)  # type: ignore[arg-type]  # passed on as it came


def _show_certificate(context: ssl.SSLContext, tls: TlsFiles) -> None:
    _secret(tls.key)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (OSError, ssl.SSLError) as unreadable:
        raise _not_pem(tls.certificate, unreadable) from unreadable


def _secret(path: Path) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_text()
    except (OSError, ValueError) as unreadable:
        got = error_name(unreadable) if isinstance(unreadable, OSError) else "no text"
        raise ConfigError(f"{path} cannot be read", got=got, remedy="correct the path or the file's rights") from unreadable
    if mode & 0o077:
        raise ConfigError(f"{path} is a secret and others may read it", got=f"mode {mode:04o}", remedy=f"chmod 600 {path}")
    return content


def _not_pem(path: Path | None, error: Exception) -> ConfigError:
    got = error.reason if isinstance(error, ssl.SSLError) else type(error).__name__
    return ConfigError(
        f"The certificates of {path} cannot be used",
        expected="PEM: a certificate with its private key, or the certificates of authorities",
        got=got or type(error).__name__,
    )
