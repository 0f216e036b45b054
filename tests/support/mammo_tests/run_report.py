"""A run's report and config, as small as they are: for pages that tell of a run in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gmic_model.metrics.areas import area_interval
from gmic_model.metrics.operating_points import points_at_specificity
from schemas.config.ingest import IngestConfig, PhantomConfig
from schemas.config.run import RunConfig
from schemas.reports.data import CheckResult, IngestReport, SplitCount, SplitReport, ValidationReport
from schemas.reports.evaluation import EvaluationReport, FindingMetrics, SubgroupMetrics
from schemas.reports.pages import ExplainReport, Failure, FailureKind, PipelineReport
from schemas.reports.report import Interval, Provenance
from schemas.reports.training import EpochRecord, TrainReport

_UNDEFINED = Interval(value=None, low=None, high=None)


def make_config(folder: Path, **changes: Any) -> RunConfig:
    """A run over a phantom cohort, with labels in a folder that has a person's name."""
    return RunConfig(
        **{
            "name": "demo-cohort",
            "workspace_dir": folder,
            "phantom": PhantomConfig(output_dir=folder / "phantom"),
            "ingest": IngestConfig(source_dir=folder / "phantom", labels_csv=Path("/data/Smith_Jane/labels.csv")),
        }
        | changes
    )


def make_report(folder: Path) -> PipelineReport:
    """372 exams taken in, 12 epochs, 88 test exams of 62 patients; the weights are those that were trained."""
    check = CheckResult(
        suite="manifest", check="is known", column="age", severity="warning", is_met=False, unexpected_count=1,
        unexpected_percent=0.5,
    )  # fmt: skip
    epochs = tuple(
        EpochRecord(
            epoch=epoch, train_loss=1.0 / epoch, tuning_malignant_auroc=0.8, tuning_benign_auroc=None, images_per_s=9.0,
            is_best=epoch == 11,
        )
        for epoch in range(1, 13)
    )  # fmt: skip
    sizes = {"train": (150, 226), "tuning": (37, 58), "test": (62, 88)}
    return PipelineReport(
        ingest=IngestReport(
            store_dir=folder / "store", data_version="a1" * 32, files_found=1498, images_published=1480, images_new=1480,
            exams=372, exams_incomplete=5, quarantined_by_reason={"not-dicom": 18}, warnings_by_rule={}, labelled_breasts=738,
            orphan_labels=2, unlabelled_breasts=6,
        ),
        validation=ValidationReport(data_version="a1" * 32, images=1480, checks=(check,), page_path=folder / "checks.html"),
        split=SplitReport(
            splits_path=folder / "splits.parquet",
            data_version="a1" * 32,
            counts={
                split: SplitCount(patients=patients, exams=exams, images=4 * exams, benign_breasts=14, malignant_breasts=19)
                for split, (patients, exams) in sizes.items()
            },
        ),
        train=TrainReport(
            checkpoint_path=folder / "best.safetensors", checkpoint_sha256="9f" * 32, run_dir=folder / "train", epochs=epochs,
            best_epoch=11, train_exams=226, provenance=_provenance(),
        ),
        evaluation=EvaluationReport(
            scores_path=folder / "scores.parquet", model_sha256="9f" * 32, by_finding={"malignant": _metrics()}, exams=88,
            images=349, provenance=_provenance(),
        ),
        explanation=ExplainReport(output_dir=folder, images=(), failures=(_FAILURE,)),
        report_path=folder / "report.html",
    )  # fmt: skip


_FAILURE = Failure(
    finding="malignant", kind=FailureKind.FALSE_NEGATIVE, exam_id="E1", laterality="R", score=0.07, threshold=0.4
)


def _provenance() -> Provenance:
    return Provenance(
        code_version="0.1.0+g3705e30", config_sha256="5d" * 32, data_version="a1" * 32, preprocess_version="robust-1", seed=7,
        created_utc="2026-03-04T15:02:11Z",
    )  # fmt: skip


def _metrics() -> FindingMetrics:
    rng = np.random.default_rng(3)
    label_B = (rng.random(120) < 0.15).astype(np.int64)
    score_B, patient_B = rng.normal(label_B * 1.7), np.arange(120) // 2
    auroc, auprc = (area_interval(name, score_B, label_B, patient_B, confidence=0.95) for name in ("auroc", "auprc"))
    vendors = tuple(
        SubgroupMetrics(
            attribute="vendor", group=name, breasts=60, patients=30, positive_breasts=9, auroc=_UNDEFINED,
            sensitivity=_UNDEFINED, specificity=_UNDEFINED,
        )
        for name in ("HOLOGIC", "not known")
    )  # fmt: skip
    return FindingMetrics(
        breasts=120, positive_breasts=int(label_B.sum()), patients=60,
        positive_patients=len(np.unique(patient_B[label_B == 1])), auroc=auroc, auprc=auprc, localization_images=34,
        localization_f1=0.207, localization_precision=0.288, localization_recall=0.254, pointing_fraction=0.71,
        operating_points=points_at_specificity(score_B, label_B, patient_B, [0.9], confidence=0.95), subgroups=vendors,
        subgroup_threshold=0.4, subgroup_threshold_basis="chosen on the tuning split",
    )  # fmt: skip
