"""A model goes from one machine to another in one file: the same scores there, or a sentence and nothing installed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from deployments.cli import app
from gmic_model.networks.check_scores import check_image, check_scores, exported_program
from gmic_model.networks.registry import build_network
from mammo_tests.training_store import small_config, with_baseline
from schemas.errors import CheckpointError, ConfigError
from schemas.reports.training import EnsembleMember
from tasks.adapters.lifecycle.pack_file import PACK_MANIFEST, member_of, read_pack, read_pack_key, write_pack, write_zip
from tasks.adapters.lifecycle.packing import copy_model, install_pack, model_members, pack_model
from tasks.adapters.models.checkpoints import load_checkpoint, save_checkpoint
from tasks.adapters.models.model_files import ENSEMBLE, OPERATING_POINTS, SIDECAR, WEIGHTS, kept_terms, write_ensemble
from tasks.adapters.models.networks import load_network

TERMS = "The terms of EMBED forbid passing on data and weights made of this set."
KEY = bytes(range(32))


def model_of(folder: Path, *, seed: int = 0, terms: tuple[str, ...] = ()) -> Path:
    """A checkpoint of the quickest network, with a state of training that is nobody else's business."""
    config = with_baseline(small_config(folder)).model
    torch.manual_seed(seed)
    made = {
        "seed": seed,
        "preprocess_version": "breast-3",
        "data_version": "d" * 64,
        **({"terms": list(terms)} if terms else {}),
    }
    save_checkpoint(
        folder,
        weights=build_network(config).state_dict(),
        training={"random.0.cpu": torch.zeros(3, dtype=torch.uint8)},
        model=config,
        about={"provenance": made, "preprocess": {"pixel_spacing_mm": 0.1}, "epochs": []},
    )
    (folder / OPERATING_POINTS).write_text("{}")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model for all tests; nobody changes it."""
    return model_of(tmp_path_factory.mktemp("trained") / "epoch-0000")


@pytest.fixture(scope="module")
def packed(model: Path) -> Path:
    """Its pack, signed."""
    path = model.parent / "model.pack"
    pack_model(model, path, key=KEY)
    return path


def test_an_installed_model_scores_bit_for_bit_as_the_packed_one(model: Path, packed: Path, tmp_path: Path) -> None:
    """Weights, sidecar and locked thresholds arrive byte for byte, without the training's state; again changes nothing."""
    installed = install_pack(read_pack(packed, key=KEY), tmp_path / "models")
    assert installed.largest_difference == 0.0 and not installed.was_there
    there, here = (load_network(load_checkpoint(folder)).eval() for folder in (model, installed.folder))
    image_N1HW = torch.rand(1, 1, 192, 128)
    with torch.inference_mode():
        assert torch.equal(there(image_N1HW).y_NC, here(image_N1HW).y_NC)
    assert (installed.folder / OPERATING_POINTS).read_bytes() == (model / OPERATING_POINTS).read_bytes()
    assert not (installed.folder / "training.safetensors").exists()
    assert install_pack(read_pack(packed), tmp_path / "models").was_there
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [load_checkpoint(model).sha256[:12]]


def test_the_same_model_makes_the_same_bytes(model: Path, packed: Path, tmp_path: Path) -> None:
    """No time and no order of files is in a pack."""
    pack_model(model, tmp_path / "again.pack", key=KEY)
    assert (tmp_path / "again.pack").read_bytes() == packed.read_bytes()
    assert (tmp_path / "again.pack").stat().st_mode & 0o077 == 0


def test_a_flipped_bit_anywhere_is_found(packed: Path, tmp_path: Path) -> None:
    """In every third byte of a pack, of its files and of the zip's own headers and gaps: a sentence, and nothing is read."""
    manifest = read_pack(packed).manifest
    write_pack(tmp_path / "small.pack", manifest, {WEIGHTS: b"weights", SIDECAR: b"{}"}, key=KEY)
    content = (tmp_path / "small.pack").read_bytes()
    assert len(content) < 10_000
    for place in range(0, len(content), 3):
        altered = bytearray(content)
        altered[place] ^= 1 << (place % 8)
        (tmp_path / "altered.pack").write_bytes(altered)
        with pytest.raises(CheckpointError):
            read_pack(tmp_path / "altered.pack", key=KEY)


def rezipped(change: Callable[[dict[str, bytes]], None], packed: Path, target: Path) -> Path:
    """The pack with other files, its manifest made right again for these: what somebody with a zip program can do."""
    with zipfile.ZipFile(packed) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    change(content)
    with target.open("wb") as file:
        write_zip(file, content)
    return target


def _renamed(content: dict[str, bytes], name: str) -> None:
    manifest = json.loads(content[PACK_MANIFEST])
    content[name] = b"{}"
    manifest["members"][name] = member_of(b"{}").model_dump()
    content[PACK_MANIFEST] = json.dumps(manifest).encode()


def _saying(content: dict[str, bytes], **said: object) -> None:
    content[PACK_MANIFEST] = json.dumps({**json.loads(content[PACK_MANIFEST]), **said}).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop(WEIGHTS), "none of that name"),
        (lambda content: content.pop(PACK_MANIFEST), "a pack.json in it"),
        (lambda content: content.update({OPERATING_POINTS: b"[]"}), "altered or damaged"),
        (lambda content: content.update({"temperature.json": b"{}"}), "one more, 'temperature.json'"),
        (lambda content: _renamed(content, "../outside.json"), "'../outside.json'"),
        (lambda content: _renamed(content, "/etc/outside"), "'/etc/outside'"),
        (lambda content: _renamed(content, "run_me.py"), "'run_me.py'"),
        (lambda content: _saying(content, version=2), "newer release"),
        (lambda content: _saying(content, sha256="../../../../x"), "the digest of its weights"),
        (lambda content: _saying(content, sha256="0" * 64), "the digest of its weights"),
        (lambda content: content.update({PACK_MANIFEST: b"[" * 200_000}), "a pack.json in it"),
    ],
)
def test_a_pack_with_other_files_than_ours_is_refused(
    change: Callable[[dict[str, bytes]], None], said: str, packed: Path, tmp_path: Path
) -> None:
    """Missing, one more, of another name, leading out of the folder, a program, a form that is not known: a sentence each.

    The model's digest names the folder that it is installed into: one that leads out of it, or another model's, is none.
    """
    with pytest.raises(CheckpointError, match=said):
        read_pack(rezipped(change, packed, tmp_path / "other.pack"))


def test_a_pack_that_cannot_be_made_is_a_sentence(model: Path, tmp_path: Path) -> None:
    """The folder that it is to lie in is not there."""
    with pytest.raises(CheckpointError, match="cannot be written"):
        pack_model(model, tmp_path / "none" / "model.pack")


def test_a_copy_that_was_never_used_gets_the_thresholds_of_today(model: Path, tmp_path: Path) -> None:
    """A promotion that lost against another leaves its copy; evaluated anew, the next one takes what was judged, not that."""
    source = tmp_path / "epoch-0000"
    shutil.copytree(model, source)
    copied = copy_model(source, tmp_path / "models")
    (source / OPERATING_POINTS).write_text('{"of": "today"}')
    assert copy_model(source, tmp_path / "models") == copied
    assert (copied / OPERATING_POINTS).read_text() == '{"of": "today"}'
    (source / OPERATING_POINTS).unlink()
    assert not (copy_model(source, tmp_path / "models") / OPERATING_POINTS).exists()
    (copied / OPERATING_POINTS).write_text("{}")
    assert (copy_model(copied, tmp_path / "models") / OPERATING_POINTS).read_text() == "{}"


def test_zips_of_another_form_are_refused(packed: Path, tmp_path: Path) -> None:
    """Compressed, so that it could be a bomb; something before or behind it; a text; no file."""
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(tmp_path / "small.pack", "w", zipfile.ZIP_DEFLATED) as other:
        for entry in archive.infolist():
            other.writestr(entry.filename, archive.read(entry))
    (tmp_path / "before.pack").write_bytes(b"#!/bin/sh\n" + packed.read_bytes())
    (tmp_path / "behind.pack").write_bytes(packed.read_bytes() + b"more")
    (tmp_path / "text.pack").write_text("no zip")
    for name in ("small", "before", "behind", "text", "none"):
        with pytest.raises(CheckpointError):
            read_pack(tmp_path / f"{name}.pack")


def test_a_signature_holds_with_its_key_only(model: Path, packed: Path, tmp_path: Path) -> None:
    """Another key, no signature, a manifest that was signed for another pack; a key that others may read is none."""
    assert read_pack(packed, key=KEY).is_signature_checked and not read_pack(packed).is_signature_checked
    with pytest.raises(CheckpointError, match="not signed with this key"):
        read_pack(packed, key=bytes(32))
    pack_model(model, tmp_path / "plain.pack")
    with pytest.raises(CheckpointError, match="Got: none"):
        read_pack(tmp_path / "plain.pack", key=KEY)
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        read_pack_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    assert read_pack_key(tmp_path / "key") == KEY


def test_a_model_that_scores_otherwise_here_is_not_installed(model: Path, tmp_path: Path) -> None:
    """Packed where arithmetic was another: the scores of the check image tell, and no folder is left."""
    pack_model(model, tmp_path / "model.pack")
    pack = read_pack(tmp_path / "model.pack")
    check = pack.manifest.models[0].check
    elsewhere = check.model_copy(update={"scores": tuple((float.fromhex(one) + 0.01).hex() for one in check.scores)})
    manifest = pack.manifest.model_copy(update={"models": (pack.manifest.models[0].model_copy(update={"check": elsewhere}),)})
    write_pack(tmp_path / "elsewhere.pack", manifest, pack.members)
    with pytest.raises(CheckpointError, match="scores otherwise"):
        install_pack(read_pack(tmp_path / "elsewhere.pack"), tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_an_ensemble_is_packed_with_its_members(tmp_path: Path) -> None:
    """Installed, its ensemble.json names the members beside it; one that leads out of the folder is refused."""
    folders = [model_of(tmp_path / f"epoch-{seed}", seed=seed) for seed in (1, 2)]
    digests = [load_checkpoint(folder).sha256 for folder in folders]
    write_ensemble(
        tmp_path / ENSEMBLE, (EnsembleMember(path=path, sha256=one) for path, one in zip(folders, digests, strict=True))
    )
    pack_model(tmp_path / ENSEMBLE, tmp_path / "both.pack")
    shutil.rmtree(folders[0])
    installed = install_pack(read_pack(tmp_path / "both.pack"), tmp_path / "models")
    members = model_members(installed.folder)
    assert [member.sha256 for member in members] == digests
    assert [member.path.relative_to(installed.folder.resolve()).as_posix() for member in members] == ["1", "2"]
    pack = read_pack(tmp_path / "both.pack")
    stray = pack.members[ENSEMBLE].replace(b'"1"', json.dumps(str(folders[1])).encode())
    write_pack(tmp_path / "stray.pack", pack.manifest, {**pack.members, ENSEMBLE: stray})
    with pytest.raises(CheckpointError, match="same weights"):
        install_pack(read_pack(tmp_path / "stray.pack"), tmp_path / "elsewhere")


def test_a_copy_for_use_is_the_model_and_is_made_once(model: Path, tmp_path: Path) -> None:
    """In a folder of its digest; a second copy is the first."""
    folder = copy_model(model, tmp_path)
    assert (folder / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes() and copy_model(folder, tmp_path) == folder


def test_the_check_image_is_the_same_everywhere() -> None:
    """Its bytes are those of the day when this was written; its scores do not depend on how many threads there are."""
    assert hashlib.sha256(check_image((40, 50)).tobytes()).hexdigest()[:16] == "1066403248521439"
    torch.manual_seed(0)
    network = build_network(with_baseline(small_config(Path("w"))).model)
    threads = torch.get_num_threads()
    first = check_scores(network)
    assert (first == check_scores(network)).all() and torch.get_num_threads() == threads and network.training


def test_the_exported_program_scores_as_the_network(model: Path) -> None:
    """``torch.export.load`` opens it, and it gives the same bits for another image."""
    network = load_network(load_checkpoint(model)).eval()
    program = torch.export.load(io.BytesIO(exported_program(network))).module()
    image_N1HW = torch.rand(1, 1, 192, 128)
    with torch.inference_mode():
        assert torch.equal(program(image_N1HW)[0], network(image_N1HW).y_NC)


def test_the_commands_pack_show_and_install(tmp_path: Path) -> None:
    """Terms are said and asked; the pack is shown, and installed into the workspace of a config."""
    bound = model_of(tmp_path / "bound", seed=3, terms=(TERMS,))
    config = tmp_path / "config.yaml"
    content = small_config(tmp_path / "w").model_dump(mode="json", include={"workspace_dir", "ingest", "preprocess", "model"})
    config.write_text(yaml.safe_dump(content))
    run = CliRunner().invoke
    refused = run(app, ["model", "pack", str(bound), str(tmp_path / "m.pack")])
    assert isinstance(refused.exception, ConfigError) and TERMS in refused.output and not (tmp_path / "m.pack").exists()
    packed = run(app, ["model", "pack", str(bound), str(tmp_path / "m.pack"), "--yes"])
    assert packed.exit_code == 0 and "4 files, not signed" in packed.output
    assert TERMS in run(app, ["model", "show", str(tmp_path / "m.pack")]).output
    installed = run(app, ["model", "install", str(tmp_path / "m.pack"), str(config)])
    assert installed.exit_code == 0 and "equal bit for bit" in installed.output and "Not signed" in installed.output
    (folder,) = (tmp_path / "w" / "models").glob("[0-9a-f]*")
    assert kept_terms(json.loads((folder / SIDECAR).read_text())) == (TERMS,)


_PACK_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tasks.adapters.interpreter import imported_at_once
with imported_at_once():
    from tasks.adapters.lifecycle import packing, pack_file
source, target, models = map(Path, sys.argv[1:4])
def work(die_at):
    calls = 0
    def counted(real):
        def call(*args, **named):
            nonlocal calls
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)
        return call
    os.fsync, os.rename = counted(os.fsync), counted(os.rename)
    Path.replace, Path.rename = counted(Path.replace), counted(Path.rename)
    if not target.exists():
        packing.pack_model(source, target)
    packing.install_pack(pack_file.read_pack(target), models)
for die_at in map(int, sys.argv[4:]):
    child = os.fork()  # this process imports, and starts no thread
    if not child:
        work(die_at)
        os._exit(0)
    print(die_at, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), target.exists(), *models.glob("[0-9a-f]*"), flush=True)
"""


def test_a_kill_while_packing_or_installing_leaves_all_or_nothing(model: Path, tmp_path: Path) -> None:
    """``kill -9`` at syncs and renames: what is there is whole, and a rerun ends."""
    target, models = tmp_path / "m.pack", tmp_path / "models"
    arguments = [
        sys.executable,
        "-c",
        _PACK_AND_DIE,
        str(model),
        str(target),
        str(models),
        "2",
        "5",
        "7",
        "8",
        "12",
        "15",
        "99",
    ]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    ended = subprocess.run(arguments, env=os.environ | one_thread, check=True, capture_output=True, text=True, timeout=300)
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert [line[1] for line in lines].count(str(-signal.SIGKILL)) >= 5 and lines[-1][1] == "0", ended.stdout
    assert [line[2] for line in lines] == sorted(line[2] for line in lines)  # a pack that is there stays
    (folder,) = models.glob("[0-9a-f]*")
    assert load_checkpoint(folder).sha256 == load_checkpoint(model).sha256 and read_pack(target).manifest.models
