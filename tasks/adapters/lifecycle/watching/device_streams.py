"""Exams of the prediction log, device by device: of each what was said of it and what its pictures are like.

The log's own order counts, not its times: a clock that goes back puts no exam before an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from schemas.exam import NOT_KNOWN, Finding
from schemas.layout import DEVICE_COLUMNS, SOFTWARE_VERSIONS, VIEWS_PER_EXAM

SCORE, RECALLED, MISSING_VIEWS = "score", "recalled", "a view is missing"
IMAGE_MEASURES: Final = {
    "pixel_mean": "mean pixel value",
    "background_median": "background",
    "tissue_fraction": "breast's share of the image",
}
"""Columns of the manifest whose mean over an exam's images is charted, and what that is called."""
RATES: Final = (RECALLED, MISSING_VIEWS)
MEASURES: Final = (SCORE, RECALLED, MISSING_VIEWS, *IMAGE_MEASURES.values())
"""Everything that is charted, in the order in which it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedExam:
    """One exam of a stream.

    Attributes:
        software: Version and, where it is known, the detector.
        values: By measure; 0 or 1 of a rate. A measure that is not known of the exam is not there.
    """

    exam_id: str
    when_utc: str
    software: str
    values: Mapping[str, float]


@dataclass(slots=True)
class DeviceStream:
    """The exams of one device in the order in which they were first scored."""

    name: str
    institutions: set[str] = field(default_factory=set)
    exams: list[StreamedExam] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """What of a log is watched.

    Attributes:
        model: The newest model of the log; "" = it has no exam.
        clock_went_back: Exams of the log whose time is before that of the exam before them.
    """

    model: str
    clock_went_back: int
    devices: tuple[DeviceStream, ...]


def device_streams(lines: Iterable[Mapping[str, Any]], manifest: pd.DataFrame, *, since: str = "") -> Streams:
    """Every device of the newest model's exams, the one with most exams first.

    Args:
        lines: Of the prediction log. An exam that was scored again counts once, with its first score.
        manifest: Says which device made an exam; one that is not published any more is left out. Of an exam that was never
            in the store, the log's own lines say it.
        since: Exams before the first that was scored at this time (ISO 8601) do not count: the baseline begins anew after a
            known change.
    """
    exams, went_back, newest_utc, latest = [], 0, "", ""
    passing: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        if PICTURE in line:
            passing[line["image_id"]] = {**_place(line), **line[PICTURE]}
        if line.get("kind") != "exam":
            continue
        went_back += line["when_utc"] < latest
        latest, newest_utc = line["when_utc"], max(newest_utc, line["when_utc"])
        if newest_utc >= since:
            exams.append(line)
    model = exams[-1]["model"] if exams else ""
    pictures = _pictures(_with_passing(manifest, passing))
    devices: dict[str, DeviceStream] = {}
    seen: set[str] = set()
    for line in exams:
        name = line["exam_id"]
        scores = [of_breast[Finding.MALIGNANT.value] for of_breast in line["scores"].values()]
        if line["model"] != model or name in seen or name not in pictures or None in scores:
            continue
        seen.add(name)
        picture = pictures[name]
        stream = devices.setdefault(picture.device, DeviceStream(picture.device))
        stream.institutions |= {picture.institution} - {""}
        recalled = line["recalled"].get(Finding.MALIGNANT.value)
        values = {SCORE: float(max(scores)), **({} if recalled is None else {RECALLED: float(recalled)}), **picture.values}
        stream.exams.append(StreamedExam(exam_id=name, when_utc=line["when_utc"], software=picture.software, values=values))
    found = sorted(devices.values(), key=lambda stream: -len(stream.exams))
    return Streams(model=model, clock_went_back=went_back, devices=tuple(found))


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pictures:
    """What the manifest says of an exam: its device, as its first image names it, and what its images are like."""

    device: str
    software: str
    institution: str
    values: Mapping[str, float]


_NAMES: Final = ("detector_id", "institution_id")
PICTURE: Final = "picture"
"""Key of a log's image line under which ``PICTURE_COLUMNS`` stand, where no manifest says them."""
PICTURE_COLUMNS: Final = ("manufacturer", "model_name", *(column.name for column in DEVICE_COLUMNS), *IMAGE_MEASURES)
NAMED_BY: Final = ("manufacturer", "model_name", "device_id", SOFTWARE_VERSIONS)
"""Columns of the manifest that name an exam's device, and that device's software last."""
_SHORT: Final = 7
"""Characters of a pseudonym that tell a device's detectors apart."""


def _place(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in ("exam_id", "laterality", "view_position")}


def _with_passing(manifest: pd.DataFrame, passing: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The manifest, and below it the images that were scored without ever being in the store."""
    published = set(manifest["exam_id"])
    lines = [line for line in passing.values() if line["exam_id"] not in published]
    return pd.concat([manifest, pd.DataFrame(lines)], ignore_index=True) if lines else manifest


def _pictures(manifest: pd.DataFrame) -> dict[str, _Pictures]:
    first = manifest.drop_duplicates("exam_id").set_index("exam_id")
    columns = [first[name] if name in first else pd.Series(index=first.index, dtype="string") for name in _NAMES]
    said = pd.concat(columns, axis=1, keys=_NAMES).astype("string").fillna("")
    by_exam = manifest.groupby("exam_id", sort=False)
    known = [column for column in IMAGE_MEASURES if column in manifest]
    means = by_exam[known].mean() if known else pd.DataFrame(index=first.index)
    if {"laterality", "view_position"} <= set(manifest):
        views = manifest.drop_duplicates(["exam_id", "laterality", "view_position"]).groupby("exam_id", sort=False).size()
        means[_VIEWS] = views
    numbers = means.reindex(first.index).to_dict("index")
    devices, found = devices_of(manifest), {}
    for exam_id, detector, institution in said.itertuples():
        device, software = devices[str(exam_id)]
        found[str(exam_id)] = _Pictures(
            device=device,
            software=software + (f", detector {detector[:_SHORT]}" if detector else ""),
            institution=institution,
            values=_named(numbers[exam_id]),
        )
    return found


_VIEWS: Final = "views"


def _named(numbers: Mapping[Any, float]) -> dict[str, float]:
    values = {name: float(numbers[column]) for column, name in IMAGE_MEASURES.items() if pd.notna(numbers.get(column))}
    if _VIEWS in numbers:
        values[MISSING_VIEWS] = float(numbers[_VIEWS] < VIEWS_PER_EXAM)
    return values


def devices_of(manifest: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """From an exam to its device and that device's software, as its first image names them; "not known" where none does."""
    first = manifest.drop_duplicates("exam_id")
    columns = [first[name] if name in first else pd.Series(index=first.index, dtype="string") for name in NAMED_BY]
    said = pd.concat(columns, axis=1, keys=NAMED_BY).astype("string").fillna("")
    named = {}
    for exam_id, maker, model, device_id, software in zip(first["exam_id"], *(said[name] for name in NAMED_BY), strict=True):
        parts = [part for part in (maker, model, device_id) if part]
        named[str(exam_id)] = (" ".join(parts) or NOT_KNOWN, software or NOT_KNOWN)
    return named
