"""Rows of two templates of structured reports (PS3.16), and what of a report breaks them: no tool here checks it.

A row says which relation, kind of value and concept a child has, how often, and its own rows. Written from the tables of PS3.16
as far as our reports use them; by-reference relations are followed, and have to lead to an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Row:
    """A child that a template allows.

    Attributes:
        concept: Code value; "" = none is given, "*" = any.
        least: How often at least.
        most: How often at most.
        leads_to_image: A by-reference relation, whose target must be an image of the library.
    """

    relation: str
    kind: str = ""
    concept: str = ""
    least: int = 1
    most: int = 1
    rows: tuple[Row, ...] = ()
    leads_to_image: bool = False

    def is_of(self, item: Dataset) -> bool:
        """True if the item stands in this row."""
        if item.RelationshipType != self.relation or self.leads_to_image != ("ReferencedContentItemIdentifier" in item):
            return False
        return self.leads_to_image or (item.ValueType == self.kind and self.concept in ("*", _concept(item)))


_MANY = 1000
_IMAGE = Row(relation="SELECTED FROM", leads_to_image=True)
_ALGORITHM = (
    Row(relation="HAS PROPERTIES", kind="TEXT", concept="111001"),
    Row(relation="HAS PROPERTIES", kind="TEXT", concept="111003"),
    Row(relation="HAS PROPERTIES", kind="TEXT", concept="111002", least=0, most=_MANY),
)  # TID 4019
_INTENT = Row(relation="HAS CONCEPT MOD", kind="CODE", concept="111056")
_CONTEXT = "HAS ACQ CONTEXT"

TID_4000 = (
    Row(relation="HAS CONCEPT MOD", kind="CODE", concept="121049"),
    Row(relation="CONTAINS", kind="CONTAINER", concept="111028", rows=(
        Row(relation="CONTAINS", kind="IMAGE", most=_MANY, rows=(  # TID 4020
            Row(relation=_CONTEXT, kind="CODE", concept="111027"),
            Row(relation=_CONTEXT, kind="CODE", concept="111031"),
            Row(relation=_CONTEXT, kind="TEXT", concept="111044", least=0),
            Row(relation=_CONTEXT, kind="TEXT", concept="111043", least=0),
            Row(relation=_CONTEXT, kind="DATE", concept="111060", least=0),
            Row(relation=_CONTEXT, kind="TIME", concept="111061", least=0),
            Row(relation=_CONTEXT, kind="NUM", concept="111026", least=0),
            Row(relation=_CONTEXT, kind="NUM", concept="111066", least=0),
        )),
    )),
    Row(relation="CONTAINS", kind="CODE", concept="111017", rows=(  # TID 4001
        Row(relation="INFERRED FROM", kind="CONTAINER", concept="111034", least=0, most=_MANY, rows=(  # TID 4003
            _INTENT,
            Row(relation="CONTAINS", kind="CODE", concept="111059", most=_MANY, rows=(  # TID 4006
                _INTENT,
                *_ALGORITHM,
                Row(relation="HAS PROPERTIES", kind="NUM", concept="111047", least=0),
                Row(relation="HAS PROPERTIES", kind="SCOORD", concept="111010", rows=(_IMAGE,)),
                Row(relation="HAS PROPERTIES", kind="SCOORD", concept="111041", least=0, rows=(_IMAGE,)),
            )),
        )),
    )),
    Row(relation="CONTAINS", kind="CODE", concept="111064", rows=(  # TID 4015
        Row(relation="INFERRED FROM", kind="CONTAINER", concept="111063", rows=(
            Row(relation="CONTAINS", kind="CODE", concept="111022", most=_MANY, rows=(  # TID 4017
                *_ALGORITHM,
                Row(relation="HAS PROPERTIES", most=_MANY, leads_to_image=True),
            )),
        )),
    )),
    Row(relation="CONTAINS", kind="CODE", concept="111065"),  # TID 4016: not attempted
)  # fmt: skip
"""Mammography CAD Document Root: nothing but these rows, in this order."""

_ALGORITHM_1500 = (
    Row(relation="HAS CONCEPT MOD", kind="TEXT", concept="111001"),
    Row(relation="HAS CONCEPT MOD", kind="TEXT", concept="111003"),
    Row(relation="HAS CONCEPT MOD", kind="TEXT", concept="111002", least=0, most=_MANY),
)  # TID 4019, as TID 1410 includes it
TID_1500 = (
    Row(relation="HAS CONCEPT MOD", kind="CODE", concept="121049"),
    Row(relation="HAS OBS CONTEXT", kind="CODE", concept="121005"),  # TID 1002: a device, never a person
    Row(relation="HAS OBS CONTEXT", kind="UIDREF", concept="121012"),
    Row(relation="HAS OBS CONTEXT", kind="TEXT", concept="121013", least=0),
    Row(relation="HAS OBS CONTEXT", kind="TEXT", concept="121014", least=0),
    Row(relation="HAS OBS CONTEXT", kind="TEXT", concept="121015", least=0),
    Row(relation="HAS OBS CONTEXT", kind="TEXT", concept="121016", least=0),
    Row(relation="HAS CONCEPT MOD", kind="CODE", concept="121058"),
    Row(relation="CONTAINS", kind="CONTAINER", concept="126010", rows=(
        Row(relation="CONTAINS", kind="CONTAINER", concept="125007", most=_MANY, rows=(  # TID 1410
            Row(relation="HAS OBS CONTEXT", kind="TEXT", concept="112039"),
            Row(relation="HAS OBS CONTEXT", kind="UIDREF", concept="112040"),
            *_ALGORITHM_1500,
            Row(relation="CONTAINS", kind="CODE", concept="121071"),
            Row(relation="HAS CONCEPT MOD", kind="CODE", concept="363698007"),
            Row(relation="CONTAINS", kind="CODE", concept="130400"),
            Row(relation="CONTAINS", kind="SCOORD", concept="111030", rows=(
                Row(relation="SELECTED FROM", kind="IMAGE", concept="*"),
            )),
            Row(relation="CONTAINS", kind="NUM", concept="*", most=_MANY, rows=_ALGORITHM_1500),  # TID 300
        )),
    )),
)  # fmt: skip
"""Imaging Measurement Report, as far as it is used; its order is the library's."""


def broken_rows(report: Dataset, rows: tuple[Row, ...], *, in_order: bool) -> list[str]:
    """A sentence for each item that no row allows, and each row that is met too seldom, too often or out of its turn."""
    return list(_broken(report, rows, report, "1", in_order=in_order))


def _broken(item: Dataset, rows: tuple[Row, ...], root: Dataset, at: str, *, in_order: bool) -> Iterator[str]:
    counts, last = [0] * len(rows), 0
    for position, child in enumerate(item.get("ContentSequence", ()), start=1):
        here = f"{at}.{position}"
        index = next((index for index, row in enumerate(rows) if row.is_of(child)), None)
        if index is None:
            yield f"{here}: {child.RelationshipType} {child.get('ValueType')} {_concept(child)} is in no row"
            continue
        if in_order and index < last:
            yield f"{here}: out of its turn"
        counts[index], last = counts[index] + 1, index
        if rows[index].leads_to_image:
            target = _at(root, child.ReferencedContentItemIdentifier)
            if target is None or target.ValueType != "IMAGE":
                yield f"{here}: leads to no image"
        else:
            yield from _broken(child, rows[index].rows, root, here, in_order=in_order)
    for count, row in zip(counts, rows, strict=True):
        if not row.least <= count <= row.most:
            yield f"{at}: {row.relation} {row.kind} {row.concept} {count} times"


def _at(root: Dataset, position: list[int]) -> Dataset | None:
    item = root
    for number in position[1:]:
        children = item.get("ContentSequence", ())
        if number > len(children):
            return None
        item = children[number - 1]
    return item


def _concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""
