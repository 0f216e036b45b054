"""A search study and several workers on it, on whatever database: for the tests of the study and of PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from schemas.config.training import SearchConfig
from tasks.adapters.training.search_study import SearchStudy

ROOT = Path(__file__).parents[3]


def study_of(folder: Path, **changes: Any) -> SearchStudy:
    """A study in SQLite, ready for trials."""
    study = SearchStudy(SearchConfig.model_validate({"trials": 8, **changes}), folder)
    study.prepare("identity")
    return study


# A process that has imported everything forks workers, so that each costs no import. argv: repository, folder, storage URL.
# "lost" ends one trial, says an epoch of the next, and is killed while two others run all the rest; "last" finds what it left.
_WORKERS = """
import gc, os, signal, sys, time
gc.disable()
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from schemas.config.training import SearchConfig
from tasks.adapters.training.search_study import SearchStudy
folder = Path(sys.argv[2])

def work(name):
    study, taken = SearchStudy(SearchConfig(trials=5, storage_url=sys.argv[3]), folder), 0
    while True:
        with study.claimed_trial() as trial:
            if trial is None:
                return
            taken += 1
            os.write(1, f"{name} {trial.number} {'goes on' if trial.is_resumed else 'begins'}\\n".encode())
            trial.report(0, 0.5)
            if name == "lost" and taken == 2:
                (folder / "holds").touch()
                time.sleep(600)
            trial.complete(0.5, checkpoint=trial.folder / "run", sha256=name)

def begun(name):
    pid = os.fork()
    if pid == 0:
        work(name)
        os._exit(0)
    return pid

# A trial of a study of its own first: what storage and sampler import when they are first used, no worker imports again.
warm = SearchStudy(SearchConfig(trials=1), folder / "warm")
warm.prepare("identity")
with warm.claimed_trial() as trial:
    trial.complete(0.5, checkpoint=trial.folder / "run", sha256="")
del warm, trial
gc.freeze()  # what was imported is there to stay
gc.enable()

# Then some that make a study of their own at one moment: whoever finds half a database fails.
for _ in range(3):
    if os.fork() == 0:
        while not (folder / "go").exists():
            time.sleep(0.001)
        own = SearchStudy(SearchConfig(trials=8, with_published=True), folder / "together")
        own.prepare("identity")
        with own.claimed_trial() as trial:
            trial.complete(0.5, checkpoint=trial.folder / "run", sha256="")
        os._exit(0)
(folder / "go").touch()
assert [os.wait()[1] for _ in range(3)] == [0] * 3

lost = begun("lost")
while not (folder / "holds").exists():
    time.sleep(0.02)
others = [begun("one"), begun("two")]
time.sleep(0.3)
os.kill(lost, signal.SIGKILL)
for pid in (lost, *others, begun("last")):
    os.waitpid(pid, 0)
"""


def workers_share(folder: Path, url: str) -> None:
    """Five trials, each ended once, under their numbers, with the parameters that follow from them and not from who ran.

    Before that three workers begin at one moment on a study that nobody has made.
    """
    study_of(folder, storage_url=url, trials=5)
    command = [sys.executable, "-c", _WORKERS, str(ROOT), str(folder), url]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout.splitlines()
    assert said[:2] == ["lost 0 begins", "lost 1 begins"]
    assert sorted(line.partition(" ")[2] for line in said) == sorted(
        [*(f"{number} begins" for number in range(5)), "1 goes on"]
    )
    records = study_of(folder, storage_url=url, trials=5).records()
    assert [(record.number, record.state) for record in records] == [(number, "complete") for number in range(5)]
    assert records[0].sha256 == "lost" and records[1].sha256 in ("one", "two", "last")
    assert records[1].curve == (0.5,)  # the epoch that the lost worker had said is not said again
    together = study_of(folder / "together", with_published=True).records()
    assert [record.state for record in together] == ["complete"] * 3 + ["waiting"] * 2  # five published, each once
    alone = study_of(folder / "alone")
    for record in records:
        with alone.claimed_trial() as trial:
            assert trial is not None and trial.parameters == record.parameters
            trial.complete(0.5, checkpoint=folder, sha256="")
