"""The suites of data checks: which rule holds on which table, and how severe a breach is. Pure pandas and words.

The checks on images are made from ``schemas.layout.MANIFEST_COLUMNS``, as the writer's table is. Rules about an exam, a breast
or a patient are counted into columns of an exam, breast or patient table, and then held by ordinary expectations, so that an
unexpected count is a number of exams, breasts or patients. Running them is ``expectations.py``; what a file must hold to be let
in at all is the gate's; pixels are checked through their statistics in the manifest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import pandas as pd

from schemas.exam import LABEL_SOURCES, UNKNOWN
from schemas.layout import MANIFEST_COLUMNS, MANIFEST_NAMES, OPTIONAL_COLUMNS, SEEN_ENOUGH, VIEWS_PER_EXAM, Column, Severity
from tasks.adapters.checks.check import (
    SAFE_ID,
    Check,
    Recipe,
    Suite,
    between,
    check_of,
    count_by,
    derived_columns,
    distinct,
    holders,
    is_above,
    table_check,
    total,
)

logger = logging.getLogger(__name__)

MANIFEST_SUITES: Final = ("ingest_images", "exams", "labels", "batch_drift")


def manifest_suites(manifest: pd.DataFrame) -> tuple[Suite, ...]:
    """Suites ``ingest_images``, ``exams`` and ``labels`` of the published images."""
    exams = count_by(["exam_id"], _with_sharing(manifest), _EXAM_RECIPES)
    breasts = count_by(["exam_id", "laterality"], _with_label_facts(manifest), _BREAST_RECIPES)
    texts, numbers = manifest.filter(_TEXT_NAMES), manifest.drop(columns=_TEXT_NAMES, errors="ignore")
    # Great Expectations copies the whole table for each check, and text is slow to copy: narrow tables cost less.
    more = [column for column in OPTIONAL_COLUMNS if column.name in manifest]
    return (
        Suite(name="ingest_images", table=manifest, checks=_table_checks(more)),
        Suite(name="ingest_images", table=texts, checks=_TEXT_CHECKS),
        Suite(
            name="ingest_images", table=numbers.assign(**derived_columns(numbers, _IMAGE_RECIPES)), checks=_number_checks(more)
        ),
        Suite(name="exams", table=exams, checks=_EXAM_CHECKS),
        Suite(name="labels", table=breasts, checks=_BREAST_CHECKS),
    )


# ------------------------------------------------------------------------------------------------------- words of a check


# ------------------------------------------------------------------------------------------------------------------ images

_PANDAS_TYPE: Final = {"string": "str"}


def _type_check(column: Column) -> Check:
    type_name = _PANDAS_TYPE.get(column.dtype, column.dtype)
    return check_of(f"is {column.dtype}", column.name, "ExpectColumnValuesToBeOfType", Severity.BLOCK, type_=type_name)


def _column_checks(column: Column) -> Iterable[Check]:
    block, name = Severity.BLOCK, column.name
    if not column.is_nullable:
        yield check_of("is never empty", name, "ExpectColumnValuesToNotBeNull", block)
    if column.is_unique:
        yield check_of("is unique", name, "ExpectColumnValuesToBeUnique", block)
    if column.allowed is not None:
        values = list(column.allowed)
        yield check_of(
            f"is one of {', '.join(map(str, values))}", name, "ExpectColumnValuesToBeInSet", column.severity, value_set=values
        )
    if column.minimum is not None or column.maximum is not None:
        limits = [
            f"{word} {limit:g}"
            for word, limit in (("at least", column.minimum), ("at most", column.maximum))
            if limit is not None
        ]
        yield between(f"is {' and '.join(limits)}", name, column.severity, column.minimum, column.maximum)


_IMAGE_RECIPES: Final = {"stored_limit": Recipe(("bits_stored",), lambda images: 2 ** images["bits_stored"] - 1)}

_TEXT_NAMES: Final = [column.name for column in MANIFEST_COLUMNS if column.dtype == "string"]


def _table_checks(more: Sequence[Column]) -> tuple[Check, ...]:
    names = [*MANIFEST_NAMES, *(column.name for column in more)]
    return (
        table_check("there is an image", "ExpectTableRowCountToBeBetween", min_value=1),
        table_check("the columns are those of the schema", "ExpectTableColumnsToMatchSet", column_set=names),
        *(_type_check(column) for column in (*MANIFEST_COLUMNS, *more)),
    )


_TEXT_CHECKS: Final = (
    *(check for column in MANIFEST_COLUMNS if column.name in _TEXT_NAMES for check in _column_checks(column)),
    *(
        check_of("I04: is a plain name", name, "ExpectColumnValuesToMatchRegex", Severity.BLOCK, regex=SAFE_ID)
        for name in ("image_id", "exam_id", "patient_id")
    ),
)

_NUMBER_CHECKS: Final = (
    *(check for column in MANIFEST_COLUMNS if column.name not in _TEXT_NAMES for check in _column_checks(column)),
    is_above("the crop has rows", "crop_bottom_px", "crop_top_px"),
    is_above("the crop has columns", "crop_right_px", "crop_left_px"),
    is_above("the crop ends inside the source", "source_rows_px", "crop_bottom_px", or_equal=True),
    is_above("the crop ends inside the source", "source_columns_px", "crop_right_px", or_equal=True),
    is_above("X24: values fit BitsStored", "stored_limit", "pixel_max", or_equal=True),
    is_above("X25: the image is not constant", "pixel_max", "pixel_min"),
)


def _number_checks(more: Sequence[Column]) -> tuple[Check, ...]:
    enough = f"the network's window holds at least {SEEN_ENOUGH:g} of"
    remedy = "what is outside is never seen; `preprocess.oversize: shrink`, in another workspace, shows all of it"
    seen = [
        between(f"{enough} {what}", name, Severity.WARN, SEEN_ENOUGH, None, remedy)
        for name, what in (("breast_seen_fraction", "the breast"), ("lesion_seen_fraction", "each lesion"))
        if name in {column.name for column in more}
    ]
    return (*_NUMBER_CHECKS, *(check for column in more for check in _column_checks(column)), *seen)


# ------------------------------------------------------------------------------------------------------------------- exams


_EXAM_RECIPES: Final = {
    "patients": Recipe(("patient_id",), distinct("patient_id")),
    "exam_dates": Recipe(("exam_date",), distinct("exam_date")),
    "patient_ages": Recipe(("patient_age_years",), distinct("patient_age_years")),
    "acquisitions": Recipe(("acquisition",), distinct("acquisition")),
    "standard_views": Recipe(("standard_view",), distinct("standard_view")),
    "images_of_repeated_views": Recipe(("standard_view",), lambda groups: groups.size() - groups["standard_view"].nunique()),
    "images_repeated_in_exam": Recipe(("is_repeated_in_exam",), total("is_repeated_in_exam")),
    "images_of_other_patients": Recipe(("is_of_other_patient",), total("is_of_other_patient")),
    "images_of_other_exams": Recipe(("is_of_other_exam",), total("is_of_other_exam")),
}

_EXAM_CHECKS: Final = (
    between(
        "E01: the exam has the four standard views",
        "standard_views",
        Severity.WARN,
        VIEWS_PER_EXAM,
        VIEWS_PER_EXAM,
        "a missing view is common; scores of such breasts rest on one view",
    ),
    between(
        "E02: no view comes twice",
        "images_of_repeated_views",
        Severity.WARN,
        None,
        0,
        "both are used; drop repeats at the source if they are rejects",
    ),
    between(
        "E03: no two images of the exam have the same pixels",
        "images_repeated_in_exam",
        Severity.BLOCK,
        None,
        0,
        "one of them has the wrong side or view",
    ),
    between(
        "E03: no image has the pixels of another patient's",
        "images_of_other_patients",
        Severity.BLOCK,
        None,
        0,
        "remove all but one, or give the patients one PatientID: it would leak",
    ),
    between(
        "E03: no image has the pixels of another exam's",
        "images_of_other_exams",
        Severity.WARN,
        None,
        0,
        "a re-sent exam under a new UID; counts twice",
    ),
    between("E04: the exam is of one patient", "patients", Severity.BLOCK, 1, 1, "merged exams; correct at the source"),
    between("E04: the exam is of one date", "exam_dates", Severity.BLOCK, None, 1, "merged exams; correct at the source"),
    between(
        "E04: the patient has one age",
        "patient_ages",
        Severity.WARN,
        None,
        1,
        "two patients under one PatientID, or a slip of the device",
    ),
    between(
        "the exam was acquired in one way",
        "acquisitions",
        Severity.WARN,
        None,
        1,
        "film, FFDM and synthetic 2-D images are mixed",
    ),
)


def _with_sharing(manifest: pd.DataFrame) -> pd.DataFrame:
    """Say of each image which view it is, and with whom it shares its pixels."""
    recipes = {
        "standard_view": Recipe(("laterality", "view_position"), lambda images: images["laterality"] + images["view_position"]),
        "is_repeated_in_exam": Recipe(
            ("exam_id", "pixel_sha256"),
            lambda images: images.duplicated(["exam_id", "pixel_sha256"], keep=False) & images["pixel_sha256"].notna(),
        ),
        "is_of_other_patient": Recipe(("pixel_sha256", "patient_id"), lambda images: holders(images, "patient_id") > 1),
        "is_of_other_exam": Recipe(("pixel_sha256", "exam_id"), lambda images: holders(images, "exam_id") > 1),
    }
    return manifest.assign(**derived_columns(manifest, recipes))


# ------------------------------------------------------------------------------------------------------------------ labels

_BREAST_RECIPES: Final = {
    "benign_labels": Recipe(("benign",), distinct("benign")),
    "malignant_labels": Recipe(("malignant",), distinct("malignant")),
    "birads_labels": Recipe(("birads",), distinct("birads")),
    "label_sources": Recipe(("label_source",), distinct("label_source")),
    "label_source": Recipe(("label_source",), lambda groups: groups["label_source"].first()),
    "images_with_known_label": Recipe(("is_known",), total("is_known")),
    "images_without_label_source": Recipe(("lacks_source",), total("lacks_source")),
    "masks_without_finding": Recipe(("has_mask_of_nothing",), total("has_mask_of_nothing")),
    "malignant_but_birads_1": Recipe(("is_malignant_birads_1",), total("is_malignant_birads_1")),
}

_BREAST_CHECKS: Final = (
    between(
        "R60: the breast's views agree on benign",
        "benign_labels",
        Severity.BLOCK,
        None,
        1,
        "labels are per breast; ingest again",
    ),
    between(
        "R60: the breast's views agree on malignant",
        "malignant_labels",
        Severity.BLOCK,
        None,
        1,
        "labels are per breast; ingest again",
    ),
    between(
        "R60: the breast's views agree on BI-RADS",
        "birads_labels",
        Severity.WARN,
        None,
        1,
        "labels are per breast; ingest again",
    ),
    between(
        "R60: the breast's views agree on the label's source",
        "label_sources",
        Severity.WARN,
        None,
        1,
        "labels are per breast; ingest again",
    ),
    between(
        "R61: benign or malignant is known",
        "images_with_known_label",
        Severity.WARN,
        1,
        None,
        "unlabelled breasts are not trained on",
    ),
    between(
        "a known label has a source",
        "images_without_label_source",
        Severity.WARN,
        None,
        0,
        "say in the labels file where it comes from",
    ),
    check_of(
        "the label's source is of the schema",
        "label_source",
        "ExpectColumnValuesToBeInSet",
        Severity.WARN,
        value_set=list(LABEL_SOURCES),
        remedy="see [labels.md](labels.md)",
    ),
    between(
        "a breast without finding has no lesion mask", "masks_without_finding", Severity.WARN, None, 0, "label or mask is wrong"
    ),
    between(
        "a malignant breast is not BI-RADS 1",
        "malignant_but_birads_1",
        Severity.WARN,
        None,
        0,
        "an interval cancer, or a slipped label",
    ),
)


def _with_label_facts(manifest: pd.DataFrame) -> pd.DataFrame:
    def is_known(images: pd.DataFrame) -> pd.Series[Any]:
        return (images["benign"] != UNKNOWN) | (images["malignant"] != UNKNOWN)

    recipes = {
        "is_known": Recipe(("benign", "malignant"), is_known),
        "lacks_source": Recipe(
            ("benign", "malignant", "label_source"), lambda images: is_known(images) & images["label_source"].isna()
        ),
        "has_mask_of_nothing": Recipe(
            ("benign", "malignant", "has_lesion_mask"),
            lambda images: images["has_lesion_mask"].eq(True) & (images["benign"] == 0) & (images["malignant"] == 0),
        ),
        "is_malignant_birads_1": Recipe(
            ("malignant", "birads"), lambda images: (images["malignant"] == 1) & (images["birads"] == 1)
        ),
    }
    return manifest.assign(**derived_columns(manifest, recipes))


# ------------------------------------------------------------------------------------------------------------------ splits


# ------------------------------------------------------------------------------------------------------------ counting
