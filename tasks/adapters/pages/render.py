"""Template to page: one self-contained file, written whole. The only home of jinja2: every value is escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable
from datetime import UTC
from pathlib import Path

import jinja2

from schemas.exam import FINDINGS, NOT_KNOWN, UNKNOWN, Finding
from schemas.reports.report import Interval
from tasks.adapters.scoring.metrics_table import apart, p_text
from tasks.adapters.workspace import write_atomically

PRESENT = "present"
"""A label's word on a page; the others are in ``label_text``."""
LATERALITY = {"R": "Right", "L": "Left"}
_LABELS = {0: "absent", 1: PRESENT}
PAGE_FINDINGS = (Finding.MALIGNANT, Finding.BENIGN)
"""The order on a page: what matters most comes first."""


def write_page(path: Path, template: str, /, *, script: str | None = None, **values: object) -> int:
    """Renders a template into one self-contained file; replaced atomically, so that nobody sees half a page.

    Args:
        path: Where the page goes.
        template: Name of a file of the templates folder.
        script: Name of the page's script in that folder; the template gets its text and its digest for the page's policy.
        values: What the template shows. A value that it names and does not get is an error.

    Returns:
        The page's size in bytes.

    Raises:
        OSError: The page cannot be written.
    """
    if script is not None:
        values |= {"script": script_text(script), "script_digest": script_digest(script)}
    page = render_template(template, **values).encode("utf-8")
    write_atomically(path, page)
    return len(page)


def known_text(text: str | None, *, unknown: str = NOT_KNOWN) -> str:
    """What a page says of a value that may not be known: one word for all pages."""
    return unknown if text is None else text


def page_findings(found: Iterable[str]) -> list[str]:
    """The findings that are there, in the order of a page; unknown ones last."""
    names = set(found)
    return [*(finding for finding in PAGE_FINDINGS if finding in names), *sorted(names - set(FINDINGS))]


def label_text(label: int | None) -> str:
    """A breast's label in words; one that is missing is not known."""
    return known_text(_LABELS.get(UNKNOWN if label is None else label))


def render_template(template: str, /, **context: object) -> str:
    """The template's text with the context's values."""
    return _environment().get_template(template).render(**context)


@functools.cache
def script_text(name: str) -> str:
    """A script of the templates folder, exactly as it stands between its tags: its digest is in the page's policy."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8").strip()


def script_digest(name: str) -> str:
    """The script's source expression for a Content-Security-Policy (CSP level 3): ``sha256-...``."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script_text(name).encode("utf-8")).digest()).decode("ascii")


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda number: f"{number:,}",
        "decimal": lambda value, digits=3: "not defined" if value is None else f"{value:.{digits}f}",
        "percent": lambda value, digits=0: "not defined" if value is None else f"{100.0 * value:.{digits}f}%",
        "interval": _interval_text,
        "p_value": lambda value: "not defined" if value is None else p_text(value, ".4f"),
        "points_beside": lambda value, margin: apart(100.0 * value, (0.0, -100.0 * margin), "+.1f"),
        "side": lambda laterality: LATERALITY.get(laterality, laterality),
        "plural": lambda number, noun: f"{number:,} {noun}{'' if number == 1 else 's'}",
        "plural_length": lambda items, noun: f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}",
        "utc": lambda moment: f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
    }
    return environment


def _interval_text(interval: Interval, undefined: str = "not defined (one class only)") -> str:
    if interval.value is None:
        return undefined
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f} (no interval: too few patients)"
    return f"{interval.value:.3f} ({interval.low:.3f}–{interval.high:.3f})"
