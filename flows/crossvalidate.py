"""Crossvalidate: train and judge a network for each fold of the patients, and put all test patients together."""

from __future__ import annotations

from flows.ingest import TWO_BATCHES, ingest_steps
from flows.pretrain import pretrained
from schemas.config.run import RunConfig
from schemas.reports.clinic import CrossValidationReport
from schemas.reports.evaluation import EvaluationReport
from tasks.adapters.models.start_files import require_starts
from tasks.artifacts import config_flow
from tasks.crossvalidate import fold_runs, pool_folds
from tasks.evaluate import evaluate_network
from tasks.split import split_patients
from tasks.stage import require_own_store
from tasks.train import train_network
from tasks.validate import check_manifest


@config_flow(name="crossvalidate", task_runner=TWO_BATCHES)
def crossvalidate(config: RunConfig) -> CrossValidationReport:
    """One network for each fold, trained on all others. Run again, it goes on where it stopped."""
    require_own_store(config)
    runs = fold_runs(config)
    require_starts(config)
    ingested = ingest_steps(config)
    check_manifest(config, ingested)
    evaluated: list[EvaluationReport] = []
    for run in runs:
        splits = split_patients(run, ingested)
        trained = train_network(run, splits, pretrained(run, splits))
        evaluated.append(evaluate_network(run, splits, trained))
    return pool_folds(config, evaluated)
