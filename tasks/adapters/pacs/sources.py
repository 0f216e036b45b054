"""A peer as a source of exams, whichever protocol it speaks: is it there, what has it, give it to us."""

from __future__ import annotations

from schemas.config.pacs import DicomWebPeer, PacsConfig, Peer
from tasks.adapters.pacs.peers import require_extra


def reach(pacs: PacsConfig, peer: Peer) -> None:
    """Asks whether a peer answers and accepts us: C-ECHO, or a question to which the answer is "none".

    Raises:
        PeerUnavailable: It does not answer.
        PeerRefused: It does not accept us.
        ConfigError: Files that the config names for it cannot be used, or the extra is not installed.
    """
    if isinstance(peer, DicomWebPeer):
        from tasks.adapters.pacs.web import ask, web_client  # late, as is the other: most runs need neither

        with web_client(pacs, peer) as client:
            ask(client, "/studies", {"StudyDate": "18950101"})
    else:
        require_extra()
        from tasks.adapters.pacs.dimse import echo

        echo(pacs, peer)
