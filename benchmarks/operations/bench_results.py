"""Results of an exam of four views of 4096 x 3328 pixels: CPU and memory of making them, seconds of sending and proving them.

    PYTHONPATH=.:tests/support python benchmarks/operations/bench_results.py

Each kind of object is made in a process of its own, whose peak memory is the largest that it had. The PACS is Orthanc on
loopback, without which nothing is sent. Saliency is noise, the worst that run lengths can get.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom

from gmic_model.preprocess import PreparedView
from mammo_tests.results import MAKER, VIEWS, read_header, view_result, write_view
from schemas.config.pacs import DicomWebPeer, DimsePeer, PacsConfig, ResultKind
from schemas.exam import Laterality, ViewGeometry, ViewPosition
from tasks.adapters.results.delivery import Target
from tasks.adapters.results.exam_result import ViewResult
from tasks.adapters.results.objects.result_objects import ResultObject, result_objects

SHAPE_PX, CROP_PX = (4096, 3328), (3000, 1500)


def main() -> None:
    """Prints a line for each kind, and one for each way of sending."""
    from mammo_tests.other_systems import free_port, orthanc  # late: what measures memory does without
    from tasks.adapters.pacs.web import web_client
    from tasks.adapters.results.dimse_target import DimseTarget
    from tasks.adapters.results.web_target import WebTarget

    for kind in ResultKind:
        command = [sys.executable, __file__, kind.value]
        said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
        print(f"{kind.value:13} {said['cpu_s']:6.2f} s CPU  {said['mb']:6.1f} MB  peak {said['peak_mb']:4.0f} MB")
    objects = exam_objects(tuple(ResultKind))
    print(f"{len(objects)} objects, {sum(len(made.content) for made in objects) / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as folder, orthanc(Path(folder), listener_port=free_port()) as server:
        web = DicomWebPeer(kind="dicomweb", url=server.url)
        with web_client(PacsConfig(peers={"archive": web}), web) as client:
            timed("STOW-RS, each object read back", WebTarget(client), objects)
        server.forget_all()
        store = DimsePeer(kind="dimse", ae_title="ORTHANC", host="127.0.0.1", port=server.dicom_port)
        timed("C-STORE", DimseTarget(PacsConfig(peers={"store": store}), store, None), objects)


def timed(way: str, target: Target, objects: list[ResultObject]) -> None:
    """Sends and proves all of them."""
    started = time.perf_counter()
    for made in objects:
        target.store(made)
        target.prove(made)
    print(f"{way}: {time.perf_counter() - started:.2f} s")


def exam_objects(kinds: tuple[ResultKind, ...]) -> list[ResultObject]:
    """Of four views."""
    headers, views = [], []
    for laterality, view in VIEWS:
        headers.append(header_of(laterality, view))
        views.append(result_of(laterality, view))
    return list(result_objects(headers, views, MAKER, kinds=kinds, cad_at_least=0.5))


def header_of(laterality: Laterality, view: ViewPosition) -> pydicom.Dataset:
    """As a PACS would answer it."""
    with tempfile.TemporaryDirectory() as folder:
        header = read_header(write_view(Path(folder) / "source.dcm", laterality, view))
    header.Rows, header.Columns = SHAPE_PX
    return header


def result_of(laterality: Laterality, view: ViewPosition) -> ViewResult:
    """Noise over a breast of the usual size."""
    is_right = laterality is Laterality.RIGHT
    left = SHAPE_PX[1] - CROP_PX[1] if is_right else 0
    geometry = ViewGeometry(
        source_shape_px=SHAPE_PX, crop_box_px=(500, 500 + CROP_PX[0], left, left + CROP_PX[1]), is_flipped=is_right, scale=1.0,
        best_center_px=(CROP_PX[0] // 2, CROP_PX[1] // 2), window_px=(2944, 1920), view_position=view,
    )  # fmt: skip
    prepared = PreparedView(pixels_HW=np.full(CROP_PX, 2000, np.uint16), geometry=geometry, tissue_fraction=0.3)
    made = view_result(laterality, view, prepared)
    noise_CIJ = np.random.default_rng(0).random((2, 46, 30)).astype(np.float32) ** 4
    made.saliency_CIJ.resize(noise_CIJ.shape, refcheck=False)
    made.saliency_CIJ[:] = noise_CIJ
    return made


def measure(kind: ResultKind) -> None:
    """In a process of its own, for ``main``."""
    started, size = time.process_time(), 0
    headers, views = [header_of(*one) for one in VIEWS], [result_of(*one) for one in VIEWS]
    for made in result_objects(headers, views, MAKER, kinds=(kind,), cad_at_least=0.5):
        size += len(made.content)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": time.process_time() - started, "mb": size / 1e6, "peak_mb": peak_mb}))


if __name__ == "__main__":
    measure(ResultKind(sys.argv[1])) if len(sys.argv) > 1 else main()
