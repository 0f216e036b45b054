"""Scores of the prediction log, device by device and software by software, and whether they go on as they began.

Published: at one site recall tripled when the mammographs' software was updated. A network's threshold holds for the pictures
that it was chosen on, so whoever makes them otherwise must be seen before recall is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from gmic_model.metrics.clinic.control_chart import BASELINE, Alarm, first_alarm
from schemas.exam import NOT_KNOWN, Finding
from schemas.layout import SOFTWARE_VERSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSoftware:
    """Exams of one software of a device; ``recalled`` None = the model has no locked threshold."""

    name: str
    exams: int
    mean_score: float
    recalled: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceScores:
    """What one model says of one device's exams, in the order in which they were first scored.

    Attributes:
        name: Manufacturer, model, and the pseudonym of the serial number.
        exams: How many.
        needed: Exams that are missing before it can be watched; 0 = it is.
        softwares: In the order of their first exams.
        alarm: Where the scores left what they were; None = nowhere.
        began_exam, began_utc: The exam with which that began, by the chart's estimate, and when it was scored.
    """

    name: str
    exams: int
    needed: int
    softwares: tuple[OfSoftware, ...]
    alarm: Alarm | None
    began_exam: str
    began_utc: str


def scores_by_device(
    lines: Iterable[Mapping[str, Any]], manifest: pd.DataFrame, *, since: str = "", baseline: int = BASELINE
) -> list[DeviceScores]:
    """Every device of the newest model's exams, the one with most exams first.

    Args:
        lines: Of the prediction log. An exam that was scored again counts once, with its first score.
        manifest: Says which device made an exam; one that is not published any more is left out.
        since: Exams that were scored before this time (ISO 8601) do not count: the baseline begins anew after a known change.
        baseline: Exams by which the later ones of a device are judged.
    """
    devices = _devices(manifest)
    streams: dict[str, _Stream] = defaultdict(_Stream)
    exams = [line for line in lines if line.get("kind") == "exam" and line["when_utc"] >= since]
    newest = exams[-1]["model"] if exams else ""
    seen: set[str] = set()
    for line in exams:
        name = line["exam_id"]
        scores = [of_breast[Finding.MALIGNANT.value] for of_breast in line["scores"].values()]
        if line["model"] != newest or name in seen or name not in devices or None in scores:
            continue
        seen.add(name)
        device, software = devices[name]
        streams[device].add(line, max(scores), software)
    found = [stream.watched(device, baseline) for device, stream in streams.items()]
    return sorted(found, key=lambda one: -one.exams)


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stream:
    lines: list[Mapping[str, Any]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    softwares: list[str] = field(default_factory=list)

    def add(self, line: Mapping[str, Any], score: float, software: str) -> None:
        self.lines.append(line)
        self.scores.append(score)
        self.softwares.append(software)

    def watched(self, name: str, baseline: int) -> DeviceScores:
        alarm = first_alarm(self.scores, baseline=baseline)
        began = None if alarm is None else self.lines[alarm.began]
        return DeviceScores(
            name=name,
            exams=len(self.scores),
            needed=max(0, baseline + 1 - len(self.scores)),
            softwares=tuple(self._of(software) for software in dict.fromkeys(self.softwares)),
            alarm=alarm,
            began_exam="" if began is None else began["exam_id"],
            began_utc="" if began is None else began["when_utc"],
        )

    def _of(self, name: str) -> OfSoftware:
        chosen = [index for index, software in enumerate(self.softwares) if software == name]
        decided = [self.lines[index]["recalled"].get(Finding.MALIGNANT.value) for index in chosen]
        return OfSoftware(
            name=name,
            exams=len(chosen),
            mean_score=sum(self.scores[index] for index in chosen) / len(chosen),
            recalled=None if None in decided else sum(decided),
        )


def _devices(manifest: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """From an exam to its device and software, as its first image says."""
    first = manifest.drop_duplicates("exam_id")
    columns = [first[name] if name in first else pd.Series(index=first.index, dtype="string") for name in _NAMES]
    said = pd.concat(columns, axis=1, keys=_NAMES).astype("string").fillna("")
    named = {}
    for exam_id, maker, model, device_id, software in zip(first["exam_id"], *(said[name] for name in _NAMES), strict=True):
        parts = [part for part in (maker, model, device_id) if part]
        named[str(exam_id)] = (" ".join(parts) or NOT_KNOWN, software or NOT_KNOWN)
    return named


_NAMES = ("manufacturer", "model_name", "device_id", SOFTWARE_VERSIONS)
