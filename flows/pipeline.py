"""The main job: ingest -> validate -> split -> train -> evaluate -> explain -> report, as tasks of one run.

A retry of a failed run, and a new run in the same workspace, skip what is finished: ingest asks its ledger, every later stage
has a content key in Prefect's result cache.
"""

from __future__ import annotations

from prefect import flow

from flows.ingest import TWO_BATCHES, ingest_steps
from flows.pretrain import pretrained
from schemas.config.run import RunConfig, Stage
from schemas.reports.pages import PipelineReport
from tasks.artifacts import run_name
from tasks.evaluate import evaluate
from tasks.explain import explain
from tasks.report import write_report
from tasks.split import split
from tasks.stage import when_needed
from tasks.train import train
from tasks.validate import validate


@flow(name="pipeline", flow_run_name=run_name, task_runner=TWO_BATCHES)
def pipeline(config: RunConfig) -> PipelineReport:
    """From a folder of DICOM exams to a trained, evaluated, explained GMIC and its report."""
    ingested = ingest_steps(config)
    validated = when_needed(validate, Stage.VALIDATE, config)(config, ingested)
    splits = when_needed(split, Stage.SPLIT, config)(config, ingested)
    trained = when_needed(train, Stage.TRAIN, config)(config, splits, pretrained(config, splits))
    evaluated = when_needed(evaluate, Stage.EVALUATE, config)(config, splits, trained)
    explained = when_needed(explain, Stage.EXPLAIN, config)(config, splits, trained, evaluated)
    return write_report(config, ingested, validated, splits, trained, evaluated, explained)
