"""The page of the watching."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from schemas.reports.life.watching import ChartAlarm, OfSoftware, WatchedChart, WatchedDevice, WatchReport
from tasks.adapters.lifecycle.watching.device_streams import MEASURES, RATES
from tasks.adapters.pages.life.watch_page import write_watch_page

EVERY = tuple(range(1001, 1241))


def chart(name: str, place: int, *, has_alarm: bool = False) -> WatchedChart:
    """A chart whose numbers tell it from the others."""
    grown = tuple((30.0 if has_alarm else 9.0 + place) * number / 240 for number in range(1, 241))
    alarm = ChartAlarm(
        is_upward=True, shift=0.61, began_exam=f"E{place}00", began_utc="2026-02-03T04:05:06", told_after=83 + place
    )
    return WatchedChart(
        name=name, is_rate=name in RATES, baseline=0.211 + place / 100, later=0.311 + place / 100, limit=22.5, up=grown,
        down=(0.0,) * 240, at=EVERY, alarm=alarm if has_alarm else None,
    )  # fmt: skip


def software(name: str, first: int) -> OfSoftware:
    """A line of the table; nothing is known of the last measure."""
    means = {measure: 0.1234 + place / 10 for place, measure in enumerate(MEASURES[:-1])}
    return OfSoftware(name=name, first_exam=first, exams=first + 777, means={**means, MEASURES[-1]: None})


def report(tmp_path: Path) -> WatchReport:
    """A quiet device, one with alarms, one with too few exams."""
    charts = tuple(chart(name, place, has_alarm=place < 2) for place, name in enumerate(MEASURES))
    quiet = tuple(chart(name, place) for place, name in enumerate(MEASURES))
    return WatchReport(
        created_utc="2026-03-04", model_sha256="ab" * 32, since="2026-01-02", baseline_exams=1000, clock_went_back=3,
        page_path=tmp_path / "devices.html",
        devices=(
            WatchedDevice(name="ACME Quiet", exams=1240, needed=0, softwares=(software("1.0", 1),), charts=quiet),
            WatchedDevice(
                name="ACME <b>One D01", institution="N77", exams=1241, needed=0,
                softwares=(software("1.0", 1), software("2.0", 1100)), charts=charts,
            ),
            WatchedDevice(name="ACME Few", exams=12, needed=989, softwares=(software("9", 1),)),
        ),
    )  # fmt: skip


def written(tmp_path: Path, made: WatchReport | None = None) -> str:
    """The page."""
    path = tmp_path / "devices.html"
    write_watch_page(made or report(tmp_path), output_path=path, created=datetime(2026, 3, 4, tzinfo=UTC))
    return path.read_text(encoding="utf-8")


def test_every_number_of_the_report_is_on_the_page(tmp_path: Path) -> None:
    """Means by software, baseline, later, highest sum and limit of each chart, and each alarm with its exam and how late."""
    page = written(tmp_path)
    for text in ("abababababab", "scored since 2026-01-02", "baseline 1,000 exams", "N77", "1,241", "3 exams of the log"):
        assert text in page, text
    for line in ("1,100", "1,877", "989 exams more", "22.3%", "32.3%", "0.423", "not known", "22.5"):
        assert line in page, line
    assert page.count("0.211") == page.count("0.311") == 2 and "22.1%" in page and "32.1%" in page
    for place in range(2):
        assert f"<code>E{place}00</code>, scored 2026-02-03; told after {83 + place} exams" in page
    assert "higher by 0.6 standard deviations" in page and "higher by 61.0 points" in page
    assert page.count("30.0") >= 2 and "13.0" in page  # highest sums
    assert page.count('role="img"') == 2 * len(MEASURES) and "newest software" in page


def test_alarms_come_first_and_foreign_words_are_text(tmp_path: Path) -> None:
    """What a header calls a device is escaped; the device with an alarm stands before the quiet one."""
    page = written(tmp_path)
    assert "<b>One" not in page and page.index("ACME &lt;b&gt;One") < page.index("ACME Quiet")
    assert "1 device of 3 not as it began" in page and "default-src 'none'" in page


def test_nothing_to_watch_is_said(tmp_path: Path) -> None:
    """A workspace that has predicted nothing has a page, too; so has one of quiet devices."""
    made = report(tmp_path)
    assert "Nothing to watch" in written(tmp_path, made.model_copy(update={"devices": ()}))
    assert "No alarm on 1 device" in written(tmp_path, made.model_copy(update={"devices": made.devices[:1]}))


def test_it_is_accessible(tmp_path: Path, accessibility_faults: Callable[[Path], list[str]]) -> None:
    """axe-core finds nothing serious on a device with alarms and one with too few exams."""
    made = report(tmp_path)
    written(tmp_path, made.model_copy(update={"devices": made.devices[1:]}))
    assert accessibility_faults(tmp_path / "devices.html") == []
