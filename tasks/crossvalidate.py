"""Cross-validation: every fold is a run of the stages' own tasks in a workspace of its own. Here they are put together.

It keeps no memory: it is made of the folds' stages, which have theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.reports.clinic import CrossValidationReport
from schemas.reports.evaluation import EvaluationReport
from tasks.adapters.models.model_files import ENSEMBLE, write_ensemble
from tasks.adapters.pages.evaluations.crossvalidation_page import pooled_markdown, write_crossvalidation_page
from tasks.adapters.scoring.clinic.pooled_folds import pooled_metrics
from tasks.adapters.workspace import CROSSVALIDATE, Workspace, exam_store_dir
from tasks.artifacts import show_link, show_markdown


def fold_runs(config: RunConfig) -> list[RunConfig]:
    """The run of each fold: a workspace below ours, with our store.

    Raises:
        ConfigError: The config names no folds, or weights, which would have seen the patients of every fold but one.
    """
    if config.split.folds is None or config.split.fold is not None:
        raise ConfigError(
            "A cross-validation needs the number of folds, and runs all of them",
            expected="split: {folds: 5}",
            got="no split.folds" if config.split.folds is None else f"split.fold {config.split.fold}",
            remedy="set split.folds and leave out split.fold; docs/how-to/cross-validate.md shows a config",
        )
    if config.evaluate.names_weights:
        raise ConfigError(
            "A cross-validation trains a network for each fold",
            expected="no weights in evaluate.checkpoints or evaluate.ensemble",
            got="named weights",
            remedy="leave them out; weights that exist already are judged by `mammo evaluate CONFIG.yaml`",
        )
    folder, store_dir = Workspace(config.workspace_dir).stage_dir(CROSSVALIDATE), exam_store_dir(config)
    return [
        config.model_copy(
            update={
                "name": f"{config.name}-fold-{number}",
                "workspace_dir": folder / f"fold-{number}",
                "store_dir": store_dir,
                "split": config.split.model_copy(update={"fold": number}),
            }
        )
        for number in range(1, config.split.folds + 1)
    ]


@task(name=CROSSVALIDATE, cache_policy=NO_CACHE, persist_result=False)
def pool_folds(config: RunConfig, evaluated: Sequence[EvaluationReport]) -> CrossValidationReport:
    """Puts the folds together; leaves ``crossvalidation.html``, ``ensemble.json`` and ``report.json`` in ``crossvalidate/``.

    Raises:
        StoreError: The folds are not of one division of one cohort.
    """
    first, workspace = evaluated[0].provenance, Workspace(config.workspace_dir)
    folder = workspace.stage_dir(CROSSVALIDATE)
    report = CrossValidationReport(
        folds=len(evaluated),
        specificity=config.evaluate.subgroup_specificity,
        by_finding=pooled_metrics(evaluated, confidence=config.evaluate.confidence),
        data_version=first.data_version,
        page_path=folder / "crossvalidation.html",
        ensemble_path=folder / ENSEMBLE,
        provenance=first.model_copy(update={"config_sha256": config.sha256(), "splits_sha256": ""}),
    )
    write_ensemble(folder / ENSEMBLE, (member for one in evaluated for member in one.models))
    write_crossvalidation_page(config, report)
    workspace.write_report(CROSSVALIDATE, report)
    show_markdown(CROSSVALIDATE, pooled_markdown(report), "Every patient judged once, by a network that never saw her")
    show_link("crossvalidation", report.page_path, "The page of all folds")
    return report
