"""The two largest tables of public sets, made up at their real size, read, joined and written by ``mammo dataset``.

    python -m benchmarks.ingest.bench_data_sets [--scale 1]

RSNA 2022 has 54,706 rows, EMBED 480,323 files and 81,776 findings. Tables alone: no image is there, so this is what a
conversion takes before it looks at a file. Prints seconds and largest memory, each set in a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tasks.adapters.datasets.catalogue import DATA_SETS
from tasks.adapters.datasets.conversion.convert import convert, policies_of

_VIEWS = [(side, view) for side in "LR" for view in ("CC", "MLO")]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def rsna_2022(root: Path, images: int) -> None:
    """Four views a patient, one in fifty breasts with a cancer."""
    columns = (
        "site_id", "patient_id", "image_id", "laterality", "view", "age", "cancer", "biopsy", "invasive", "BIRADS", "implant",
        "density", "machine_id", "difficult_negative_case",
    )  # fmt: skip
    _write(
        root / "train.csv",
        columns,
        (
            (1 + n % 2, n // 4, 10_000 + n, side, view, 60.0, int(n % 50 == 0), int(n % 50 == 0), 0, 0.0, 0, "B", 49, False)
            for n in range(images)
            for side, view in (_VIEWS[n % 4],)
        ),
    )


def embed(root: Path, files: int) -> None:
    """Twenty files an exam, one finding to about six files, every tenth exam diagnostic; a box on every 60th file."""

    def exam_of(n: int) -> tuple[int, int, str]:
        exam = n // 20
        desc = "MG Diagnostic Left" if exam % 10 == 9 else "MG Screening Bilateral"
        return 10_000_000 + exam // 3, 1_000_000_000_000_000 + 7 * exam, desc

    columns = (
        "anon_dicom_path", "empi_anon", "acc_anon", "study_date_anon", "StudyDescription", "FinalImageType",
        "ImageLateralityFinal", "ViewPosition", "spot_mag", "num_roi", "ROI_coords", "match_level", "PatientOrientation",
        "Columns",
    )  # fmt: skip
    _write(
        root / "tables" / "EMBED_OpenData_metadata.csv",
        columns,
        (
            (
                f"/mnt/a/cohort_1/{patient}/1.2.{acc}/1.3.{n}/1.2.840.113654.{n}.dcm", patient, acc, "2015-02-22", desc,
                "2D" if n % 2 else "cview", side, view, "", int(n % 60 == 1), "((10, 20, 30, 40),)" if n % 60 == 1 else "()",
                "", "['P', 'L']" if side == "R" else "['A', 'R']", 3328,
            )
            for n in range(files)
            for (patient, acc, desc), (side, view) in ((exam_of(n), _VIEWS[n // 2 % 4]),)
        ),
    )  # fmt: skip
    header = (
        "empi_anon", "acc_anon", "study_date_anon", "desc", "tissueden", "asses", "side", "bside", "path_severity", "massshape",
    )  # fmt: skip
    _write(
        root / "tables" / "EMBED_OpenData_clinical.csv",
        header,
        (
            (patient, acc, "2015-02-22", desc, 2.0, "NABN"[n % 4], "LR"[n % 2], "", 0.0 if n % 97 == 0 else "", "")
            for n in range(files * 81_776 // 480_323)
            for patient, acc, desc in (exam_of(n * 480_323 // 81_776),)
        ),
    )


MAKERS = {"rsna-2022": (rsna_2022, 54_706), "embed": (embed, 480_323)}


def measure(name: str, scale: float) -> None:
    """Makes the tables, converts them, and prints what it took."""
    make, rows = MAKERS[name]
    data_set = DATA_SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        make(root, int(rows * scale))
        start_s = time.perf_counter()
        policies = policies_of(data_set.facts, ())
        done = convert(data_set, root, Path(folder) / "out", policies=policies, is_partial=True)
        took_s = time.perf_counter() - start_s
    memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(
        f"{name:10} {int(rows * scale):8,} rows {took_s:6.1f} s {memory_gib:5.2f} GiB, {done.content['not_downloaded']} images"
    )


def main() -> None:
    """One process a set, so that each has its own largest memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    for name in MAKERS:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(name, arguments.scale))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
