"""Write a phantom cohort as files: DICOM images, a labels CSV, lesion masks. The pixels: ``gmic_model.phantom.drawing``.

A cohort is source data like a hospital's folder, so it has (synthetic) identifiers and no pseudonyms. Everything in it follows
from the config: the same config gives the same bytes, and a stopped run goes on where it was.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np

from gmic_model.phantom.drawing import GENERATOR_VERSION, PIXEL_SPACING_MM, VIEWS, ExamPlan, draw_view, plan_exam
from schemas.config.ingest import PhantomConfig
from schemas.errors import ConfigError
from schemas.exam import Finding, Laterality, ViewPosition
from schemas.reports.data import PhantomReport
from tasks.adapters.dicom.mammogram import MammogramHeader
from tasks.adapters.dicom.mammogram_file import write_mammogram
from tasks.adapters.workspace import aside_of

LABEL_COLUMNS = (
    "patient_id",
    "study_instance_uid",
    "study_date",
    "laterality",
    "benign",
    "malignant",
    "birads",
    "label_source",
    "label_date",
)
"""One row per breast; dates are ISO 8601, laterality R or L, findings 0 or 1."""

LABELS_FILE = "labels.csv"
DICOM_DIR = "dicom"
MASKS_DIR = "masks"
"""What a cohort's folder holds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortExam:
    """One exam of the cohort, before anything is drawn; ids are synthetic.

    Attributes:
        patient_number: From 0.
        exam_number: From 0 within the patient.
        findings: What each breast holds.
        birads: BI-RADS assessment category of each breast.
    """

    patient_number: int
    exam_number: int
    patient_id: str
    patient_age_years: int
    study_instance_uid: str
    study_date: date
    findings: Mapping[Laterality, frozenset[Finding]]
    birads: Mapping[Laterality, int]


def write_cohort(config: PhantomConfig, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> PhantomReport:
    """Write the cohort of a config below its ``output_dir``; images that are there already are not drawn again.

    ``dicom/<exam>/<side>_<view>.dcm`` for every view, ``masks/<SOPInstanceUID>.png`` for each view of a breast with a finding,
    ``labels.csv`` (last: a cohort with it is complete) and ``cohort.json`` (first: which config this folder is for).

    Args:
        config: The cohort.
        on_progress: Called with (images done, images in all).

    Raises:
        ConfigError: The config contradicts itself, its images are too small, or ``output_dir`` holds another cohort.
    """
    exams = plan_cohort(config)
    _claim(config)
    total, done, written = len(exams) * len(VIEWS), 0, 0
    for exam in exams:
        for was_drawn in _write_exam(config, exam):
            done, written = done + 1, written + was_drawn
            on_progress(done, total)
    _write_bytes(config.output_dir / LABELS_FILE, labels_csv(exams).encode())
    _log.info("Phantom cohort complete: %d images, %d of them drawn by this run", total, written)
    return PhantomReport(
        output_dir=config.output_dir,
        patients=config.patients,
        exams=len(exams),
        images=total,
        malignant_breasts=sum(Finding.MALIGNANT in found for exam in exams for found in exam.findings.values()),
        benign_breasts=sum(Finding.BENIGN in found for exam in exams for found in exam.findings.values()),
    )


def plan_cohort(config: PhantomConfig) -> tuple[CohortExam, ...]:
    """Every exam with its findings and dates: exactly the configured share of exams, rounded, holds each finding.

    Raises:
        ConfigError: Fewest exams of a patient above most.
    """
    fewest, most = config.exams_per_patient
    if fewest > most:
        raise ConfigError(
            "phantom.exams_per_patient is not a range",
            expected="[fewest, most] with fewest <= most",
            got=[fewest, most],
            remedy="swap the two numbers",
        )
    rng = np.random.default_rng((config.seed, 0))
    exams_of_patient = rng.integers(fewest, most + 1, size=config.patients)
    exam_count = int(exams_of_patient.sum())
    side_of_finding: dict[Finding, dict[int, Laterality]] = {}
    for finding, fraction in ((Finding.MALIGNANT, config.malignant_fraction), (Finding.BENIGN, config.benign_fraction)):
        chosen = rng.permutation(exam_count)[: round(fraction * exam_count)]
        side_of_finding[finding] = {int(exam): list(Laterality)[int(rng.integers(2))] for exam in chosen}
    numbers = [(patient, exam) for patient, count in enumerate(exams_of_patient.tolist()) for exam in range(count)]
    tag = _cohort_tag(config)
    exams: list[CohortExam] = []
    for row, (patient, exam) in enumerate(numbers):
        findings = {
            side: frozenset(finding for finding, sides in side_of_finding.items() if sides.get(row) is side)
            for side in Laterality
        }
        exams.append(_plan_exam_record(config, tag, patient, exam, findings))
    return tuple(exams)


def labels_csv(exams: tuple[CohortExam, ...]) -> str:
    """The labels file: ``LABEL_COLUMNS``, one row per breast."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LABEL_COLUMNS)
    for exam in exams:
        for side in Laterality:
            found = exam.findings[side]
            # The truth of a finding comes with its biopsy, that of a normal breast with the next year's exam.
            label_date = exam.study_date + timedelta(days=21 if found else 365)
            writer.writerow(
                (
                    exam.patient_id,
                    exam.study_instance_uid,
                    exam.study_date.isoformat(),
                    side.value,
                    int(Finding.BENIGN in found),
                    int(Finding.MALIGNANT in found),
                    exam.birads[side],
                    "phantom",
                    label_date.isoformat(),
                )
            )
    return text.getvalue()


def _plan_exam_record(
    config: PhantomConfig, tag: str, patient: int, exam: int, findings: Mapping[Laterality, frozenset[Finding]]
) -> CohortExam:
    rng = np.random.default_rng((config.seed, 1, patient))
    first_date = date(2014, 1, 6) + timedelta(days=int(rng.integers(0, 5 * 365)))
    first_age_years = int(rng.integers(40, 72))
    days = exam * 380 + int(np.random.default_rng((config.seed, 2, patient, exam)).integers(0, 60))
    birads_rng = np.random.default_rng((config.seed, 3, patient, exam))
    birads = {}
    for side in Laterality:
        draw = float(birads_rng.random())
        if Finding.MALIGNANT in findings[side]:
            birads[side] = 4 if draw < 0.5 else 5
        elif Finding.BENIGN in findings[side]:
            birads[side] = 2 if draw < 0.7 else 3
        else:
            birads[side] = 1
    return CohortExam(
        patient_number=patient,
        exam_number=exam,
        patient_id=f"PHANTOM-{tag[:6]}-{patient:06d}",
        patient_age_years=first_age_years + days // 365,
        study_instance_uid=_uid(tag, "study", patient, exam),
        study_date=first_date + timedelta(days=days),
        findings=findings,
        birads=birads,
    )


def _write_exam(config: PhantomConfig, exam: CohortExam) -> Iterator[bool]:
    """Write what is missing of an exam; yields for each view whether it was drawn now."""
    tag = _cohort_tag(config)
    key = (tag, exam.patient_number, exam.exam_number)
    exam_dir = config.output_dir / DICOM_DIR / hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    exam_dir.mkdir(parents=True, exist_ok=True)
    plan: ExamPlan | None = None
    for side, view in VIEWS:
        image_path = exam_dir / f"{side}_{view}.dcm"
        # The mask is written before its image, so an image that is there is finished.
        is_missing = not image_path.exists()
        if is_missing:
            plan = plan or _drawing_plan(config, exam)
            _write_view(config, exam, plan, side, view, image_path)
        yield is_missing


def _drawing_plan(config: PhantomConfig, exam: CohortExam) -> ExamPlan:
    return plan_exam(
        image_size_px=config.image_size_px,
        findings=exam.findings,
        difficulty=config.difficulty,
        patient_rng=np.random.default_rng((config.seed, 4, exam.patient_number)),
        exam_rng=np.random.default_rng((config.seed, 5, exam.patient_number, exam.exam_number)),
    )


def _write_view(
    config: PhantomConfig, exam: CohortExam, plan: ExamPlan, side: Laterality, view: ViewPosition, image_path: Path
) -> None:
    tag, number = _cohort_tag(config), VIEWS.index((side, view))
    sop_instance_uid = _uid(tag, "image", exam.patient_number, exam.exam_number, number)
    drawn = draw_view(plan, side, view)
    if exam.findings[side]:
        is_encoded, png = cv2.imencode(".png", drawn.lesion_mask_HW, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not is_encoded:
            raise OSError("a lesion mask could not be encoded as PNG")
        _write_bytes(config.output_dir / MASKS_DIR / f"{sop_instance_uid}.png", png.tobytes())
    header = MammogramHeader(
        patient_id=exam.patient_id,
        patient_name=f"PHANTOM^{exam.patient_number:06d}",
        patient_age_years=exam.patient_age_years,
        study_instance_uid=exam.study_instance_uid,
        series_instance_uid=_uid(tag, "series", exam.patient_number, exam.exam_number, number),
        sop_instance_uid=sop_instance_uid,
        accession_number=f"PH{exam.patient_number:06d}{exam.exam_number:02d}",
        study_date=exam.study_date,
        laterality=side,
        view_position=view,
        pixel_spacing_mm=PIXEL_SPACING_MM,
        instance_number=number + 1,
    )
    write_mammogram(image_path, drawn.pixels_HW, header)


def _claim(config: PhantomConfig) -> None:
    """Name the cohort in its folder, and refuse a folder that holds another one: mixed cohorts would have wrong labels."""
    config.output_dir.mkdir(parents=True, exist_ok=True)
    (config.output_dir / MASKS_DIR).mkdir(exist_ok=True)
    claim_path = config.output_dir / "cohort.json"
    claim = {"generator_version": GENERATOR_VERSION, "config": config.model_dump(mode="json", exclude={"output_dir"})}
    text = json.dumps(claim, indent=1, sort_keys=True) + "\n"
    if claim_path.exists() and claim_path.read_text() != text:
        raise ConfigError(
            "phantom.output_dir holds a cohort of another config or generator version",
            expected="an empty folder, or the same phantom config as before",
            got="a cohort.json with other values",
            remedy="choose another output_dir, or delete this one",
        )
    if not claim_path.exists() and (config.output_dir / DICOM_DIR).exists():
        raise ConfigError(
            "phantom.output_dir holds DICOM files that no phantom cohort claims",
            expected="an empty folder or a phantom cohort",
            got="a folder dicom without cohort.json",
            remedy="choose another output_dir",
        )
    _write_bytes(claim_path, text.encode())


def _cohort_tag(config: PhantomConfig) -> str:
    """What UIDs are made from: all that decides the pixels, and not where they are written."""
    values = {"generator_version": GENERATOR_VERSION, **config.model_dump(mode="json", exclude={"output_dir"})}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _uid(tag: str, *parts: object) -> str:
    """A UID of the 2.25 arc (PS3.5 B.2) from a digest instead of a random UUID."""
    return f"2.25.{int(hashlib.sha256(repr((tag, *parts)).encode()).hexdigest()[:32], 16)}"


def _write_bytes(path: Path, content: bytes) -> None:
    """Write aside, sync, rename."""
    aside = aside_of(path)
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
