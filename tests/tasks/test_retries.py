"""Retries: the network and the disk get another try; a wrong file, config or result does not."""

from __future__ import annotations

import errno

import pytest
from prefect import flow, task

from schemas.errors import StoreError
from tasks.retries import failed_transiently, is_transient


def _from(cause: BaseException) -> StoreError:
    error = StoreError("Shards could not be written")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full"), OSError(errno.ESTALE, "stale"), ConnectionResetError(), TimeoutError()],
    ids=repr,
)
def test_what_passes_by_itself_is_tried_again(error: Exception) -> None:
    """Also behind an error of ours that was raised from it."""
    assert is_transient(error) and is_transient(_from(error)) and is_transient(_from(_from(error)))


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), FileNotFoundError(errno.ENOENT, "gone"), PermissionError(errno.EACCES, "no"), StoreError("x"), None],
)
def test_what_stays_wrong_is_not(error: Exception | None) -> None:
    """The second try would fail like the first."""
    assert not is_transient(error)
    assert error is None or not is_transient(_from(error))


def test_prefect_retries_only_what_is_transient(prefect_api: str) -> None:
    """Counted on the real engine: three tries of the one, one of the other."""
    assert prefect_api
    tries: list[str] = []

    def attempt(kind: str) -> None:
        tries.append(kind)
        raise _from(OSError(errno.EIO if kind == "passing" else errno.ENOENT, kind))

    tried = task(attempt, retries=2, retry_delay_seconds=0, retry_condition_fn=failed_transiently, persist_result=False)

    @flow
    def both() -> None:
        for kind in ("passing", "lasting"):
            tried(kind, return_state=True)
        return

    both(return_state=True)
    assert (tries.count("passing"), tries.count("lasting")) == (3, 1)
