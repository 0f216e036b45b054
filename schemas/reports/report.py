"""What measurements are made of: estimates with intervals, models alone and together. Stages' reports are in ``reports``."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Report(BaseModel):
    """Frozen; equal results give equal reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Report):
    """An estimate with its bootstrap interval; None = not defined on this data (one class only)."""

    value: float | None
    low: float | None
    high: float | None


class EnsembleMember(Report):
    """One set of weights that is evaluated, alone or with others."""

    path: Path = Field(description="Checkpoint folder; in a file, relative to the file's folder")
    sha256: str = Field(description="Of its weights")
    tuning_malignant_auroc: float | None = Field(None, description="By which it was chosen")


class EnsembleFile(Report):
    """``ensemble.json``: the models whose mean score is the prediction, best first (docs/evaluation.md)."""

    checkpoints: tuple[EnsembleMember, ...] = Field(min_length=1)


class AurocDifference(Report):
    """Of two scores of the same breasts: DeLong's test with patients as clusters; None = not defined."""

    difference: float
    low: float
    high: float
    p_value: float


class ModelMetrics(Report):
    """One model of several, alone, on one finding."""

    name: str
    sha256: str
    auroc: Interval
    auprc: Interval
    localization_f1: float | None
    localization_precision: float | None
    localization_recall: float | None
    minus_ensemble: AurocDifference | None = Field(description="AUROC of this model less that of the mean score")


class ModelSpread(Report):
    """Mean over models of a metric, as Table 1 gives it for its five."""

    mean: Interval = Field(description="Its interval is over patients, with these models")
    standard_deviation: float | None = Field(description="Over models, n - 1; None = one model, or not defined")


class LocalizationIntervals(Report):
    """Means over images with a mask, with intervals over patients."""

    f1: Interval
    precision: Interval
    recall: Interval
    pointing: Interval
    lesions_reached: Interval = Field(description="Share of lesions that one of the K patches holds")


class BoxLocalization(Report):
    """Where lesions are marked by boxes only."""

    images: int
    mass_inside: Interval = Field(description="Mean share of an image's saliency that lies in its boxes")
    area_inside: float = Field(description="Mean share of the window that boxes cover: what an even map would have inside")
    pointing: Interval
    lesions: int = Field(description="Boxes; those that overlap count as one")
    lesions_reached: int
