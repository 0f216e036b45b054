"""The suites of data checks: which rule holds on which table, and how severe a breach is. Pure pandas and words.

The checks on images are made from ``schemas.layout.MANIFEST_COLUMNS``, as the writer's table is. Rules about an exam, a breast
or a patient are counted into columns of an exam, breast or patient table, and then held by ordinary expectations, so that an
unexpected count is a number of exams, breasts or patients. Running them is ``expectations.py``; what a file must hold to be let
in at all is the gate's; pixels are checked through their statistics in the manifest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from schemas.exam import LABEL_SOURCES, UNKNOWN_LABEL, Split
from schemas.layout import MANIFEST_COLUMNS, MANIFEST_NAMES, SPLIT_NAMES, VIEWS_PER_EXAM, Column, Severity

logger = logging.getLogger(__name__)

MANIFEST_SUITES: Final = ("ingest_images", "exams", "labels", "batch_drift")
_SAFE_ID: Final = r"^[A-Za-z0-9._-]{1,64}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """An expectation to be.

    Attributes:
        name: The rule in words, after its id where it has one.
        expectation: Class in ``great_expectations.expectations``.
    """

    name: str
    column: str
    expectation: str
    arguments: Mapping[str, Any]
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Checks on one table; several tables may share a suite's name."""

    name: str
    table: pd.DataFrame
    checks: Sequence[Check]


def manifest_suites(manifest: pd.DataFrame) -> tuple[Suite, ...]:
    """Suites ``ingest_images``, ``exams`` and ``labels`` of the published images."""
    exams = _count_by(["exam_id"], _with_sharing(manifest), _EXAM_RECIPES)
    breasts = _count_by(["exam_id", "laterality"], _with_label_facts(manifest), _BREAST_RECIPES)
    texts, numbers = manifest.filter(_TEXT_NAMES), manifest.drop(columns=_TEXT_NAMES, errors="ignore")
    # Great Expectations copies the whole table for each check, and text is slow to copy: narrow tables cost less.
    return (
        Suite(name="ingest_images", table=manifest, checks=_TABLE_CHECKS),
        Suite(name="ingest_images", table=texts, checks=_TEXT_CHECKS),
        Suite(name="ingest_images", table=numbers.assign(**_derived(numbers, _IMAGE_RECIPES)), checks=_NUMBER_CHECKS),
        Suite(name="exams", table=exams, checks=_EXAM_CHECKS),
        Suite(name="labels", table=breasts, checks=_BREAST_CHECKS),
    )


def split_suites(manifest: pd.DataFrame, splits: pd.DataFrame) -> tuple[Suite, ...]:
    """Suite ``splits``: on the table itself, on its patients, and on what each split holds."""
    return (
        Suite(name="splits", table=splits, checks=_SPLIT_TABLE_CHECKS),
        Suite(name="splits", table=_patient_table(manifest, splits), checks=_PATIENT_CHECKS),
        Suite(name="splits", table=_split_sizes(manifest, splits), checks=_SIZE_CHECKS),
    )


# ------------------------------------------------------------------------------------------------------- words of a check


@dataclass(frozen=True, slots=True)
class _Recipe:
    """A derived column: what it needs, and how it is counted from a table or its groups."""

    needs: tuple[str, ...]
    count: Callable[[Any], pd.Series[Any]]


def _check(name: str, column: str, expectation: str, severity: Severity, **arguments: Any) -> Check:
    return Check(
        name=name, column=column, expectation=expectation, severity=severity, arguments={"column": column, **arguments}
    )


def _between(name: str, column: str, severity: Severity, low: float | None, high: float | None) -> Check:
    return _check(name, column, "ExpectColumnValuesToBeBetween", severity, min_value=low, max_value=high)


def _is_above(name: str, larger: str, smaller: str, *, or_equal: bool = False) -> Check:
    arguments = {"column_A": larger, "column_B": smaller, "or_equal": or_equal}
    return Check(
        name=name,
        column=f"{larger}, {smaller}",
        expectation="ExpectColumnPairValuesAToBeGreaterThanB",
        arguments=arguments,
        severity=Severity.BLOCK,
    )


def _table_check(name: str, expectation: str, **arguments: Any) -> Check:
    return Check(name=name, column="", expectation=expectation, arguments=arguments, severity=Severity.BLOCK)


# ------------------------------------------------------------------------------------------------------------------ images

_PANDAS_TYPE: Final = {"string": "str"}


def _type_check(column: Column) -> Check:
    type_name = _PANDAS_TYPE.get(column.dtype, column.dtype)
    return _check(f"is {column.dtype}", column.name, "ExpectColumnValuesToBeOfType", Severity.BLOCK, type_=type_name)


def _column_checks(column: Column) -> Iterable[Check]:
    block, name = Severity.BLOCK, column.name
    if not column.is_nullable:
        yield _check("is never empty", name, "ExpectColumnValuesToNotBeNull", block)
    if column.is_unique:
        yield _check("is unique", name, "ExpectColumnValuesToBeUnique", block)
    if column.allowed is not None:
        values = list(column.allowed)
        yield _check(
            f"is one of {', '.join(map(str, values))}", name, "ExpectColumnValuesToBeInSet", column.severity, value_set=values
        )
    if column.minimum is not None or column.maximum is not None:
        limits = [
            f"{word} {limit:g}"
            for word, limit in (("at least", column.minimum), ("at most", column.maximum))
            if limit is not None
        ]
        yield _between(f"is {' and '.join(limits)}", name, column.severity, column.minimum, column.maximum)


_IMAGE_RECIPES: Final = {"stored_limit": _Recipe(("bits_stored",), lambda images: 2 ** images["bits_stored"] - 1)}

_TEXT_NAMES: Final = [column.name for column in MANIFEST_COLUMNS if column.dtype == "string"]

_TABLE_CHECKS: Final = (
    _table_check("there is an image", "ExpectTableRowCountToBeBetween", min_value=1),
    _table_check("the columns are those of the schema", "ExpectTableColumnsToMatchSet", column_set=list(MANIFEST_NAMES)),
    *(_type_check(column) for column in MANIFEST_COLUMNS),
)

_TEXT_CHECKS: Final = (
    *(check for column in MANIFEST_COLUMNS if column.name in _TEXT_NAMES for check in _column_checks(column)),
    *(
        _check("I04: is a plain name", name, "ExpectColumnValuesToMatchRegex", Severity.BLOCK, regex=_SAFE_ID)
        for name in ("image_id", "exam_id", "patient_id")
    ),
)

_NUMBER_CHECKS: Final = (
    *(check for column in MANIFEST_COLUMNS if column.name not in _TEXT_NAMES for check in _column_checks(column)),
    _is_above("the crop has rows", "crop_bottom_px", "crop_top_px"),
    _is_above("the crop has columns", "crop_right_px", "crop_left_px"),
    _is_above("the crop ends inside the source", "source_rows_px", "crop_bottom_px", or_equal=True),
    _is_above("the crop ends inside the source", "source_columns_px", "crop_right_px", or_equal=True),
    _is_above("X24: values fit BitsStored", "stored_limit", "pixel_max", or_equal=True),
    _is_above("X25: the image is not constant", "pixel_max", "pixel_min"),
)

# ------------------------------------------------------------------------------------------------------------------- exams


def _distinct(column: str) -> Callable[[Any], pd.Series[Any]]:
    return lambda groups: groups[column].nunique()


def _total(column: str) -> Callable[[Any], pd.Series[Any]]:
    return lambda groups: groups[column].sum()


_EXAM_RECIPES: Final = {
    "patients": _Recipe(("patient_id",), _distinct("patient_id")),
    "exam_dates": _Recipe(("exam_date",), _distinct("exam_date")),
    "patient_ages": _Recipe(("patient_age_years",), _distinct("patient_age_years")),
    "acquisitions": _Recipe(("acquisition",), _distinct("acquisition")),
    "standard_views": _Recipe(("standard_view",), _distinct("standard_view")),
    "images_of_repeated_views": _Recipe(("standard_view",), lambda groups: groups.size() - groups["standard_view"].nunique()),
    "images_repeated_in_exam": _Recipe(("is_repeated_in_exam",), _total("is_repeated_in_exam")),
    "images_of_other_patients": _Recipe(("is_of_other_patient",), _total("is_of_other_patient")),
    "images_of_other_exams": _Recipe(("is_of_other_exam",), _total("is_of_other_exam")),
}

_EXAM_CHECKS: Final = (
    _between("E01: the exam has the four standard views", "standard_views", Severity.WARN, VIEWS_PER_EXAM, VIEWS_PER_EXAM),
    _between("E02: no view comes twice", "images_of_repeated_views", Severity.WARN, None, 0),
    _between("E03: no two images of the exam have the same pixels", "images_repeated_in_exam", Severity.BLOCK, None, 0),
    _between("E03: no image has the pixels of another patient's", "images_of_other_patients", Severity.BLOCK, None, 0),
    _between("E03: no image has the pixels of another exam's", "images_of_other_exams", Severity.WARN, None, 0),
    _between("E04: the exam is of one patient", "patients", Severity.BLOCK, 1, 1),
    _between("E04: the exam is of one date", "exam_dates", Severity.BLOCK, None, 1),
    _between("E04: the patient has one age", "patient_ages", Severity.WARN, None, 1),
    _between("the exam was acquired in one way", "acquisitions", Severity.WARN, None, 1),
)


def _with_sharing(manifest: pd.DataFrame) -> pd.DataFrame:
    """Say of each image which view it is, and with whom it shares its pixels."""
    recipes = {
        "standard_view": _Recipe(
            ("laterality", "view_position"), lambda images: images["laterality"] + images["view_position"]
        ),
        "is_repeated_in_exam": _Recipe(
            ("exam_id", "pixel_sha256"),
            lambda images: images.duplicated(["exam_id", "pixel_sha256"], keep=False) & images["pixel_sha256"].notna(),
        ),
        "is_of_other_patient": _Recipe(("pixel_sha256", "patient_id"), lambda images: _holders(images, "patient_id") > 1),
        "is_of_other_exam": _Recipe(("pixel_sha256", "exam_id"), lambda images: _holders(images, "exam_id") > 1),
    }
    return manifest.assign(**_derived(manifest, recipes))


def _holders(images: pd.DataFrame, holder: str) -> pd.Series[Any]:
    """Of each image: how many patients, exams or splits hold its pixels."""
    return images.groupby("pixel_sha256")[holder].transform("nunique")


# ------------------------------------------------------------------------------------------------------------------ labels

_BREAST_RECIPES: Final = {
    "benign_labels": _Recipe(("benign",), _distinct("benign")),
    "malignant_labels": _Recipe(("malignant",), _distinct("malignant")),
    "birads_labels": _Recipe(("birads",), _distinct("birads")),
    "label_sources": _Recipe(("label_source",), _distinct("label_source")),
    "label_source": _Recipe(("label_source",), lambda groups: groups["label_source"].first()),
    "images_with_known_label": _Recipe(("is_known",), _total("is_known")),
    "images_without_label_source": _Recipe(("lacks_source",), _total("lacks_source")),
    "masks_without_finding": _Recipe(("has_mask_of_nothing",), _total("has_mask_of_nothing")),
    "malignant_but_birads_1": _Recipe(("is_malignant_birads_1",), _total("is_malignant_birads_1")),
}

_BREAST_CHECKS: Final = (
    _between("R60: the breast's views agree on benign", "benign_labels", Severity.BLOCK, None, 1),
    _between("R60: the breast's views agree on malignant", "malignant_labels", Severity.BLOCK, None, 1),
    _between("R60: the breast's views agree on BI-RADS", "birads_labels", Severity.WARN, None, 1),
    _between("R60: the breast's views agree on the label's source", "label_sources", Severity.WARN, None, 1),
    _between("R61: benign or malignant is known", "images_with_known_label", Severity.WARN, 1, None),
    _between("a known label has a source", "images_without_label_source", Severity.WARN, None, 0),
    _check(
        "the label's source is of the schema",
        "label_source",
        "ExpectColumnValuesToBeInSet",
        Severity.WARN,
        value_set=list(LABEL_SOURCES),
    ),
    _between("a breast without finding has no lesion mask", "masks_without_finding", Severity.WARN, None, 0),
    _between("a malignant breast is not BI-RADS 1", "malignant_but_birads_1", Severity.WARN, None, 0),
)


def _with_label_facts(manifest: pd.DataFrame) -> pd.DataFrame:
    def is_known(images: pd.DataFrame) -> pd.Series[Any]:
        return (images["benign"] != UNKNOWN_LABEL) | (images["malignant"] != UNKNOWN_LABEL)

    recipes = {
        "is_known": _Recipe(("benign", "malignant"), is_known),
        "lacks_source": _Recipe(
            ("benign", "malignant", "label_source"), lambda images: is_known(images) & images["label_source"].isna()
        ),
        "has_mask_of_nothing": _Recipe(
            ("benign", "malignant", "has_lesion_mask"),
            lambda images: images["has_lesion_mask"].eq(True) & (images["benign"] == 0) & (images["malignant"] == 0),
        ),
        "is_malignant_birads_1": _Recipe(
            ("malignant", "birads"), lambda images: (images["malignant"] == 1) & (images["birads"] == 1)
        ),
    }
    return manifest.assign(**_derived(manifest, recipes))


# ------------------------------------------------------------------------------------------------------------------ splits

_SPLIT_TABLE_CHECKS: Final = (
    _table_check("the columns are those of the schema", "ExpectTableColumnsToMatchSet", column_set=list(SPLIT_NAMES)),
    _check("is never empty", "patient_id", "ExpectColumnValuesToNotBeNull", Severity.BLOCK),
    _check("is never empty", "split", "ExpectColumnValuesToNotBeNull", Severity.BLOCK),
    _check(
        f"is one of {', '.join(Split)}",
        "split",
        "ExpectColumnValuesToBeInSet",
        Severity.BLOCK,
        value_set=[split.value for split in Split],
    ),
)

_PATIENT_CHECKS: Final = (
    _between("R62: every patient has a split", "lines_of_patient", Severity.BLOCK, 1, None),
    _between("R62: no patient has two", "lines_of_patient", Severity.BLOCK, None, 1),
    _between("R62: the patient's exams are in one split each", "splits_of_an_exam", Severity.BLOCK, None, 1),
    _between("R62: the patient's images are in one split each", "splits_of_an_image", Severity.BLOCK, None, 1),
    _between("every patient of the table has an image", "images", Severity.WARN, 1, None),
)

_SIZES: Final = ("exams", "malignant_breasts", "benign_breasts", "breasts_without_finding")

_SIZE_CHECKS: Final = tuple(
    _between(f"{split} has {size.replace('_', ' ')}", f"{split}_{size}", Severity.WARN, 1, None)
    for split in Split
    for size in _SIZES
)


def _patient_table(manifest: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """One line per patient of either table; without the columns to join by, an empty one on which every check errs."""
    if not _has(splits, SPLIT_NAMES) or not _has(manifest, ("patient_id",)):
        return pd.DataFrame()
    joined = manifest.merge(splits[list(SPLIT_NAMES)], on="patient_id", how="left")
    recipes = {
        "most_of_exam": _Recipe(("exam_id",), lambda images: images.groupby("exam_id")["split"].transform("nunique")),
        "most_of_image": _Recipe(("pixel_sha256",), lambda images: _holders(images, "split")),
    }
    joined = joined.assign(**_derived(joined, recipes))
    most = {
        "splits_of_an_exam": _Recipe(("most_of_exam",), lambda groups: groups["most_of_exam"].max()),
        "splits_of_an_image": _Recipe(("most_of_image",), lambda groups: groups["most_of_image"].max()),
    }
    patients = _count_by(["patient_id"], joined, most)
    lines = splits.groupby("patient_id").size()
    patients = patients.reindex(patients.index.union(lines.index))
    images = manifest.groupby("patient_id").size()
    return patients.assign(
        lines_of_patient=lines.reindex(patients.index, fill_value=0), images=images.reindex(patients.index, fill_value=0)
    )


def _split_sizes(manifest: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """One line with what each split holds, a column per split and size: what lacks is named by its column."""
    if not _has(splits, SPLIT_NAMES) or not _has(manifest, ("patient_id", "exam_id", "laterality", "benign", "malignant")):
        return pd.DataFrame()
    breasts = manifest.groupby(["patient_id", "exam_id", "laterality"], as_index=False)[["benign", "malignant"]].first()
    breasts = breasts.merge(splits[list(SPLIT_NAMES)], on="patient_id")
    sizes = {}
    for split in Split:
        own = breasts[breasts["split"] == split.value]
        counts = (
            own["exam_id"].nunique(),
            (own["malignant"] == 1).sum(),
            (own["benign"] == 1).sum(),
            ((own["malignant"] == 0) & (own["benign"] == 0)).sum(),
        )
        sizes.update({f"{split}_{size}": int(count) for size, count in zip(_SIZES, counts, strict=True)})
    return pd.DataFrame([sizes])


# ------------------------------------------------------------------------------------------------------------ counting


def _has(table: pd.DataFrame, columns: Iterable[str]) -> bool:
    return set(columns) <= set(table.columns)


def _derived(table: Any, recipes: Mapping[str, _Recipe], *, columns: pd.Index[Any] | None = None) -> dict[str, Any]:
    """The derived columns whose needs are there. One that cannot be counted is left out: its check then reports an error."""
    present = set(table.columns if columns is None else columns)
    derived = {}
    for name, recipe in recipes.items():
        if present.issuperset(recipe.needs):
            try:
                derived[name] = recipe.count(table)
            except (TypeError, ValueError) as error:  # a column of another type; that is a failed check, not a crash
                logger.warning("The check column %s could not be counted: %s", name, type(error).__name__)
    return derived


def _count_by(keys: list[str], table: pd.DataFrame, recipes: Mapping[str, _Recipe]) -> pd.DataFrame:
    """One line per exam, breast or patient with its counts."""
    if not _has(table, keys):
        return pd.DataFrame()
    return pd.DataFrame(_derived(table.groupby(keys), recipes, columns=table.columns))
