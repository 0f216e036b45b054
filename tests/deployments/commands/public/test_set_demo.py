"""``mammo demo --dataset``: what is said before anything runs, whose settings win, and the whole way once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.commands.demo import demo
from deployments.commands.public.set_demo import first_look_config, run_set_demo
from mammo_tests.converted import converted
from mammo_tests.excerpts import make
from mammo_tests.small_films import mias_part
from schemas.errors import ConfigError, DatasetError

Mammo = Callable[..., Any]


def test_the_written_config_wins_over_the_first_look_one_by_one(tmp_path: Path) -> None:
    """Folders, profile, tables and terms are the set's; network, epochs and shares are the first look's."""
    make("vindr-mammo", tmp_path / "set")
    converted("vindr-mammo", tmp_path / "set", tmp_path / "out")
    written = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    config = first_look_config(tmp_path / "out", seed=3)
    content = json.loads(config.model_dump_json())
    assert content["workspace_dir"] == written["workspace_dir"]
    assert written["ingest"].items() <= content["ingest"].items()
    assert content["split"]["file"] == written["split"]["file"]
    assert (config.preprocess.window_px, config.train.epochs, config.split.tuning_fraction) == ((576, 384), 3, 0.25)
    assert config.split.seed == config.train.seed == 3


def test_what_cannot_be_trained_is_said_before_anything_runs(tmp_path: Path) -> None:
    """Annotations without pixels, one patient, no finding at all, two demos at once: a sentence, and no workspace."""
    for name, said in (
        ("ddsm", "images of 0"),
        ("inbreast", "images of 1"),
        ("kau-bcmd", "no breast of it is known to hold a finding"),
    ):
        make(name, tmp_path / name)
        with pytest.raises(DatasetError, match=said):
            run_set_demo(name, tmp_path / name, workspace=tmp_path / "demo", seed=0)
        assert not (tmp_path / "demo" / name / "workspace").exists()
    with pytest.raises(ConfigError, match="two demos"):
        demo(dicom=tmp_path, dataset=("ddsm", tmp_path / "ddsm"))
    with pytest.raises(ConfigError, match="inside the set's folder"):
        run_set_demo("ddsm", tmp_path / "ddsm", workspace=tmp_path / "ddsm" / "demo", seed=0)


@pytest.mark.long
def test_a_set_goes_from_the_download_to_the_report(tmp_path: Path, mammo_process: Mammo) -> None:
    """Three pairs of films: the counts are printed, the report is there, and the terms are said with it."""
    mias_part(tmp_path / "set", pairs=3)
    answer = mammo_process("demo", "--dataset", "mini-mias", tmp_path / "set", "--workspace", tmp_path / "demo")
    assert answer.code == 0, answer.stderr
    assert "| films **differs** | 322 | 6 | Info.txt |" in answer.stdout
    assert "The terms of mini-MIAS forbid passing on data" in answer.stdout
    assert (tmp_path / "demo" / "mini-mias" / "workspace" / "report" / "report.html").is_file()
