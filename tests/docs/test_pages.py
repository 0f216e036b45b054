"""The written pages hold together: their links lead somewhere, the files they name exist, and their lines can be read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from mammo_tests.reference import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix() for where in ("*.md", "docs/**/*.md", "benchmarks/**/*.md") for path in ROOT.glob(where)
)
LONGEST_LINE = 120


def links_of(text: str) -> list[str]:
    """The targets of a page's links and pictures within the repository, without the place in the page."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [target.partition("#")[0] for target in targets if not target.startswith(("http", "mailto:", "#"))]


def long_lines(text: str) -> Iterator[str]:
    """Lines of prose that are too long; tables, code and lines that are little but a link are excepted."""
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and not line.lstrip().startswith(("|", "    ")):
            shown = re.sub(r"\]\([^)]*\)", "]", line)
            if len(shown) > LONGEST_LINE:
                yield f"line {number}: {len(shown)} characters"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_s_links_lead_somewhere(page: str) -> None:
    """Every file and folder that a page links to exists."""
    here = (ROOT / page).parent
    assert [target for target in links_of((ROOT / page).read_text("utf-8")) if not (here / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_s_lines_can_be_read(page: str) -> None:
    """No line of prose is longer than a screen is wide."""
    assert list(long_lines((ROOT / page).read_text("utf-8"))) == []


def test_nothing_says_to_install_the_package_by_its_name() -> None:
    """It is on no index: whoever takes its name there would be installed in a hospital."""
    sources = [
        path for where in ("schemas", "gmic_model", "tasks", "flows", "deployments") for path in (ROOT / where).rglob("*.py")
    ]
    by_name = re.compile(r"pip install[^`\n]*mammography-gmic")
    assert [path for path in (*(ROOT / page for page in PAGES), *sources) if by_name.search(path.read_text("utf-8"))] == []


def test_every_extra_is_in_the_table_of_packages() -> None:
    """A page that sends there for an extra finds it, with what it is for."""
    table = (ROOT / "docs" / "getting-started.md").read_text("utf-8").partition("| extra | for |")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z0-9]+)`", "".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| `")))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert sorted(named) == sorted(extras.keys() - {"dev"})


def test_files_that_the_architecture_names_exist() -> None:
    """Each path in its text that looks like a file or folder of ours exists; `<name>` and `x` stand for others."""
    named = re.findall(r"`([\w./<>-]+(?:\.py|\.md|\.yaml|\.toml|/))`", (ROOT / "ARCHITECTURE.md").read_text("utf-8"))
    paths = [path for path in named if "/" in path and not re.search(r"<|/x\.py", path) and not path.startswith("workspace/")]
    assert len(paths) > 20
    homes = (ROOT, ROOT / "tasks" / "adapters")  # the list of libraries leaves out where adapters lie
    assert [path for path in paths if not any((home / path).exists() for home in homes)] == []


def test_every_floor_is_drawn() -> None:
    """Whoever looks for a folder in the drawing of the floors finds it: they are those of the contracts."""
    drawing = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition("## Floors")[2].partition("\n## ")[0].split("```")[1]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    floors = [floor for contract in contracts if contract.get("exhaustive") for floor in contract["layers"]]
    folders = {folder.strip() for floor in floors for folder in floor.split("|")}
    assert len(folders) > 20
    assert sorted(folders - set(re.findall(r"\w+", drawing))) == []


def test_what_is_wrong_is_seen() -> None:
    """A dead link is among the links, and a long line is found; code, tables and long addresses are not."""
    assert links_of("[a](gone.md#there) [b](https://x.org) ![c](d.png)\n```\n[e](f)\n```\n") == ["gone.md", "d.png"]
    long = "word " * 30
    assert list(long_lines(f"{long}\n```\n{long}\n```\n| {long} |\n[here](https://{'x' * 200})\n")) == [
        "line 1: 150 characters"
    ]
