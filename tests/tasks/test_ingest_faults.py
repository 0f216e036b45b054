"""Ingest under faults: killed, stopped, doubled, out of disk. After each, a rerun ends with the data of a calm run."""

from __future__ import annotations

import inspect
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.exam import Laterality
from schemas.reports.data import IngestReport
from tasks.adapters.cluster import run_all
from tasks.adapters.inbox.ledger import Ledger
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import published_rows, read_manifest
from tasks.adapters.store.verification import DigestJob, ExpectedImage, find_damage

IngestHere = Callable[[RunConfig], IngestReport]
MakeConfig = Callable[..., RunConfig]
REPOSITORY = Path(__file__).parents[2]

_ZYGOTE = """
import os, signal, sys, threading
sys.path[:0] = sys.argv[1:]
from tasks.adapters.interpreter import imported_at_once
if __name__ == "__main__":  # a Dask worker that is started here reads this file, and needs none of these
    with imported_at_once():
        import distributed
        from deployments.cli import end_like_ctrl_c
        from flows.ingest import ingest_steps
        from mammo_tests.plain_tasks import PlainSubmit
        from schemas.config.run import RunConfig
        from schemas.errors import MammoError
        from tasks.adapters.inbox import batches

def kill_after_progress(workspace, moment_s):
    before = settled(workspace)  # of this module's test
    for name in ("enter_headers", "enter_shard"):
        def entered(*given, enter=getattr(batches, name)):
            answer = enter(*given)
            if settled(workspace) == before:
                return answer
            if not moment_s:
                os.killpg(os.getpgid(0), signal.SIGKILL)
            threading.Timer(moment_s, os.killpg, (os.getpgid(0), signal.SIGKILL)).start()
            return answer
        setattr(batches, name, entered)

def main():
    for line in sys.stdin:
        verb, argument, *moment_s = line.split()
        if verb == "wait":
            print(os.waitpid(int(argument), 0)[1], flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, end_like_ctrl_c)
            code = 1
            try:
                with open(argument) as file:
                    config = RunConfig.model_validate_json(file.read())
                if moment_s:
                    kill_after_progress(config.workspace_dir, float(moment_s[0]))
                ingest_steps(config, submit=PlainSubmit())
                code = 0
            except MammoError as error:
                code = error.exit_code
            except SystemExit as ended:
                code = ended.code
            finally:
                os._exit(code)
        print(pid, flush=True)

if __name__ == "__main__":
    main()
"""


class Zygote:
    """A process that has imported everything and forks an ingest, in a process group of its own, when asked."""

    def __init__(self, folder: Path) -> None:
        script = folder / "zygote.py"
        script.write_text(f"import sqlite3\nfrom pathlib import Path\n{inspect.getsource(settled)}{_ZYGOTE}")
        command = [sys.executable, str(script), str(REPOSITORY), str(REPOSITORY / "tests" / "support")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, line: str) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, config_path: Path, *, killed_after_s: float | None = None) -> int:
        """Starts an ingest; its process id. It kills its process group so long after it first entered something new."""
        return self._ask(f"start {config_path}" + ("" if killed_after_s is None else f" {killed_after_s}"))

    def wait(self, pid: int) -> int:
        """Its exit code, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(self._ask(f"wait {pid}"))


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """One for all tests."""
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    assert made.process.wait(timeout=90) == 0


def settled(workspace: Path) -> tuple[int, int]:
    """Files and images that the ledger calls settled, as another process sees it."""
    ledger = workspace / "exam_store" / "ledger.sqlite"
    if not ledger.exists():
        return 0, 0
    try:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
            files = connection.execute("SELECT count(*) FROM files").fetchone()[0]
            images = connection.execute("SELECT count(*) FROM images WHERE manifest IS NOT NULL").fetchone()[0]
    except sqlite3.OperationalError:  # its tables are just being made
        return 0, 0
    return int(files), int(images)


def is_whole(report: IngestReport) -> bool:
    """Every stored image and mask is what its digests say."""
    store = open_store(report.store_dir)
    with Ledger(store.ledger_path) as ledger:
        lines = ledger.manifest_lines()
    images = [
        ExpectedImage(
            file_id=line.file_id,
            image_id=line.image_id,
            row=line.row,
            shape_px=line.stored_shape_px,
            written_sha256=line.written_sha256,
            mask_sha256=line.mask_sha256,
        )
        for line in lines
    ]
    return find_damage(DigestJob(store=store, images=tuple(images))) == ()


@pytest.fixture(scope="module")
def calm(
    tmp_path_factory: pytest.TempPathFactory, cohort_dir: Path, make_config: MakeConfig, ingest_here: IngestHere
) -> tuple[RunConfig, IngestReport]:
    """The undisturbed ingest of eight exams: its config and report."""
    config = make_config(tmp_path_factory.mktemp("calm"), cohort_dir)
    return config, ingest_here(config)


def disturbed(calm: tuple[RunConfig, IngestReport], workspace: Path, **changes: object) -> tuple[RunConfig, Path]:
    """The same ingest in another workspace, with the same pseudonyms: config and config file."""
    workspace.mkdir(parents=True, exist_ok=True)
    shutil.copy2(calm[0].workspace_dir / "pseudonym.key", workspace)
    ingest = calm[0].ingest.model_copy(update=changes)
    config = calm[0].model_copy(update={"workspace_dir": workspace, "ingest": ingest})
    path = workspace.parent / f"{workspace.name}.json"
    path.write_text(config.model_dump_json())
    return config, path


@pytest.mark.parametrize("kills", [5, pytest.param(12, marks=pytest.mark.long)])
def test_kills_lose_nothing(
    calm: tuple[RunConfig, IngestReport], zygote: Zygote, scheduler: str, tmp_path: Path, ingest_here: IngestHere, kills: int
) -> None:
    """SIGKILL to the whole process group, every third time its Dask workers with it (faults 1, 18): then one run ends it.

    Each kill comes at once or a random moment after new files were inspected or new images stored, so all phases are met. The
    process kills itself: one that watches it from outside is late on a busy machine, and nothing is left to kill.
    """
    moments = random.Random(3)  # noqa: S311  no secret
    workspace = tmp_path / "killed"
    seen, killed = [], 0
    for kill in range(kills):
        dask = {"kind": "local", "n_workers": 1} if kill % 3 == 0 else {"kind": "address", "address": scheduler}
        path = tmp_path / "killed.json"
        config, _ = disturbed(calm, workspace)
        content = config.model_dump(mode="json")
        content["ingest"]["dask"] = dask
        path.write_text(RunConfig.model_validate(content).model_dump_json())
        pid = zygote.start(path, killed_after_s=moments.uniform(0.0, 0.05) if kill % 2 else 0.0)
        killed += zygote.wait(pid) == -signal.SIGKILL
        seen.append(settled(workspace)[1])
        if (workspace / "exam_store" / "manifest.parquet").exists():
            assert is_whole(calm[1].model_copy(update={"store_dir": workspace / "exam_store"})), f"kill {kill}"
    assert killed >= kills // 2, "the kills came too late to prove anything"
    assert seen == sorted(seen), "an image that was stored is not any more"
    assert any(0 < images < 32 for images in seen), seen
    last = ingest_here(config)
    assert (last.images_published, last.files_quarantined) == (32, 2)
    assert last.data_version == calm[1].data_version and is_whole(last)
    assert not list(workspace.rglob("*.partial")) + list(workspace.rglob("*.part"))


def test_two_ingests_at_once_are_one(
    calm: tuple[RunConfig, IngestReport], zygote: Zygote, scheduler: str, tmp_path: Path, ingest_here: IngestHere
) -> None:
    """Started together on one workspace (faults 28, 29): one ends well, the other with code 75; the data are the calm run's."""
    config, path = disturbed(calm, tmp_path / "double")
    content = config.model_dump(mode="json")
    content["ingest"]["dask"] = {"kind": "address", "address": scheduler}
    path.write_text(RunConfig.model_validate(content).model_dump_json())
    pids = [zygote.start(path), zygote.start(path)]
    assert sorted(zygote.wait(pid) for pid in pids) == [0, 75]
    again = ingest_here(config)
    assert again.images_new == 0 and again.data_version == calm[1].data_version


def test_sigterm_ends_with_143_and_the_next_run_goes_on(
    calm: tuple[RunConfig, IngestReport], zygote: Zygote, tmp_path: Path, ingest_here: IngestHere
) -> None:
    """A polite stop in the middle (fault 34): its workers end with it, what was stored stays, the rest follows."""
    config, path = disturbed(calm, tmp_path / "stopped")
    content = config.model_dump(mode="json")
    content["ingest"]["dask"] = {"kind": "local", "n_workers": 1}
    path.write_text(RunConfig.model_validate(content).model_dump_json())
    pid = zygote.start(path)
    deadline = time.monotonic() + 60
    while settled(config.workspace_dir)[1] == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(pid, signal.SIGTERM)
    assert zygote.wait(pid) in (143, 0)
    assert 0 < settled(config.workspace_dir)[1] <= 32
    assert ingest_here(config).data_version == calm[1].data_version


def test_a_full_disk_stops_cleanly_and_goes_on_when_there_is_room(
    calm: tuple[RunConfig, IngestReport], tmp_path: Path, ingest_here: IngestHere
) -> None:
    """A file system of 1 MB (fault 2): a StoreError that says so, finished shards kept; enlarged, a rerun ends well."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        config, _ = disturbed(calm, disk / "workspace")
        with pytest.raises((StoreError, OSError), match=r"disk|space"):
            ingest_here(config)
        assert settled(config.workspace_dir)[1] < 32
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        report = ingest_here(config)
        assert report.data_version == calm[1].data_version and is_whole(report)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_late_view_joins_its_exam(two_exams: Path, tmp_path: Path, make_config: MakeConfig, ingest_here: IngestHere) -> None:
    """Left views first, right views later (fault 20): the exam is incomplete, then whole; nothing is stored twice."""
    late = tmp_path / "late"
    late.mkdir()
    for path in sorted((two_exams / "dicom").rglob("*.dcm")):
        if pydicom.dcmread(path, stop_before_pixels=True).ImageLaterality == Laterality.RIGHT:
            path.rename(late / f"{path.parent.name}-{path.name}")
    config = make_config(tmp_path / "workspace", two_exams)
    first = ingest_here(config)
    assert (first.images_published, first.exams, first.exams_incomplete) == (4, 2, 2)
    rows = published_rows(open_store(first.store_dir))
    for path in late.iterdir():
        shutil.copy(path, two_exams / "dicom" / path.name)
    second = ingest_here(config)
    assert (second.images_published, second.images_new, second.exams, second.exams_incomplete) == (8, 4, 2, 0)
    assert rows.items() <= published_rows(open_store(second.store_dir)).items()


def test_an_exam_of_two_patients_does_not_stop_the_run(
    two_exams: Path, tmp_path: Path, make_config: MakeConfig, ingest_here: IngestHere
) -> None:
    """One image of an exam names another patient: that exam is quarantined as a whole, the other one is published."""
    path = min((two_exams / "dicom").rglob("*.dcm"))
    dataset = pydicom.dcmread(path)
    dataset.PatientID = "SOMEBODY"
    dataset.save_as(path)
    report = ingest_here(make_config(tmp_path / "workspace", two_exams))
    assert (report.images_published, report.exams) == (4, 1) and report.quarantined_by_reason == {"E04": 4}


def test_same_pixels_under_new_uids_are_used_once_and_listed(
    two_exams: Path, tmp_path: Path, make_config: MakeConfig, ingest_here: IngestHere
) -> None:
    """A copy in the same exam (fault 11) is left out; as another patient's neither is used: they share nothing."""
    path = min((two_exams / "dicom").rglob("*.dcm"))
    dataset = pydicom.dcmread(path)
    dataset.PatientID, dataset.StudyInstanceUID, dataset.SOPInstanceUID = "SOMEBODY", "2.25.9", "2.25.99"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
    dataset.save_as(two_exams / "dicom" / "copy.dcm")
    report = ingest_here(make_config(tmp_path / "workspace", two_exams))
    assert report.images_published == 7 and report.quarantined_by_reason == {"E03": 2}
    leaks = (report.store_dir / "leakage.csv").read_text().splitlines()
    assert len(leaks) == 3 and all(leak.startswith("nothing,,") for leak in leaks[1:])
    dataset.PatientID, dataset.StudyInstanceUID = (
        pydicom.dcmread(path)[key].value for key in ("PatientID", "StudyInstanceUID")
    )
    dataset.save_as(two_exams / "dicom" / "copy.dcm")
    report = ingest_here(make_config(tmp_path / "workspace", two_exams))
    assert report.images_published == 8 and report.quarantined_by_reason == {"E03": 1}
    leaks = (report.store_dir / "leakage.csv").read_text().splitlines()
    assert len(leaks) == 2 and leaks[1].startswith("exam,")


def test_a_path_in_an_identifier_leads_nowhere(
    two_exams: Path, tmp_path: Path, make_config: MakeConfig, ingest_here: IngestHere
) -> None:
    """UIDs and PatientIDs with ../ are refused (fault 23); every name in the workspace is ours, no path leaves it."""
    paths = sorted((two_exams / "dicom").rglob("*.dcm"))
    for number, (path, keyword) in enumerate(zip(paths, ("PatientID", "StudyInstanceUID", "SOPInstanceUID"), strict=False)):
        dataset = pydicom.dcmread(path)
        element = dataset[keyword]
        dataset[keyword] = pydicom.DataElement(
            element.tag, element.VR, f"../../../{tmp_path}/escaped{number}", validation_mode=pydicom.config.IGNORE
        )
        dataset.save_as(path, enforce_file_format=False)
    before = {path for path in tmp_path.rglob("*") if "workspace" not in path.parts}
    report = ingest_here(make_config(tmp_path / "workspace", two_exams))
    assert report.images_published == 5 and set(report.quarantined_by_reason) == {"I01", "I04"}
    assert {path for path in tmp_path.rglob("*") if "workspace" not in path.parts} == before
    assert not list((tmp_path / "workspace").rglob("*escaped*"))
    assert len(read_manifest(open_store(report.store_dir))) == 5


def test_a_worker_that_a_file_kills_costs_that_file(scheduler: str) -> None:
    """The halves of a shard's job hold its images once each, down to one; a job of one cannot be divided (fault 32)."""
    from tasks.adapters.gate.gate_settings import GateSettings
    from tasks.adapters.gate.source_file import SourceFile
    from tasks.adapters.inbox.shard_writer import HeaderJob, halves_of_header_job

    files = tuple(SourceFile(file_id=f"F{number}", lies_at=Path(f"{number}"), fingerprint="1-1") for number in range(5))
    job = HeaderJob(files=files, gate=GateSettings(source_dir=Path(), profile="phantom", key_path=Path("k")))
    parts = halves_of_header_job(job)
    assert [len(part.files) for part in parts] == [2, 3] and parts[0].files + parts[1].files == files
    assert len(halves_of_header_job(parts[0])) == 2
    single = halves_of_header_job(parts[0])[0]
    assert len(halves_of_header_job(single)) == 1
    assert list(run_all(scheduler, len, [()], halves=lambda item: ())) == [0]
