"""A conversion's folder is whole or as it was."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from schemas.errors import StoreBusy, StoreError
from tasks.adapters.datasets.conversion.output import whole_output
from tasks.adapters.datasets.published.reading import Breast, Image
from tasks.adapters.workspace import aside_of


def image(path: str = "a.dcm") -> Image:
    """Of one breast."""
    return Image(path=path, patient="1", exam="e", laterality="L", view="CC")


def test_nothing_is_there_until_all_is(tmp_path: Path) -> None:
    """An error on the way leaves no folder; the next run leaves all."""
    target = tmp_path / "below" / "out"
    with pytest.raises(RuntimeError), whole_output(target) as output:
        output.write_subjects([image()])
        raise RuntimeError
    assert [path.name for path in (tmp_path / "below").iterdir()] == []
    with whole_output(target) as output:
        output.write_subjects([image()])
    assert [path.name for path in target.iterdir()] == ["subjects.csv"]
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["out"]


def test_what_a_killed_conversion_left_is_gone_with_the_next(tmp_path: Path) -> None:
    """Gigabytes of copies may lie aside; nothing of them comes into the folder, and nothing stays beside it."""
    target, aside = tmp_path / "out", aside_of(tmp_path / "out")
    for begun in (False, True):
        (aside / "dicom").mkdir(parents=True)
        (aside / "dicom" / "a.dcm").touch()
        (aside / "split.csv").touch()
        with whole_output(target) as output:
            output.write_subjects([image()])
            (output.stage / "config.yaml").write_text(f"run: {begun}")
        assert sorted(path.name for path in target.iterdir()) == ["config.yaml", "subjects.csv"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "config.yaml").read_text() == "run: True"
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file in the way of it, and a disk that fills up while the copies are written: a sentence, and nothing is left."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreError, match=r"file/out cannot be written.*Got: (EEXIST|ENOTDIR)"),
        whole_output(tmp_path / "file" / "out"),
    ):
        pass
    with pytest.raises(StoreError, match=r"out cannot be written.*Got: ENOSPC.*another --out"), whole_output(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_do_not_convert_into_one_folder(tmp_path: Path) -> None:
    """The second says who is at it."""
    with whole_output(tmp_path / "out") as output:
        output.write_subjects([image()])
        with pytest.raises(StoreBusy, match="mammo dataset into out"), whole_output(tmp_path / "out"):
            pass
    assert (tmp_path / "out" / "subjects.csv").exists()


def test_a_folder_with_a_config_holds_all_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while tables take the places of earlier ones, it has no config: nobody runs on old labels of new subjects."""
    target = tmp_path / "out"
    for text in ("old", "new"):
        if text == "new":
            monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))  # at the folder of masks
        with suppress(KeyboardInterrupt), whole_output(target) as output:
            output.write_subjects([image(text)])
            (output.stage / "masks").mkdir()
            (output.stage / "masks" / "a.png").touch()
            (output.stage / "config.yaml").write_text(text)
    assert sorted(path.name for path in target.iterdir()) == ["masks", "subjects.csv"]


def test_what_is_written_no_more_goes(tmp_path: Path) -> None:
    """A second run without a split and without masks leaves none of the first's; a workspace stays."""
    target = tmp_path / "out"
    with whole_output(target) as output:
        output.write_subjects([image()])
        output.write_split({"1": "train"})
        (output.stage / "masks").mkdir()
        (output.stage / "masks" / "a.png").touch()
    (target / "workspace").mkdir()
    with whole_output(target) as output:
        output.write_subjects([image()])
    assert sorted(path.name for path in target.iterdir()) == ["subjects.csv", "workspace"]


def test_what_is_as_it_was_keeps_its_time(tmp_path: Path) -> None:
    """Ingest knows files by size and time: a second conversion has it read again what has changed, and nothing else."""
    target = tmp_path / "out"
    times = []
    for text in ("a", "b"):
        with whole_output(target) as output:
            output.write_subjects([image()])
            (output.stage / "dicom" / "below").mkdir(parents=True)
            for name, content in (("same.dcm", "pixels"), ("other.dcm", text)):
                (output.stage / "dicom" / "below" / name).write_text(content)
                os.utime(output.stage / "dicom" / "below" / name, (0, ord(text)))
        times.append({path.name: path.stat().st_mtime for path in (target / "dicom" / "below").iterdir()})
    assert times == [{"same.dcm": 97, "other.dcm": 97}, {"same.dcm": 97, "other.dcm": 98}]


def test_what_is_not_known_is_empty(tmp_path: Path) -> None:
    """Never a 0."""
    breast = Breast(patient="1", exam="e", laterality="L", benign=None, malignant=0, label_source="followup")
    with whole_output(tmp_path / "out") as output:
        output.write_subjects([image("a.jpg")])
        output.write_labels([breast])
        assert not output.has("masks") and output.has("labels.csv")
    lines = (tmp_path / "out" / "labels.csv").read_text().splitlines()
    assert lines[1] == "1,e,L,,0,followup,,,"
    assert (tmp_path / "out" / "subjects.csv").read_text().splitlines()[1] == "a.jpg,1,e,L,CC,ffdm,,a.jpg.dcm"
