"""The house rules that a machine can check: who may import whom, one home per library, sizes, names, docstrings."""

from __future__ import annotations

import ast
import gc
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from deployments.verbs import deployed_flows

ROOT = Path(__file__).parents[1]
ROOMS = ("schemas", "gmic_model", "tasks", "flows", "deployments")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
OBJECT_STORE_CLIENT = ROOT / "tasks/adapters/buckets/bucket.py"
"""May read the environment: who we are to an object store is said there, to every client and in every worker."""
INTERPRETER_HOME = ROOT / "tasks" / "adapters" / "interpreter.py"
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
LONGEST_STAGE = 120
NOT_YET_THIN = {"scrub": 142}  # may shrink, and leaves this list when it is thin
LISTS_OF_LIKE_THINGS = {"tasks", "flows", "tasks/adapters/datasets/sets", "tasks/adapters/gate/rules"}
STAGES = ({*deployed_flows()} - {"pipeline"}) | {"fetch", "publish", "report"}  # the last three are steps of others
WITHOUT_MEMORY = {
    "phantom": "asks each file of the cohort whether it is there",
    "ingest": "asks its ledger, file by file",
    "fetch": "asks the inbox and the ledger, image by image",
    "publish": "is the end of ingest: a manifest is cheap to make and must be of today",
    "scrub": "reads everything, whenever it is asked",
    "search": "asks its study, trial by trial",
    "predict": "asks its table of scores, image by image",
    "report": "is cheap, and its page says when it was made",
    "table1": "is made of other stages' memories",
    "crossvalidate": "is made of other stages' memories",
    "return_results": "asks its outbox, exam by exam",
}
SHARED_STEMS = {  # beside the stages: one noun in two rooms, or a section of the config and the report that answers it
    "calibration": "what a score means as a probability: computed, and drawn",
    "evaluation": "what is measured of scores: asked for, reported, computed",
    "network": "a network: its config, and what the registry knows of it",
    "orientation": "how an image lies: in its pixels, and by its header",
    "pacs": "other systems: their settings, and the verb",
    "reader_study": "the reader study: reported, and drawn",
    "service": "a workstation that stays up: its settings, and its verbs",
    "training": "a training: its config, and its report",
    "weights": "released weights: their names, and the verb that brings them in",
}
HOMES = {  # a fact that several modules need is written down here, and nowhere else
    "exam_store": "tasks/adapters/workspace.py",
    "store.json": "tasks/adapters/workspace.py",
    "manifest.parquet": "tasks/adapters/workspace.py",
    "splits.parquet": "tasks/adapters/workspace.py",
    "ledger.sqlite": "tasks/adapters/workspace.py",
    "quarantine.csv": "tasks/adapters/workspace.py",
    "pixels.zarr": "tasks/adapters/workspace.py",
    "pseudonym.key": "tasks/adapters/workspace.py",
    "report.json": "tasks/adapters/workspace.py",
    "done": "tasks/adapters/workspace.py",
    ".part": "tasks/adapters/workspace.py",
    ".crdownload": "tasks/adapters/gate/source_file.py",
    "weights.safetensors": "tasks/adapters/models/model_files.py",
    "checkpoint.json": "tasks/adapters/models/model_files.py",
    "ensemble.json": "tasks/adapters/models/model_files.py",
    "labels.csv": "tasks/adapters/datasets/phantom_cohort.py",
    "top_t": "schemas/config/network.py",
    "not known": "schemas/exam.py",
}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

# One broken rule per contract: where the line goes, and the line.
BREACHES = {
    "Rooms: arrows point down only": ("schemas/exam.py", "import gmic_model.model"),
    "Inside tasks: adapters know no Prefect": ("tasks/adapters/labels/labels_file.py", "import prefect"),
    "Inside tasks: adapters know no task": ("tasks/adapters/inbox/ledger.py", "import tasks.train"),
    "Pure rooms know no service, store or file format": ("gmic_model/loss.py", "import os"),
    "One home: pydicom": ("tasks/adapters/gate/admission.py", "import pydicom"),
    "One home: highdicom": ("tasks/adapters/scoring/prediction.py", "import highdicom"),
    "One home: pynetdicom": ("tasks/adapters/pacs/sources.py", "import pynetdicom"),
    "One home: http": ("tasks/adapters/pacs/dimse.py", "import http.client"),
    "One home: imagecodecs": ("tasks/adapters/dicom/dicom_file.py", "import imagecodecs"),
    "One home: zarr": ("tasks/adapters/inbox/shard_writer.py", "import zarr"),
    "One home: numcodecs": ("tasks/train.py", "import numcodecs"),
    "One home: tensorstore": ("tasks/train.py", "import tensorstore"),
    "One home: obstore": ("tasks/train.py", "import obstore"),
    "One home: Great Expectations": ("tasks/validate.py", "def later() -> None:\n    import great_expectations\n"),
    "One home: Dask": ("tasks/ingest.py", "from distributed import Client"),
    "One home: Jinja": ("tasks/report.py", "import jinja2"),
    "One home: safetensors": ("tasks/train.py", "import safetensors"),
    "One home: torch": ("tasks/adapters/scoring/scored_views.py", "from torch.utils.data import DataLoader"),
    "One home: Optuna": ("tasks/search.py", "import optuna"),
    "One home: MLflow": ("tasks/train.py", "import mlflow"),
    "One home: SQLite": ("tasks/evaluate.py", "import sqlite3"),
    "One home: PostgreSQL": ("tasks/adapters/inbox/ledger.py", "import psycopg"),
    "One home: Prefect": ("gmic_model/learning/learner.py", "from prefect import task"),
    "One home: YAML": ("schemas/config/run.py", "import yaml"),
    "One home: Typer and Rich": ("flows/train.py", "import rich"),
    "Adapters: floors": ("tasks/adapters/store/manifest.py", "import tasks.adapters.gate.admission"),
    "Model: floors": ("gmic_model/preprocess.py", "import gmic_model.learning.learner"),
    "Nobody imports what runs in the gate's child": ("tasks/adapters/gate/child.py", "import tasks.adapters.gate.child_main"),
}


@pytest.fixture(scope="module", autouse=True)
def trees_stay() -> Iterator[None]:
    """No garbage is looked for among the trees of all modules, which are made here, and that again and again."""
    gc.disable()
    yield
    _tree.cache_clear()
    _strings.cache_clear()
    gc.enable()


def lint_imports(folder: Path) -> str:
    """What import-linter says of the packages in a folder."""
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout + run.stderr


def contract_names() -> list[str]:
    """Names of the contracts in pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


def test_every_import_contract_is_kept() -> None:
    """Rooms point down, and each library has its one home."""
    said = lint_imports(ROOT)
    assert re.search(rf"Contracts: {len(contract_names())} kept, 0 broken", said), said


@pytest.mark.parametrize("group", [0, 1, 2])
def test_every_import_contract_fails_when_it_is_broken(tmp_path: Path, group: int) -> None:
    """A line against each contract, put into a copy of the code, is reported under that contract's name."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "*.yaml"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    breaches = dict(list(BREACHES.items())[group::3])
    for module, line in breaches.values():
        path = tmp_path / module
        path.write_text(f"{path.read_text()}\n{line}\n")
    said = lint_imports(tmp_path)
    for contract in breaches:
        assert f"{contract} BROKEN" in said, said


def test_every_contract_is_tried() -> None:
    """A contract that nobody tries to break may be one that cannot fail."""
    assert sorted(contract_names()) == sorted(BREACHES)


def test_modules_are_of_readable_size() -> None:
    """A module that outgrows 400 lines, or a function 60, is split by noun."""
    too_long = [
        f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines" for path, text in _texts() if len(text.splitlines()) > 400
    ]
    too_long += [
        f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path, text in _texts()
        for node in ast.walk(_tree(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not too_long


def test_modules_keep_the_house_style() -> None:
    """A docstring first, no print, no Prefect run logger; environment and working directory are read in deployments only."""
    faults = [f"{path.relative_to(ROOT)}: {fault}" for path, text in _texts() for fault in _style_faults(path, _tree(text))]
    assert not faults


def test_no_folder_holds_more_than_ten_modules() -> None:
    """A folder is about one noun. Excepted are folders whose modules are all of one kind behind one interface."""
    counted = Counter(path.parent.relative_to(ROOT).as_posix() for path in MODULES if path.stem != "__init__")
    assert {folder: count for folder, count in counted.items() if count > 10 and folder not in LISTS_OF_LIKE_THINGS} == {}


def test_a_module_of_one_importer_is_tested_by_itself() -> None:
    """A module that only a neighbour imports has a test file of its own; without one it belongs to that neighbour.

    Rules and networks are excepted: ``test_table`` breaks every rule, and ``test_registry`` trains every network, whatever
    module it is in.
    """
    tried_as_a_list = {"tasks.adapters.gate.rules", "gmic_model.networks"}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES if path.stem != "__init__"}
    importers: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for imported in _imported(_tree(path.read_text())) & modules.keys() - {name}:
            importers[imported].add(name)
    tested = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert [
        f"{name}, for {importer}"
        for name, (importer, *others) in ((name, sorted(found)) for name, found in importers.items() if found)
        if not others
        and importer.rpartition(".")[0] == name.rpartition(".")[0] not in tried_as_a_list
        and f"{'/'.join(name.split('.')[:-1])}/test_{name.split('.')[-1]}.py" not in tested
    ] == []


def _imported(tree: ast.Module) -> set[str]:
    """Every module that is imported, and every name, which may be a module."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_module_is_named_like_a_library() -> None:
    """Neither of Python nor of a dependency: beside the module it would be another thing under the same name."""
    pinned = {re.split("[=; ]", line)[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    libraries = sys.stdlib_module_names | {
        name for name, owners in packages_distributions().items() if pinned & {owner.lower() for owner in owners}
    }
    assert {"json", "torch", "prefect"} <= libraries
    names = {path.stem for path in MODULES} | {part for path in MODULES for part in path.relative_to(ROOT).parts[:-1]}
    assert names & libraries == set()


def test_a_stem_stands_for_one_noun() -> None:
    """Whoever knows a module's name knows what it is about; where two rooms speak of one noun, it is said which."""
    counted = Counter(path.stem for path in MODULES if path.stem != "__init__")
    shared = {stem for stem, count in counted.items() if count > 1} - STAGES
    assert shared == SHARED_STEMS.keys()


@pytest.mark.parametrize("literal", HOMES)
def test_a_fact_is_written_down_in_its_home_only(literal: str) -> None:
    """A file's name, an ending, a searched field: a second place that knows it would have to be found at every change."""
    written = {
        path.relative_to(ROOT).as_posix()
        for path, text in _texts()
        if literal in text and any(_says(constant, literal) for constant in _strings(text))
    }
    assert written == {HOMES[literal]}


def _says(constant: str, literal: str) -> bool:
    """True if the text is the literal, or a path or name that ends with it."""
    return constant.endswith(literal) if literal.startswith(".") else constant.rpartition("/")[2] == literal


@cache
def _strings(text: str) -> tuple[str, ...]:
    """The strings of a module's code; docstrings speak of names and use none."""
    nodes = [*ast.walk(_tree(text))]
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return tuple(
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    )


@pytest.mark.parametrize(
    "line", ['path / "exam_store"', 'f"{folder}/exam_store"', 'Path("workspace/exam_store")', '{"dir": "exam_store"}']
)
def test_a_fact_in_a_second_place_is_found(line: str) -> None:
    """The test above can fail."""
    assert any(_says(constant, "exam_store") for constant in _strings(f"where = {line}"))


def test_the_tasks_folder_holds_stages_only() -> None:
    """What is no stage of the pipeline, and does not serve all of them, belongs to an adapter."""
    assert {path.stem for path in (ROOT / "tasks").glob("*.py")} <= STAGES | {"__init__", "artifacts", "retries", "stage"}


def test_a_stage_is_thin() -> None:
    """Open, call, write, report: what is about the noun is in the noun's folder."""
    lines = {path.stem: len(path.read_text().splitlines()) for path in (ROOT / "tasks").glob("*.py") if path.stem in STAGES}
    too_long = {stem: count for stem, count in lines.items() if count > LONGEST_STAGE}
    assert all(count <= NOT_YET_THIN.get(stem, 0) for stem, count in too_long.items()), too_long


def test_a_skipped_stage_is_skipped_by_its_decorator() -> None:
    """``@stage`` is the only memory of finished stages; the others say why they have none, here or in their docstring."""
    remembering = {
        path.stem for path in (ROOT / "tasks").glob("*.py") if re.search(r"^@stage\(", path.read_text(), re.MULTILINE)
    }
    saying_why = {stem for stem in STAGES if "It keeps no memory" in (ROOT / "tasks" / f"{stem}.py").read_text()}
    without = WITHOUT_MEMORY.keys() | saying_why
    assert remembering | without == STAGES and not remembering & without


def test_no_task_of_prefect_has_a_cache_of_its_own() -> None:
    """No ``cache_key_fn`` and no persisted result: a second memory would speak of files that are not there any more."""
    for path in (ROOT / "tasks").glob("*.py"):
        assert not re.search(r"cache_key_fn|persist_result=True|refresh_cache", path.read_text()), path.name


def test_tests_are_no_packages() -> None:
    """An __init__.py under tests would put tests on sys.path, where `tasks` and `flows` would shadow the real ones."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_tests_go_through_the_door() -> None:
    """No test imports, calls or replaces a name of ours with an underscore in front: it is an argument, or a public name."""
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in _private_names(_tree(path.read_text()))
    }
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "from tasks.evaluate import _refuse",
        "import tasks.evaluate as evaluate\nevaluate._refuse()",
        "from tasks.adapters.store import manifest\nmanifest._line",
        'monkeypatch.setattr("tasks.adapters.cluster._PAUSE_S", 0)',
        'monkeypatch.setattr(cluster, "_PAUSE_S", 0)',
    ],
)
def test_a_test_through_the_window_is_found(text: str) -> None:
    """The ways to reach a private name are each noticed."""
    assert [*_private_names(ast.parse(text))]


def _private_names(tree: ast.Module) -> Iterator[str]:
    """Names with one underscore in front that a test takes from one of our modules."""
    ours = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOMS:
            ours |= {alias.asname or alias.name for alias in node.names if alias.name.islower()}
            yield from (alias.name for alias in node.names if alias.name.startswith("_"))
        elif isinstance(node, ast.Import):
            ours |= {alias.asname for alias in node.names if alias.asname and alias.name.split(".")[0] in ROOMS}
        elif isinstance(node, ast.Call) and _last_name(node.func).endswith("setattr"):
            given = [str(argument.value) for argument in node.args[:2] if isinstance(argument, ast.Constant)]
            yield from (name for name in given if name.split(".")[-1].startswith("_"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and _dotted(node.value) in ours:
            yield f"{_dotted(node.value)}.{node.attr}"


def _last_name(called: ast.expr) -> str:
    """``c`` of ``a.b.c``; nothing of what has no name."""
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def test_every_room_is_shipped() -> None:
    """The packages of the distribution are the rooms, every one of them and no other."""
    shipped = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert shipped == {
        ".".join(path.parent.relative_to(ROOT).parts) for room in ROOMS for path in (ROOT / room).rglob("__init__.py")
    }


@cache
def _tree(text: str) -> ast.Module:
    """A module's tree, which several rules read and none changes."""
    return ast.parse(text)


def _texts() -> Iterator[tuple[Path, str]]:
    for path in MODULES:
        yield path, path.read_text()


def _style_faults(path: Path, tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield "no module docstring"
    if path.stem in FORBIDDEN_NAMES:
        yield "a name that says nothing"
    if path.stem == "__init__" and len(tree.body) != 1:
        yield "__init__.py holds a docstring, nothing else"
    called = set(_calls(tree))
    yield from sorted(called & {"print", "breakpoint", "get_run_logger", "logging.basicConfig", "logging.info"})
    if path.relative_to(ROOT).parts[0] != "deployments" and path != OBJECT_STORE_CLIENT:
        yield from sorted(called & {"os.getenv", "os.getcwd", "Path.cwd", "os.environ.get"})


def test_interpreters_are_started_in_one_way() -> None:
    """``tasks.adapters.interpreter`` names the command; anything else may take modules from where the user stands."""
    assert {path for path, text in _texts() if list(_other_interpreters(_tree(text)))} == {INTERPRETER_HOME}


@pytest.mark.parametrize(
    "line",
    [
        'subprocess.run([sys.executable, "-m", "prefect"])',
        "from sys import executable",
        'subprocess.Popen(["python", "-c", code])',
        'subprocess.run(("/usr/bin/python3.11", path))',
    ],
)
def test_other_ways_to_start_an_interpreter_are_found(line: str) -> None:
    """The test above can fail."""
    assert list(_other_interpreters(ast.parse(line)))


def _other_interpreters(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _dotted(node) == "sys.executable":
            yield "sys.executable"
        if isinstance(node, ast.ImportFrom) and node.module == "sys":
            yield from (each.name for each in node.names if each.name == "executable")
        if isinstance(node, ast.List | ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
            yield from re.findall(r"^(?:\S*/)?python[\d.]*$", str(node.elts[0].value))


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _dotted(node.func)


def _dotted(node: ast.expr) -> str:
    """``a.b.c``; nothing of what does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""
