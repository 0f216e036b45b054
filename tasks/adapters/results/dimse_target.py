"""A peer that speaks DICOM's own protocol as the place where results go: C-STORE, and its word that it keeps them."""

from __future__ import annotations

from collections.abc import Collection

from schemas.config.pacs import CommitmentConfig, DimsePeer, PacsConfig
from tasks.adapters.pacs.outgoing import NotTaken, committed, push
from tasks.adapters.results.delivery import NotStored
from tasks.adapters.results.objects.result_objects import ResultObject


class DimseTarget:
    """Sends to one peer.

    Args:
        pacs: Who we are: our title is the one that results are sent under.
        peer: It.
        commitment: Where the peer's word comes to; None = its Success is believed.
    """

    def __init__(self, pacs: PacsConfig, peer: DimsePeer, commitment: CommitmentConfig | None) -> None:
        self._pacs, self._peer, self._commitment = pacs, peer, commitment

    def held(self, study_uid: str) -> set[str]:
        """Nothing is asked: what is there already is sent again under its own UID, which changes nothing."""
        return set()

    def store(self, made: ResultObject) -> None:
        """Sends one object.

        Raises:
            NotStored: The peer refuses it, or its kind.
            PeerUnavailable: It cannot be reached, or breaks off.
            PeerRefused: It does not accept us.
        """
        try:
            push(self._pacs, self._peer, made.content)
        except NotTaken as refused:
            raise NotStored(f"{made.kind.value}: {refused}") from refused

    def prove(self, made: ResultObject) -> str:
        """By its Success; its word is asked for all of a study's objects at once."""
        return "success"

    def lost(self, objects: Collection[tuple[str, str]]) -> set[str]:
        """Of objects (class, UID) those that the peer does not commit to keep; none if it is not asked.

        Raises:
            PeerUnavailable: Its word did not come.
        """
        if self._commitment is None or not objects:
            return set()
        return {uid for _, uid in objects} - committed(self._pacs, self._peer, self._commitment, objects)
