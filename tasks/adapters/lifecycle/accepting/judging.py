"""From a model and a site's published exams to what ``mammo accept`` says: everybody judges, and nothing is chosen here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.exam import FINDINGS, UNKNOWN
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.life.acceptance import AcceptanceReport
from schemas.reports.report import Provenance
from schemas.reports.training import EnsembleMember, ImageReference
from tasks.adapters.lifecycle.accepting.device_recall import device_recalls
from tasks.adapters.lifecycle.accepting.image_shifts import image_shifts
from tasks.adapters.lifecycle.accepting.judging_exams import Cohort
from tasks.adapters.lifecycle.accepting.verdict import Evidence, rule_results, verdict_of
from tasks.adapters.models.image_reference import kept_reference
from tasks.adapters.models.locking import Locked, read_locked
from tasks.adapters.models.model_files import ENSEMBLE, ensemble_sha256, read_sidecar, terms_of
from tasks.adapters.models.seen_patients import SeenBy
from tasks.adapters.models.whole_models import model_members
from tasks.adapters.provenance import config_preprocessing, now
from tasks.adapters.scoring.clinic.fixed_elsewhere import ITS_OWN_SITE
from tasks.adapters.scoring.evaluation import EvaluatedImages, Evaluation
from tasks.adapters.scoring.metrics_table import INTERVAL_METHOD
from tasks.adapters.scoring.score_tables import breasts_with_repeats
from tasks.adapters.store.manifest import read_manifest
from tasks.adapters.store.objects.bucket_store import store_of_run
from tasks.adapters.store.same_patient import read_former_patients, read_same_patients
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.tables.line_texts import data_version
from tasks.adapters.training.training_data import require_same_preprocessing

PAGE = "acceptance.html"
_NO_REFERENCE = "The model does not say what its training images were like: a former release trained it, or it was imported."


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTrial:
    """A model, and the exams by which it is judged.

    Attributes:
        config: The run, its section ``evaluate`` naming the model.
        home: The model's folder.
        images: Of patients whom the weights are not known to have seen; nobody tunes.
        data_version: Of all that is published.
    """

    config: RunConfig
    home: Path
    members: tuple[EnsembleMember, ...]
    images: EvaluatedImages
    data_version: str

    @classmethod
    def of(cls, config: RunConfig, home: Path) -> SiteTrial:
        """All published exams but those of patients whom the weights have seen.

        Raises:
            CheckpointError: The model is damaged.
            StoreError: Nothing is published, nobody is left, or the images were made with another preprocessing than the
                config says: what is said of the model would name the wrong one.
        """
        ensemble = home / ENSEMBLE
        named = {"checkpoints": (), "ensemble": ensemble} if ensemble.is_file() else {"checkpoints": (home,), "ensemble": None}
        run = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={**named, "read_as": None})})
        members = model_members(home)
        store = store_of_run(config)
        require_same_preprocessing(store, config.preprocess)
        manifest = read_manifest(store)
        key_id, persons = read_settings(store.files).pseudonym_key_id, read_same_patients(store.files)
        seen, patients = (
            SeenBy.of(members, key_id, persons, read_former_patients(store.files)),
            frozenset(manifest["patient_id"]),
        )
        judging = manifest[~manifest["patient_id"].isin(seen.at_all(patients))].reset_index(drop=True)
        if judging.empty:
            raise StoreError(
                "There is no exam by which the model could be judged",
                expected="published exams of patients whom its weights have not seen",
                got=f"{manifest['exam_id'].nunique()} exams, all of patients whom they have seen",
                remedy="ingest exams of other patients",
            )
        images = EvaluatedImages(
            store=store,
            test=judging,
            tuning=judging.iloc[:0],
            patients=seen.judged(patients, frozenset(), are_of_splits=False, leaves_out=True),
            is_own_tuning=False,
        )
        return cls(config=run, home=home, members=members, images=images, data_version=data_version(manifest))

    def judged(self, evaluation: Evaluation, scores_path: Path) -> tuple[AcceptanceReport, Cohort]:
        """What the rules of the config say, without failures and gallery; and the exams.

        Args:
            evaluation: Of the model on these images.
            scores_path: Where its tables lie; the page goes beside them.

        Raises:
            CheckpointError: What is kept beside the weights cannot be read, or is of other weights.
        """
        config, finding = self.config.accept, self.config.accept.finding.value
        locked = read_locked(self.members, self.config.evaluate, is_own_tuning=False)
        threshold, missing = self._threshold(locked)
        cohort = self._cohort(evaluation, threshold)
        evaluated = self._evaluated(evaluation, locked, scores_path)
        reference = self._reference()
        groups, devices = tuple(cohort.groups(config)), device_recalls(cohort, config, reference)
        images = () if reference is None else tuple(image_shifts(self.images.test, reference))
        image_note = _NO_REFERENCE if reference is None else ""
        evidence = Evidence(
            cohort=cohort,
            locked_missing=missing,
            patients=self.images.patients,
            metrics=None if evaluated is None else evaluated.by_finding.get(finding),
            groups=groups,
            devices=devices,
            images=images,
            image_note=image_note,
        )
        rules = rule_results(evidence, config)
        basis = f"specificity {self.config.evaluate.subgroup_specificity:.2f} {ITS_OWN_SITE}"
        stated = "" if cohort.target is None else "as the config states it"
        report = AcceptanceReport(
            model_sha256=ensemble_sha256(self.members),
            model_dir=self.home,
            verdict=verdict_of(rules),
            rules=rules,
            finding=finding,
            threshold=None if threshold is None or threshold == float("inf") else threshold,
            threshold_basis="" if threshold is None else basis,
            target=cohort.target,
            target_basis="the readers' of the same exams" if cohort.is_readers_target else stated,
            cohort=cohort.counts(left_out_patients=self.images.patients.test_left_out),
            groups=groups,
            devices=devices,
            images=images,
            image_note=image_note,
            failures=(),
            evaluation=evaluated,
            patients=self.images.patients,
            provenance=self._provenance(),
            page_path=scores_path.with_name(PAGE),
        )
        return report, cohort

    def _cohort(self, evaluation: Evaluation, threshold: float | None) -> Cohort:
        finding = self.config.accept.finding.value
        exams = evaluation.exams[evaluation.exams["model"] == evaluation.test["model"].iloc[0]]
        exams = exams.rename(columns={f"{finding}_score": "score", finding: "label"})
        return Cohort.of(
            exams[["patient_id", "exam_id", "score", "label"]].reset_index(drop=True),
            self.images.test,
            threshold,
            self.config.evaluate.recalled_birads,
            self.config.accept,
            self.config.evaluate.confidence,
        )

    def _threshold(self, locked: Locked) -> tuple[float | None, str]:
        """The one that ``predict`` decides by, infinite if it is above every score; and why there is none."""
        specificity = self.config.evaluate.subgroup_specificity
        kept = locked.thresholds.get(self.config.accept.finding.value, ())
        found = next((one for one in kept if one.specificity == specificity), None)
        if found is not None:
            return (float("inf") if found.threshold is None else found.threshold), ""
        return None, locked.settings.missing or f"none keeps a specificity of {specificity:g} (evaluate.subgroup_specificity)"

    def _evaluated(self, evaluation: Evaluation, locked: Locked, scores_path: Path) -> EvaluationReport | None:
        """What labels allow to measure; None without any."""
        findings = [finding for finding in FINDINGS if (evaluation.breasts[finding.value] != UNKNOWN).any()]
        if not findings:
            return None
        return EvaluationReport(
            scores_path=scores_path,
            model_sha256=ensemble_sha256(self.members),
            models=self.members,
            localization_model=evaluation.localization_model,
            by_finding=evaluation.measured(self.config.evaluate, locked, findings),
            interval_method=INTERVAL_METHOD,
            exams=self.images.test["exam_id"].nunique(),
            images=len(self.images.test),
            repeated_view_breasts=breasts_with_repeats(self.images.test),
            provenance=self._provenance(),
            patients=self.images.patients,
            networks=evaluation.networks,
            locked=locked.settings,
            terms=tuple(dict.fromkeys((*terms_of(self.members), *read_settings(self.images.store.files).terms))),
        )

    def _reference(self) -> ImageReference | None:
        """Of the training images; those of an ensemble are of one training set, so the first that says it is asked."""
        found = (kept_reference(read_sidecar(member.path)) for member in self.members)
        return next((one for one in found if one is not None), None)

    def _provenance(self) -> Provenance:
        return Provenance(
            code_version=version("mammography-gmic"),
            config_sha256=self.config.sha256(),
            data_version=self.data_version,
            preprocess_version=config_preprocessing(self.config.preprocess),
            seed=self.config.evaluate.seed,
            created_utc=now().isoformat(timespec="seconds"),
        )


def shown_exams(cohort: Cohort, failed: Sequence[str], most: int) -> list[str]:
    """The exams of a gallery: the worst errors first, then where readers decided otherwise, then the highest scores."""
    exams, is_read = cohort.exams, cohort.exams["read"] != UNKNOWN
    missed = exams[is_read & (exams["read"] == 1) & ~exams["is_recalled"]].sort_values(["score", "exam_id"])
    alarms = exams[is_read & (exams["read"] == 0) & exams["is_recalled"]]
    highest = [_by_score(lines) for lines in (alarms, exams)]
    between = [name for pair in zip(missed["exam_id"], highest[0], strict=False) for name in pair]
    return list(dict.fromkeys([*failed, *between, *missed["exam_id"], *highest[0], *highest[1]]))[:most]


def _by_score(lines: pd.DataFrame) -> list[str]:
    return [str(name) for name in lines.sort_values(["score", "exam_id"], ascending=[False, True])["exam_id"]]
