"""The hyper-parameter search's study: which trials there are, who runs them, how they ended. The only home of Optuna.

The study lies in a database that several workers share; the weights of a trial lie in its folder. A trial belongs to the
process that holds the lock of its folder, which the kernel frees when that process ends, however it ends: a trial that runs
by the study's word and is held by nobody is taken over and goes on from its checkpoint. A trial of another machine is taken
over when it has shown no sign of life for ``search.stale_after_s``; both machines must then share the workspace's disk, else
it begins anew.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from schemas.config.training import Range, SearchConfig
from schemas.errors import ConfigError, StoreBusy
from tasks.adapters.workspace import held_lock

PARAMETERS: Final = ("learning_rate", "saliency_weight", "saliency_exponent", "top_t")

PUBLISHED: Final = (
    {"learning_rate": 4.134e-6, "saliency_weight": 3.259e-6, "saliency_exponent": 1.0, "top_t": 0.02},
    {"learning_rate": 1.165e-5, "saliency_weight": 2.280e-4, "saliency_exponent": 1.0, "top_t": 0.03},
    {"learning_rate": 3.224e-5, "saliency_weight": 1.416e-4, "saliency_exponent": 1.0, "top_t": 0.03},
    {"learning_rate": 1.460e-5, "saliency_weight": 9.407e-6, "saliency_exponent": 1.0, "top_t": 0.05},
    {"learning_rate": 3.525e-6, "saliency_weight": 4.278e-5, "saliency_exponent": 1.0, "top_t": 0.10},
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

    def __init__(self, trial: Trial, folder: Path, *, is_resumed: bool) -> None:
        self.number = trial.number
        self.folder = folder
        self.is_resumed = is_resumed
        self._trial = trial

    @property
    def parameters(self) -> dict[str, float]:
        """Values of ``PARAMETERS``."""
        return {name: float(self._trial.params[name]) for name in PARAMETERS}

    def report(self, epoch: int, auroc: float) -> bool:
        """Tells the study how an epoch ended; True if the trial is to end here."""
        self._trial.set_user_attr("seen_utc", time.time())
        known = self._trial.study.trials[self.number].intermediate_values
        if epoch not in known:
            self._trial.report(auroc, epoch)
        return self._trial.should_prune()

    def complete(self, auroc: float, *, checkpoint: Path, sha256: str) -> None:
        """The trial ended well, with these weights."""
        self._trial.set_user_attr("checkpoint_path", str(checkpoint))
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

    def prepare(self, identity: str) -> None:
        """Makes the study, or opens it if it is there for the same search; enqueues the published configurations if asked.

        Args:
            identity: Digest of everything that the trials have in common.

        Raises:
            ConfigError: The study was begun with other ranges or another training.
        """
        study = self._opened()
        found = study.user_attrs.get("identity")
        if found is None:
            study.set_user_attr("identity", identity)
        elif found != identity:
            raise ConfigError(
                f"The study {self.config.study} was begun with another config, data or ranges",
                expected=f"the config {found[:12]}",
                got=identity[:12],
                remedy="restore that config, or give search.study another name; the study was not changed",
            )
        if self.config.with_published:
            for parameters in PUBLISHED:
                study.enqueue_trial(dict(parameters), skip_if_exists=True)

    @contextmanager
    def claimed_trial(self) -> Iterator[ClaimedTrial | None]:
        """A trial to run: one that a lost worker left, else the next one; None = all are taken. Held while the block runs."""
        study = self._opened()
        with ExitStack() as held:
            with _first_in_line(self.folder):  # of two workers that look together, one looks first
                trial = self._taken_over(study, held)
                is_resumed = trial is not None
                if trial is None:
                    trial = self._asked(study)
                    if trial is not None and not self._is_held(trial, held):
                        trial = None  # its folder is in somebody's hands: a study of the same name in another database
                if trial is not None:
                    self._give_parameters(study, trial)
            yield None if trial is None else ClaimedTrial(trial, self._trial_dir(trial), is_resumed=is_resumed)

    def records(self) -> list[TrialRecord]:
        """Every trial, by number."""
        return [_record(trial) for trial in self._opened().get_trials(deepcopy=False)]

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
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.config.seed)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(PARAMETERS))
        return {name: float(share) for name, share in found.items()}

    def _opened(self) -> optuna.Study:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if self.config.pruning == "median":
            pruner = optuna.pruners.MedianPruner(self.config.pruning_startup_trials, self.config.pruning_warmup_epochs)
        return optuna.create_study(
            study_name=self.config.study,
            storage=self.config.storage_url or f"sqlite:///{self.folder / 'study.sqlite'}",
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
        for name, (low, high) in zip(PARAMETERS, _limits(self.config), strict=True):
            trial.suggest_float(name, low, high, log=True)
        trial.set_user_attr("host", socket.gethostname())
        trial.set_user_attr("seen_utc", time.time())


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


def _limits(config: SearchConfig) -> list[Range]:
    """Ranges of ``PARAMETERS`` in their own units."""
    powers_of_ten = [config.learning_rate_log10, config.saliency_weight_log10]
    powers_of_e = [config.saliency_exponent_ln, config.top_t_ln]
    return [
        *((10.0**low, 10.0**high) for low, high in powers_of_ten),
        *((math.exp(low), math.exp(high)) for low, high in powers_of_e),
    ]


def _record(trial: FrozenTrial) -> TrialRecord:
    return TrialRecord(
        number=trial.number,
        state=trial.state.name.lower(),
        parameters={name: float(trial.params[name]) for name in PARAMETERS if name in trial.params},
        auroc=trial.value if trial.state is TrialState.COMPLETE else None,
        checkpoint_path=str(trial.user_attrs.get("checkpoint_path", "")),
        sha256=str(trial.user_attrs.get("sha256", "")),
        curve=tuple(value for _, value in sorted(trial.intermediate_values.items())),
    )
