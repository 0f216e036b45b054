"""A training as a run of an MLflow store: its parameters, each epoch's numbers, its best checkpoint. The only home of MLflow.

Off unless ``tracking.mlflow`` names a store. What a store is told follows from the checkpoints' curve: the run that a training
is in is found by its tag, and gets the epochs it does not have. So a training that is killed and goes on has one run with
every epoch once, and what a store missed while it could not be reached is sent later. No path and no identifier is told.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schemas.config.training import MlflowConfig
from schemas.errors import ConfigError, extra_from

Points = Mapping[str, float | None]
"""An epoch's numbers by the name of their curve; None = no point."""

_KEY: Final = "mammo.training"
_WEIGHTS: Final = "mammo.sha256"
_IN_USE: Final = "in-use"
_SENT_LAST: Final = "train/loss"  # every epoch has it: who has this point has the others
_PATIENCE: Final = 10  # times what a failed attempt took: so long none is made, and training loses at most a tenth
# MLflow reads its settings from the environment only. Telemetry would be the one line out of the machine that nobody asked for.
_ALWAYS: Final = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
_UNLESS_SET: Final = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # refused otherwise; who writes file:/// has chosen it
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; a training should not wait two minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the next epoch is the next try
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a store is told of a training once.

    Attributes:
        key: Which training it is (``training_key``).
        former_key: What a former release called it (``former_training_key``); its run is gone on with.
        name: How people find it.
        parameters: The config's values.
        tags: Provenance.
    """

    key: str
    former_key: str = ""
    name: str
    parameters: Mapping[str, object]
    tags: Mapping[str, str]


def training_key(identity: str, name: str) -> str:
    """Names a training by its identity and its folder below the workspace, so that it is the same when that is moved."""
    return hashlib.sha256(f"{identity} {name}".encode()).hexdigest()[:32]


def former_training_key(identity: str, run_dir: Path) -> str:
    """The same by a release that made the folder's place a part of it: finds its runs where the workspace still lies there."""
    return hashlib.sha256(f"{identity} {run_dir.resolve()}".encode()).hexdigest()[:32]


@contextmanager
def experiment_run(config: MlflowConfig | None, facts: RunFacts, warn: Callable[[str], None]) -> Iterator[ExperimentRun]:
    """The training's run in the store, ended when the block ends; None = no store, nothing happens.

    Args:
        config: Where the store is.
        facts: What it is told once.
        warn: Called with a sentence, once, when the store cannot be reached.

    Raises:
        ConfigError: MLflow is not installed.
    """
    run = ExperimentRun(config, facts, warn)
    try:
        yield run
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def mark_stopped(config: MlflowConfig, *keys: str) -> None:
    """Ends the run of a training that was stopped from outside; a store that cannot be reached stays as it is.

    Args:
        config: Where the store is.
        keys: What the training is called, and was by a former release.

    Raises:
        ConfigError: MLflow is not installed.
    """
    _prepare()
    try:
        client = client_of(config)
        found = _newest(client, _experiment_id(client, config.experiment), *keys)
        if found is not None:
            client.set_terminated(found.info.run_id, "KILLED")
    except _refusals():
        return


def tell_model_in_use(config: MlflowConfig, name: str, tags: Mapping[str, str], warn: Callable[[str], None]) -> None:
    """Puts the alias ``in-use`` on the version of a registered model that has these tags; what is not there yet is made.

    The weights stay where they are: a version has their digest, and where they come from in words.

    Args:
        config: Where the store is.
        name: Of the registered model.
        tags: Of the version; ``mammo.sha256`` tells it from others.
        warn: Called with a sentence when the store cannot be reached: what is in use does not depend on it.

    Raises:
        ConfigError: MLflow is not installed.
    """
    _prepare()
    import mlflow

    try:
        mlflow.set_tracking_uri(config.tracking_uri)  # else a registry in files makes a database where one stands
        client = client_of(config)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        versions = client.search_model_versions(f"name = '{name}'")
        found = next((one for one in versions if one.tags.get(_WEIGHTS) == tags[_WEIGHTS]), None)
        if found is None:
            found = client.create_model_version(name, source=f"mammo:{tags[_WEIGHTS]}", tags=dict(tags))
        client.set_registered_model_alias(name, _IN_USE, found.version)
    except Exception as refused:  # a registry in files raises bare ones
        said = (str(refused).splitlines() or [""])[0][:120]
        warn(f"MLflow's registry cannot be told which model is in use ({type(refused).__name__}: {said})")


class ExperimentRun:
    """A training's run; nothing is sent before the first ``show``."""

    def __init__(self, config: MlflowConfig | None, facts: RunFacts, warn: Callable[[str], None]) -> None:
        self._config, self._facts, self._warn = config, facts, warn
        self._client: Any = None  # connected with the first thing to send
        self._run_id = ""
        self._curve: Sequence[Points] = ()
        self._best: tuple[int, Mapping[str, str]] | None = None
        self._sent = 0
        self._not_before_s = 0.0
        self._has_warned = False
        if config is not None:
            _prepare()

    def show(self, curve: Sequence[Points]) -> None:
        """Sends those of all epochs so far that the store does not have."""
        self._curve = list(curve)
        if time.monotonic() >= self._not_before_s:
            self._attempt(self._send)

    def finish(self, best_epoch: int, tags: Mapping[str, str]) -> None:
        """All epochs are done: the best one's numbers go again under ``best/``, with tags that say where its weights are."""
        self._best = (best_epoch, tags)

    def end(self, status: str) -> None:
        """Sends what is left and says how the training ended."""
        self._attempt(self._send, lambda _: self._client.set_terminated(self._run_id, status))

    def _attempt(self, *works: Callable[[MlflowConfig], object]) -> None:
        if self._config is None:
            return
        started_s = time.monotonic()
        try:
            for work in works:
                work(self._config)
        except _refusals() as refused:
            now_s = time.monotonic()
            self._not_before_s = now_s + _PATIENCE * (now_s - started_s)
            if not self._has_warned:
                said = (str(refused).splitlines() or [""])[0][:120]
                self._warn(f"MLflow cannot be told ({type(refused).__name__}: {said}); training goes on and tells it later")
            self._has_warned = True

    def _send(self, config: MlflowConfig) -> None:
        from mlflow.entities import Metric, RunTag

        if not self._run_id:
            self._begin(config)
        now_ms = int(time.time() * 1000)
        for epoch in range(self._sent, len(self._curve)):
            known = {name: value for name, value in self._curve[epoch].items() if value is not None}
            names = sorted(known, key=lambda name: name == _SENT_LAST)
            self._client.log_batch(self._run_id, metrics=[Metric(name, known[name], now_ms, epoch) for name in names])
            self._sent = epoch + 1
        if self._best is not None:
            best_epoch, tags = self._best
            best = {f"best/{name}": value for name, value in self._curve[best_epoch].items() if value is not None}
            self._client.log_batch(
                self._run_id,
                metrics=[Metric(name, value, now_ms, best_epoch) for name, value in best.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
            self._best = None

    def _begin(self, config: MlflowConfig) -> None:
        """Goes on with the training's run, or begins one; a run that is ahead is that of a training begun anew."""
        from mlflow.entities import Param

        self._client = client_of(config)
        experiment_id = _experiment_id(self._client, config.experiment)
        run = _newest(self._client, experiment_id, self._facts.key, self._facts.former_key)
        sent = 0 if run is None else _epochs_sent(self._client, run)
        if run is None or sent > len(self._curve):
            tags = {**self._facts.tags, _KEY: self._facts.key}
            run, sent = self._client.create_run(experiment_id, run_name=self._facts.name, tags=tags), 0
        missing = {name: value for name, value in self._facts.parameters.items() if name not in run.data.params}
        self._client.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in missing.items()])
        self._client.update_run(run.info.run_id, status="RUNNING")
        self._run_id, self._sent = run.info.run_id, sent


# ---------------------------------------------------------------------------------------------------------------------


def _prepare() -> None:
    os.environ.update(_ALWAYS)
    for name, value in _UNLESS_SET.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow  # noqa: F401  two seconds, once, where a config asks for it
    except ImportError as missing:
        raise ConfigError(
            "tracking.mlflow is set and MLflow is not installed",
            expected="the extra mlflow",
            remedy=f"{extra_from('mlflow')}, or set tracking.mlflow to null",
        ) from missing


def client_of(config: MlflowConfig) -> Any:
    """MLflow's client of the configured store; imported here because it takes seconds."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=config.tracking_uri, registry_uri=config.tracking_uri)


def _refusals() -> tuple[type[Exception], ...]:
    """What a store that cannot be reached or written raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def _experiment_id(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _newest(client: Any, experiment_id: str, *keys: str) -> Any:
    """The newest run under the first of a training's keys that has one, or None."""
    for key in filter(None, keys):
        found = client.search_runs(
            [experiment_id], filter_string=f"tags.`{_KEY}` = '{key}'", order_by=["attributes.start_time DESC"], max_results=1
        )
        if found:
            return found[0]
    return None


def _epochs_sent(client: Any, run: Any) -> int:
    if _SENT_LAST not in run.data.metrics:
        return 0
    return 1 + max(int(point.step) for point in client.get_metric_history(run.info.run_id, _SENT_LAST))
