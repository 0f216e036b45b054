"""Objects below a prefix of a bucket, on any server that speaks S3. The only module that imports obstore.

Where the server is and who we are come from the environment, as every S3 client reads it: ``AWS_ENDPOINT_URL`` (or
``AWS_ENDPOINT_URL_S3``), ``AWS_REGION``, ``AWS_ACCESS_KEY_ID`` with ``AWS_SECRET_ACCESS_KEY``, a profile of
``~/.aws/credentials``, a web identity, or the machine's own role. None of them is in a config, a log or an error.

An object is whole or not there: a put that breaks off leaves what was there before. Two that put at once are told apart by the
object's entity tag (``If-Match``, ``If-None-Match``): the later one loses, and is told.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from schemas.errors import ConfigError, PeerRefused, PeerUnavailable, extra_from
from schemas.layout import BUCKET_SCHEME

try:
    import obstore
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        InvalidPathError,
        NotModifiedError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )
    from obstore.store import S3Store
except ImportError as missing:  # who asks for a bucket imports this module, and nobody else
    raise ConfigError(
        "The client of object stores is not installed",
        expected="the extra s3",
        remedy=extra_from("s3"),
    ) from missing

if TYPE_CHECKING:
    from obstore import GetOptions

T = TypeVar("T")

PATIENCE: Final = timedelta(seconds=60)
"""How long a request is tried again, with back-off, where the server is away, overloaded or breaks off."""
_LONGEST_REQUEST: Final = timedelta(minutes=10)
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
LISTED_AT_ONCE: Final = 1000
"""Objects of a listing that are in memory at a time."""


class PutLost(Exception):
    """A conditional put came too late: the object is another one by now, or is there already."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a server says of an object.

    Attributes:
        key: Below the bucket's prefix.
        etag: Changes when the content does.
    """

    key: str
    size_bytes: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Bucket:
    """The objects below ``s3://bucket/prefix``. Cheap to make and to pickle; connects where it is first asked.

    Every method raises PeerUnavailable where the server cannot be reached, is overloaded or breaks off, PeerRefused where it
    does not accept us, and ConfigError where the address or the settings of the environment are wrong.
    """

    url: str

    def get(self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None) -> tuple[bytes, str]:
        """Content and entity tag of an object, or of a stretch of its bytes.

        Args:
            key: Below the prefix.
            if_match: The object must still have this entity tag.
            start: First byte of the stretch; negative = so many bytes from the end, and to the end.
            length: Of the stretch; None = to the end.

        Raises:
            FileNotFoundError: There is no such object.
            PutLost: It has another entity tag.
        """
        options: dict[str, Any] = {} if if_match is None else {"if_match": if_match}
        if start < 0:
            options["range"] = {"suffix": -start}
        elif length is not None:
            options["range"] = (start, start + length)
        elif start:
            options["range"] = {"offset": start}

        def got() -> tuple[bytes, str]:
            found = obstore.get(self._client, key, options=cast("GetOptions", options))
            return bytes(found.bytes()), _same(found.meta, if_match)

        return self._asked(got)

    def parts(self, key: str, *, if_match: str | None = None, bytes_at_once: int = 2**22) -> Iterator[memoryview]:
        """The content of an object, part by part: it is never in memory as a whole.

        Raises:
            FileNotFoundError: There is no such object.
            PutLost: It has another entity tag than ``if_match``.
        """
        options: dict[str, Any] = {} if if_match is None else {"if_match": if_match}

        def opened() -> Iterator[Any]:
            found = obstore.get(self._client, key, options=cast("GetOptions", options))
            _same(found.meta, if_match)
            return iter(found.stream(min_chunk_size=bytes_at_once))

        stream = self._asked(opened)
        while (part := self._asked(lambda: next(stream, None))) is not None:
            yield memoryview(part)

    def put(self, key: str, content: bytes | Path, *, instead_of: str | None = None, is_new: bool = False) -> str:
        """Stores an object whole, and returns its entity tag.

        Args:
            key: Below the prefix.
            content: Bytes, or a file, which goes up in parts where it is large.
            instead_of: Entity tag of what it replaces; without it, it replaces whatever is there.
            is_new: Nothing may be there.

        Raises:
            PutLost: Something else is there.
            ConfigError: There is no such bucket.
        """
        mode: Any = "create" if is_new else "overwrite" if instead_of is None else {"e_tag": instead_of}
        in_parts = None if mode == "overwrite" else False  # only a put in one piece can have a condition
        try:
            done = self._asked(lambda: obstore.put(self._client, key, content, mode=mode, use_multipart=in_parts))
            return str(done["e_tag"])
        except FileNotFoundError:
            if instead_of is not None:  # what it was to replace is gone
                raise
        raise self._unanswered(_NO_BUCKET)

    def head(self, key: str) -> StoredObject | None:
        """What the server says of an object; None = it is not there."""
        try:
            return self._asked(lambda: _seen(obstore.head(self._client, key)))
        except FileNotFoundError:
            return None

    def listed(self, below: str = "", *, after: str | None = None) -> Iterator[StoredObject]:
        """Every object below a prefix, in the order of keys, page by page: a million take the memory of a thousand.

        Args:
            below: Ends with a slash, or is empty: the whole.
            after: Key after which the listing begins.
        """
        pages = self._asked(lambda: iter(obstore.list(self._client, below or None, offset=after, chunk_size=LISTED_AT_ONCE)))
        while (page := self._asked(lambda: next(pages, None))) is not None:
            yield from map(_seen, page)

    def delete(self, *keys: str) -> None:
        """Deletes objects; those that are not there are no error."""
        self._asked(lambda: obstore.delete(self._client, list(keys)))

    @property
    def _client(self) -> S3Store:
        return opened(self.url, os.getpid())

    def _asked(self, call: Callable[[], T]) -> T:
        """What the client answers; its errors in words, for its own quote addresses, and keys may name somebody."""
        try:
            return call()
        except (PreconditionError, AlreadyExistsError, NotModifiedError):
            problem: Exception = PutLost()
        except FileNotFoundError:
            problem = FileNotFoundError("no such object")
        except PutLost:
            problem = PutLost()
        except InvalidPathError:
            problem = ConfigError(
                f"A key below {self.url} cannot be addressed",
                expected="keys whose parts between slashes are not empty, '.' or '..'",
                remedy="rename such an object, or name a longer prefix that has none",
            )
        except (PermissionDeniedError, UnauthenticatedError) as refused:
            problem = self._refused(type(refused).__name__)
        except (BaseError, OSError, ValueError) as trouble:
            problem = self._trouble(trouble)
        raise problem  # outside the except blocks, so that it carries nothing of what the client says

    def _refused(self, got: str) -> PeerRefused:
        return PeerRefused(
            f"The object store of {self.url} does not let us in",
            got=got,
            remedy="see that the credentials of the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, ...) may do this there",
        )

    def _trouble(self, trouble: Exception) -> Exception:
        """A kind of trouble, without what the client quotes; a listing's has no class of its own, but says a status."""
        text = str(trouble)
        found = _STATUS.search(text)
        status = "" if found is None else found[1]
        if status in ("401", "403"):
            return self._refused(status)
        said = status or next((words for sign, words in _SIGNS.items() if sign in text), type(trouble).__name__)
        return self._unanswered(_NO_BUCKET if status == "404" else said)

    def _unanswered(self, said: str) -> ConfigError | PeerUnavailable:
        return (ConfigError if said == _NO_BUCKET else PeerUnavailable)(
            f"The object store of {self.url} cannot be asked",
            got=said,
            remedy="see that it is there, and AWS_ENDPOINT_URL and AWS_REGION are right, then run again; nothing is lost",
        )


_NO_BUCKET: Final = "no such bucket"
_STATUS: Final = re.compile(r"non-2xx status code: (\d{3})")
_SIGNS: Final = {
    "timed out": "no answer in time",
    "Received redirect": "another region or address",
    "error sending request": "no connection, or one that broke off",
}
"""What the client's errors say, besides addresses."""


def bucket_at(url: str) -> Bucket:
    """The bucket of an address.

    Raises:
        ConfigError: It is none.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            "This is no address in an object store",
            expected="s3://bucket/prefix, without a user and password",
            remedy="name the bucket and the prefix; who we are comes from the environment",
        )
    return Bucket(f"{BUCKET_SCHEME}{parts.netloc}/{parts.path.strip('/')}".rstrip("/"))


@lru_cache(maxsize=16)
def opened(url: str, pid: int) -> S3Store:
    """The client of an address, one a process: its threads do not survive a fork."""
    parts = urlsplit(url)
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    settings: dict[str, Any] = {} if endpoint is None else {"endpoint": endpoint}
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        settings.update(_of_profile())
    try:
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={"allow_http": endpoint is not None and endpoint.startswith("http://"), "timeout": _LONGEST_REQUEST},
            retry_config={"retry_timeout": PATIENCE, "max_retries": 8},
            **settings,
        )
    except (BaseError, ValueError, TypeError) as wrong:
        name = type(wrong).__name__
    raise ConfigError(
        f"The object store of {url} cannot be addressed",
        got=name,
        remedy="see what AWS_ENDPOINT_URL, AWS_REGION and the other variables of the environment say",
    )


def _of_profile() -> dict[str, str]:
    """Keys of the profile that the environment names, from the file that every S3 client reads; nothing where there is none."""
    path = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials")
    found = configparser.ConfigParser(interpolation=None)
    try:
        found.read(path)
        profile = dict(found[os.environ.get("AWS_PROFILE") or "default"])
    except (KeyError, OSError, configparser.Error):
        return {}
    names = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key", "aws_session_token": "token"}
    return {ours: profile[theirs] for theirs, ours in names.items() if theirs in profile}


def _same(meta: Any, wanted: str | None) -> str:
    """The entity tag of what came; some servers answer without having looked at the one that was asked for."""
    etag = str(meta["e_tag"])
    if wanted not in (None, etag):
        raise PutLost
    return etag


def _seen(meta: Any) -> StoredObject:
    return StoredObject(meta["path"], int(meta["size"]), str(meta["e_tag"]), meta["last_modified"])
