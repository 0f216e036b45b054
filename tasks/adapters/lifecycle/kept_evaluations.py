"""Of each set of weights its newest evaluation: the breasts that it scored, so that two models can be paired."""

from __future__ import annotations

import pandas as pd

from schemas.config.evaluation import EvaluateConfig
from schemas.errors import StoreError
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.life.decisions import KeptEvaluation
from tasks.adapters.workspace import Workspace, write_atomically


def keep_evaluation(workspace: Workspace, breasts: pd.DataFrame, report: EvaluationReport, config: EvaluateConfig) -> None:
    """Keeps what was just measured of each set of weights and of their mean; read as another row of Table 1 it is of no model.

    Args:
        workspace: Where.
        breasts: Of every model that was evaluated, as ``score_tables.breasts_of`` makes them.
        report: Of the evaluation.
        config: How the weights were read.
    """
    if config.read_as is not None:
        return
    folder = workspace.kept_evaluations_dir
    for sha256 in dict.fromkeys((*(member.sha256 for member in report.models), report.model_sha256)):
        scored = breasts[breasts["model_sha256"] == sha256]
        kept = KeptEvaluation(
            sha256=sha256, provenance=report.provenance, patients=report.patients, times_scored=len(report.scorings)
        )
        write_atomically(folder / f"{sha256}.parquet", scored.to_parquet(index=False))
        write_atomically(folder / f"{sha256}.json", kept.model_dump_json(indent=1).encode())


def read_kept_evaluation(workspace: Workspace, sha256: str) -> tuple[KeptEvaluation, pd.DataFrame] | None:
    """The newest evaluation of these weights; None if there is none.

    Raises:
        StoreError: It is damaged.
    """
    path = workspace.kept_evaluations_dir / f"{sha256}.json"
    if not path.exists():
        return None
    try:
        kept = KeptEvaluation.model_validate_json(path.read_bytes())
        breasts = pd.read_parquet(path.with_suffix(".parquet"))
    except (OSError, ValueError) as damage:
        raise StoreError(
            f"The kept evaluation {path.name} cannot be read",
            got=type(damage).__name__,
            remedy="evaluate these weights again: `mammo evaluate CONFIG --force evaluate`",
        ) from damage
    return kept, breasts
