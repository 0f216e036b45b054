"""What several rooms' tests share: one real Prefect server, started on first use, and a tiny cohort with a config for it."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydicom
import pytest
from hypothesis import HealthCheck, settings

from deployments.cli import main
from deployments.server.prefect_server import PREFECT_DEFAULTS
from schemas.config.ingest import PhantomConfig
from schemas.config.run import RunConfig
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.interpreter import SAFE_ENVIRONMENT, THREADS_SLEEP_SOON, imported_at_once

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from mammo_tests.postgresql import PostgresqlServer

# Prefect and torch read their environment when a test module first imports them: the same settings as under the command line.
# And one thread a process: several workers share the processors, and two threads of each would wait for one another.
# Each of Prefect's clients reads all authorities of the world, two a run and 20 ms each; our servers are asked by http.
_OF_TESTS = {"OMP_NUM_THREADS": "1", "PREFECT_API_SSL_CERT_FILE": str(Path(__file__).parent / "support/mammo_tests/nobody.pem")}
for _name, _value in (PREFECT_DEFAULTS | THREADS_SLEEP_SOON | _OF_TESTS).items():
    os.environ.setdefault(_name, _value)

# A busy machine draws examples slowly, and is no fault of a test's.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

MakeConfig = Callable[..., RunConfig]

TINY_PX = (384, 288)
FILES_OF_COHORT = 34
"""What ``make_config`` lets a run bring in by itself: Dask workers take seconds to start, and have tests of their own."""

LONGEST_FIRST = (
    "flows/test_pipeline.py",
    "tasks/test_return_results.py",
    "pacs/test_fetching.py",
    "server/test_workstation.py",
    "training/test_loop.py",
    "gate/test_child.py",
    "training/test_process.py",
    "server/test_prefect_server.py",
    "adapters/test_cluster.py",
    "inbox/test_shared_ledger.py",
    "tasks/test_fetch.py",
    "flows/test_real_input.py",
    "flows/test_bad_input.py",
    "tasks/test_ingest_faults.py",
    "gmic_model/test_model.py",
    "results/test_dimse_target.py",
    "seams/test_pages_that_add.py",
    "pages/test_report_page.py",
)
"""Modules of more than some twenty seconds. A module stays with one worker: a long one begun last leaves the others idle."""


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What collection imports and lists is there to stay: no garbage collector looks at it, neither now nor between the tests.

    Nor does it look at everything newer after each 700 objects: with ten thousand it takes half the time, a twenty-fifth of all
    that a test costs. Nor is freed memory given back and asked for again: another thirtieth. Each of several workers begins
    with another part of the files: what one has compiled, the others read.
    """
    gc.set_threshold(10_000)
    keep_freed_memory()
    worker = getattr(session.config, "workerinput", None)
    if worker is not None:
        left_out = session.config.getoption("ignore") or ()  # which pytest does not apply to a file that is named
        files = [file for argument in session.config.args for file in _test_files(argument, left_out)]
        first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        session.config.args[:] = files[first:] + files[:first]
    with imported_at_once():
        return (yield)


def pytest_unconfigure() -> None:
    """What is left ends with the process: no collector looks through it once more, which took each worker two seconds."""
    gc.freeze()


def _test_files(argument: str, left_out: Iterable[str]) -> list[str]:
    """The files in a folder, less those that are left out; what is no folder stays as it is."""
    folder = Path(argument)
    if not folder.is_dir():
        return [argument]
    others = [Path(one).resolve() for one in left_out]
    return [
        str(path)
        for path in sorted(folder.rglob("test_*.py"))
        if not any(path.resolve().is_relative_to(other) for other in others)
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules begin first, with ``--no-loadscope-reorder``; the order within a module stays, and workers agree on all."""

    def place(item: pytest.Item) -> tuple[int, str]:
        path = item.path.as_posix()
        return next((place for place, end in enumerate(LONGEST_FIRST) if path.endswith(end)), len(LONGEST_FIRST)), path

    items.sort(key=place)


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a real server; this process's flows go to it.

    Workers share one, as commands of one workspace do: the first to ask starts it, and ends it after the last of them. What a
    test asks it for, it asks by the identity of its own runs.
    """
    from mammo_tests.served_api import served_api

    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "server"
    with served_api(home, tmp_path_factory.mktemp("own")) as api:
        yield api


@pytest.fixture(scope="session")
def cohort_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients, one exam each, 384 x 288 pixels: DICOM files, labels, masks; a text file and a cut file among them.

    ``CANARY`` stands in every header field and file name that could identify somebody, and must come out nowhere.
    """
    from tasks.adapters.datasets.phantom_cohort import write_cohort

    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(
        PhantomConfig(
            output_dir=folder,
            patients=8,
            exams_per_patient=(1, 1),
            image_size_px=TINY_PX,
            malignant_fraction=0.5,
            benign_fraction=0.5,
            difficulty=0.2,
        )
    )
    for path in sorted((folder / "dicom").rglob("*.dcm")):
        plant_canaries(path)
        path.rename(path.with_name(f"CANARY^{path.name}"))
    whole = next((folder / "dicom").rglob("*.dcm")).read_bytes()
    (folder / "dicom" / "CANARY-cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "dicom" / "CANARY-letter.txt").write_text("Dear CANARY, " * 500)
    return folder


def plant_canaries(path: Path) -> None:
    """Puts a name into every identifying field of a DICOM file."""
    dataset = pydicom.dcmread(path)
    dataset.PatientName = "CANARY^JANE"
    dataset.PatientBirthDate = "19410203"
    for keyword in ("AccessionNumber", "StudyID", "InstitutionName", "StationName", "OperatorsName", "ReferringPhysicianName"):
        setattr(dataset, keyword, "CANARY")
    for keyword in ("StudyDescription", "SeriesDescription", "PatientComments", "ImageComments", "ProtocolName"):
        setattr(dataset, keyword, "CANARY of the left breast")
    dataset.save_as(path)


@pytest.fixture
def two_exams(tmp_path: Path, cohort_dir: Path) -> Path:
    """A cohort folder with the first two exams, their labels and masks; file names still spell names."""
    folder = tmp_path / "cohort"
    exams = sorted(path for path in (cohort_dir / "dicom").iterdir() if path.is_dir())
    shutil.copytree(cohort_dir, folder, ignore=shutil.ignore_patterns(*(exam.name for exam in exams[2:]), "CANARY-*"))
    return folder


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """``make_config(workspace, cohort, **{"train.epochs": 3})``: the smallest run that does every stage's real work."""

    def make(workspace: Path, cohort: Path, **changes: Any) -> RunConfig:
        content: dict[str, Any] = {
            "name": "tiny",
            "workspace_dir": workspace,
            "ingest": {
                "source_dir": cohort / "dicom",
                "labels_csv": cohort / "labels.csv",
                "masks_dir": cohort / "masks",
                "profile": "phantom",
                "settle_s": 0,
                "exams_per_shard": 1,
                "dask": {"kind": "local", "n_workers": 1, "files_without_workers": FILES_OF_COHORT},
            },
            "preprocess": {
                "window_px": (384, 256),
                "erosion_iterations": 10,
                "crop_buffer_px": 10,
                "jitter_shift_px": 8,
                "jitter_size_px": 0,
            },
            "model": {"image_size": (384, 256), "patch_size": (48, 48), "K": 2, "top_t": 0.1, "local_dim": 16},
            "split": {"tuning_fraction": 0.25, "test_fraction": 0.25},
            # A workspace's key is random, and so is its split: of four training exams any number may be without a finding.
            "train": {"epochs": 2, "batch_exams": 2, "learning_rate": 1e-3, "num_threads": 1, "negatives_shortfall": 1.0},
            "evaluate": {"bootstrap_resamples": 50},
            "explain": {"exams": 1},
            "report": {"pdf": False},
        }
        for dotted, value in changes.items():
            section = content
            *parents, last = dotted.split(".")
            for key in parents:
                section = section.setdefault(key, {})
            section[last] = value
        return RunConfig.model_validate(content)

    return make


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running S3 server with a bucket (``mammo_tests.object_store``), started on first use; workers share one.

    Each test has a prefix of its own in the bucket.
    """
    from mammo_tests.object_store import s3_server  # late: what it imports, most tests never need

    base = tmp_path_factory.getbasetemp()
    with s3_server(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A running PostgreSQL server, started on first use; each test has a schema of its own in it."""
    from mammo_tests.postgresql import postgresql_server  # late: as above

    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    with postgresql_server() as server:
        yield server


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The same, and this process's environment says where it is and who we are."""
    from mammo_tests.object_store import ENVIRONMENT

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    settings = ENVIRONMENT | {"AWS_ENDPOINT_URL": s3_endpoint, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return s3_endpoint


# ------------------------------------------------------------------------------------------------------------- pages

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = Path(__file__).parents[1] / "build" / "node_modules" / "axe-core" / "axe.min.js"
"""Installed by .ci/run; its licence (MPL-2.0) and size keep it out of the repository."""
WIDTHS_PX = ((1280, 800), (1920, 1080))
_CONTRAST = "color-contrast"
LOOKS: tuple[tuple[tuple[Literal["light", "dark"], dict[str, Any]], ...], ...] = (
    (("light", {}),),
    (("light", {"rules": {_CONTRAST: {"enabled": False}}}), ("dark", {"runOnly": [_CONTRAST]})),
)
"""What axe-core looks at for each width. The schemes differ in colours alone, and no width of a screen changes a colour: each
scheme's colours are looked at once, which takes as long as all other rules together."""
TELEPHONE_PX = (360, 800)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Not for the whole session: while it runs, its thread has an event loop that flows trip over."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian package chromium)")
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium refuses to be root otherwise
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*sandbox, "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``open_page(path)``: the file as a person opens it, by file:// and with its policy in force; it must log no error."""
    contexts, faults = [], []

    def open_it(path: Path, **context: Any) -> Page:
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | context)))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path.resolve().as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def accessibility_faults(open_page: Callable[..., Page]) -> Callable[[Path], list[str]]:
    """``accessibility_faults(path)``: what axe-core calls serious or critical (``LOOKS``), and pages too wide.

    A page is also opened as wide as a telephone, with all that it keeps folded, where tables may be pushed aside; on a screen
    each shows its last column at once.
    """
    if not AXE.exists():
        pytest.skip("axe-core is not installed (.ci/run does: npm install --prefix build axe-core)")

    def faults(path: Path) -> list[str]:
        page = open_page(path, reduced_motion="reduce", bypass_csp=True)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = []

        def look_at(width: int, height: int) -> None:
            page.set_viewport_size({"width": width, "height": height})
            too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            found.extend([f"{width}: {too_wide} px too wide"] * (too_wide > 0))

        for (width, height), looks in zip(WIDTHS_PX, LOOKS, strict=True):
            look_at(width, height)
            for scheme, rules in looks:
                page.emulate_media(color_scheme=scheme)
                result = page.evaluate("options => axe.run(options)", {"resultTypes": ["violations"], **rules})
                found += [
                    f"{width} {scheme} {fault['id']}: {fault['nodes'][0]['html'][:120]}"
                    for fault in result["violations"]
                    if fault["impact"] in {"serious", "critical"}
                ]
        page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
        for width, height in WIDTHS_PX:
            look_at(width, height)
            beyond = page.locator(".scroll").evaluate_all("all => all.map(e => [e.ariaLabel, e.scrollWidth - e.clientWidth])")
            found += [f"{width}: {name} is cut by {px} px" for name, px in beyond if px > 0]
        look_at(*TELEPHONE_PX)
        return found

    return faults


# ---------------------------------------------------------------------------------------------------- the command line


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    stdout: str
    stderr: str

    @property
    def message(self) -> str:
        """The error message, checked to be one line with nothing technical around it."""
        assert "Traceback" not in self.stderr + self.stdout and "site-packages" not in self.stderr
        lines = [line for line in self.stderr.splitlines() if line.startswith("mammo: ")]
        assert len(lines) == 1, self.stderr
        return lines[0]


Mammo = Callable[..., Answer]


@pytest.fixture
def mammo(prefect_api: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mammo:
    """``mammo("ingest", config)``: the command line in this process, on the session's server."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["mammo", *map(str, arguments)])
        for name, value in (THREADS_SLEEP_SOON | SAFE_ENVIRONMENT).items():
            monkeypatch.setenv(name, value)  # as the command sets it; undone when the test is over
        capfd.readouterr()
        umask = os.umask(0)  # as a shell's may be: the command sets its own
        try:
            main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            os.umask(umask)
        said = capfd.readouterr()
        return Answer(int(str(code)), said.out, said.err)

    return run


@pytest.fixture
def mammo_process() -> Mammo:
    """``mammo_process("ingest", config)``: the command line as a process of its own."""

    def run(*arguments: object) -> Answer:
        command = [sys.executable, "-m", "deployments.cli", *map(str, arguments)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return Answer(ended.returncode, ended.stdout, ended.stderr)

    return run
