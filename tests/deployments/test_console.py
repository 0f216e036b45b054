"""What a command shows while it runs: bars on a terminal, plain lines in a log file."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

PROGRAM = """
import logging
from deployments.console import shown_progress
with shown_progress():
    log = logging.getLogger("tasks.train")
    log.info("looked at [bold]two[/bold] files")
    for done in (0, 1, 2):
        log.info("train: %d of 2 epochs", done, extra={"progress": ("train", done, 2)})
    logging.getLogger("httpx").warning("not ours")
logging.getLogger("tasks.train").info("after the end")
"""


def test_a_log_file_gets_plain_lines() -> None:
    """Not a terminal: one line per record with its time, no bar and no escape code; other libraries stay silent."""
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in said.stderr.splitlines()]
    assert lines[:4] == [
        "looked at [bold]two[/bold] files",
        "train: 0 of 2 epochs",
        "train: 1 of 2 epochs",
        "train: 2 of 2 epochs",
    ]
    assert "\x1b" not in said.stderr and "after the end" not in said.stderr and said.stdout == ""


def test_a_terminal_gets_bars() -> None:
    """On a terminal progress becomes a bar with counts, and other records stay lines, brackets and all."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=terminal, env={**os.environ, "TERM": "xterm"})
    os.close(terminal)
    seen = b""
    while chunk := _read(controller):
        seen += chunk
    os.close(controller)
    assert process.wait() == 0
    text = seen.decode()
    assert "\x1b[" in text and "2/2" in text and "━" in text
    assert "looked at [bold]two[/bold] files" in text and "2 of 2 epochs" not in text


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux reports the closed other end of a terminal as an error
        return b""
