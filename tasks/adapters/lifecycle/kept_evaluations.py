"""Of each set of weights its newest evaluation: the breasts that it scored, so that two models can be paired."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from schemas.config.evaluation import EvaluateConfig
from schemas.config.recipe import StartPart
from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import EvaluationReport, FindingMetrics
from schemas.reports.life.decisions import KeptEvaluation
from schemas.reports.training import EnsembleMember, StartedPart, StartedWeights
from tasks.adapters.models.model_files import SIDECAR, members_of, read_sidecar
from tasks.adapters.provenance import file_sha256
from tasks.adapters.scoring.model_ranking import ScoredBefore, with_before
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


def evaluation_of_start(workspace: Workspace, members: Sequence[EnsembleMember], config: EvaluateConfig) -> ScoredBefore | None:
    """What the weights scored that a training began with; None = they were never evaluated here, or it did not begin with any.

    Args:
        workspace: Where.
        members: The weights that are evaluated: of several none has begun the mean score.
        config: How they are read.

    Raises:
        StoreError: That evaluation is damaged.
    """
    if len(members) != 1 or config.read_as is not None or (part := _began_with(members[0])) is None:
        return None
    found = read_kept_evaluation(workspace, part.sha256)
    if found is None:
        return None
    kept, breasts = found
    return ScoredBefore(sha256=part.sha256, source=part.source, scored_utc=kept.provenance.created_utc, breasts=breasts)


def with_start(
    config: RunConfig, members: Sequence[EnsembleMember], by_finding: dict[str, FindingMetrics], breasts: pd.DataFrame
) -> dict[str, FindingMetrics]:
    """The metrics with what the training brought, as ``with_before``, where what it began with was evaluated here.

    Raises:
        StoreError: That evaluation is damaged.
    """
    start = evaluation_of_start(Workspace(config.workspace_dir), members, config.evaluate)
    return with_before(by_finding, breasts, start, config.evaluate)


def start_to_score(config: RunConfig, splits: SplitReport, members: Sequence[EnsembleMember]) -> RunConfig | None:
    """The run that scores what a training began with, where that has no scores on these splits: the page pairs the two.

    Args:
        config: The run; says where the checkpoint lies, and where scores are kept.
        splits: Whose test patients are scored.
        members: What the training made.

    Returns:
        None = it was scored, or nothing can be: no whole network began the training, or it lies there no more, or in a file of
        another form, which has no network of its own to score with.

    Raises:
        StoreError: A kept evaluation is damaged.
    """
    path = config.train.start.network
    if path is None or config.evaluate.read_as is not None or (part := _began_with(members[0])) is None:
        return None
    is_network = (path / SIDECAR).is_file() and read_sidecar(path).get("model") is not None
    if not is_network or members_of([path])[0].sha256 != part.sha256:
        return None
    kept = read_kept_evaluation(Workspace(config.workspace_dir), part.sha256)
    here = (splits.data_version, file_sha256(splits.splits_path))
    made = None if kept is None else kept[0].provenance
    if made is not None and (made.data_version, made.splits_sha256) == here:
        return None
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"checkpoints": (path,)})})


def _began_with(member: EnsembleMember) -> StartedPart | None:
    """The whole network that a training began with, as the sidecar of what it made says; its parts alone score nothing."""
    start = read_sidecar(member.path).get("start")
    parts = () if start is None else StartedWeights.model_validate(start).parts
    return next((part for part in parts if part.part == StartPart.NETWORK.value), None)
