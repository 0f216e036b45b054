"""Whoever follows the pages that begin with "Add a" has what they promise: a data set, a rule, a column, a metric and so on.

All are followed in one copy of the repository, one after another, as a project grows: what one adds, the others live with. The
tests go on from each other, as that person would: first what is forgotten is found, then it is made good, then all is tried.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from mammo_tests.grown import COUNTED, DRAWN, FOUND, INGESTED, TRAINED, TRIED
from mammo_tests.seams import PYTEST, Copy, copy_of_repository

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
LAWS = "ten_modules or importer or size or style or stages or thin or skipped"
TRIED_WITH_IT = {
    "tests/deployments/test_cli.py": "groups or census or stages",
    "tests/deployments/server/test_registration.py": "every_flow or trigger or starts or where_it_is or field or variables",
    "tests/docs/test_reference.py": "",
    "tests/gmic_model/metrics/test_separation.py": "",
    "tests/gmic_model/networks/test_registry.py": "brightness or every or parts",
    "tests/schemas/test_layout.py": "",
    "tests/tasks/adapters/datasets/sets/test_county.py": "",
    "tests/tasks/adapters/datasets/test_sets.py": "",
    "tests/tasks/adapters/gate/rules/test_table.py": "V16 or every_rule",
    "tests/tasks/adapters/gate/test_advice.py": "",
    "tests/tasks/adapters/pages/test_measures.py": "",
    "tests/tasks/adapters/pages/test_splits_page.py": "",
    "tests/tasks/adapters/scoring/test_model_ranking.py": "",
}
"""What all that was added can break, and of a module the words in its tests' names; the laws of modules are tried before.

Not what stays as it is: other verbs' own help and clocks, other rules' images, how other networks learn, what modules import.
"""


@dataclass(frozen=True)
class Grown:
    """A copy in which somebody has followed every page, the files that each one touched, and what was said; line by line.

    First what the tests say without the step that gives the rule an image and without ``make reference`` (*forgotten*), then
    what the module prints that writes the reference (*written*), what the tests say then (*tested*), and whoever uses what
    was added.
    """

    copy: Copy
    touched: dict[str, set[str]]
    said: dict[str, list[str]]

    def page(self, name: str) -> str:
        """The text of a reference page."""
        return (self.copy.root / "docs" / "reference" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Grown:
    """The steps of all pages, the last of which is forgotten at first; then all is made good and used, on a Prefect server."""
    assert prefect_api  # who uses what was added inherits where it is
    copy = copy_of_repository(tmp_path_factory.mktemp("grown"))
    touched = {name: {step.path for step in copy.follow(f"docs/how-to/add-a-{name}.md")} for name in TOUCHED}
    table = copy.root / "tests" / "tasks" / "adapters" / "gate" / "rules" / "test_table.py"
    whole = table.rename(table.with_suffix(".whole"))
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(line for line in lines if '"V16"' not in line), encoding="utf-8")
    modules = (table.relative_to(copy.root).as_posix(), "tests/docs/test_reference.py", "tests/test_architecture.py")
    chosen = f"has_an_image_that_breaks_it or generated_page or (test_architecture.py and ({LAWS}))"
    words = (f"({Path(path).stem}.py and ({words or Path(path).stem}))" for path, words in TRIED_WITH_IT.items())
    scripts = {"ingested": INGESTED, "drawn": DRAWN, "trained": TRAINED, "found": FOUND, "counted": COUNTED}
    done = [
        ("forgotten", "test", *PYTEST, "--noconftest", "--maxfail=9", "-rA", *modules, "-k", chosen),
        ("completed", "move", str(whole), str(table)),
        ("written", "write", "mammo_tests.reference"),
        ("tested", "test", *PYTEST, "--noconftest", "--assert=plain", "-rA", *TRIED_WITH_IT, "-k", " or ".join(words)),
        *((name, "use", script, str(tmp_path_factory.mktemp(name))) for name, script in scripts.items()),
    ]
    output = copy.python("-c", TRIED, json.dumps(done))
    said = json.loads(output.splitlines()[-1])
    return Grown(copy, touched, {name: text.splitlines() for name, text in said.items()})


@pytest.fixture(scope="module")
def said(grown: Grown) -> dict[str, list[str]]:
    """What was said, by its name."""
    return grown.said


# ------------------------------------------------------------------------------------------------- what was forgotten


def test_a_step_that_was_left_out_is_found(said: dict[str, list[str]]) -> None:
    """Two red tests: one names the rule that no image breaks, one says that pages were not written."""
    assert [line.split(" - ")[0] for line in said["forgotten"] if line.startswith("FAILED ")] == [
        "FAILED tests/tasks/adapters/gate/rules/test_table.py::test_every_rule_has_an_image_that_breaks_it",
        "FAILED tests/docs/test_reference.py::test_every_generated_page_is_the_code_s",
    ]
    assert any("V16" in line for line in said["forgotten"] if line.startswith("E "))
    assert "run `make reference`" in "\n".join(said["forgotten"]) and said["forgotten"][-1] == "ended with 1"


def test_the_laws_of_modules_hold(said: dict[str, list[str]]) -> None:
    """No module is too long, no folder too full, none belongs to its neighbour; a stage is thin, and skipped in one way."""
    passed = [line for line in said["forgotten"] if line.startswith("PASSED tests/test_architecture.py::")]
    assert [name.rpartition("::")[2] for name in passed] == [
        "test_modules_are_of_readable_size",
        "test_modules_keep_the_house_style",
        "test_no_folder_holds_more_than_ten_modules",
        "test_a_module_of_one_importer_is_tested_by_itself",
        "test_the_tasks_folder_holds_stages_only",
        "test_a_stage_is_thin",
        "test_a_skipped_stage_is_skipped_by_its_decorator",
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


def test_what_was_added_breaks_nothing(said: dict[str, list[str]]) -> None:
    """The copy's own tests of data sets, rules, columns, metrics, networks, pages and verbs pass with all of it."""
    output = "\n".join(said["tested"])
    for path in TRIED_WITH_IT:
        assert f"PASSED {path}::" in output, path
    assert "[V16]" in output and "brightness" in output and said["tested"][-1] == "ended with 0", output


@pytest.mark.e2e
def test_the_new_verb_runs(said: dict[str, list[str]]) -> None:
    """``mammo census CONFIG --json`` counts a store, as a run of a Prefect server."""
    counted = "\n".join(said["counted"])
    assert '"exams": 3' in counted and '"images": 12' in counted and said["counted"][-1] == "ended with 0", counted
