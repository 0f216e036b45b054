"""What a coverage-guided fuzzer found (``benchmarks/operations/fuzz_gate.py``): its faults, and many ways to end."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from mammo_tests import fuzzing
from schemas.config.ingest import GateLimits, PreprocessConfig
from schemas.errors import GateRejection
from tasks.adapters.datasets.catalogue import profile_named
from tasks.adapters.dicom.dicom_file import read_image_from
from tasks.adapters.gate.admission import accept_image
from tasks.adapters.gate.child import GateChild
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.messages import DrawThumbnail, PrepareImage
from tasks.adapters.gate.source_file import file_fingerprint
from tasks.adapters.pseudonyms import open_key

FOUND = Path(__file__).parents[3] / "golden" / "fuzzed.tar.xz"
SETTINGS = PreprocessConfig(window_px=(320, 288), erosion_iterations=10, jitter_shift_px=0, jitter_size_px=0)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files, as the gate gets them, by what they are about."""
    sound = fuzzing.small_mammogram(tmp_path_factory.mktemp("sound"))
    with tarfile.open(FOUND) as archive:
        found = {member.name: file.read() for member in archive if (file := archive.extractfile(member)) is not None}
    return {
        name: content if name.startswith("header") else fuzzing.wrapped(content, sound)
        for name, content in {**found, "header-sound": sound}.items()
    }


def test_what_was_found_costs_its_file_and_nothing_else(tmp_path: Path, inputs: dict[str, bytes]) -> None:
    """Behind its walls the child says of each what is said without them, at once; over a crash alone it is replaced.

    That the outcomes are the same shows that nothing was to be imported, nor opened, when a file asked for it.
    """
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.dcm"
    crashes, pids = [], set()
    with GateChild(GateLimits(timeout_s=30)) as child:
        for name, content in sorted(inputs.items(), key=lambda entry: entry[0].startswith("crash")):
            path.write_bytes(content)
            outcome = behind_walls(child, path, is_whole=name.startswith("header"))
            if name.startswith("crash"):
                crashes.append(outcome)
            else:
                assert outcome == in_this_process(path, is_whole=name.startswith("header")), name
                pids.add(child.pid)
        path.write_bytes(inputs["header-sound"])
        assert behind_walls(child, path, is_whole=True) == ("accepted",)
    assert set(crashes) <= {("F11",), ("X22",)}, "a stream of 220 bytes ends OpenJPH's process; a release may mend it"
    assert len(pids) == 1, "a length beyond the end of its file takes no memory, and costs no child"


def behind_walls(child: GateChild, path: Path, *, is_whole: bool) -> tuple[str, ...]:
    """Why the child refuses a file; streams are decoded without asking what their header says."""
    try:
        if is_whole:
            gate = gate_of(path)
            child.prepare(
                PrepareImage(
                    path=path, gate=gate, fingerprint=file_fingerprint(path.stat()), preprocess=SETTINGS,
                    canvas_px=SETTINGS.canvas_px, mask_path=None,
                )
            )  # fmt: skip
        else:
            child.thumbnail(DrawThumbnail(path=path, source_dir=path.parent, side_px=64))
    except GateRejection as refused:
        return refused.reason_codes
    return ("accepted",)


def in_this_process(path: Path, *, is_whole: bool) -> tuple[str, ...]:
    """The same without a child."""
    try:
        if is_whole:
            key = open_key(gate_of(path).key_path)
            accept_image(path, source_dir=path.parent, profile=profile_named("phantom"), pseudonyms=key)
        else:
            read_image_from(io.BytesIO(path.read_bytes()))
    except GateRejection as refused:
        return refused.reason_codes
    return ("accepted",)


def gate_of(path: Path) -> GateSettings:
    """The key lies one folder above the file's."""
    key_path = path.parent.parent / "key"
    open_key(key_path, creates=True)
    return GateSettings(source_dir=path.parent, profile="phantom", key_path=key_path)
