"""The lease of the one writer: it is refused to others, renewed, given back, and taken from one who is gone."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from uuid import uuid4

import pytest

from mammo_tests.object_store import BUCKET
from schemas.errors import StoreBusy
from tasks.adapters.buckets.bucket import bucket_at
from tasks.adapters.store.objects.lease import WRITER, held_lease


@pytest.fixture
def url(s3: str) -> str:
    """An address where nothing is."""
    return f"s3://{BUCKET}/{uuid4().hex}"


def test_one_writer_at_a_time_and_none_is_left(url: str) -> None:
    """A second is refused, told who writes, and leaves nothing; after the first another may."""
    with held_lease(url, purpose="ingest"), pytest.raises(StoreBusy, match="ingest by pid"), held_lease(url, purpose="other"):
        pass
    assert list(bucket_at(url).listed()) == []
    with held_lease(url, purpose="again"):
        assert json.loads(bucket_at(url).get(WRITER)[0])["purpose"] == "again"
    with held_lease("", purpose="a store on disk"):
        pass


def test_who_was_killed_is_waited_for_as_long_as_the_lease_lasts(url: str) -> None:
    """By the server's clock: a lease that is not renewed is refused to others until it has run out."""
    bucket_at(url).put(WRITER, json.dumps({"pid": 1, "host": "gone", "purpose": "ingest"}).encode())
    with pytest.raises(StoreBusy, match="on gone"), held_lease(url, purpose="ingest", lasts=timedelta(minutes=10)):
        pass
    with held_lease(url, purpose="ingest", wait_s=60, lasts=timedelta(seconds=0.5)):
        assert json.loads(bucket_at(url).get(WRITER)[0])["host"] != "gone"


def test_a_lease_is_renewed_and_one_that_was_taken_is_not_given_back(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each renewal is another object; where another writer has taken it, this one says so and leaves that one's alone."""
    bucket = bucket_at(url)
    with held_lease(url, purpose="ingest", lasts=timedelta(seconds=1)):
        while json.loads(bucket.get(WRITER)[0])["renewals"] < 1:
            time.sleep(0.02)
        bucket.put(WRITER, b"{}")
        while "has taken the lease" not in caplog.text:
            time.sleep(0.02)
    assert bucket.get(WRITER)[0] == b"{}"
