"""Which failures are worth another try at once: the network's and the disk's, never a wrong config, file or result."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, Final

from schemas.errors import SourceUnavailable

RETRY_DELAYS_S = (5.0, 30.0, 120.0)

_PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EIO,
        errno.EINTR,
        errno.ENOSPC,  # somebody is making room
        errno.EDQUOT,
        errno.ESTALE,  # a network file system that came back
        errno.ETIMEDOUT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOTCONN,
    }
)


def is_transient(error: BaseException | None) -> bool:
    """True if the error, or one that it was raised from, is of a kind that passes by itself."""
    return any(
        isinstance(each, ConnectionError | TimeoutError | SourceUnavailable)
        or (isinstance(each, OSError) and each.errno in _PASSING)
        for each in _chain(error)
    )


def failed_transiently(task: Any, run: Any, state: Any) -> bool:
    """A ``retry_condition_fn``."""
    return is_transient(state.result(raise_on_failure=False) if state.is_failed() else None)


TRIED_AGAIN: Final[dict[str, Any]] = {
    "retries": len(RETRY_DELAYS_S),
    "retry_delay_seconds": list(RETRY_DELAYS_S),
    "retry_condition_fn": failed_transiently,
}
"""Arguments of ``@task`` for a task whose passing failures are tried again."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__
