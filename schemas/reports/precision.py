"""What plans report: how many patients an interval takes (``mammo reproduce precision``), what images take (``mammo plan``)."""

from __future__ import annotations

from schemas.reports.report import Report


class PlannedInterval(Report):
    """The interval that a study of so many patients may expect if the value is as foreseen."""

    measure: str
    value: float
    low: float
    high: float
    positive_patients: int
    patients: int
    positive_breasts: int
    breasts: int
    wanted_width: float | None = None
    """None = the number of patients was given, and the width found."""


class PrecisionReport(Report):
    """Planned intervals, and what was supposed."""

    rows: tuple[PlannedInterval, ...]
    confidence: float
    prevalence: float
    breasts_per_patient: int
    likeness: float
    """How alike two breasts of a patient are taken to be (an intraclass correlation)."""


class PlannedSyntax(Report):
    """What ingest takes if every file is encoded so."""

    syntax: str
    ms_an_image: float
    """CPU time, everything included."""
    core_hours: float
    decoding_core_hours: float
    wall_hours: tuple[float, ...]
    """By number of cores, in the order of the plan's."""
    source_tb: float
    cost: float | None
    """Of the core-hours; None = no price was given."""
    cores_reading: float
    """Cores whose reading fills the network."""
    cores_writing: float
    cores_scheduler: float
    """Cores whose shards fill one Dask scheduler."""


class PlannedStep(Report):
    """What one process takes for a step that reads no pixels."""

    step: str
    cpu_s: float
    memory_gib: float
    growth: float | None
    """CPU an image at the largest measured number of images / at the smallest: above 1 it grows faster than the images.

    None = measured at one size.
    """


class ScalePlan(Report):
    """What ``mammo plan`` prints: computed from measured numbers, none of it measured at this size unless it says so."""

    images: int
    store: str
    cores: tuple[int, ...]
    efficiency: float
    """Of parallel workers, measured from one to two; all numbers of cores are taken to have it."""
    syntaxes: tuple[PlannedSyntax, ...]
    steps: tuple[PlannedStep, ...]
    store_tb: dict[str, float]
    """By codec."""
    codec: str
    """The one that is written."""
    objects: int
    """Files of shards on a disk, objects in a bucket; one ``put`` each."""
    batches: int
    ledger_gb: float
    manifest_gb: float
    ingest_memory_gb: float
    """Of scan, plan and publish."""
    scheduler_gb: float
    worker_gib: float
    store_cost_a_month: float | None
    """None = no price was given."""
    network_gbit: float
    card: str
    """On which the network was measured."""
    scoring_card_hours: float
    """All images scored once, by one network."""
    training_card_hours: float
    """All images learnt from once."""
    notes: tuple[str, ...]
    """What the numbers do not hold."""
