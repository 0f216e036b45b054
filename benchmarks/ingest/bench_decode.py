"""Goal G1: our decoding against pydicom's default with the plug-ins that are installed, in turns, pixels compared.

    taskset -c 0 env OMP_NUM_THREADS=1 python -m benchmarks.ingest.bench_decode [--exams 1] [--rounds 5] [--image MAMMOGRAM.dcm]

pydicom tries its plug-ins in its own order, python-gdcm first where it is installed. The project does not depend on python-gdcm
nor on pylibjpeg-libjpeg (GPL); the goals were set with python-gdcm, so install it (and pylibjpeg, which the pylibjpeg-*
plug-ins need) for a fair comparison: `pip install --target X --no-deps python-gdcm pylibjpeg`, then run with PYTHONPATH=X. The
table names the plug-in that pydicom took. Images are phantoms, or the pixels of a given file. Prints CPU milliseconds per
image, medians, and the ratio of the fastest runs.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder

from benchmarks.ingest.phantom_dicoms import write_image, write_phantom_dicoms
from tasks.adapters.dicom import dicom_file
from tasks.adapters.dicom.dicom_file import read_pixels

GOALS = {"JPEG lossless": 3.0, "JPEG-LS": 2.3, "HTJ2K": 3.0, "JPEG 2000": 1.2}


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU milliseconds of one call."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return 1e3 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def default_pixels(path: Path, plugin: str) -> NDArray[np.uint16]:
    """As pydicom does it: read, decode to an array. ``plugin`` "" = native."""
    dataset = pydicom.dcmread(path)
    if plugin:
        dataset.pixel_array_options(decoding_plugin=plugin)
    return np.asarray(dataset.pixel_array)


def default_plugin(path: Path) -> str:
    """The plug-in that pydicom takes when nobody names one; ours, which it would also find, left out."""
    syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return ""
    names = [name for name in get_decoder(syntax).available_plugins if name != "imagecodecs"]
    return next((name for name in names if _decodes(path, name)), "none")


def _decodes(path: Path, plugin: str) -> bool:
    try:
        default_pixels(path, plugin)
    except Exception:  # pydicom goes on to the next one whatever it raises
        return False
    return True


def is_ours_used(path: Path) -> bool:
    """True if reading goes through imagecodecs."""
    calls = []
    original = dicom_file.read_frame

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(1)
        return original(*args, **kwargs)  # type: ignore[arg-type]

    dicom_file.read_frame = counted  # type: ignore[assignment]
    try:
        read_pixels(path)
    finally:
        dicom_file.read_frame = original
    return bool(calls)


def compare(syntax: str, paths: list[Path], rounds: int) -> None:
    """Print one line."""
    plugin = default_plugin(paths[0])
    ours_ms, default_ms = [], []
    for path in paths:
        if plugin != "none":
            np.testing.assert_array_equal(read_pixels(path), default_pixels(path, plugin))
    for _ in range(rounds):
        for path in paths:
            ours_ms.append(cpu_ms(partial(read_pixels, path)))
            default_ms.append(cpu_ms(partial(default_pixels, path, plugin)) if plugin != "none" else float("nan"))
    megabytes = statistics.mean(path.stat().st_size for path in paths) / 1e6
    goal = f"{GOALS[syntax]:.1f}" if syntax in GOALS else "-"
    through = "imagecodecs" if plugin and is_ours_used(paths[0]) else "numpy" if not plugin else "ANOTHER DECODER"
    ours, default = statistics.median(ours_ms), statistics.median(default_ms)
    print(
        f"{syntax:14s} {megabytes:8.2f} {ours:8.1f} {default:9.1f} {min(default_ms) / min(ours_ms):6.2f} {goal:>5s}  "
        f"{plugin or 'native'}, {through}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exams", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:  # memory, not disk
        if options.image:
            files = write_image(Path(name), read_pixels(options.image), "image")
        else:
            files = write_phantom_dicoms(Path(name), exams=options.exams)
        print(f"{'syntax':14s} {'file MB':>8s} {'ours':>8s} {'default':>9s} {'ratio':>6s} {'goal':>5s}  default, ours through")
        for syntax, paths in files.items():
            compare(syntax, paths, options.rounds)


if __name__ == "__main__":
    main()
