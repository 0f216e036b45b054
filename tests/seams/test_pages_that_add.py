"""Whoever follows the pages that begin with "Add a" has what they promise: a data set, a rule, a column, a metric and so on.

All are followed in one copy of the repository, one after another, as a project grows: what one adds, the others live with. The
tests go on from each other, as that person would: first what is forgotten is found, then it is made good, then all is tried.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from mammo_tests.grown import DRAWN, FOUND, INGESTED, TRAINED, TRIED
from mammo_tests.seams import Copy, copy_of_repository
from mammo_tests.training_store import make_store, small_config

TOUCHED = {
    "data-set": 3,
    "gate-rule": 2,
    "manifest-column": 3,
    "page": 3,
    "verb": 4,
    "metric": 4,
    "network": 4,
}
"""What ``docs/how-to/add-a-NAME.md`` adds, in the order in which that is done: how many files it touches."""
LAWS = "ten_modules or importer"


@dataclass(frozen=True)
class Grown:
    """A copy in which somebody has followed every page, the files that each one touched, and what was said on the way.

    That is what the tests say without the step that gives the rule an image, and without ``make reference``.
    """

    copy: Copy
    touched: dict[str, set[str]]
    forgotten: str

    def page(self, name: str) -> str:
        """The text of a reference page."""
        return (self.copy.root / "docs" / "reference" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """The steps of all pages, done; nothing was written by ``make reference`` yet."""
    copy = copy_of_repository(tmp_path_factory.mktemp("grown"))
    touched = {name: {step.path for step in copy.follow(f"docs/how-to/add-a-{name}.md")} for name in TOUCHED}
    table = copy.root / "tests" / "tasks" / "adapters" / "gate" / "rules" / "test_table.py"
    whole = table.read_text(encoding="utf-8")
    table.write_text("".join(line for line in whole.splitlines(keepends=True) if '"V16"' not in line), encoding="utf-8")
    modules = (table.relative_to(copy.root).as_posix(), "tests/docs/test_reference.py", "tests/test_architecture.py")
    chosen = f"has_an_image_that_breaks_it or generated_page or {LAWS}"
    forgotten = copy.failing_pytest("--noconftest", "--maxfail=9", "-rA", *modules, "-k", chosen)
    table.write_text(whole, encoding="utf-8")
    return Grown(copy, touched, forgotten)


@pytest.fixture(scope="module")
def said(grown: Grown, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What was printed by the module that writes the reference, and then by whoever uses what was added; line by line."""
    folders = {"ingested": INGESTED, "drawn": DRAWN, "trained": TRAINED}
    scripts = {name: (script, str(tmp_path_factory.mktemp(name))) for name, script in folders.items()}
    output = grown.copy.python("-c", TRIED, json.dumps({"found": (FOUND, ""), **scripts}))
    return {name: lines.splitlines() for name, lines in json.loads(output.splitlines()[-1]).items()}


# ------------------------------------------------------------------------------------------------- what was forgotten


def test_a_step_that_was_left_out_is_found(grown: Grown) -> None:
    """Two red tests: one names the rule that no image breaks, one says that pages were not written."""
    assert "2 failed, 2 passed" in grown.forgotten
    assert any("V16" in line for line in grown.forgotten.splitlines() if line.startswith("E "))
    assert "run `make reference`" in grown.forgotten


def test_the_laws_of_modules_hold(grown: Grown) -> None:
    """No folder is too full, and no module belongs to its neighbour."""
    passed = [line for line in grown.forgotten.splitlines() if line.startswith("PASSED tests/test_architecture.py::")]
    assert [name.rpartition("::")[2] for name in passed] == [
        "test_no_folder_holds_more_than_ten_modules",
        "test_a_module_of_one_importer_is_tested_by_itself",
    ]


# --------------------------------------------------------------------------------------------------- what was touched


@pytest.mark.parametrize("name", TOUCHED)
def test_a_page_touches_few_files(grown: Grown, name: str) -> None:
    """As many as its seam has: a metric or a network more is a change of no other module."""
    assert len(grown.touched[name]) == TOUCHED[name]


def test_what_lies_behind_a_seam_is_not_touched(grown: Grown) -> None:
    """No file of the pages for a metric; for a column, who reads it and nobody who publishes it; for a network, its own."""
    assert not any("pages" in path for path in grown.touched["metric"])
    assert grown.touched["manifest-column"] == {"schemas/exam.py", "schemas/layout.py", "tasks/adapters/dicom/header.py"}
    assert grown.touched["network"] == {
        "schemas/config/network.py",
        "gmic_model/networks/brightness.py",
        "gmic_model/networks/registry.py",
        "tests/gmic_model/networks/test_registry.py",
    }


def test_what_was_added_is_written_as_the_rest(grown: Grown) -> None:
    """No lint in it, and nothing for the formatter to do, but in a verb's files, whose page says so."""
    modules = {name: {path for path in paths if path.endswith(".py")} for name, paths in grown.touched.items()}
    grown.copy.python("-m", "ruff", "format", *modules["verb"])
    every = sorted(set[str]().union(*modules.values()))
    grown.copy.python("-m", "ruff", "check", *every)
    grown.copy.python("-m", "ruff", "format", "--check", *every)


# ------------------------------------------------------------------------------------------------------ what it is now


def test_the_generated_pages_take_up_what_was_added(grown: Grown, said: dict[str, list[str]]) -> None:
    """``make reference`` names the files that it writes; profile, rule, column and verb have their rows in them."""
    rules, commands = grown.page("gate-rules.md"), grown.page("commands.md")
    assert {"docs/reference/commands.md", "deployments/prefect.yaml", "docs/reference/gate-rules.md"} <= set(said["written"])
    assert "| `county` | the county's archive of computed radiography | K05 L02 X09 | L01 |\n" in rules
    assert "| V16 | warn | ViewCodeSequence holds one code | `gate.rules.view` |\n" in rules
    assert "| `mammo census` | Count what is published. |" in commands
    assert "| census | mammo-cpu | every-morning: `0 7 * * *` | the new run waits |" in commands
    assert "entrypoint: flows.census.census" in (grown.copy.root / "deployments" / "prefect.yaml").read_text()


def test_a_data_set_a_rule_and_a_verb_are_found_by_name(said: dict[str, list[str]]) -> None:
    """The profile by its name, the rule in the table, and the verb's own help."""
    assert said["found"][:2] == [
        "True the county's archive of computed radiography",
        "gate.rules.view ViewCodeSequence holds one code",
    ]
    assert "Count what is published." in "\n".join(said["found"][2:])


def test_an_attribute_comes_into_the_manifest(said: dict[str, list[str]]) -> None:
    """The value is published where the header has one, checked, and has its row in the reference."""
    published, checks, written, row = said["ingested"][-4:]
    assert published == "61.0 [False, True]" and written == "[True, False]"
    assert "is float64" in checks and "is at least 5 and at most 200" in checks and "never empty" not in checks
    assert "BodyPartThickness (0018,11A0) | header | `55.0` | may be empty; at least 5; at most 200 | warning" in row


def test_a_metric_is_on_the_report_page(said: dict[str, list[str]]) -> None:
    """The page has the metric's title, value and meaning: (0.9 + 0.7) / 2 - (0.1 + 0.3) / 2."""
    row = '<th scope="row">Separation</th><td class="number">0.600</td>'
    meaning = "<td>Mean score of breasts with the finding less without</td>"
    assert row + meaning in "\n".join(said["drawn"])


def test_a_network_is_trained_loaded_scored_and_drawn_by_its_name(said: dict[str, list[str]]) -> None:
    """It has neither patches nor a map, so nothing behind it may count on them."""
    assert said["trained"][-1] == "1 brightness 2 (0, 2) True"


TRIED_WITH_IT = {
    "tests/deployments/test_cli.py": "groups or census or stages",
    "tests/deployments/server/test_registration.py": "",
    "tests/docs/test_reference.py": "",
    "tests/gmic_model/metrics/test_separation.py": "",
    "tests/gmic_model/networks/test_registry.py": "",
    "tests/schemas/test_layout.py": "",
    "tests/tasks/adapters/datasets/sets/test_county.py": "",
    "tests/tasks/adapters/datasets/test_sets.py": "",
    "tests/tasks/adapters/gate/rules/test_table.py": "V16 or every_rule",
    "tests/tasks/adapters/gate/test_advice.py": "",
    "tests/tasks/adapters/pages/test_measures.py": "",
    "tests/tasks/adapters/pages/test_splits_page.py": "",
    "tests/tasks/adapters/scoring/test_model_ranking.py": "",
    "tests/test_architecture.py": "size or style or stages or thin or skipped",
}
"""What all that was added can break, and of a module the words in its tests' names.

Not what stays as it is: other verbs' own help, other rules' images, and what modules import.
"""


def test_what_was_added_breaks_nothing(grown: Grown, said: dict[str, list[str]]) -> None:
    """The copy's own tests of data sets, rules, columns, metrics, networks, pages and verbs pass with all of it."""
    chosen = (f"({Path(path).stem}.py and ({words or Path(path).stem}))" for path, words in TRIED_WITH_IT.items())
    output = grown.copy.pytest("--noconftest", "-rA", *TRIED_WITH_IT, "-k", " or ".join(chosen))
    for path in TRIED_WITH_IT:
        assert f"PASSED {path}::" in output, path
    assert "[V16]" in output and "brightness" in output


@pytest.mark.e2e
def test_the_new_verb_runs(grown: Grown, tmp_path: Path, prefect_api: str) -> None:
    """``mammo census CONFIG --json`` counts a store, as a run of a Prefect server."""
    config = small_config(tmp_path / "workspace")
    make_store(config, exams=3)
    (tmp_path / "run.yaml").write_text(config.model_dump_json())
    counted = grown.copy.python("-m", "deployments.cli", "census", str(tmp_path / "run.yaml"), "--json")
    assert '"exams": 3' in counted and '"images": 12' in counted
