"""OMI-DB (OPTIMAM): screening records as JSON of each client, images for presentation and for processing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from schemas.errors import DatasetError
from schemas.exam import FindingType, ViewPosition
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import Label, one_kind
from tasks.adapters.datasets.published.reading import NOT_THERE, Breast, DataSet, Facts, Image, Lesion, Policies, Reading
from tasks.adapters.datasets.published.regions import Box
from tasks.adapters.datasets.published.tables import first_number, read_json
from tasks.adapters.datasets.published.tree import Tree

PROFILE: Final = Profile(name="omi-db", title="OMI-DB (OPTIMAM)", relaxed=frozenset({"V11", "X09", "X11"}), is_advised=False)
FACTS: Final = Facts(
    name="omi-db",
    aliases=("optimam", "omidb"),
    title="OMI-DB (OPTIMAM)",
    licence="by agreement with Cancer Research Horizons: no sharing",
    size="as delivered",
    release="as delivered; no counts are published: compare with the client list of the delivery",
    needs=("data/<client>/nbss_<client>.json", "data/<client>/imagedb_<client>.json", "images/<client>/<study>/<image>.dcm"),
    get="https://medphys.royalsurrey.nhs.uk/omidb",
    source="omidb 0.13.1 on PyPI",
    shares_data=False,
)

_NBSS: Final = re.compile(r"(?:^|/)nbss_(?P<client>[^/]+)\.json$", re.IGNORECASE)
_IMAGEDB: Final = re.compile(r"(?:^|/)imagedb_(?P<client>[^/]+)\.json$", re.IGNORECASE)
_IMAGE: Final = re.compile(r"(?:^|/)images/(?P<client>[^/]+)/(?P<study>[^/]+)/(?P<name>[^/]+)\.dcm$")
_EVENTS: Final = ("SCREENING", "ASSESSMENT", "BIOPSYWIDE", "BIOPSYFINE", "SURGERY")
_TISSUE: Final = frozenset({"BIOPSYWIDE", "BIOPSYFINE", "SURGERY"})
_MALIGNANT: Final = re.compile(r"^(?:OM|B5|H5)", re.IGNORECASE)
_BENIGN: Final = re.compile(r"^OB", re.IGNORECASE)
_SIDE_AND_VIEW: Final = re.compile(r"^(?P<side>[LR])?(?P<view>CC|MLO)$")
_KINDS: Final = {
    "mass": FindingType.MASS,
    "suspiciouscalcifications": FindingType.CALCIFICATION,
    "withcalcification": FindingType.CALCIFICATION,
    "architecturaldistortion": FindingType.DISTORTION,
    "focalasymmetry": FindingType.ASYMMETRY,
}
_NOT_KNOWN: Final = "normal side without a later normal episode: not known"
_UNPROCESSED: Final = "FOR PROCESSING twin"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Episode:
    """A round of screening: what was thought of each side, and on which evidence."""

    name: str
    day: date | None
    opinions: Mapping[str, tuple[tuple[str, str], ...]]
    days: tuple[date, ...]

    @property
    def is_normal(self) -> bool:
        """True if it was read, and nothing was found on either side."""
        said = [text for opinions in self.opinions.values() for _, text in opinions]
        return bool(said) and not any(_MALIGNANT.match(text) or _BENIGN.match(text) for text in said)


def _read(tree: Tree, policies: Policies) -> Reading:
    records = {match["client"]: match.string for match in tree.matching(_NBSS)}
    databases = {match["client"]: match.string for match in tree.matching(_IMAGEDB)}
    if not databases:
        tree.refuse_missing(FACTS.needs[1])
    files = {(match["client"], match["study"], match["name"]): match.string for match in tree.matching(_IMAGE)}
    reading = Reading()
    for client, path in sorted(databases.items()):
        studies = _object(_read_object(tree, path).get("STUDIES"), "STUDIES", path)
        if client not in records:
            reading.faults["client without a record of screening: not known"] += 1
        episodes = _episodes(_read_object(tree, records[client]), records[client]) if client in records else []
        for study, content in studies.items():
            _read_study(tree, client, study, _object(content, "a study", path), episodes, files, reading)
    reading.counts = {"clients": len(databases)}
    return reading


def _read_object(tree: Tree, path: str) -> Mapping[str, Any]:
    return _object(read_json(tree.root / path, get=FACTS.get), "the whole", path)


def _object(content: Any, what: str, path: str) -> Mapping[str, Any]:
    """Values by their names; nothing where there is nothing.

    Raises:
        DatasetError: It has another shape: what stands in it would be passed over, and a breast be normal for want of it.
    """
    if content is not None and not isinstance(content, dict):
        raise DatasetError(
            f"{path} has another shape",
            expected=f"{what} as values by their names",
            got="a list" if isinstance(content, list) else "one value",
            remedy=f"compare its release with that of {FACTS.source}, or deliver it anew ({FACTS.get})",
        )
    return content or {}


def _episodes(record: Mapping[str, Any], path: str) -> list[_Episode]:
    episodes = []
    for name, content in record.items():
        if not isinstance(content, dict | list):
            continue
        content = _object(content, "an episode", path)
        opinions: dict[str, list[tuple[str, str]]] = {"L": [], "R": []}
        days: list[date] = []
        for event in _EVENTS:
            for side, said in _object(content.get(event), event, path).items():
                found = dict(_texts(said))
                opinions.setdefault(side[:1].upper(), []).extend(
                    (event, text) for key, text in _texts(said) if key.casefold().endswith("opinion")
                )
                days += [day for key, text in found.items() if "date" in key.casefold() and (day := _day(text))]
        episodes.append(
            _Episode(
                name=name,
                day=_day(str(content.get("EpisodeOpenedDate", ""))) or min(days, default=None),
                opinions={side: tuple(found) for side, found in opinions.items()},
                days=tuple(days),
            )
        )
    return episodes


def _texts(said: Any) -> Iterator[tuple[str, str]]:
    """Every text below an event's side, with its key: some events hold several numbered ones."""
    if isinstance(said, dict):
        for key, value in said.items():
            if isinstance(value, dict | list):
                yield from _texts(value)
            else:
                yield str(key), str(value)
    for each in said if isinstance(said, list) else ():
        yield from _texts(each)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _read_study(
    tree: Tree,
    client: str,
    study: str,
    content: Mapping[str, Any],
    episodes: list[_Episode],
    files: Mapping[tuple[str, str, str], str],
    reading: Reading,
) -> None:
    kinds: dict[str, list[str]] = {"L": [], "R": []}
    of_study = []
    for series in content.values():
        for name, marks in series.items() if isinstance(series, dict) else ():
            image = _image(tree, client, study, name, files)
            of_study.append(image)
            for mark in marks.values() if isinstance(marks, dict) else ():
                if isinstance(mark, dict) and image.left_out is None and (box := _box(mark)):
                    reading.marks.append(Lesion(path=image.path, finding=None, shape=box))
                    kinds[image.laterality] += [
                        kind.value for key, kind in _KINDS.items() if str(_folded(mark).get(key, "")) in {"1", "True", "true"}
                    ]
    reading.images += of_study
    episode = _episode_of(content, episodes)
    for side in sorted({image.laterality for image in of_study if image.left_out is None}):
        label, source = _label(episode, episodes, side)
        reading.faults[_NOT_KNOWN] += label == (None, None)
        reading.breasts.append(
            Breast(
                patient=client,
                exam=study,
                laterality=side,
                benign=label[0],
                malignant=label[1],
                label_source=source,
                finding_type=one_kind(kinds[side]),
            )
        )


def _image(tree: Tree, client: str, study: str, name: str, files: Mapping[tuple[str, str, str], str]) -> Image:
    path = files.get((client, study, name), f"images/{client}/{study}/{name}.dcm")
    told = _told(tree, client, study, name, path)
    intent, side, view = told or ("", "", "")
    named = _SIDE_AND_VIEW.match(view)
    side, view = (side or named["side"] or "", named["view"]) if named else (side, view)
    left_out = None
    if intent == "FOR PROCESSING":
        left_out = _UNPROCESSED
    elif "flatfield" in name.casefold() or name.casefold().startswith("raw"):
        left_out = "no image of a breast"
    elif told is None:
        if not tree.is_partial:
            tree.refuse_missing(path)
        left_out = NOT_THERE
    elif view not in set(ViewPosition) or side not in {"L", "R"}:
        left_out = "not CC or MLO"
    return Image(path=path, patient=client, exam=study, laterality=side, view=view, left_out=left_out)


def _told(tree: Tree, client: str, study: str, name: str, path: str) -> tuple[str, str, str] | None:
    """Intent, side and view of the header in JSON that lies beside the record; of the file's own where there is none.

    None = neither is here.
    """
    for ending in (".json", ".dcm.json"):
        place = f"data/{client}/{study}/{name}{ending}"
        if place in tree.present:
            content = _read_object(tree, place)
            intent, side, view = (_json_value(content, tag) for tag in ("00080068", "00200062", "00185101"))
            return intent.upper(), side.upper(), view.upper()
    if path not in tree.present:
        return None
    header = tree.header(path)
    return header.presentation_intent_type, header.image_laterality, header.view_position


def _json_value(content: Mapping[str, Any], tag: str) -> str:
    values = content.get(tag, {}).get("Value", ()) if isinstance(content.get(tag), dict) else ()
    return str(values[0]) if values and isinstance(values, list) else ""


def _folded(mark: Mapping[str, Any]) -> dict[str, Any]:
    return {key.casefold(): value for key, value in mark.items()}


def _box(mark: Mapping[str, Any]) -> Box | None:
    """The library calls the pairs lower left and upper right; which is which is sorted here."""
    edges = [first_number(str(mark.get(key, ""))) for key in ("X1", "X2", "Y1", "Y2")]
    known = [edge for edge in edges if edge is not None and math.isfinite(edge)]
    if len(known) < len(edges):
        return None
    (left, right), (top, bottom) = sorted(known[:2]), sorted(known[2:])
    return Box(left, top, right, bottom)


def _episode_of(content: Mapping[str, Any], episodes: list[_Episode]) -> _Episode | None:
    """The one that the study names, or the one with the event that is nearest to the study's day."""
    by_name = {episode.name: episode for episode in episodes}
    if (named := by_name.get(str(content.get("EpisodeID", "")))) is not None:
        return named
    day = _day(str(content.get("StudyDate", "")))
    near = [(min(abs((other - day).days) for other in each.days), each.name) for each in episodes if day and each.days]
    return by_name[min(near)[1]] if near else None


def _label(episode: _Episode | None, episodes: list[_Episode], side: str) -> tuple[Label, str]:
    if episode is None:
        return (None, None), "followup"
    said = episode.opinions.get(side, ())
    malignant = [event for event, text in said if _MALIGNANT.match(text)]
    benign = [event for event, text in said if _BENIGN.match(text)]
    if malignant or benign:
        is_tissue = bool(_TISSUE.intersection(malignant or benign))
        return (int(bool(benign)), int(bool(malignant))), "biopsy" if is_tissue else "annotator"
    return ((0, 0) if _is_followed(episode, episodes, side) else (None, None)), "followup"


def _is_followed(episode: _Episode, episodes: list[_Episode], side: str) -> bool:
    """True if a later round was normal, and no cancer of this side was found before it."""
    start = episode.day
    later = sorted((each.day, each.name, each) for each in episodes if each.day and start and each.day > start)
    normal = next((day for day, _, each in later if each.is_normal), None)
    cancer = next(
        (day for day, _, each in later if any(_MALIGNANT.match(text) for _, text in each.opinions.get(side, ()))), None
    )
    return normal is not None and (cancer is None or normal <= cancer)


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
