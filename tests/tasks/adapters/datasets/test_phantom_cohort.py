"""The phantom cohort on disk: files, labels and masks that agree, the same bytes each time, and a run that goes on."""

from __future__ import annotations

import csv
import hashlib
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.config.ingest import PhantomConfig
from schemas.errors import ConfigError
from schemas.exam import Laterality
from tasks.adapters.datasets.phantom_cohort import LABEL_COLUMNS, plan_cohort, write_cohort
from tasks.adapters.dicom.dicom_file import read_header, read_pixels

SIZE_PX = (384, 288)


def _config(output_dir: Path, **changes: object) -> PhantomConfig:
    values = {"patients": 3, "image_size_px": SIZE_PX, "malignant_fraction": 0.5, "benign_fraction": 0.5, "seed": 4}
    return PhantomConfig(**{"output_dir": output_dir, **values, **changes})


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def cohort_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished cohort of three patients."""
    output_dir = tmp_path_factory.mktemp("cohort")
    write_cohort(_config(output_dir))
    return output_dir


def test_same_config_gives_same_bytes_in_another_folder(cohort_dir: Path, tmp_path: Path) -> None:
    """Two runs of one config differ in no byte, file name or label."""
    write_cohort(_config(tmp_path))
    assert _digests(tmp_path) == _digests(cohort_dir)


def test_another_seed_gives_other_images_and_uids(cohort_dir: Path, tmp_path: Path) -> None:
    """Cohorts of two seeds share neither folders nor masks, so they can be pooled."""
    write_cohort(_config(tmp_path, seed=5))
    here, there = _digests(tmp_path), _digests(cohort_dir)
    assert not {name for name in here if name.endswith((".dcm", ".png"))} & set(there)


def test_a_stopped_run_goes_on_to_the_same_result(cohort_dir: Path, tmp_path: Path) -> None:
    """Stopped after five images and started again, the cohort is what an unbroken run gives; the five are not drawn again."""

    class StoppedError(Exception):
        pass

    def stop_after_five(done: int, total: int) -> None:
        if done == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        write_cohort(_config(tmp_path), on_progress=stop_after_five)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dcm")}
    assert len(kept) == 5
    assert not (tmp_path / "labels.csv").exists()
    write_cohort(_config(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert _digests(tmp_path) == _digests(cohort_dir)


def test_progress_counts_every_image_up_to_the_total(cohort_dir: Path) -> None:
    """Also a run that finds everything done reports each image once."""
    seen: list[tuple[int, int]] = []
    report = write_cohort(_config(cohort_dir), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, report.images) for done in range(1, report.images + 1)]


def test_a_folder_of_another_cohort_is_refused(cohort_dir: Path) -> None:
    """Images of one config and labels of another must not meet."""
    with pytest.raises(ConfigError, match="another config"):
        write_cohort(_config(cohort_dir, difficulty=0.9))


def test_a_folder_with_foreign_dicom_is_refused(tmp_path: Path) -> None:
    """A dicom folder that no phantom wrote is not written into."""
    (tmp_path / "dicom").mkdir()
    with pytest.raises(ConfigError, match="no phantom cohort claims"):
        write_cohort(_config(tmp_path))


def test_exam_range_the_wrong_way_round_is_refused(tmp_path: Path) -> None:
    """[3, 1] exams per patient is a mistake, not an empty cohort."""
    with pytest.raises(ConfigError, match="exams_per_patient"):
        plan_cohort(_config(tmp_path, exams_per_patient=(3, 1)))


def test_shares_of_findings_are_exact(tmp_path: Path) -> None:
    """Of E exams, round(0.2 E) hold a malignant and round(0.3 E) a benign finding, whatever the seed."""
    for seed in range(5):
        exams = plan_cohort(_config(tmp_path, patients=40, malignant_fraction=0.2, benign_fraction=0.3, seed=seed))
        found = [frozenset().union(*exam.findings.values()) for exam in exams]
        assert sum("malignant" in finding for finding in found) == round(0.2 * len(exams))
        assert sum("benign" in finding for finding in found) == round(0.3 * len(exams))


def test_exams_of_a_patient_are_about_a_year_apart(tmp_path: Path) -> None:
    """Screening exams of one patient come in order, 320 to 440 days apart."""
    exams = plan_cohort(_config(tmp_path, patients=30, exams_per_patient=(3, 3)))
    for first, second in pairwise(exams):
        if first.patient_id == second.patient_id:
            assert 320 <= (second.study_date - first.study_date).days <= 440
            assert second.patient_age_years >= first.patient_age_years


def test_labels_masks_and_images_agree(cohort_dir: Path) -> None:
    """Each labelled breast has both views; its masks hold exactly the labelled bits; normal breasts have none."""
    images: dict[tuple[str, str], list[str]] = {}
    for path in cohort_dir.rglob("*.dcm"):
        header = read_header(path)
        images.setdefault((header.study_instance_uid, header.image_laterality), []).append(header.sop_instance_uid)
        assert read_pixels(path).shape == SIZE_PX
    with (cohort_dir / "labels.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == LABEL_COLUMNS
        rows = list(reader)
    assert {(row["study_instance_uid"], row["laterality"]) for row in rows} == set(images)
    for row in rows:
        expected = int(row["benign"]) | int(row["malignant"]) << 1
        for uid in images[row["study_instance_uid"], row["laterality"]]:
            mask_path = cohort_dir / "masks" / f"{uid}.png"
            assert mask_path.exists() == bool(expected)
            if expected:
                mask_HW = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
                assert mask_HW is not None
                assert mask_HW.dtype == np.uint8
                assert np.bitwise_or.reduce(mask_HW, axis=None) == expected


def test_report_counts_what_is_labelled(cohort_dir: Path) -> None:
    """The report's breasts are the ones in labels.csv."""
    report = write_cohort(_config(cohort_dir))
    with (cohort_dir / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert report.malignant_breasts == sum(row["malignant"] == "1" for row in rows)
    assert report.benign_breasts == sum(row["benign"] == "1" for row in rows)
    assert report.images == 4 * report.exams == 2 * len(rows)


def test_stored_orientation_is_unflipped(cohort_dir: Path) -> None:
    """The file's laterality tells where the chest wall is: column 0 for L, the last column for R."""
    for path in cohort_dir.rglob("*.dcm"):
        pixels_HW = read_pixels(path)
        first, last = float((pixels_HW[:, 0] > 0).mean()), float((pixels_HW[:, -1] > 0).mean())
        is_left = read_header(path).image_laterality == Laterality.LEFT
        assert (first > 0.5 > last) if is_left else (last > 0.5 > first)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(cohort_dir: Path) -> None:
    """An independent validator of the MG object accepts one file of each view."""
    exam_dir = next(path for path in sorted((cohort_dir / "dicom").iterdir()))
    for path in sorted(exam_dir.glob("*.dcm")):
        result = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert not [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("Error")]
