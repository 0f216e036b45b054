"""The watching of devices on simulated streams: how soon a change of software is told, how often quiet devices raise an alarm.

Run as ``python -m benchmarks.operations.bench_watching --streams 100``. Nothing here comes from a mammograph: scores, pixel
statistics and missing views are drawn from distributions (``Site``), and a change of software moves these, as a steeper gamma
and more noise would. What is real is the way from there: lines of a prediction log and a manifest go through the code that
``mammo log watch`` runs.

``--only drawn`` takes the pictures' statistics from phantoms instead: a gamma and noise are drawn into their pixels, both go
through gate and crop as in an ingest, and the streams draw exams from these with replacement. Scores stay a distribution.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.operations.drawn_pictures import drawn_before_and_after
from gmic_model.metrics.clinic.control_chart import BASELINE, rate_chart
from schemas.reports.life.watching import WatchedDevice, WatchReport
from tasks.adapters.lifecycle.watching.device_streams import IMAGE_MEASURES, SCORE, device_streams
from tasks.adapters.lifecycle.watching.watched_devices import watched

DEVICES = 4
TARGET_RECALL = 0.10
FLOAT = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What exams are like.

    Attributes:
        logit_shift: By how much a change moves scores, in standard deviations of their logits.
        gamma: Exponent that a change puts on pixel means, as shares of white.
        noise: What it adds to the background's median, in values of 4,095.
    """

    logit_shift: float = 0.5
    gamma: float = 0.9
    noise: float = 4.0

    def exams(self, count: int, is_changed_E: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
        """Malignant score, pixel statistics and number of views of each exam."""
        logit_E = rng.normal(-2.5, 1.2, count) + np.where(is_changed_E, 1.2 * self.logit_shift, 0.0)
        share_E = np.clip(rng.normal(0.28, 0.05, count), 0.05, 0.9)
        share_E = np.where(is_changed_E, share_E**self.gamma, share_E)
        background_E = rng.poisson(np.where(is_changed_E, 3.0 + self.noise, 3.0))
        return pd.DataFrame(
            {
                "score": 1.0 / (1.0 + np.exp(-logit_E)), "pixel_mean": 4095.0 * share_E, "background_median": background_E,
                "tissue_fraction": rng.beta(8.0, 14.0, count), "views": np.where(rng.random(count) < 0.02, 3, 4),
            }
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DrawnSite:
    """Exams whose pictures are phantoms, as they were and with the change drawn into them; scores stay as they were.

    Attributes:
        before: Image measures of each phantom.
        after: The same phantoms' after the change.
    """

    before: pd.DataFrame
    after: pd.DataFrame

    def exams(self, count: int, is_changed_E: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
        """As ``Site.exams``."""
        plain = Site(logit_shift=0.0).exams(count, is_changed_E, rng)
        drawn_E = rng.integers(len(self.before), size=count)
        measures = {
            name: np.where(is_changed_E, self.after[name].to_numpy()[drawn_E], self.before[name].to_numpy()[drawn_E])
            for name in self.before
        }
        return plain.assign(**measures)


def looked_at(exams: pd.DataFrame, device_E: Sequence[str], software_E: Sequence[str], threshold: float) -> WatchReport:
    """What the watching says of exams in their order."""
    names = [f"E{number:06d}" for number in range(len(exams))]
    lines: list[dict[str, Any]] = [
        {
            "kind": "exam", "exam_id": name, "model": "m", "when_utc": f"2026-01-01T{number:09d}",
            "scores": {"L": {"malignant": score}}, "recalled": {"malignant": bool(score >= threshold)},
        }
        for number, (name, score) in enumerate(zip(names, exams["score"].tolist(), strict=True))
    ]  # fmt: skip
    views = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
    of_exam = exams.assign(
        exam_id=names, manufacturer="ACME", model_name="One", device_id=device_E, software_versions=software_E
    )
    parts = [
        of_exam[of_exam["views"] > place].assign(laterality=side, view_position=view)
        for place, (side, view) in enumerate(views)
    ]
    manifest = pd.concat(parts).sort_values("exam_id", kind="stable")
    return watched(device_streams(lines, manifest), now=datetime(2026, 1, 1, tzinfo=UTC))


def changing(site: Site | DrawnSite, exams: int, rng: np.random.Generator) -> tuple[dict[str, int | None], int, FLOAT]:
    """A stream in whose middle one of the devices gets new software.

    Returns:
        After how many exams of that device each measure was told (None = it was not, or before the change), how many of the
        other devices raised an alarm, and the changed device's scores after the change.
    """
    place_E = np.arange(exams)
    device_E = place_E % DEVICES
    changed_E = (device_E == 0) & (place_E >= exams // 2)
    table = site.exams(exams, changed_E, rng)
    threshold = float(np.quantile(table["score"][: exams // 2], 1.0 - TARGET_RECALL))
    report = looked_at(table, [f"D{one}" for one in device_E], [("2" if one else "1") for one in changed_E], threshold)
    (affected,) = [device for device in report.devices if device.name.endswith("D0")]
    before = int((~changed_E[device_E == 0]).sum())
    others = sum(bool(device.alarms) for device in report.devices if device is not affected)
    return told_after(affected, before), others, table["score"].to_numpy()[changed_E]


def told_after(device: WatchedDevice, before: int) -> dict[str, int | None]:
    """By measure, and of the first of them: exams of the device from its change to the alarm."""
    places = {}
    for chart in device.charts:
        place = alarm_place(chart.up, chart.down, chart.at, chart.limit)
        places[chart.name] = None if place is None or place <= before else place - before
    known = [place for place in places.values() if place is not None]
    return {**places, "any of them": min(known, default=None)}


def alarm_place(up: Sequence[float], down: Sequence[float], at: Sequence[int], limit: float) -> int | None:
    """Exam at which a sum first stands above the limit, among those that a report keeps: at most a few exams late."""
    over = [place for high, low, place in zip(up, down, at, strict=True) if max(high, low) > limit]
    return over[0] if over else None


def quiet(site: Site | DrawnSite, exams: int, rng: np.random.Generator) -> list[str]:
    """Measures that raise an alarm in a stream of one device that does not change, behind its baseline."""
    table = site.exams(BASELINE + exams, np.zeros(BASELINE + exams, dtype=bool), rng)
    threshold = float(np.quantile(table["score"][:BASELINE], 1.0 - TARGET_RECALL))
    report = looked_at(table, ["D0"] * len(table), ["1"] * len(table), threshold)
    return [chart.name for chart in report.devices[0].alarms]


def rates(streams: int, exams: int, rng: np.random.Generator) -> None:
    """The chart of rates by itself: alarms of quiet streams, and of streams whose odds are tripled."""
    print("| rate | quiet streams with an alarm | odds three times: told within 200 | median |")
    print("|---|---|---|---|")
    for rate in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        alarms, told = 0, []
        other = 3.0 * rate / (1.0 - rate + 3.0 * rate)
        for _ in range(streams):
            happened_E = rng.random(BASELINE + exams) < rate
            chart = rate_chart(happened_E)
            alarms += chart is not None and chart.alarm is not None
            later_E = np.concatenate([happened_E[: BASELINE + 500], rng.random(2000) < other])
            changed = rate_chart(later_E)
            if changed is not None and changed.alarm is not None and changed.alarm.exam >= BASELINE + 500:
                told.append(changed.alarm.exam - BASELINE - 499)
        within = sum(one <= 200 for one in told)
        print(f"| {rate} | {100 * alarms / streams:.1f} % | {100 * within / streams:.0f} % | {np.median(told):.0f} |")


def recall_brought_back(site: Site, streams: int, rng: np.random.Generator) -> None:
    """A threshold chosen anew on the first exams after the change: what is recalled of a million further ones."""
    further_E = site.exams(1_000_000, np.ones(1_000_000, dtype=bool), rng)["score"].to_numpy()
    before_E = site.exams(1_000_000, np.zeros(1_000_000, dtype=bool), rng)["score"].to_numpy()
    kept = float((further_E >= np.quantile(before_E, 1.0 - TARGET_RECALL)).mean())
    print(f"\nRecall {100 * TARGET_RECALL:.0f} % before the change, {100 * kept:.1f} % after it at the same threshold.")
    print("| exams since the change | recall at a threshold chosen on them, mean | within 1 point of the target |")
    print("|---|---|---|")
    for count in (500, 1000, 2000, 4000, 8000):
        found = []
        for _ in range(streams):
            own_E = site.exams(count, np.ones(count, dtype=bool), rng)["score"].to_numpy()
            found.append(float((further_E >= np.quantile(own_E, 1.0 - TARGET_RECALL)).mean()))
        near = sum(abs(one - TARGET_RECALL) <= 0.01 for one in found)
        print(f"| {count} | {100 * np.mean(found):.2f} % | {100 * near / streams:.0f} % |")


def drawn(phantoms: int, streams: int, exams: int, quiet_exams: int) -> None:
    """Streams of phantoms with changes of three sizes, and quiet ones."""
    for gamma, noise in ((0.9, 4.0), (0.9, 0.0), (0.97, 0.0)):
        before, after = drawn_before_and_after(phantoms, gamma=gamma, noise=noise)
        print(f"\n{phantoms} phantoms, gamma {gamma} and noise {noise} drawn into them: mean and standard deviation of exams")
        for name in before:
            print(f"{name}: {before[name].mean():.4f} ({before[name].std():.4f}), {after[name].mean():.4f}")
        site, rng = DrawnSite(before=before, after=after), np.random.default_rng(4)
        found = [changing(site, exams, rng) for _ in range(streams)]
        for name in ("any of them", *IMAGE_MEASURES.values()):
            told = [places[name] or 10**6 for places, _, _ in found]
            print(f"{name}: within 200 exams in {sum(one <= 200 for one in told)} of {streams} streams of {exams}, "
                  f"median {np.median(told):.0f}")  # fmt: skip
        print(f"other devices with an alarm: {sum(more for _, more, _ in found)} of {streams * (DEVICES - 1)}")
    alarms = [quiet(site, quiet_exams, rng) for _ in range(streams)]
    print(f"{sum(map(bool, alarms))} of {streams} quiet streams of {quiet_exams} exams raise an alarm:")
    print(", ".join(sorted(name for names in alarms for name in names)) or "none")


def main() -> None:
    """Prints the tables."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--streams", type=int, default=100)
    asked.add_argument("--exams", type=int, default=20_000)
    asked.add_argument("--quiet-exams", type=int, default=5_000)
    asked.add_argument("--only", choices=("rates", "changes", "quiet", "recall", "drawn"))
    asked.add_argument("--phantoms", type=int, default=300)
    given = asked.parse_args()
    if given.only in (None, "rates"):
        rates(10 * given.streams, given.quiet_exams, np.random.default_rng(0))
    if given.only in (None, "changes"):
        sites = {
            "scores 0.5 SD, gamma 0.9, noise": Site(),
            "scores 0.5 SD alone": Site(gamma=1.0, noise=0.0),
            "gamma 0.9 and noise, scores as they were": Site(logit_shift=0.0),
        }
        print(
            f"\nOf {given.streams} streams of {given.exams} exams, {DEVICES} devices: told within 200 exams of the changed one"
        )
        print("| change | any measure | median | score | other devices with an alarm |")
        print("|---|---|---|---|---|")
        for name, site in sites.items():
            rng, found, others = np.random.default_rng(1), [], 0
            for _ in range(given.streams):
                told, more, _ = changing(site, given.exams, rng)
                found.append(told)
                others += more
            within = {key: sum((one[key] or 10**6) <= 200 for one in found) for key in ("any of them", SCORE)}
            median = np.median([one["any of them"] or 10**6 for one in found])
            print(
                f"| {name} | {100 * within['any of them'] / given.streams:.0f} % | {median:.0f} "
                f"| {100 * within[SCORE] / given.streams:.0f} % | {others} of {given.streams * (DEVICES - 1)} |"
            )
    if given.only in (None, "quiet"):
        rng = np.random.default_rng(2)
        alarms = [quiet(Site(), given.quiet_exams, rng) for _ in range(given.streams)]
        print(f"\n{sum(map(bool, alarms))} of {given.streams} quiet streams of {given.quiet_exams} exams raise an alarm:")
        print(", ".join(sorted(name for names in alarms for name in names)) or "none")
    if given.only in (None, "drawn"):
        drawn(given.phantoms, given.streams, given.exams, given.quiet_exams)
    if given.only in (None, "recall"):
        recall_brought_back(Site(), given.streams, np.random.default_rng(3))


if __name__ == "__main__":
    main()
