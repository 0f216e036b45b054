"""Trainings in this process, for tests where it is not the point that each has one of its own, which costs two seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from gmic_model.learning.processes import ALONE
from tasks.adapters.training.process_main import serve
from tasks.adapters.training.request import TrainingRequest

_TURN = threading.Lock()
"""Of two trainings that are asked for at a time one waits: what one says would else come to the other's listener too."""


def _train_here(request: TrainingRequest, on_message: Callable[[Mapping[str, Any]], None], *, gpu: int | None = None) -> None:
    def listen(message: Mapping[str, Any]) -> None:
        if message["kind"] == "warning":
            logging.getLogger(__name__).warning("%s", message["text"])
        else:
            on_message(message)

    with _TURN, pytest.MonkeyPatch.context() as patched:
        patched.setattr("tasks.adapters.training.process_main.say", listen)
        serve(request, ALONE)


@contextmanager
def trained_here() -> Iterator[None]:
    """Inside, ``train`` and a search's forecast and trials train here; a GPU that they are given is not looked at."""
    with pytest.MonkeyPatch.context() as patched:
        for caller in ("tasks.train", "tasks.search", "tasks.adapters.training.search_study"):
            patched.setattr(f"{caller}.run_training", _train_here)
        yield
