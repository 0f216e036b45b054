"""Exams that lie in a bucket: what is listed, what a run takes, fetches and leaves, and what it says and keeps of keys."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows.ingest import ingest_steps
from mammo_tests.object_store import BUCKET, answers, says, wire_to
from mammo_tests.plain_tasks import PlainSubmit
from schemas.config.ingest import IngestConfig
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, PeerRefused, SourceUnavailable
from tasks.adapters.buckets import bucket as bucket_module
from tasks.adapters.buckets.bucket import Bucket, bucket_at
from tasks.adapters.buckets.exam_object import FIRST_BYTES
from tasks.adapters.gate.source_file import is_left_out
from tasks.adapters.inbox.source_folder import InboxState, source_files
from tasks.adapters.inbox.sources.exam_source import find_sources, source_digests, state_of
from tasks.adapters.inbox.sources.source_bucket import bucket_files, bucket_state, exam_objects, require_bucket
from tasks.adapters.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"k" * 32)
WriteSound = Callable[..., Path]


@pytest.fixture
def bucket(s3: str) -> Bucket:
    """An empty prefix."""
    return bucket_at(f"s3://{BUCKET}/{uuid4().hex}")


@pytest.fixture
def config(bucket: Bucket, tmp_path: Path, make_config: Callable[..., RunConfig]) -> RunConfig:
    """A run whose exams lie in the bucket."""
    changes = {"labels_csv": None, "masks_dir": None, "source": bucket.url, "source_dir": None, "max_failed_fraction": 1.0}
    return make_config(tmp_path / "ws", tmp_path / "none", **{f"ingest.{name}": value for name, value in changes.items()})


def put(bucket: Bucket, write_sound: WriteSound, folder: Path, keys: dict[str, int]) -> None:
    """Sound images under these keys, by their number."""
    for key, number in keys.items():
        bucket.put(key, write_sound(folder / f"{number}.dcm", number))


def test_a_bucket_is_listed_as_a_folder_of_the_same_names_is(bucket: Bucket, tmp_path: Path) -> None:
    """The same ids in the same order; unfinished names, DICOMDIR and empty objects that stand for folders are left out."""
    names = [
        "a/b.dcm",
        "a-b/c",
        "a.dcm",
        "a/.hidden",
        ".trash/x",
        "d.tmp/e",
        "x.partial",
        "DICOMDIR",
        "z/DICOMDIR",
        "é/ 1",
        "b/empty",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"" if name == "b/empty" else b"x")
        bucket.put(name, (tmp_path / name).read_bytes())
    bucket.put("stands-for-a-folder", b"")
    bucket.put("stands-for-a-folder/x", b"x")
    (tmp_path / "stands-for-a-folder").mkdir()
    (tmp_path / "stands-for-a-folder" / "x").write_bytes(b"x")
    here, there = source_files(tmp_path, PSEUDONYMS), bucket_files(bucket.url, PSEUDONYMS)
    assert [file.file_id for file in there.files] == [file.file_id for file in here.files]
    assert len({file.fingerprint for file in there.files}) == 2, "of one content they are alike, and under the key"
    state = bucket_state(bucket.url)
    assert (state.files, state.size_bytes) == (len(there.files), len(there.files) - 1) and state.newest_ns > 0
    assert all(not is_left_out(part) for one, _ in exam_objects(bucket.url) for part in one.key.split("/"))
    assert "é" not in repr(there)


def test_a_rerun_of_settled_objects_fetches_nothing_and_another_put_is_seen(
    s3: str, bucket: Bucket, config: RunConfig, write_sound: WriteSound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Headers cost their first part, images themselves; then one listing and no byte; a changed and a new object come alone.

    The keys' names are in no byte of the workspace and in no log line.
    """
    caplog.set_level(logging.DEBUG)
    put(bucket, write_sound, tmp_path, {"CANARYJANE/1.dcm": 1, "CANARYJANE/2.dcm": 2})
    bucket.put("CANARYJANE/letter.txt", b"Dear CANARYJANE, " * 9000)
    size = sum(one.size_bytes for one, _ in exam_objects(bucket.url) if one.key.endswith("dcm"))
    with wire_to(s3) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        report = ingest_steps(config, PlainSubmit())
        assert (report.images_published, report.files_found, report.files_quarantined) == (2, 3, 1)
        assert wire.sent_bytes < size + 3 * FIRST_BYTES + 40_000
        wire.sent_bytes, wire.seen = 0, []
        assert ingest_steps(config, PlainSubmit()).images_new == 0
        assert all("list-type=2" in line for line in wire.seen) and wire.sent_bytes < 20_000
        put(bucket, write_sound, tmp_path, {"CANARYJANE/2.dcm": 3, "late.dcm": 4})
        wire.seen = []
        replaced = config.model_copy(update={"ingest": config.ingest.model_copy(update={"allow_withdrawals": True})})
        assert ingest_steps(replaced, PlainSubmit()).images_published == 3
        assert sum("list-type=2" not in line and "HTTP" in line and line.startswith("GET") for line in wire.seen) == 4
        pseudonyms = Pseudonyms((tmp_path / "ws" / "pseudonym.key").read_bytes()[:32])
        found = find_sources(config.ingest, [file.file_id for file in bucket_files(bucket.url, pseudonyms).files], pseudonyms)
        assert sorted(file.place for file in found.values())[0] == f"{bucket.url}/CANARYJANE/1.dcm"
        assert len(set(source_digests(config.ingest, found, pseudonyms).values())) == 4
    assert "CANARY" not in caplog.text and "testing" not in config.model_dump_json()
    kept = [path for path in (tmp_path / "ws").rglob("*") if path.is_file()]
    assert kept and not any(b"CANARY" in path.read_bytes() for path in kept)


def test_a_server_that_goes_away_ends_the_run_and_nothing_is_settled(
    s3: str, bucket: Bucket, config: RunConfig, write_sound: WriteSound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away before the listing, away after it, an object closed to us, one deleted meanwhile: told by name; then all come in."""
    monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=0.2))
    put(bucket, write_sound, tmp_path, {f"{number}.dcm": number for number in (1, 2, 3)})
    with wire_to(s3) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        wire.is_cut = True
        with pytest.raises(SourceUnavailable) as told:
            ingest_steps(config, PlainSubmit())
        assert told.value.exit_code == 75
        wire.is_cut, wire.faults = False, [answers("503 Slow Down", times=999, to=b".dcm")]
        with pytest.raises(SourceUnavailable, match="the object store does not answer: 3"):
            ingest_steps(config, PlainSubmit())
        assert sum(".dcm" in line for line in wire.seen) < 12, "asked with patience for one object, and not for each"
        wire.faults = [answers("403 Forbidden", times=1, to=b"1.dcm"), answers("404 Not Found", times=1, to=b"2.dcm")]
        tolerant = config.model_copy(update={"ingest": config.ingest.model_copy(update={"max_deferred_fraction": 1.0})})
        report = ingest_steps(tolerant, PlainSubmit())
        assert (report.images_published, report.deferred_by_reason) == (1, {"EACCES": 1, "ENOENT": 1})
        wire.faults = []
        assert ingest_steps(config, PlainSubmit()).images_published == 3


def test_a_listing_that_lags_takes_nothing_back(
    s3: str, bucket: Bucket, config: RunConfig, write_sound: WriteSound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names an object that is gone: that is asked for again. Then it lacks one that is ingested: nothing is taken back."""
    listing = f"{s3}/{BUCKET}?list-type=2&prefix={bucket.url.rsplit('/', 1)[1]}/"
    put(bucket, write_sound, tmp_path, {"1.dcm": 1})
    before = urllib.request.urlopen(listing).read()
    put(bucket, write_sound, tmp_path, {"2.dcm": 2, "3.dcm": 3})
    with_all = urllib.request.urlopen(listing).read()
    bucket.delete("3.dcm")
    tolerant = config.model_copy(update={"ingest": config.ingest.model_copy(update={"max_deferred_fraction": 1.0})})
    with wire_to(s3) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        wire.faults = [says(with_all, to=b"list-type=2")]
        report = ingest_steps(tolerant, PlainSubmit())
        assert (report.images_published, report.deferred_by_reason) == (2, {"ENOENT": 1})
        wire.faults = [says(before, to=b"list-type=2")]
        late = ingest_steps(tolerant, PlainSubmit())
        assert (late.images_published, late.images_new, late.data_version) == (2, 0, report.data_version)
        wire.faults = []
        put(bucket, write_sound, tmp_path, {"3.dcm": 3})
        assert ingest_steps(config, PlainSubmit()).images_published == 3
    bucket_module.opened.cache_clear()


def test_what_cannot_be_listed_is_said_in_words(s3: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such bucket, no right to list, a key that no client can name: each with what to do, and without the key."""
    assert bucket_state(bucket.url + "/none") == InboxState(0, 0, 0)
    with pytest.raises(ConfigError, match="no such bucket"):
        require_bucket("s3://another-one/x")
    with wire_to(s3) as wire:
        wire.faults = [answers("403 Forbidden", times=9)]
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        with pytest.raises(PeerRefused):
            require_bucket(bucket.url)


@pytest.mark.parametrize("wrong", ["s3://", "s3://me:word@exams/x", "https://exams/x", "s3://exams/x?versionId=1"])
def test_a_config_names_a_bucket_or_a_folder(wrong: str, tmp_path: Path) -> None:
    """An address alone does; with a folder beside it or a password in it the config is refused; read again it is equal."""
    ingest = IngestConfig.model_validate({"source": "s3://exams/x"})
    assert (ingest.bucket_url, ingest.place, ingest.fetched_from) == ("s3://exams/x", "s3://exams/x", None)
    assert IngestConfig.model_validate_json(ingest.model_dump_json()) == ingest
    inside = {"source": "s3://exams/x", "store": "s3://exams/x/store"}
    for content in ({"source": "s3://exams/x", "source_dir": str(tmp_path)}, {"source": wrong}, inside, {}):
        with pytest.raises(ValueError):
            IngestConfig.model_validate(content)
    folder: dict[str, Any] = {"source_dir": tmp_path}
    assert (IngestConfig.model_validate(folder).bucket_url, state_of(IngestConfig.model_validate(folder)).files) == (None, 0)


def test_a_key_that_cannot_be_addressed_is_told_without_it(s3: str, bucket: Bucket) -> None:
    """A key with an empty part: whoever runs ingest learns what is wrong with it, and that it must be renamed."""
    import urllib.request

    with urllib.request.urlopen(urllib.request.Request(f"{s3}/{bucket.url[5:]}/CANARY//x", data=b"x", method="PUT")):
        pass
    with pytest.raises(ConfigError, match="cannot be addressed") as told:
        list(exam_objects(bucket.url))
    assert "CANARY" not in str(told.value)
