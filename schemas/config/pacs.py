"""Types of what stands between us and a PACS: who we are, who may push to us, whom we ask, what we want, what we return."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from schemas.config.section import Config

AETitle = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
"""Application entity title: at most sixteen characters, no backslash, no blank at an end (PS3.5 6.2)."""

Port = Annotated[int, Field(ge=1, le=65535)]
PeerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


def _is_network(text: str) -> str:
    ip_network(text, strict=False)
    return text


Network = Annotated[str, AfterValidator(_is_network)]
"""An address, or a network as 10.0.0.0/24."""


class TlsFiles(Config):
    """Who we are and whom we believe, in PEM files."""

    certificate: Path = Field(description="Our certificate, and those between it and its authority")
    key: Path = Field(description="0600 file with the certificate's private key, without a passphrase")
    authorities: Path = Field(description="Certificates of the authorities whose peers are believed")


class PeerLimits(Config):
    """How much is asked of a peer at a time: another system's server has other work."""

    timeout_s: PositiveFloat = Field(30.0, description="Without a byte for this long, the peer counts as gone")
    in_flight: PositiveInt = Field(4, le=32, description="Requests or associations at the same time")
    per_second: PositiveFloat | None = Field(
        None, description="Images asked for or sent in a second, at most; null = any number"
    )
    attempts: PositiveInt = Field(4, description="Tries of one request before it is left to the next run")


class DicomWebPeer(PeerLimits):
    """A PACS that is asked over HTTP: QIDO-RS, WADO-RS, STOW-RS."""

    kind: Literal["dicomweb"] = Field(description="A PACS that is asked over HTTP: QIDO-RS, WADO-RS, STOW-RS")
    url: str = Field(
        pattern=r"^https?://[^\s@?#]+$", description="Root of its services, as https://pacs/dicom-web; no password"
    )
    credentials_file: Path | None = Field(
        None, description="0600 file with one line: user:password, or Bearer and a token; null = none are asked for"
    )
    authorities: Path | None = Field(None, description="PEM file of the authorities to believe; null = those of this machine")
    uses_certificate: bool = Field(False, description="Show the certificate of pacs.tls to the server")
    has_commitment: Literal[False] = Field(False, description="Storage commitment is DIMSE's: a peer of kind dimse has it")


class DimsePeer(PeerLimits):
    """A PACS, router or device that speaks DICOM's own protocol."""

    kind: Literal["dimse"] = Field(description="A PACS, router or device that speaks DICOM's own protocol")
    ae_title: AETitle = Field(description="Its application entity title")
    host: str = Field(description="Its address")
    port: Port = Field(104, description="Its port")
    calls_from: tuple[Network, ...] = Field(
        (), description="Addresses or networks (10.0.0.0/24) it pushes from; empty = its host"
    )
    may_push: bool = Field(True, description="The listener takes exams from it")
    uses_tls: bool = Field(False, description="Associations to it are encrypted, with the files of pacs.tls")
    retrieve: Literal["get", "move"] = Field("get", description="How exams are fetched: C-GET, or C-MOVE to our listener")
    has_commitment: bool = Field(False, description="It answers storage commitment: asked with pacs.results.commitment")


Peer = Annotated[DicomWebPeer | DimsePeer, Field(discriminator="kind")]


class ListenConfig(Config):
    """The listener: whoever is a peer of kind dimse, and may push, sends exams into ingest.source_dir."""

    host: str = Field("127.0.0.1", description="Address it listens at; 0.0.0.0 = every address of this machine")
    port: Port = Field(11112, description="Port it listens at")
    uses_tls: bool = Field(False, description="Only encrypted associations of peers whose certificate is believed (pacs.tls)")
    associations: PositiveInt = Field(8, le=100, description="Associations at the same time; one more is refused")
    largest_object_mib: PositiveInt = Field(1024, description="An object that is larger is refused (A700)")
    least_free_gib: float = Field(2.0, ge=0, description="With less room on the inbox's disk every object is refused (A700)")
    largest_inbox_gib: PositiveFloat | None = Field(
        None,
        description="With more than this in ingest.source_dir every object is refused (A700); null = the disk is the limit",
    )
    silence_s: PositiveFloat = Field(60.0, description="An association that says nothing for this long is ended")


class ResultKind(StrEnum):
    """A kind of object that a predicted exam is told by."""

    SALIENCY = "saliency"
    """Segmentation, FRACTIONAL PROBABILITY: the exact maps, for programs."""
    LEVELS = "levels"
    """Segmentation, FRACTIONAL OCCUPANCY: where the maps reach a level, for viewers."""
    PICTURE = "picture"
    """Secondary Capture of a view with saliency, patches and scores: every viewer shows it."""
    PRESENTATION = "presentation"
    """Grayscale Softcopy Presentation State: patches over the original, for workstations."""
    PANEL = "panel"
    """The exam's views in one Secondary Capture, and a Key Object Selection that names it."""
    MEASUREMENTS = "measurements"
    """Comprehensive SR, TID 1500: probabilities of each breast, and the ROI patches."""
    CAD = "cad"
    """Mammography CAD SR, TID 4000, where a workstation wants that."""


class CommitmentConfig(Config):
    """Where a peer's answers about storage commitment come to; it knows the title of pacs.results at this port."""

    host: str = Field("127.0.0.1", description="Address of this machine at which they are awaited; 0.0.0.0 = every one")
    port: Port = Field(description="Port at which they are awaited: not the listener's")
    wait_s: PositiveFloat = Field(60.0, description="How long an answer is awaited")


class ResultsConfig(Config):
    """What goes back of each predicted exam, and to whom."""

    peer: PeerName = Field(description="Name of one of pacs.peers: results are sent there, into the exam's own study")
    sources: PeerName | None = Field(
        None,
        description="Another peer that is asked whose an exam is: by QIDO-RS, or by C-FIND and C-GET; null = peer",
    )
    ae_title: AETitle = Field("MAMMO_OUT", description="Our title when results are sent to a peer of kind dimse")
    commitment: CommitmentConfig | None = Field(
        None,
        description="Where the answers about storage commitment come to of a peer of kind dimse with has_commitment; null, or "
        "another peer = it is not asked, and its Success is believed",
    )
    kinds: tuple[ResultKind, ...] = Field(
        (
            ResultKind.SALIENCY,
            ResultKind.LEVELS,
            ResultKind.PICTURE,
            ResultKind.PRESENTATION,
            ResultKind.PANEL,
            ResultKind.MEASUREMENTS,
        ),
        min_length=1,
        description="Objects that are made of each exam; cad (TID 4000) where a workstation wants it",
    )
    cad_at_least: float = Field(
        0.5, ge=0, le=1, description="In the CAD report, a view whose malignant score is at least this has a finding"
    )
    search_days: PositiveInt = Field(
        30, description="An exam whose date is not known is looked for among those of so many last days"
    )
    attempts: PositiveInt = Field(12, description="Runs that try an exam, each after twice the time, before it is given up")


class PacsConfig(Config):
    """What stands between us and a PACS."""

    ae_title: AETitle = Field("MAMMO", description="Our application entity title, calling and called")
    tls: TlsFiles | None = Field(None, description="Files for encrypted associations and for HTTP with a client certificate")
    listen: ListenConfig | None = Field(None, description="Take exams that peers push; null = nobody can push")
    peers: dict[PeerName, Peer] = Field({}, description="Other systems by the name that this config gives them")
    results: ResultsConfig | None = Field(None, description="Send results of predicted exams back; null = nothing goes out")

    @model_validator(mode="after")
    def _whoever_encrypts_has_files(self) -> PacsConfig:
        wanting = [f"peers.{name}" for name, peer in self.peers.items() if _needs_files(peer)]
        if self.listen is not None and self.listen.uses_tls:
            wanting.append("listen")
        if wanting and self.tls is None:
            raise ValueError(f"{' and '.join(wanting)} need tls: certificate, key and authorities")
        return self

    @model_validator(mode="after")
    def _results_go_to_a_peer(self) -> PacsConfig:
        if self.results is not None and self.results.peer not in self.peers:
            raise ValueError(f"results.peer {self.results.peer} is none of peers: {', '.join(self.peers) or 'there is none'}")
        source = self.peers.get(self.source_peer)
        if self.results is not None and source is None:
            raise ValueError(f"results.sources {self.source_peer} is none of peers: {', '.join(self.peers)}")
        if isinstance(source, DimsePeer) and source.retrieve == "move":
            raise ValueError(
                "results.sources must name a peer of kind dicomweb, or of kind dimse with retrieve: get: "
                "whose an exam is is read from its images, and C-MOVE would send these into the inbox"
            )
        return self

    @model_validator(mode="after")
    def _a_port_is_of_one_who_listens(self) -> PacsConfig:
        answers = None if self.results is None else self.results.commitment
        if self.listen is not None and answers is not None and self.listen.port == answers.port:
            raise ValueError(
                f"listen.port and results.commitment.port are both {answers.port}: the listener would have the port "
                "at which answers about storage commitment are awaited"
            )
        return self

    @property
    def source_peer(self) -> str:
        """Who is asked for the exams that results are returned to; "" = nothing is returned."""
        return "" if self.results is None else self.results.sources or self.results.peer

    @model_validator(mode="after")
    def _a_title_is_of_one_peer(self) -> PacsConfig:
        titles = [peer.ae_title for peer in self.peers.values() if isinstance(peer, DimsePeer)]
        doubled = sorted({title for title in titles if titles.count(title) > 1})
        if doubled:
            raise ValueError(f"two peers have the AE title {doubled[0]}: who calls could not be told from its title")
        return self


def _needs_files(peer: Peer) -> bool:
    return peer.uses_certificate if isinstance(peer, DicomWebPeer) else peer.uses_tls


class SourceConfig(Config):
    """Exams that ingest fetches from a peer into its source folder before it looks into it."""

    peer: PeerName = Field(description="Name of one of pacs.peers")
    last_days: NonNegativeInt | None = Field(
        None, description="Exams of today and of so many days before are asked for, at every run: late images come too"
    )
    since: date | None = Field(None, description="Instead: exams from this day on")
    until: date | None = Field(None, description="With since: the last day of exams; null = today")
    worklist: Path | None = Field(
        None,
        description="Instead: CSV with a column accession_number or study_instance_uid; these exams, of whatever day",
    )

    @model_validator(mode="after")
    def _exams_are_said_once(self) -> SourceConfig:
        said = [name for name in ("last_days", "since", "worklist") if getattr(self, name) is not None]
        if len(said) != 1:
            raise ValueError(f"say by one of last_days, since and worklist which exams, not by {' and '.join(said) or 'none'}")
        if self.until is not None and (self.since is None or self.until < self.since):
            raise ValueError("until is the end of what since begins")
        return self
