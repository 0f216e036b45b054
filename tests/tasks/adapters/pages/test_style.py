"""The pages' style sheet: what is read off its colours is so, on a light screen and on a dark one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gmic_model.pictures.panel import FINDING_COLORS
from schemas.exam import Finding
from tasks.adapters.pages import render

if TYPE_CHECKING:
    from playwright.sync_api import Page

ON_DARK = re.compile(r"@media [^{]*dark\) \{((?:[^{}]*\{[^{}]*\})*)\s*\}")
STYLE_SHEET = (Path(render.__file__).parent / "templates" / "style.css").read_text("utf-8")
STYLE = STYLE_SHEET.partition("@media print")[0]


def colors(where: str, *, dark: bool) -> dict[str, tuple[int, ...]]:
    """The colours that a selector's rules name, those of a dark screen over the others."""
    rules = ON_DARK.sub("", STYLE) + "".join(ON_DARK.findall(STYLE) if dark else ())
    blocks = [
        block for selectors, block in re.findall(r"([^{}]*)\{([^{}]*)\}", rules) if where in re.split(r"[,\s]+", selectors)
    ]
    named = re.findall(r"--([\w-]+): #([0-9a-f]{6})", "".join(blocks))
    return {name: tuple(bytes.fromhex(value)) for name, value in named}


def luminance(color: tuple[int, ...]) -> float:
    """Relative luminance of WCAG 2."""
    parts = [value / 255 for value in color]
    red, green, blue = (value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("where", [".panel", ".reading"])
@pytest.mark.parametrize("finding", Finding)
def test_beside_pictures_a_finding_has_the_colour_of_its_saliency(finding: Finding, where: str, dark: bool) -> None:
    """Red is malignant and green benign, in the map and in the score beside it; blue are the patches. Its text can be read."""
    page = colors(":root", dark=dark)
    shown, drawn = (page | colors(where, dark=dark))[finding], FINDING_COLORS[finding]
    assert shown.index(max(shown)) == drawn.index(max(drawn))
    for ground in ("ground", "raised"):
        lighter, darker = sorted((luminance(shown), luminance(page[ground])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_a_wide_table_s_caption_is_read_on_a_telephone(open_page: Callable[..., Page], tmp_path: Path) -> None:
    """The table is pushed aside to see its columns; what they mean is on the screen at once, and a row's name leaves room."""
    cells = "<td class='number'>0.123 (0.100-0.200)</td>" * 8
    words = "of each row, with the intervals over patients " * 5
    (tmp_path / "page.html").write_text(
        f"<meta charset='utf-8'><style>{STYLE_SHEET}</style><div class='frame'><div class='scroll'><table class='rates-table'>"
        f"<caption>Rates <small>{words}</small></caption><tbody><tr><th scope='row'>Model, at the specificity of the read on "
        f"the tuning split</th>{cells}</tr></tbody></table></div></div>"
    )
    page = open_page(tmp_path / "page.html", viewport={"width": 390, "height": 800})
    assert page.evaluate("document.querySelector('caption small').getBoundingClientRect().right") <= 390
    assert page.evaluate("document.querySelector('tbody th').getBoundingClientRect().width") < 390 / 2


def test_what_scrolls_is_reached_by_keyboard_and_has_a_name() -> None:
    """How wide a table gets, its content says: that none is too wide on the pages of a test is no reason."""
    templates = sorted((Path(render.__file__).parent / "templates").glob("*.jinja"))
    scrolling = [tag for path in templates for tag in re.findall(r'<\w+ class="scroll[^>]*>', path.read_text("utf-8"))]
    assert len(scrolling) > 30
    assert not [tag for tag in scrolling if not re.search(r'tabindex="0" role="region" aria-label="[^"]', tag)]
