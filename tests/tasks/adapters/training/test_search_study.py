"""The study that workers share: who runs which trial, what a lost worker leaves, when a trial is ended early."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mammo_tests.shared_study import study_of, workers_share
from schemas.config.run import RunConfig
from schemas.config.training import SearchedRange
from schemas.reports.data import SplitReport
from schemas.reports.training import EpochRecord, TrainReport
from tasks.adapters.training.search_study import SearchStudy, common_identities, judged_auroc, trial_config


def test_processes_share_a_study_and_take_over_what_one_of_them_lost(tmp_path: Path) -> None:
    """One database by URL: a process ends a trial and is killed in its second; others run the rest, and that one once more.

    Workers that begin at one moment, on a folder that is empty, make one study, and take each published configuration once.

    The same in PostgreSQL: ``tests/deployments/test_postgresql.py``.
    """
    workers_share(tmp_path, f"sqlite:///{tmp_path}/shared.sqlite")


def test_a_trial_of_another_machine_is_taken_after_its_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock is not ours to see: it is left alone for ``stale_after_s``, then taken over, under its number."""
    study = study_of(tmp_path, trials=2, stale_after_s=100.0)
    monkeypatch.setattr("tasks.adapters.training.search_study.socket.gethostname", lambda: "elsewhere")
    with study.claimed_trial() as trial:
        assert trial is not None and trial.number == 0
        trial.report(0, 0.5)
    monkeypatch.undo()
    with study.claimed_trial() as second:
        assert second is not None and second.number == 1 and not second.is_resumed
        second.complete(0.5, checkpoint=tmp_path, sha256="")
    with study.claimed_trial() as nothing:
        assert nothing is None
    later = time.time() + 101.0
    monkeypatch.setattr("tasks.adapters.training.search_study.time.time", lambda: later)
    with study.claimed_trial() as again:
        assert again is not None and again.number == 0 and again.is_resumed


# --------------------------------------------------------------------------------------------------------------- pruning


def ended_at(study: SearchStudy, curve: list[float]) -> int | None:
    """The epoch after which a trial with this curve is to end; None = never, and it is completed."""
    with study.claimed_trial() as trial:
        assert trial is not None
        for epoch, auroc in enumerate(curve):
            if trial.report(epoch, auroc):
                trial.prune()
                return epoch
        trial.complete(max(curve), checkpoint=Path("run"), sha256="")
        return None


def test_median_pruning_follows_its_rule(tmp_path: Path) -> None:
    """Two trials first, and one epoch that nothing is ended in; then: best so far below the median of the completed there.

    Completed 0.6 0.7 0.8 and 0.5 0.6 0.7: medians 0.65 at epoch 1 and 0.75 at epoch 2.
    """
    study = study_of(tmp_path, trials=9, pruning="median", pruning_startup_trials=2, pruning_warmup_epochs=1)
    assert ended_at(study, [0.6, 0.7, 0.8]) is None
    assert ended_at(study, [0.5, 0.6, 0.7]) is None  # the second: there are not two before it
    assert ended_at(study, [0.1, 0.2, 0.9]) == 1  # epoch 0 is warm-up
    assert ended_at(study, [0.66, 0.1, 0.1]) == 2  # its best, 0.66, is above 0.65 and below 0.75
    assert ended_at(study, [0.1, 0.65, 0.75]) is None  # equal is not below; the two ended early do not count in the median
    states = [record.state for record in study.records()]
    assert states == ["complete", "complete", "pruned", "pruned", "complete"]


def test_without_pruning_every_trial_runs_to_its_end(tmp_path: Path) -> None:
    """The default: the same curves, and none is ended."""
    study = study_of(tmp_path)
    curves = [[0.6, 0.7, 0.8], [0.5, 0.6, 0.7], [0.1, 0.2, 0.1], [0.1, 0.0, 0.0]]
    assert [ended_at(study, curve) for curve in curves] == [None] * 4


# ------------------------------------------------------------------------------------------------------- ranges by path

KEPT = json.loads((Path(__file__).parents[3] / "golden" / "before_networks" / "search.json").read_text())


def _kept_config(workspace: Path) -> RunConfig:
    sections = {name: KEPT[name] for name in ("search", "model", "train")}
    with pytest.warns(FutureWarning, match=r"search.top_t_ln"):
        return RunConfig.model_validate({"workspace_dir": workspace, "ingest": {"source_dir": "exams"}, **sections})


def test_a_study_with_the_old_names_keeps_its_identity(tmp_path: Path) -> None:
    """The digest that commit 3a2551d made of the same config, data and splits (tests/golden/before_networks)."""
    config, splits_path = _kept_config(tmp_path), tmp_path / "splits.parquet"
    splits_path.write_bytes(b"splits")
    splits = SplitReport.model_construct(data_version="data", splits_path=splits_path)
    assert config.model.sha256() == KEPT["model_sha256"] and config.train.identity() == KEPT["train_identity"]
    assert common_identities(config, splits, None)[0] == KEPT["identity"]
    reordered = config.search.model_copy(update={"ranges": dict(reversed(config.search.ranges.items()))})
    assert common_identities(config.model_copy(update={"search": reordered}), splits, None)[0] == KEPT["identity"]
    narrower = {**config.search.ranges, "model.top_t": SearchedRange(ln=(-4.0, -2.5))}
    other = config.search.model_copy(update={"ranges": narrower})
    assert common_identities(config.model_copy(update={"search": other}), splits, None)[0] != KEPT["identity"]


@pytest.mark.filterwarnings("ignore:Fixed parameter")  # two published values lie below the paper's range, as documented
@pytest.mark.parametrize("with_published", [True, False])
def test_a_seed_draws_what_it_drew_before(with_published: bool, tmp_path: Path) -> None:
    """Seven trials: the published first where they are asked for, then, or only, draws; all equal those of commit 3a2551d."""
    config = _kept_config(tmp_path).search.model_copy(update={"with_published": with_published, "trials": 7})
    study = SearchStudy(config, tmp_path)
    study.prepare("identity")
    path_of = {path.rpartition(".")[2]: path for path in config.ranges}
    for kept in (trial for trial in KEPT["trials"] if trial["with_published"] is with_published):
        with study.claimed_trial() as trial:
            assert trial is not None and trial.number == kept["number"]
            assert trial.parameters == {path_of[name]: value for name, value in kept["parameters"].items()}
            trial.complete(0.5, checkpoint=tmp_path, sha256="")


def test_any_number_of_the_config_is_searched_by_its_path(tmp_path: Path) -> None:
    """A whole number and one drawn evenly: in their ranges, set where the path says, told to the page under it."""
    ranges = {"model.K": {"whole": [2, 4]}, "train.ema_decay": {"linear": [0.9, 0.99]}}
    content = {"workspace_dir": tmp_path, "ingest": {"source_dir": "exams"}, "search": {"ranges": ranges}, "train": {"seed": 5}}
    config = RunConfig.model_validate(content)
    study = SearchStudy(config.search, tmp_path)
    study.prepare("identity")
    seen = set()
    for number in range(12):
        with study.claimed_trial() as trial:
            assert trial is not None
            found = trial_config(config, trial)
            assert found.train.seed == 5 + number
            assert {"model.K": found.model.model_dump()["K"], "train.ema_decay": found.train.ema_decay} == trial.parameters
            assert found.train.ema_decay is not None and 0.9 <= found.train.ema_decay <= 0.99
            seen.add(trial.parameters["model.K"])
            trial.complete(number / 12, checkpoint=tmp_path, sha256="")
    assert seen == {2, 3, 4}
    assert set(study.importance()) == {"model.K", "train.ema_decay"} == set(study.records()[0].parameters)


def _searching(tmp_path: Path, path: str, searched: dict[str, list[float]], **sections: object) -> RunConfig:
    content = {"workspace_dir": tmp_path, "ingest": {"source_dir": "exams"}, "search": {"ranges": {path: searched}}, **sections}
    return RunConfig.model_validate(content)


def _identity(config: RunConfig, tmp_path: Path) -> str:
    (tmp_path / "splits.parquet").write_bytes(b"splits")
    splits = SplitReport.model_construct(data_version="data", splits_path=tmp_path / "splits.parquet")
    return common_identities(config, splits, None)[0]


@pytest.mark.parametrize(
    ("path", "high"), [("train.ema_decay", 1.0), ("train.labels.smoothing", 0.2), ("train.augment.scaling", 0.5)]
)
def test_a_number_that_cannot_be_one_is_searched(path: str, high: float, tmp_path: Path) -> None:
    """Decays, smoothing and scalings are below 1; an end that is just excluded is never drawn. What is fixed is not drawn."""
    lower, other = (_searching(tmp_path, path, {"linear": [0.1, high]}, train={"ema_decay": decay}) for decay in (0.5, 0.9))
    assert (_identity(lower, tmp_path) == _identity(other, tmp_path)) is (path == "train.ema_decay")


def test_a_trial_is_judged_by_the_epochs_that_chose_its_best() -> None:
    """Three that chose, the best among them with the luckiest AUROC of all; the paper's way is that epoch's own."""
    epochs = tuple(EpochRecord.model_construct(tuning_malignant_auroc=auroc) for auroc in (0.5, 0.7, 0.6, 0.95, 0.4))
    report = TrainReport.model_construct(epochs=epochs, best_epoch=3)
    assert judged_auroc(report, 1) == 0.95
    assert judged_auroc(report, 3) == pytest.approx((0.7 + 0.6 + 0.95) / 3)
    assert judged_auroc(report, 10) == pytest.approx((0.5 + 0.7 + 0.6 + 0.95) / 4)
