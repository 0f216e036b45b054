"""What a training sees of the exam store: the epoch's exams, their views and labels, and the tuning lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import pandas as pd

from gmic_model.learning.augmentation import ViewFacts
from gmic_model.learning.exam_loader import ExamViews
from gmic_model.learning.step_plan import ShuffledExams
from gmic_model.networks.birads_classifier import BIRADS_GROUPS, birads_group
from gmic_model.preprocess import preprocess_version
from gmic_model.sampling import EpochSampler, measured_exams
from schemas.config.ingest import PreprocessConfig
from schemas.config.recipe import AugmentConfig
from schemas.config.run import RunConfig
from schemas.config.training import FitConfig, PretrainConfig
from schemas.errors import CheckpointError, StoreError, TrainingError
from schemas.exam import FINDINGS, Split
from schemas.reports.data import SplitReport
from schemas.reports.training import EnsembleMember, ImageReference, SeenPatients
from tasks.adapters.models.image_reference import image_reference
from tasks.adapters.models.seen_patients import SeenBy, seen_patients
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.manifest import exam_records, manifest_with_splits, read_manifest, texts_of
from tasks.adapters.store.objects.bucket_store import store_of_run
from tasks.adapters.store.same_patient import read_same_patients
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.views import StoredViews, stored_views

_NOT_ASKED: Final = (
    "source_sha256", "pixel_sha256", "written_sha256", "mask_sha256", "exam_date", "gate_warnings", "batch", "batch_date",
    "label_source", "density", "lesion_boxes",
)  # fmt: skip
"""Columns of the manifest that no training sees: of a million images the rest takes half of the memory."""


class DrawsEpochs(Protocol):
    """Which exams an epoch shows; follows from the epoch's number."""

    def draw(self, epoch: int) -> list[int]:
        """Indices of the exams, in order."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """The two splits training sees.

    Attributes:
        sampler: Which training exams an epoch takes; its indices are the items of ``train``.
        train: The training exams' views with jitter.
        tuning: Tuning lines of the manifest, each view's line once.
        views: Reader of both.
        seen: Who they are; None = the weights to begin with do not say whom they have seen.
        terms: What the terms of the store's data forbid.
        images: What the training images are like, for other sites.
    """

    sampler: DrawsEpochs
    train: ExamViews
    tuning: pd.DataFrame
    views: StoredViews
    seen: SeenPatients | None
    terms: tuple[str, ...] = ()
    images: ImageReference | None = None


def training_data(config: RunConfig, splits: SplitReport, *, begun: Path | None = None) -> TrainingData:
    """Reads which exams train and tune.

    Args:
        config: The run.
        splits: Who is in which split.
        begun: A checkpoint whose patients alone train and tune: others came since; None = all.

    Raises:
        CheckpointError: That checkpoint does not say whom it has seen.
        TrainingError: No training exam has a finding, or too few are known to be without one.
        StoreError: The store is missing, or was made with another preprocessing than the config's.
    """
    store, training, tuning = _open(config, splits, begun)
    exams = exam_records(training)
    sampler = EpochSampler(
        exams,
        seed=config.train.seed,
        negatives_per_positive=config.train.negatives_per_positive,
        shortfall=config.train.negatives_shortfall,
    )
    said = zip(*(training[finding.value].tolist() for finding in FINDINGS), strict=True)
    labels = dict(zip(training["row"].tolist(), said, strict=True))
    data = _data(config, store, training, tuning, [exam.exam_id for exam in exams], sampler, labels, config.train)
    if (ratio := config.train.tuning_negatives_per_positive) is None:
        return data
    # Whoever may be drawn chooses among the weights: all of them stay on the list of whom these have seen.
    measured = measured_exams(exam_records(data.tuning), ratio, seed=config.train.seed)
    return replace(data, tuning=data.tuning[data.tuning["exam_id"].isin(measured)].reset_index(drop=True))


def pretraining_data(config: RunConfig, pretrain: PretrainConfig, splits: SplitReport) -> TrainingData:
    """All training exams with a breast of BI-RADS 0, 1 or 2; label = that category, 255 = another or none.

    Raises:
        TrainingError: No training exam has such a category.
        StoreError: The store is missing, or was made with another preprocessing than the config's.
    """
    store, training, tuning = _open(config, splits)
    known = training[training["birads"].isin(BIRADS_GROUPS)]
    if known.empty:
        raise TrainingError(
            "No training exam has a BI-RADS category to pre-train on",
            expected="breasts of category 0, 1 or 2 in the train split",
            got=f"{training['exam_id'].nunique()} exams, none with such a category",
            remedy="fill the birads column of the labels file, or leave out the pretrain section",
        )
    training = training[training["exam_id"].isin(known["exam_id"])]
    exam_ids = sorted(training["exam_id"].unique())
    sampler = ShuffledExams(len(exam_ids), exams_per_epoch=pretrain.exams_per_epoch, seed=pretrain.seed)
    groups = [(birads_group(birads),) for birads in training["birads"].tolist()]
    labels = dict(zip(training["row"].tolist(), groups, strict=True))
    tuning = tuning[tuning["birads"].isin(BIRADS_GROUPS)]
    return _data(config, store, training, tuning, exam_ids, sampler, labels, pretrain)


def require_same_preprocessing(store: ExamStore, config: PreprocessConfig) -> None:
    """Refuses a store whose crops are not those that the config describes.

    Raises:
        StoreError: The version or a setting differs; the message names it.
    """
    settings = read_settings(store.files)
    made_with = settings.preprocess
    wanted = preprocess_version(config)
    changed = sorted(name for name in type(config).model_fields if getattr(config, name) != getattr(made_with, name))
    if settings.preprocess_version != wanted or changed:
        raise StoreError(
            "The exam store was made with another preprocessing than this config's",
            expected=f"version {wanted} and the config's settings",
            got=f"version {settings.preprocess_version}" + (f"; other {', '.join(changed)}" if changed else ""),
            remedy="restore those settings, or ingest again into a new workspace_dir",
        )


# ---------------------------------------------------------------------------------------------------------------------


def _open(config: RunConfig, splits: SplitReport, begun: Path | None = None) -> tuple[ExamStore, pd.DataFrame, pd.DataFrame]:
    store = store_of_run(config)
    require_same_preprocessing(store, config.preprocess)
    manifest = manifest_with_splits(splits, read_manifest(store, without=_NOT_ASKED))
    if begun is not None:
        manifest = manifest[manifest["patient_id"].isin(_seen_before(store, begun, manifest["patient_id"].unique()))]
    training, tuning = (manifest[manifest["split"] == part.value] for part in (Split.TRAIN, Split.TUNING))
    if training.empty:
        raise TrainingError(
            "There is nobody to train on",
            expected="patients of the train split",
            got="every patient tests (split: external)" if config.split.external else "none",
            remedy="judge weights of elsewhere: name them in evaluate.checkpoints and run `mammo evaluate CONFIG.yaml`"
            if config.split.external
            else "give training patients in split.file, or make room in split.test_fraction",
        )
    return store, training, tuning


def _seen_before(store: ExamStore, begun: Path, patients: Iterable[str]) -> frozenset[str]:
    key_id = read_settings(store.files).pseudonym_key_id
    seen = SeenBy.of([EnsembleMember(path=begun, sha256="")], key_id, read_same_patients(store.files))
    if seen.not_known:
        raise CheckpointError(
            "A training cannot go on with the patients that it has seen",
            expected=f"{begun.name} with a list of its patients, under this store's key",
            got=seen.not_known,
            remedy="leave out --continue (train.continues): the training begins anew with all that is published",
        )
    return seen.at_all(patients)


def _view_facts(lines: pd.DataFrame) -> ViewFacts:
    rows = lines["row"].tolist()
    by_position = lines.groupby("view_position")["row"]
    return ViewFacts(
        position_of_row=dict(zip(rows, texts_of(lines["view_position"]), strict=True)),
        side_of_row=dict(zip(rows, texts_of(lines["laterality"]), strict=True)),
        rows_of_position={str(position): sorted(group.tolist()) for position, group in by_position},
    )


def _data(
    config: RunConfig,
    store: ExamStore,
    training: pd.DataFrame,
    tuning: pd.DataFrame,
    exam_ids: list[str],
    sampler: DrawsEpochs,
    labels: Mapping[int, tuple[int, ...]],
    fit: FitConfig,
) -> TrainingData:
    rows_by_exam: dict[str, list[int]] = {exam_id: [] for exam_id in exam_ids}
    for exam_id, row in zip(texts_of(training["exam_id"]), training["row"].tolist(), strict=True):
        rows_by_exam[exam_id].append(row)
    views = stored_views(store, pd.concat([training, tuning]), config.preprocess.window_px, reader=fit.store_reader)
    train = ExamViews(
        rows_of_exam=[rows_by_exam[exam_id] for exam_id in exam_ids],
        label_by_row=labels,
        read_view=views,
        jitter=config.preprocess,
        seed=fit.seed,
        augment=None if fit.augment == AugmentConfig() else fit.augment,
        facts=_view_facts(training),
    )
    settings = read_settings(store.files)
    seen = seen_patients(
        settings.pseudonym_key_id,
        read_same_patients(store.files),
        trained=training["patient_id"].unique(),
        tuned=tuning["patient_id"].unique(),
    )
    images = image_reference(training)
    return TrainingData(sampler, train, tuning.reset_index(drop=True), views, seen, settings.terms, images)
