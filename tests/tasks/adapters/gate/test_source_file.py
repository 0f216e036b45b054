"""What an unfinished file is called: one set, for the gate, the scan and the watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from mammo_tests.mammograms import PSEUDONYMS, rejection, write
from tasks.adapters.gate.rules.table import RULES
from tasks.adapters.gate.source_file import is_unfinished
from tasks.adapters.inbox.source_folder import inbox_state, source_files

UNFINISHED = ("._a.dcm", ".a.dcm", "a.dcm.part", "a.partial", "a.filepart", "a.dcm.tmp", "a.crdownload")


@pytest.mark.parametrize("name", UNFINISHED)
def test_an_unfinished_name_is_one_everywhere(tmp_path: Path, name: str) -> None:
    """The watch does not count the file, the scan does not list it, the gate refuses it, and the rule's sentence names it."""
    path = write(tmp_path / "a.dcm").rename(tmp_path / name)
    assert is_unfinished(name)
    assert inbox_state(tmp_path).files == 0
    assert source_files(tmp_path, PSEUDONYMS).files == ()
    assert rejection(path).reason_codes == ("F07",)
    assert name.startswith(".") or path.suffix in RULES["F07"].demand


def test_other_names_are_finished() -> None:
    """Also such that hold the words elsewhere."""
    assert not any(map(is_unfinished, ("a.dcm", "a.part.dcm", "tmp", "part", "a.DCM", "1.2.3")))
