"""Pages as PDF, printed by headless Chromium: the page's own print style sheet decides how it looks."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from schemas.errors import MammoError
from tasks.adapters.workspace import write_atomically

logger = logging.getLogger(__name__)

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S: Final = 180.0


def find_browser() -> Path | None:
    """The first browser on the search path that can print; None if there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return None if found is None else Path(found)


def print_pdf(page: Path, output_path: Path, browser: Path) -> Path:
    """Prints a page of ours; it loads nothing, so the browser needs no network and gets none.

    Args:
        page: An HTML file.
        output_path: Where the PDF goes; replaced atomically.
        browser: Chromium or Chrome.

    Returns:
        ``output_path``.

    Raises:
        MammoError: The browser cannot be started, made no PDF, or took longer than ``TIMEOUT_S``.
        OSError: The PDF cannot be written.
    """
    # Chromium refuses to run as root with its sandbox; the page is ours and its policy lets nothing foreign run.
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="mammo-pdf-") as folder:
        made = Path(folder) / "page.pdf"
        command = [
            str(browser), "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-pdf-header-footer",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}/profile", *sandbox, f"--print-to-pdf={made}",
            page.resolve().as_uri(),
        ]  # fmt: skip
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as late:
            raise _no_pdf(browser, f"nothing after {TIMEOUT_S:.0f} s") from late
        except OSError as refused:  # not allowed to run, of another machine, or no memory for a process
            raise _no_pdf(browser, f"the browser could not be started: {refused.strerror}") from refused
        if ended.returncode or not made.exists():
            raise _no_pdf(browser, f"exit code {ended.returncode}")
        content = made.read_bytes()
    write_atomically(output_path, content)
    logger.info("PDF written: %d bytes", len(content))
    return output_path


def _no_pdf(browser: Path, got: str) -> MammoError:
    return MammoError(
        "The report could not be printed as PDF",
        expected=f"{browser.name} prints the page",
        got=got,
        remedy="open report.html in a browser and print it, or set report.pdf: false",
    )
