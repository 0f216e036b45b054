"""Coverage-guided fuzzing of what reads foreign bytes: whole files by the gate, and code streams under a mammography class.

    pip install atheris
    PYTHONPATH=tests/support python benchmarks/operations/fuzz_gate.py header CORPUS_DIR --minutes 30
    PYTHONPATH=tests/support python benchmarks/operations/fuzz_gate.py codec  CORPUS_DIR --minutes 30
    PYTHONPATH=tests/support python benchmarks/operations/fuzz_gate.py replay CORPUS_DIR

``header`` and ``codec`` run in this process, guided by the coverage of pydicom, of our modules that read files, and of nothing
native: a decoder's branches are not seen, only what it answers. A fault is: a crash or a hang of the process, a small file that
wants more memory than a large one may take (F11), any error that is neither a record nor a refusal, and a deferral, for no
content may pass for trouble with the disk. After each the fuzzer is started again; the inputs stay in CORPUS_DIR/faults.
``replay`` gives every input of a corpus to the gate's real child and prints the outcomes and the longest time.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

_HANG_S = 20
_MEMORY_MIB = 2048
_LONGEST_INPUT_BYTES = 16384


def fuzz(part: str, corpus_dir: Path, seconds: int, folder: Path) -> None:
    """One run of the fuzzer; it ends this process."""
    import atheris

    with atheris.instrument_imports(include=["pydicom", "tasks", "schemas"]):  # also what fuzzing imports
        from mammo_tests import fuzzing
        from schemas.config.ingest import GateLimits
        from schemas.errors import GateRejection
        from tasks.adapters.datasets.catalogue import profile_named
        from tasks.adapters.dicom.dicom_file import read_image_from
        from tasks.adapters.gate.admission import accept_image
        from tasks.adapters.pseudonyms import Pseudonyms
    path, sound = folder / "in" / "a.dcm", fuzzing.small_mammogram(folder)
    path.parent.mkdir(exist_ok=True)
    profile, pseudonyms = profile_named("phantom"), Pseudonyms(b"fuzz" * 8)
    refusals: Counter[str] = Counter()
    space_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + GateLimits().memory_bytes

    def read_header(content: bytes) -> None:
        path.write_bytes(content)
        accept_image(path, source_dir=path.parent, profile=profile, pseudonyms=pseudonyms)

    def read_stream(content: bytes) -> None:
        read_image_from(io.BytesIO(fuzzing.wrapped(content, sound)))

    read: Callable[[bytes], None] = read_header if part == "header" else read_stream

    def one_input(content: bytes) -> None:
        modules = len(sys.modules)
        try:
            read(content)
        except GateRejection as refused:
            assert "F11" not in refused.reason_codes
            got = refused.refusal.got or ""
            refusals[f"{' '.join(refused.reason_codes)} {got if got.isidentifier() else ''}"] += 1
        if len(sys.modules) != modules:
            print("imported late:", list(sys.modules)[modules:], flush=True)
        if sum(refusals.values()) % 20_000 == 1:
            print(refusals.most_common(60), flush=True)

    arguments = [
        sys.argv[0], str(corpus_dir / "inputs"), f"-artifact_prefix={corpus_dir / 'faults'}/", f"-max_total_time={seconds}",
        f"-timeout={_HANG_S}", f"-rss_limit_mb={_MEMORY_MIB}", f"-max_len={_LONGEST_INPUT_BYTES}", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup(arguments, one_input)
    resource.setrlimit(resource.RLIMIT_AS, (space_bytes, space_bytes))
    atheris.Fuzz()


def supervise(part: str, corpus_dir: Path, minutes: float) -> None:
    """Starts the fuzzer again until the time is over, and says how often it had to."""
    from mammo_tests import fuzzing

    (corpus_dir / "inputs").mkdir(parents=True, exist_ok=True)
    (corpus_dir / "faults").mkdir(exist_ok=True)
    ends_s, runs = time.monotonic() + 60 * minutes, 0
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        seeds = fuzzing.header_seeds(folder) if part == "header" else fuzzing.stream_seeds()
        for number, seed in enumerate(seeds):
            (corpus_dir / "inputs" / f"seed-{number}").write_bytes(seed)
        while (left_s := int(ends_s - time.monotonic())) > 0:
            runs += 1
            command = [sys.executable, __file__, part, str(corpus_dir), "--inside", name, "--seconds", str(left_s)]
            code = subprocess.run(command, check=False).returncode
            print(f"run {runs} ended with {code}", flush=True)
    faults = sorted(path.name for path in (corpus_dir / "faults").iterdir())
    print(f"{runs} runs, {len(list((corpus_dir / 'inputs').iterdir()))} inputs kept, faults: {faults}")


def replay(corpus_dir: Path) -> None:
    """Every input through parent and child, as ingest reads it."""
    from mammo_tests import fuzzing
    from schemas.config.ingest import GateLimits, PreprocessConfig
    from schemas.errors import FileDeferred, GateRejection
    from tasks.adapters.gate.child import GateChild
    from tasks.adapters.gate.gate_settings import GateSettings
    from tasks.adapters.gate.messages import DrawThumbnail, PrepareImage
    from tasks.adapters.gate.source_file import file_fingerprint
    from tasks.adapters.pseudonyms import open_key

    outcomes: Counter[str] = Counter()
    longest_s, longest_of, pids = 0.0, "", set()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, GateChild(GateLimits()) as child:
        folder = Path(name)
        path, sound = folder / "in" / "a.dcm", fuzzing.small_mammogram(folder)
        path.parent.mkdir()
        open_key(folder / "key", creates=True)
        gate = GateSettings(source_dir=path.parent, profile="phantom", key_path=folder / "key")
        settings = PreprocessConfig(window_px=(320, 288), erosion_iterations=10, jitter_shift_px=0, jitter_size_px=0)
        for source in sorted(corpus_dir.rglob("*")):
            if not source.is_file():
                continue
            content = source.read_bytes()
            path.write_bytes(content if content[128:132] == b"DICM" else fuzzing.wrapped(content, sound))
            request = PrepareImage(
                path=path, gate=gate, fingerprint=file_fingerprint(path.stat()), preprocess=settings,
                canvas_px=settings.canvas_px, mask_path=None,
            )  # fmt: skip
            thumbnail = DrawThumbnail(path=path, source_dir=path.parent, side_px=64)
            start_s = time.monotonic()
            try:
                child.prepare(request) if content[128:132] == b"DICM" else child.thumbnail(thumbnail)  # which judges no header
                outcome = "accepted"
            except GateRejection as refused:
                outcome = " ".join(refused.reason_codes)
            except FileDeferred as deferred:
                outcome = f"deferred {deferred.reason}"
            if outcome.startswith("deferred") or "F1" in outcome:
                print(f"{source.name}: {outcome}")
            outcomes[outcome.split()[0]] += 1
            took_s = time.monotonic() - start_s
            if took_s > longest_s:
                longest_s, longest_of = took_s, source.name
            pids.add(child.pid)
    print(f"{sum(outcomes.values())} inputs by {len(pids - {None})} children: {dict(outcomes.most_common())}")
    print(f"longest {longest_s:.2f} s: {longest_of}")


def main() -> None:
    """Fuzz or replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("header", "codec", "replay"))
    parser.add_argument("corpus_dir", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "replay":
        replay(options.corpus_dir)
    elif options.inside is None:
        os.nice(19 - os.nice(0))
        supervise(options.part, options.corpus_dir, options.minutes)
    else:
        fuzz(options.part, options.corpus_dir, options.seconds, options.inside)


if __name__ == "__main__":
    main()
