"""A bucket on a real server: whole objects, conditional puts, pages, ranges, and what becomes of a bad wire or key."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from mammo_tests.object_store import BUCKET, answers, breaks_off, wire_to
from schemas.errors import ConfigError, PeerRefused, PeerUnavailable
from tasks.adapters.buckets import bucket as bucket_module
from tasks.adapters.buckets.bucket import Bucket, PutLost, bucket_at


@pytest.fixture
def bucket(s3: str) -> Bucket:
    """An empty prefix."""
    return bucket_at(f"s3://{BUCKET}/{uuid4().hex}/")


def test_an_object_comes_back_whole_in_stretches_and_in_parts(bucket: Bucket, tmp_path: Path) -> None:
    """What was put from a file comes back, as a whole, from the middle, from its end and in parts."""
    content = bytes(range(256)) * 40_000
    (tmp_path / "file").write_bytes(content)
    etag = bucket.put("a/b", tmp_path / "file")

    assert bucket.get("a/b") == (content, etag)
    assert bucket.get("a/b", start=1000, length=24)[0] == content[1000:1024]
    assert bucket.get("a/b", start=-20)[0] == content[-20:]
    assert bucket.get("a/b", start=len(content) - 3)[0] == content[-3:]
    assert b"".join(bucket.parts("a/b", bytes_at_once=2**20)) == content
    seen = bucket.head("a/b")
    assert seen is not None and (seen.size_bytes, seen.etag) == (len(content), etag)


def test_of_two_that_put_at_once_the_later_one_is_told(bucket: Bucket) -> None:
    """A put that is conditional on what was seen loses where another came between, and changes nothing."""
    first = bucket.put("m", b"1", is_new=True)
    with pytest.raises(PutLost):
        bucket.put("m", b"2", is_new=True)
    second = bucket.put("m", b"2", instead_of=first)
    with pytest.raises(PutLost):
        bucket.put("m", b"3", instead_of=first)
    with pytest.raises(PutLost):
        bucket.get("m", if_match=first)
    assert bucket.get("m", if_match=second)[0] == b"2"


def test_a_listing_goes_over_all_pages_in_the_order_of_keys(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """More keys than we take at once: none is missing or doubled, and a listing goes on after a key."""
    monkeypatch.setattr(bucket_module, "LISTED_AT_ONCE", 4)
    keys = [f"k/{number:05}" for number in range(11)]
    for key in keys:
        bucket.put(key, b"")
    assert [one.key for one in bucket.listed("k/")] == keys
    assert [one.key for one in bucket.listed("k/", after=keys[4])] == keys[5:]
    bucket.delete(*keys[:10])
    assert [one.key for one in bucket.listed()] == keys[10:]


def test_what_is_not_there_is_said_so(bucket: Bucket) -> None:
    """An object that is not there is no trouble of the server."""
    assert bucket.head("none") is None
    with pytest.raises(FileNotFoundError):
        bucket.get("none")
    with pytest.raises(FileNotFoundError):
        list(bucket.parts("none"))
    bucket.delete("none")
    with pytest.raises(ConfigError, match="no such bucket"):
        bucket_at("s3://another-one").put("x", b"")


def test_an_overloaded_server_and_a_connection_that_breaks_off_are_tried_again(
    s3: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two answers 503, a closed connection and a 500: the object is stored, and read, all the same."""
    with wire_to(s3) as wire:
        wire.faults = [answers("503 Slow Down", times=2), breaks_off(times=1)]
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        bucket.put("x", b"content")
        assert len(wire.seen) == 4
        wire.faults = [answers("500 Internal Server Error", times=1)]
        assert bucket.get("x")[0] == b"content"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up at once."""
    monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=0.2))


@pytest.mark.usefixtures("impatient")
def test_an_object_one_part_of_which_fails_is_what_it_was_before(
    s3: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A large file goes up in parts: one that never gets through leaves the former object, one that is sent again no trace."""
    (tmp_path / "former").write_bytes(b"former")
    former = bucket.put("large", tmp_path / "former")
    (tmp_path / "file").write_bytes(bytes(range(256)) * 50_000)
    with wire_to(s3) as wire:
        wire.faults = [answers("503 Slow Down", times=10**6, to=b"partNumber=2")]
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        with pytest.raises(PeerUnavailable):
            bucket.put("large", tmp_path / "file")
        assert any("partNumber=2" in line for line in wire.seen)
        assert bucket.get("large") == (b"former", former) and [one.key for one in bucket.listed()] == ["large"]
        monkeypatch.setattr(bucket_module, "PATIENCE", timedelta(seconds=60))
        bucket_module.opened.cache_clear()
        wire.faults = [answers("503 Slow Down", times=1, to=b"partNumber=2"), breaks_off(times=1, to=b"partNumber=1")]
        bucket.put("large", tmp_path / "file")
        assert bucket.get("large")[0] == (tmp_path / "file").read_bytes()
    bucket_module.opened.cache_clear()


@pytest.mark.usefixtures("impatient")
def test_a_server_that_stays_away_is_unavailable_in_words_without_key_or_address(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the error learns what to look at, and nobody learns a name from it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket_module.opened.cache_clear()
    with pytest.raises(PeerUnavailable) as told:
        bucket.get("CANARYKEY")
    assert "CANARYKEY" not in str(told.value) and "127.0.0.1" not in str(told.value)
    assert told.value.__cause__ is None and told.value.__context__ is None


@pytest.mark.usefixtures("impatient")
def test_who_is_not_let_in_is_told_and_asks_no_more(s3: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is no overload: to ask again would change nothing."""
    with wire_to(s3) as wire:
        wire.faults = [answers("403 Forbidden", times=99)]
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        with pytest.raises(PeerRefused):
            bucket.put("x", b"1")
        assert len(wire.seen) == 1


def test_keys_come_from_the_profile_where_the_environment_has_none(
    s3: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile of the shared credentials file is who we are, as it is written there."""
    (tmp_path / "credentials").write_text("[site]\naws_access_key_id = one%two\naws_secret_access_key = three\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "site")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with wire_to(s3) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
        bucket_module.opened.cache_clear()
        bucket.put("x", b"1")
        assert b"Credential=one%two/" in wire.heads[0]


@pytest.mark.parametrize("wrong", ["s3://", "exams/x", "https://exams/x", "s3://user:word@exams/x", "s3://exams/x?versionId=1"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    """An address with a password in it is not repeated."""
    with pytest.raises(ConfigError) as told:
        bucket_at(wrong)
    assert "word" not in str(told.value).replace("password", "")
