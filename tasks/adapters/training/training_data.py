"""What a training sees of the exam store: the epoch's exams, their views and labels, and the tuning lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import pandas as pd

from gmic_model.learning.augmentation import NO_FACTS, ViewFacts
from gmic_model.learning.exam_loader import ExamViews
from gmic_model.learning.step_plan import ShuffledExams
from gmic_model.networks.birads_classifier import CATEGORIES
from gmic_model.preprocess import preprocess_version
from gmic_model.sampling import EpochSampler, measured_exams
from schemas.config.ingest import PreprocessConfig
from schemas.config.recipe import AugmentConfig
from schemas.config.run import RunConfig
from schemas.config.training import FitConfig, PretrainConfig
from schemas.errors import CheckpointError, StoreError, TrainingError
from schemas.exam import FINDINGS, UNKNOWN, Split
from schemas.reports.data import SplitReport
from schemas.reports.training import EnsembleMember, ImageReference, SeenPatients
from tasks.adapters.models.image_reference import REFERENCE_COLUMNS, image_reference
from tasks.adapters.models.seen_patients import SeenBy, joined, read_seen_patients, seen_patients
from tasks.adapters.store.exam_store import ExamStore
from tasks.adapters.store.manifest import all_but, exam_records, read_divided, read_splits, texts_of
from tasks.adapters.store.objects.bucket_store import store_of_run
from tasks.adapters.store.same_patient import read_same_patients
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.views import VIEWED_COLUMNS, StoredViews, stored_views

_ASKED: Final = {"exam_id", "patient_id", "laterality", "birads", *FINDINGS, *VIEWED_COLUMNS, *REFERENCE_COLUMNS}


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
        CheckpointError: That checkpoint does not say whom it has seen, or some of these are to judge it now.
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
    exam_ids = [exam.exam_id for exam in exams]
    del exams  # of a million images they take as much as their lines
    said = zip(*(training[finding.value].tolist() for finding in FINDINGS), strict=True)
    data = _data(config, store, training, tuning, exam_ids, sampler, said, config.train)
    if begun is not None:  # also who is not in the store any more, or in no split
        data = replace(data, seen=joined(data.seen, _require_judges_unseen(config, splits, begun)))
    if (ratio := config.train.tuning_negatives_per_positive) is None:
        return data
    # Whoever may be drawn chooses among the weights: all of them stay on the list of whom these have seen.
    measured = measured_exams(exam_records(data.tuning), ratio, seed=config.train.seed)
    return replace(data, tuning=data.tuning[data.tuning["exam_id"].isin(measured)].reset_index(drop=True))


def pretraining_data(config: RunConfig, pretrain: PretrainConfig, splits: SplitReport) -> TrainingData:
    """All training exams with a breast of a category that is learnt; label = its group, 255 = another or none.

    To tell hidden tissue, all training exams.

    Raises:
        TrainingError: No training exam has such a category.
        StoreError: The store is missing, or was made with another preprocessing than the config's.
    """
    categories = CATEGORIES.get(pretrain.target)
    store, training, tuning = _open(config, splits, asked=() if categories is None else (categories.column,))
    groups: Iterable[tuple[int, ...]] = ((UNKNOWN,) for _ in range(len(training)))
    if categories is not None:
        known = training[training[categories.column].isin(categories.group_of)]
        if known.empty:
            raise TrainingError(
                f"No training exam has a category of {categories.column} to pre-train on",
                expected=f"{categories.column} {', '.join(map(str, categories.group_of))} of breasts in the train split",
                got=f"{training['exam_id'].nunique()} exams, none with such a category",
                remedy=f"fill the {categories.column} column of the labels file, set pretrain.target: hidden, which needs no "
                "label, or leave out the pretrain section",
            )
        if len({categories.group_of[value] for value in known[categories.column].unique()}) == 1:
            raise TrainingError(
                "All training exams are of one category: there is nothing to tell apart in pre-training",
                expected=f"two or more of {categories.column} {', '.join(map(str, categories.group_of))} in the train split",
                got=f"{categories.column} {', '.join(map(str, known[categories.column].unique()))} alone",
                remedy="name another pretrain.target (hidden needs no label), or leave out the pretrain section",
            )
        training = training[training["exam_id"].isin(known["exam_id"])]
        groups = ((categories.group(value),) for value in training[categories.column].tolist())
        tuning = tuning[tuning[categories.column].isin(categories.group_of)]
    exam_ids = sorted(training["exam_id"].unique())
    sampler = ShuffledExams(len(exam_ids), exams_per_epoch=pretrain.exams_per_epoch, seed=pretrain.seed)
    return _data(config, store, training, tuning, exam_ids, sampler, groups, pretrain)


def judges_seen(config: RunConfig, splits: SplitReport, seen: SeenPatients) -> str:
    """Which patients of the test and tuning splits cannot judge what begins with weights that have seen them; empty = none."""
    store, divided = store_of_run(config), read_splits(splits.splits_path)
    key_id, persons = read_settings(store.files).pseudonym_key_id, read_same_patients(store.files)
    if seen.pseudonym_key_id != key_id:
        return ""
    by = SeenBy.listed(seen, persons)
    test, tuning = (divided.loc[divided["split"] == part.value, "patient_id"].tolist() for part in (Split.TEST, Split.TUNING))
    told = [(len(by.at_all(test)), len(test), "test"), (len(by.in_training(tuning)), len(tuning), "tuning")]
    return " and ".join(f"{count} of {of} {part} patients" for count, of, part in told if count)


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


def _open(
    config: RunConfig, splits: SplitReport, begun: Path | None = None, *, asked: Iterable[str] = ()
) -> tuple[ExamStore, pd.DataFrame, pd.DataFrame]:
    store = store_of_run(config)
    require_same_preprocessing(store, config.preprocess)
    divided = read_splits(splits.splits_path)
    if begun is not None:
        divided = divided[divided["patient_id"].isin(_seen_before(store, begun, texts_of(divided["patient_id"])))]
    training, tuning = read_divided(store, divided, (Split.TRAIN, Split.TUNING), without=all_but(_ASKED.union(asked)))
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


def _require_judges_unseen(config: RunConfig, splits: SplitReport, begun: Path) -> SeenPatients | None:
    seen = read_seen_patients(begun)
    if seen is not None and (who := judges_seen(config, splits, seen)):
        raise CheckpointError(
            "A training cannot go on where patients whom it has learnt from are to judge it",
            expected="no test patient whom it was trained or tuned on, no tuning patient whom it was trained on",
            got=f"{begun.name}, which has seen {who}",
            remedy="restore the division that it began on; or leave out --continue (train.continues): the training begins anew",
        )
    return seen


def _view_facts(lines: pd.DataFrame) -> ViewFacts:
    """A view is mixed with one of which something is known, where there is one: else nothing would be known of the two."""
    rows = lines["row"].tolist()
    is_known = (lines[[finding.value for finding in FINDINGS]] != UNKNOWN).any(axis=1)
    return ViewFacts(
        position_of_row=dict(zip(rows, texts_of(lines["view_position"]), strict=True)),
        side_of_row=dict(zip(rows, texts_of(lines["laterality"]), strict=True)),
        rows_of_position=_rows_of_position(lines) | _rows_of_position(lines[is_known]),
    )


def _rows_of_position(lines: pd.DataFrame) -> dict[str, list[int]]:
    return {str(position): sorted(group.tolist()) for position, group in lines.groupby("view_position")["row"]}


def _data(
    config: RunConfig,
    store: ExamStore,
    training: pd.DataFrame,
    tuning: pd.DataFrame,
    exam_ids: list[str],
    sampler: DrawsEpochs,
    labels: Iterable[tuple[int, ...]],
    fit: FitConfig,
) -> TrainingData:
    # A million rows, each one object wherever it is named, and the few different labels that they have.
    rows_by_exam: dict[str, list[int]] = {exam_id: [] for exam_id in exam_ids}
    label_by_row: dict[int, tuple[int, ...]] = {}
    known: dict[tuple[int, ...], tuple[int, ...]] = {}
    for exam_id, row, label in zip(texts_of(training["exam_id"]), training["row"].tolist(), labels, strict=True):
        rows_by_exam[exam_id].append(row)
        label_by_row[row] = known.setdefault(label, label)
    viewed = [name for name in training if name in VIEWED_COLUMNS]
    both = pd.concat([training[viewed], tuning[viewed]])
    views = stored_views(store, both, config.preprocess.window_px, reader=fit.store_reader)
    del both
    is_augmented = fit.augment != AugmentConfig()
    train = ExamViews(
        rows_of_exam=[rows_by_exam[exam_id] for exam_id in exam_ids],
        label_by_row=label_by_row,
        read_view=views,
        jitter=config.preprocess,
        seed=fit.seed,
        augment=fit.augment if is_augmented else None,
        facts=_view_facts(training) if is_augmented else NO_FACTS,
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
