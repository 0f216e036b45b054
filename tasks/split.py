"""Split: patients into train, tuning and test, then the leakage audit. Patients are divided, never exams or images."""

from __future__ import annotations

import logging

import pandas as pd

from gmic_model import sampling
from schemas.config.run import RunConfig, Stage
from schemas.errors import ValidationFailed
from schemas.exam import Split
from schemas.layout import Severity
from schemas.reports.data import IngestReport, SplitCount, SplitReport
from tasks.adapters.checks.expectations import check_splits
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import data_version, exam_records, read_manifest, read_splits
from tasks.adapters.store.same_patient import read_same_patients
from tasks.adapters.workspace import StoreFolder, Workspace, write_atomically
from tasks.artifacts import show_table
from tasks.stage import load_report, report_path, stage

logger = logging.getLogger(__name__)


@stage(Stage.SPLIT, version=2, sections=("split",), reads=lambda config, ingested: (ingested.data_version,))
def split_patients(config: RunConfig, ingested: IngestReport) -> SplitReport:
    """Divides the patients, stratified by their worst known finding, and audits the result.

    A patient keeps the split of an earlier run with the same settings, also while no image of it is published: a network
    may have been trained on it. Another seed or share makes another division.

    Raises:
        ValidationFailed: A patient, exam or image would be in two splits.
        StoreError: The splits of an earlier run are gone or damaged.
    """
    manifest = read_manifest(open_store(ingested.store_dir))
    fractions = {
        Split.TUNING: config.split.tuning_fraction,
        Split.TEST: config.split.test_fraction,
        Split.TRAIN: 1.0 - config.split.tuning_fraction - config.split.test_fraction,
    }
    kept = _earlier_splits(config)
    persons = read_same_patients(StoreFolder(ingested.store_dir))
    by_patient = sampling.split_patients(
        exam_records(manifest), fractions, seed=config.split.seed, kept=kept, person_by_patient=persons
    )
    moved = sum(kept.get(patient_id, part) is not part for patient_id, part in by_patient.items())
    if moved:
        logger.warning(
            "%d patients leave their split: they share their PatientID with one of whom a network may have learnt", moved
        )
    splits = pd.DataFrame({"patient_id": list(by_patient), "split": [part.value for part in by_patient.values()]})
    failed = [
        check for check in check_splits(manifest, splits, persons) if not check.is_met and check.severity == Severity.BLOCK
    ]
    if failed:
        raise ValidationFailed(
            "The splits leak",
            expected="every patient, exam and image in one split",
            got="; ".join(f"{check.check}: {check.unexpected_count}" for check in failed),
            remedy="remove images that stand in several patients' exams (docs/reference/data-checks.md), then split again",
        )
    path = Workspace(config.workspace_dir).splits_path
    absent = {patient_id: part.value for patient_id, part in kept.items() if patient_id not in by_patient}
    known = pd.concat([splits, pd.DataFrame(absent.items(), columns=list(splits.columns))])
    write_atomically(path, known.sort_values("patient_id").to_parquet(index=False))
    counts = count_splits(manifest.merge(splits, on="patient_id"))
    show_table("splits", [{"split": part, **count.model_dump()} for part, count in counts.items()], "Patients by split")
    logger.info("split %d patients: %s", len(splits), ", ".join(f"{name} {count.patients}" for name, count in counts.items()))
    return SplitReport(
        splits_path=path,
        data_version=data_version(manifest),
        counts=counts,
        settings_sha256=config.split.sha256(),
        patients_kept=len(kept.keys() & by_patient.keys()),
    )


def _earlier_splits(config: RunConfig) -> dict[str, Split]:
    """What an earlier run with the same settings gave; nothing if there was none.

    Raises:
        StoreError: There was one, and its table is gone or damaged: networks were trained on it, so no other takes its place
            until the stage is forced.
    """
    if not report_path(config.workspace_dir, Stage.SPLIT).exists():
        return {}
    earlier = load_report(config, Stage.SPLIT, SplitReport)
    is_abandoned = Stage.SPLIT in config.force and not earlier.splits_path.exists()
    if earlier.settings_sha256 != config.split.sha256() or is_abandoned:
        return {}
    table = read_splits(earlier.splits_path)
    return {str(patient_id): Split(part) for patient_id, part in zip(table["patient_id"], table["split"], strict=True)}


def count_splits(manifest: pd.DataFrame) -> dict[str, SplitCount]:
    """Sizes by split of a manifest with its ``split`` column."""
    counts = {}
    for part in Split:
        lines = manifest[manifest["split"] == part.value]
        breasts = lines.drop_duplicates(["exam_id", "laterality"])
        counts[part.value] = SplitCount(
            patients=lines["patient_id"].nunique(),
            exams=lines["exam_id"].nunique(),
            images=len(lines),
            benign_breasts=int((breasts["benign"] == 1).sum()),
            malignant_breasts=int((breasts["malignant"] == 1).sum()),
        )
    return counts
