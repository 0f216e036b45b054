"""A model becomes a pack, and a pack a folder of this machine: a checkpoint, or an ensemble with its members below it.

What is installed is byte for byte what was packed, so it scores bit for bit alike on processors of one kind; how close another
one comes is measured with the image that arithmetic makes (``gmic_model.networks.check_scores``).
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from schemas.errors import CheckpointError, StoreError, error_name
from schemas.reports.life.packs import CheckScores, PackedWeights, PackManifest
from schemas.reports.training import EnsembleMember
from tasks.adapters.lifecycle.model_card import model_card
from tasks.adapters.lifecycle.pack_file import CARD, PACK_MANIFEST, Pack, write_pack
from tasks.adapters.models.checkpoints import Checkpoint, load_checkpoint
from tasks.adapters.models.handing_on import export_checkpoint
from tasks.adapters.models.model_files import (
    ENSEMBLE,
    OPERATING_POINTS,
    RECALIBRATION,
    TEMPERATURE,
    ensemble_sha256,
    kept_terms,
    write_ensemble,
)
from tasks.adapters.models.networks import load_network
from tasks.adapters.models.whole_models import home_of, model_members
from tasks.adapters.workspace import UNFINISHED, aside_of, sync, whole_path, write_atomically

FOLDER_DIGITS = 12
"""Of a model's digest, in the name of its folder."""
_ALIKE = 1e-3
_KEPT = {OPERATING_POINTS: "locked thresholds", RECALIBRATION: "recalibration", TEMPERATURE: "a former release's temperature"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A pack's model on this machine.

    Attributes:
        folder: A checkpoint folder, or one with an ``ensemble.json``.
        was_there: It had been installed before.
        largest_difference: Of a score of the check image here from the same where it was packed; 0 = equal bit for bit.
    """

    folder: Path
    was_there: bool
    largest_difference: float


def terms_of(source: Path) -> tuple[str, ...]:
    """What the terms of the data forbid that a model's weights were trained on.

    Raises:
        CheckpointError: It is no model, or damaged.
    """
    found = [sentence for member in model_members(source) for sentence in kept_terms(load_checkpoint(member.path).sidecar)]
    return tuple(dict.fromkeys(found))


def pack_model(source: Path, target: Path, *, key: bytes | None = None) -> PackManifest:
    """Packs a checkpoint folder or an ensemble, without the state of its training.

    Args:
        source: The folder, or an ``ensemble.json``.
        target: The file to make.
        key: Signs the pack.

    Raises:
        CheckpointError: The source is no model or damaged, or there is no room.
        ConfigError: There is something under the target's name.
    """
    members = model_members(source)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pack-", suffix=UNFINISHED) as aside:
            folder = Path(aside) / "model"
            checkpoints = _gather(source, members, folder)
            content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(_files(folder))}
    except OSError as trouble:
        raise CheckpointError(
            f"The pack {target} cannot be written", got=error_name(trouble), remedy="see that its folder is there and has room"
        ) from trouble
    manifest = PackManifest(
        code_version=version("mammography-gmic"),
        sha256=ensemble_sha256(members),
        models=tuple(_packed(checkpoint, member) for checkpoint, member in zip(checkpoints, members, strict=True)),
        kept=tuple(said for name, said in _KEPT.items() if name in content),
        terms=tuple(dict.fromkeys(sentence for one in checkpoints for sentence in kept_terms(one.sidecar))),
        members={},
    )
    return write_pack(target, manifest, {**content, CARD: model_card(manifest).encode()}, key=key)


def install_pack(pack: Pack, models_dir: Path) -> Installed:
    """Puts a pack's model into ``models_dir/<digest>``, whole or not at all; one that is there already is left.

    Raises:
        CheckpointError: Its weights do not fit its networks, or score otherwise here than where they were packed; or what lies
            there is another model, or there is no room.
    """
    folder = models_dir / pack.manifest.sha256[:FOLDER_DIGITS]
    aside = aside_of(folder, os.getpid())
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name, content in {**pack.members, PACK_MANIFEST: pack.manifest_json}.items():
            write_atomically(aside / name, content)
        members = model_members(aside)
        _require_packed(pack, members, whole_path(aside))
        difference = max(
            _difference(load_checkpoint(member.path), packed.check)
            for member, packed in zip(members, pack.manifest.models, strict=True)
        )
        was_there = os.path.lexists(folder)
        if was_there:
            _require_same(folder, pack)
        else:
            aside.rename(folder)
            sync(models_dir)
    except OSError as trouble:
        raise CheckpointError(
            f"The model cannot be installed in {models_dir}; nothing was",
            got=error_name(trouble),
            remedy="see that there is room",
        ) from trouble
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Installed(folder=folder, was_there=was_there, largest_difference=difference)


def copy_model(source: Path, models_dir: Path) -> Path:
    """Copies a model to ``models_dir/<digest>``, where neither pruning nor a later evaluation reaches it; returns that.

    Of a copy that is there, from a promotion that came to nothing, the thresholds are of that day: it gets the source's.

    Raises:
        CheckpointError: It is no model or damaged, or there is no room.
    """
    sha256 = _whole_sha256(source)
    folder = models_dir / sha256[:FOLDER_DIGITS]
    if folder.exists():
        if _whole_sha256(folder) != sha256:
            raise CheckpointError(f"{folder} holds other weights than its name says", remedy="move it away")
        _renew_kept(home_of(source), folder)
        return folder
    members, aside = model_members(source), aside_of(folder, os.getpid())
    shutil.rmtree(aside, ignore_errors=True)
    try:
        models_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _gather(source, members, aside)
        aside.rename(folder)
        sync(models_dir)
    except OSError as trouble:
        raise CheckpointError(f"{folder} cannot be made", got=error_name(trouble), remedy="see that there is room") from trouble
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _whole_sha256(source: Path) -> str:
    """Of a model whose every weight was read."""
    members = model_members(source)
    for member in members:
        found = load_checkpoint(member.path).sha256
        if found != member.sha256:
            raise _other_weights(member, found)
    return ensemble_sha256(members)


def machine() -> str:
    """What scores depend on to the last bit: processor, and the library that computes."""
    names = {line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")}
    return f"{' / '.join(sorted(names)) or platform.machine()}, torch {version('torch')}"[:200]


# ---------------------------------------------------------------------------------------------------------------------


def _gather(source: Path, members: Sequence[EnsembleMember], folder: Path) -> list[Checkpoint]:
    """The files of a pack in a folder of their own, as they will lie where it is installed."""
    home = home_of(source)
    if len(members) == 1 and not (home / ENSEMBLE).is_file():
        return [export_checkpoint(source, folder)]
    folder.mkdir()
    checkpoints = [export_checkpoint(one.path, folder / str(index)) for index, one in enumerate(members, 1)]
    for checkpoint, member in zip(checkpoints, members, strict=True):
        if checkpoint.sha256 != member.sha256:
            raise _other_weights(member, checkpoint.sha256)
    write_ensemble(
        folder / ENSEMBLE,
        (member.model_copy(update={"path": one.folder}) for one, member in zip(checkpoints, members, strict=True)),
    )
    for name in _KEPT:
        if (home / name).exists():
            shutil.copyfile(home / name, folder / name)
    return checkpoints


def _renew_kept(home: Path, folder: Path) -> None:
    if home.resolve() == folder.resolve():  # it was in use before: what it decided by then stays
        return
    try:
        for name in _KEPT:
            if (home / name).exists():
                write_atomically(folder / name, (home / name).read_bytes())
            else:
                (folder / name).unlink(missing_ok=True)
    except OSError as trouble:
        raise CheckpointError(f"{folder} cannot be made", got=error_name(trouble), remedy="see that there is room") from trouble


def _other_weights(member: EnsembleMember, found: str) -> CheckpointError:
    return CheckpointError(
        f"{member.path} holds other weights than {ENSEMBLE} names",
        expected=f"sha256 {member.sha256[:12]}...",
        got=f"{found[:12]}...",
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _packed(checkpoint: Checkpoint, member: EnsembleMember) -> PackedWeights:
    scores_C = _check_scores(checkpoint)
    return PackedWeights(
        sha256=checkpoint.sha256,
        title=checkpoint.model_config.title,
        network=checkpoint.model_config.model_dump(mode="json"),
        preprocess=checkpoint.sidecar.get("preprocess", {}),
        provenance=checkpoint.sidecar.get("provenance", {}),
        tuning_malignant_auroc=member.tuning_malignant_auroc,
        check=CheckScores(scores=tuple(score.hex() for score in scores_C), machine=machine()),
    )


def _check_scores(checkpoint: Checkpoint) -> list[float]:
    from gmic_model.networks.check_scores import check_scores

    return [float(score) for score in check_scores(load_network(checkpoint))]


def _difference(checkpoint: Checkpoint, check: CheckScores) -> float:
    there, here = [float.fromhex(score) for score in check.scores], _check_scores(checkpoint)
    difference = max(abs(one - other) for one, other in zip(there, here, strict=True))
    if not difference <= _ALIKE:  # nor where one of them is no number
        raise CheckpointError(
            "The model scores otherwise on this machine than where it was packed; it was not installed",
            expected=f"scores of the check image within {_ALIKE:g}, there by {check.machine}",
            got=f"{difference:.3g} apart, here by {machine()}",
            remedy="ask who packed it; run `mammo doctor` on both machines",
        )
    return difference


def _require_packed(pack: Pack, members: Sequence[EnsembleMember], folder: Path) -> None:
    """The weights are the pack's own, and those that its manifest speaks of, one by one."""
    are_inside = all(whole_path(member.path).is_relative_to(folder) for member in members)
    if not are_inside or [member.sha256 for member in members] != [packed.sha256 for packed in pack.manifest.models]:
        raise CheckpointError("The pack's files do not speak of the same weights; nothing was installed")


def _require_same(folder: Path, pack: Pack) -> None:
    """What was installed before is this very model, whole."""
    try:
        found = [load_checkpoint(member.path).sha256 for member in model_members(folder)]
    except (CheckpointError, StoreError) as damage:
        raise CheckpointError(f"{folder} is there already and is damaged", remedy="move it away, install again") from damage
    if found != [packed.sha256 for packed in pack.manifest.models]:
        raise CheckpointError(f"{folder} is there already and holds other weights", remedy="move it away, install again")


def _cpu_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
