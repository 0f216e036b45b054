"""The ledger: what is settled stays settled, rows are given out once, and a killed process loses nothing committed.

In SQLite and in PostgreSQL alike.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mammo_tests.forking import Forking, forking
from mammo_tests.ledger_files import accepted_file
from mammo_tests.postgresql import named_schema
from schemas.errors import StoreError
from schemas.exam import DeferredFile, QuarantinedFile
from schemas.refusal import Refusal
from tasks.adapters.inbox.ledger import Ledger, ledger_database
from tasks.adapters.inbox.lines import AcceptedFile, LedgerLine, parsed_lines

REPOSITORY = Path(__file__).parents[4]
NOW = "2026-01-02T03:04:05+00:00"


def _file(name: str, *, image: str | None = None, exam: str = "E1", sha: str | None = None, at: str = "1-1") -> AcceptedFile:
    digest = f"sha-{image or name}" if sha is None else sha
    return accepted_file(f"F{name}", at=at, image_id=f"I{image or name}", exam_id=exam, source_sha256=digest)


def _refused(name: str) -> QuarantinedFile:
    return QuarantinedFile(file_id=f"F{name}", refusal=Refusal(rules=("F14", "P02"), what="cut off"))


def _write(ledger: Ledger, **lines: dict[str, object]) -> None:
    ledger.add_written(LedgerLine(file_id=file_id, stored=line) for file_id, line in lines.items())


def _lines(ledger: Ledger) -> list[dict[str, object]]:
    return [dict(line.stored) for line in ledger.manifest_lines()]


def _rows(ledger: Ledger) -> dict[str, int]:
    return {image_id: row for row, image_id in ledger.unwritten_rows().values()}


def _ask(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(ledger_database(path)) as database:
        return database.query(sql)


def _count_files(path: Path) -> int:
    return int(_ask(path, "SELECT count(*) FROM files")[0][0])


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def ledger_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the empty ledger is, or what names it."""
    if request.param == "SQLite":
        return tmp_path / "exam_store" / "ledger.sqlite"
    return named_schema(tmp_path / "exam_store", request.getfixturevalue("postgresql").address)


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger(ledger_path) as opened:
        yield opened


# -------------------------------------------------------------------------------------------------------------- resume


def test_a_file_is_settled_once_written_and_not_before(ledger: Ledger) -> None:
    """Accepted and planned is unfinished work; with its manifest line in the ledger it is never read again."""
    ledger.add_accepted([_file("a")])
    assert not ledger.is_known("Fa", "1-1")
    ledger.plan_rows(4, planned_utc=NOW)
    assert not ledger.is_known("Fa", "1-1")
    _write(ledger, Fa={"row": 0, "image_id": "Ia"})
    assert ledger.is_known("Fa", "1-1")
    assert ledger.unwritten_rows() == {}
    assert _lines(ledger) == [{"row": 0, "image_id": "Ia"}]


def test_a_changed_size_or_time_unsettles_a_file(ledger: Ledger) -> None:
    """Another fingerprint means: read it again."""
    ledger.add_accepted([_file("a")])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0})
    ledger.add_quarantined([(_refused("b"), "1-1")])
    assert not ledger.is_known("Fa", "1-2")
    assert not ledger.is_known("Fb", "1-2")
    assert not ledger.is_known("Fc", "1-1")


def test_a_touched_file_with_the_same_bytes_keeps_its_row(ledger: Ledger) -> None:
    """A copy with a new modification time is settled again without being stored again."""
    ledger.add_accepted([_file("a")])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0})
    ledger.add_accepted([_file("a", at="1-2")])
    assert ledger.is_known("Fa", "1-2")
    assert _lines(ledger) == [{"row": 0}]


def test_a_changed_file_is_stored_anew_in_another_row(ledger: Ledger) -> None:
    """The old pixels leave the manifest; their row stays unused, for the published manifest may still name it."""
    ledger.add_accepted([_file("a")])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0})
    ledger.add_accepted([_file("a", sha="other", at="2-2")])
    assert not ledger.is_known("Fa", "2-2")
    assert _lines(ledger) == []
    ledger.plan_rows(4, planned_utc=NOW)
    assert _rows(ledger) == {"Ia": 4}


def test_a_file_that_became_another_image_gives_up_the_first(ledger: Ledger) -> None:
    """One file holds one image: a path that now holds image b no longer vouches for a."""
    ledger.add_accepted([_file("x", image="a")])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fx={"row": 0})
    ledger.add_accepted([_file("x", image="b", at="2-2")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert _rows(ledger) == {"Ib": 4}
    assert _lines(ledger) == []


def test_everything_is_there_after_reopening(ledger_path: Path) -> None:
    """Files, rows, lines and refusals come back."""
    path = ledger_path
    with Ledger(path) as first:
        first.add_accepted([_file("a"), _file("b")])
        first.plan_rows(4, planned_utc=NOW)
        _write(first, Fa={"row": 0, "laterality": "L", "scale": 0.5, "exam_date": None})
        first.add_quarantined([(_refused("c"), "1-1")])
    with Ledger(path) as second:
        assert _lines(second) == [{"row": 0, "laterality": "L", "scale": 0.5, "exam_date": None}]
        assert second.unwritten_rows() == {"Fb": (1, "Ib")}
        assert second.quarantined() == [_refused("c")]
        assert (_count_files(path), second.row_count()) == (3, 2)


# ---------------------------------------------------------------------------------------- duplicates and contradictions


def test_the_same_image_with_the_same_bytes_is_stored_once(ledger: Ledger, ledger_path: Path) -> None:
    """A second copy is a settled duplicate and needs no row."""
    ledger.add_accepted([_file("a"), _file("copy", image="a")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert ledger.unwritten_rows() == {"Fa": (0, "Ia")}
    assert ledger.is_known("Fcopy", "1-1")
    assert _count_files(ledger_path) == 2


def test_the_same_image_with_other_bytes_is_a_second_claim(ledger: Ledger) -> None:
    """Two contents under one SOPInstanceUID: both are stored, so that their pixels can be compared; neither hides the other."""
    ledger.add_accepted([_file("a"), _file("b", image="a", sha="other")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert ledger.unwritten_rows() == {"Fa": (0, "Ia"), "Fb": (1, "Ia")}
    ledger.add_quarantined([(_refused("b"), "1-1")])
    assert ledger.is_known("Fb", "1-1")
    assert ledger.unwritten_rows() == {"Fa": (0, "Ia")}


def test_files_without_digests_are_told_apart_once_they_are_compared(ledger: Ledger) -> None:
    """Headers alone make each a claim; those that share an image are asked for their digests, and one copy remains."""
    files = [_file("a", sha=""), _file("copy", image="a", sha=""), _file("other", image="a", sha=""), _file("alone", sha="")]
    ledger.add_accepted(files)
    assert ledger.undigested_rivals() == {"Fa", "Fcopy", "Fother"}
    ledger.add_accepted([_file("a"), _file("copy", image="a"), _file("other", image="a", sha="of other pixels")])
    assert ledger.undigested_rivals() == frozenset()
    ledger.plan_rows(4, planned_utc=NOW)
    assert set(ledger.unwritten_rows()) == {"Fa", "Fother", "Falone"}
    assert ledger.is_known("Fcopy", "1-1")


def test_a_copy_that_was_planned_before_it_was_compared_loses_its_row(ledger: Ledger) -> None:
    """A killed run gave a row to a file whose twin came later: the comparison takes it back for good."""
    ledger.add_accepted([_file("copy", image="a", sha="")])
    ledger.plan_rows(4, planned_utc=NOW)
    ledger.add_accepted([_file("a", sha="")])
    ledger.add_accepted([_file("a"), _file("copy", image="a")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert ledger.unwritten_rows() == {"Fa": (4, "Ia")}


def test_a_written_image_has_a_digest_that_later_copies_are_known_by(ledger: Ledger) -> None:
    """The digest comes with the pixels; a copy under another path is compared with it, and so is the touched file."""
    ledger.add_accepted([_file("a", sha="")])
    assert not ledger.digested(["Fa"])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0, "source_sha256": "sha-a"})
    assert ledger.digested(["Fa", "Fother"]) == {"Fa"}
    ledger.add_accepted([_file("copy", image="a", sha="")])
    assert ledger.undigested_rivals() == {"Fcopy"}
    ledger.add_accepted([_file("copy", image="a"), _file("a", at="2-2")])
    assert ledger.is_known("Fcopy", "1-1") and ledger.is_known("Fa", "2-2")
    assert len(_lines(ledger)) == 1


def test_without_digests_a_row_stays_only_with_an_untouched_file(ledger: Ledger) -> None:
    """Read again by the run after a kill it keeps its row; touched before it was written it gets another."""
    ledger.add_accepted([_file("a", sha=""), _file("b", sha="")])
    ledger.plan_rows(4, planned_utc=NOW)
    ledger.add_accepted([_file("a", sha=""), _file("b", sha="", at="2-2")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert ledger.unwritten_rows() == {"Fa": (0, "Ia"), "Fb": (4, "Ib")}


def test_an_unfinished_file_that_became_another_image_gives_up_the_first(ledger: Ledger) -> None:
    """Also with the fingerprint it had: what its header says now is what counts."""
    ledger.add_accepted([_file("x", image="a", sha="")])
    ledger.add_accepted([_file("x", image="b", sha="")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert _rows(ledger) == {"Ib": 0}


def test_discarded_content_under_another_path_is_known_by_its_digest(ledger: Ledger) -> None:
    """Its header alone makes it a rival of what was discarded."""
    ledger.add_accepted([_file("wrong", image="a", sha="wrong")])
    ledger.discard([_refused("wrong")], reason="of the phantom", released_utc=NOW)
    ledger.add_accepted([_file("later", image="a", sha="")])
    assert ledger.undigested_rivals() == {"Flater"}
    ledger.add_accepted([_file("later", image="a", sha="wrong")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert ledger.is_known("Flater", "1-1") and ledger.unwritten_rows() == {}


def test_discarded_content_never_comes_back(ledger: Ledger) -> None:
    """Neither touched, nor under another path, nor by its earlier copies; other content of the same image is taken."""
    wrong = _file("wrong", image="a", sha="wrong")
    ledger.add_accepted([_file("a"), wrong, _file("copy", image="a", sha="wrong")])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0}, Fwrong={"row": 1})
    ledger.discard([_refused("wrong")], reason="of the phantom", released_utc=NOW)
    assert _lines(ledger) == [{"row": 0}]
    assert ledger.is_known("Fwrong", "1-1") and ledger.is_known("Fcopy", "1-1")
    ledger.add_accepted([_file("wrong", image="a", sha="wrong", at="2-2"), _file("later", image="a", sha="wrong")])
    assert ledger.is_known("Fwrong", "2-2") and ledger.is_known("Flater", "1-1")
    ledger.add_accepted([_file("right", image="a", sha="right")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert ledger.unwritten_rows() == {"Fright": (4, "Ia")}
    assert ledger.releases("Fwrong") == [("discarded F14 P02", "of the phantom", NOW)]


def test_a_deferral_changes_nothing_that_is_known(ledger: Ledger) -> None:
    """Claim, row and published line stay, a refusal stays settled; the next run forgets what kept the file from being read."""
    ledger.add_accepted([_file("a")])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0})
    ledger.add_quarantined([(_refused("b"), "1-1")])
    ledger.add_deferred([DeferredFile(file_id=file_id, reason="EIO") for file_id in ("Fa", "Fb", "Fnew")])
    assert [file.file_id for file in ledger.deferred()] == ["Fa", "Fb", "Fnew"]
    assert ledger.is_known("Fa", "1-1") and ledger.is_known("Fb", "1-1") and not ledger.is_known("Fnew", "1-1")
    assert _lines(ledger) == [{"row": 0}] and ledger.quarantined() == [_refused("b")]
    ledger.add_quarantined([(_refused("new"), "1-1")])
    assert [file.file_id for file in ledger.deferred()] == ["Fa", "Fb"]
    ledger.forget_deferrals()
    assert ledger.deferred() == []


def test_a_refusal_is_settled_under_what_it_depends_on(ledger: Ledger) -> None:
    """Another profile, limit or version of the rules reads the file again; so does what an older release settled."""
    ledger.add_quarantined([(_refused("a"), "1-1 strict 60s r1"), (_refused("old"), "1-1 strict")])
    files = [("Fa", "1-1"), ("Fold", "1-1")]
    assert ledger.settled(files, "strict 60s r1") == {"Fa"}
    assert ledger.settled(files, "strict 60s r2") == ledger.settled(files, "strict 90s r1") == set()


def test_what_is_written_anew_is_published_until_it_is(ledger: Ledger) -> None:
    """A claim whose mask changed keeps its line while its file cannot be read; damage, or another image, does not."""
    ledger.add_accepted([_file("a"), _file("b"), _file("c")])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0}, Fb={"row": 1}, Fc={"row": 2})
    ledger.renew(["Fa", "Fb", "Fc"])
    assert not ledger.is_known("Fa", "1-1") and len(ledger.unwritten_rows()) == 3
    assert _lines(ledger) == [{"row": 0}, {"row": 1}, {"row": 2}]
    ledger.renew(["Fa"])  # once more, before it was written
    _write(ledger, Fa={"row": 0, "scale": 2})
    ledger.rewrite(["Fb"])
    ledger.add_accepted([_file("c", image="other", at="2-2")])
    assert _lines(ledger) == [{"row": 0, "scale": 2}]


def test_attempts_are_counted_over_runs(ledger: Ledger, ledger_path: Path) -> None:
    """Refused, released, read, refused: three readings and what became of the last."""
    ledger.add_quarantined([(_refused("a"), "1-1")])
    ledger.add_accepted([_file("a", at="2-2")])
    ledger.add_quarantined([(_refused("a"), "2-2")])
    assert _ask(ledger_path, "SELECT file_id, state, attempts FROM files") == [("Fa", "quarantined", 3)]


def test_an_image_to_be_written_again_keeps_its_row(ledger: Ledger) -> None:
    """Its mask changed, or its stored bytes were damaged: the file is unsettled, the row is the same."""
    ledger.add_accepted([_file("a"), _file("b")])
    ledger.plan_rows(4, planned_utc=NOW)
    lines = [LedgerLine(file_id="Fa", stored={"row": 0}, mask_fingerprint="9-9"), LedgerLine(file_id="Fb", stored={"row": 1})]
    ledger.add_written(lines)
    assert ledger.mask_fingerprints() == {"Fa": ("Ia", "9-9"), "Fb": ("Ib", "")}
    ledger.rewrite(["Fa"])
    assert not ledger.is_known("Fa", "1-1") and _lines(ledger) == [{"row": 1}]
    ledger.add_accepted([_file("a")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert ledger.unwritten_rows() == {"Fa": (0, "Ia")}


def test_a_written_file_that_nobody_accepted_is_an_error(ledger: Ledger) -> None:
    """An update that meets no row would leave the image unwritten for ever and say nothing."""
    ledger.add_accepted([_file("a")])
    ledger.plan_rows(4, planned_utc=NOW)
    with pytest.raises(StoreError, match="1 of them"):
        _write(ledger, Fa={"row": 0}, Fz={"row": 1})
    assert _lines(ledger) == []


def test_each_plan_is_a_batch_with_its_day(ledger: Ledger) -> None:
    """Two images planned together, one on another day; planning nothing makes no batch."""
    ledger.add_accepted([_file("a"), _file("b")])
    ledger.plan_rows(4, planned_utc=NOW)
    ledger.plan_rows(4, planned_utc="2026-01-03T00:00:00+00:00")
    ledger.add_accepted([_file("c")])
    ledger.plan_rows(4, planned_utc="2026-01-04T00:00:00+00:00")
    _write(ledger, Fa={"row": 0}, Fb={"row": 1}, Fc={"row": 4})
    lines = ledger.manifest_lines()
    assert [(line.file_id, line.batch, line.batch_date) for line in lines] == [
        ("Fa", 1, "2026-01-02"), ("Fb", 1, "2026-01-02"), ("Fc", 2, "2026-01-04"),
    ]  # fmt: skip


def test_lines_that_are_read_are_equal_to_what_was_written_and_take_half_of_its_memory() -> None:
    """Values, their kinds and the names' order stay, of lines of two releases; names and repeated sizes are kept once."""
    written: list[dict[str, object]] = [
        {"row": row, "scale": 1.0, "pixel_min": 1, "is_flipped": True, "image_id": f"I{row:064x}"}
        | {f"size_{number}_px": 3000 + number for number in range(30)}
        | {"stored_rows_px": 2900, "mask_sha256": None}
        for row in range(1000)
    ]
    written[7] = {"row": 7, "pixel_min": 1.0}
    texts = [json.dumps(line) for line in written]
    tracemalloc.start()
    try:
        plain = [json.loads(text) for text in texts]
        of_plain, _ = tracemalloc.get_traced_memory()
        del plain
        before, _ = tracemalloc.get_traced_memory()
        read = parsed_lines([[(f"F{row}", 1, "2026-01-02", None, text) for row, text in enumerate(texts)]])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [repr(dict(line.stored)) for line in read] == [repr(line) for line in written]
    assert read[7].stored.get("scale") is None
    assert "scale" not in read[7].stored
    assert read[3].stored == written[3]
    assert after - before < 0.5 * of_plain, (after - before, of_plain)


def test_a_copy_takes_over_when_the_first_file_changes_or_is_refused(ledger: Ledger) -> None:
    """A duplicate was settled only because the first file held the image; once that is gone the copy is read again."""
    ledger.add_accepted([_file("a"), _file("copy", image="a")])
    ledger.add_quarantined([(_refused("a"), "2-2")])
    assert not ledger.is_known("Fcopy", "1-1")
    ledger.add_accepted([_file("copy", image="a")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert ledger.unwritten_rows() == {"Fcopy": (0, "Ia")}


def test_a_refused_image_leaves_manifest_and_plan(ledger: Ledger) -> None:
    """Refused at the pixels after its header was accepted: it has no row and is settled, with its reasons."""
    ledger.add_accepted([_file("a"), _file("b")])
    ledger.plan_rows(4, planned_utc=NOW)
    ledger.add_quarantined([(_refused("a"), "1-1")])
    assert ledger.unwritten_rows() == {"Fb": (1, "Ib")}
    assert ledger.is_known("Fa", "1-1")
    assert ledger.quarantined() == [_refused("a")]


def test_a_refused_file_that_is_accepted_later_leaves_the_quarantine(ledger: Ledger, ledger_path: Path) -> None:
    """The file was mended: its refusal is forgotten."""
    ledger.add_quarantined([(_refused("a"), "1-1")])
    ledger.add_accepted([_file("a", at="2-2")])
    assert ledger.quarantined() == []
    assert _count_files(ledger_path) == 1


def test_a_released_file_is_read_again_and_its_release_is_remembered(ledger: Ledger) -> None:
    """Only refused files can be released; the reason stays after the file is refused once more."""
    ledger.add_quarantined([(_refused("a"), "1-1")])
    ledger.add_accepted([_file("b")])
    assert ledger.release(["Fa", "Fb", "Fnone"], reason="looked at it", released_utc="2026-01-01T00:00:00") == [_refused("a")]
    assert not ledger.is_known("Fa", "1-1")
    assert ledger.quarantined() == []
    ledger.add_quarantined([(_refused("a"), "1-1")])
    assert ledger.releases("Fa") == [("F14 P02", "looked at it", "2026-01-01T00:00:00")]
    assert ledger.releases("Fb") == []


# ---------------------------------------------------------------------------------------------------------------- rows


def test_an_exam_lies_in_one_shard(ledger: Ledger) -> None:
    """Shards of 8, exams of 3, 4, 4 and 8 images: no exam crosses a border, and the holes are counted as rows."""
    sizes = {"E1": 3, "E2": 4, "E3": 4, "E4": 8}
    ledger.add_accepted(_file(f"{exam}-{i}", exam=exam) for exam, size in sizes.items() for i in range(size))
    ledger.plan_rows(8, planned_utc=NOW)
    rows = _rows(ledger)
    shards = {exam: {rows[f"I{exam}-{i}"] // 8 for i in range(size)} for exam, size in sizes.items()}
    assert shards == {"E1": {0}, "E2": {0}, "E3": {1}, "E4": {2}}
    assert len(set(rows.values())) == 19
    assert ledger.row_count() == 24


def test_an_exam_larger_than_a_shard_still_gets_rows(ledger: Ledger) -> None:
    """Nothing is lost when a rule cannot be kept: 5 images in shards of 4."""
    ledger.add_accepted(_file(f"{i}") for i in range(5))
    ledger.plan_rows(4, planned_utc=NOW)
    assert sorted(_rows(ledger).values()) == [0, 1, 2, 3, 4]


def test_later_images_start_in_a_new_shard(ledger: Ledger) -> None:
    """A written shard is not written again, not even for a late view of an exam it holds; planning twice changes nothing."""
    ledger.add_accepted([_file("a"), _file("b")])
    ledger.plan_rows(4, planned_utc=NOW)
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0}, Fb={"row": 1})
    ledger.add_accepted([_file("c"), _file("d", exam="E2")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert _rows(ledger) == {"Ic": 4, "Id": 5}
    assert ledger.row_count() == 6


def test_rows_of_refused_images_are_never_given_out_again(ledger: Ledger) -> None:
    """All images of shard 0 are gone; the next image goes to shard 1, because a published manifest may name shard 0."""
    ledger.add_accepted([_file("a")])
    ledger.plan_rows(4, planned_utc=NOW)
    _write(ledger, Fa={"row": 0})
    ledger.add_quarantined([(_refused("a"), "2-2")])
    ledger.add_accepted([_file("b")])
    ledger.plan_rows(4, planned_utc=NOW)
    assert _rows(ledger) == {"Ib": 4}


# --------------------------------------------------------------------------------------------------------------- faults

# A run's argument: the ledger's path.
_COMMITTER = """
sys.path[:0] = [sys.argv[1], f"{sys.argv[1]}/tests/support"]
from pathlib import Path
from mammo_tests.ledger_files import accepted_file
from mammo_tests.postgresql import named_schema
from tasks.adapters.inbox.ledger import Ledger
def images(batch):
    for i in range(50):
        yield accepted_file(f"F{batch}-{i}", at="1-1", image_id=f"I{batch}-{i}", exam_id="E", source_sha256="s")
        if i == 25:
            print(f"inside {batch}", flush=True)
def run(path):
    with Ledger(Path(path)) as ledger:
        for batch in range(1000):
            ledger.add_accepted(images(batch))
            print(f"committed {batch}", flush=True)
"""


@pytest.fixture(scope="module")
def committer() -> Iterator[Forking]:
    """Enters batch after batch."""
    with forking(_COMMITTER, str(REPOSITORY)) as process:
        yield process


@pytest.mark.parametrize("kill_at", ["inside 3", "committed 3", "inside 8"])
def test_kill_during_a_transaction_loses_nothing_committed(committer: Forking, ledger_path: Path, kill_at: str) -> None:
    """SIGKILL with a transaction half done: batches reported committed are whole, no batch is there in part."""
    path, committed = ledger_path, -1
    pid = committer.begin(path)
    for line in committer.lines():
        if line.startswith("committed"):
            committed = int(line.split()[1])
        if line == kill_at:
            os.kill(pid, signal.SIGKILL)
    assert committer.exit_code == -signal.SIGKILL
    with Ledger(path) as ledger:
        files = _count_files(path)
        assert files % 50 == 0
        assert files // 50 >= committed + 1
        ledger.plan_rows(16, planned_utc=NOW)
        assert len(ledger.unwritten_rows()) == files


def test_an_error_inside_a_transaction_takes_all_of_it_back(ledger: Ledger, ledger_path: Path) -> None:
    """The second image cannot be made: the first is not registered either, and the ledger can be used on."""

    def images() -> Iterator[AcceptedFile]:
        yield _file("a")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        ledger.add_accepted(images())
    assert _count_files(ledger_path) == 0
    ledger.add_accepted([_file("b")])
    assert _count_files(ledger_path) == 1


def test_a_file_that_is_no_ledger_is_a_store_error(tmp_path: Path) -> None:
    """SQLite's own errors do not pass the border; the message has a remedy."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(StoreError, match=r"cannot be read or written.*Remedy"):
        Ledger(path)


def test_a_place_where_no_ledger_can_be_is_a_store_error(tmp_path: Path) -> None:
    """What the system says of the file or its folder is said in a sentence too, as it is of another user's."""
    (tmp_path / "exam_store").touch()
    with pytest.raises(StoreError, match=r"ledger\.sqlite cannot be opened.*Remedy"):
        Ledger(tmp_path / "exam_store" / "ledger.sqlite")


def test_a_full_disk_is_a_store_error_and_keeps_what_was_committed(tmp_path: Path) -> None:
    """On 200 KiB the ledger fills up: the failed batch is gone as a whole, earlier ones are there."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        committed = 0
        with Ledger(folder / "ledger.sqlite") as ledger:
            with pytest.raises(StoreError, match="full"):
                for batch in range(1000):
                    ledger.add_accepted(_file(f"{batch}-{i}") for i in range(20))
                    committed += 20
            assert _count_files(folder / "ledger.sqlite") == committed > 0
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# -------------------------------------------------------------------------------------------------------------- privacy


def test_only_the_owner_can_read_it_and_its_companions(tmp_path: Path) -> None:
    """The database, its log and its index are 0600, in a folder of 0700."""
    with Ledger(tmp_path / "exam_store" / "ledger.sqlite") as ledger:
        ledger.add_accepted([_file("a")])
        files = sorted((tmp_path / "exam_store").iterdir())
        assert [path.name for path in files] == ["ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "exam_store").stat().st_mode) == 0o700


def test_it_has_no_column_for_an_identifier(ledger_path: Path) -> None:
    """The tables' columns are these: digests, pseudonyms, codes and the manifest line. A new one needs a look here."""
    with closing(ledger_database(ledger_path)) as database:
        columns = {table.name: list(table.columns) for table in database.tables()}
    assert columns == {
        "files": ["file_id", "fingerprint", "state", "image_id", "source_sha256", "attempts", "reason_codes", "message"],
        "images": ["file_id", "image_id", "exam_id", "row", "batch", "mask_fingerprint", "pixel_sha256", "manifest"],
        "given_out": ["batch", "rows", "planned_utc"],
        "deferred": ["file_id", "reason"],
        "superseded": ["file_id", "manifest"],
        "damaged": ["file_id", "manifest"],
        "releases": ["file_id", "reason_codes", "reason", "released_utc"],
    }
