"""From YAML to configs: what is shipped loads, what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from deployments.configuration import SHIPPED_CONFIGS, load_config
from deployments.server.registration import deployments_for
from deployments.verbs import FROM_SCRATCH
from schemas.config.ingest import PreprocessConfig
from schemas.config.network import GMICConfig
from schemas.config.pacs import DicomWebPeer
from schemas.config.run import RunConfig
from schemas.errors import ConfigError
from schemas.reports.data import SplitReport
from tasks.adapters.buckets.exam_object import ExamObject
from tasks.adapters.models.model_files import SIDECAR
from tasks.adapters.models.start_files import require_starts

SHIPPED = sorted(SHIPPED_CONFIGS.glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    """A config file."""
    path = folder / "config.yaml"
    path.write_text(text)
    return path


GOOD = "workspace_dir: work\ningest: {source_dir: exams}\n"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configs_load_by_name_from_anywhere(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``mammo pipeline demo.yaml`` works in any folder; each file opens with what it is for, the command, time and result."""
    monkeypatch.chdir(tmp_path)
    assert load_config(Path(path.name)).workspace_dir.is_absolute()
    opening = "\n".join(line for line in path.read_text().splitlines()[:8] if line.startswith("#"))
    assert "Command: mammo " in opening and "Time: " in opening and "Result: " in opening


def test_a_file_of_ones_own_goes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo.yaml in the working directory is the one that is meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").write_text(GOOD + "name: mine\n")
    assert load_config(Path("demo.yaml")).name == "mine"


def test_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made absolute on reading: workers and later retries may run elsewhere."""
    monkeypatch.chdir(tmp_path)
    config = load_config(write(tmp_path, GOOD + "checkpoint: ../weights\n"))
    assert (config.workspace_dir, config.ingest.source_dir) == (tmp_path / "work", tmp_path / "exams")
    assert config.checkpoint == tmp_path.parent / "weights"


@pytest.mark.parametrize("text", [GOOD, "workspace_dir: work\ningest: {source: 's3://exams/inbox'}\n"])
def test_a_config_that_was_read_is_the_same_run_for_whoever_is_given_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers of ``mammo serve`` are, in JSON; what stands for a bucket's keys is not made a folder's path."""
    monkeypatch.chdir(tmp_path)
    config = load_config(write(tmp_path, text))
    for values in (config.model_dump(mode="json"), deployments_for(config)["deployments"][0]["parameters"]["config"]):
        assert RunConfig.model_validate(values).ingest.source_dir == config.ingest.source_dir
    if config.ingest.bucket_url is not None:
        there = ExamObject(config.ingest.bucket_url, "exam/1.dcm", 1, "")
        assert there.path.relative_to(config.ingest.source_dir).as_posix() == there.key


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    """A dotted key from a flag replaces the file's value, and makes the section if it is not there."""
    config = load_config(write(tmp_path, GOOD), {"ingest.source_dir": "/elsewhere", "train.epochs": 3})
    assert (config.ingest.source_dir, config.train.epochs) == (Path("/elsewhere"), 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nam: x", r"unknown key 'nam', did you mean 'name'\?"),
        ("model: {patchsize: 8}", r"unknown key 'model.gmic.patchsize', did you mean 'patch_size'\?"),
        ("train: {zzz: 1}", "unknown key 'train.zzz'; known keys: accumulation, augment, batch_exams, checkpoint_activations"),
        ("train.epochs: 3", r"unknown key 'train.epochs', did you mean 'train: {epochs: ...}'\?"),
        ("train.recipe.best_by: loss", r"did you mean 'train: {recipe: {best_by: ...}}'\?"),
        ("saliency_weight: 1", r"unknown key 'saliency_weight', did you mean 'train: {saliency_weight: ...}'\?"),
        ("recipe: {best_by: loss}", r"did you mean 'pretrain: {recipe: ...}' or 'train: {recipe: ...}'\?"),
        (
            "train: {recipe.best_of_epochs: 10}",
            r"'train.recipe.best_of_epochs', did you mean 'recipe: {best_of_epochs: ...}'\?",
        ),
        ("train.zzz: 3", "unknown key 'train.zzz'"),
        ("train: {epochs: 0}", "train.epochs: Input should be greater than 0, got 0"),
        ("name: Has Spaces", "name: String should match"),
        ("split: {test_fraction: 0.6, tuning_fraction: 0.6}", "no patient would be left to train on"),
        ("model: {image_size: [8, 8]}", "must equal model.image_size"),
        ("force: [reprot]", "force.0: Input should be 'ingest', 'validate'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: str, message: str) -> None:
    """Key, value and what would be right, in one message without pydantic's own pages."""
    with pytest.raises(ConfigError, match=message) as refused:
        load_config(write(tmp_path, GOOD + line + "\n"))
    assert "pydantic" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("dask", "message"),
    [
        ("{n_workers: 3}", "ingest.dask: the key 'kind' is missing"),
        ("{kind: local, n_worker: 3}", r"unknown key 'ingest.dask.local.n_worker', did you mean 'n_workers'\?"),
        ("{kind: cloud}", "'local', 'address'"),
    ],
)
def test_a_wrong_dask_section_is_named(tmp_path: Path, dask: str, message: str) -> None:
    """The section has two forms; the message says what tells them apart."""
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, f"workspace_dir: work\ningest: {{source_dir: exams, dask: {dask}}}\n"))


@pytest.mark.parametrize("text", ["a: [1", "\tname: x", "- one\n- two", "", "just words"])
def test_what_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    """Broken YAML, a list, nothing, a sentence: a ConfigError each, exit code 2."""
    with pytest.raises(ConfigError) as refused:
        load_config(write(tmp_path, text))
    assert refused.value.exit_code == 2


def test_a_missing_file_names_the_shipped_ones(tmp_path: Path) -> None:
    """The reader sees which names would have worked."""
    with pytest.raises(ConfigError, match=r"shipped ones: .*demo\.yaml"):
        load_config(tmp_path / "demo-2.yaml")


def test_equal_settings_have_equal_digests(tmp_path: Path) -> None:
    """The digest is over values, not over the file's form or order."""
    one = load_config(write(tmp_path, "workspace_dir: /w\ningest: {source_dir: /e}\ntrain: {epochs: 3}\n"))
    other = load_config(
        write(tmp_path, yaml.safe_dump({"train": {"epochs": 3}, "ingest": {"source_dir": "/e"}, "workspace_dir": "/w"}))
    )
    assert one.sha256() == other.sha256() and len(one.sha256()) == 64


def test_shipped_configs_name_the_windows_size_once() -> None:
    """``preprocess.window_px`` is its home, and the network is built for it."""
    named = {path.name: path.read_text() for path in SHIPPED_CONFIGS.glob("*.yaml")}
    assert named and not [name for name, text in named.items() if "image_size:" in text]
    assert load_config(SHIPPED_CONFIGS / "table1.yaml").model.image_size == (512, 320)


@pytest.mark.parametrize(
    "model", [{}, {"image_size": [2944, 1920]}, {"K": 2}, {"kind": "gmic"}, {"kind": "resnet-22"}, {"variant": "gmic-loc"}]
)
def test_the_server_accepts_a_network_of_either_kind(model: dict[str, object]) -> None:
    """Prefect checks a run's parameters by the flow's JSON schema, where exactly one form of the section may fit."""
    from prefect.utilities.callables import parameter_schema
    from prefect.utilities.schema_tools import validate

    from flows.train import train

    form = parameter_schema(train).model_dump_for_openapi()
    content = {"workspace_dir": "w", "ingest": {"source_dir": "s"}, "model": model}
    validate({"config": content}, form, raise_on_error=True)
    filled = RunConfig.model_validate(content).model_dump(mode="json")
    validate({"config": filled}, form, raise_on_error=True)


def test_a_network_that_goes_on_brings_its_form_and_preprocessing(tmp_path: Path) -> None:
    """Sections that the config leaves out are those of the checkpoint to begin with; what it names itself is kept."""
    began = {"preprocess": {"window_px": [192, 128], "pixel_spacing_mm": 0.1}, "model": {"image_size": [192, 128], "K": 2}}
    (tmp_path / "epoch-0003").mkdir()
    (tmp_path / "epoch-0003" / SIDECAR).write_text(json.dumps({"sha256": {}, **began}))
    asked = GOOD + f"train: {{start: {{network: {tmp_path / 'epoch-0003'}}}}}\n"
    config = load_config(write(tmp_path, asked))
    assert config.preprocess.pixel_spacing_mm == 0.1 and config.preprocess.window_px == (192, 128)
    assert isinstance(config.model, GMICConfig) and config.model.K == 2
    own = load_config(write(tmp_path, asked + "preprocess: {window_px: [192, 128]}\n"))
    assert own.preprocess.pixel_spacing_mm is None and own.model == config.model
    scratch = load_config(write(tmp_path, asked), {"train.start.from_scratch": True})
    assert scratch.preprocess == PreprocessConfig()
    (tmp_path / "epoch-0003" / SIDECAR).unlink()
    with pytest.raises(
        ConfigError, match=r"train\.start\.network .*epoch-0003.*restore it, or write the sections preprocess and"
    ):
        load_config(write(tmp_path, asked))


def test_the_paper_s_config_refuses_to_begin_with_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ImageNet's file it stops at once and says where that is; --from-scratch begins at random, not pre-trained."""
    from flows.pipeline import pipeline
    from flows.pretrain import pretrained

    monkeypatch.chdir(tmp_path)
    paper = load_config(Path("paper.yaml"))
    assert paper.pretrain is not None
    with pytest.raises(ConfigError, match=r"resnet18-f37072fd\.pth.*https://download\.pytorch\.org.*--from-scratch"):
        require_starts(paper)
    with pytest.raises(ConfigError, match="to begin the patches with"):
        pipeline.fn(paper)
    scratch = load_config(Path("paper.yaml"), {FROM_SCRATCH.config_key: True})
    require_starts(scratch)
    assert pretrained(scratch, SplitReport(splits_path=tmp_path, data_version="", counts={})) is None


def test_paths_of_named_sections_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's files, in a mapping of sections, are found from any working directory."""
    peer = {"kind": "dicomweb", "url": "http://127.0.0.1/dicom-web", "credentials_file": "secret"}
    content = {"workspace_dir": "w", "ingest": {"source_dir": "s"}, "pacs": {"peers": {"archive": peer}}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    config = load_config(tmp_path / "run.yaml")
    assert config.pacs is not None
    archive = config.pacs.peers["archive"]
    assert isinstance(archive, DicomWebPeer) and archive.credentials_file == tmp_path / "secret"
