"""What is small of a store in a bucket, put there by conditional puts: whoever has not seen what is there replaces nothing.

``objects.json`` beside the ledger keeps each object's entity tag as this workspace saw it last. A put whose answer was lost
is known by its content: what is there is then what we sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from schemas.errors import StoreError
from schemas.layout import LESION_MASK, PIXELS
from tasks.adapters.buckets.bucket import PutLost, bucket_at
from tasks.adapters.workspace import StoreFolder, write_atomically

_CHUNK_BYTES = 2**20


class PublishedObjects:
    """The objects that a folder's small files are copies of.

    Args:
        files: The folder.
        url: Address in the object store.
    """

    def __init__(self, files: StoreFolder, url: str) -> None:
        self._files, self._url, self._bucket = files, url, bucket_at(url)
        self._state: dict[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError):
            self._state = json.loads(files.objects_path.read_bytes())

    @property
    def manifest_tag(self) -> str:
        """Entity tag of the manifest that this folder last saw or put there; "" = none."""
        return str(self._known(self._files.manifest_path).get("etag", ""))

    def require_conditions(self) -> None:
        """Tries that a put on a condition is refused where that does not hold: all that keeps two writers apart hangs on it.

        Raises:
            StoreError: The server takes no notice of conditions.
        """
        key = f"condition-{uuid4().hex}"
        try:
            etag = self._bucket.put(key, b"1", is_new=True)
            for condition in ({"is_new": True}, {"instead_of": f'"{"0" * len(etag.strip(chr(34)))}"'}):
                try:
                    self._bucket.put(key, b"2", **condition)
                except PutLost:
                    continue
                raise StoreError(
                    f"The object store of {self._url} takes no notice of conditions of a put",
                    expected="If-None-Match and If-Match, by which two writers are kept apart",
                    got="an object that was replaced all the same",
                    remedy="use a server that knows them (docs/how-to/scale-out.md names some)",
                )
        finally:
            self._bucket.delete(key)

    def put(self, path: Path, content: Path | bytes | None = None) -> None:
        """Makes a file's content that of its object; of one that is there already nothing is sent.

        Args:
            path: Of the file in the folder.
            content: Where its content lies, if not there yet.

        Raises:
            StoreError: Something is there that this workspace has not seen: another one publishes there. Or what it has seen is
                gone.
        """
        key, source = self._key(path), path if content is None else content
        sha256, known = _sha256(source), self._known(path)
        if known.get("sha256") == sha256 and not known.get("sent"):
            there = self._bucket.head(key)
            if there is None or there.etag != known["etag"]:
                raise self._lost(path)
            return
        sent = [*known.get("sent", []), sha256]
        self._note(key, {**known, "sent": sent})
        etag = known.get("etag")
        try:
            etag = self._bucket.put(key, source, instead_of=etag, is_new=etag is None)
        except (PutLost, FileNotFoundError):
            etag = self._after_own(path, source, sent)
        self._note(key, {"etag": etag, "sha256": sha256})

    def drop(self, path: Path) -> None:
        """Deletes an object whose file is gone."""
        if self._known(path):
            self._bucket.delete(self._key(path))
            self._note(self._key(path), None)

    def put_lists(self) -> None:
        """The lists beside the manifest that readers need, as they are now."""
        for path in self._lists():
            if path.exists():
                self.put(path)
            else:
                self.drop(path)

    def put_arrays(self) -> None:
        """What describes the arrays, as it is now: the group last, so that no array is named before it can be opened."""
        for path in reversed(list(self._array_files())):
            self.put(path)

    def is_store(self) -> bool:
        """True if a store is there."""
        return self._bucket.head(self._key(self._files.settings_path)) is not None

    def content(self, path: Path) -> bytes | None:
        """Of the object of a file; None = there is none."""
        try:
            return self._bucket.get(self._key(path))[0]
        except FileNotFoundError:
            return None

    def gone(self) -> tuple[str, ...]:
        """Names of the objects that this workspace has seen there and that are there no more."""
        return tuple(key for key, known in self._state.items() if "etag" in known and self._bucket.head(key) is None)

    def forget_gone(self) -> None:
        """Lets what is gone from there be put there as something new."""
        for key in self.gone():
            self._note(key, None)

    def put_again(self) -> None:
        """Makes a store of an address that has lost it: what says that one is there, and what describes its arrays.

        The manifest and the lists beside it come with the next publishing, when the images that they name are there.
        """
        self.forget_gone()
        if not self.is_store():
            self.put(self._files.settings_path)
        self.put_arrays()

    def take_over(self) -> None:
        """Takes what is there for seen: a person has decided that this workspace is the one that publishes from now on.

        What describes the arrays is fetched where it is not here.
        """
        self._state.clear()
        for path in (self._files.settings_path, self._files.manifest_path, *self._array_files(), *self._lists()):
            there = self._bucket.head(self._key(path))
            if there is not None:
                self._state[self._key(path)] = {"etag": there.etag}
        for path in self._array_files():
            if not path.exists():
                self._fetch(path)
        self._write()

    def fetch(self, *, keeps_own: bool = False) -> bool:
        """Makes the folder's files what the objects are; true if the manifest is another one than before.

        Args:
            keeps_own: A writer's file stays that it has not put there yet, or that the bucket has lost (``gone``).

        Raises:
            StoreError: There is no store at the address.
        """
        before = self.manifest_tag
        for path in (self._files.settings_path, *self._array_files(), *self._lists(), self._files.manifest_path):
            if not keeps_own or self._known(path) or not path.exists():
                self._fetch(path, is_kept=keeps_own and path != self._files.same_patient_path)  # that one goes with its lines
        self._write()
        if not self._files.settings_path.exists():
            raise StoreError(
                f"There is no exam store at {self._url}",
                expected=f"an object {self._files.settings_path.name} there",
                remedy="run `mammo ingest` with this address as ingest.store first, or correct store_dir",
            )
        return before != self.manifest_tag

    def _fetch(self, path: Path, *, is_kept: bool = False) -> None:
        key = self._key(path)
        there = self._bucket.head(key)
        if there is None and is_kept:
            return
        if there is None:
            path.unlink(missing_ok=True)
            self._state.pop(key, None)
        elif self._known(path).get("etag") != there.etag or not path.exists():
            content, etag = self._bucket.get(key)
            write_atomically(path, content)
            self._state[key] = {"etag": etag}

    def _after_own(self, path: Path, source: Path | bytes, sent: list[str]) -> str:
        """Puts it once more where what is there is what we sent, and never heard of."""
        with suppress(FileNotFoundError, PutLost):
            content, etag = self._bucket.get(self._key(path))
            found = hashlib.sha256(content).hexdigest()
            if found == sent[-1]:
                return etag
            if found in sent:
                return self._bucket.put(self._key(path), source, instead_of=etag)
        raise self._lost(path)

    def _lost(self, path: Path) -> StoreError:
        """Why a put on a condition came to nothing: what it was to replace is gone, or another one."""
        if self._bucket.head(self._key(path)) is None:
            return StoreError(
                f"{path.name} of the exam store is gone from {self._url}; nothing was published",
                expected="what this workspace has put there",
                got="no such object" if self.is_store() else "no exam store at all",
                remedy="see that server and bucket are the right ones; if it is lost, `mammo scrub --repair` puts it there",
            )
        return StoreError(
            f"Another workspace publishes at {self._url}; nothing of this one was published",
            expected=f"{path.name} there as this workspace has seen it last",
            got="another one",
            remedy="name another prefix; if this workspace alone is to write there, `mammo restore` its newest backup",
        )

    def _array_files(self) -> Iterator[Path]:
        for folder in (self._files.pixels_dir, *(self._files.pixels_dir / name for name in (PIXELS, LESION_MASK))):
            yield folder / "zarr.json"

    def _lists(self) -> tuple[Path, ...]:
        return self._files.same_patient_path, self._files.former_patients_path

    def _key(self, path: Path) -> str:
        return path.relative_to(self._files.root).as_posix()

    def _known(self, path: Path) -> dict[str, Any]:
        return self._state.get(self._key(path), {})

    def _note(self, key: str, known: dict[str, Any] | None) -> None:
        self._state.pop(key, None)
        if known is not None:
            self._state[key] = known
        self._write()

    def _write(self) -> None:
        write_atomically(self._files.objects_path, json.dumps(self._state, indent=1).encode())


def _sha256(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while part := file.read(_CHUNK_BYTES):
            digest.update(part)
    return digest.hexdigest()
