"""What the weights' own site fixed and every other site must use as it is: thresholds and recalibration beside the weights.

They are written where the weights were tuned, and read, not written, where their patients are strangers. The images of another
preprocessing are refused when the weights are loaded (``networks.require_preprocessing``), so that is locked too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from gmic_model.metrics.calibration import Recalibration, shifted_intercept
from schemas.config.evaluation import EvaluateConfig
from schemas.config.section import content_sha256
from schemas.errors import CheckpointError
from schemas.exam import Finding
from schemas.reports.clinic import KeptThreshold, OperatingPointsFile
from schemas.reports.evaluation import FindingMetrics, LockedSettings, RecalibrationFile, RecalibrationFit, TemperatureFit
from schemas.reports.report import Provenance
from schemas.reports.training import EnsembleMember
from tasks.adapters.models.model_files import (
    ENSEMBLE,
    OPERATING_POINTS,
    RECALIBRATION,
    TEMPERATURE,
    ensemble_sha256,
    read_recalibration,
    write_ensemble,
    write_recalibration,
)
from tasks.adapters.workspace import write_atomically


class Standing(NamedTuple):
    """What weights are to the patients of an evaluation.

    Attributes:
        are_unseen: They are known not to have been trained on those of the tuning split; otherwise files that are kept say so.
        is_own_tuning: They were tuned on the patients of this tuning split.
    """

    are_unseen: bool
    is_own_tuning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What is kept beside some weights, for an evaluation that must not choose anew.

    Attributes:
        thresholds: By finding; empty = none are kept.
        recalibrations: By finding; empty = none are kept. A former release's temperature has no share of findings.
        settings: As reports say it.
    """

    thresholds: Mapping[str, tuple[KeptThreshold, ...]]
    recalibrations: Mapping[str, RecalibrationFit]
    settings: LockedSettings


def read_locked(members: Sequence[EnsembleMember], config: EvaluateConfig, *, is_own_tuning: bool) -> Locked:
    """What another site fixed; nothing where the evaluated tuning split is the one that the weights were tuned on.

    Args:
        members: The weights.
        config: Says whether they come from an ``ensemble.json``: what is kept of a mean score lies beside that file. Of weights
            that are read as a row of Table 1 nothing is kept.
        is_own_tuning: Whatever is chosen on this tuning split is what is kept, so there is nothing else to use.

    Raises:
        CheckpointError: What is kept cannot be read, or is of other weights.
    """
    if is_own_tuning:
        return Locked(thresholds={}, recalibrations={}, settings=LockedSettings(is_own_site=True))
    folder, sha256 = _home(members, config), ensemble_sha256(members)
    if config.read_as is not None:
        missing = "what is kept was chosen on the weights' own scores; read as a row of Table 1 they give others"
        return Locked(thresholds={}, recalibrations={}, settings=LockedSettings(is_own_site=False, missing=missing))
    if folder is None:
        missing = (
            "several weights that are named one by one keep nothing together: name in evaluate.ensemble the ensemble.json that "
            "their evaluation left in its folder where they were tuned"
        )
        return Locked(thresholds={}, recalibrations={}, settings=LockedSettings(is_own_site=False, missing=missing))
    kept = kept_points(folder, sha256)
    recalibrations, why_not = _kept_recalibrations(folder, sha256)
    reasons = [f"no {OPERATING_POINTS} lies beside the weights"] if kept is None else []
    if why_not:
        reasons.append(why_not)
    return Locked(
        thresholds={} if kept is None else kept.by_finding,
        recalibrations=recalibrations,
        settings=LockedSettings(is_own_site=False, kept=None if kept is None else kept.provenance, missing="; ".join(reasons)),
    )


def kept_digest(members: Sequence[EnsembleMember], config: EvaluateConfig) -> tuple[str, ...]:
    """Names what lies beside weights that a config names, whoever has put it there; empty = nothing that could be used."""
    try:
        kept = read_locked(members, config, is_own_tuning=False) if config.names_weights else None
    except CheckpointError as damage:
        return (str(damage),)
    if kept is None or not (kept.thresholds or kept.recalibrations):
        return ()
    fits = {finding: fit.model_dump(mode="json") for finding, fit in kept.recalibrations.items()}
    points = {finding: [point.model_dump(mode="json") for point in chosen] for finding, chosen in kept.thresholds.items()}
    return (content_sha256({"recalibrations": fits, "thresholds": points}),)


def keep_for_others(
    folder: Path,
    members: Sequence[EnsembleMember],
    config: EvaluateConfig,
    by_finding: Mapping[str, FindingMetrics],
    *,
    provenance: Provenance,
    standing: Standing,
) -> None:
    """Leaves what was chosen and fitted in an evaluation's folder, and beside the weights if their own site chose it.

    Beside the weights it is written where it is known that they were not trained on these patients and, if something is kept
    there already, where this is the tuning split that they were tuned on: no other site moves what its own has fixed. Several
    weights that were named one by one are named together in the evaluation's folder, so that others find there what was fixed.

    Args:
        folder: The evaluation's.
        members: What was evaluated.
        config: Read as another row of Table 1, the weights give scores that nobody else is given: nothing is kept of these.
        by_finding: What was measured.
        provenance: Of the evaluation.
        standing: Of the weights to these patients.
    """
    sha256 = ensemble_sha256(members)
    fits = {finding: metrics.recalibration for finding, metrics in by_finding.items() if metrics.recalibration is not None}
    chosen = {finding: metrics.tuning_thresholds for finding, metrics in by_finding.items() if metrics.tuning_thresholds}
    fitted = RecalibrationFile(checkpoint_sha256=sha256, data_version=provenance.data_version, by_finding=fits)
    points = OperatingPointsFile(checkpoint_sha256=sha256, provenance=provenance, by_finding=chosen)
    if not standing.are_unseen:
        said = "not known whether the weights were trained on these patients"
        fitted = fitted.model_copy(update={"fitted_on": f"{fitted.fitted_on}; {said}"})
        points = points.model_copy(update={"chosen_on": f"{points.chosen_on}; {said}"})
    write_recalibration(folder, fitted)
    write_atomically(folder / OPERATING_POINTS, points.model_dump_json(indent=1).encode())
    _name_together(folder / ENSEMBLE, members, config, is_kept=standing.is_own_tuning and config.read_as is None)
    home = _home(members, config)
    if home is None or not standing.are_unseen or config.read_as is not None:
        return
    # A tuning split without findings, as where everybody tests, chooses nothing: what is kept stays.
    if any(fit.slope is not None for fit in fits.values()) and (standing.is_own_tuning or not _is_of(home, sha256)):
        write_recalibration(home, fitted)
    if chosen and (standing.is_own_tuning or not (home / OPERATING_POINTS).exists()):
        write_atomically(home / OPERATING_POINTS, points.model_dump_json(indent=1).encode())


def kept_fits(folder: Path, sha256: str) -> dict[str, RecalibrationFit]:
    """What was fitted to these very weights, of each finding that has it; a former release's temperature is a slope.

    Raises:
        CheckpointError: Nothing is kept, it cannot be read, or it was fitted to other weights.
    """
    found: dict[str, RecalibrationFit] = {}
    for finding, fit in read_recalibration(folder, sha256).by_finding.items():
        if isinstance(fit, TemperatureFit):
            if fit.temperature is not None:
                counts = {
                    "breasts": fit.breasts,
                    "positive_breasts": fit.positive_breasts,
                    "patients": 0,
                    "positive_patients": 0,
                }
                found[finding] = RecalibrationFit(intercept=0.0, slope=1.0 / fit.temperature, prevalence=None, **counts)
        elif fit.intercept is not None and fit.slope is not None:
            found[finding] = fit
    return found


def kept_recalibrations(folder: Path, sha256: str, prevalences: Mapping[Finding, float]) -> dict[str, Recalibration]:
    """What is kept, moved to the share of findings that is stated of a finding (``shifted_intercept``).

    Raises:
        CheckpointError: Nothing is kept, it cannot be read, or it was fitted to other weights; or a share is stated of a
            finding that has no fit, or one that does not say for which share it is right.
    """
    fits = kept_fits(folder, sha256)
    found = {finding: Recalibration(fit.intercept or 0.0, fit.slope or 1.0) for finding, fit in fits.items()}
    for finding, prevalence in prevalences.items():
        fit = fits.get(finding.value)
        if fit is None or not fit.prevalence or fit.prevalence >= 1.0 or fit.intercept is None:
            raise CheckpointError(
                f"The recalibration of {finding.value} findings in {folder} cannot be moved to another share of findings",
                expected="a fit that says for which share it is right",
                got="no fit" if fit is None else "one that does not say it",
                remedy="run `mammo evaluate` on these weights at their own site again, or leave out calibrated_prevalence",
            )
        moved = shifted_intercept(fit.intercept, fitted_prevalence=fit.prevalence, prevalence=prevalence)
        found[finding.value] = found[finding.value]._replace(intercept=moved)
    return found


def kept_points(folder: Path, sha256: str) -> OperatingPointsFile | None:
    """The thresholds that lie beside these very weights; None = none do.

    Raises:
        CheckpointError: They cannot be read, which is its cause; or are of other weights, and it has no cause.
    """
    path = folder / OPERATING_POINTS
    damage: Exception | None = None
    if not path.exists():
        return None
    try:
        kept = OperatingPointsFile.model_validate_json(path.read_bytes())
        got = f"those of {kept.checkpoint_sha256[:12]}..."
    except (OSError, ValidationError) as error:
        kept, damage, got = None, error, type(error).__name__
    if kept is None or kept.checkpoint_sha256 != sha256:
        raise CheckpointError(
            f"The operating points in {folder} cannot be used",
            expected=f"{OPERATING_POINTS} of the weights {sha256[:12]}..., of a form that this release knows",
            got=got,
            remedy="copy the file that lies beside these weights at their own site; without one the evaluation says so",
        ) from damage
    return kept


# ---------------------------------------------------------------------------------------------------------------------


def _home(members: Sequence[EnsembleMember], config: EvaluateConfig) -> Path | None:
    """Where what belongs to these scores is kept: the checkpoint's folder, or that of the ensemble's file."""
    if len(members) == 1:
        return members[0].path
    return None if config.ensemble is None else config.ensemble.parent


def _name_together(path: Path, members: Sequence[EnsembleMember], config: EvaluateConfig, *, is_kept: bool) -> None:
    """An ``ensemble.json`` beside what was chosen for several named weights; that of an evaluation before goes."""
    if len(members) > 1 and config.ensemble is None and is_kept:
        write_ensemble(path, members)
    elif config.ensemble is None or config.ensemble.resolve() != path.resolve():
        path.unlink(missing_ok=True)


def _is_of(folder: Path, sha256: str) -> bool:
    """True if a recalibration of these weights lies there already; a former release's temperature makes room."""
    try:
        return isinstance(read_recalibration(folder, sha256), RecalibrationFile)
    except CheckpointError:
        return False


def _kept_recalibrations(folder: Path, sha256: str) -> tuple[dict[str, RecalibrationFit], str]:
    """What is kept, and why it is not in words."""
    if not any((folder / name).exists() for name in (RECALIBRATION, TEMPERATURE)):
        return {}, f"no {RECALIBRATION} lies beside the weights"
    try:
        kept = kept_fits(folder, sha256)
    except CheckpointError:
        return {}, f"the {RECALIBRATION} beside the weights is damaged, or of other weights"
    return kept, "" if kept else f"the {RECALIBRATION} beside the weights holds no fit"
