"""``mammo infer``: a folder in, a folder out, an exit code; answered by a process that has the network loaded."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
import pytest
import torch
from typer.testing import CliRunner, Result

from deployments.cli import app
from gmic_model.networks.registry import build_network
from gmic_model.preprocess import PreparedView
from mammo_tests.training_store import with_baseline
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, PeerUnavailable, StoreBusy, StoreError
from schemas.exam import NOT_KNOWN
from schemas.reports.data import IngestReport
from schemas.reports.life.inferred import InferResult
from tasks.adapters.inbox.withdrawals.withdrawal import Withdrawal, add_to_log
from tasks.adapters.lifecycle.inference.out_folder import callers_own
from tasks.adapters.lifecycle.inference.warm_process import WarmProcess, asked
from tasks.adapters.lifecycle.prediction_log import PredictionLog
from tasks.adapters.lifecycle.watching.device_streams import MEASURES, MISSING_VIEWS, RECALLED, device_streams
from tasks.adapters.lifecycle.watching.watched_devices import look
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.workspace import Workspace
from tasks.predict import predict_exams


@dataclass(frozen=True)
class Site:
    """A workspace whose process stays, and a folder with one exam of four views."""

    config: RunConfig
    exam_dir: Path

    def mammo(self, source: Path, out: Path, *flags: str, **changes: Any) -> Result:
        """``mammo infer CONFIG IN OUT``."""
        path = out.with_name(f"{out.name}.yaml")
        path.write_text(self.config.model_copy(update=changes).model_dump_json())
        return CliRunner().invoke(app, ["infer", str(path), str(source), str(out), *flags])

    @property
    def workspace(self) -> Workspace:
        """Where key, weights and log are."""
        return Workspace(self.config.workspace_dir)

    def lines(self, run: str) -> list[dict[str, Any]]:
        """What the log has of an answer."""
        return [line for line in PredictionLog(self.workspace.prediction_log_dir).lines() if line["run"] == run]

    def weights(self, seed: int) -> None:
        """Puts others in the place of those that are there."""
        torch.manual_seed(seed)
        assert self.config.checkpoint is not None
        state = build_network(self.config.model).state_dict()
        save_checkpoint(self.config.checkpoint, weights=state, training={}, model=self.config.model, about={})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, cohort_dir: Path, make_config: Callable[..., RunConfig]) -> Iterator[Site]:
    """The process is a thread here; its questions come through the socket all the same."""
    root = tmp_path_factory.mktemp("orchestrated")
    exam = min(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    shutil.copytree(exam, root / "cohort" / "dicom" / exam.name)
    changes = {"ingest.labels_csv": None, "ingest.masks_dir": None, "checkpoint": root / "weights"}
    site = Site(config=with_baseline(make_config(root / "w", root / "cohort", **changes)), exam_dir=root / "cohort" / "dicom")
    site.weights(0)
    is_over = threading.Event()
    with WarmProcess(site.config) as process:

        def answer_all() -> None:
            while not is_over.is_set():
                process.answer_next()

        thread = threading.Thread(target=answer_all)
        thread.start()
        yield site
        is_over.set()
        asked(site.config.model_copy(update={"name": "other"}), root, root)
        thread.join()


def result_in(out: Path) -> InferResult:
    """What the caller reads."""
    return InferResult.model_validate_json((out / "result.json").read_bytes())


def test_an_exam_gets_the_bits_of_predict_and_its_folder_nothing_of_the_patient(
    site: Site, tmp_path: Path, ingest_here: Callable[[RunConfig], IngestReport]
) -> None:
    """Scores of images and breasts, pseudonyms, log; no name, no UID, no number of hers in OUT; no image stays in memory."""
    said = site.mammo(site.exam_dir, tmp_path / "out")
    assert said.exit_code == 0 and "1 exams, 4 images scored, 0 files not used" in said.output, said.output
    result = result_in(tmp_path / "out")
    (device,) = look(site.config, now=datetime.now(UTC)).devices  # watched, though there is no store at all
    assert device.name != NOT_KNOWN and device.exams == 1
    predicted = predict_exams.fn(site.config, ingest_here(site.config), site.config.checkpoint)
    assert {image.image_id: image.scores for image in result.images} == {
        image.image_id: image.scores for image in predicted.images
    }
    (exam,) = result.exams
    assert {f"{exam.exam_id} {side}": scores for side, scores in exam.breasts.items()} == predicted.breast_scores
    assert [line["kind"] for line in site.lines(result.run)] == ["image"] * 4 + ["exam"]
    assert [line["scores"] for line in site.lines(result.run)][-1] == exam.breasts
    watched = device_streams(PredictionLog(site.workspace.prediction_log_dir).lines(), pd.DataFrame({"exam_id": []}))
    (streamed,) = watched.devices[0].exams  # its device and its pictures are watched, though no store holds it
    assert streamed.exam_id == exam.exam_id and set(streamed.values) == {*MEASURES} - {RECALLED}
    assert streamed.values[MISSING_VIEWS] == 0.0
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert sorted(table["file"]) == [1, 2, 3, 4] and set(table["image_id"]) == {image.image_id for image in result.images}
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["result.json", "scores.csv"] and not any(
        path.stat().st_mode & 0o077 for path in files
    )
    left = "".join(path.read_text() for path in files) + said.output
    for path in site.exam_dir.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        hers = (header.PatientID, header.StudyInstanceUID, header.SOPInstanceUID, header.StudyDate, path.stem)
        assert not [value for value in ("CANARY", *map(str, hers)) if value in left]
    assert not [found for found in gc.get_objects() if type(found) is PreparedView]


def test_what_cannot_be_used_is_told_by_its_number(site: Site, tmp_path: Path) -> None:
    """A letter, half an image, a copy: the exam is scored, and each is named by its place among the paths."""
    source = tmp_path / "in"
    shutil.copytree(site.exam_dir, source)
    views = sorted(source.rglob("*.dcm"))
    shutil.copy(views[0], source / "zz-copy.dcm")
    (source / "00-letter.txt").write_text("Dear colleague, " * 500)
    (source / "01-cut.dcm").write_bytes(views[0].read_bytes()[:20_000])
    assert site.mammo(source, tmp_path / "out").exit_code == 0
    result = result_in(tmp_path / "out")
    assert [image.file for image in result.images] == [3, 4, 5, 6] and result.copies == 1
    assert [one.file for one in result.not_used] == [1, 2] and all(one.rules and one.why for one in result.not_used)
    shutil.rmtree(views[0].parent)
    (source / "zz-copy.dcm").unlink()
    nothing = site.mammo(source, tmp_path / "out")
    assert nothing.exit_code == 3 and "None of 2 files can be used" in nothing.output
    assert result_in(tmp_path / "out").exit_code == 3 and not (tmp_path / "out" / "scores.csv").exists()


def test_a_rule_between_files_says_what_a_caller_can_do(site: Site, tmp_path: Path) -> None:
    """Files that contradict each other are named by their numbers; nobody is sent to a quarantine that does not have them."""
    source = tmp_path / "in"
    shutil.copytree(site.exam_dir, source)
    view, other = sorted(source.rglob("*.dcm"))[:2]
    dataset = pydicom.dcmread(other)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.dcmread(view).SOPInstanceUID
    dataset.PatientID = "SOMEBODY"
    dataset.save_as(source / "zz-other.dcm")
    (source / "zz.zip").write_bytes(b"PK\x03\x04" + bytes(5000))
    assert site.mammo(source, tmp_path / "out").exit_code == 0
    said = {one.file: one.why for one in result_in(tmp_path / "out").not_used}
    assert set(said) == {1, 5, 6} and "file 5. None" in said[1] and "file 1. None" in said[5]
    assert "quarantine" not in said[1] and "leave the others out" in said[1]
    assert said[1].count("a patient") == 1 and "bare_patient_id" not in said[1]
    assert "under every profile" in said[6]  # another one would not let an archive in


def test_an_image_that_comes_under_two_names_is_told_by_its_number(site: Site, tmp_path: Path) -> None:
    """One of the two is scored: the other is the copy to remove, of a file that the caller knows, not of a pseudonym."""
    source = tmp_path / "in"
    shutil.copytree(site.exam_dir, source)
    dataset = pydicom.dcmread(min(source.rglob("*.dcm")))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID}.9"
    dataset.save_as(source / "zz-again.dcm")
    assert site.mammo(source, tmp_path / "out").exit_code == 0
    result = result_in(tmp_path / "out")
    (left_out,) = result.not_used
    assert left_out.rules == ("E03",) and [image.file for image in result.images] == [1, 2, 3, 4]
    assert "Left out: file 1 has the same pixels" in left_out.why and "remove the copy" in left_out.why, left_out.why


def test_a_view_alone_is_scored_and_what_is_missing_said(site: Site, tmp_path: Path) -> None:
    """One of four; with more refused than the config allows the code is 8, and the scores are there."""
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(min(site.exam_dir.rglob("*.dcm")), source)
    assert site.mammo(source, tmp_path / "out").exit_code == 0
    assert "has 1 of 4 standard views" in result_in(tmp_path / "out").missing[0]
    for name in ("a.dcm", "b.dcm"):
        (source / name).write_bytes(min(site.exam_dir.rglob("*.dcm")).read_bytes()[:20_000])
    assert site.mammo(source, tmp_path / "out").exit_code == 8
    assert len(result_in(tmp_path / "out").images) == 1


def test_no_score_is_given_out_that_cannot_be_logged(site: Site, tmp_path: Path) -> None:
    """The log cannot be written: code 5, and no number in OUT; when it can, the exam is scored."""
    log, aside = site.workspace.prediction_log_dir, tmp_path / "log"
    site.mammo(site.exam_dir, tmp_path / "out")
    log.rename(aside)
    log.write_text("in the way")  # root writes everywhere, so rights would not stop this test
    try:
        said = site.mammo(site.exam_dir, tmp_path / "out")
        assert said.exit_code == 5 and "no score is given out" in said.output
        result = result_in(tmp_path / "out")
        assert (result.exit_code, result.images, result.exams) == (5, (), ())
        assert not (tmp_path / "out" / "scores.csv").exists()
    finally:
        log.unlink()
        aside.rename(log)
    assert site.mammo(site.exam_dir, tmp_path / "out").exit_code == 0 and PredictionLog(log).check().fault == ""


def test_what_was_withdrawn_is_not_scored(site: Site, tmp_path: Path) -> None:
    """The exam was withdrawn from this workspace: code 3, each file says so, and the log has no line of it."""
    site.mammo(site.exam_dir, tmp_path / "out")
    exam = result_in(tmp_path / "out").exams[0].exam_id
    gone = Withdrawal(name=exam, names=(exam,), reason="consent", withdrawn_by="Ada", withdrawn_utc="2026-01-01")
    add_to_log(site.workspace.store, [gone])
    try:
        assert site.mammo(site.exam_dir, tmp_path / "out").exit_code == 3
    finally:
        site.workspace.store.withdrawn_path.unlink()
    result = result_in(tmp_path / "out")
    assert [one.file for one in result.not_used] == [1, 2, 3, 4] and "withdrawn" in result.not_used[0].why
    assert site.lines(result.run) == []


def test_other_weights_count_from_the_next_folder_on(site: Site, tmp_path: Path) -> None:
    """The process sees that others are in use by now, and that those were altered; then the first ones score as before."""
    site.mammo(site.exam_dir, tmp_path / "out")
    first = result_in(tmp_path / "out")
    site.weights(1)
    site.mammo(site.exam_dir, tmp_path / "out")
    second = result_in(tmp_path / "out")
    assert first.model != second.model and first.images[0].scores != second.images[0].scores
    assert site.config.checkpoint is not None
    weights = site.config.checkpoint / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert site.mammo(site.exam_dir, tmp_path / "out").exit_code == 6
    assert result_in(tmp_path / "out").images == ()
    site.weights(0)
    site.mammo(site.exam_dir, tmp_path / "out")
    assert result_in(tmp_path / "out").images == first.images


def test_a_config_of_another_digest_is_answered_here(site: Site, tmp_path: Path) -> None:
    """The process that stays knows other settings: this command scores by itself, to the same bits, and says its own errors."""
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(min(site.exam_dir.rglob("*.dcm")), source)
    site.mammo(source, tmp_path / "out")
    there = result_in(tmp_path / "out")
    assert site.mammo(source, tmp_path / "out", name="other").exit_code == 0
    assert result_in(tmp_path / "out").images == there.images and result_in(tmp_path / "out").run != there.run
    nowhere = site.mammo(source, tmp_path / "out", name="other", checkpoint=None)
    assert nowhere.exit_code == 2 and "predict needs a trained network" in result_in(tmp_path / "out").message


def test_folders_that_cannot_be_are_refused(site: Site, tmp_path: Path) -> None:
    """One inside the other, none at all, an empty one, and an OUT that is a file: each its error, and nothing is scored."""
    inside = site.mammo(site.exam_dir, site.exam_dir / "out", name="other")
    assert isinstance(inside.exception, ConfigError) and not (site.exam_dir / "out").exists()
    (site.exam_dir / "out.yaml").unlink()
    assert site.mammo(tmp_path / "none", tmp_path / "out").exit_code == 3
    assert "There is no input folder" in result_in(tmp_path / "out").message  # nobody takes a wrong path for an empty exam
    (tmp_path / "file").write_text("")
    refused = site.mammo(tmp_path / "none", tmp_path / "file", name="other")
    assert isinstance(refused.exception, StoreError)
    alone = CliRunner().invoke(app, ["infer", str(tmp_path / "out.yaml"), str(tmp_path)])
    assert isinstance(alone.exception, ConfigError)


def test_no_earlier_result_is_left_where_a_call_fails(site: Site, tmp_path: Path) -> None:
    """A config that is none, and a process that ends before it answers: no result.json of the exam before is in OUT then."""
    out, folder = tmp_path / "out", Workspace(tmp_path / "w").scoring_dir
    out.mkdir()
    folder.mkdir(parents=True)
    (tmp_path / "bad.yaml").write_text("name: [")
    (tmp_path / "c.yaml").write_text(site.config.model_copy(update={"workspace_dir": tmp_path / "w"}).model_dump_json())

    def ended(config: str) -> BaseException | None:
        for name in ("result.json", "scores.csv"):
            (out / name).write_text("of another exam")
        return CliRunner().invoke(app, ["infer", str(tmp_path / config), str(site.exam_dir), str(out)]).exception

    assert isinstance(ended("bad.yaml"), ConfigError) and not [*out.iterdir()]
    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(folder, os.O_PATH)
        listener.bind(f"/proc/self/fd/{descriptor}/socket")
        os.close(descriptor)
        listener.listen(1)
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        assert isinstance(ended("c.yaml"), PeerUnavailable) and not [*out.iterdir()]
        thread.join()


def test_of_two_calls_into_one_folder_the_second_is_refused(site: Site, tmp_path: Path) -> None:
    """While the first is at it, code 75 and nothing is taken away: scores of one call never lie beside a result of another."""
    (tmp_path / "out").mkdir()
    with callers_own(site.exam_dir, tmp_path / "out"):
        (tmp_path / "out" / "scores.csv").write_text("of the first")
        refused = site.mammo(site.exam_dir, tmp_path / "out").exception
        assert isinstance(refused, StoreBusy) and refused.exit_code == 75
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.csv"]


def test_a_process_that_was_killed_is_not_waited_for(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket lies there and nobody listens: the command scores by itself, and the next process takes the place."""
    config = site.config.model_copy(update={"workspace_dir": tmp_path / "w"})
    folder = Workspace(config.workspace_dir).scoring_dir
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)  # a socket's address is short
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("socket")
    assert asked(config, site.exam_dir, tmp_path / "out") is None
    with WarmProcess(config):
        assert (folder / "socket").stat().st_mode & 0o077 == 0
    assert not (folder / "socket").exists() and asked(config, site.exam_dir, tmp_path / "out") is None


def test_one_process_stays_in_a_workspace(site: Site) -> None:
    """A second one is told who holds it."""
    with pytest.raises(StoreError, match="is in use"), WarmProcess(site.config):
        pass
