"""``mammo dataset`` on the command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from deployments.cli import made_app
from deployments.verbs import VERBS
from mammo_tests.excerpts import make
from schemas.errors import ConfigError, DatasetError
from tasks.adapters.datasets.catalogue import DATA_SETS

APP = made_app(tuple(verb for verb in VERBS if verb.name in {"dataset", "configs"}))


def said(*words: str | Path) -> str:
    """What a call prints.

    Raises:
        MammoError: It ends with an error of ours.
    """
    result = CliRunner().invoke(APP, ["dataset", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_every_set_is_listed() -> None:
    """With licence, what it needs, where that is got, and the choices that it leaves."""
    text = said("--list")
    for name, data_set in DATA_SETS.items():
        assert f"{name}: {data_set.facts.title}" in text
        assert data_set.facts.licence in text and data_set.facts.get in text
    assert "policy  malignant_from=5 or 4" in text
    assert [each["name"] for each in json.loads(said("mias", "--list", "--json"))] == ["mini-mias"]


def test_a_count_that_differs_ends_with_3_unless_a_part_is_meant(tmp_path: Path) -> None:
    """The folder is written in both cases: its report says which counts differ."""
    make("mini-mias", tmp_path / "set")
    with pytest.raises(DatasetError, match=r"rows 330 \(Info\.txt\)") as refused:
        said("mini-mias", tmp_path / "set", "--out", tmp_path / "out")
    assert refused.value.exit_code == 3
    assert (tmp_path / "out" / "report.md").exists()
    text = said("mias", tmp_path / "set", "--out", tmp_path / "out", "--partial")
    assert "| rows **differs** | 330 | 9 | Info.txt |" in text
    assert f"Next: mammo pipeline {tmp_path / 'out' / 'config.yaml'}" in text
    content = json.loads(said("mias", tmp_path / "set", "--out", tmp_path / "out", "--partial", "--json"))
    assert content["counts"]["lesions"] == 6


def test_a_probe_writes_nothing(tmp_path: Path) -> None:
    """Tags, sizes, and marks drawn over their images in letters; no person is named."""
    make("csaw-cc", tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    text = said("csaw-cc", tmp_path / "set", "--probe")
    assert "96 x 80: 16" in text
    assert "HOLOGIC, INC." in text.upper()
    assert "mask, malignant" in text and "####" in text
    assert sorted(tmp_path.rglob("*")) == before
    assert "patient" not in text.casefold().replace("patient_orientation", "")


def test_a_probe_draws_its_marks_where_a_folder_is_named(tmp_path: Path) -> None:
    """Three PNG of the images' own size, the frame red round the mark; never below the set."""
    root, pictures = tmp_path / "set", tmp_path / "marks"
    make("csaw-cc", root)
    before = sorted(root.rglob("*"))
    text = said("csaw-cc", root, "--probe", "--out", pictures)
    drawn = sorted(pictures.iterdir())
    assert [path.name for path in drawn] == [f"overlay-{number}.png" for number in range(1, len(drawn) + 1)]
    places = re.findall(r"^rows (\d+) to (\d+), columns (\d+) to (\d+)$", text, re.MULTILINE)
    assert 1 <= len(drawn) == len(places) <= 3
    for path, place in zip(drawn, places, strict=True):
        picture_HWC = cv2.imread(str(path))
        top, bottom, left, right = map(int, place)
        is_red_HW = (picture_HWC == (0, 0, 255)).all(axis=2)
        rows, columns = is_red_HW.nonzero()
        assert picture_HWC.shape[:2] == (96, 80)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (top - 1, bottom, left - 1, right)
        assert not is_red_HW[top:bottom, left:right].any()
    with pytest.raises(ConfigError, match="inside the set's folder"):
        said("csaw-cc", root, "--probe", "--out", root / "marks")
    assert sorted(root.rglob("*")) == before


def test_what_is_not_given_is_said(tmp_path: Path) -> None:
    """A set that does not exist, with its nearest; a folder that is not there; no folder to write into."""
    with pytest.raises(ConfigError, match="did you mean inbreast"):
        said("imbreast", tmp_path, "--out", tmp_path / "out")
    with pytest.raises(DatasetError, match="There is no folder"):
        said("inbreast", tmp_path / "gone", "--out", tmp_path / "out")
    with pytest.raises(ConfigError, match="--out DIR"):
        said("inbreast", tmp_path)
    with pytest.raises(ConfigError, match="--list"):
        said()
