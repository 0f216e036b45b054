"""mini-MIAS: films of 1024 x 1024 pixels and 8 bits, their side told by the number, lesions as circles from below."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.errors import DatasetError
from schemas.exam import Acquisition, FindingType
from tasks.adapters.datasets.gate_profile import Profile
from tasks.adapters.datasets.published.breast_rules import one_kind
from tasks.adapters.datasets.published.reading import Breast, DataSet, Facts, Image, Lesion, Policies, Reading, counts
from tasks.adapters.datasets.published.regions import circle
from tasks.adapters.datasets.published.tree import Tree

PROFILE: Final = Profile(
    name="mini-mias",
    title="mini-MIAS film scans, as `mammo dataset` copies them",
    relaxed=frozenset({"V02", "V11", "X09", "X11", "X12", "X31"}),
    acquisition=Acquisition.FILM,
    is_advised=False,
)
FACTS: Final = Facts(
    name="mini-mias",
    aliases=("mias",),
    title="mini-MIAS",
    licence="MIAS: research only, no sharing",
    size="0.3 GB, 322 files",
    release="2015, doi 10.17863/CAM.105113; the original MIAS (50 µm) is another set",
    needs=("Info.txt", "mdb001.pgm"),
    get="http://peipa.essex.ac.uk/info/mias.html",
    source="Info.txt",
    shares_data=False,
    spacing_mm=0.2,
    counts=(
        *counts(
            "Info.txt",
            rows=330, films=322, patients=161, films_normal=207, films_benign=63, films_malignant=51, films_of_both=1,
            rows_norm=207, rows_calc=30, rows_circ=25, rows_arch=19, rows_spic=19, rows_misc=15, rows_asym=15,
        ),
    ),
)  # fmt: skip

_FILE: Final = re.compile(r"(?:^|/)mdb(?P<number>\d{3})\.(?:pgm|png)$", re.IGNORECASE)
_ROW: Final = re.compile(
    r"^\s*mdb(?P<number>\d{3})\s+[FGD]\s+(?P<kind>CALC|CIRC|SPIC|MISC|ARCH|ASYM|NORM)"
    r"(?:\s+(?P<severity>[BM]))?(?:\s+(?P<x>\d+)\s+(?P<y>\d+)\s+(?P<radius>\d+))?"
)
_KINDS: Final = {
    "CALC": FindingType.CALCIFICATION,
    "CIRC": FindingType.MASS,
    "SPIC": FindingType.MASS,
    "MISC": FindingType.OTHER,
    "ARCH": FindingType.DISTORTION,
    "ASYM": FindingType.ASYMMETRY,
}
_FINDINGS: Final = {"B": "benign", "M": "malignant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A line of Info.txt's table."""

    number: int
    kind: str
    severity: str
    circle: tuple[int, int, int] | None


def _read(tree: Tree, policies: Policies) -> Reading:
    rows = _rows(tree)
    of_film: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        of_film[row.number].append(row)
    paths = {int(match["number"]): match.string for match in tree.matching(_FILE)}
    numbers = sorted({*of_film, *paths})
    reading = Reading(images=[_image(number, paths.get(number, f"mdb{number:03d}.pgm")) for number in numbers])
    reading.faults["film that Info.txt does not name: no label"] = len(numbers) - len(of_film)
    for number, image in zip(numbers, reading.images, strict=True):
        if number in of_film:
            reading.breasts.append(_breast(image, of_film[number]))
    reading.faults["abnormality without a place: label only"] = sum(row.kind != "NORM" and row.circle is None for row in rows)
    reading.counts = _counted(rows, of_film)
    reading.notes = {"rows": rows, "paths": {number: image.path for number, image in zip(numbers, reading.images, strict=True)}}
    return reading


def _rows(tree: Tree) -> list[_Row]:
    path = tree.find("Info.txt", "info.txt")
    if path is None:
        tree.refuse_missing("Info.txt")
    rows = []
    for line in path.read_text(encoding="latin-1").splitlines():
        if match := _ROW.match(line):
            if match["kind"] != "NORM" and not match["severity"]:
                raise DatasetError(
                    f"Info.txt names an abnormality of mdb{match['number']} that is neither benign nor malignant",
                    expected="B or M after its kind",
                    got="nothing: cut off, saved anew, or another file",
                    remedy=f"download it again ({FACTS.get})",
                )
            place = (int(match["x"]), int(match["y"]), int(match["radius"])) if match["x"] else None
            rows.append(_Row(number=int(match["number"]), kind=match["kind"], severity=match["severity"] or "", circle=place))
    if not rows:
        raise DatasetError(
            "Info.txt holds no table",
            expected="lines such as mdb001 G CIRC B 535 425 197",
            got="none",
            remedy=f"download it again ({FACTS.get})",
        )
    return rows


def _image(number: int, path: str) -> Image:
    """Films come in pairs: odd numbers are right, even ones left (156 of 161 by where the breast lies)."""
    pair = f"{(number + 1) // 2:03d}"
    return Image(
        path=path,
        patient=pair,
        exam=pair,
        laterality="R" if number % 2 else "L",
        view="MLO",
        acquisition=Acquisition.FILM.value,
    )


def _breast(image: Image, rows: Sequence[_Row]) -> Breast:
    found = {row.severity for row in rows}
    return Breast(
        patient=image.patient,
        exam=image.exam,
        laterality=image.laterality,
        benign=int("B" in found),
        malignant=int("M" in found),
        label_source="annotator",
        finding_type=one_kind(_KINDS[row.kind].value for row in rows if row.kind != "NORM"),
    )


def _counted(rows: Sequence[_Row], of_film: Mapping[int, Sequence[_Row]]) -> dict[str, int]:
    classes = Counter("".join(sorted({row.severity for row in found})) for found in of_film.values())
    return {
        "rows": len(rows),
        "films": len(of_film),
        "patients": len({(number + 1) // 2 for number in of_film}),
        "films_normal": classes[""],
        "films_benign": classes["B"],
        "films_malignant": classes["M"],
        "films_of_both": classes["BM"],
        **Counter(f"rows_{row.kind.lower()}" for row in rows),
    }


def _lesions(tree: Tree, reading: Reading) -> Iterator[Lesion]:
    """Circles whose rows count from the bottom of the film."""
    paths = reading.notes["paths"]
    for row in reading.notes["rows"]:
        path = paths[row.number]
        if row.circle is not None and path in tree.present:
            x, y, radius = row.circle
            shape = circle(x, y, radius).from_below(tree.size_px(path)[0])
            yield Lesion(path=path, finding=_FINDINGS.get(row.severity), shape=shape)


DATA_SET: Final = DataSet(facts=FACTS, read=_read, lesions=_lesions, profile=PROFILE.name)
