"""A machine that shares no file system trains, scores and explains from a store in a bucket, as one does from its own disk."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import torch

from gmic_model.learning.processes import ALONE
from gmic_model.networks.registry import build_network
from mammo_tests.object_store import BUCKET
from mammo_tests.training_store import curve, divided, make_store, request, small_config, with_baseline
from schemas.config.run import RunConfig
from schemas.exam import Split
from tasks.adapters.inbox.publishing.elsewhere import published_elsewhere
from tasks.adapters.models.checkpoints import epoch_dir, save_checkpoint
from tasks.adapters.training.process_main import serve
from tasks.adapters.workspace import Workspace
from tasks.evaluate import evaluate_network
from tasks.explain import explain_exams
from tasks.predict import predict_exams

CACHE_GIGABYTES = 0.0002
"""Less than the images take: each epoch asks for some of them again."""


def changed(config: RunConfig, **changes: object) -> RunConfig:
    """The same but for some sections."""
    return RunConfig.model_validate({**config.model_dump(), **changes})


def two_places(tmp_path: Path, config: RunConfig) -> tuple[RunConfig, RunConfig, str]:
    """The same four exams on a disk and, for a machine with a cache and no more, in a bucket; and their data version."""
    address = f"s3://{BUCKET}/{uuid4().hex}"
    on_disk = changed(config, workspace_dir=tmp_path / "disk")
    writer = changed(config, workspace_dir=tmp_path / "writer", ingest={"source_dir": tmp_path / "none", "store": address})
    cache = {"folder": tmp_path / "cache", "gigabytes": CACHE_GIGABYTES}
    elsewhere = changed(config, workspace_dir=tmp_path / "elsewhere", store_dir=address, store_cache=cache)
    version = make_store(on_disk, exams=4).data_version
    assert make_store(writer, exams=4).data_version == version
    (tmp_path / "writer").rename(tmp_path / "out-of-reach")
    return on_disk, elsewhere, version


@pytest.mark.usefixtures("s3")
def test_a_store_in_a_bucket_is_learnt_from_and_scored_as_one_on_a_disk(tmp_path: Path) -> None:
    """The same curve and scores, with a cache that holds a part of the images, and no pixel anywhere else."""
    config = with_baseline(small_config(tmp_path, epochs=2))
    on_disk, elsewhere, version = two_places(tmp_path, changed(config, predicted_panels=False))
    made = []
    for config in (on_disk, elsewhere):
        parts = [Split.TUNING, Split.TRAIN, Split.TEST, Split.TRAIN]
        splits = divided(config.workspace_dir / "split" / "splits.parquet", parts, version)
        run_dir = config.workspace_dir / "train" / "run"
        serve(request(config, splits, run_dir=run_dir), ALONE)
        ingested = published_elsewhere(config)
        assert ingested.data_version == version and ingested.images_published == 16
        predicted = predict_exams.fn(config, ingested, epoch_dir(run_dir, 1))
        made.append((curve(run_dir), predicted.images, pd.read_csv(predicted.scores_path)))
    (curve_there, images_there, scores_there), (curve_here, images_here, scores_here) = made
    assert curve_here == curve_there and len(curve_here) == 2
    assert images_here == images_there and len(images_here) == 16
    pd.testing.assert_frame_equal(scores_here, scores_there)  # the weights' digests among them
    assert not Workspace(elsewhere.workspace_dir).store_dir.exists()
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert 0 < kept <= CACHE_GIGABYTES * 1e9


@pytest.mark.usefixtures("s3")
def test_what_is_explained_from_a_bucket_is_what_is_explained_from_a_disk(tmp_path: Path) -> None:
    """The same panels to the byte, and the same saliency, patches and geometry."""
    torch.manual_seed(0)
    evaluate = {"checkpoints": [tmp_path / "weights"], "bootstrap_resamples": 20}
    config = changed(small_config(tmp_path), evaluate=evaluate)
    weights = build_network(config.model).state_dict()
    save_checkpoint(tmp_path / "weights", weights=weights, training={}, model=config.model, about={})
    *places, version = two_places(tmp_path, config)
    made = []
    for one in places:
        parts = [Split.TEST, Split.TUNING, Split.TRAIN, Split.TRAIN]
        splits = divided(one.workspace_dir / "split" / "splits.parquet", parts, version)
        evaluated = evaluate_network.body(one, splits, None)
        made.append(explain_exams.body(one, splits, None, evaluated))
    there, here = made
    assert len(here.images) == len(there.images) == 4
    for ours, theirs in zip(here.images, there.images, strict=True):
        assert (ours.image_id, ours.scores) == (theirs.image_id, theirs.scores)
        assert ours.panel_path.read_bytes() == theirs.panel_path.read_bytes()
        with np.load(ours.saliency_path) as found, np.load(theirs.saliency_path) as expected:
            assert found.files == expected.files and found["saliency_CIJ"].std() > 0
            for name in found.files:
                np.testing.assert_array_equal(found[name], expected[name])
