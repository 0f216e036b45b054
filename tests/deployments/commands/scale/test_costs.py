"""What images take is computed from measured numbers: in proportion, along the line that was measured, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.commands.scale.costs import Wanted, read_costs, scale_plan
from schemas.errors import ConfigError


def _wanted(images: int, **changes: object) -> Wanted:
    return Wanted(**{"images": images, "cores": (1, 8), "store": "disk", **changes})  # type: ignore[arg-type]


def test_twice_the_images_take_twice_as_much() -> None:
    """Hours, terabytes, shards and money; one core has no loss among others, and eight have the efficiency of two."""
    costs = read_costs()
    one, two = (scale_plan(costs, _wanted(images, core_hour=0.5, tb_month=20.0)) for images in (320_000, 640_000))
    (first, *_), (second, *_) = one.syntaxes, two.syntaxes
    assert second.core_hours == pytest.approx(2 * first.core_hours) == pytest.approx(640_000 * first.ms_an_image / 3.6e6)
    assert first.wall_hours == pytest.approx((first.core_hours, first.core_hours / 8 / one.efficiency))
    assert second.cost == pytest.approx(0.5 * second.core_hours)
    assert two.store_cost_a_month == pytest.approx(20.0 * two.store_tb[two.codec])
    assert (one.objects, two.objects) == (20_000, 40_000) and two.ledger_gb == pytest.approx(2 * one.ledger_gb)


def test_steps_lie_on_the_line_that_was_measured() -> None:
    """Two sizes give a fixed part and one for each image; a step that grows faster than the images says by how much."""
    steps = {"flat": [[100, 5.0, 1.0], [1100, 15.0, 2.0]], "steep": [[100, 1.0, 1.0], [1000, 20.0, 1.0]]}
    costs = {**read_costs(), "steps": steps}
    flat, steep = scale_plan(costs, _wanted(2100)).steps
    assert (flat.cpu_s, flat.memory_gib) == pytest.approx((25.0, 3.0)) and flat.growth == pytest.approx(15 / 55)
    assert steep.growth == pytest.approx(2.0)
    (few, _) = scale_plan(costs, _wanted(600)).steps
    assert few.cpu_s == pytest.approx(10.0)


def test_of_one_size_nobody_says_how_a_step_grows() -> None:
    """As much an image as was measured, and no growth."""
    (step,) = scale_plan({**read_costs(), "steps": {"once": [[100, 5.0, 1.0]]}}, _wanted(200)).steps
    assert step.cpu_s == pytest.approx(10.0) and step.growth is None


def test_a_card_s_hours_are_the_images_over_its_rates() -> None:
    """36,000 images at 10 a second are an hour; learnt from at 5 a second, two."""
    card = {"card": "some card", "inference_images_per_s": 10, "training_images_per_s": 5}
    plan = scale_plan({**read_costs(), "network": card}, _wanted(36_000))
    assert (plan.card, plan.scoring_card_hours, plan.training_card_hours) == ("some card", 1.0, 2.0)


def test_own_numbers_take_the_place_of_shipped_ones(tmp_path: Path) -> None:
    """A section of a benchmark's file replaces the shipped one; all others stay."""
    path = tmp_path / "numbers.json"
    rates = {"inference_images_per_s": 500, "training_images_per_s": 100}
    path.write_text(json.dumps({"RLE": {"ingest_ms": 36.0, "decode_ms": 3.6, "file_mb": 2.0}, "network": rates}))
    plan = scale_plan(read_costs(path), _wanted(100_000))
    own, other = (next(one for one in plan.syntaxes if one.syntax == name) for name in ("RLE", "HTJ2K"))
    assert plan.scoring_card_hours == pytest.approx(100_000 / 500 / 3600), "of a card that nobody named"
    assert (own.core_hours, own.decoding_core_hours, own.source_tb) == pytest.approx((1.0, 0.1, 0.2))
    assert other == next(one for one in scale_plan(read_costs(), _wanted(100_000)).syntaxes if one.syntax == "HTJ2K")


@pytest.mark.parametrize(
    "content",
    ['{"store": {}}', "[1", "7", '{"dask": {"two_workers": "many"}}', '{"network": {"inference_images_per_s": 500}}'],
)
def test_a_file_without_numbers_is_refused(tmp_path: Path, content: str) -> None:
    """It says what is wanted; nothing is planned from half of it."""
    path = tmp_path / "numbers.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="holds no numbers to plan with"):
        read_costs(path)
