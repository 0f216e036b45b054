"""``mammo plan``: what a number of images takes, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.scale.costs import Wanted, read_costs, scale_plan
from schemas.errors import ConfigError
from schemas.reports.precision import ScalePlan

_FASTER_THAN_IMAGES = 1.1
"""Growth above which a step is called one that grows faster than the images: below, it is the machine's mood."""


class StoreKind(StrEnum):
    """Where the exam store is to lie."""

    DISK = "disk"
    S3 = "s3"


def plan(
    images: Annotated[int, typer.Option(min=1, help="How many images")] = 1_000_000,
    cores: Annotated[list[int] | None, typer.Option(min=1, help="Cores that ingest; may be repeated, a column each")] = None,
    store: Annotated[StoreKind, typer.Option(help="Where the exam store is to lie")] = StoreKind.DISK,
    core_hour: Annotated[float | None, typer.Option(min=0.0, help="Price of a core for an hour, in any money")] = None,
    tb_month: Annotated[float | None, typer.Option(min=0.0, help="Price of a terabyte for a month, in the same money")] = None,
    network_gbit: Annotated[float, typer.Option(help="Network between the cores and the disks, gigabits a second")] = 10.0,
    numbers: Annotated[
        Path | None, typer.Option(help="Measured on your machine: what the benchmarks wrote with --json; else the shipped ones")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON")] = False,
) -> None:
    """What so many images take, before anything is bought: hours, terabytes, objects, memory and money.

    Computed from what the benchmarks measured (docs/explanation/a-million-images.md); nothing is measured now.
    """
    if not network_gbit > 0.0:
        raise ConfigError("--network-gbit has no meaning", expected="a number above 0", got=network_gbit)
    wanted = Wanted(
        images=images,
        cores=tuple(sorted(set(cores or (16, 64, 512)))),
        store=store.value,
        core_hour=core_hour,
        tb_month=tb_month,
        network_gbit=network_gbit,
    )
    found = scale_plan(read_costs(numbers), wanted)
    typer.echo(found.model_dump_json(indent=1) if as_json else plan_text(found))


def plan_text(plan: ScalePlan) -> str:
    """The plan as tables in Markdown, which the page of a million images quotes."""
    parts = [
        f"{plan.images:,} images; columns with cores are extrapolated at {plan.efficiency:.0%} parallel efficiency",
        _table(
            (
                "syntax", "ms an image", "core-hours", "of these decoding", *(f"{cores} cores" for cores in plan.cores),
                "source, TB", *(("money",) if any(one.cost is not None for one in plan.syntaxes) else ()),
            ),
            [
                (
                    one.syntax, f"{one.ms_an_image:.0f}", f"{one.core_hours:.1f}", f"{one.decoding_core_hours:.1f}",
                    *map(_duration, one.wall_hours), f"{one.source_tb:.2f}",
                    *(() if one.cost is None else (f"{one.cost:,.2f}",)),
                )
                for one in plan.syntaxes
            ],
        ),
        _table(("codec", "TB"), [(name, f"{terabytes:.2f}") for name, terabytes in plan.store_tb.items()]),
        _table(("what", "how much"), _amounts(plan)),
    ]  # fmt: skip
    if plan.steps:
        parts.append(_table(("step, one process, no pixels", "CPU", "memory", "CPU an image, many / few"), _steps(plan)))
    full = f"cores that fill {plan.network_gbit:g} Gbit/s"
    parts.append(
        _table(
            ("syntax", f"{full} reading", "writing", "cores that fill one scheduler"),
            [
                (one.syntax, *(f"{cores:.0f}" for cores in (one.cores_reading, one.cores_writing, one.cores_scheduler)))
                for one in plan.syntaxes
            ],
        )
    )
    card_hours = {"scored once by one network": plan.scoring_card_hours, "learnt from once": plan.training_card_hours}
    rows = [(what, _duration(hours)) for what, hours in card_hours.items()]
    parts.append(_table(("the network at full resolution", plan.card), rows))
    return "\n\n".join([*parts, "\n".join(plan.notes)])


def _amounts(plan: ScalePlan) -> list[tuple[str, str]]:
    files = "objects of the pixels in the bucket" if plan.store == StoreKind.S3.value else "shard files of the pixels"
    rows = [
        (f"store as it is written, {plan.codec}", f"{plan.store_tb[plan.codec]:.2f} TB"),
        (files, f"{plan.objects:,}"),
        ("Dask futures, a few per worker at a time", f"{plan.objects:,}"),
        ("Prefect tasks, a batch each", f"{plan.batches:,}"),
        ("ledger", f"{plan.ledger_gb:.2f} GB"),
        ("manifest", f"{plan.manifest_gb:.2f} GB"),
        ("memory of scan, plan and publish", f"{plan.ingest_memory_gb:.1f} GB"),
        ("memory of the Dask scheduler for the whole run", f"{plan.scheduler_gb:.2f} GB"),
        ("memory of a worker with its gate child", f"{plan.worker_gib:.2f} GiB"),
    ]
    if plan.store_cost_a_month is not None:
        rows.append(("money a month for the store", f"{plan.store_cost_a_month:,.2f}"))
    return rows


def _steps(plan: ScalePlan) -> list[tuple[str, str, str, str]]:
    return [
        (
            step.step,
            f"{step.cpu_s:.1f} s" if step.cpu_s < 600 else f"{step.cpu_s / 60:.0f} min",
            f"{step.memory_gib:.2f} GiB",
            _growth(step.growth),
        )
        for step in plan.steps
    ]


def _growth(growth: float | None) -> str:
    if growth is None:
        return "not measured"
    return f"{growth:.2f}" + (" (faster than the images)" if growth > _FASTER_THAN_IMAGES else "")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" if cells[0] != "---" else f"|{'|'.join(cells)}|" for cells in lines)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1.0 else f"{60 * hours:.0f} min" if hours >= 1 / 6 else f"{60 * hours:.1f} min"
