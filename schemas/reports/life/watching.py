"""What watching says of each device: whether its scores, recalls, pictures and views go on as they began."""

from __future__ import annotations

from pydantic import Field

from schemas.reports.report import Report, ReportPath


class ChartAlarm(Report):
    """Where a chart left what it was."""

    is_upward: bool
    shift: float = Field(description="How far: in standard deviations, of a rate in its own unit")
    began_exam: str = Field(description="The exam with which it began, by the chart's estimate")
    began_utc: str = Field(description="When that was scored")
    told_after: int = Field(description="Exams from there to the one that raised the alarm, that one included")


class WatchedChart(Report):
    """One measure of one device, exam by exam behind its baseline."""

    name: str
    is_rate: bool = Field(description="True = a share of exams; else a number of each exam")
    baseline: float = Field(description="Mean, or share, of the exams that the later ones are judged by")
    later: float = Field(description="The same of the exams after them")
    limit: float = Field(description="An alarm is where a sum passes it")
    up: tuple[float, ...] = Field(
        description="The sum that grows with higher values, at some of the exams, the last among them"
    )
    down: tuple[float, ...] = Field(description="The sum that grows with lower values, at the same")
    at: tuple[int, ...] = Field(description="Which exams these are, the device's first exam being 1")
    alarm: ChartAlarm | None = None


class OfSoftware(Report):
    """Exams of one software of a device."""

    name: str
    first_exam: int = Field(description="Its first exam, the device's first being 1")
    exams: int
    means: dict[str, float | None] = Field(description="Mean or share of each measure; None = it is not known of any")


class WatchedDevice(Report):
    """What one model says of one device's exams, in the order in which they were first scored."""

    name: str = Field(description="Manufacturer, model, and the pseudonym of the serial number")
    institution: str = Field("", description="Pseudonym of the institution; several if its exams name several")
    exams: int
    needed: int = Field(description="Exams that are missing before it can be watched; 0 = it is")
    softwares: tuple[OfSoftware, ...] = Field(description="In the order of their first exams")
    charts: tuple[WatchedChart, ...] = Field((), description="Empty = too few exams, or nothing of them is known")

    @property
    def alarms(self) -> tuple[WatchedChart, ...]:
        """Charts with an alarm, the first of them first."""
        found = [chart for chart in self.charts if chart.alarm is not None]
        return tuple(sorted(found, key=lambda chart: chart.alarm.began_utc if chart.alarm else ""))


class WatchReport(Report):
    """What ``watch`` found."""

    created_utc: str
    model_sha256: str = Field(description="The model whose exams are watched: the newest of the log; empty = it says nothing")
    since: str = Field(description="Exams that were scored before this day do not count; empty = all count")
    baseline_exams: int = Field(description="Exams of a device by which its later ones are judged")
    clock_went_back: int = Field(description="Exams whose time is before that of the exam scored before them")
    devices: tuple[WatchedDevice, ...] = Field(description="The one with most exams first")
    page_path: ReportPath | None = None

    @property
    def alarmed(self) -> tuple[WatchedDevice, ...]:
        """Devices of which a chart raised an alarm."""
        return tuple(device for device in self.devices if device.alarms)
