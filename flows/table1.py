"""Table 1: train what its rows need, evaluate every row on one test split, and put the paper's numbers beside."""

from __future__ import annotations

from flows.ingest import TWO_BATCHES, ingest_steps
from flows.pretrain import pretrained
from schemas.config.network import TableRow
from schemas.config.run import RunConfig
from schemas.reports.data import SplitReport
from schemas.reports.table1 import Table1Report
from tasks.adapters.models.start_files import require_starts
from tasks.artifacts import config_flow
from tasks.evaluate import evaluate_network
from tasks.phantom import write_phantom
from tasks.split import split_patients
from tasks.stage import load_division, require_own_store
from tasks.table1 import (
    evaluation_run,
    localization_checkpoints,
    row_checkpoints,
    training_run,
    variants_to_train,
    write_table1,
)
from tasks.train import train_network
from tasks.validate import check_manifest


@config_flow(name="table1", task_runner=TWO_BATCHES)
def table1(config: RunConfig) -> Table1Report:
    """Seven rows, from one store and one split. Run again, it goes on where it stopped."""
    variants = variants_to_train(config)
    if variants:
        require_starts(config)
    splits = load_division(config) if config.table1.is_store_ready else _prepared(config)
    begun = pretrained(config, splits) if variants else None
    trained = {
        variant: [
            train_network(run, splits, begun) for run in (training_run(config, variant, seed) for seed in config.table1.seeds)
        ]
        for variant in variants
    }
    rows = {row: evaluation_run(config, row, row_checkpoints(config, row, trained)) for row in config.table1.rows}
    evaluated = {row: evaluate_network(run, splits, None) for row, run in rows.items()}
    pointing = localization_checkpoints(config, trained)
    localized = (
        evaluate_network(evaluation_run(config, TableRow.GMIC, pointing, part="-localisation"), splits, None)
        if pointing
        else None
    )
    return write_table1(config, splits, evaluated, localized)


def _prepared(config: RunConfig) -> SplitReport:
    require_own_store(config)
    if config.phantom is not None:
        write_phantom(config)
    ingested = ingest_steps(config)
    check_manifest(config, ingested)
    return split_patients(config, ingested)
