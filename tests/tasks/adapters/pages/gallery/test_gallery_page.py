"""The gallery in a browser: how exams hang, what keys and sliders do, how the list sorts, what is said of the unknown."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gmic_model.pictures.hanging import Box, HungView
from schemas.exam import Finding, Laterality, ViewPosition
from schemas.reports.evaluation import CalibrationBin
from schemas.reports.report import Interval
from tasks.adapters.pages.gallery.gallery_page import BreastScore, GalleryExam, GalleryExams, GalleryNote, GalleryView

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = "<script>alert('x')</script>"
NOTE = GalleryNote(model="Weights 0123, data 4567.", confidence="95%", specificity="0.90")
OpenPage = Callable[..., Any]


def view(side: Laterality, position: ViewPosition, **changes: Any) -> GalleryView:
    """A grey block at the chest wall, one salient cell, two patches, one malignant lesion."""
    grey = np.zeros((320, 200), np.uint8)
    grey[40:280, 60:] = 120
    saliency = np.zeros((2, 8, 5), np.uint8)
    saliency[:, 2, 3] = 200
    hung = HungView(
        grey_HW=grey if side is Laterality.RIGHT else np.ascontiguousarray(grey[:, ::-1]),
        saliency_CIJ=saliency,
        window=Box(top=0, left=-10, height=320, width=220),
        patches=(Box(top=60, left=90, height=40, width=40), Box(top=-20, left=20, height=40, width=40)),
        outlines={Finding.MALIGNANT: (((90.0, 60.0), (120.0, 60.0), (120.0, 90.0)),)},
        mm_per_px=0.25 if position is ViewPosition.CC else None,
    )
    given: dict[str, Any] = {
        "image_id": f"I{side}{position}", "laterality": side, "view_position": position, "panel_name": f"I{side}{position}.png",
        "hung": hung, "scores": {Finding.BENIGN: 0.2, Finding.MALIGNANT: 0.7}, "attention_K": np.array([0.75, 0.25]),
    }  # fmt: skip
    return GalleryView(**(given | changes))


def exam(exam_id: str, malignant: float = 0.7, **changes: Any) -> GalleryExam:
    """Three of four views; L MLO is missing."""
    observed = Interval(value=0.4, low=0.2, high=0.6)
    similar = CalibrationBin(
        lowest_score=0.6, highest_score=0.8, breasts=10, positive_breasts=4, mean_score=0.7, observed=observed
    )
    breasts = [
        BreastScore(
            laterality=side, finding=finding, score=score, view_scores=(score - 0.05, score + 0.05), label=label,
            similar=similar if finding is Finding.MALIGNANT else None, verdict="false positive" if label == "absent" else "",
        )
        for side in Laterality
        for finding, score, label in ((Finding.BENIGN, 0.2, "not known"), (Finding.MALIGNANT, malignant, "absent"))
    ]  # fmt: skip
    views = [(Laterality.RIGHT, ViewPosition.CC), (Laterality.LEFT, ViewPosition.CC), (Laterality.RIGHT, ViewPosition.MLO)]
    given = {"views": tuple(view(*one) for one in views), "breasts": tuple(breasts), "warnings": ()}
    return GalleryExam(**({"exam_id": exam_id} | given | changes))


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """A folder with three exams' pages and their list."""
    exams = [exam("Ea", 0.7), exam("Eb", 0.9, warnings=("L CC: gate warning X07",)), exam("Ec", 0.1)]
    gallery = GalleryExams(
        folder=tmp_path / "gallery",
        exam_ids=tuple(one.exam_id for one in exams),
        created=datetime(2026, 3, 4, tzinfo=UTC),
        note=NOTE,
    )
    for one in exams:
        gallery.write_exam(one)
    gallery.write_index(test_exams=5)
    return gallery.folder


def test_right_is_left_of_the_screen_and_chest_walls_meet(gallery: Path, open_page: OpenPage) -> None:
    """CC over MLO; the right breast's picture ends where the left one's begins, in the middle of the screen."""
    page = open_page(gallery / "Ea.html")
    boxes = {image.get_attribute("alt")[:5].strip(" m"): image.bounding_box() for image in page.locator("img.picture").all()}
    assert set(boxes) == {"R CC", "L CC", "R MLO"}
    right, left, below = boxes["R CC"], boxes["L CC"], boxes["R MLO"]
    assert right["x"] + right["width"] == pytest.approx(637, abs=2) and left["x"] == pytest.approx(643, abs=2)  # of 1280
    assert below["y"] >= right["y"] + right["height"] and below["x"] == pytest.approx(right["x"], abs=1)
    assert page.get_by_text("L MLO: not in this exam").is_visible()


@pytest.mark.parametrize("size", [(1280, 800), (1080, 1920), (414, 900)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_all_pictures_are_in_sight_at_once(gallery: Path, open_page: OpenPage, size: tuple[int, int]) -> None:
    """On a screen that is wide, on one that stands upright, on a telephone; a view that came twice needs the place of two."""
    second = view(Laterality.RIGHT, ViewPosition.MLO, image_id="I2", panel_name="I2.png")
    twice = exam("Ea", views=(*exam("Ea").views, second))
    alone = GalleryExams(folder=gallery, exam_ids=("Ea",), created=datetime(2026, 3, 4, tzinfo=UTC), note=NOTE)
    for written in (exam("Ea"), twice):
        alone.write_exam(written)
        page = open_page(gallery / "Ea.html", viewport={"width": size[0], "height": size[1]})
        wide, room = page.locator(".hanging").evaluate("e => [e.scrollWidth, e.clientWidth]")
        assert wide <= room and page.evaluate("document.documentElement.scrollWidth") <= size[0]
        boxes = [picture.bounding_box() for picture in page.locator("img.picture").all()]
        assert len(boxes) == len(written.views)
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= size[0] for box in boxes), boxes


def test_marks_lie_where_they_should(gallery: Path, open_page: OpenPage) -> None:
    """Patch 1 begins at 90/200 of the picture's width; the salient cell is cell 3 of a window that begins 10 px outside."""
    page = open_page(gallery / "Ea.html")
    film = page.locator(".film").first
    picture, patch = film.locator(".picture").bounding_box(), film.locator(".patch").first.bounding_box()
    assert (patch["x"] - picture["x"]) / picture["width"] == pytest.approx(0.45, abs=0.01)
    assert (patch["y"] - picture["y"]) / picture["height"] == pytest.approx(60 / 320, abs=0.01)
    overlay = film.locator(".overlay").first.evaluate("e => [e.style.left, e.style.width, getComputedStyle(e).imageRendering]")
    assert overlay == ["-5%", "110%", "pixelated"]
    assert film.locator(".patch-text").all_text_contents() == ["1: 0.75", "2: 0.25"]


def test_scale_bar_or_spacing_unknown(gallery: Path, open_page: OpenPage) -> None:
    """0.25 mm a pixel, 200 px wide: a bar of 20 mm takes 80 px of 200; without spacing that is said instead."""
    page = open_page(gallery / "Ea.html")
    assert page.locator("[data-bar]").all_text_contents() == ["20 mm", "20 mm", "spacing unknown"]
    assert re.search(r"h80\.0v", page.locator("path.bar").first.get_attribute("d"))


def shown(page: Page) -> dict[str, Any]:
    """What is drawn: overlays, their opacity, patches, masks."""
    state: dict[str, Any] = page.evaluate(
        """() => { const film = document.querySelector('.film');
        const isShown = e => getComputedStyle(e).display !== 'none';
        return {
          overlays: [...film.querySelectorAll('.overlay')].filter(isShown).map(e => e.dataset.overlay),
          opacity: film.querySelector('.overlay').style.opacity,
          patches: isShown(film.querySelector('[data-marks=patches]')),
          masks: isShown(film.querySelector('[data-marks=masks]')),
          text: document.getElementById('opacity-text').textContent } }"""
    )
    return state


def test_keys_do_what_the_page_lists(gallery: Path, open_page: OpenPage) -> None:
    """Every listed key: findings, off and on, opacity, patches, masks, size; and none of them once the box is unticked."""
    page = open_page(gallery / "Ea.html")
    assert shown(page) == {"overlays": ["malignant"], "opacity": "0.6", "patches": True, "masks": True, "text": "60%"}
    listed = page.locator("kbd").all_text_contents()
    assert listed == ["←", "→", "1", "2", "3", "o", "[", "]", "p", "m", "-", "+"]
    for key, changed in (
        ("2", {"overlays": ["benign"]}), ("3", {"overlays": ["benign", "malignant"]}), ("o", {"overlays": []}),
        ("o", {"overlays": ["benign", "malignant"]}), ("1", {"overlays": ["malignant"]}),
        ("]", {"opacity": "0.65", "text": "65%"}), ("[", {"opacity": "0.6", "text": "60%"}),
        ("p", {"patches": False}), ("m", {"masks": False}),
    ):  # fmt: skip
        page.keyboard.press(key)
        now = shown(page)
        assert {name: now[name] for name in changed} == changed, key
    height = page.locator(".film").first.bounding_box()["height"]
    page.keyboard.press("+")
    assert page.locator(".film").first.bounding_box()["height"] == pytest.approx(1.5 * height, rel=0.01)
    page.get_by_label("Keyboard shortcuts").uncheck()
    page.keyboard.press("p")
    assert shown(page)["patches"] is False


def test_slider_sets_the_opacity_by_hand(gallery: Path, open_page: OpenPage) -> None:
    """Moved with the arrow keys it has the focus for, the slider changes the overlay, not the exam."""
    page = open_page(gallery / "Ea.html")
    page.get_by_label("Opacity").focus()
    page.keyboard.press("ArrowRight")
    assert page.url.endswith("Ea.html") and shown(page)["opacity"] == "0.65" and shown(page)["text"] == "65%"


def test_arrows_lead_through_the_exams_and_keep_the_settings(gallery: Path, open_page: OpenPage) -> None:
    """Ea, Eb, Ec and back; benign without patches stays benign without patches; there is nothing before the first."""
    page = open_page(gallery / "Ea.html")
    page.keyboard.press("ArrowLeft")
    assert "/Ea.html" in page.url
    page.keyboard.press("2")
    page.keyboard.press("p")
    for key, name in (("ArrowRight", "Eb"), ("ArrowRight", "Ec"), ("ArrowLeft", "Eb")):
        page.keyboard.press(key)
        page.wait_for_url(f"**/{name}.html*")
    assert shown(page)["overlays"] == ["benign"] and not shown(page)["patches"]
    assert page.locator("h1").text_content() == "Exam Eb" and page.get_by_text("gate warning X07").is_visible()


def test_scores_say_what_their_intervals_are(gallery: Path) -> None:
    """A range over views and what became of similar scores, never an interval of the score itself."""
    text = re.sub(r"\s+", " ", (gallery / "Ea.html").read_text())
    assert "has no sampling interval, and none is made up" in text
    assert "0.650–0.750" in text and "4 of 10 breasts had it: 40% (20%–60%)" in text and "not measured" in text


def test_the_list_sorts_by_any_column(gallery: Path, open_page: OpenPage) -> None:
    """Malignant score falls, then rises; names by letter; the list says how many exams it leaves out and how large it is."""
    page = open_page(gallery / "index.html")

    def order() -> list[str]:
        names: list[str] = page.locator("tbody th").all_text_contents()
        return names

    assert order() == ["Ea", "Eb", "Ec"]
    heading = page.get_by_role("button", name="Malignant score")
    heading.click()
    assert order() == ["Eb", "Ea", "Ec"]
    heading.click()
    assert order() == ["Ec", "Ea", "Eb"]
    assert page.locator("th[aria-sort]").all_text_contents() == ["Malignant score"]
    page.get_by_role("button", name="Warnings").click()
    assert order()[0] == "Eb"
    assert page.get_by_text(re.compile(r"3 of 5 test exams; the limit is explain.exams.*MB on disk")).count() == 1
    page.get_by_text("Eb", exact=True).click()
    assert page.locator("h1").text_content() == "Exam Eb"


def test_pages_work_without_script(gallery: Path, open_page: OpenPage) -> None:
    """Controls that would do nothing are not shown; pictures, malignant saliency, patches and tables are."""
    page = open_page(gallery / "Ea.html", java_script_enabled=False)
    assert page.locator(".picture").count() == 3 and not page.locator(".tools").is_visible()
    assert page.locator("[data-overlay=malignant]").first.is_visible()
    assert not page.locator("[data-overlay=benign]").first.is_visible()
    assert page.get_by_role("link", name="Next exam").get_attribute("href") == "Eb.html"


def test_nothing_from_elsewhere_is_run_or_loaded(tmp_path: Path, open_page: OpenPage) -> None:
    """A warning that is markup is shown as text; a script put into the open page is refused by its policy."""
    gallery = GalleryExams(folder=tmp_path, exam_ids=("Ea",), created=datetime(2026, 3, 4, tzinfo=UTC), note=NOTE)
    page = open_page(gallery.write_exam(exam("Ea", warnings=(HOSTILE,))))
    assert page.get_by_text(HOSTILE).is_visible()
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1'; document.body.append(s) }"
    )
    assert page.evaluate("window.bad") is None


def test_pages_of_an_earlier_choice_are_deleted(gallery: Path) -> None:
    """A new run with other exams leaves no page that the list does not name."""
    GalleryExams(folder=gallery, exam_ids=(), created=datetime(2026, 3, 4, tzinfo=UTC), note=NOTE).clear()
    assert not list(gallery.iterdir())


@pytest.mark.parametrize("name", ["Ea.html", "index.html"])
def test_pages_are_accessible(gallery: Path, name: str, accessibility_faults: Callable[[Path], list[str]]) -> None:
    """axe-core finds nothing serious."""
    assert accessibility_faults(gallery / name) == []
