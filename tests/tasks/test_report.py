"""The report's PDF: made where a browser is, and where none is or it fails the run goes on and says so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tasks import report


def test_no_browser_is_a_warning_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a machine without Chromium the page is the report; how to get a PDF is in the log."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert report.pdf_of(tmp_path / "report.html") is None
    assert "no report.pdf: there is no Chromium or Chrome on this machine" in caplog.text


def test_a_browser_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A program of that name that prints nothing does not lose the run."""
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with caplog.at_level(logging.WARNING):
        assert report.pdf_of(tmp_path / "report.html") is None
    assert "exit code 3" in caplog.text and not (tmp_path / "report.pdf").exists()
