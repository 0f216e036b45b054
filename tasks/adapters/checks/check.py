"""What a data check is: an expectation with its words and severity, a suite of them on a table, and derived columns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from schemas.layout import Severity

logger = logging.getLogger(__name__)

SAFE_ID: Final = r"^[A-Za-z0-9._-]{1,64}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """An expectation to be.

    Attributes:
        name: The rule in words, after its id where it has one.
        expectation: Class in ``great_expectations.expectations``.
        remedy: What to do about a breach, for the page of all checks.
    """

    name: str
    column: str
    expectation: str
    arguments: Mapping[str, Any]
    severity: Severity
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Checks on one table; several tables may share a suite's name."""

    name: str
    table: pd.DataFrame
    checks: Sequence[Check]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A derived column: what it needs, and how it is counted from a table or its groups."""

    needs: tuple[str, ...]
    count: Callable[[Any], pd.Series[Any]]


def check_of(name: str, column: str, expectation: str, severity: Severity, *, remedy: str = "", **arguments: Any) -> Check:
    """An expectation on one column."""
    return Check(
        name=name,
        column=column,
        expectation=expectation,
        severity=severity,
        arguments={"column": column, **arguments},
        remedy=remedy,
    )


def between(name: str, column: str, severity: Severity, low: float | None, high: float | None, remedy: str = "") -> Check:
    """Each value of a column lies between two limits, both included; None = no limit."""
    return check_of(name, column, "ExpectColumnValuesToBeBetween", severity, min_value=low, max_value=high, remedy=remedy)


def is_above(name: str, larger: str, smaller: str, *, or_equal: bool = False) -> Check:
    """In each line one column is larger than another, or equal."""
    arguments = {"column_A": larger, "column_B": smaller, "or_equal": or_equal}
    return Check(
        name=name,
        column=f"{larger}, {smaller}",
        expectation="ExpectColumnPairValuesAToBeGreaterThanB",
        arguments=arguments,
        severity=Severity.BLOCK,
    )


def table_check(name: str, expectation: str, **arguments: Any) -> Check:
    """An expectation on the table as a whole; a breach blocks."""
    return Check(name=name, column="", expectation=expectation, arguments=arguments, severity=Severity.BLOCK)


def distinct(column: str) -> Callable[[Any], pd.Series[Any]]:
    """Counts how many values of a column each group has."""
    return lambda groups: groups[column].nunique()


def total(column: str) -> Callable[[Any], pd.Series[Any]]:
    """Adds up a column within each group."""
    return lambda groups: groups[column].sum()


def holders(images: pd.DataFrame, holder: str) -> pd.Series[Any]:
    """Of each image: how many patients, exams or splits hold its pixels."""
    return distinct_of(images, "pixel_sha256", holder)


def distinct_of(table: pd.DataFrame, key: str, counted: str) -> pd.Series[Any]:
    """Of each line: how many values of a column the lines with its key have; NaN where the key is empty.

    What ``transform("nunique")`` of the groups says, in a tenth of its time where most groups are small.

    Raises:
        TypeError: A value of either column cannot be told from another.
    """
    (place_N, keys), (value_N, values) = (pd.factorize(table[name]) for name in (key, counted))
    is_pair_N = (place_N >= 0) & (value_N >= 0)
    pairs = pd.unique(place_N[is_pair_N].astype(np.int64) * max(len(values), 1) + value_N[is_pair_N])
    count_K = np.bincount(pairs // max(len(values), 1), minlength=len(keys) + 1)  # the last is that of empty keys
    return pd.Series(np.where(place_N >= 0, count_K[place_N], np.nan), index=table.index)


def has_columns(table: pd.DataFrame, columns: Iterable[str]) -> bool:
    """True if the table has them all."""
    return set(columns) <= set(table.columns)


def derived_columns(table: Any, recipes: Mapping[str, Recipe], *, columns: pd.Index[Any] | None = None) -> dict[str, Any]:
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


def count_by(keys: list[str], table: pd.DataFrame, recipes: Mapping[str, Recipe]) -> pd.DataFrame:
    """One line per exam, breast or patient with its counts."""
    if not has_columns(table, keys):
        return pd.DataFrame()
    return pd.DataFrame(derived_columns(table.groupby(keys), recipes, columns=table.columns))
