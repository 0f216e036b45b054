"""Printing: a PDF with pages and text, folded parts unfolded; and what is said when no browser prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from schemas.errors import MammoError
from tasks.adapters.pages.pdf_printer import find_browser, print_pdf
from tasks.adapters.pages.render import render_template


def page(folder: Path) -> Path:
    """A page with our style sheet, a folded part and enough text for several sheets."""
    style = render_template("style.css")
    lines = "".join(f"<p>Line {number}</p>" for number in range(120))
    path = folder / "page.html"
    folded = "<details><summary>More</summary><p>Folded words</p></details>"
    path.write_text(f"<!doctype html><title>t</title><style>{style}</style><body>{folded}{lines}", encoding="utf-8")
    return path


def test_pdf_has_pages_and_text(tmp_path: Path) -> None:
    """Every line is text in the PDF, on more than one sheet, and what the page folds away is unfolded."""
    browser = find_browser()
    if browser is None or shutil.which("pdftotext") is None:
        pytest.skip("needs Chromium and pdftotext (Debian packages chromium, poppler-utils)")
    made = print_pdf(page(tmp_path), tmp_path / "page.pdf", browser)
    assert made.read_bytes().startswith(b"%PDF-")
    text = subprocess.run(["pdftotext", made, "-"], capture_output=True, text=True, check=True).stdout
    assert "Line 0\n" in text and "Line 119\n" in text and "Folded words" in text
    assert text.count("\f") > 1  # one at each sheet's end


def test_a_browser_that_prints_nothing_is_said(tmp_path: Path) -> None:
    """A program that ends well but leaves no PDF is an error with a remedy, and no half file stays."""
    with pytest.raises(MammoError, match=r"could not be printed.*report\.pdf: false"):
        print_pdf(page(tmp_path), tmp_path / "page.pdf", Path("/bin/true"))
    assert not (tmp_path / "page.pdf").exists()


def test_a_browser_that_cannot_be_started_is_said(tmp_path: Path) -> None:
    """A program of another machine, found on the path, costs the PDF and not the finished report."""
    browser = tmp_path / "chromium"
    browser.write_bytes(b"\x7fELF of another machine")
    browser.chmod(0o755)
    with pytest.raises(MammoError, match=r"could not be started.*report\.pdf: false"):
        print_pdf(page(tmp_path), tmp_path / "page.pdf", browser)


def test_a_machine_without_browser_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty search path holds no browser."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser() is None
