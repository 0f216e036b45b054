"""The main job: ingest -> validate -> split -> train -> evaluate -> explain -> report, as tasks of one run.

A retry of a failed run, and a new run in the same workspace, skip what is finished: ingest asks its ledger, every later stage
the key in its folder (``tasks.stage``).
"""

from __future__ import annotations

from flows.ingest import TWO_BATCHES, ingest_steps
from flows.pretrain import pretrained
from schemas.config.run import RunConfig
from schemas.reports.pages import PipelineReport
from tasks.adapters.models.start_files import require_starts
from tasks.artifacts import config_flow
from tasks.evaluate import evaluate_network
from tasks.explain import explain_exams
from tasks.report import write_report
from tasks.split import split_patients
from tasks.stage import require_own_store
from tasks.train import train_network
from tasks.validate import check_manifest


@config_flow(name="pipeline", task_runner=TWO_BATCHES)
def pipeline(config: RunConfig) -> PipelineReport:
    """From a folder of DICOM exams to a trained, evaluated, explained GMIC and its report."""
    require_own_store(config)
    require_starts(config)
    ingested = ingest_steps(config)
    validated = check_manifest(config, ingested)
    splits = split_patients(config, ingested)
    trained = train_network(config, splits, pretrained(config, splits))
    evaluated = evaluate_network(config, splits, trained)
    explained = explain_exams(config, splits, trained, evaluated)
    return write_report(config, ingested, validated, splits, trained, evaluated, explained)
