"""A bucket that exams lie in: which objects it holds, page by page. The folder's sister: ``inbox/source_folder.py``.

An object is there as a whole or not at all, so nothing is waited for, and nobody writes one while it is read: another put makes
another object, with another entity tag. What has a name for unfinished files is left out all the same: programs that mount a
bucket as a folder write such names, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tasks.adapters.buckets.exam_object import ExamObject
from tasks.adapters.gate.source_file import SourceFile, is_left_out
from tasks.adapters.inbox.source_folder import InboxState, Listing
from tasks.adapters.pseudonyms import Pseudonyms


def bucket_files(url: str, pseudonyms: Pseudonyms) -> Listing:
    """Every object below the prefix, in the order that files of a folder have.

    Raises:
        PeerUnavailable: It cannot be listed now.
        PeerRefused: It does not let us in.
        ConfigError: There is no such bucket, or the environment or a key cannot be used.
    """
    found, last, is_in_order = list[SourceFile](), "", True
    for one, _ in exam_objects(url):
        found.append(_source_file(one, pseudonyms))
        in_parts = one.key.replace("/", "\0")  # the order of paths is that of their parts; a bucket's is nearly that
        is_in_order &= last <= in_parts
        last = in_parts
    if not is_in_order:
        found.sort(key=lambda file: file.path)
    return Listing(files=tuple(found), unreadable=Counter())


def bucket_state(url: str) -> InboxState:
    """What a bucket holds, in three numbers; raises as ``bucket_files``."""
    files, size_bytes, newest_ns = 0, 0, 0
    for one, modified_ns in exam_objects(url):
        files, size_bytes, newest_ns = files + 1, size_bytes + one.size_bytes, max(newest_ns, modified_ns)
    return InboxState(files=files, size_bytes=size_bytes, newest_ns=newest_ns)


def require_bucket(url: str) -> None:
    """Asks whether the bucket can be listed, by its first page; raises as ``bucket_files``."""
    next(_listed(url), None)


def exam_objects(url: str) -> Iterator[tuple[ExamObject, int]]:
    """What may be an exam's file, and when it was put (ns), page by page: the listing is never in memory as a whole.

    Left out, as in a folder: names for unfinished files, DICOMDIR; and the empty objects that stand for folders.
    """
    empty: tuple[ExamObject, int] | None = None  # held back until the next key says whether it stands for a folder
    for one, modified_ns in _listed(url):
        if empty is not None and not one.key.startswith(f"{empty[0].key}/"):
            yield empty
        empty = None
        if any(is_left_out(part) for part in one.key.split("/")):
            continue
        if one.size_bytes:
            yield one, modified_ns
        else:
            empty = one, modified_ns
    if empty is not None:
        yield empty


def _listed(url: str) -> Iterator[tuple[ExamObject, int]]:
    from tasks.adapters.buckets.bucket import bucket_at  # late: an extra, of which a folder of files knows nothing

    bucket = bucket_at(url)
    for one in bucket.listed():
        yield ExamObject(bucket.url, one.key, one.size_bytes, one.etag), int(one.modified.timestamp() * 1e9)


def _source_file(found: ExamObject, pseudonyms: Pseudonyms) -> SourceFile:
    # Under the key: a server may make an entity tag of the content, and whoever has the file could look for its line.
    version = pseudonyms.source_digest(found.etag)[:32]
    return SourceFile(file_id=pseudonyms.file_id(found.key), lies_at=found, fingerprint=f"{found.size_bytes}-{version}")
