"""Split: patients into train, tuning and test, then the leakage audit. Patients are divided, never exams or images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from schemas.config.run import RunConfig, Stage
from schemas.exam import Split
from schemas.reports.data import IngestReport, SplitReport
from tasks.adapters.checks.expectations import check_splits
from tasks.adapters.checks.split_suite import refuse_leaks, unmeasured
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.labels.division import (
    DIVIDED_BY,
    MOVED_BECAUSE,
    count_splits,
    divide,
    fold_of,
    settings_sha256,
    way_of_dividing,
)
from tasks.adapters.labels.split_file import Fold, GivenSplits, given_splits, split_file_sha256
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.store.exam_store import ExamStore, open_store
from tasks.adapters.store.manifest import exam_records, read_splits, read_with_version
from tasks.adapters.store.same_patient import read_same_patients
from tasks.adapters.workspace import Workspace, write_atomically
from tasks.artifacts import show_table
from tasks.stage import load_report, report_path, stage

logger = logging.getLogger(__name__)


@stage(
    Stage.SPLIT,
    version=2,
    sections=("split",),
    reads=lambda config, ingested: (
        ingested.data_version,
        *(() if config.split.file is None else (split_file_sha256(config.split.file),)),
    ),
)
def split_patients(config: RunConfig, ingested: IngestReport) -> SplitReport:
    """Divides the patients, stratified by their worst known finding or as ``split.file`` says, and audits the result.

    A patient keeps the split of an earlier run with the same settings, also while no image of it is published: a network
    may have been trained on it. Another seed or share makes another division.

    Raises:
        ValidationFailed: A patient, exam or image would be in two splits.
        StoreError: The splits of an earlier run are gone or damaged.
    """
    store = open_store(ingested.store_dir)
    published, version = read_with_version(store, DIVIDED_BY)
    kept = _earlier_splits(config)
    persons = read_same_patients(store.files)
    fold = fold_of(config.split)
    given = None if config.split.file is None else _given(config.split.file, store, published, persons, fold)
    by_file = None if given is None else given.by_patient
    by_patient = divide(exam_records(published), config.split, given=by_file, kept=kept, persons=persons)
    if moved := sum(kept.get(patient_id, part) is not part for patient_id, part in by_patient.items()):
        why = MOVED_BECAUSE[way_of_dividing(config.split)]
        logger.warning("%d patients leave their split, of whom a network may have learnt: %s", moved, why)
    manifest = published[published["patient_id"].isin(by_patient)]
    splits = pd.DataFrame({"patient_id": list(by_patient), "split": [part.value for part in by_patient.values()]})
    refuse_leaks(checks := check_splits(manifest, splits, persons))
    path = Workspace(config.workspace_dir).splits_path
    present = set(published["patient_id"])
    absent = {patient_id: part.value for patient_id, part in kept.items() if patient_id not in present}
    known = pd.concat([splits, pd.DataFrame(absent.items(), columns=list(splits.columns))])
    write_atomically(path, known.sort_values("patient_id").to_parquet(index=False))
    counts = count_splits(manifest.merge(splits, on="patient_id"))
    show_table("splits", [{"split": part, **count.model_dump()} for part, count in counts.items()], "Patients by split")
    if not config.split.external and (empty := [name for name, count in counts.items() if not count.patients]):
        logger.warning("no patient in %s: a stage that needs one will refuse", " and ".join(empty))
    if lacks := unmeasured(checks, (name for name, count in counts.items() if count.patients)):
        logger.warning("some metrics will not be defined, for these checks are not met: %s", "; ".join(lacks))
    logger.info("split %d patients: %s", len(splits), ", ".join(f"{name} {count.patients}" for name, count in counts.items()))
    return SplitReport(
        splits_path=path,
        data_version=version,
        counts=counts,
        settings_sha256=settings_sha256(config.split),
        patients_kept=len(kept.keys() & by_patient.keys()),
        divided_by=way_of_dividing(config.split),
        fold=config.split.fold,
        file_sha256=given.sha256 if given else "",
        patients_left_out=published["patient_id"].nunique() - len(by_patient),
        file_patients_unknown=given.unknown if given else 0,
    )


def _given(path: Path, store: ExamStore, published: pd.DataFrame, persons: Mapping[str, str], fold: Fold | None) -> GivenSplits:
    """What the split file says of the published patients; the store's ledger knows them without their issuers too."""
    patients: set[tuple[str, str | None]] = {(patient_id, None) for patient_id in published["patient_id"]}
    with StoreLedger(store) as ledger:
        patients |= {known for known in ledger.patients() if (known[0], None) in patients}
    pseudonyms = open_key(Workspace(store.folder.parent).key_path)  # beside the store, also where a fold has its own workspace
    return given_splits(path, pseudonyms, patients, persons, fold)


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
    if earlier.settings_sha256 != settings_sha256(config.split) or is_abandoned:
        return {}
    table = read_splits(earlier.splits_path)
    return {str(patient_id): Split(part) for patient_id, part in zip(table["patient_id"], table["split"], strict=True)}
