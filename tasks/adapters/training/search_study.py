"""The hyper-parameter search's study: which trials there are, who runs them, how they ended. The only home of Optuna.

The study lies in a database that several workers share; the weights of a trial lie in its folder. A trial belongs to the
process that holds the lock of its folder, which the kernel frees when that process ends, however it ends: a trial that runs
by the study's word and is held by nobody is taken over and goes on from its checkpoint. A trial of another machine is taken
over when it has shown no sign of life for ``search.stale_after_s``; both machines must then share the workspace's disk, else
it begins anew.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from schemas.config.field_path import with_value
from schemas.config.run import RunConfig
from schemas.config.training import PAPER_RANGES, SearchConfig, SearchedRange
from schemas.errors import ConfigError, StoreBusy, TrainingError
from schemas.reports.data import SplitReport
from schemas.reports.report import Anchor
from schemas.reports.training import PretrainReport, TrainReport
from tasks.adapters.databases.sqlite_file import sqlite_url
from tasks.adapters.lock import held_lock
from tasks.adapters.models.checkpoints import delete_checkpoints
from tasks.adapters.training.mlflow_log import former_training_key, mark_stopped, training_key
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import TrainingRequest, data_of, identities, training_report
from tasks.adapters.workspace import found_below

_STORED_NAMES: Final = MappingProxyType({path: path.rpartition(".")[2] for path in PAPER_RANGES})
"""What the paper's parameters are called in a study's database: studies of before there were paths go on."""

PUBLISHED: Final = (
    {"train.learning_rate": 4.134e-6, "train.saliency_weight": 3.259e-6, "train.saliency_exponent": 1.0, "model.top_t": 0.02},
    {"train.learning_rate": 1.165e-5, "train.saliency_weight": 2.280e-4, "train.saliency_exponent": 1.0, "model.top_t": 0.03},
    {"train.learning_rate": 3.224e-5, "train.saliency_weight": 1.416e-4, "train.saliency_exponent": 1.0, "model.top_t": 0.03},
    {"train.learning_rate": 1.460e-5, "train.saliency_weight": 9.407e-6, "train.saliency_exponent": 1.0, "model.top_t": 0.05},
    {"train.learning_rate": 3.525e-6, "train.saliency_weight": 4.278e-5, "train.saliency_exponent": 1.0, "model.top_t": 0.10},
)
"""The authors' five configurations (nyukat/GMIC issue 4). Their "beta" is the weight of an L1 norm, our lambda at exponent 1;
two of them lie below the paper's range of lambda and are tried as they are."""

_CLAIM_TIMEOUT_S = 120.0
_LEAST_OUTCOMES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """A trial as the study knows it.

    Attributes:
        state: ``complete``, ``pruned``, ``fail``, ``running`` or ``waiting``.
        auroc: Best tuning malignant AUROC; None = not ended well.
        checkpoint_path, sha256: Its best weights; empty if there are none.
        curve: Tuning malignant AUROC by epoch.
    """

    number: int
    state: str
    parameters: Mapping[str, float]
    auroc: float | None
    checkpoint_path: str
    sha256: str
    curve: tuple[float, ...]


class ClaimedTrial:
    """A trial that this process runs."""

    def __init__(self, trial: Trial, folder: Path, paths: Sequence[str], *, is_resumed: bool) -> None:
        self.number = trial.number
        self._paths = tuple(paths)
        self.folder = folder
        self.is_resumed = is_resumed
        self._trial = trial

    @property
    def parameters(self) -> dict[str, float]:
        """Drawn values by path."""
        return _values(self._trial.params, self._paths)

    def in_words(self) -> str:
        """The drawn values for people."""
        return ", ".join(f"{path} {value:.3g}" for path, value in self.parameters.items())

    def report(self, epoch: int, auroc: float) -> bool:
        """Tells the study how an epoch ended; True if the trial is to end here."""
        self._trial.set_user_attr("seen_utc", time.time())
        known = self._trial.study.trials[self.number].intermediate_values
        if epoch not in known:
            self._trial.report(auroc, epoch)
        return self._trial.should_prune()

    def complete(self, auroc: float, *, checkpoint: Path, sha256: str) -> None:
        """The trial ended well, with these weights."""
        self._trial.set_user_attr("checkpoint_path", str(Anchor(self.folder.parent).relative(checkpoint)))
        self._trial.set_user_attr("sha256", sha256)
        self._trial.study.tell(self._trial, auroc)

    def prune(self) -> None:
        """The trial was ended early."""
        self._trial.study.tell(self._trial, state=TrialState.PRUNED)

    def fail(self, reason: str) -> None:
        """The trial cannot be carried through with its parameters."""
        self._trial.set_user_attr("reason", reason)
        self._trial.study.tell(self._trial, state=TrialState.FAIL)


@dataclass(frozen=True, slots=True)
class SearchStudy:
    """A study in its database; cheap to make, opened anew by every worker.

    Attributes:
        folder: Where the trials' folders are, and the database unless ``config.storage_url`` names one.
    """

    config: SearchConfig
    folder: Path

    def prepare(self, identity: str, former: str = "") -> None:
        """Makes the study, or opens it if it is there for the same search; enqueues the published configurations if asked.

        Args:
            identity: Digest of everything that the trials have in common.
            former: What a former release took for it; empty = the same.

        Raises:
            ConfigError: The study was begun with other ranges or another training.
        """
        with _first_in_line(self.folder):  # what is not there is made by one of those that begin together
            study = self._opened()
            found = study.user_attrs.get("identity")
            if found is None:
                study.set_user_attr("identity", identity)
            elif found not in (identity, former):
                raise ConfigError(
                    f"The study {self.config.study} was begun with another config, data or ranges",
                    expected=f"the config {found[:12]}",
                    got=identity[:12],
                    remedy="restore that config; or, also where images or labels were published since, give search.study "
                    "another name. The study was not changed",
                )
            if self.config.with_published:
                for parameters in PUBLISHED:
                    named = {_stored_name(path): value for path, value in parameters.items()}
                    study.enqueue_trial(named, skip_if_exists=True)

    @contextmanager
    def claimed_trial(self) -> Iterator[ClaimedTrial | None]:
        """A trial to run: one that a lost worker left, else the next one; None = all are taken. Held while the block runs."""
        with ExitStack() as held:
            with _first_in_line(self.folder):  # of two workers that look together, one looks first
                study = self._opened()
                trial = self._taken_over(study, held)
                is_resumed = trial is not None
                if trial is None:
                    trial = self._asked(study)
                    if trial is not None and not self._is_held(trial, held):
                        trial = None  # its folder is in somebody's hands: a study of the same name in another database
                if trial is not None:
                    self._give_parameters(study, trial)
            yield (
                None if trial is None else ClaimedTrial(trial, self._trial_dir(trial), self.config.paths, is_resumed=is_resumed)
            )

    def records(self) -> list[TrialRecord]:
        """Every trial, by number."""
        return [_record(trial, self.config.paths, self.folder) for trial in self._opened().get_trials(deepcopy=False)]

    def remaining(self) -> int:
        """Trials that have not ended."""
        ended = [trial for trial in self._opened().get_trials(deepcopy=False) if trial.state.is_finished()]
        return max(self.config.trials - len(ended), 0)

    def importance(self) -> dict[str, float]:
        """Share of the AUROC's variance that each parameter explains (fANOVA); empty below four different outcomes."""
        study = self._opened()
        outcomes = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
        if len(outcomes) < _LEAST_OUTCOMES:
            return {}
        path_by_name = {_stored_name(path): path for path in self.config.paths}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.config.seed)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(path_by_name))
        return {path_by_name[name]: float(share) for name, share in found.items()}

    def _opened(self) -> optuna.Study:
        """Makes what is not there: two that make the tables of one database at once both fail, so ``prepare`` goes first."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if self.config.pruning == "median":
            pruner = optuna.pruners.MedianPruner(self.config.pruning_startup_trials, self.config.pruning_warmup_epochs)
        return optuna.create_study(
            study_name=self.config.study,
            storage=self.config.storage_url or sqlite_url(self.folder / "study.sqlite"),
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=self.config.seed),
            pruner=pruner,
            load_if_exists=True,
        )

    def _trial_dir(self, trial: Trial) -> Path:
        return self.folder / f"trial-{trial.number:04d}"

    def _taken_over(self, study: optuna.Study, held: ExitStack) -> Trial | None:
        """A trial that a lost worker left, its folder now ours."""
        for found in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = Trial(study, found._trial_id)
            with ExitStack() as own:
                if not self._is_left(found) or not self._is_held(trial, own):
                    continue
                # Its worker may have ended it well, and let go of the folder, since the study was asked.
                if study.get_trials(deepcopy=False)[found.number].state is TrialState.RUNNING:
                    held.push(own.pop_all())
                    return trial
        return None

    def _is_held(self, trial: Trial, held: ExitStack) -> bool:
        """True if the trial's folder is now ours."""
        try:
            held.enter_context(held_lock(self._trial_dir(trial), purpose="search"))
        except StoreBusy:
            return False
        return True

    def _is_left(self, trial: FrozenTrial) -> bool:
        """True if its worker may be gone; on this machine the lock of its folder decides."""
        host = trial.user_attrs.get("host")
        started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        silent_s = time.time() - float(trial.user_attrs.get("seen_utc", started))
        if host is None:  # being asked for just now, or its worker was lost at that moment
            return silent_s > _CLAIM_TIMEOUT_S
        return bool(host == socket.gethostname()) or silent_s > self.config.stale_after_s

    def _asked(self, study: optuna.Study) -> Trial | None:
        taken = [trial for trial in study.get_trials(deepcopy=False) if trial.state is not TrialState.WAITING]
        return study.ask() if len(taken) < self.config.trials else None

    def _give_parameters(self, study: optuna.Study, trial: Trial) -> None:
        """Draws what the trial has not drawn yet; the draw follows from the seed and its number, whoever asks."""
        draw = int(np.random.SeedSequence((self.config.seed, trial.number)).generate_state(1)[0])
        study.sampler = optuna.samplers.RandomSampler(seed=draw)
        for path in self.config.paths:
            searched, name = self.config.ranges[path], _stored_name(path)
            if searched.whole is not None:
                trial.suggest_int(name, *searched.whole)
            else:
                trial.suggest_float(name, *searched.limits, log=searched.is_log)
        trial.set_user_attr("host", socket.gethostname())
        trial.set_user_attr("seen_utc", time.time())


def trial_config(config: RunConfig, trial: ClaimedTrial) -> RunConfig:
    """The run config with a trial's values at the searched paths; its seed is the config's plus the trial's number.

    Raises:
        ConfigError: A searched path leads to nothing in this config, or its field refuses the value.
    """
    train = {"seed": config.train.seed + trial.number, "keep_checkpoints": 1}
    config = config.model_copy(update={"train": config.train.model_copy(update=train)})
    for path, value in trial.parameters.items():
        config = with_value(config, path, value)
    return config


def common_identities(config: RunConfig, splits: SplitReport, pretrained: PretrainReport | None) -> tuple[str, str]:
    """Digest of what all trials have in common: the config without what a trial changes, data, splits and ranges.

    As this release takes it, and as former ones did.

    Raises:
        ConfigError: A searched path leads to nothing in this config.
    """
    fixed, search = config, config.search
    for path in search.paths:
        fixed = _with_fixed(fixed, path, search.ranges[path])
    ranges = [(f"{_stored_name(path)}_{searched.scale}", searched.ends) for path, searched in search.ranges.items()]
    named = sorted([*ranges, ("seed", search.seed)], key=lambda item: item[0])
    own, former = itertools.islice(identities(fixed, data_of(splits), pretrained), 2)
    digests = (hashlib.sha256(f"{each}{named}".encode()).hexdigest() for each in (own, former))
    return next(digests), next(digests)


class _Pruned(Exception):
    """Raised while a trial trains, to end it: the study says that it is worse than the others."""


def run_claimed_trial(trial: ClaimedTrial, request: TrainingRequest, gpu: int | None) -> str:
    """Trains a trial to its end, tells the study how it went, and says so in words."""

    def listen(message: Mapping[str, Any]) -> None:
        if message["kind"] != "epoch":
            return
        epoch, auroc = message["record"]["epoch"], message["record"]["tuning_malignant_auroc"]
        if auroc is not None and trial.report(epoch, auroc):
            raise _Pruned

    try:
        run_training(request, listen, gpu=gpu)
    except _Pruned:
        trial.prune()
        delete_checkpoints(request.run_dir)
        if request.fit.tracking.mlflow is not None:
            keys = training_key(request.identity, request.name), former_training_key(request.identity, request.run_dir)
            mark_stopped(request.fit.tracking.mlflow, *keys)
        return f"trial {trial.number} pruned"
    except TrainingError as failed:
        if "finite number" not in str(failed):
            raise  # not the parameters' fault: the trial stays open, a rerun goes on with it
        trial.fail(str(failed))
        return f"trial {trial.number} failed: {failed}"
    report = training_report(request)
    auroc = judged_auroc(report, request.fit.recipe.best_of_epochs)
    trial.complete(auroc, checkpoint=report.checkpoint_path, sha256=report.checkpoint_sha256)
    return f"trial {trial.number}: tuning malignant AUROC {auroc:.3f} in epoch {report.best_epoch}"


def judged_auroc(report: TrainReport, best_of_epochs: int) -> float:
    """Tuning malignant AUROC by which a trial is judged: of the epochs whose mean chose the best, for trials need no luck."""
    chose = report.epochs[max(0, report.best_epoch + 1 - best_of_epochs) : report.best_epoch + 1]
    return sum(record.tuning_malignant_auroc or 0.0 for record in chose) / len(chose)


# ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def _first_in_line(folder: Path) -> Iterator[None]:
    """Holds the study's folder, waiting for whoever holds it: that takes a moment only.

    Raises:
        StoreBusy: It is held for longer than a moment.
    """
    deadline = time.monotonic() + _CLAIM_TIMEOUT_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held_lock(folder, purpose="search"))
                break
            except StoreBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield


def _with_fixed(config: RunConfig, path: str, searched: SearchedRange) -> RunConfig:
    """The config with a number in place of what trials draw: 1 as ever, or where the field has no 1, one of the range."""
    try:
        return with_value(config, path, 1)
    except ConfigError:
        low, high = searched.limits
        return with_value(config, path, math.nextafter(low, high))


def _stored_name(path: str) -> str:
    return _STORED_NAMES.get(path, path)


def _values(stored: Mapping[str, Any], paths: Sequence[str]) -> dict[str, float]:
    return {path: stored[_stored_name(path)] for path in paths if _stored_name(path) in stored}


def _record(trial: FrozenTrial, paths: Sequence[str], folder: Path) -> TrialRecord:
    written = str(trial.user_attrs.get("checkpoint_path", ""))
    return TrialRecord(
        number=trial.number,
        state=trial.state.name.lower(),
        parameters=_values(trial.params, paths),
        auroc=trial.value if trial.state is TrialState.COMPLETE else None,
        checkpoint_path=str(found_below(folder, Path(written))) if written else "",
        sha256=str(trial.user_attrs.get("sha256", "")),
        curve=tuple(value for _, value in sorted(trial.intermediate_values.items())),
    )
