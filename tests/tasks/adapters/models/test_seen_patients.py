"""Whom weights have seen: the list names nobody, knows persons, and speaks of patients under its own key alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from schemas.config.network import GMICConfig
from schemas.errors import CheckpointError
from schemas.reports.training import EnsembleMember, SeenPatients
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.models.model_files import PATIENTS
from tasks.adapters.models.seen_patients import SeenBy, joined, read_seen_patients, seen_patients

ONE_PERSON = {"P1": "X", "P2": "X"}


def _member(folder: Path, patients: SeenPatients | None) -> EnsembleMember:
    weights = {"weight": torch.zeros(1)}
    digest = save_checkpoint(folder, weights=weights, training={}, model=GMICConfig(), about={}, patients=patients)
    return EnsembleMember(path=folder, sha256=digest)


def test_the_list_names_nobody(tmp_path: Path) -> None:
    """No pseudonym stands in it, and under another key the same pseudonym has another digest."""
    member = _member(tmp_path / "weights", seen_patients("key", {}, trained=["P1", "P3"], tuned=["P2"]))
    text = (member.path / PATIENTS).read_text()
    assert not [patient for patient in ("P1", "P2", "P3") if patient in text]
    there = seen_patients("other", {}, trained=["P1", "P3"], tuned=["P2"])
    found = read_seen_patients(member.path)
    assert found is not None and not {*found.trained, *found.tuned} & {*there.trained, *there.tuned}


def test_patients_of_one_person_are_found_by_each_other_and_count_once(tmp_path: Path) -> None:
    """Trained on P1, judged by P2 of the same PatientID: whether that was known then or is known now."""
    known_then = _member(tmp_path / "then", seen_patients("key", {"P1": "P2"}, trained=["P1"], tuned=[]))
    known_now = _member(tmp_path / "now", seen_patients("key", {}, trained=["P1"], tuned=[]))
    assert SeenBy.of([known_then], "key", {}).in_training(["P2", "P3"]) == {"P2"}
    seen = SeenBy.of([known_now], "key", ONE_PERSON)
    assert seen.in_training(["P2", "P3"]) == {"P2"}
    renamed = SeenBy.of([known_now], "key", {}, {"S1": frozenset({"P9", "P1"})})  # by a subjects file, after the training
    assert renamed.in_training(["S1", "S2"]) == {"S1"}
    judged = seen.judged(frozenset({"P1", "P2", "P3"}), frozenset(), are_of_splits=False, leaves_out=True)
    assert judged.test_left_out == 1


def test_what_is_not_comparable_is_not_known(tmp_path: Path) -> None:
    """Another key, or no list: of several weights each must speak, and the others' patients are found all the same."""
    ours = _member(tmp_path / "ours", seen_patients("key", {}, trained=["P1"], tuned=[]))
    theirs = _member(tmp_path / "theirs", seen_patients("other", {}, trained=["P2"], tuned=[]))
    imported = _member(tmp_path / "imported", None)
    everybody = frozenset({"P1", "P2", "P3"})
    seen = SeenBy.of([ours, theirs, imported], "key", {})
    assert seen.at_all(everybody) == {"P1"}
    judged = seen.judged(everybody, frozenset(), are_of_splits=False, leaves_out=True)
    assert not judged.is_checked and "1 of 3" in judged.not_checked and "another key" in judged.not_checked
    assert SeenBy.of([ours], "key", {}).judged(frozenset({"P3"}), frozenset(), are_of_splits=False, leaves_out=False).is_checked
    assert joined(read_seen_patients(ours.path), read_seen_patients(imported.path)) is None


@pytest.mark.parametrize("content", [None, "{}"], ids=["gone", "altered"])
def test_a_list_that_is_gone_is_an_error(tmp_path: Path, content: str | None) -> None:
    """It is not taken for weights that never had one."""
    member = _member(tmp_path / "weights", seen_patients("key", {}, trained=["P1"], tuned=[]))
    (member.path / PATIENTS).unlink()
    if content is not None:
        (member.path / PATIENTS).write_text(content)
    with pytest.raises(CheckpointError, match="gone or damaged"):
        read_seen_patients(member.path)
