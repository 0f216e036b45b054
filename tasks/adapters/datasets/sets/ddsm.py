"""DDSM: annotations of film scans; the pixels lie in a dialect of lossless JPEG that is decoded elsewhere."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from schemas.errors import DatasetError
from schemas.exam import NOT_KNOWN, Acquisition, FindingType
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import Label, birads_grade, density_letter, one_kind, proven, worst_birads
from tasks.adapters.datasets.published.reading import (
    Breast,
    DataSet,
    Facts,
    Image,
    Lesion,
    Policies,
    Policy,
    Reading,
    counts,
)
from tasks.adapters.datasets.published.regions import Points, Polygon, chain_points
from tasks.adapters.datasets.published.tree import Tree

PROFILE: Final = Profile(
    name="ddsm",
    title="DDSM film scans, as `mammo dataset` copies decoded ones",
    relaxed=frozenset({"V11", "X09", "X11", "X12", "X31"}),
    acquisition=Acquisition.FILM,
    is_advised=False,
)
FACTS: Final = Facts(
    name="ddsm",
    title="DDSM",
    licence="free for research, with citation",
    size="230 GB, 10,420 images",
    release="University of South Florida, 2000",
    needs=("cases/<class>/<volume>/case<n>/<letter>-<n>-1.ics", "….OVERLAY", "decoded 16-bit PNG or TIFF of the same names"),
    get="ftp://figment.csee.usf.edu/pub/DDSM, or a mirror of it",
    source="trane293/DDSMUtility, fjeg/ddsm_tools; case counts of the listing of jimmyyhwu/ddsm-visual-primitives",
    counts=(
        *counts(
            "listings", needs_files=True,
            images=10420, cases=(2601, 2620), cases_cancers=914, cases_benigns=851, cases_normals=695,
            cases_benign_without_callbacks=141, letter_a=1368, letter_b=469, letter_c=462, letter_d=302,
        ),
    ),
    policies={
        "unmarked": Policy(
            values=("normal", "unknown"),
            meaning="a breast without an overlay outside the normal volumes: read and nothing marked, or not known",
        ),
    },
)  # fmt: skip

_ICS: Final = re.compile(
    r"(?:^|/)(?P<class>cancers?|benigns?|normals?|benign_without_callbacks?)/(?:[^/]+/)?case\d+/(?P<letter>[A-D])-(?P<number>\d+)-\d+\.ics$",
    re.IGNORECASE,
)
_SEQUENCE: Final = re.compile(
    r"^(?P<side>LEFT|RIGHT)_(?P<view>CC|MLO)\s+LINES\s+(?P<rows>\d+)\s+PIXELS_PER_LINE\s+(?P<columns>\d+)"
)
_DECODED: Final = (".png", ".tif", ".tiff")
_PATHOLOGY: Final = {"MALIGNANT": "malignant", "BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign"}
_NO_OVERLAY: Final = "film whose .ics says OVERLAY and whose .OVERLAY file is not here: its breast is not known"
_WITHOUT_CALLBACK: Final = "benign_without_callback"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Abnormality:
    """One abnormality of an overlay."""

    path: str
    pathology: str
    assessment: str
    kinds: tuple[str, ...]
    outlines: tuple[Points, ...]


def _read(tree: Tree, policies: Policies) -> Reading:
    cases = list(tree.matching(_ICS))
    if not cases:
        tree.refuse_missing(FACTS.needs[0])
    classes: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        classes[_number(case)].add(_class(case))
    reading = Reading(is_without_pixels=not any(path.casefold().endswith(_DECODED) for path in tree.files))
    if reading.is_without_pixels:
        reading.remarks.append(
            "No decoded images lie here: annotations alone are written. Decode the .LJPEG files to 16-bit PNG of the same "
            "names, beside them, and run again; until then the config has nothing to read."
        )
    for case in cases:
        is_twice = len(classes[_number(case)]) > 1
        patient = f"{_number(case)}-{_class(case)}" if is_twice else _number(case)
        reading.faults["case number in two classes: told apart by the class"] += is_twice
        _read_case(tree, case, patient, policies, reading)
    if reading.faults[_NO_OVERLAY]:
        reading.remarks.append(
            f"{reading.faults[_NO_OVERLAY]} .OVERLAY files that the .ics files speak of are not here: what is marked in these "
            "breasts is not known. Download them, beside the .ics files, and run again."
        )
    reading.counts = {
        "images": len(reading.images),
        "cases": len(cases),
        **Counter(f"cases_{_class(case)}s" for case in cases),
        **Counter(f"letter_{case['letter'].lower()}" for case in cases),
    }
    return reading


def _number(case: re.Match[str]) -> str:
    return f"{case['letter'].upper()}-{case['number']}"


def _class(case: re.Match[str]) -> str:
    return case["class"].casefold().removesuffix("s")


def _read_case(tree: Tree, case: re.Match[str], patient: str, policies: Policies, reading: Reading) -> None:
    text = _text(tree, case.string)
    density = re.search(r"^DENSITY\s+(\d)", text, re.MULTILINE)
    folder = case.string.rpartition("/")[0]
    prefix = f"{folder}/{case['letter'].upper()}_{case['number']}_1"
    found: dict[str, list[_Abnormality]] = {"L": [], "R": []}
    undrawn: set[str] = set()
    sequence = list(filter(None, map(_SEQUENCE.match, text.splitlines())))
    if not sequence:
        raise DatasetError(
            f"{case.string} names no image",
            expected="lines such as LEFT_CC LINES 4608 PIXELS_PER_LINE 3048",
            got="none: cut off, saved anew, or another file",
            remedy=f"download it again ({FACTS.get})",
        )
    reading.faults["case whose .ics names fewer than four films"] += len(sequence) < 4  # or it was cut off
    for match in sequence:
        name = f"{prefix}.{match['side']}_{match['view']}"
        image = Image(
            path=_image_path(tree, name, is_without_pixels=reading.is_without_pixels),
            patient=patient,
            exam=patient,
            laterality=match["side"][0],
            view=match["view"],
            acquisition=Acquisition.FILM.value,
        )
        reading.images.append(image)
        tree.sizes_px[image.path] = int(match["rows"]), int(match["columns"])
        overlay = next((path for path in (f"{name}.OVERLAY", f"{name}.overlay") if path in tree.present), None)
        if overlay is not None:
            found[image.laterality] += _abnormalities(tree, overlay, image.path)
        elif match.string.split()[-1] == "OVERLAY":
            undrawn.add(image.laterality)
            reading.faults[_NO_OVERLAY] += 1
    for side in sorted({image.laterality for image in reading.images if image.patient == patient}):
        breast = _breast(case, patient, side, found[side], density[1] if density else "", policies, reading, side in undrawn)
        reading.breasts.append(breast)
    reading.marks += [
        Lesion(path=each.path, finding=_PATHOLOGY.get(each.pathology), shape=Polygon(points, names_pixels=True), inherits=False)
        for abnormalities in found.values()
        for each in abnormalities
        for points in each.outlines
    ]


def _text(tree: Tree, path: str) -> str:
    return (tree.root / path).read_text(encoding="latin-1")


def _image_path(tree: Tree, name: str, *, is_without_pixels: bool) -> str:
    """Where some are decoded, one that is not is not there: nobody reads its .LJPEG."""
    decoded = (f"{name}{middle}{ending}" for middle in ("", ".LJPEG") for ending in _DECODED)
    missing = f"{name}.LJPEG" if is_without_pixels else f"{name}{_DECODED[0]}"
    return next((path for path in decoded if path in tree.present), missing)


def _breast(
    case: re.Match[str],
    patient: str,
    side: str,
    found: Sequence[_Abnormality],
    density: str,
    policies: Policies,
    reading: Reading,
    is_undrawn: bool,
) -> Breast:
    label, source = ((None, None), "annotator") if is_undrawn else _label(case, found, policies, reading)
    return Breast(
        patient=patient,
        exam=patient,
        laterality=side,
        benign=label[0],
        malignant=label[1],
        label_source=source,
        birads=worst_birads(birads_grade(each.assessment) for each in found),
        density=density_letter(density),
        finding_type=one_kind(kind for each in found for kind in each.kinds),
    )


def _label(case: re.Match[str], found: Sequence[_Abnormality], policies: Policies, reading: Reading) -> tuple[Label, str]:
    if not found:
        is_known = _class(case) == "normal" or policies["unmarked"] == "normal"
        reading.faults[f"breast without an overlay, {_class(case)}: {'0/0' if is_known else NOT_KNOWN}"] += 1
        return ((0, 0) if is_known else (None, None)), "annotator"
    named = {each.pathology for each in found}
    is_judged = named <= {"BENIGN_WITHOUT_CALLBACK"} or (
        _class(case) == _WITHOUT_CALLBACK and "MALIGNANT" not in named and "UNPROVEN" not in named
    )
    reading.faults["pathology UNPROVEN: not known"] += "UNPROVEN" in named
    label = proven(_PATHOLOGY[name] for name in named if name in _PATHOLOGY)
    return label, "annotator" if is_judged else "biopsy"


# --------------------------------------------------------------------------------------------------------------- overlay


def _abnormalities(tree: Tree, path: str, image: str) -> Iterator[_Abnormality]:
    """An overlay's parts, each from its line ABNORMALITY to the next."""
    parts = re.split(r"^ABNORMALITY\s+\d+.*$", _text(tree, path), flags=re.MULTILINE)[1:]
    if not parts:
        raise DatasetError(f"{path} names no abnormality", expected="lines that begin with ABNORMALITY", got="none")
    for part in parts:
        values = _values(part)
        yield _Abnormality(
            path=image,
            pathology=next(iter(values.get("PATHOLOGY", ())), "UNPROVEN").split()[0],
            assessment=next(iter(values.get("ASSESSMENT", ())), ""),
            kinds=tuple(_kind(text) for text in values.get("LESION_TYPE", ())),
            outlines=tuple(_boundaries(part, path)),
        )


def _values(part: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in part.splitlines():
        key, _, value = line.strip().partition(" ")
        if value:
            found[key].append(value.strip())
    return found


def _kind(text: str) -> str:
    if text.startswith("CALCIFICATION"):
        return FindingType.CALCIFICATION.value
    if not text.startswith("MASS"):
        return FindingType.OTHER.value
    shape = re.search(r"SHAPE\s+(\S+)", text)
    if shape and shape[1] == "ARCHITECTURAL_DISTORTION":
        return FindingType.DISTORTION.value
    return FindingType.ASYMMETRY.value if shape and "ASYMMETRIC" in shape[1] else FindingType.MASS.value


def _boundaries(part: str, path: str) -> Iterator[Points]:
    """The outlines below BOUNDARY; those below CORE are parts of them."""
    lines = [line.strip() for line in part.splitlines()]
    for heading, line in pairwise(lines):
        if heading != "BOUNDARY":
            continue
        try:
            x, y, *codes = (int(word) for word in line.replace("#", " ").split())
        except ValueError:
            codes = [-1]
        if not all(0 <= code <= 7 for code in codes):
            raise DatasetError(
                f"{path} holds an outline that is none", expected="x, y and chain codes 0 to 7", got="other text"
            )
        yield chain_points(x, y, codes)


DATA_SET: Final = DataSet(facts=FACTS, read=_read, profile=PROFILE.name)
