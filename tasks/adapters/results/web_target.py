"""A DICOMweb server as the place where results go: what it has of them, STOW-RS, and what it gives back."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from tasks.adapters.pacs.encoded_object import Incomplete
from tasks.adapters.pacs.sources import Cut, NotThere
from tasks.adapters.pacs.web import Client, ask, copy_object, send_object
from tasks.adapters.results.delivery import DUPLICATE, NotStored
from tasks.adapters.results.objects.result_objects import ResultObject

_SOP_UID, _REFERENCED, _FAILED, _REASON = "00080018", "00081155", "00081198", "00081197"
_STORED: Final = "00081199"
_MAYBE_THE_SYNTAX: Final = frozenset({0x0110, 0xC122, *range(0xA900, 0xAA00), *range(0xC000, 0xC100)})
"""PS3.18 table 10.5.3-1 has C122 for it; many servers say that processing failed, or that they do not understand the object."""
_MAYBE_THE_MEDIUM: Final = (406, 415)
_LONGEST_ANSWER_S: Final = 60.0


class _MaybeItsSyntax(NotStored):
    """Refused for what may be the transfer syntax."""


class WebTarget:
    """Sends to one server over connections that are open."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def held(self, study_uid: str) -> set[str]:
        """SOPInstanceUIDs of a study. A server may cut its answer: what is not named is sent again, which changes nothing."""
        matches: Iterable[Any]
        try:
            matches = ask(self._client, f"/studies/{study_uid}/instances", {})
        except NotThere:
            return set()
        except Cut as cut:
            matches = cut.answered
        return {str(_value(match, _SOP_UID)) for match in matches}

    def store(self, made: ResultObject) -> None:
        """Sends one object: as it is, and uncompressed to a server that refuses it for what may be its transfer syntax.

        Raises:
            NotStored: The server names it among what failed, or does not name it at all.
            PeerUnavailable: It cannot take anything now.
            PeerRefused: It does not accept us.
        """
        try:
            self._send(made, made.content)
        except _MaybeItsSyntax:
            plain = made.uncompressed()
            if plain is None:
                raise
            try:
                self._send(made, plain)
            except _MaybeItsSyntax as refused:
                raise NotStored(
                    f"Sent as it is and uncompressed: {refused}".rstrip("."),
                    remedy="have Explicit VR Little Endian taken there, or leave the kind out of pacs.results.kinds",
                ) from refused

    def _send(self, made: ResultObject, content: bytes) -> None:
        status, answer = send_object(self._client, f"/studies/{made.study_uid}", content)
        said = _said(answer)
        for failure in _items(said, _FAILED):
            if _value(failure, _REFERENCED) == made.uid:
                reason = _value(failure, _REASON)
                if reason == DUPLICATE:
                    return  # it is read back all the same
                kind = _MaybeItsSyntax if reason in _MAYBE_THE_SYNTAX else NotStored
                raise kind("The server did not store an object", got=f"{made.kind.value}, failure {_hexadecimal(reason)}")
        if made.uid not in {_value(one, _REFERENCED) for one in _items(said, _STORED)}:
            kind = _MaybeItsSyntax if status in _MAYBE_THE_MEDIUM else NotStored
            raise kind("The server does not say that it stored an object", got=f"{made.kind.value}, HTTP status {status}")

    def prove(self, made: ResultObject) -> str:
        """Reads an object back: "stored" is no proof, for another content under a known UID is answered so and dropped.

        Raises:
            NotStored: The server gives back nothing, or something else.
            PeerUnavailable: It cannot be asked now.
        """
        series_uid = made.dataset.SeriesInstanceUID
        path = f"/studies/{made.study_uid}/series/{series_uid}/instances/{made.uid}"
        with io.BytesIO() as content:
            try:
                copy_object(self._client, path, content.write, longest_s=_LONGEST_ANSWER_S)
            except (Incomplete, NotThere) as broken:
                raise NotStored("The server does not give an object back", got=made.kind.value) from broken
            if not made.is_in(content.getvalue()):
                raise NotStored("The server gives back something else than an object that was sent", got=made.kind.value)
        return "read back"

    def lost(self, objects: Collection[tuple[str, str]]) -> set[str]:
        """None: each was read back."""
        return set()


def _said(answer: object) -> Mapping[str, Any]:
    if isinstance(answer, list):  # some servers put it into a list
        answer = answer[0] if answer else None
    return answer if isinstance(answer, dict) else {}


def _items(said: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    return [item for item in _values(said, tag) if isinstance(item, Mapping)]


def _value(item: Mapping[str, Any], tag: str) -> Any:
    return next(iter(_values(item, tag)), None)


def _values(item: Mapping[str, Any], tag: str) -> list[Any]:
    attribute = item.get(tag)
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    return values if isinstance(values, list) else []


def _hexadecimal(reason: object) -> str:
    return f"{reason:#06x}" if isinstance(reason, int) else "without a reason"
