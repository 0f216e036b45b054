"""How patients are split, and what is measured, explained and reported of the trained network."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from schemas.config.network import TableRow
from schemas.config.section import ADDED_LATER, FORMER_DEFAULT, Config, Fraction, SizePx
from schemas.config.training import Precision
from schemas.exam import Finding


class SplitConfig(Config):
    """Patients into train, tuning and test. The word ``external`` instead of a section makes every patient a test patient."""

    tuning_fraction: Fraction = Field(
        0.15,
        description="Share of patients that choose epoch and thresholds. Of a file that names nobody who tunes, and of folds: "
        "share of the training patients",
    )
    test_fraction: Fraction = Field(
        0.25, description="Share of patients that judge; not asked if a file, folds or external say so"
    )
    seed: NonNegativeInt = Field(0, description="Another seed divides otherwise")
    file: Path | None = Field(
        None,
        json_schema_extra=ADDED_LATER,
        description="CSV that says which patient trains, tunes or tests; see docs/reference/split-file.md",
    )
    external: bool = Field(
        False, json_schema_extra=ADDED_LATER, description="Every patient tests: weights of another site are judged here"
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=20,
        json_schema_extra=ADDED_LATER,
        description="Divide into so many parts, each of which tests once; mammo crossvalidate trains and evaluates all of them",
    )
    fold: PositiveInt | None = Field(
        None, json_schema_extra=ADDED_LATER, description="Which of the folds tests, from 1; mammo crossvalidate fills it in"
    )

    @model_validator(mode="before")
    @classmethod
    def _external_in_a_word(cls, value: object) -> object:
        return {"external": True} if value == "external" else value

    @model_validator(mode="after")
    def _divides_in_one_way(self) -> SplitConfig:
        if self.file is not None and self.external:
            raise ValueError("a file divides the patients, or all of them are external; name one of the two")
        if self.external and self.folds is not None:
            raise ValueError("where every patient is external nobody trains: leave out folds")
        if self.fold is not None and (self.folds is None or self.fold > self.folds):
            raise ValueError(f"fold {self.fold} is one of folds {self.folds or 'that are not named'}: count from 1")
        return self

    @model_validator(mode="after")
    def _leaves_training_patients(self) -> SplitConfig:
        if self.tuning_fraction + self.test_fraction >= 1.0:
            raise ValueError("tuning_fraction + test_fraction must be below 1: no patient would be left to train on")
        return self


Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class ClinicConfig(Config):
    """What a clinic asks: its own share of findings, and how many false recalls it would bear for one found."""

    prevalences: dict[Finding, tuple[Share, ...]] = Field(
        {}, description="Shares of breasts with the finding, by finding, at which results are restated; malignant: [0.005]"
    )
    decision_thresholds: tuple[Share, ...] = Field(
        (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5),
        description="Risks at which the decision curves are read: recalled at 0.02 means 49 false recalls weigh one found",
    )


class EvaluateConfig(Config):
    """Breast-level metrics on the test split."""

    checkpoints: tuple[Path, ...] = Field((), description="Weights to evaluate, and their mean; none = what train made")
    ensemble: Path | None = Field(None, description="ensemble.json that names the weights instead")
    read_as: TableRow | None = Field(
        None, description="Row of Table 1 that the weights stand for: gmic weights give gmic-loc and gmic-mil too"
    )
    bootstrap_resamples: PositiveInt = Field(
        2000, description="Resamples of patients in former releases; nothing needs any now"
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="Confidence level of the intervals")
    specificities: tuple[Fraction, ...] = Field((0.80, 0.90, 0.95), description="Operating points: sensitivity at these")
    readers_specificity: Fraction | None = Field(
        None,
        json_schema_extra={FORMER_DEFAULT: 0.853},
        description="Also the sensitivity at the mean specificity of those who read these exams; null = leave it out",
    )
    sensitivities: tuple[Fraction, ...] = Field((0.80, 0.90), description="Operating points: specificity at these")
    calibration_bins: PositiveInt = Field(10, description="Bins of the reliability curve, with equal numbers of breasts")
    subgroup_minimum_patients: PositiveInt = Field(
        10, description="A group with fewer patients with, or without, the finding gets counts only"
    )
    subgroup_specificity: Fraction = Field(
        0.90, description="One of specificities: groups and errors are told at the threshold that keeps it on the tuning split"
    )
    leave_out_seen: bool = Field(
        False,
        description="Test and tuning patients whom the weights were trained on, and test patients they were tuned on, are left "
        "out and counted; false = weights that have seen such patients are refused",
        json_schema_extra=ADDED_LATER,
    )
    batch_images: PositiveInt = Field(
        4,
        description="Images scored at once by evaluate, explain and accept, and after each epoch of a training; by predict on "
        "a GPU where it draws no panels, else one at a time, as by infer",
    )
    precision: Precision = Field(
        "fp32",
        json_schema_extra=ADDED_LATER,
        description="In what evaluate, explain and predict compute, as train.precision; how they read images, train says too",
    )
    seed: NonNegativeInt = Field(0, description="Seed of the patches that Table 1's random rows draw; nothing else is drawn")
    recalled_birads: tuple[Annotated[int, Field(ge=0, le=6)], ...] = Field(
        (0, 4, 5),
        min_length=1,
        json_schema_extra=ADDED_LATER,
        description="BI-RADS categories by which the original read recalled; [3, 4, 5] for BI-RADS 3+. "
        "0 and 6 are left out unless they are named",
    )
    non_inferiority_margin: float = Field(
        0.05,
        gt=0,
        lt=1,
        json_schema_extra=ADDED_LATER,
        description="By how much sensitivity or specificity may lie below the original read's and still be called not inferior",
    )
    subgroup_columns: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_ ]{0,30}$")], ...] = Field(
        (),
        json_schema_extra=ADDED_LATER,
        description="Further columns of the labels file whose values make subgroups; ingest reads them",
    )
    clinic: ClinicConfig = Field(ClinicConfig(), json_schema_extra=ADDED_LATER, description="Stated shares, decision curves")

    @model_validator(mode="after")
    def _names_weights_once(self) -> EvaluateConfig:
        if self.checkpoints and self.ensemble is not None:
            raise ValueError("name the weights in checkpoints or in ensemble, not in both")
        return self

    @model_validator(mode="after")
    def _compares_groups_at_an_operating_point(self) -> EvaluateConfig:
        if self.subgroup_specificity not in self.specificities:
            known = ", ".join(f"{one:g}" for one in self.specificities) or "none"
            raise ValueError(
                f"subgroup_specificity {self.subgroup_specificity:g} must be one of specificities ({known}): "
                "groups are compared and errors told at one of the operating points; add it there, or name one that is there"
            )
        return self

    @property
    def names_weights(self) -> bool:
        """True if the weights are not those of this workspace's training."""
        return bool(self.checkpoints) or self.ensemble is not None


class PromotionConfig(Config):
    """What a model must have shown before ``mammo model promote`` puts it into use."""

    findings: tuple[Finding, ...] = Field((Finding.MALIGNANT,), min_length=1, description="Findings on which it is judged")
    minimum_patients: PositiveInt = Field(20, description="Test patients needed with the finding, and as many without it")
    minimum_auroc: Fraction | None = Field(None, description="AUROC that it must reach on the test split; null = none")
    margin: float = Field(
        0.03, gt=0, lt=1, description="Not worse: the lower end of its AUROC less that of the one in use lies above minus this"
    )
    recall_margin: float | None = Field(
        None,
        gt=0,
        lt=1,
        json_schema_extra=ADDED_LATER,
        description="At the locked thresholds: by how much the recalled share of breasts with the finding may lie below that "
        "of the one in use, and of those without it above; null = not asked",
    )
    mlflow_model: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        json_schema_extra=ADDED_LATER,
        description="Also tell train.tracking.mlflow's registry which version of this model is in use; null = none",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="Confidence level of these intervals")
    minimum_common: Fraction = Field(0.95, description="Share of its test breasts that the one in use must have scored too")
    subgroups: tuple[str, ...] = Field(
        ("vendor", "device model", "density", "age"), description="Attributes in whose groups it must not be worse either"
    )
    subgroup_margin: float = Field(0.08, gt=0, lt=1, description="The margin in a group")
    subgroup_minimum_patients: PositiveInt = Field(
        20, description="A group with fewer patients with, or without, the finding is not judged and forbids nothing"
    )
    allow_unknown_patients: bool = Field(
        False, description="Let weights pass that do not say whether they have seen the patients who judged them"
    )


class AcceptanceRule(StrEnum):
    """What ``mammo accept`` asks of a model on a site's exams."""

    LOCKED = "locked threshold"
    UNSEEN = "unseen patients"
    EXAMS = "enough exams"
    DEVICES = "expected devices"
    RECALL = "recall rate"
    SENSITIVITY = "sensitivity"
    SPECIFICITY = "specificity"
    CALIBRATION = "calibration"
    GROUPS = "recall rate by group"
    BY_DEVICE = "recall rate by device"
    IMAGES = "images as in training"


class AcceptanceConfig(Config):
    """What a model must show on this site's exams before ``mammo accept`` calls it accepted."""

    finding: Finding = Field(Finding.MALIGNANT, description="The finding whose locked threshold recalls an exam")
    recall_rate: Fraction | None = Field(
        None,
        description="Share of exams that should be recalled here; null = as many as the readers recalled of the same exams",
    )
    recall_margin: float = Field(
        0.03, gt=0, lt=1, description="By how much the recall rate may lie above or below: its whole interval must lie within"
    )
    minimum_exams: PositiveInt = Field(200, description="With fewer exams no model is accepted")
    devices: tuple[str, ...] = Field(
        (), description="Devices of which exams must be there, each as manufacturer and model, or a part of these words"
    )
    minimum_sensitivity: Fraction | None = Field(
        None, description="Of breasts, at the locked threshold: its interval must lie above; null = not asked"
    )
    minimum_specificity: Fraction | None = Field(
        None, description="Of breasts, at the locked threshold: its interval must lie above; null = not asked"
    )
    calibration_range: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.5, 2.0), description="Findings observed over findings expected by the locked recalibration: within these"
    )
    subgroups: tuple[str, ...] = Field(
        ("vendor", "device model", "density", "age"), description="Attributes in whose groups the recall rate is looked at"
    )
    subgroup_margin: float = Field(0.06, gt=0, lt=1, description="The margin of the recall rate in a group, and of a device")
    subgroup_minimum_exams: PositiveInt = Field(50, description="A group, or a device, with fewer exams is not judged")
    remarks: tuple[AcceptanceRule, ...] = Field(
        (
            AcceptanceRule.UNSEEN,
            AcceptanceRule.CALIBRATION,
            AcceptanceRule.GROUPS,
            AcceptanceRule.BY_DEVICE,
            AcceptanceRule.IMAGES,
        ),
        description="Rules that are remarked on and decide nothing; every other one must be met",
    )
    gallery_exams: NonNegativeInt = Field(12, description="Exams shown at most, the worst errors first")

    @model_validator(mode="after")
    def _range_is_in_order(self) -> AcceptanceConfig:
        if self.calibration_range[0] >= self.calibration_range[1]:
            raise ValueError("accept.calibration_range: the lower end comes first")
        return self


BASELINE_EXAMS: Final = 1000


class WatchConfig(Config):
    """Whether each device's scores, recalls, pictures and views go on as they began (``mammo log watch``)."""

    baseline_exams: int = Field(BASELINE_EXAMS, ge=50, description="Exams of a device by which its later ones are judged")
    since: date | None = Field(
        None, description="Exams scored before this day do not count: after a known change the baseline begins anew; null = all"
    )


class HealthConfig(Config):
    """A synthetic exam that goes the whole way every hour, in a workspace of its own: nothing of it is counted or sent."""

    image_size_px: SizePx = Field((3328, 2560), description="Rows and columns of its images")
    longest_silence_h: float = Field(
        3.0, ge=1.5, description="When none came out for so many hours, mammo doctor and the service's notice say so"
    )


class ExplainConfig(Config):
    """Figure 4 panels, and the gallery: a page for each exam as radiologists hang it."""

    exams: PositiveInt = Field(40, description="Test exams shown at most: the worst errors first, then those with findings")
    failures: int = Field(4, ge=0, description="Worst false negatives, and as many false positives, of each finding reported")
    picture_rows_px: PositiveInt = Field(
        1600, description="Height of a gallery picture, at most; the breast crop is shrunk to it"
    )


class ReportConfig(Config):
    """The page of a whole run."""

    pdf: bool = Field(True, description="Print report.pdf beside the page with headless Chromium, if the machine has one")


class Table1Config(Config):
    """The paper's Table 1 (``mammo reproduce table1``); every other setting is the run's."""

    rows: tuple[TableRow, ...] = Field(tuple(TableRow), min_length=1, description="Rows of the table")
    seeds: tuple[NonNegativeInt, ...] = Field((0, 1, 2), min_length=1, description="A training of each row for each seed")
    checkpoints: dict[TableRow, tuple[Path, ...]] = Field(
        {}, description="Weights taken instead of trained, by the row they were trained as"
    )
    is_store_ready: bool = Field(False, description="Take the workspace's store and splits as they are; ingest nothing")
