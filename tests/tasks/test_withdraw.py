"""What is withdrawn goes from the store, byte by byte, and does not come back, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pydicom
import pytest
import typer
from pydicom.uid import generate_uid
from typer.testing import CliRunner, Result

from deployments.commands.backup import backup, restore
from deployments.commands.withdraw import withdraw
from schemas.config.network import TableRow
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, DicomError, StoreBusy, StoreError
from schemas.reports.data import IngestReport
from schemas.reports.pages import ImageScore, PredictReport
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.inbox.withdrawals import removal
from tasks.adapters.inbox.withdrawals.withdrawal import Withdrawal, add_to_log, read_log
from tasks.adapters.lock import held_lock, reading, without_readers
from tasks.adapters.pages import withdrawn as pages
from tasks.adapters.pages.withdrawn import finish_withdrawals, forget_pages
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.store import erasure
from tasks.adapters.store.exam_store import open_store, read_row, shard_path
from tasks.adapters.store.manifest import lines_of, published_rows, read_manifest
from tasks.adapters.workspace import Workspace
from tasks.crossvalidate import fold_runs
from tasks.predict import predict_exams
from tasks.scrub import read_everything
from tasks.table1 import training_run

IngestHere = Callable[[RunConfig], IngestReport]
MakeConfig = Callable[..., RunConfig]

_APP = typer.Typer()
_APP.command()(withdraw)


def _config(folder: Path, make_config: MakeConfig) -> RunConfig:
    return make_config(folder / "workspace", folder / "cohort", **{"ingest.exams_per_shard": 2})


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, cohort_dir: Path, make_config: MakeConfig, ingest_here: IngestHere
) -> Path:
    """A folder with two exams of two patients, their masks and labels, and the workspace in which they are published."""
    folder = tmp_path_factory.mktemp("finished")
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    shutil.copytree(
        cohort_dir, folder / "cohort", ignore=shutil.ignore_patterns(*(exam.name for exam in exams[2:]), "CANARY-*")
    )
    assert ingest_here(_config(folder, make_config)).images_published == 8
    return folder


@pytest.fixture
def two_exams(tmp_path: Path, finished: Path) -> Path:
    """The exams, for a test of its own."""
    return shutil.copytree(finished / "cohort", tmp_path / "cohort")


@pytest.fixture
def config(tmp_path: Path, two_exams: Path, finished: Path, make_config: MakeConfig) -> RunConfig:
    """The eight published images of those exams, in a workspace of the test's own."""
    shutil.copytree(finished / "workspace", tmp_path / "workspace")
    return _config(tmp_path, make_config)


def said(
    config: RunConfig, *arguments: object, stdin: str | bytes = "", reason: str = "filed under the wrong patient"
) -> Result:
    """``mammo withdraw CONFIG ...``; what it raises is raised here."""
    path = config.workspace_dir.parent / "config.yaml"
    path.write_text(config.model_dump_json())
    given = [str(path), *map(str, arguments), *(["--reason", reason] if reason else [])]
    return CliRunner().invoke(_APP, given, input=stdin, catch_exceptions=False)


def published(config: RunConfig) -> set[str]:
    """The images of the manifest in force."""
    return set(published_rows(open_store(Workspace(config.workspace_dir).store_dir)))


def is_sound(config: RunConfig, scheduler: str) -> bool:
    """What ``mammo scrub`` says."""
    report = read_everything.fn(config, scheduler)
    return report.is_manifest_sound and report.is_ledger_sound and not report.damaged_image_ids


def test_an_image_goes_byte_by_byte_and_does_not_come_back(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere, scheduler: str
) -> None:
    """Its crop and mask are overwritten where they lay; copies of it, renamed or corrected, are never published again."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    line = next(line for line in lines_of(read_manifest(store)) if line["has_lesion_mask"])
    others = {image: read_row(store, row).copy() for image, row in published_rows(store).items() if image != line["image_id"]}
    path = shard_path(store, "pixels", line["row"] // store.rows_per_shard)
    before = path.read_bytes()
    with path.open("rb") as as_it_lay:
        done = said(config, line["image_id"])
        overwritten = as_it_lay.read()
    assert f"{line['image_id']}: withdrawn, 1 images of 1 exams" in done.stdout
    changed = [index for index, (old, new) in enumerate(zip(before, overwritten, strict=True)) if old != new]
    assert changed and not any(overwritten[changed[0] : changed[-1] + 1])
    crop = before[changed[0] : changed[-1] + 1]
    assert all(crop not in file.read_bytes() for file in config.workspace_dir.rglob("*") if file.is_file())

    def stays_gone() -> None:
        assert published(config) == set(others)
        rows = published_rows(store)
        assert all((read_row(store, rows[image]) == pixels_HW).all() for image, pixels_HW in others.items())
        assert is_sound(config, scheduler)

    stays_gone()
    report = ingest_here(config)
    assert (report.images_published, report.images_withdrawn, report.files_withdrawn) == (7, 0, 1)
    stays_gone()
    file = _file_of(config, line["image_id"])
    shutil.copy(file, two_exams / "dicom" / "a-copy.dcm")
    dataset = pydicom.dcmread(file)
    dataset.PatientAge = "061Y"
    dataset.save_as(two_exams / "dicom" / "corrected.dcm")
    os.utime(file)
    assert ingest_here(config).files_withdrawn == 3
    stays_gone()
    with pytest.raises(StoreError, match="cannot be read"):
        read_row(store, line["row"])


@pytest.mark.parametrize("whole", ["exam", "patient"])
def test_an_exam_or_a_patient_goes_with_all_that_comes_later(
    whole: str, config: RunConfig, two_exams: Path, ingest_here: IngestHere
) -> None:
    """A new image of it, also where a file lacks the issuer of her PatientID, is not published; another patient's is.

    Labels that were all of it are orphans, and no sign of a labels file that belongs elsewhere.
    """
    manifest = read_manifest(open_store(Workspace(config.workspace_dir).store_dir))
    image_id = manifest["image_id"].iloc[0]
    exam_id, patient_id = manifest.loc[0, ["exam_id", "patient_id"]]
    assert said(config, image_id, "--whole", whole).exit_code == 0
    left = set(manifest.loc[manifest["patient_id"] != patient_id, "image_id"])
    assert published(config) == left and len(left) == 4
    (entry,) = read_log(Workspace(config.workspace_dir).store)
    assert entry.name == (exam_id if whole == "exam" else patient_id)
    for folder in sorted(path for path in (two_exams / "dicom").iterdir() if path.is_dir()):
        dataset = pydicom.dcmread(next(folder.glob("*.dcm")))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        pixels_HW = dataset.pixel_array.copy()
        pixels_HW[pixels_HW == pixels_HW.max()] -= 1
        dataset.PixelData = pixels_HW.tobytes()
        if whole == "patient":
            dataset.StudyInstanceUID = generate_uid()
            dataset.IssuerOfPatientID = "ELSEWHERE"
        dataset.save_as(folder / "later.dcm")
    report = ingest_here(config)
    assert published(config) > left and len(published(config)) == 5
    assert report.files_withdrawn == 5
    study = pydicom.dcmread(_file_of(config, image_id)).StudyInstanceUID
    heading, *lines = (two_exams / "labels.csv").read_text().splitlines(keepends=True)
    (two_exams / "labels.csv").write_text("".join([heading, *(line for line in lines if study in line)]))
    report = ingest_here(config)
    assert (report.images_published, report.labelled_breasts, report.orphan_labels) == (5, 0, 2)


def test_a_picture_is_known_under_another_uid_of_the_same_patient_only(
    config: RunConfig, two_exams: Path, ingest_here: IngestHere, scheduler: str
) -> None:
    """What was filed under the wrong patient may come under the right one; under its own it stays withdrawn."""
    folder = next(path for path in sorted((two_exams / "dicom").iterdir()) if path.is_dir())
    original = sorted(folder.glob("*.dcm"))[0]
    assert said(config, original).exit_code == 0 and len(published(config)) == 7
    for name, patient in (("same", ""), ("right", "RIGHTPATIENT")):
        dataset = pydicom.dcmread(original)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID = generate_uid()
        dataset.PatientID = patient or dataset.PatientID
        dataset.save_as(folder / f"{name}.dcm")
    assert ingest_here(config).files_withdrawn == 2
    assert len(published(config)) == 8 and is_sound(config, scheduler)


_STEPS = (
    (removal, "unpublish"), (removal, "erase_unowned"), (erasure, "overwrite_rows"), (erasure, "shard_file"),
    (StoreLedger, "withdraw"), (pages, "forget_pages"), (StoreLedger, "enter_withdrawals"),
)  # fmt: skip


class _Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_whenever_it_is_stopped_the_next_run_finishes_it(
    is_done: bool, config: RunConfig, tmp_path: Path, ingest_here: IngestHere, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the line in the log on it is in force: no reader sees the image, and withdraw, ingest or scrub overwrites it."""
    for number, (home, name) in enumerate(_STEPS):
        here = config.model_copy(update={"workspace_dir": tmp_path / f"copy-{number}"})
        shutil.copytree(config.workspace_dir, here.workspace_dir)
        files = Workspace(here.workspace_dir)
        line = lines_of(read_manifest(open_store(files.store_dir)))[number % 8]
        step = getattr(home, name)

        def killed(*arguments: object, step: Callable[..., object] = step) -> object:
            if is_done:
                step(*arguments)
            raise _Killed

        with monkeypatch.context() as patched:
            patched.setattr(home, name, killed)
            add_to_log(files.store, [_withdrawal(line["image_id"])])
            with pytest.raises(_Killed):
                finish_withdrawals(files)
        assert len(published(here)) == (8 if (name, is_done) == ("unpublish", False) else 7)
        if number == 0:
            ingest_here(here)
        else:
            finish_withdrawals(files)
        assert line["image_id"] not in published(here)
        with pytest.raises(StoreError, match="nothing: its shard is missing"):
            read_row(open_store(files.store_dir), line["row"])
        assert is_sound(here, scheduler), name


def test_nothing_is_withdrawn_from_under_a_run_that_would_write_it_down_again(
    config: RunConfig, ingest_here: IngestHere
) -> None:
    """While a stage reads, withdrawing is refused before it is logged, and one that was begun is left to the next run.

    And a prediction does not begin while something is taken out.
    """
    gone, log = sorted(published(config))[0], Workspace(config.workspace_dir).store.withdrawn_path
    with reading([config.workspace_dir]):
        with pytest.raises(StoreBusy, match="is being read"):
            said(config, gone)
        assert not log.exists() and gone in published(config)
        add_to_log(Workspace(config.workspace_dir).store, [_withdrawal(gone)])
        with pytest.raises(StoreBusy, match="is being read"):
            ingest_here(config)
        assert gone in published(config)
    ingested = ingest_here(config)
    assert gone not in published(config)
    with without_readers(config.workspace_dir, purpose="withdraw"), pytest.raises(StoreBusy, match="is being taken away"):
        predict_exams.fn(config, ingested, log)


def test_no_backup_and_no_lost_file_brings_it_back(
    config: RunConfig, tmp_path: Path, ingest_here: IngestHere, scheduler: str
) -> None:
    """Restored from before the withdrawal, with or without the log, it is taken out again; the log comes back if it is lost."""
    files = Workspace(config.workspace_dir)
    backup(config.workspace_dir, tmp_path / "before.tar")
    gone, kept = sorted(published(config))[0], sorted(published(config))[1:]
    said(config, gone)
    log = files.store.withdrawn_path.read_bytes()
    backup(config.workspace_dir, tmp_path / "after.tar")
    for archive, is_lost in (("before.tar", False), ("before.tar", True), ("after.tar", True)):
        if is_lost:
            files.store.withdrawn_path.unlink()
        restore(tmp_path / archive, config.workspace_dir)
        assert files.store.withdrawn_path.read_bytes() == log
        ingest_here(config)
        assert sorted(published(config)) == kept and is_sound(config, scheduler)
    files.store.withdrawn_path.unlink()
    ingest_here(config)
    assert files.store.withdrawn_path.read_bytes() == log
    files.store.withdrawn_path.write_text("{}")
    with pytest.raises(StoreError, match="log of withdrawals"):
        ingest_here(config)


def test_a_shard_that_cannot_be_read_is_overwritten_whole(config: RunConfig, ingest_here: IngestHere, scheduler: str) -> None:
    """Nothing of its other images could be read either; they are damaged, and read again from their files."""
    store = open_store(Workspace(config.workspace_dir).store_dir)
    line = lines_of(read_manifest(store))[0]
    path = shard_path(store, "pixels", 0)
    path.write_bytes(path.read_bytes()[:-3])
    leftover = path.with_name("0.0123.partial")
    leftover.write_bytes(b"crops of a killed writer")
    said(config, line["image_id"])
    assert not path.exists() and not leftover.exists()
    assert len(read_everything.fn(config, scheduler).damaged_image_ids) == 7


def test_what_the_command_says_and_asks(config: RunConfig, two_exams: Path, tmp_path: Path) -> None:
    """Dry run, names from standard input, files by their paths, the log; nothing that could be a name is repeated or kept."""
    files, images = Workspace(config.workspace_dir), sorted(published(config))
    path = sorted((two_exams / "dicom").rglob("*.dcm"))[0]
    for_show = said(config, path, images[0], "--whole", "exam", "--dry-run", reason="")
    assert "would go, 4 images of 1 exams of 1 patients, 4 of them published" in for_show.stdout
    assert published(config) == set(images) and not files.store.withdrawn_path.exists()
    with pytest.raises(ConfigError, match="needs a reason"):
        said(config, images[0], reason="")
    for wrong in ("CANARY^JANE", "P" + 24 * "0", tmp_path / "CANARY.dcm", "F" + 24 * "0"):
        with pytest.raises(ConfigError, match="nothing was withdrawn") as refused:
            said(config, images[0], wrong)
        assert "CANARY" not in str(refused.value)
    no_image = next(iter(sorted((two_exams / "dicom").glob("*.txt"))), two_exams / "labels.csv")
    with pytest.raises(DicomError):
        said(config, no_image)
    with pytest.raises(ConfigError, match="Nothing is named"):
        said(config)
    with pytest.raises(ConfigError, match="Standard input is no text"):
        said(config, "-", stdin=b"M\xfcller\n")
    with held_lock(files.store_dir, purpose="ingest"), pytest.raises(StoreBusy, match="ingest by pid"):
        said(config, images[0])
    with held_lock(files.stage_dir("train") / "abc", purpose="train"), pytest.raises(StoreBusy, match="no training"):
        said(config, images[0])
    assert published(config) == set(images)

    done = said(config, "-", "--by", "Dr. Weiß\n", stdin=f"{images[0]}\n\n{images[1]}\n{images[0]}\n", reason="consent\x1b")
    assert done.stdout.count(": withdrawn, 1 images") == 2 and published(config) == set(images[2:])
    assert "is withdrawn already" in said(config, images[0]).stdout
    log = said(config, "--log", reason="").stdout
    assert log.count("by Dr. Weiß: consent\n") == 2 and images[1] in log
    assert "CANARY" not in files.store.withdrawn_path.read_text()
    entry = json.loads(files.store.withdrawn_path.read_text().splitlines()[0])
    assert set(entry) == {"name", "names", "reason", "withdrawn_by", "withdrawn_utc"}
    assert files.store.withdrawn_path.stat().st_mode & 0o777 == 0o600


def test_pictures_scores_and_pages_of_it_go(config: RunConfig) -> None:
    """What was drawn or scored of it is deleted; scores and panels of other images stay, and no stage counts as finished."""
    files, manifest = Workspace(config.workspace_dir), read_manifest(open_store(Workspace(config.workspace_dir).store_dir))
    gone, other = manifest.iloc[0], manifest[manifest["exam_id"] != manifest.loc[0, "exam_id"]].iloc[0]
    predict = files.stage_dir("predict")
    panels = [predict / f"{line['image_id']}-R-CC.png" for line in (gone, other)]
    for path in (*panels, panels[0].with_suffix(".npz"), files.contact_sheet_path, predict / "report.html"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"a picture")
    for name in ("explain", "evaluate", "report", "scrub"):
        files.stage_dir(name).mkdir(exist_ok=True)
        (files.stage_dir(name) / "done").write_text("key run")
        (files.stage_dir(name) / "report.json").write_text(gone["image_id"])
    (files.stage_dir("explain") / f"{gone['image_id']}-R-CC.png").touch()
    table, kept = manifest[["image_id", "exam_id", "row"]], {*manifest["image_id"]} - {gone["image_id"]}
    for folder in ("predict", "evaluate"):
        table.to_parquet(files.stage_dir(folder) / "scores.parquet")
        (files.stage_dir(folder) / "scores.csv").touch()
    table[["exam_id"]].to_parquet(files.stage_dir("evaluate") / "breast_scores.parquet")
    (files.stage_dir("evaluate") / "damaged.parquet").write_bytes(b"no table")
    view = {"laterality": "R", "view_position": "CC", "scores": {"benign": 0.5}}
    scores = [
        ImageScore(image_id=line["image_id"], exam_id=line["exam_id"], gate_warnings="", **view) for line in (gone, other)
    ]
    files.write_report(
        "predict",
        PredictReport(
            images=tuple(scores), breast_scores={f"{line['exam_id']} R": {"benign": 0.5} for line in (gone, other)}, missing=(),
            quarantined_by_reason={}, advice=None, panels=tuple(panels), scores_path=predict / "scores.csv",
        ),
    )  # fmt: skip
    forget_pages(files, {gone["image_id"]})
    report = files.read_report("predict", PredictReport)
    assert report.panels == (panels[1],) and panels[1].exists()
    assert list(report.breast_scores) == [f"{other['exam_id']} R"] and report.images == (scores[1],)
    assert sorted(path.name for path in predict.iterdir()) == sorted(
        [panels[1].name, "report.json", "scores.csv", "scores.parquet"]
    )
    left = [path.relative_to(files.root).as_posix() for path in files.root.rglob("*") if path.is_file()]
    assert sorted(name for name in left if name.startswith(("explain", "report", "scrub", "quarantine", "evaluate"))) == [
        f"evaluate/{name}"
        for name in ("breast_scores.csv", "breast_scores.parquet", "report.json", "scores.csv", "scores.parquet")
    ]
    assert set(pd.read_parquet(files.stage_dir("evaluate") / "scores.parquet")["image_id"]) == kept
    assert set(pd.read_parquet(files.stage_dir("evaluate") / "breast_scores.parquet")["exam_id"]) == {other["exam_id"]}
    assert set(pd.read_csv(files.stage_dir("evaluate") / "breast_scores.csv")["exam_id"]) == {other["exam_id"]}


@pytest.mark.parametrize("lost", ["report.json", "scores.parquet"])
def test_a_prediction_that_was_broken_off_keeps_no_score_of_it(config: RunConfig, lost: str) -> None:
    """Before its report was written; or after it had taken away what other weights had scored, whose pages were still there."""
    files, manifest = Workspace(config.workspace_dir), read_manifest(open_store(Workspace(config.workspace_dir).store_dir))
    gone, folder = manifest["image_id"].iloc[0], files.stage_dir("predict")
    table = manifest[["image_id", "exam_id", "row"]]
    folder.mkdir()
    table.to_parquet(folder / "scores.parquet")
    table.to_csv(folder / "scores.csv", index=False)
    for name in ("report.json", "report.html"):
        (folder / name).write_text(f"of {gone}")
    (folder / lost).unlink()
    forget_pages(files, {gone})
    assert not any(gone.encode() in path.read_bytes() for path in folder.iterdir())
    if lost == "report.json":
        assert set(pd.read_parquet(folder / "scores.parquet")["image_id"]) == {*manifest["image_id"]} - {gone}


def test_a_table_that_is_damaged_stops_no_withdrawal(config: RunConfig) -> None:
    """Nobody can say of whom it is, so it goes: the next acceptance makes it again."""
    files, (gone, *_) = Workspace(config.workspace_dir), sorted(published(config))
    files.stage_dir("accept").mkdir()
    (files.stage_dir("accept") / "scores.csv").write_bytes(b"image_id\n\xff\xfe")
    said(config, gone)
    assert gone not in published(config) and not files.stage_dir("accept").exists()


def test_folds_and_rows_of_table_1_keep_no_score_of_it_and_no_training_beside_it(config: RunConfig) -> None:
    """They have workspaces of their own below this one, over the same store."""
    manifest = read_manifest(open_store(Workspace(config.workspace_dir).store_dir))
    in_folds = config.model_copy(update={"split": config.split.model_copy(update={"folds": 2})})
    below = [Workspace(one.workspace_dir) for one in (*fold_runs(in_folds), training_run(config, TableRow.GMIC, 0))]
    gone = manifest["image_id"].iloc[0]
    for files in below:
        files.stage_dir("evaluate").mkdir(parents=True)
        manifest[["image_id", "exam_id"]].to_parquet(files.stage_dir("evaluate") / "scores.parquet")
    for files in below:
        with held_lock(files.stage_dir("train") / "abc", purpose="train"), pytest.raises(StoreBusy, match="no training"):
            said(config, gone)
    said(config, gone)
    for files in below:
        left = pd.read_parquet(files.stage_dir("evaluate") / "scores.parquet")["image_id"]
        assert set(left) == published(config) and len(left) == 7


def _file_of(config: RunConfig, image_id: str) -> Path:
    pseudonyms = open_key(Workspace(config.workspace_dir).key_path)
    files = sorted(config.ingest.source_dir.rglob("*.dcm"))
    return next(file for file in files if pseudonyms.image_id(pydicom.dcmread(file).SOPInstanceUID) == image_id)


def _withdrawal(image_id: str) -> Withdrawal:
    return Withdrawal(name=image_id, names=(image_id,), reason="a test", withdrawn_by="somebody", withdrawn_utc="2026-01-01")
