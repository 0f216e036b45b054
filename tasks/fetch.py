"""Fetch: exams of a PACS into the source folder, before ingest looks into it. The inbox and the ledger know what is here."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from schemas.config.run import RunConfig
from schemas.errors import PeerUnavailable
from tasks.adapters.pacs.fetching import Fetched, fetch
from tasks.artifacts import show_table
from tasks.retries import TRIED_AGAIN


@task(name="fetch-exams", cache_policy=NO_CACHE, persist_result=False, **TRIED_AGAIN)
def fetch_exams(config: RunConfig) -> Fetched:
    """Fetches what ``ingest.source`` names and is not here; what did not come is told, and is asked for by the next run.

    Raises:
        PeerUnavailable: The peer cannot be asked, or nothing came of what is missing and it does not answer any more.
        PeerRefused: It does not accept us.
    """
    done = fetch(config, today=datetime.now(UTC).date())
    rows = [{"what": name.replace("_", " "), "count": count} for name, count in done.counts().items()]
    show_table("fetched", rows, "What the source of exams has, and what of it came")
    # A PACS that answers and cannot send an exam would otherwise keep from ingest what is here, at every run.
    if done.is_away and not done.images_fetched:
        raise PeerUnavailable(
            "Nothing came of what is missing",
            got=done.left_text,
            remedy="the next run asks for the same again",
        )
    return done
