"""What a training is measured on after each epoch: all tuning exams, or all with a finding and some of the others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from mammo_tests.training_store import make_store, small_config
from schemas.config.training import PretrainConfig, PretrainTarget
from schemas.errors import TrainingError
from schemas.exam import FINDINGS, UNKNOWN, Split
from schemas.layout import MANIFEST_NAMES
from tasks.adapters.store.exam_store import ExamStore, open_store
from tasks.adapters.store.manifest import manifest_with_splits, read_divided, read_manifest, read_splits
from tasks.adapters.store.parts import manifest_parts, write_manifest
from tasks.adapters.training.training_data import pretraining_data, training_data
from tasks.adapters.workspace import Workspace


def test_tuning_exams_without_a_finding_are_drawn_where_it_is_asked(tmp_path: Path) -> None:
    """Two with a finding and one of the two others; whoever may be drawn stays among those whom the weights have seen."""
    config = small_config(tmp_path)
    splits = make_store(config)
    whole = training_data(config, splits)
    drawn = training_data(small_config(tmp_path, tuning_negatives_per_positive=0.5), splits)
    assert whole.tuning["exam_id"].nunique() == 4 and len(drawn.tuning) == 12
    assert set(drawn.tuning.loc[drawn.tuning["malignant"] == 1, "exam_id"]) == {"E000", "E003"}
    assert drawn.seen == whole.seen and drawn.tuning.index.tolist() == list(range(12))


def test_only_a_training_that_draws_is_another_one(tmp_path: Path) -> None:
    """At its default the field changes no identity: trainings of former releases go on."""
    plain, named, drawn = (
        small_config(tmp_path, **fields).train.identity()
        for fields in ({}, {"tuning_negatives_per_positive": None}, {"tuning_negatives_per_positive": 2.0})
    )
    assert plain == named != drawn


def test_the_lines_of_splits_are_read_as_they_lie(tmp_path: Path) -> None:
    """Part by part, nothing of other splits, as if all lines had been read and divided: draws hang on their order."""
    splits = make_store(small_config(tmp_path))
    store = open_store(Workspace(tmp_path).store_dir)
    lines = read_manifest(store).sample(frac=1.0, random_state=3).drop(columns=["pixel_sha256"])
    divided = read_splits(splits.splits_path)
    whole = manifest_with_splits(splits, lines)
    _write(store, lines)
    for part, found in zip(Split, read_divided(store, divided, Split, without={"pixel_sha256"}), strict=True):
        expected = whole[whole["split"] == part.value].drop(columns="split").reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_of_an_empty_manifest_one_part_tells_the_columns(tmp_path: Path) -> None:
    """Nothing was let in: whoever reads in parts finds nothing, and no error of its own."""
    splits = make_store(small_config(tmp_path))
    store = open_store(Workspace(tmp_path).store_dir)
    _write(store, read_manifest(store).iloc[:0])
    (part,) = manifest_parts(store.files, store.store_id, None)
    assert part.num_rows == 0 and set(MANIFEST_NAMES) <= set(part.schema.names)
    training, tuning = read_divided(store, read_splits(splits.splits_path), (Split.TRAIN, Split.TUNING))
    assert training.empty and tuning.empty and list(training) == list(read_manifest(store))


@pytest.mark.parametrize(
    ("given", "got"), [(["b"], "density b alone"), (["a", "b"], None), ([""], "none with such a category")], ids=str
)
def test_pretraining_needs_two_categories(tmp_path: Path, given: list[str], got: str | None) -> None:
    """Whoever names the one that all have has learnt nothing, and would be right every time."""
    config = small_config(tmp_path)
    splits = make_store(config)
    store = open_store(Workspace(tmp_path).store_dir)
    lines = read_manifest(store)
    lines["density"] = [given[exam % len(given)] for exam in lines["row"] // 4]
    _write(store, lines)
    asked = PretrainConfig(target=PretrainTarget.DENSITY)
    if got is None:
        assert len(pretraining_data(config, asked, splits).train.rows_of_exam) == 8
        return
    with pytest.raises(TrainingError, match=got) as refused:
        pretraining_data(config, asked, splits)
    assert "hidden" in str(refused.value) and "BI-RADS" not in str(refused.value)


def test_a_view_is_mixed_with_one_of_which_something_is_known(tmp_path: Path) -> None:
    """Of half of the exams nothing is known: mixed with a view of these, one that has a label would teach nothing."""
    config = small_config(tmp_path, augment={"mixup": 0.4})
    splits = make_store(config)
    store = open_store(Workspace(tmp_path).store_dir)
    lines = read_manifest(store)
    exam_N = lines["row"] // 4
    for finding in FINDINGS:
        lines[finding.value] = lines[finding.value].mask(exam_N % 3 == 1, UNKNOWN)
    _write(store, lines)
    shown = training_data(config, splits).train.of_epoch(0)
    partners = [partner for index in range(len(shown)) for partner in shown[index].partners]
    assert len(partners) == 4 * 8 and not any((partner.label_C == UNKNOWN).all() for partner in partners)
    # Where nothing is known of any view of a position, one of these must do.
    lines["view_position"] = lines["view_position"].mask((exam_N % 3 != 1) & (lines["view_position"] == "CC"), "MLO")
    _write(store, lines)
    facts = training_data(config, splits).train.facts
    assert {row // 4 % 3 for row in facts.rows_of_position["CC"]} == {1}
    assert {row // 4 % 3 for row in facts.rows_of_position["MLO"]} == {0, 2}


def _write(store: ExamStore, lines: pd.DataFrame) -> None:
    write_manifest(store.files, pa.Table.from_pandas(lines, preserve_index=False), store.store_id)
