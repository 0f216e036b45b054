"""Which model a workspace uses, and how that changes: registered, promoted by the rules, rolled back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.run import RunConfig, Stage
from schemas.errors import CheckpointError, ConfigError, StoreError
from schemas.reports.data import SplitReport
from schemas.reports.life.decisions import ModelState, PromotionAnswer, RegisteredModel, SiteThresholds
from schemas.reports.training import TrainReport
from tasks.adapters.lifecycle.model_registry import Registry
from tasks.adapters.lock import reading
from tasks.adapters.models.model_files import ENSEMBLE, ensemble_sha256
from tasks.adapters.provenance import cleaned_text, config_preprocessing, file_sha256
from tasks.adapters.workspace import Workspace

if TYPE_CHECKING:
    from schemas.reports.clinic import OperatingPointsFile
    from tasks.adapters.lifecycle.promotion import Judged
    from tasks.adapters.models.whole_models import WholeModel

logger = logging.getLogger(__name__)


def folder_in_use(workspace: Workspace) -> Path | None:
    """The weights to predict with; None if nobody has promoted any. A workspace without a registry gets none by asking.

    Raises:
        StoreError: The registry is damaged.
    """
    if not workspace.registry_path.exists():
        return None
    with Registry(workspace) as registry:
        model = registry.in_use()
        return None if model is None else registry.folder_of(model)


def chosen_weights(config: RunConfig) -> Path | None:
    """The checkpoint that the config names, else the one in use, fit for this config's images; None = neither.

    Raises:
        CheckpointError: It is missing, was altered, or was trained on images of another preprocessing.
    """
    from tasks.adapters.models.whole_models import require_model

    folder = config.checkpoint or folder_in_use(Workspace(config.workspace_dir))
    if folder is None:
        return None
    require_model(folder, preprocessing=wanted_preprocessing(config))
    return folder


def named_folder(config: RunConfig) -> Path:
    """Where the weights should lie that a prediction would take now; they are not looked at.

    Raises:
        ConfigError: There are none.
        StoreError: The registry, or the report of the training, is damaged.
    """
    return config.checkpoint or folder_in_use(Workspace(config.workspace_dir)) or _reported_training(config).checkpoint_path


def weights_to_predict_with(config: RunConfig) -> Path:
    """The weights to predict with: the config's, those in use here, or what it trained; fit for this config's images.

    Raises:
        ConfigError: None is named and the workspace has trained none.
        CheckpointError: They are missing, were altered, or were trained on images of another preprocessing.
        StoreError: The registry, or the report of the training, is damaged.
    """
    if (chosen := chosen_weights(config)) is not None:
        return chosen
    from tasks.adapters.models.networks import load_trained

    trained = _reported_training(config)
    load_trained(trained, preprocessing=wanted_preprocessing(config))
    return trained.checkpoint_path


def wanted_preprocessing(config: RunConfig) -> str:
    """What the config makes images with, as weights say what they were trained on."""
    return f"{config_preprocessing(config.preprocess)}{config.preprocess.fitting}"


def register_candidate(workspace: Workspace, folder: Path, sha256: str, *, source: str) -> None:
    """Enters weights that may be promoted one day; it changes nothing of what is in use."""
    with Registry(workspace) as registry:
        registry.register(sha256, folder, source=source)


def meant_model(config: RunConfig, name: str) -> RegisteredModel:
    """The model that is meant: by a checkpoint folder or digits of its digest; "" = what this workspace trained last.

    One that is not registered becomes a candidate.

    Raises:
        ConfigError: None, or several, are named so.
        CheckpointError: A folder is no model.
    """
    from tasks.adapters.models.whole_models import home_of, model_members

    workspace = Workspace(config.workspace_dir)
    folder, source = Path(name) if name else _trained(workspace), f"folder {Path(name).name}" if name else "train"
    with Registry(workspace) as registry:
        if not folder.is_dir() and not folder.is_file():
            return registry.named(name)
        sha256 = ensemble_sha256(model_members(folder))
        registry.register(sha256, home_of(folder), source=source)
        return registry.named(sha256)


def asked_answer(config: RunConfig, model: RegisteredModel) -> PromotionAnswer:
    """What the rules of the config say of a model, against the one in use now.

    Raises:
        CheckpointError: Its weights are gone, were altered, or are of another preprocessing or image size than this store's; or
            it was never evaluated.
        ConfigError: It is in use already.
        StoreError: The workspace has no splits, or no published images.
    """
    from tasks.adapters.lifecycle.kept_evaluations import read_kept_evaluation
    from tasks.adapters.lifecycle.promotion import NOT_LOCKED, Locked, answer_of
    from tasks.adapters.models.whole_models import load_model
    from tasks.adapters.store.manifest import read_manifest
    from tasks.adapters.store.objects.bucket_store import store_of_run

    workspace = Workspace(config.workspace_dir)
    if model.state is ModelState.IN_USE:
        raise ConfigError(f"Model {model.sha256[:12]} is in use already", remedy="`mammo model list CONFIG` shows the others")
    with Registry(workspace) as registry:
        in_use = registry.in_use()
        folder = registry.folder_of(model)
        before = None if in_use is None else registry.folder_of(in_use)
    _require_sha256(
        load_model(folder, window_px=config.preprocess.window_px, preprocessing=wanted_preprocessing(config)), model
    )
    candidate = read_kept_evaluation(workspace, model.sha256)
    if candidate is None:
        raise CheckpointError(
            f"Model {model.sha256[:12]} was not evaluated in this workspace",
            expected="an evaluation of it on the locked test split",
            remedy=f"run `mammo evaluate CONFIG`, with evaluate.ensemble: {folder / ENSEMBLE}"
            if (folder / ENSEMBLE).is_file()
            else f"run `mammo evaluate CONFIG`, with evaluate.checkpoints: [{folder}"
            + (", and the one in use]" if in_use else "]"),
        )
    other: Judged | None = None if in_use is None else read_kept_evaluation(workspace, in_use.sha256)
    return answer_of(
        candidate,
        other,
        "" if in_use is None else in_use.sha256,
        read_manifest(store_of_run(config)),
        _present_splits(workspace),
        config.promotion,
        Locked(locked_thresholds(config, folder, model.sha256), locked_thresholds(config, before, in_use.sha256))
        if in_use is not None and before is not None and config.promotion.recall_margin is not None
        else NOT_LOCKED,
    )


def locked_thresholds(config: RunConfig, folder: Path, sha256: str) -> dict[str, float | None]:
    """By finding, what a clinic recalls at: the threshold beside the weights that keeps ``evaluate.subgroup_specificity``.

    Raises:
        CheckpointError: They are damaged, or of other weights.
    """
    from tasks.adapters.models.locking import kept_points

    kept, specificity = kept_points(folder, sha256), config.evaluate.subgroup_specificity
    return {
        finding: point.threshold
        for finding, points in (() if kept is None else kept.by_finding.items())
        for point in points
        if point.specificity == specificity
    }


def site_thresholds(workspace: Workspace, sha256: str) -> SiteThresholds | None:
    """What this site recalls at with these weights in place of the locked threshold; None = at the locked one everywhere.

    Raises:
        StoreError: The registry is damaged.
    """
    if not workspace.registry_path.exists():
        return None
    with Registry(workspace) as registry:
        used = registry.used()
    return used[-1].thresholds if used and used[-1].sha256 == sha256 else None


def points_in_use(config: RunConfig, weights_sha256: str) -> OperatingPointsFile | None:
    """The thresholds of weights that have predicted, if these are the ones that a prediction would take now.

    A file that cannot be read is told of: results go without thresholds then.
    """
    from tasks.adapters.models.locking import kept_points
    from tasks.adapters.models.whole_models import home_of

    try:
        return kept_points(home_of(named_folder(config)), weights_sha256)
    except CheckpointError as unusable:
        if unusable.__cause__ is not None:  # without one they are those of other weights, which are in use by now
            logger.warning("results say no thresholds. %s", unusable)
        return None
    except ConfigError:  # there are none any more
        return None


def stated(text: str, name: str) -> str:
    """Who decides, or why, as it is kept.

    Raises:
        ConfigError: It is empty.
    """
    kept = cleaned_text(text)
    if not kept:
        raise ConfigError("A change of the model in use needs who and why", expected=name, remedy="say what you know")
    return kept


def put_into_use(config: RunConfig, model: RegisteredModel, answer: PromotionAnswer, *, who: str, why: str) -> Path:
    """Copies a model's weights where nothing reaches them and puts it into use; returns that folder.

    Raises:
        CheckpointError: The rules forbid it; or its weights are gone, or there is no room.
        StoreBusy: Another model was put into use since the rules were asked, or weights are being taken away.
    """
    from tasks.adapters.lifecycle.packing import copy_model  # torch: a prediction that asks what is in use has no need of it

    if not answer.is_allowed:
        against = [f"{rule.rule}: {rule.reason}" for rule in answer.rules if rule.is_met is False]
        raise CheckpointError(
            f"Model {model.sha256[:12]} is not put into use: the rules of the config forbid it",
            expected="every rule of the section promotion met",
            got=" ".join(against),
            remedy="train or evaluate further; the one in use stays",
        )
    workspace = Workspace(config.workspace_dir)
    with reading([workspace.root]), Registry(workspace) as registry:
        folder = copy_model(registry.folder_of(model), workspace.models_dir)
        registry.promote(answer, folder, who=who, why=why)
    _tell_mlflow(config, model)
    return folder


def put_back(config: RunConfig, *, who: str, why: str) -> RegisteredModel:
    """Puts the model before the one in use into use again; its weights are the very bytes of then.

    Raises:
        CheckpointError: There is none before, or its weights are gone or altered.
        StoreBusy: Another model was put into use meanwhile.
    """
    from tasks.adapters.models.whole_models import load_model

    with Registry(Workspace(config.workspace_dir)) as registry:
        used, model = registry.used(), registry.before()
        _require_sha256(load_model(registry.folder_of(model)), model)
        registry.roll_back(used, who=who, why=why)
        back = registry.named(model.sha256)
    _tell_mlflow(config, back)
    return back


# ---------------------------------------------------------------------------------------------------------------------


def _tell_mlflow(config: RunConfig, model: RegisteredModel) -> None:
    """Who has a registry of MLflow's finds there what is in use here; the one here decides, whether that one answers or not."""
    store, name = config.train.tracking.mlflow, config.promotion.mlflow_model
    if store is None or name is None:
        return
    from tasks.adapters.training.mlflow_log import tell_model_in_use

    tags = {"mammo.sha256": model.sha256, "mammo.source": model.source, "mammo.run": config.name}
    tell_model_in_use(store, name, tags, logger.warning)


def _require_sha256(found: WholeModel, model: RegisteredModel) -> None:
    if found.sha256 != model.sha256:
        raise CheckpointError(
            f"{found.folder} holds other weights than the registry says",
            expected=f"sha256 {model.sha256[:12]}...",
            got=f"{found.sha256[:12]}...",
            remedy="restore the model, or promote another",
        )


def _reported_training(config: RunConfig) -> TrainReport:
    try:
        return Workspace(config.workspace_dir).read_report(Stage.TRAIN.value, TrainReport)
    except FileNotFoundError as missing:
        raise ConfigError(
            "predict needs a trained network",
            expected="checkpoint: FOLDER in the config, or --checkpoint FOLDER",
            got=f"none, and no training in {config.workspace_dir}",
            remedy="name the checkpoint folder that `mammo train` printed",
        ) from missing
    except (OSError, ValueError) as unreadable:
        raise StoreError(
            "The report of stage train cannot be read",
            expected=f"a report of this version in {config.workspace_dir}",
            got=type(unreadable).__name__,
            remedy="run `mammo train CONFIG.yaml` again",
        ) from unreadable


def _trained(workspace: Workspace) -> Path:
    try:
        return workspace.read_report(Stage.TRAIN.value, TrainReport).checkpoint_path
    except (OSError, ValueError) as missing:
        raise ConfigError(
            "No model is named, and this workspace has trained none",
            expected="MODEL: a checkpoint folder or the first digits of a digest",
            remedy="`mammo model list CONFIG` shows what there is",
        ) from missing


def _present_splits(workspace: Workspace) -> str:
    try:
        splits = workspace.read_report(Stage.SPLIT.value, SplitReport)
    except (OSError, ValueError) as missing:
        raise ConfigError("The workspace has no division of its patients", remedy="run `mammo split CONFIG` first") from missing
    return file_sha256(splits.splits_path)
