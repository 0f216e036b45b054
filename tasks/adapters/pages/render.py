"""The templates of pages and figures. The only home of jinja2: every value is escaped, a missing one is an error."""

from __future__ import annotations

import base64
import functools
import hashlib
from datetime import UTC
from pathlib import Path

import jinja2

from schemas.exam import Finding
from schemas.reports.report import Interval

LATERALITY = {"R": "Right", "L": "Left"}
PAGE_FINDINGS = (Finding.MALIGNANT, Finding.BENIGN)
"""The order on a page: what matters most comes first."""


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
        return f"{interval.value:.3f} (interval not defined: too few patients)"
    return f"{interval.value:.3f} ({interval.low:.3f}–{interval.high:.3f})"
