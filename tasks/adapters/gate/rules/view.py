"""Rules on side (L) and view (V): one of the four standard views, and every attribute says so."""

from __future__ import annotations

import re
from typing import Final

from gmic_model.pixels.orientation import UPRIGHT
from schemas.exam import Laterality, ViewPosition
from tasks.adapters.datasets.subject import VIEW_CODES
from tasks.adapters.dicom.header import DicomHeader
from tasks.adapters.gate.orientation import NOTHING, Told, told_by
from tasks.adapters.gate.rules.rule import BLOCK, WARN, Seen, rule

# CID 4015, SNOMED CT number and retired code. What is in no set below (nipple in profile, axillary tissue, infra-mammary fold,
# anterior compression, and what nobody knows) is V15's: why those warn, docs/decisions/0026 tells.
# Magnification, spot compression, tangential; then implant displaced.
_MAGNIFIED_MODIFIERS: Final = frozenset({"399163009", "R-102D6", "399055006", "R-102D7", "399110001", "R-102C2"})
_IMPLANT_DISPLACED: Final = frozenset({"399209000", "R-102D5"})
# Cleavage, axillary tail; rolled lateral, medial, inferior, superior.
_OTHER_VIEW_MODIFIERS: Final = frozenset(
    {
        "399161006", "R-102D2", "399011000", "R-102D1", "399197002", "R-102D3", "399226006", "R-102D4", "414493004", "R-102CA",
        "415670009", "R-102C9",
    }
)  # fmt: skip
_SIDES: Final = frozenset(Laterality)
_VIEWS: Final = frozenset(ViewPosition)
_SMALLEST_MAGNIFICATION: Final = 1.4  # contact views are near 1.1, magnification views at 1.5 to 2


def magnification(header: DicomHeader) -> float:
    """EstimatedRadiographicMagnificationFactor (0018,1114); 1 if absent or nonsense."""
    factor = header.magnification_factor
    return factor if factor is not None and 1.0 <= factor <= 10.0 else 1.0


@rule("L01", BLOCK, "Exactly one side, R or L")
def is_side_known(seen: Seen) -> str | None:
    """A contradiction between R and L is L03's."""
    sides = set(seen.subject.sides.values())
    if len(sides & _SIDES) > 1 or seen.subject.laterality is not None:
        return None
    return "neither R nor L" if sides else "no side"


@rule("L02", WARN, "The side is in ImageLaterality (0020,0062), not in another attribute")
def is_side_in_its_place(seen: Seen) -> str | None:
    """Names the attribute that says it instead."""
    sides = seen.subject.sides
    return next(iter(sides)) if "ImageLaterality" not in sides and seen.subject.laterality is not None else None


@rule("L03", BLOCK, "All attributes that name a side name the same")
def are_sides_agreed(seen: Seen) -> str | None:
    """A wrong side puts a label on the wrong breast."""
    return "R and L" if len(set(seen.subject.sides.values()) & _SIDES) > 1 else None


@rule("L05", WARN, "The image lies upright; others are turned or mirrored to lie so")
def is_upright(seen: Seen) -> str | None:
    """PatientOrientation (0020,0020) names another way to lie than PS3.3 orients side and view."""
    told = _told(seen)
    if told.turn is None or told.turn == UPRIGHT:
        return None
    return f"quarter turns {told.turn.quarter_turns}, {'mirrored' if told.turn.is_mirrored else 'not mirrored'}"


@rule("L06", BLOCK, "PatientOrientation names directions that this side can have")
def is_orientation_possible(seen: Seen) -> str | None:
    """Down is to the feet and to the body's middle: letters of the right breast on an image of the left one contradict it."""
    return "" if _told(seen).is_contradiction else None


@rule("L08", WARN, "No attribute names a side that is neither R nor L")
def are_sides_sides(seen: Seen) -> str | None:
    """As the series' Laterality (0020,0060) B beside an ImageLaterality (0020,0062) that says which."""
    header, named = seen.header, seen.subject.laterality is not None
    sources = {"ImageLaterality": header.image_laterality, "Laterality": header.laterality}
    others = [source for source, value in sources.items() if value and value not in _SIDES]
    return " ".join(others) if named and others else None


@rule("V01", BLOCK, "The view is CC or MLO")
def is_view_standard(seen: Seen) -> str | None:
    """A contradiction that CC or MLO is part of is V04's."""
    views = set(seen.subject.views.values())
    if seen.subject.view_position is not None or (views & _VIEWS and len(views) > 1):
        return None
    return "another view" if views else "no view"


@rule("V02", WARN, "The view is in ViewCodeSequence (0054,0220), not in another attribute")
def is_view_in_its_place(seen: Seen) -> str | None:
    """Names the attribute that says it instead."""
    views = seen.subject.views
    return next(iter(views)) if "ViewCodeSequence" not in views and seen.subject.view_position is not None else None


@rule("V03", WARN, "The view code is in CID 4014")
def is_view_code_known(seen: Seen) -> str | None:
    """The context group of mammography views (PS3.16)."""
    codes = seen.header.view_codes
    return "" if codes and codes[0].value not in VIEW_CODES else None


@rule("V04", BLOCK, "All attributes that name a view name the same")
def are_views_agreed(seen: Seen) -> str | None:
    """Names the attributes that speak of a view."""
    views = set(seen.subject.views.values())
    return " and ".join(seen.subject.views) if views & _VIEWS and len(views) > 1 else None


@rule("V05", BLOCK, "No magnification, spot compression or tangential view")
def is_not_spot(seen: Seen) -> str | None:
    """By the view's modifiers (0054,0222), CID 4015."""
    return "" if _modifiers(seen) & _MAGNIFIED_MODIFIERS else None


@rule("V06", WARN, "No implant-displaced view")
def is_not_displaced(seen: Seen) -> str | None:
    """By the view's modifiers (0054,0222), CID 4015."""
    return "" if _modifiers(seen) & _IMPLANT_DISPLACED else None


@rule("V07", BLOCK, "Magnification factor below 1.4")
def is_not_magnified(seen: Seen) -> str | None:
    """Some magnification views are coded as plain ones: the factor tells."""
    factor = magnification(seen.header)
    return f"{factor:.2f}" if factor >= _SMALLEST_MAGNIFICATION else None


@rule("V08", WARN, "Not a partial view")
def is_not_partial(seen: Seen) -> str | None:
    """PartialView (0028,1350): a breast too large for the detector, in several images."""
    return "" if seen.header.partial_view == "YES" else None


@rule("V09", WARN, "No implant")
def has_no_implant(seen: Seen) -> str | None:
    """BreastImplantPresent (0028,1300)."""
    return "" if seen.header.breast_implant_present == "YES" else None


@rule("V10", WARN, "The paddle is not named a spot, magnification, localisation or biopsy paddle")
def is_paddle_plain(seen: Seen) -> str | None:
    """PaddleDescription (0018,11A4) is free text, so it only warns."""
    return "" if re.search(r"\b(spot|mag|loc|biops|needle)", seen.header.paddle_description, re.IGNORECASE) else None


@rule("V11", WARN, "PatientOrientation is given, and is one that a mammogram has")
def is_orientation_given(seen: Seen) -> str | None:
    """PatientOrientation (0020,0020): without it an image is taken for upright, and L04 goes by the side alone."""
    told = _told(seen)
    return "" if told.turn is None and not told.is_contradiction else None


@rule("V12", WARN, "The field of view is not flipped")
def is_not_flipped(seen: Seen) -> str | None:
    """FieldOfViewHorizontalFlip (0018,7034): the chest wall may lie on the other side than expected."""
    return "" if seen.header.field_of_view_horizontal_flip == "YES" else None


@rule("V13", WARN, "ViewPosition holds the view alone")
def is_view_alone(seen: Seen) -> str | None:
    """Some devices write the side before it: LCC. It counts as a source of the side, too."""
    return "" if "ViewPosition" in seen.subject.sides else None


@rule("V14", WARN, "No rolled, cleavage or axillary tail view")
def is_not_rolled(seen: Seen) -> str | None:
    """By the view's modifiers (0054,0222), CID 4015: coded as CC or MLO, and no screening view as they are."""
    return "" if _modifiers(seen) & _OTHER_VIEW_MODIFIERS else None


@rule("V15", WARN, "The view has no other modifier")
def is_not_modified(seen: Seen) -> str | None:
    """Nipple in profile, infra-mammary fold and the like, and codes that nobody knows: a standard view in a special way."""
    others = _modifiers(seen) - _MAGNIFIED_MODIFIERS - _IMPLANT_DISPLACED - _OTHER_VIEW_MODIFIERS
    return f"{len(others)} modifiers" if others else None


def _told(seen: Seen) -> Told:
    side = seen.subject.laterality
    return NOTHING if side is None else told_by(seen.header.patient_orientation, side)


def _modifiers(seen: Seen) -> set[str]:
    return {code.value for code in seen.header.view_modifier_codes}
