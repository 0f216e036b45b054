"""Bad input through the real command: one clear sentence, the documented exit code, no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import RunConfig
from tasks.adapters.lock import held_lock
from tasks.adapters.workspace import Workspace

pytestmark = pytest.mark.e2e

MakeConfig = Callable[..., RunConfig]
Mammo = Callable[..., Any]


@pytest.fixture(scope="module")
def one_exam(tmp_path_factory: pytest.TempPathFactory, cohort_dir: Path) -> Path:
    """A cohort folder with the first exam only; the labels are for all eight."""
    folder = tmp_path_factory.mktemp("one") / "cohort"
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    shutil.copytree(cohort_dir, folder, ignore=shutil.ignore_patterns("CANARY-*", *(exam.name for exam in exams[1:])))
    return folder


@pytest.fixture
def write_config(tmp_path: Path, make_config: MakeConfig) -> Callable[..., Path]:
    """``write_config(cohort, **changes)``: a config file for the test's own workspace."""

    def write(cohort: Path, **changes: object) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(make_config(tmp_path / "workspace", cohort, **changes).model_dump_json())
        return path

    return write


WriteConfig = Callable[..., Path]


# ---------------------------------------------------------------------------------------------------- config, usage


def test_unknown_key_is_named_with_the_nearest_right_one(
    tmp_path: Path, write_config: WriteConfig, cohort_dir: Path, mammo_process: Mammo
) -> None:
    """``learning_rat`` under ``train``: exit 2, both names, and no workspace is made."""
    path = write_config(cohort_dir)
    content = json.loads(path.read_text())
    content["train"]["learning_rat"] = 0.1
    path.write_text(json.dumps(content))
    answer = mammo_process("ingest", path)
    assert answer.code == 2
    assert "unknown key 'train.learning_rat', did you mean 'learning_rate'?" in answer.message
    assert not (tmp_path / "workspace").exists()


def test_a_folder_without_exams_ends_with_code_3_and_a_sentence(
    tmp_path: Path, write_config: WriteConfig, mammo_process: Mammo, prefect_api: str
) -> None:
    """No such folder, as a process of its own: what, expected, got, remedy; no store is made by the mistake."""
    answer = mammo_process("ingest", write_config(tmp_path / "nowhere"))
    assert answer.code == 3
    assert answer.message == (
        f"mammo: No exams found in {tmp_path}/nowhere/dicom. Expected: DICOM files, subfolders included. Got: no such folder. "
        "Remedy: set ingest.source_dir to the folder, or ingest.source to the bucket, that holds the exams."
    )
    assert not (tmp_path / "workspace" / "exam_store" / "store.json").exists()


def test_an_empty_folder_is_told_from_a_missing_one(tmp_path: Path, write_config: WriteConfig, mammo: Mammo) -> None:
    """An empty folder: exit 3, got no file."""
    (tmp_path / "cohort" / "dicom").mkdir(parents=True)
    answer = mammo("ingest", write_config(tmp_path / "cohort"))
    assert answer.code == 3 and "Got: no file." in answer.message


def test_unknown_profile_is_named_with_the_nearest(one_exam: Path, write_config: WriteConfig, mammo: Mammo) -> None:
    """``cbis-dsm``: exit 2 before anything is read."""
    answer = mammo("ingest", write_config(one_exam, **{"ingest.profile": "cbis-dsm"}))
    assert answer.code == 2 and "no gate profile 'cbis-dsm'" in answer.message and "did you mean cbis-ddsm?" in answer.message


def test_a_stage_before_its_time_says_which_command_comes_first(
    one_exam: Path, write_config: WriteConfig, mammo: Mammo
) -> None:
    """``mammo train`` in an empty workspace: exit 5, run ingest first; predict without weights: exit 2, nothing is ingested."""
    path = write_config(one_exam)
    answer = mammo("train", path)
    assert answer.code == 5 and "run `mammo ingest CONFIG.yaml` first" in answer.message
    answer = mammo("predict", path)
    assert answer.code == 2 and "predict needs a trained network" in answer.message
    assert not (path.parent / "workspace" / "exam_store").exists()


# ------------------------------------------------------------------------------------------------------------- exams


def test_labels_of_another_data_set_are_refused(
    tmp_path: Path, one_exam: Path, write_config: WriteConfig, mammo: Mammo
) -> None:
    """No label joins: exit 3 and what to check. With the right file the same command goes on, without reading files again."""
    labels = (one_exam / "labels.csv").read_text().splitlines()
    strangers = tmp_path / "strangers.csv"
    strangers.write_text("\n".join([labels[0], *(line.replace(",2.25.", ",2.25.9") for line in labels[1:])]))
    answer = mammo("ingest", write_config(one_exam, **{"ingest.labels_csv": strangers}))
    assert answer.code == 3 and "Labels join to no exam" in answer.message and "study_instance_uid" in answer.message
    answer = mammo("ingest", write_config(one_exam), "--json")
    assert answer.code == 0
    assert "0 of them new or changed" in answer.stderr
    assert json.loads(answer.stdout)["labelled_breasts"] == 2


def test_files_of_an_unfit_profile_bring_advice_that_works(one_exam: Path, write_config: WriteConfig, mammo: Mammo) -> None:
    """Small images under clinical-strict: exit 3, the fitting profile is named. Followed, the advice publishes all 4."""
    answer = mammo("ingest", write_config(one_exam, **{"ingest.profile": "clinical-strict"}))
    assert answer.code == 3
    assert "all 4 files were refused" in answer.message and "set `profile: phantom` under `ingest:`" in answer.message
    answer = mammo("ingest", write_config(one_exam, **{"ingest.profile": "phantom"}), "--json")
    assert answer.code == 0
    report = json.loads(answer.stdout)
    assert (report["images_published"], report["quarantined_by_reason"]) == (4, {})


def test_too_many_bad_files_end_the_run_until_they_are_removed(
    tmp_path: Path, one_exam: Path, write_config: WriteConfig, mammo: Mammo
) -> None:
    """5 of 9 files are no DICOM: exit 8 with counts by reason and the list's place; without them the same command ends well."""
    cohort = tmp_path / "cohort"
    shutil.copytree(one_exam, cohort)
    letters = [cohort / "dicom" / f"letter-{number}.dcm" for number in range(5)]
    for letter in letters:
        letter.write_text("Dear colleague, " * 200)
    answer = mammo("ingest", write_config(cohort))
    assert answer.code == 8
    assert "5 of 9 files were refused" in answer.message and "F05: 5" in answer.message and "quarantine.csv" in answer.message
    for letter in letters:
        letter.unlink()
    answer = mammo("ingest", write_config(cohort), "--json")
    assert answer.code == 0 and json.loads(answer.stdout)["quarantined_by_reason"] == {}


def test_a_store_in_use_is_refused_naming_its_holder(one_exam: Path, write_config: WriteConfig, mammo: Mammo) -> None:
    """While a run holds the store, a second one ends with code 75 and the holder's purpose, pid and start."""
    path = write_config(one_exam)
    with held_lock(Workspace(path.parent / "workspace").store_dir, purpose="ingest"):
        answer = mammo("pipeline", path)
    assert answer.code == 75
    assert f"ingest by pid {os.getpid()} on " in answer.message and "wait for that run to end, or stop it" in answer.message


def test_a_workspace_of_other_settings_is_refused(one_exam: Path, write_config: WriteConfig, mammo: Mammo) -> None:
    """Other preprocessing in the same workspace would mix rows: exit 5, the setting is named."""
    assert mammo("ingest", write_config(one_exam)).code == 0
    answer = mammo("ingest", write_config(one_exam, **{"preprocess.crop_buffer_px": 11}))
    assert answer.code == 5 and "made with other settings: preprocess" in answer.message
