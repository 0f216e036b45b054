"""What was measured of an image, and what many images take then: the arithmetic of ``mammo plan``.

The numbers are those that the benchmarks write with ``--json``; the shipped ones lie in ``measured.yaml``. More than two cores
were never measured: those columns have the parallel efficiency of one to two workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

import deployments
from schemas.config.ingest import IngestConfig
from schemas.errors import ConfigError
from schemas.layout import VIEWS_PER_EXAM
from schemas.reports.precision import PlannedStep, PlannedSyntax, ScalePlan

SHIPPED: Final = Path(deployments.__file__).with_name("measured.yaml")
WRITTEN_CODEC: Final = "lz4 bitshuffle"
_SECTIONS: Final = {
    "store": (f"{WRITTEN_CODEC} MB",),
    "growth": ("ledger_bytes", "manifest_bytes", "memory_bytes"),
    "scheduler": ("scheduler_ms", "scheduler_bytes"),
    "dask": ("two_workers", "worker_mib"),
    "network": ("inference_images_per_s", "training_images_per_s"),
    "steps": (),
}
"""With the numbers that each must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked.

    Attributes:
        store: ``disk`` or ``s3``.
        cores: Numbers of cores, each a column.
        core_hour, tb_month: Prices, in any money; None = not given.
        network_gbit: Between the cores and what they read and write.
    """

    images: int
    cores: tuple[int, ...]
    store: str
    core_hour: float | None = None
    tb_month: float | None = None
    network_gbit: float = 10.0


def read_costs(path: Path | None = None) -> dict[str, Any]:
    """The shipped numbers, section by section replaced by those of a file.

    Raises:
        ConfigError: The file cannot be read, or a section lacks its numbers.
    """
    costs: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    if path is None:
        return costs
    try:
        costs |= dict(yaml.safe_load(path.read_text()))  # JSON is YAML
        for name, numbers in _SECTIONS.items():
            for number in numbers:
                float(costs[name][number])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as damage:
        raise ConfigError(
            f"{path} holds no numbers to plan with",
            expected="what the benchmarks write with --json (docs/explanation/a-million-images.md)",
            got=f"{type(damage).__name__}: {damage}" if isinstance(damage, KeyError) else type(damage).__name__,
            remedy="name another file, or leave out --numbers for the shipped ones",
        ) from damage
    return costs


def scale_plan(costs: Mapping[str, Any], wanted: Wanted) -> ScalePlan:
    """What so many images take."""
    images, ingest = wanted.images, IngestConfig.model_fields
    store, growth, efficiency = costs["store"], costs["growth"], costs["dask"]["two_workers"] / 2
    rows_per_shard = ingest["exams_per_shard"].default * VIEWS_PER_EXAM
    shards = -(-images // rows_per_shard)
    codecs = {name.removesuffix(" MB"): store[name] * images / 1e6 for name in store if name.endswith(" MB")}
    return ScalePlan(
        images=images,
        store=wanted.store,
        cores=wanted.cores,
        efficiency=efficiency,
        syntaxes=tuple(
            _syntax(name, took, costs, wanted, rows_per_shard)
            for name, took in costs.items()
            if isinstance(took, dict) and "ingest_ms" in took
        ),
        steps=tuple(_step(name, points, images) for name, points in costs["steps"].items()),
        store_tb=codecs,
        codec=WRITTEN_CODEC,
        objects=shards,
        batches=-(-shards // ingest["shards_per_batch"].default),
        ledger_gb=growth["ledger_bytes"] * images / 1e9,
        manifest_gb=growth["manifest_bytes"] * images / 1e9,
        ingest_memory_gb=growth["memory_bytes"] * images / 1e9,
        scheduler_gb=costs["scheduler"]["scheduler_bytes"] * images / 1e9,
        worker_gib=costs["dask"]["worker_mib"] / 1024,
        store_cost_a_month=None if wanted.tb_month is None else wanted.tb_month * codecs[WRITTEN_CODEC],
        network_gbit=wanted.network_gbit,
        card=costs["network"].get("card", "a card"),
        scoring_card_hours=images / costs["network"]["inference_images_per_s"] / 3600,
        training_card_hours=images / costs["network"]["training_images_per_s"] / 3600,
        notes=_notes(wanted),
    )


def _syntax(name: str, took: Mapping[str, float], costs: Mapping[str, Any], wanted: Wanted, rows: int) -> PlannedSyntax:
    efficiency = costs["dask"]["two_workers"] / 2
    hours, decoding = (took[part] * wanted.images / 3.6e6 for part in ("ingest_ms", "decode_ms"))
    images_per_s = efficiency * 1e3 / took["ingest_ms"]  # of one core among many
    network_mb_per_s = wanted.network_gbit / 10 * 1.2e3  # what ten gigabits of Ethernet carry
    return PlannedSyntax(
        syntax=name,
        ms_an_image=took["ingest_ms"],
        core_hours=hours,
        decoding_core_hours=decoding,
        wall_hours=tuple(hours / cores / (efficiency if cores > 1 else 1.0) for cores in wanted.cores),
        source_tb=took["file_mb"] * wanted.images / 1e6,
        cost=None if wanted.core_hour is None else wanted.core_hour * hours,
        cores_reading=network_mb_per_s / took["file_mb"] / images_per_s,
        cores_writing=network_mb_per_s / costs["store"][f"{WRITTEN_CODEC} MB"] / images_per_s,
        cores_scheduler=1e3 / costs["scheduler"]["scheduler_ms"] * rows / images_per_s,
    )


def _step(name: str, points: list[tuple[float, float, float]], images: int) -> PlannedStep:
    """Along the line through the smallest and the largest number of images that were measured."""
    (few, few_s, few_gib), (many, many_s, many_gib) = min(points), max(points)

    def along(low: float, high: float) -> float:
        slope = max(0.0, high - low) / (many - few) if many > few else high / many
        return max(high - slope * (many - images), low * min(1.0, images / few))

    return PlannedStep(
        step=name,
        cpu_s=along(few_s, many_s),
        memory_gib=along(few_gib, many_gib) if images >= few else few_gib,
        growth=None if many == few else (many_s / many) / (few_s / few) if few_s else 1.0,
    )


def _notes(wanted: Wanted) -> tuple[str, ...]:
    notes = ["Hours of a card are the network's alone, of images that lie there: reading them, panels and tables come to it."]
    if wanted.store == "s3":
        notes.append("An object is one put; each pass over the pixels gets each object once. Hours are those of a local disk.")
    return tuple(notes)
