"""Which network a config names, also in the words of before there were kinds."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.config.network import GMICConfig, GMICVariant, NetworkConfig, ResNet22Config, TableRow, network_of_row
from schemas.config.run import RunConfig

NETWORK = TypeAdapter[NetworkConfig](NetworkConfig)


def test_a_config_without_kind_is_gmic_and_says_no_kind() -> None:
    """Files and digests of earlier versions stay valid: what is written of GMIC is what was written then."""
    found = NETWORK.validate_python({"K": 3})
    assert found == GMICConfig(K=3) == NETWORK.validate_python({"kind": "gmic", "K": 3})
    assert "kind" not in found.model_dump()
    assert GMICConfig(top_t=0.05).sha256() == "b29c5ea1057dd0a9192dc255c45a2b0f49b3f57d1eb36c07d3ac2972231843d7"  # of 3a2551d


def test_the_baseline_was_a_variant() -> None:
    """``variant: resnet-22`` among GMIC's fields is the ResNet-22 of today, without the fields it never used."""
    old = {"image_size": [64, 48], "K": 2, "variant": "resnet-22", "findings": 1}
    found = NETWORK.validate_python(old)
    assert found == ResNet22Config(kind="resnet-22", image_size=(64, 48), findings=1)
    assert NETWORK.validate_json(found.model_dump_json()) == found


def test_rows_of_table_1() -> None:
    """Six rows are variants of GMIC, the seventh is another network with the same input."""
    base = GMICConfig(image_size=(64, 48), K=2)
    assert [network_of_row(base, row).title for row in TableRow] == [row.value for row in TableRow]
    assert [variant.value for variant in GMICVariant] == [row.value for row in TableRow if row is not TableRow.RESNET22]
    assert network_of_row(network_of_row(base, TableRow.RESNET22), TableRow.RESNET22).image_size == (64, 48)
    with pytest.raises(ValueError, match="resnet-22 does not stand for the row gmic-loc"):
        network_of_row(network_of_row(base, TableRow.RESNET22), TableRow.LOC)


def _run(**sections: object) -> RunConfig:
    return RunConfig.model_validate({"workspace_dir": Path("w"), "ingest": {"source_dir": "s"}, **sections})


def test_the_network_is_built_for_the_window() -> None:
    """``preprocess.window_px`` is the home of the size; a second one, as in older configs, must agree."""
    window = {"preprocess": {"window_px": [384, 256]}}
    assert _run(**window).model.image_size == (384, 256)
    assert _run(**window, model={"kind": "resnet-22"}).model.image_size == (384, 256)
    assert _run(**window, model=GMICConfig(K=1)).model == GMICConfig(K=1, image_size=(384, 256))
    assert _run(**window, model={"image_size": [384, 256]}).model.image_size == (384, 256)
    for model in ({"image_size": [8, 8]}, GMICConfig(image_size=(8, 8))):
        with pytest.raises(ValidationError, match=r"window_px \(384, 256\) must equal model.image_size \(8, 8\)"):
            _run(**window, model=model)
    read_again = RunConfig.model_validate_json(_run(**window, model={"kind": "resnet-22"}).model_dump_json())
    assert read_again == _run(**window, model={"kind": "resnet-22"})
