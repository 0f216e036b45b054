"""Other systems as tests meet them: exams to push, dcmtk's programs, a listener in a process of its own, Orthanc on loopback.

Every identifier is a canary: it must come out nowhere but in the objects themselves.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from mammo_tests.code_streams import HTJ2K, J2K, JPEG_LOSSLESS, JPEG_LS, RLE, htj2k, j2k, jpeg_lossless
from mammo_tests.mammograms import breast
from schemas.config.pacs import PacsConfig
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram
from tasks.adapters.pacs.listening.listener_main import listener_command

TITLE, ROUTER = "MAMMO", "ROUTER"
COMPRESSED = (J2K, JPEG_LOSSLESS, JPEG_LS, HTJ2K, RLE)
"""What devices and archives keep images in that compress them without loss."""

_ENCODERS = {J2K: j2k, JPEG_LOSSLESS: jpeg_lossless, HTJ2K: htj2k}
"""Where pydicom has none of its own."""
VIEWS = tuple((laterality, view) for laterality in Laterality for view in ViewPosition)

needs_dcmtk = pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu (Debian package dcmtk) is not installed")
ORTHANC_IS_THERE = shutil.which("Orthanc") is not None and Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists()


def free_port() -> int:
    """A port that nobody listens at now, out of the range from which kernels give ports to whoever asks for any."""
    while True:
        port = random.randint(12000, 32000)  # noqa: S311  # no secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def write_exam(
    folder: Path, number: int, *, images: int = 1, side_px: int = 64, day: date = date(2021, 5, 4), digits: str = ""
) -> list[Path]:
    """An exam of so many views, with pixels of its own; UIDs begin with 2.25.81 (study), 2.25.82 (series), 2.25.83 (images)."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for index in range(images):
        laterality, view = VIEWS[index % len(VIEWS)]
        path = folder / f"{number}-{index}.dcm"
        header = MammogramHeader(
            patient_id=f"CANARYID{number}", patient_name="CANARYNAME", patient_age_years=60,
            study_instance_uid=f"2.25.81{digits}{number:05}", series_instance_uid=f"2.25.82{digits}{number:05}",
            sop_instance_uid=f"2.25.83{digits}{number:05}{index:02}", accession_number=f"CANARYACC{number}", study_date=day,
            laterality=laterality, view_position=view, pixel_spacing_mm=0.07,
        )  # fmt: skip
        write_mammogram(path, breast(laterality, (side_px, side_px)) + np.uint16((4 * number + index) % 1000), header)
        made.append(path)
    return made


def data_set_bytes(path: Path) -> bytes:
    """What stands behind a file's meta information."""
    content = path.read_bytes()
    meta_length = pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    return content[132 + 12 + meta_length :]


def arrived(inbox_dir: Path) -> list[Path]:
    """Every finished file of an inbox."""
    return sorted(inbox_dir.glob("*/*.dcm"))


def unfinished(inbox_dir: Path) -> list[Path]:
    """Everything else in it."""
    return sorted(path for path in inbox_dir.rglob("*") if path.is_file() and path.suffix != ".dcm" and path.name != "lock")


def storescu(port: int, *files: Path, options: Sequence[str] = (), calling: str = ROUTER, called: str = TITLE) -> int:
    """Pushes files as dcmtk does; its exit code."""
    command = ["storescu", *options, "-aet", calling, "-aec", called, "127.0.0.1", str(port), *map(str, files)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode


def pacs_config(
    port: int, *, listen: dict[str, Any] | None = None, archive: Orthanc | None = None, **changes: Any
) -> PacsConfig:
    """Us, with a router that may push, and a PACS by both of its protocols if there is one."""
    peers: dict[str, dict[str, Any]] = {
        "router": {"kind": "dimse", "ae_title": ROUTER, "host": "127.0.0.1", "port": free_port()}
    }
    if archive is not None:
        peers["dimse"] = {"kind": "dimse", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.dicom_port}
        peers["web"] = {"kind": "dicomweb", "url": archive.url}
    content = {"ae_title": TITLE, "listen": {"port": port, "least_free_gib": 0.01, **(listen or {})}, "peers": peers}
    return PacsConfig.model_validate(content | changes)


@dataclass
class ListenerProcess:
    """A listener, in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    inbox_dir: Path
    log_path: Path

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """As ``mammo serve`` does."""
        self.process.terminate()
        self.process.wait(timeout=60)


def start_listener(pacs: PacsConfig, inbox_dir: Path, home: Path) -> ListenerProcess:
    """It listens when this returns."""
    assert pacs.listen is not None
    home.mkdir(parents=True, exist_ok=True)
    log_path = home / "listener.log"
    with log_path.open("a") as log:
        process = subprocess.Popen(
            listener_command(pacs, inbox_dir, home), stdout=subprocess.PIPE, stderr=log, text=True, stdin=subprocess.DEVNULL
        )
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said, log_path.read_text()
    assert json.loads(said) == {"listening": pacs.listen.port}
    return ListenerProcess(process, pacs.listen.port, inbox_dir, log_path)


@contextmanager
def listening(pacs: PacsConfig, inbox_dir: Path, home: Path) -> Iterator[ListenerProcess]:
    """A listener that ends with the block."""
    listener = start_listener(pacs, inbox_dir, home)
    try:
        yield listener
    finally:
        listener.end()


@dataclass
class Orthanc:
    """A PACS on loopback, with a folder of its own."""

    home: Path
    http_port: int
    dicom_port: int
    listener_port: int
    settings: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Root of its DICOMweb services."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def start(self) -> None:
        """It answers when this returns."""
        path = self.home / "orthanc.json"
        path.write_text(json.dumps(self.settings))
        with (self.home / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(["Orthanc", str(path)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        started = self.process
        name = self.settings["Name"]  # somebody else's may have taken the port meanwhile
        assert until(lambda: started.poll() is not None or (self.ask("/system") or {}).get("Name") == name)
        assert started.poll() is None, (self.home / "orthanc.log").read_text()[-2000:]

    def end(self) -> None:
        """By its pid; a second one on its folder fails until the first is gone."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def kill(self) -> None:
        """In mid-transfer."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ask(self, path: str, content: bytes | None = None, *, method: str | None = None) -> Any:
        """What its own interface answers; None if it does not."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", content, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except (urllib.error.URLError, OSError):
            return None

    def take(self, *files: Path) -> None:
        """Objects that it has from now on."""
        for file in files:
            assert self.ask("/instances", file.read_bytes()) is not None, file

    def forget_all(self) -> None:
        """An empty PACS again."""
        for patient in self.ask("/patients"):
            self.ask(f"/patients/{patient}", method="DELETE")


@contextmanager
def orthanc(home: Path, *, listener_port: int = 0, **settings: Any) -> Iterator[Orthanc]:
    """A running PACS. It takes everything from everybody on loopback, and knows our listener as the modality ``mammo``."""
    if not ORTHANC_IS_THERE:
        pytest.skip("Orthanc with DICOMweb (Debian packages orthanc, orthanc-dicomweb) is not installed")
    home.mkdir(parents=True, exist_ok=True)
    http_port, dicom_port, listener_port = free_port(), free_port(), listener_port or free_port()
    content = {
        "Name": str(home), "StorageDirectory": str(home / "db"), "IndexDirectory": str(home / "db"), "HttpPort": http_port,
        "DicomPort": dicom_port, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomCheckCalledAet": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True,
        "HttpCompressionEnabled": False, "StorageCompression": False, "SynchronousCMove": True, "DicomScuTimeout": 120,
        "DicomModalities": {"mammo": [TITLE, "127.0.0.1", listener_port]}, "DicomWeb": {"Enable": True},
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"], **settings,
    }  # fmt: skip
    server = Orthanc(home, http_port, dicom_port, listener_port, content)
    try:
        server.start()
        yield server
    finally:
        server.end()


def until(is_so: Callable[[], bool], *, seconds: float = 300.0) -> bool:
    """Waits for something that another process does."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if is_so():
            return True
        time.sleep(0.05)
    return False


def push_as_stored(port: int, *files: Path, calling: str = ROUTER, called: str = TITLE, **options: Any) -> list[int]:
    """Pushes files with the bytes and the transfer syntax that they have; the statuses, -1 where there was no answer."""
    from pynetdicom import AE, _config

    ae = AE(calling)
    metas = [pydicom.filereader.read_file_meta_info(file) for file in files]
    for sop_class, syntax in {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}:
        ae.add_requested_context(sop_class, syntax)
    made = ae.associate("127.0.0.1", port, ae_title=called, **options)
    if not made.is_established:
        return []
    before, _config.STORE_SEND_CHUNKED_DATASET = _config.STORE_SEND_CHUNKED_DATASET, True
    try:
        answers = [made.send_c_store(file) for file in files]
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = before
    made.release()
    return [int(answer.Status) if answer else -1 for answer in answers]


def rewritten(path: Path, target: Path, syntax: str, edit: Callable[[pydicom.Dataset], object] = lambda _: None) -> Path:
    """A copy in another transfer syntax, changed by ``edit``."""
    dataset = pydicom.dcmread(path)
    uid = pydicom.uid.UID(syntax)
    if uid in _ENCODERS:
        dataset.PixelData = pydicom.encaps.encapsulate([_ENCODERS[uid](dataset.pixel_array)])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = uid
    elif uid.is_compressed:
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = uid
    if not uid.is_little_endian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    edit(dataset)
    pydicom.dcmwrite(
        target,
        dataset,
        implicit_vr=uid.is_implicit_VR,
        little_endian=uid.is_little_endian,
        force_encoding=True,
    )
    return target


def is_root() -> bool:
    """Some faults, such as a full disk, can be made by root only."""
    return os.geteuid() == 0
