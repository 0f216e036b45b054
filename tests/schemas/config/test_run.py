"""Configs: what is misspelt or cannot be is refused at the border, and equal configs have equal digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import schemas
from deployments.server.metrics_main import Measuring
from mammo_tests.kinds import all_of_kind
from schemas.config.evaluation import SplitConfig
from schemas.config.ingest import ExistingDask, IngestConfig, LocalDask, PhantomConfig, PreprocessConfig
from schemas.config.network import GMICConfig
from schemas.config.run import RunConfig
from schemas.config.section import Config, nearest_keys
from schemas.config.training import TrainConfig
from tasks.adapters.pacs.listening.listener_main import Listening
from tasks.adapters.store.store_settings import StoreSettings
from tasks.adapters.training.request import TrainingRequest

SHIPPED_DIR = Path(__file__).parents[3] / "deployments" / "configs"


def _run(**changes: Any) -> RunConfig:
    return RunConfig.model_validate({"workspace_dir": "w", "ingest": {"source_dir": "s"}, **changes})


@pytest.mark.parametrize(
    "kind", all_of_kind(Config, schemas, StoreSettings, Listening, Measuring, TrainingRequest), ids=lambda kind: kind.__name__
)
def test_an_unknown_key_is_refused_in_every_config(kind: type[Config]) -> None:
    """A misspelt key never falls back to a default in silence."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"learning_rte": 1})


@pytest.mark.parametrize("config", [GMICConfig(), PreprocessConfig(), TrainConfig(), _run()], ids=lambda c: type(c).__name__)
def test_a_config_cannot_be_changed(config: Config) -> None:
    """A run is what its file said."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, next(iter(type(config).model_fields)), None)


def test_a_field_added_after_a_release_is_in_the_digest_only_where_it_is_used() -> None:
    """At its default it is left out, as if it were not there; another value gives another digest. A config's JSON has it."""
    at_default, written_out, used = (
        _run(train=train) for train in ({}, {"negatives_shortfall": 0.5}, {"negatives_shortfall": 1.0})
    )
    assert at_default.sha256() == written_out.sha256() != used.sha256()
    assert "negatives_shortfall" not in at_default.identity_content()["train"]
    assert used.identity_content()["train"]["negatives_shortfall"] == 1.0
    assert at_default.model_dump(mode="json")["train"]["negatives_shortfall"] == 0.5


def test_a_default_that_changed_after_a_release_leaves_digests_as_they_were() -> None:
    """Nobody's finished work is another because a default changed; who names the former default is told apart from it."""
    unnamed, named, other = (_run(evaluate=evaluate).evaluate.identity_content() for evaluate in (
        {}, {"readers_specificity": 0.853}, {"readers_specificity": 0.9},
    ))  # fmt: skip
    assert unnamed["readers_specificity"] == 0.853 and other["readers_specificity"] == 0.9
    assert named["readers_specificity"] == {"named": 0.853}
    assert (
        _run().evaluate.readers_specificity is None
        and _run().model_dump(mode="json")["evaluate"]["readers_specificity"] is None
    )


def test_groups_are_compared_at_an_operating_point_that_is_there() -> None:
    """A specificity that is none of the operating points is refused in a sentence: it gave no threshold, in silence."""
    with pytest.raises(ValidationError, match=r"subgroup_specificity 0.85 must be one of specificities \(0.8, 0.9, 0.95\)"):
        _run(evaluate={"subgroup_specificity": 0.85})
    assert _run(evaluate={"subgroup_specificity": 0.85, "specificities": [0.85]}).evaluate.subgroup_specificity == 0.85


def test_the_digest_does_not_see_the_yamls_order_spelling_or_defaults() -> None:
    """Key order, 1e-4 or 0.0001, an integer for a square and a default written out give one digest; another value another."""
    first = yaml.safe_load(
        "workspace_dir: w\nname: a\ningest: {source_dir: s, exams_per_shard: 4}\ntrain: {epochs: 3, saliency_weight: 1.0e-4}\n"
        "model: {patch_size: 256}"
    )
    second = yaml.safe_load(
        "model: {patch_size: [256, 256]}\ntrain: {saliency_weight: 0.0001, epochs: 3}\ningest: {source_dir: s}\nname: a\n"
        "workspace_dir: w"
    )
    one, other = RunConfig.model_validate(first), RunConfig.model_validate(second)
    assert one == other
    assert one.sha256() == other.sha256()
    assert len(one.sha256()) == 64
    assert _run(train={"epochs": 4}).sha256() != _run(train={"epochs": 3}).sha256()


def test_a_config_survives_json() -> None:
    """What a checkpoint's sidecar keeps is the config again, digest included."""
    config = _run(ingest={"source_dir": "s", "dask": {"kind": "address", "address": "tcp://10.0.0.1:8786"}}, force=["split"])
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.sha256() == config.sha256()


def test_the_canvas_holds_every_window_that_jitter_can_draw() -> None:
    """Shift and size change act on each side: 2944 + 2 * (100 + 100) = 3344 rows, 1920 + 400 = 2320 columns."""
    assert PreprocessConfig().canvas_px == (3344, 2320)
    assert PreprocessConfig(window_px=(384, 256), jitter_shift_px=8, jitter_size_px=0).canvas_px == (400, 272)
    assert PreprocessConfig(window_px=64, jitter_shift_px=0, jitter_size_px=0).canvas_px == (64, 64)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SplitConfig, {"tuning_fraction": 0.5, "test_fraction": 0.5}),  # nobody to train on
        (SplitConfig, {"seed": -1}),  # numpy's generators take none below 0
        (TrainConfig, {"seed": -1}),
        (TrainConfig, {"learning_rate": float("inf")}),
        (TrainConfig, {"learning_rate": 0}),
        (TrainConfig, {"learning_rate": float("nan")}),
        (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"device": "tpu"}),
        (TrainConfig, {"keep_checkpoints": 0}),
        (GMICConfig, {"top_t": 0.0}),
        (GMICConfig, {"top_t": 1.5}),
        (GMICConfig, {"image_size": [0, 5]}),
        (GMICConfig, {"image_size": [5]}),
        (PreprocessConfig, {"crop_mode": "best"}),
        (PhantomConfig, {"output_dir": "p", "malignant_fraction": 1.1}),
        (RunConfig, {"workspace_dir": "w", "ingest": {"source_dir": "s"}, "name": "../up"}),
        (RunConfig, {"workspace_dir": "w", "ingest": {"source_dir": "s", "dask": {"kind": "yarn"}}}),
    ],
)
def test_values_that_cannot_be_are_refused(kind: type[Config], values: dict[str, Any]) -> None:
    """Out of range, not finite, or of no known kind."""
    with pytest.raises(ValidationError):
        kind.model_validate(values)


def test_dask_is_told_apart_by_kind() -> None:
    """Own workers by default, a running scheduler by address."""
    assert _run().ingest.dask == LocalDask()
    assert _run(ingest={"source_dir": "s", "dask": {"kind": "address", "address": "tcp://a:1"}}).ingest.dask == ExistingDask(
        kind="address", address="tcp://a:1"
    )


def test_the_released_form_differs_from_the_papers_where_it_must() -> None:
    """512-d patch features, fusion branch and its own t; everything else is the paper's, and can be changed."""
    released = GMICConfig.released(K=2)
    assert (released.local_dim, released.fusion, released.top_t, released.K) == (None, True, 0.02, 2)
    assert released.image_size == GMICConfig().image_size == (2944, 1920)
    assert (GMICConfig().K, GMICConfig().local_dim, GMICConfig().fusion) == (6, 128, False)


@pytest.mark.parametrize("path", sorted(SHIPPED_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_opens_with_what_it_is_for(path: Path) -> None:
    """The first line is a comment, and the file parses as YAML."""
    assert path.read_text().startswith("#")
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_a_misspelt_key_is_told_its_neighbours() -> None:
    """Best first; nothing is offered for what resembles nothing."""
    assert nearest_keys("learning_rte", TrainConfig.model_fields)[0] == "learning_rate"
    assert nearest_keys("zzzzzz", TrainConfig.model_fields) == []


@pytest.mark.parametrize(
    ("ledger", "store", "complaint"),
    [
        ("postgresql://mammo:CANARY@host/mammo", "s3://bucket/prefix", "leave the password out of ledger"),
        ("postgresql://host/mammo?user=mammo&password=CANARY", "s3://bucket/prefix", "leave the password out of ledger"),
        ("postgresql://mammo@host/mammo", "", "ledger is in a database, and store in a folder of one machine"),
        ("postgresql://mammo:CAN/ARY@host/mammo", "s3://bucket/prefix", "leave the password out of ledger"),
        ("postgresql://mammo@host/mammo?pass%77ord=CANARY", "s3://bucket/prefix", "leave the password out of ledger"),
        ("postgresql://mammo@host/mammo?sslkey=k&sslpassword=CANARY", "s3://bucket/prefix", "leave the password out of ledger"),
        ("mysql://mammo:CANARY@host/mammo", "s3://bucket/prefix", "leave the password out of ledger"),
        ("sqlite:///ledger", "s3://bucket/prefix", "ledger is no address of PostgreSQL"),
    ],
)
def test_a_shared_ledger_needs_a_bucket_and_brings_no_password(ledger: str, store: str, complaint: str) -> None:
    """What machines share, they share all of; what lets them in is in no config."""
    with pytest.raises(ValidationError, match=complaint):
        IngestConfig.model_validate({"source_dir": "x", "store": store, "ledger": ledger})
    for allowed in ("?service=mammo", "mammo@[::1]:5432/mammo?sslmode=verify-full&passfile=/x", "mammo@a:5432,b:5432/mammo"):
        content = {"source_dir": "x", "store": "s3://bucket/prefix", "ledger": f"postgresql://{allowed}"}
        assert IngestConfig.model_validate(content).ledger == f"postgresql://{allowed}"
