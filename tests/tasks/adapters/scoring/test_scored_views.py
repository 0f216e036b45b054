"""Scoring: a checkpoint's network over rows of the store, each row once, in order, whatever the batch."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from gmic_model.learning.exam_loader import ExamViews, loaded
from gmic_model.networks.registry import build_network
from gmic_model.preprocess import PreparedView, network_input
from schemas.config.ingest import PreprocessConfig
from schemas.config.network import GMICConfig, NetworkConfig, TableRow, network_of_row
from schemas.config.run import RunConfig
from schemas.config.training import StoreReader
from schemas.errors import CheckpointError, StoreError
from schemas.layout import MANIFEST_COLUMNS
from schemas.reports.report import Provenance
from schemas.reports.training import EnsembleMember, TrainReport
from tasks.adapters.models.checkpoints import load_checkpoint, save_checkpoint
from tasks.adapters.models.model_files import SIDECAR, sealed
from tasks.adapters.models.networks import load_member, load_network, load_trained
from tasks.adapters.scoring.scored_views import Scoring, ViewsReadOnce, predicted_at_once, score_rows, score_rows_of_each
from tasks.adapters.store.exam_store import StoredImage, create_store, reserve_rows, store_preprocessing, write_shard
from tasks.adapters.store.manifest import publish, read_manifest
from tasks.adapters.store.views import StoredViews, stored_views
from tasks.predict import find_checkpoint

CPU = torch.device("cpu")
# The baseline has no patches and a fifteenth of the weights; patches are the model's own tests' business.
MODEL = GMICConfig(image_size=(64, 48), patch_size=(16, 16), K=2, local_dim=8, attention_dim=8)
BASELINE = network_of_row(MODEL, TableRow.RESNET22)


def _lines() -> list[dict[str, object]]:
    texts = {column.name: "x" for column in MANIFEST_COLUMNS if column.dtype == "string"}
    numbers = {column.name: 1 for column in MANIFEST_COLUMNS if column.dtype in ("int64", "float64")}
    flags = {column.name: False for column in MANIFEST_COLUMNS if column.dtype == "bool"}
    size = {"stored_rows_px": 60, "stored_columns_px": 40, "source_rows_px": 60, "source_columns_px": 40}
    box = {"crop_top_px": 0, "crop_bottom_px": 60, "crop_left_px": 0, "crop_right_px": 40}
    own = {"view_position": "CC", "best_center_row_px": 30, "best_center_column_px": 20}
    return [{**texts, **numbers, **flags, **size, **box, **own, "row": row, "image_id": f"I{row}"} for row in range(6)]


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> StoredViews:
    """Six rows of noise in a store of 64 x 48 windows."""
    preprocess = PreprocessConfig(window_px=(64, 48), jitter_shift_px=0, jitter_size_px=0)
    store = create_store(
        tmp_path_factory.mktemp("store"), preprocess=preprocess, preprocess_version="1", rows_per_shard=8, key_id="k"
    )
    reserve_rows(store, 6)
    rng = np.random.default_rng(0)
    images = (StoredImage(row=row, pixels_HW=rng.integers(1, 4096, (60, 40), dtype=np.uint16)) for row in range(6))
    write_shard(store, 0, images)
    publish(store, _lines(), [])
    return stored_views(store, read_manifest(store), (64, 48))


def _saved(folder: Path, model: NetworkConfig = BASELINE, **about: object) -> tuple[nn.Module, TrainReport]:
    torch.manual_seed(4)
    network = build_network(model).eval()
    digest = save_checkpoint(folder, weights=network.state_dict(), training={}, model=model, about=about)
    provenance = Provenance(
        code_version="0", config_sha256="0", data_version="0", preprocess_version="0", seed=0, created_utc="2026-01-01"
    )
    report = TrainReport(
        checkpoint_path=folder,
        checkpoint_sha256=digest,
        run_dir=folder.parent,
        epochs=(),
        best_epoch=0,
        train_exams=0,
        provenance=provenance,
    )
    return network, report


def test_scores_are_the_networks_own_for_each_row(views: StoredViews, tmp_path: Path) -> None:
    """Rows 4, 0 and 5 in that order; each equals a forward pass of the row's window by hand."""
    network, report = _saved(tmp_path / "epoch-0000", MODEL)
    scored = list(score_rows(load_trained(report), views, [4, 0, 5], batch_images=2, device=CPU))
    assert [view.row for view in scored] == [4, 0, 5]
    for view in scored:
        with torch.no_grad():
            output = network(torch.from_numpy(network_input(views(view.row)))[None, None])
        assert view.score_C == pytest.approx(output.y_NC[0].numpy(), abs=1e-6)
        assert view.saliency_CIJ == pytest.approx(output.saliency_NCIJ[0].numpy(), abs=1e-6)
        assert (view.corner_K2 == output.corner_NK2[0].numpy()).all()
        assert view.attention_K == pytest.approx(output.attention_NK[0].numpy(), abs=1e-6)
        assert [str(array.dtype) for array in (view.score_C, view.corner_K2)] == ["float64", "int64"]


def test_the_batch_size_does_not_change_scores(views: StoredViews, tmp_path: Path) -> None:
    """1, 4 or 100 images at a time: each row once, the same scores to rounding; no rows, no scores."""
    network, _ = _saved(tmp_path / "epoch-0000")
    by_size = [list(score_rows(network, views, range(6), batch_images=size, device=CPU)) for size in (1, 4, 100)]
    assert all([view.row for view in scored] == list(range(6)) for scored in by_size)
    for one, other in zip(by_size[0], by_size[1], strict=True):
        assert one.score_C == pytest.approx(other.score_C, abs=1e-6)
    assert list(score_rows(network, views, [], batch_images=4, device=CPU)) == []


class _CountedViews(StoredViews):
    """Stored views that say which row was read how."""

    def __call__(self, row: int) -> PreparedView:
        READS.append(("picture", row))
        return super().__call__(row)

    def lesion_mask(self, row: int) -> NDArray[np.uint8]:
        READS.append(("mask", row))
        return super().lesion_mask(row)


READS: list[tuple[str, int]] = []


def test_a_view_that_is_scored_and_drawn_is_read_once(views: StoredViews, tmp_path: Path) -> None:
    """Score, panel and gallery ask for its pixels, panel and gallery for its mask: one read each, until it is let go."""
    READS.clear()
    network, _ = _saved(tmp_path / "epoch-0000")
    counted = ViewsReadOnce(_CountedViews(views.store, views.views))
    for view in score_rows(network, counted, [4, 0, 5], batch_images=2, device=CPU):
        for _ in ("panel", "gallery"):
            assert (counted(view.row).pixels_HW == views(view.row).pixels_HW).all()
            assert (counted.lesion_mask(view.row) == views.lesion_mask(view.row)).all()
        counted.let_go(view.row)
    assert sorted(READS) == [(what, row) for what in ("mask", "picture") for row in (0, 4, 5)]
    counted(4)
    assert READS.count(("picture", 4)) == 2


def test_weights_that_training_did_not_report_are_refused(tmp_path: Path) -> None:
    """Another training wrote into the same folder: evaluation does not report the wrong network's numbers."""
    _, report = _saved(tmp_path / "epoch-0000")
    other = report.model_copy(update={"checkpoint_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="other weights than were reported"):
        load_trained(other)


def test_weights_that_do_not_fit_their_network_are_refused(tmp_path: Path) -> None:
    """The sidecar was edited to another network: words with a remedy, not torch's list of missing keys."""
    _saved(tmp_path / "epoch-0000")
    sidecar_path = tmp_path / "epoch-0000" / SIDECAR
    sidecar = json.loads(sidecar_path.read_text())
    sidecar["model"] = MODEL.model_dump(mode="json")
    sidecar_path.write_bytes(sealed(sidecar))
    with pytest.raises(CheckpointError, match=r"do not fit the network it describes.*Remedy"):
        load_network(load_checkpoint(tmp_path / "epoch-0000"))


@pytest.mark.parametrize("images", [1, 2, 4])
def test_devices_that_share_the_batches_change_nothing(views: StoredViews, tmp_path: Path, images: int) -> None:
    """Three devices, or fewer batches than devices: the rows in their order, with the numbers of one device."""
    network, _ = _saved(tmp_path / "epoch-0000")
    one, three = (
        list(score_rows(network, views, range(5), batch_images=images, device=CPU, scoring=Scoring(further=further)))
        for further in ((), (CPU, CPU))
    )
    assert [view.row for view in three] == list(range(5))
    for alone, shared in zip(one, three, strict=True):
        assert (alone.score_C == shared.score_C).all() and (alone.saliency_CIJ == shared.saliency_CIJ).all()


def test_a_view_that_cannot_be_read_on_one_of_several_devices_is_said(views: StoredViews, tmp_path: Path) -> None:
    """What stood before it came out; nothing hangs."""
    network, _ = _saved(tmp_path / "epoch-0000")

    def read(row: int) -> PreparedView:
        if row == 3:
            raise StoreError("The image is damaged")
        return views(row)

    found = []
    with pytest.raises(StoreError, match="The image is damaged"):
        for view in score_rows(network, read, range(6), batch_images=1, device=CPU, scoring=Scoring(threads=0, further=(CPU,))):
            found.append(view.row)
    assert found == [0, 1, 2]


def test_several_networks_see_each_image_once(views: StoredViews, tmp_path: Path) -> None:
    """What each says of a row is what it says alone; the view is read and prepared once for all."""
    (first, _), (second, _) = _saved(tmp_path / "a", MODEL), _saved(tmp_path / "b")
    reads: list[int] = []

    def counted(row: int) -> PreparedView:
        reads.append(row)
        return views(row)

    both = list(score_rows_of_each([first, second], counted, [3, 1], batch_images=2, device=CPU))
    assert reads == [3, 1] and [[view.row for view in pair] for pair in both] == [[3, 3], [1, 1]]
    for network, scored in zip((first, second), zip(*both, strict=True), strict=True):
        alone = list(score_rows(network, views, [3, 1], batch_images=2, device=CPU))
        assert [view.score_C.tolist() for view in scored] == [view.score_C.tolist() for view in alone]


def test_weights_can_be_read_as_another_row_of_table_1(views: StoredViews, tmp_path: Path) -> None:
    """GMIC's weights read as GMIC-loc predict y_loc; weights with other tensors are refused."""
    network, report = _saved(tmp_path / "epoch-0000", MODEL)
    member = EnsembleMember(path=report.checkpoint_path, sha256=report.checkpoint_sha256)
    (as_loc,) = score_rows(load_member(member, read_as=TableRow.LOC), views, [2], batch_images=1, device=CPU)
    with torch.no_grad():
        output = network(torch.from_numpy(network_input(views(2)))[None, None])
    assert as_loc.score_C == pytest.approx(output.y_loc_NC[0].numpy(), abs=1e-6)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_member(member, read_as=TableRow.RESNET22)


def test_weights_of_another_image_size_are_not_evaluated(tmp_path: Path) -> None:
    """Their scores on this store would be numbers without a meaning."""
    _, report = _saved(tmp_path / "epoch-0000")
    member = EnsembleMember(path=report.checkpoint_path, sha256=report.checkpoint_sha256)
    with pytest.raises(CheckpointError, match="another size"):
        load_member(member, window_px=(64, 64))


def test_weights_of_another_preprocessing_are_refused(views: StoredViews, tmp_path: Path) -> None:
    """The store says robust, version 1: weights of version 0 or of another crop mode are refused, with both and the remedy.

    Those of the same are taken, and imported ones, which name none. Predict says it before it ingests.
    """
    found = store_preprocessing(views.store)
    assert found == "robust-1"
    for trained_on in ("robust-0", "released-1"):
        _, report = _saved(tmp_path / trained_on, provenance={"preprocess_version": trained_on})
        with pytest.raises(CheckpointError, match=rf"another preprocessing.*{trained_on}.*Got: robust-1\. Remedy: ingest with"):
            load_trained(report, preprocessing=found)
        config = RunConfig.model_validate(
            {
                "name": "predict",
                "workspace_dir": tmp_path / "workspace",
                "ingest": {"source_dir": tmp_path},
                "checkpoint": report.checkpoint_path,
            }
        )
        with pytest.raises(CheckpointError, match="another preprocessing"):
            find_checkpoint.fn(config)
    assert not (tmp_path / "workspace").exists()
    for name, about in (("same", {"provenance": {"preprocess_version": found}}), ("imported", {})):
        _, report = _saved(tmp_path / name, **about)
        load_trained(report, preprocessing=found)


@pytest.mark.parametrize("reader", list(StoreReader))
def test_threads_bring_the_stores_batches(views: StoredViews, reader: StoreReader) -> None:
    """Three threads read the same store at once, by each reader: the same images, jitter included."""
    if reader is StoreReader.TENSORSTORE:
        pytest.importorskip("tensorstore", reason="the extra tensorstore is not installed")
    preprocess = PreprocessConfig(window_px=(64, 48), jitter_shift_px=6, jitter_size_px=4)
    exams = ExamViews(
        rows_of_exam=[(0, 1), (2, 3), (4, 5)], label_by_row=dict.fromkeys(range(6), (0, 1)), read_view=views, jitter=preprocess
    )
    there_exams = replace(exams, read_view=replace(views, reader=reader))
    here = list(loaded(exams, [(0, 1), (2,)], CPU))
    there = list(loaded(there_exams, [(0, 1), (2,)], CPU, threads=3, ahead=2))
    assert [batch.row_N.tolist() for batch in there] == [[0, 1, 2, 3], [4, 5]]
    assert all(torch.equal(one.image_N1HW, other.image_N1HW) for one, other in zip(here, there, strict=True))


def test_images_are_scored_as_the_config_says(views: StoredViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many loader threads, as far ahead and in the precision that the config names; bf16 is near fp32, and is not it."""
    config = RunConfig.model_validate(
        {
            "workspace_dir": tmp_path,
            "ingest": {"source_dir": tmp_path},
            "train": {"device": "cpu", "loader_workers": 3, "prefetch_batches": 5},
            "evaluate": {"precision": "bf16"},
        }
    )
    how = Scoring.of(config)
    assert how == Scoring(threads=3, ahead=5, precision="bf16")
    network, _ = _saved(tmp_path / "epoch-0000")
    asked: list[tuple[int, int]] = []

    def seen(*given: Any, threads: int, ahead: int) -> Iterator[Any]:
        asked.append((threads, ahead))
        return loaded(*given, threads=threads, ahead=ahead)

    monkeypatch.setattr("tasks.adapters.scoring.scored_views.loaded", seen)
    (rounded,) = score_rows(network, views, [2], batch_images=1, device=CPU, scoring=how)
    (plain,) = score_rows(network, views, [2], batch_images=1, device=CPU)
    assert asked == [(3, 5), (2, 1)]
    assert rounded.score_C == pytest.approx(plain.score_C, abs=0.02) and (rounded.score_C != plain.score_C).all()


def test_a_gpu_that_draws_nothing_is_given_many_images_at_once() -> None:
    """As many as an evaluation gives it; where each is drawn, and on a CPU, one."""
    content = {"workspace_dir": "w", "ingest": {"source_dir": "exams"}, "evaluate": {"batch_images": 16}}
    drawn = RunConfig.model_validate(content)
    bare = drawn.model_copy(update={"predicted_panels": False})
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert [predicted_at_once(*asked) for asked in ((bare, gpu), (bare, cpu), (drawn, gpu))] == [16, 1, 1]


def test_every_stage_reads_by_the_reader_of_the_config() -> None:
    """No place of the program opens the store's views without saying by which library: train.store_reader is of all stages."""
    root = Path(__file__).parents[4]
    silent = [
        f"{path.relative_to(root)}:{call.lineno}"
        for path in sorted((root / "tasks").rglob("*.py"))
        if "stored_views" in (text := path.read_text("utf-8"))
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "stored_views"
        if "reader" not in [keyword.arg for keyword in call.keywords]
    ]
    assert silent == []
