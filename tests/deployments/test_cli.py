"""The command's face: its verbs, their help, and the exit codes it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deployments.cli import EXIT_CODES, app, made_app, told_by_flags, verbs_asked_for
from deployments.configuration import SHIPPED_CONFIGS
from deployments.verb import Verb
from deployments.verbs import GROUPS
from deployments.verbs import VERBS as ROWS
from schemas import errors
from schemas.config.run import Stage
from schemas.errors import ConfigError, MammoError

COMMAND = typer.main.get_command(app)
VERBS = sorted(COMMAND.commands)  # type: ignore[attr-defined]  # a group, by construction


def all_errors(root: type[MammoError] = MammoError) -> set[type[MammoError]]:
    """The tree's classes."""
    return {root}.union(*(all_errors(child) for child in root.__subclasses__() if child.__module__ == errors.__name__))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    """``mammo VERB --help`` needs no config and no server, and says more than the verb's name."""
    said = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    assert "Usage:" in said.output and len(said.output.split()) > 12


def test_the_verbs_of_the_pipeline_are_there() -> None:
    """A stage that can be run alone has its verb."""
    assert {
        "demo",
        "phantom",
        "ingest",
        "validate",
        "split",
        "train",
        "evaluate",
        "explain",
        "predict",
        "pipeline",
        "serve",
    } <= {*VERBS}


@pytest.mark.parametrize("columns", [80, 120])
def test_help_groups_the_verbs_by_purpose(columns: int) -> None:
    """The main job first; every verb in the panel of its group, its name whole, no line wider than the terminal."""
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": str(columns)}).output
    panels = [re.sub(r"[╭╮─]", "", line).strip() for line in said.splitlines() if line.startswith("╭")]
    assert panels == ["Options", *GROUPS] and GROUPS[0] == "The main job"
    shown: dict[str, set[str]] = {}
    for line in said.splitlines():
        if line.startswith("╭"):
            group = re.sub(r"[╭╮─]", "", line).strip()
        elif verb := re.match(r"│ ([a-z-]\S*)", line):
            shown.setdefault(group, set()).add(verb[1])
    assert shown == {"Options": {"--help"}} | {group: {verb.name for verb in ROWS if verb.group == group} for group in GROUPS}
    assert max(map(len, said.splitlines())) <= columns


@pytest.mark.parametrize("verb", ROWS, ids=lambda verb: verb.name)
def test_a_verb_says_the_same_in_the_list_and_in_its_own_help(verb: Verb) -> None:
    """The row's sentence is the first of ``mammo VERB --help``."""
    said = " ".join(CliRunner().invoke(app, [verb.name, "--help"], env={"COLUMNS": "300"}).output.split())
    assert verb.help in said


@pytest.mark.parametrize("verb", [verb for verb in ROWS if verb.can_force], ids=lambda verb: verb.name)
def test_force_is_for_stages_that_remember(verb: Verb) -> None:
    """What can be forced is a stage, or all of them."""
    assert verb.name in {*Stage, "pipeline"} and verb.deployment is not None


@pytest.mark.parametrize(
    ("verb", "forced", "remedy"),
    [
        ("evaluate", "train", "`mammo train CONFIG.yaml --force train`"),
        ("train", "evaluate", "`mammo evaluate CONFIG.yaml --force evaluate`"),
        ("split", "ingest", "ingest asks its ledger"),
        ("pipeline", "search", "another search.study is a new one"),
    ],
)
def test_a_stage_that_a_verb_does_not_run_is_not_forced_in_silence(verb: str, forced: str, remedy: str) -> None:
    """Nothing of it would be done again, and the verb's own work would pass for it."""
    told = CliRunner().invoke(app, [verb, "demo.yaml", "--force", forced]).exception
    assert isinstance(told, ConfigError)
    assert f"mammo {verb} does not run {forced}" in str(told) and remedy in str(told)


def test_help_shows_the_exit_codes() -> None:
    """Scripts are told what the codes mean where people look first."""
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "400"})
    assert said.exit_code == 0 and "75 another run holds the store" in said.output


def test_documented_exit_codes_are_those_of_the_errors() -> None:
    """Every error's code is in the help, and the help has no code that nothing returns."""
    documented = {int(number) for number in re.findall(r"\b(\d+) [a-z]", EXIT_CODES)}
    assert documented == {error.exit_code for error in all_errors()} | {0, 130, 143}


def test_the_error_tree_is_drawn_as_it_is() -> None:
    """The drawing in the module's docstring names every class with its exit code."""
    drawn = dict(re.findall(r"── (\w+) .*exit (\d+)$", errors.__doc__ or "", re.MULTILINE))
    assert drawn == {error.__name__: str(error.exit_code) for error in all_errors() - {MammoError}}


def test_usage_errors_end_with_code_2() -> None:
    """No config, an unknown verb, an unknown flag."""
    for arguments in (["ingest"], ["no-such-verb"], ["ingest", "demo.yaml", "--no-such-flag"]):
        assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("name", ["EACCES", "EROFS", "EIO", "EFBIG", "EHOSTDOWN", "ETIMEDOUT", "ENOEXEC"])
def test_a_disk_that_lets_nobody_write_is_no_traceback(name: str) -> None:
    """Another user's workspace, a failing disk, a share that is away: a sentence, the store's exit code. Our fault is whole."""
    fails = f"def fails(): raise OSError(errno.{name}, 'raw', 'workspace/prefect')"
    program = f"import errno\nfrom deployments import cli\n{fails}\ncli.made_app = lambda _: fails\ncli.main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    is_ours = name == "ENOEXEC"
    assert ended.returncode == (1 if is_ours else errors.StoreError.exit_code)
    assert ("Traceback" in ended.stderr) == is_ours
    assert ended.stderr.startswith("mammo: workspace/prefect cannot be used.") != is_ours


def test_serve_refuses_somebody_elses_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools and deployments have the same names everywhere: it would write over those of the server that is configured."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (tmp_path / "run.yaml").write_text(f"{{workspace_dir: {tmp_path}/ws, ingest: {{source_dir: {tmp_path}/inbox}}}}")
    refused = CliRunner().invoke(app, ["serve", str(tmp_path / "run.yaml")])
    assert isinstance(refused.exception, ConfigError) and "mammo deploy" in str(refused.exception)
    assert not (tmp_path / "ws").exists()


def test_serve_refuses_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers are processes; pools of pods are registered by ``mammo deploy``."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text(f"{{workspace_dir: {tmp_path}/ws, ingest: {{source_dir: {tmp_path}/inbox}}}}")
    (tmp_path / "service.yaml").write_text("kubernetes: {cpu_image: a:1, gpu_image: a:1}")
    refused = CliRunner().invoke(app, ["serve", str(tmp_path / "run.yaml"), "--service", str(tmp_path / "service.yaml")])
    assert isinstance(refused.exception, ConfigError) and "mammo deploy CONFIG --service" in str(refused.exception)


def test_a_folder_to_predict_stands_for_a_source_of_exams_too(tmp_path: Path) -> None:
    """With ``--dicom`` the config's bucket, or peer whose exams would be fetched into that very folder, is not asked."""
    (tmp_path / "run.yaml").write_text(f"{{workspace_dir: {tmp_path}/exams/ws, ingest: {{source: 's3://bucket/exams'}}}}")
    refused = CliRunner().invoke(app, ["predict", str(tmp_path / "run.yaml"), "--dicom", str(tmp_path / "exams")])
    assert isinstance(refused.exception, ConfigError) and "inside the source folder" in str(refused.exception)


@pytest.mark.parametrize(("flags", "changed"), [([], {}), (["--calibrated"], {"calibrated": True}),
                                                (["--no-calibrated"], {"calibrated": False})], ids=str)  # fmt: skip
def test_a_switch_with_two_forms_is_heard_in_both(flags: list[str], changed: dict[str, object]) -> None:
    """``--no-calibrated`` takes back a config's ``calibrated: true``; without either the config decides."""
    (predict,) = (verb for verb in ROWS if verb.name == "predict")
    given = COMMAND.commands["predict"].make_context("predict", ["run.yaml", *flags]).params  # type: ignore[attr-defined]
    assert told_by_flags(predict, given) == (changed, {})


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_found_when_it_is_the_only_one_that_is_loaded(verb: str) -> None:
    """A command loads the row of its verb alone, and is still called by the verb's name."""
    said = CliRunner().invoke(made_app(verbs_asked_for([verb])), [verb, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0 and f" {verb} " in said.output


def test_configs_lists_what_is_shipped() -> None:
    """Name and first line of each."""
    said = CliRunner().invoke(made_app(verbs_asked_for(["configs"])), ["configs"])
    assert "demo.yaml" in said.output and "predict.yaml" in said.output


def test_a_shipped_config_is_printed_to_be_copied() -> None:
    """Byte for byte; a name that is none names those that there are."""
    said = CliRunner().invoke(app, ["configs", "small-cohort.yaml"])
    assert said.stdout == (SHIPPED_CONFIGS / "small-cohort.yaml").read_text()
    refused = CliRunner().invoke(app, ["configs", "../verbs.py"])
    assert isinstance(refused.exception, ConfigError) and "small-cohort.yaml" in str(refused.exception)
