"""A machine that shares no file system trains and scores from a store in a bucket, as one does from its own disk."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest

from gmic_model.learning.processes import ALONE
from mammo_tests.object_store import BUCKET
from mammo_tests.training_store import curve, divided, make_store, request, small_config, with_baseline
from schemas.config.run import RunConfig
from schemas.exam import Split
from tasks.adapters.inbox.publishing.elsewhere import published_elsewhere
from tasks.adapters.models.checkpoints import epoch_dir
from tasks.adapters.training.process_main import serve
from tasks.adapters.workspace import Workspace
from tasks.predict import predict_exams

CACHE_GIGABYTES = 0.0002
"""Less than the images take: each epoch asks for some of them again."""


def config_of(workspace: Path, **changes: object) -> RunConfig:
    """A training of two epochs, by the quickest network; nothing is drawn."""
    config = with_baseline(small_config(workspace, epochs=2))
    return RunConfig.model_validate({**config.model_dump(), "predicted_panels": False, **changes})


@pytest.mark.usefixtures("s3")
def test_a_store_in_a_bucket_is_learnt_from_and_scored_as_one_on_a_disk(tmp_path: Path) -> None:
    """The same curve and scores, with a cache that holds a part of the images, and no pixel anywhere else."""
    address = f"s3://{BUCKET}/{uuid4().hex}"
    on_disk = config_of(tmp_path / "disk")
    writer = config_of(tmp_path / "writer", ingest={"source_dir": tmp_path / "none", "store": address})
    cache = {"folder": tmp_path / "cache", "gigabytes": CACHE_GIGABYTES}
    elsewhere = config_of(tmp_path / "elsewhere", store_dir=address, store_cache=cache)
    version = make_store(on_disk, exams=4).data_version
    assert make_store(writer, exams=4).data_version == version
    (tmp_path / "writer").rename(tmp_path / "out-of-reach")
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
