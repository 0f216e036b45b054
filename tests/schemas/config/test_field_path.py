"""Numbers of a config by path."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.config.field_path import numbers_by_path, with_value
from schemas.config.run import RunConfig
from schemas.config.training import PAPER_RANGES, SearchConfig, SearchedRange
from schemas.errors import ConfigError


def _run(**sections: object) -> RunConfig:
    return RunConfig.model_validate({"workspace_dir": Path("w"), "ingest": {"source_dir": "s"}, **sections})


def test_every_number_has_a_path() -> None:
    """Whole numbers and others, optional ones and those of any form of a section; no flag, no text, no pair."""
    found = numbers_by_path(RunConfig)
    assert found["train.learning_rate"] is found["model.top_t"] is found["train.clip_gradient_norm"] is float
    assert found["model.K"] is found["train.epochs"] is found["search.workers.count"] is found["model.local_dim"] is int
    assert not {"train.compile", "model.variant", "preprocess.window_px", "train", "name"} & set(found)


def test_a_value_is_set_at_its_path_and_checked() -> None:
    """One field differs; what the field refuses is refused with its path, and a path that leads nowhere is named."""
    config = _run()
    changed = with_value(config, "model.top_t", 0.5)
    assert changed.model.model_dump() == {**config.model.model_dump(), "top_t": 0.5} and changed.train == config.train
    with pytest.raises(ConfigError, match=r"model.top_t cannot be 1.5.*less than or equal to 1"):
        with_value(config, "model.top_t", 1.5)
    with pytest.raises(ConfigError, match=r"ResNet22Config has no field top_t"):
        with_value(_run(model={"kind": "resnet-22"}), "model.top_t", 0.5)


def test_a_searched_path_that_does_not_exist_is_refused_with_its_neighbours() -> None:
    """As any misspelt key; and a whole number is not drawn from a scale of others."""
    with pytest.raises(ValidationError, match=r"no number is at model.top_tt; near it: model.top_t"):
        _run(search={"ranges": {"model.top_tt": {"ln": [-5, -1]}}})
    with pytest.raises(ValidationError, match=r"model.K takes whole"):
        _run(search={"ranges": {"model.K": {"linear": [2, 8]}}})
    with pytest.raises(ValidationError, match=r"train.learning_rate takes log10, ln or linear"):
        _run(search={"ranges": {"train.learning_rate": {"whole": [1, 2]}}})
    assert _run(search={"ranges": {"model.K": {"whole": [2, 8]}}}).search.paths == ("model.K",)


@pytest.mark.parametrize(
    ("given", "said"),
    [({}, "not none"), ({"ln": [0, 1], "log10": [0, 1]}, "log10 and ln"), ({"linear": [2, 1]}, "lower end 2.0 comes first")],
)
def test_a_range_has_one_scale_and_two_ends(given: dict[str, object], said: str) -> None:
    """Two scales would be two ranges, and an empty range draws nothing."""
    with pytest.raises(ValidationError, match=said):
        SearchedRange.model_validate(given)


def test_ranges_of_before_are_read_with_a_warning() -> None:
    """Each of the four has its path; those that are not named keep the paper's range; both together are refused."""
    with pytest.warns(FutureWarning, match=r"search.top_t_ln: the next release reads search.ranges only"):
        found = SearchConfig.model_validate({"top_t_ln": [-4.0, -2.0]})
    assert found.ranges == {**PAPER_RANGES, "model.top_t": SearchedRange(ln=(-4.0, -2.0))}
    assert SearchConfig.model_validate(found.model_dump()) == found
    with pytest.raises(ValidationError, match=r"name all ranges in search.ranges, without top_t_ln"):
        SearchConfig.model_validate({"top_t_ln": [-4.0, -2.0], "ranges": {}})


def test_the_papers_fields_are_drawn_first() -> None:
    """Whatever the order in the YAML: a further field changes none of their draws."""
    some = {"model.K": SearchedRange(whole=(2, 8)), "model.top_t": PAPER_RANGES["model.top_t"]}
    more = {
        **some,
        "train.learning_rate": PAPER_RANGES["train.learning_rate"],
        "train.ema_decay": SearchedRange(linear=(0.9, 0.99)),
    }
    assert SearchConfig(ranges=more).paths == ("train.learning_rate", "model.top_t", "model.K", "train.ema_decay")
