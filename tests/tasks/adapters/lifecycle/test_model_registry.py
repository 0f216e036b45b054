"""The registry of models: one is in use, changes are whole, and of two at once one wins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import CheckpointError, ConfigError, StoreBusy, StoreError
from schemas.reports.life.decisions import ModelState, PromotionAnswer, RuleAnswer
from tasks.adapters.lifecycle.model_registry import Registry
from tasks.adapters.workspace import Workspace

A, B, C = (letter * 64 for letter in "abc")


def answer(sha256: str, against: str = "", *, is_met: bool = True) -> PromotionAnswer:
    """An answer of one rule."""
    rules = (RuleAnswer(rule="rule", is_met=is_met, reason="Because."),)
    return PromotionAnswer(sha256=sha256, in_use_sha256=against, splits_sha256="s", data_version="d", rules=rules)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Three candidates, none in use."""
    workspace = Workspace(tmp_path)
    with Registry(workspace) as registry:
        for sha256 in (A, B, C):
            registry.register(sha256, tmp_path / "train" / sha256[:4], source="train")
    return workspace


def states(workspace: Workspace) -> dict[str, str]:
    """First letter of each digest, and its state."""
    with Registry(workspace) as registry:
        return {model.sha256[0]: model.state.value for model in registry.models()}


def test_promotions_retire_and_rollbacks_go_back_step_by_step(workspace: Workspace) -> None:
    """A, B, C: back once is B, back twice is A, back again is refused; every step is kept with who and why."""
    with Registry(workspace) as registry:
        for sha256, against in ((A, ""), (B, A), (C, B)):
            registry.promote(answer(sha256, against), workspace.root / "models" / sha256[:4], who="Ada", why="better")
        assert registry.before().sha256 == B
        registry.roll_back(registry.used(), who="Bob", why="worse")
        registry.roll_back(registry.used(), who="Bob", why="worse still")
        with pytest.raises(CheckpointError, match="no model to go back to"):
            registry.before()
        model = registry.in_use()
        assert model is not None and model.sha256 == A and registry.folder_of(model) == workspace.root / "models" / "aaaa"
        changes = [(event.what, event.who, event.sha256[0]) for event in registry.events() if event.what != "registered"]
        assert changes == [
            ("promoted", "Ada", "a"), ("promoted", "Ada", "b"), ("promoted", "Ada", "c"),
            ("rolled back", "Bob", "b"), ("rolled back", "Bob", "a"),
        ]  # fmt: skip
        assert registry.events()[3].answer == answer(A)
    assert states(workspace) == {"a": "in use", "b": "retired", "c": "retired"}


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(workspace: Workspace) -> None:
    """Both were held against the same model; the second finds another one in use and changes nothing."""
    with Registry(workspace) as first, Registry(workspace) as second:
        first.promote(answer(A), workspace.root, who="Ada", why="better")
        with pytest.raises(StoreBusy, match="aaaaaaaaaaaa"):
            second.promote(answer(B), workspace.root, who="Bob", why="better")
        with pytest.raises(StoreBusy):
            second.roll_back((), who="Bob", why="back")
    assert states(workspace) == {"a": "in use", "b": "candidate", "c": "candidate"}


def test_what_the_rules_forbid_is_not_promoted(workspace: Workspace) -> None:
    """The registry itself looks at the answer."""
    with Registry(workspace) as registry, pytest.raises(ValueError, match="forbid"):
        registry.promote(answer(A, is_met=False), workspace.root, who="Ada", why="all the same")
    assert ModelState.IN_USE not in states(workspace).values()


def test_a_model_is_named_by_its_first_digits(workspace: Workspace) -> None:
    """Too few, or of nobody: a sentence that says how to see what there is."""
    with Registry(workspace) as registry:
        assert registry.named("AAAA").sha256 == A
        for name in ("a", "ffff", ""):
            with pytest.raises(ConfigError, match="mammo model list"):
                registry.named(name)


def test_a_registry_goes_with_its_workspace(workspace: Workspace, tmp_path: Path) -> None:
    """Folders below the workspace are relative to it; one that is no database says so."""
    moved = Workspace(tmp_path / "elsewhere")
    moved.registry_path.parent.mkdir(parents=True)
    moved.registry_path.write_bytes(workspace.registry_path.read_bytes())
    for suffix in ("-wal",):
        beside = workspace.registry_path.with_name(workspace.registry_path.name + suffix)
        if beside.exists():
            moved.registry_path.with_name(beside.name).write_bytes(beside.read_bytes())
    with Registry(moved) as registry:
        assert registry.folder_of(registry.named(A)) == moved.root / "train" / "aaaa"
    broken = Workspace(tmp_path / "broken")
    broken.registry_path.parent.mkdir(parents=True)
    broken.registry_path.write_bytes(b"no database, and long enough to be looked at as one" * 20)
    with pytest.raises(StoreError, match="registry of models"):
        Registry(broken)


_PROMOTE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from schemas.reports.life.decisions import PromotionAnswer
from tasks.adapters.lifecycle import model_registry as module
from tasks.adapters.workspace import Workspace
workspace, answers = Workspace(Path(sys.argv[1])), [PromotionAnswer.model_validate_json(one) for one in sys.argv[3:]]
for die_at in map(int, sys.argv[2].split(",")):
    child = os.fork()  # this process imports, and starts no thread
    if not child:
        statements = 0
        def counted(sql):
            global statements
            statements += 1
            if statements == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        with module.Registry(workspace) as registry:
            registry._connection.set_trace_callback(counted)
            in_use = registry.in_use()
            answer = answers[0] if in_use is None else answers[1]
            registry.promote(answer, workspace.root, who="Ada", why="better")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with module.Registry(workspace) as registry:
        in_use = [model.sha256[0] for model in registry.models() if model.state == "in use"]
        print(code, *(event.what for event in registry.events()[3:]), *in_use)
"""


def test_a_kill_while_promoting_leaves_the_registry_whole(workspace: Workspace) -> None:
    """``kill -9`` at each statement of a promotion: before its end nothing has changed, and the next one goes through."""
    texts = [answer(A).model_dump_json(), answer(B, A).model_dump_json()]
    arguments = [sys.executable, "-c", _PROMOTE_AND_DIE, str(workspace.root), "1,2,3,4,5,6,99,3,5,99", *texts]
    ended = subprocess.run(arguments, env=os.environ, check=True, capture_output=True, text=True, timeout=600)
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert [line[0] for line in lines].count(str(-signal.SIGKILL)) == 8, ended.stdout
    assert all(line[1:] == [] for line in lines[:6]) and lines[6] == ["0", "promoted", "a"]
    assert lines[7][1:] == lines[8][1:] == ["promoted", "a"] and lines[9] == ["0", "promoted", "promoted", "b"]
