"""Where a run's exams lie, by its config: a folder, or a bucket. Who lists or looks for files asks here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress

from schemas.config.ingest import IngestConfig
from schemas.errors import FileDeferred, GateRejection
from tasks.adapters.gate.opening import open_exam
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.inbox.source_folder import InboxState, Listing, inbox_state, source_files
from tasks.adapters.inbox.sources.source_bucket import bucket_files, bucket_state
from tasks.adapters.pseudonyms import Pseudonyms


def listing_of(ingest: IngestConfig, pseudonyms: Pseudonyms) -> Listing:
    """Every file of the source, in the order of paths.

    Raises:
        PeerUnavailable, PeerRefused, ConfigError: Of a bucket: it cannot be listed.
    """
    if ingest.bucket_url is not None:
        return bucket_files(ingest.bucket_url, pseudonyms)
    return source_files(ingest.source_dir, pseudonyms)


def state_of(ingest: IngestConfig) -> InboxState:
    """What the source holds, in three numbers; raises as ``listing_of``."""
    return inbox_state(ingest.source_dir) if ingest.bucket_url is None else bucket_state(ingest.bucket_url)


def find_sources(ingest: IngestConfig, file_ids: Iterable[str], pseudonyms: Pseudonyms) -> dict[str, SourceFile]:
    """The files of a source that pseudonyms stand for; ids of files that are gone are left out.

    A pseudonym is a keyed digest of a path, so the source is listed and every path is digested. Paths may spell names: they are
    for the terminal of whoever asks, never for a log, a page or the ledger.

    Raises:
        PeerUnavailable, PeerRefused, ConfigError: Of a bucket: it cannot be listed.
    """
    wanted = set(file_ids)
    return {file.file_id: file for file in listing_of(ingest, pseudonyms).files if file.file_id in wanted} if wanted else {}


def source_digests(ingest: IngestConfig, file_ids: Iterable[str], pseudonyms: Pseudonyms) -> dict[str, str]:
    """Keyed digests of files of a source, by pseudonym; files that are gone, or cannot be read now, are left out."""
    digests = {}
    for file_id, found in find_sources(ingest, file_ids, pseudonyms).items():
        with suppress(OSError, GateRejection, FileDeferred):
            descriptor = open_exam(found.path, ingest.source_dir, found.stored)
            with os.fdopen(descriptor, "rb") as file:
                digests[file_id] = pseudonyms.source_digest(hashlib.file_digest(file, "sha256").hexdigest())
    return digests
