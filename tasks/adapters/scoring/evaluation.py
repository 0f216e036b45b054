"""Everything that evaluate measures: scores of the test and tuning images, their tables, and the measures of each finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.devices import choose_device
from gmic_model.learning.learner import seed_prediction
from gmic_model.networks.registry import config_of
from schemas.config.evaluation import EvaluateConfig
from schemas.config.network import NetworkConfig
from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.exam import FINDINGS, Finding, Split
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import AurocDifference, FindingMetrics, JudgedPatients
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.locking import Locked, Standing
from tasks.adapters.models.model_files import ensemble_sha256, model_names
from tasks.adapters.models.networks import load_member
from tasks.adapters.models.seen_patients import SeenBy
from tasks.adapters.scoring.clinic.clinic_metrics import with_clinic_metrics
from tasks.adapters.scoring.clinic.fixed_elsewhere import FixedElsewhere
from tasks.adapters.scoring.localized_views import (
    BreastsOfMarked,
    LocalizedView,
    annotated_rows,
    annotations_of,
    lesion_table,
    localize,
    mean_f1,
    with_localization,
)
from tasks.adapters.scoring.model_ranking import minus_before, with_models, with_ranking
from tasks.adapters.scoring.reviewed.lesion_level import MarkedView, lesion_level, marked_view
from tasks.adapters.scoring.reviewed.original_read import READ_FINDING, original_read
from tasks.adapters.scoring.score_tables import BREAST, breasts_of, exams_of, image_table, labelled
from tasks.adapters.scoring.scored_views import Scoring, score_rows_of_each
from tasks.adapters.scoring.screening import with_screening_metrics
from tasks.adapters.store.exam_store import ExamStore, store_preprocessing
from tasks.adapters.store.manifest import DIGESTS, read_divided, read_splits
from tasks.adapters.store.objects.bucket_store import store_of_run
from tasks.adapters.store.same_patient import read_former_patients, read_same_patients
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.views import stored_views
from tasks.adapters.workspace import write_atomically

ENSEMBLE = "ensemble"
"""Name of the mean of several models' scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedImages:
    """Manifest lines: the test images are reported; on the tuning images thresholds, recalibration and a model are chosen.

    Attributes:
        patients: Whether the weights had seen them.
        is_own_tuning: The weights were tuned on this very tuning split: what is chosen on it is what their site fixes.
    """

    store: ExamStore
    test: pd.DataFrame
    tuning: pd.DataFrame
    patients: JudgedPatients
    is_own_tuning: bool

    @classmethod
    def of(
        cls, config: RunConfig, splits: SplitReport, members: Sequence[EnsembleMember], *, are_of_splits: bool = False
    ) -> EvaluatedImages:
        """Those of the workspace's store, without patients whom the weights have seen if the config leaves these out.

        Args:
            config: The run.
            splits: Of its store.
            members: The weights.
            are_of_splits: They are known to have been trained on these splits.

        Raises:
            StoreError: The test split is empty.
            CheckpointError: The weights were trained or tuned on test patients, or trained on tuning patients.
        """
        store = store_of_run(config)
        divided = read_splits(splits.splits_path)
        test, tuning = read_divided(store, divided, (Split.TEST, Split.TUNING), without=DIGESTS)
        key_id, persons = read_settings(store.files).pseudonym_key_id, read_same_patients(store.files)
        seen = SeenBy.of(members, key_id, persons, read_former_patients(store.files))
        judging, choosing = (frozenset(lines["patient_id"]) for lines in (test, tuning))
        patients = seen.judged(judging, choosing, are_of_splits=are_of_splits, leaves_out=config.evaluate.leave_out_seen)
        test = test[~test["patient_id"].isin(seen.at_all(judging))].reset_index(drop=True)
        tuning = tuning[~tuning["patient_id"].isin(seen.in_training(choosing))].reset_index(drop=True)
        if test.empty:
            raise StoreError(
                "The test split is empty",
                expected="at least one patient" + (" whom the weights have not seen" if patients.test_left_out else ""),
                remedy="raise split.test_fraction" + (" and train anew" if patients.test_left_out else ""),
            )
        is_own_tuning = are_of_splits or seen.are_tuned_on(tuning["patient_id"])
        return cls(store=store, test=test, tuning=tuning, patients=patients, is_own_tuning=is_own_tuning)

    def __len__(self) -> int:
        return len(self.test) + len(self.tuning)

    @property
    def standing(self) -> Standing:
        """What the weights are to these patients."""
        return Standing(are_unseen=self.patients.is_checked, is_own_tuning=self.is_own_tuning)


# ------------------------------------------------------------------------------------------------------------ scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """What ``S`` models say of the same rows, and how their saliency lies on what is annotated."""

    networks: tuple[NetworkConfig, ...]
    rows: list[int]
    score_SNC: NDArray[np.float64]
    localized_S: list[list[LocalizedView]]
    marked_S: list[list[MarkedView]]


def _score(
    config: RunConfig, members: Sequence[EnsembleMember], images: EvaluatedImages, scored: Callable[[int], None]
) -> _Scored:
    window_px = config.preprocess.window_px
    preprocessing, read_as = store_preprocessing(images.store), config.evaluate.read_as
    networks = [load_member(one, read_as=read_as, window_px=window_px, preprocessing=preprocessing) for one in members]
    both = pd.concat([images.test, images.tuning], ignore_index=True)
    views = stored_views(images.store, both, window_px, reader=config.train.store_reader)
    annotated, rows = annotated_rows(both), [int(row) for row in both["row"]]
    scores: list[list[NDArray[np.float64]]] = []
    localized_S: list[list[LocalizedView]] = [[] for _ in networks]
    marked_S: list[list[MarkedView]] = [[] for _ in networks]
    read, judging = BreastsOfMarked(views, annotated), set(images.test["row"])
    device = choose_device(config.train)
    seed_prediction(config.evaluate.seed)  # the random rows of Table 1 draw patches in every pass
    how, size = Scoring.of(config), config.evaluate.batch_images
    for of_models in score_rows_of_each(networks, read, rows, batch_images=size, device=device, scoring=how):
        scores.append([view.score_C for view in of_models])
        row = of_models[0].row
        annotations = annotations_of(annotated[row], views) if row in annotated else []
        breast_HW = read.take(row)
        for network, view, localized, marked in zip(networks, of_models, localized_S, marked_S, strict=True):
            localized += localize(view, annotations, config_of(network).patch_px, breast_HW)
            marked += marked_view(view, annotations) if row in judging else ()
        scored(len(scores))
    return _Scored(
        networks=tuple(config_of(network) for network in networks),
        rows=rows,
        score_SNC=np.array(scores).swapaxes(0, 1),  # (N, S, C) -> (S, N, C)
        localized_S=localized_S,
        marked_S=marked_S,
    )


def _localizing_model(localized_S: Sequence[Sequence[LocalizedView]], tuning_rows: set[int]) -> int:
    """The model with the best malignant F1 on the tuning split (paper 3.3); the first where nothing is annotated there."""
    f1_S = [mean_f1(localized, Finding.MALIGNANT, tuning_rows) for localized in localized_S]
    return max(range(len(f1_S)), key=lambda model: -1.0 if f1_S[model] is None else float(f1_S[model] or 0.0))


# ------------------------------------------------------------------------------------------------- tables and measures


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores per image: what is reported (one model, or the mean of several), and each of several models.

    Attributes:
        networks: Of each model.
        test_images, tuning_images: Manifest lines of what is reported, and of what thresholds are chosen on.
        localizing: Which model's saliency is reported; an index of ``localized_S``.
        localization_model: Its name.
    """

    networks: tuple[NetworkConfig, ...]
    test_images: pd.DataFrame
    tuning_images: pd.DataFrame
    test: pd.DataFrame
    tuning: pd.DataFrame
    models: pd.DataFrame
    breasts: pd.DataFrame
    exams: pd.DataFrame
    localized_S: list[list[LocalizedView]]
    marked_S: list[list[MarkedView]]
    localizing: int
    localization_model: str

    @classmethod
    def of(
        cls,
        config: RunConfig,
        members: Sequence[EnsembleMember],
        images: EvaluatedImages,
        data_version: str,
        scored: Callable[[int], None],
    ) -> Evaluation:
        """Scores the images; ``scored`` is told after each how many are done.

        Raises:
            CheckpointError: Weights are missing, were altered, or are of another image size or preprocessing.
        """
        found = _score(config, members, images, scored)

        def table(lines: pd.DataFrame, score_NC: NDArray[np.float64], model: str, sha256: str) -> pd.DataFrame:
            return image_table(lines, found.rows, score_NC, model=model, sha256=sha256, data_version=data_version)

        names = model_names(members)
        reported = ENSEMBLE if len(members) > 1 else names[0]
        mean_NC, sha256 = found.score_SNC.mean(axis=0), ensemble_sha256(members)
        tables = [
            table(images.test, score_NC, name, member.sha256)
            for score_NC, name, member in zip(found.score_SNC, names, members, strict=True)
        ]
        of_test = table(images.test, mean_NC, reported, sha256)
        breasts = breasts_of(pd.concat([of_test, *tables], ignore_index=True) if len(members) > 1 else of_test)
        localizing = _localizing_model(found.localized_S, set(images.tuning["row"]))
        return cls(
            networks=found.networks,
            test_images=images.test,
            tuning_images=images.tuning,
            test=of_test,
            tuning=table(images.tuning, mean_NC, reported, sha256),
            models=pd.concat(tables, ignore_index=True),
            breasts=breasts,
            exams=exams_of(breasts),
            localized_S=found.localized_S,
            marked_S=found.marked_S,
            localizing=localizing,
            localization_model=names[localizing],
        )

    def write_tables(self, folder: Path) -> Path:
        """Leaves every table as parquet and CSV; returns the one of test images."""
        tables = {"scores": self.test, "breast_scores": self.breasts, "exam_scores": self.exams, "tuning_scores": self.tuning}
        if not (lesions := lesion_table(self.localized_S[self.localizing], self.test_images)).empty:
            tables["lesions"] = lesions
        if self.models["model"].nunique() > 1:
            tables["model_scores"] = self.models
        for name, table in tables.items():
            write_atomically(folder / f"{name}.parquet", table.to_parquet(index=False))
            write_atomically(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6f").encode())
        return folder / "scores.parquet"

    def minus_before(self, before: pd.DataFrame | None, config: EvaluateConfig) -> dict[str, AurocDifference | None] | None:
        """What an earlier evaluation's breast scores are bettered by, by finding; None = there was none."""
        if before is None:
            return None
        reported = self.breasts[self.breasts["model"] == self.test["model"].iloc[0]]
        return minus_before(reported, before, config.confidence)

    def measured(
        self, config: EvaluateConfig, locked: Locked, findings: Sequence[Finding] = FINDINGS
    ) -> dict[str, FindingMetrics]:
        """The measures of each finding, by its name; ``locked`` is what the weights' own site fixed."""
        return {finding.value: self._measure(finding, config, locked) for finding in findings}

    def _measure(self, finding: Finding, config: EvaluateConfig, locked: Locked) -> FindingMetrics:
        reported = self.test["model"].iloc[0]
        of_models = {
            str(name): labelled(table, finding, (*BREAST, "model_sha256"))
            for name, table in self.breasts.groupby("model", sort=False)
        }
        breasts = of_models.pop(reported)
        exams = labelled(self.exams[self.exams["model"] == reported], finding, ("patient_id", "exam_id"))
        metrics = with_ranking(breasts, exams, config.confidence)
        metrics = with_localization(metrics, finding, self.localized_S[self.localizing], self.test_images, config.confidence)
        if of_models:
            alone = [
                with_localization(metrics, finding, localized, self.test_images, config.confidence)
                for localized in self.localized_S
            ]
            metrics = with_models(metrics, breasts, of_models, alone, config.confidence)
        marked = self.marked_S[self.localizing]
        metrics = metrics.model_copy(
            update={"lesion_level": lesion_level(finding, marked, self.test_images, config.confidence)}
        )
        tuning = self.tuning if self.tuning.empty else breasts_of(self.tuning)
        if finding is READ_FINDING:
            read = original_read(
                self.breasts[self.breasts["model"] == reported], self.test_images, tuning, self.tuning_images, config
            )
            metrics = metrics.model_copy(update={"original_read": read})
        fixed = FixedElsewhere.of(locked, finding)
        metrics = with_screening_metrics(metrics, breasts, labelled(tuning, finding, BREAST), self.test_images, config, fixed)
        whole = self.exams[self.exams["model"] == reported].rename(columns={f"{finding.value}_score": "score"})
        return with_clinic_metrics(
            metrics, finding, breasts, whole[["patient_id", "exam_id", "score"]], self.test_images, config, fixed
        )
