"""What was never meant for us is named so, also where a rule on the file itself refused it before its header was read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mammo_tests.mammograms import write
from schemas.errors import GateRejection
from tasks.adapters.datasets.catalogue import PROFILES
from tasks.adapters.gate.other_kinds import named_by_its_class

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"


def ultrasound(path: Path) -> bytes:
    """A file whose meta information says that it is one."""
    return write(path, edit=lambda dataset: setattr(dataset.file_meta, "MediaStorageSOPClassUID", ULTRASOUND)).read_bytes()


def named(content: bytes, rule_id: str) -> tuple[str, ...]:
    """The rules of a refusal by ``rule_id``, after the file was asked for its class."""
    with (
        pytest.raises(GateRejection) as caught,
        named_by_its_class(io.BufferedReader(io.BytesIO(content)), PROFILES["clinical-strict"]),  # type: ignore[arg-type]
    ):
        raise GateRejection("refused", reason_codes=(rule_id,), expected="something")
    return caught.value.reason_codes


@pytest.mark.parametrize("rule_id", ["F03", "F04", "F13", "F14"])
def test_an_object_of_another_class_has_its_rule_beside(tmp_path: Path, rule_id: str) -> None:
    """An ultrasound that is too small, too large, compressed as a film or damaged is an ultrasound; a mammogram is lost."""
    other = ultrasound(tmp_path / "a.dcm")
    assert named(other, rule_id) == (rule_id, "K04")
    assert named(write(tmp_path / "b.dcm").read_bytes(), rule_id) == (rule_id,)
    assert named(b"no DICOM at all", rule_id) == (rule_id,)


def test_a_rule_that_says_enough_stays_alone(tmp_path: Path) -> None:
    """Whoever refuses by another rule has seen what it is about; what is let in passes."""
    other = ultrasound(tmp_path / "a.dcm")
    assert named(other, "F05") == ("F05",)
    with named_by_its_class(io.BufferedReader(io.BytesIO(other)), PROFILES["clinical-strict"]):  # type: ignore[arg-type]
        pass
