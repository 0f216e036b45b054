"""The pack: one zip file of safetensors, JSON and text, with one form only. Nothing in it runs.

A reader makes the archive again from what it read and compares all its bytes. What was flipped, added, left out, reordered or
hidden between members is found so, and none of the freedoms that zip has is one here.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pydantic import ValidationError

from schemas.errors import CheckpointError, ConfigError, error_name
from schemas.reports.life.packs import PACK_FORM, PACK_VERSION, PackedMember, PackManifest, PackSignature
from tasks.adapters.models.model_files import (
    ENSEMBLE,
    OPERATING_POINTS,
    PATIENTS,
    RECALIBRATION,
    SIDECAR,
    TEMPERATURE,
    WEIGHTS,
    ensemble_sha256,
)
from tasks.adapters.workspace import replaced

PACK_MANIFEST: Final = "pack.json"
SIGNATURE: Final = "signature.json"
CARD: Final = "model_card.md"

_LARGEST_PACK_BYTES: Final = 4 * 2**30
_LARGEST_WEIGHTS_BYTES: Final = 2**30
_LARGEST_TEXT_BYTES: Final = 2**24
_MOST_MEMBERS: Final = 128
_SHORTEST_KEY_BYTES, _LONGEST_KEY_BYTES = 32, 4096
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OF_ONE = "|".join(map(re.escape, (WEIGHTS, SIDECAR, PATIENTS, RECALIBRATION, OPERATING_POINTS, TEMPERATURE)))
_OURS: Final = re.compile(rf"(?:\d{{1,2}}/)?(?:{_OF_ONE})|{'|'.join(map(re.escape, (ENSEMBLE, CARD)))}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A pack whose every byte was checked.

    Attributes:
        members: Content of each file but the manifest and the signature.
        signed_by: Id of the key that it says it was signed with; "" = not signed.
        is_signature_checked: The signature is that of the key that was given.
    """

    manifest: PackManifest
    members: Mapping[str, bytes]
    manifest_json: bytes
    signed_by: str
    is_signature_checked: bool


def member_of(content: bytes) -> PackedMember:
    """What the manifest says of a file."""
    return PackedMember(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def write_pack(path: Path, manifest: PackManifest, members: Mapping[str, bytes], *, key: bytes | None = None) -> PackManifest:
    """Writes a pack aside and renames it; the same content under the same key gives the same bytes. Returns its manifest.

    Args:
        path: The file to make.
        manifest: What the pack is; the members' digests are filled in.
        members: Name and content.
        key: Signs it; None = no signature.

    Raises:
        ConfigError: There is something under that name.
        CheckpointError: There is no room; nothing appears under ``path`` then.
    """
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path} is there already", expected="a name for a new file", remedy="give another")
    named = {name: member_of(content) for name, content in sorted(members.items())}
    manifest = manifest.model_copy(update={"members": named})
    text = f"{manifest.model_dump_json(indent=1)}\n".encode()
    whole = {**members, PACK_MANIFEST: text}
    if key is not None:
        whole[SIGNATURE] = _signature(text, key)
    try:
        with replaced(path) as file:
            write_zip(file, whole)
    except OSError as trouble:
        raise CheckpointError(
            f"The pack {path} cannot be written", got=error_name(trouble), remedy="see that there is room, and run again"
        ) from trouble
    return manifest


def read_pack(path: Path, *, key: bytes | None = None) -> Pack:
    """Reads a pack and checks every byte of it; nothing is written.

    Args:
        path: The file.
        key: The pack must be signed with it; None = whoever signed it, or nobody.

    Raises:
        CheckpointError: It is no pack, was altered or damaged, lacks a file or has one too many, is of a newer release, or is
            not signed with the key.
    """
    content = _content(path)
    manifest = _manifest(path, content)
    for name, member in manifest.members.items():
        found = content.get(name)
        if found is None or name in (PACK_MANIFEST, SIGNATURE):
            raise _refused(path, expected=f"the file {name}, which its manifest names", got="none of that name")
        if member_of(found) != member:
            raise _refused(path, expected=f"{name} with sha256 {member.sha256[:12]}...", got="other bytes: altered or damaged")
    if extra := sorted(content.keys() - manifest.members.keys() - {PACK_MANIFEST, SIGNATURE}):
        raise _refused(path, expected="the files that its manifest names", got=f"one more, {extra[0]!a}")
    signature = _read_signature(path, content)
    if key is not None:
        _require_signed(path, content[PACK_MANIFEST], signature, key)
    if not _is_as_written(path, content):
        raise _refused(path, expected="the bytes that packing writes", got="others between or around its files")
    members = {name: content[name] for name in manifest.members}
    signed_by = "" if signature is None else signature.key_id
    return Pack(
        manifest=manifest,
        members=members,
        manifest_json=content[PACK_MANIFEST],
        signed_by=signed_by,
        is_signature_checked=key is not None,
    )


def read_pack_key(path: Path) -> bytes:
    """The bytes that sign packs.

    Raises:
        ConfigError: It cannot be read, is readable by others, or is too short to be a secret.
    """
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            key = file.read(_LONGEST_KEY_BYTES + 1)
    except OSError as missing:
        raise ConfigError(
            f"The key {path} cannot be read",
            got=error_name(missing),
            remedy=f"make one: (umask 077; head -c 32 /dev/urandom > {path.name})",
        ) from missing
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"The key {path} can be read by others", expected="mode 0600", remedy=f"chmod 600 {path}")
    if not _SHORTEST_KEY_BYTES <= len(key) <= _LONGEST_KEY_BYTES:
        raise ConfigError(
            f"The key {path} is no key",
            expected=f"{_SHORTEST_KEY_BYTES} to {_LONGEST_KEY_BYTES} bytes that nobody can guess",
            got=f"{len(key)} bytes" if len(key) < _SHORTEST_KEY_BYTES else "more",
            remedy="head -c 32 /dev/urandom makes one; both sites hold the same",
        )
    return key


# ---------------------------------------------------------------------------------------------------------------------


def _content(path: Path) -> dict[str, bytes]:
    """Every file of the zip, none of a name that we do not write, none larger than it may be."""
    try:
        if path.stat().st_size > _LARGEST_PACK_BYTES:
            raise _refused(path, expected=f"at most {_LARGEST_PACK_BYTES // 2**30} GiB", got="a larger file")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_MEMBERS:
                raise _refused(path, expected=f"at most {_MOST_MEMBERS} files", got=f"{len(entries)}")
            return {entry.filename: _member(path, archive, entry) for entry in entries}
    except OSError as missing:
        raise CheckpointError(f"{path} cannot be read", got=error_name(missing), remedy="check the path") from missing
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError) as damage:
        raise _refused(path, expected="a whole pack", got=type(damage).__name__) from damage


def _member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    name = entry.filename
    if name not in (PACK_MANIFEST, SIGNATURE) and not _OURS.fullmatch(name):
        raise _refused(path, expected="files of the names that packing writes", got=f"{name[:80]!a}")
    limit = _LARGEST_WEIGHTS_BYTES if name.endswith(WEIGHTS) else _LARGEST_TEXT_BYTES
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.file_size > limit:
        raise _refused(path, expected=f"{name} as it is, not compressed, at most {limit // 2**20} MiB", got="another form")
    return archive.read(entry)


def _manifest(path: Path, content: Mapping[str, bytes]) -> PackManifest:
    try:
        said = json.loads(content[PACK_MANIFEST])
        form, version = said["form"], said["version"]
    except (KeyError, TypeError, ValueError, RecursionError) as missing:
        raise _refused(path, expected=f"a {PACK_MANIFEST} in it", got=type(missing).__name__) from missing
    if form != PACK_FORM or not isinstance(version, int) or version > PACK_VERSION:
        newer = form == PACK_FORM and isinstance(version, int)
        raise CheckpointError(
            f"{path.name} is a pack of a newer release" if newer else f"{path.name} is no model pack",
            expected=f"form {PACK_FORM} of version {PACK_VERSION} or before",
            got=f"version {version}" if newer else "another form",
            remedy="install a release that knows it, or ask for a pack of this one",
        )
    try:
        manifest = PackManifest.model_validate_json(content[PACK_MANIFEST])
    except ValidationError as unknown:
        raise _refused(path, expected=f"a {PACK_MANIFEST} of version {PACK_VERSION}", got="other fields") from unknown
    # The digest names the folder to install into and the model in the registry, so it is taken from nobody's word.
    if not _DIGEST.fullmatch(manifest.sha256) or manifest.sha256 != ensemble_sha256(manifest.models):
        raise _refused(path, expected="the digest of its weights", got=f"{manifest.sha256[:80]!a}")
    return manifest


def _read_signature(path: Path, content: Mapping[str, bytes]) -> PackSignature | None:
    try:
        return PackSignature.model_validate_json(content[SIGNATURE]) if SIGNATURE in content else None
    except ValidationError as unknown:
        raise _refused(path, expected=f"a {SIGNATURE} of ours", got="other fields") from unknown


def _require_signed(path: Path, manifest_json: bytes, signature: PackSignature | None, key: bytes) -> None:
    wanted = PackSignature.model_validate_json(_signature(manifest_json, key))
    if signature is None or not hmac.compare_digest(signature.hmac_sha256, wanted.hmac_sha256):
        raise CheckpointError(
            f"{path.name} is not signed with this key",
            expected=f"a signature with key {wanted.key_id}",
            got="none" if signature is None else f"one with key {signature.key_id}, or of another manifest",
            remedy="ask who packed it for the key, over another way than the pack; do not install it",
        )


def _signature(manifest_json: bytes, key: bytes) -> bytes:
    key_id = hmac.digest(key, b"mammo pack key id", "sha256").hex()[:12]
    signed = hmac.digest(key, b"mammo pack\0" + manifest_json, "sha256").hex()
    return PackSignature(key_id=key_id, hmac_sha256=signed).model_dump_json().encode()


def _is_as_written(path: Path, content: Mapping[str, bytes]) -> bool:
    again = io.BytesIO()
    write_zip(again, content)
    with path.open("rb") as file:
        return hashlib.sha256(again.getbuffer()).digest() == hashlib.file_digest(file, "sha256").digest()


def write_zip(file: IO[bytes], content: Mapping[str, bytes]) -> None:
    """In one order, with no time, no machine and no compression in it: equal content, equal bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o600) << 16
            archive.writestr(entry, content[name])


def _refused(path: Path, *, expected: str, got: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is no pack that can be installed; nothing was",
        expected=expected,
        got=got,
        remedy="fetch it again; if it is the same then, ask who packed it",
    )
