"""What is decided of a model at a site, and on what: kept evaluations, rules with reasons, events of the registry."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.reports.evaluation import JudgedPatients
from schemas.reports.report import Interval, Provenance, Report


class ModelState(StrEnum):
    """What a registered model is at this site."""

    CANDIDATE = "candidate"
    IN_USE = "in use"
    RETIRED = "retired"


class KeptEvaluation(Report):
    """Of one set of weights: where and on whom they were judged; the breast scores lie beside it."""

    sha256: str
    provenance: Provenance = Field(description="Of the evaluation; its splits are those whose test patients judged")
    patients: JudgedPatients
    times_scored: int = Field(description="How often anybody had scored this test split by then; 0 = no log was kept")


class RuleAnswer(Report):
    """What one rule says of a promotion."""

    rule: str
    is_met: bool | None = Field(description="None = it cannot be judged, and forbids nothing")
    reason: str = Field(description="Why, in a sentence")

    @property
    def in_words(self) -> str:
        """Whether it is met, as tables have it."""
        return {True: "met", False: "NOT MET", None: "not judged"}[self.is_met]


class PromotionAnswer(Report):
    """What the rules say of a model."""

    sha256: str
    in_use_sha256: str = Field(description="The one that it was held against; empty = none was in use")
    splits_sha256: str
    data_version: str
    rules: tuple[RuleAnswer, ...]

    @property
    def is_allowed(self) -> bool:
        """True if no rule forbids it."""
        return all(rule.is_met is not False for rule in self.rules)


class RegisteredModel(Report):
    """A line of the registry."""

    sha256: str
    state: ModelState
    folder: str = Field(description="Checkpoint folder; relative to the workspace if it is below it")
    source: str = Field(description="How it came: train, pack, or the folder that was named")
    registered_utc: str


class DeviceThreshold(Report):
    """A device with one of its software versions, and the threshold that recalls its exams, as ``mammo accept`` proposed it."""

    name: str = Field(description="Manufacturer, model, and the pseudonym of the serial number")
    software: str
    threshold: float
    exams: int
    patients: int
    expected: Interval = Field(description="Share of later exams that it recalls")


class SiteThresholds(Report):
    """What a site recalls at in place of the locked threshold, device by device; other devices stay with the locked one."""

    model_sha256: str
    finding: str
    devices: tuple[DeviceThreshold, ...]


class ModelEvent(Report):
    """Who changed which model, or which thresholds of it, are in use, when and why."""

    when_utc: str
    who: str
    what: str = Field(description="registered, promoted, thresholds or rolled back")
    why: str
    sha256: str
    replaced_sha256: str = ""
    answer: PromotionAnswer | None = None
    thresholds: SiteThresholds | None = None
