"""Lines as the manifest has them, by column: made of values, or put together of columns that are there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from schemas.layout import MANIFEST_COLUMNS, MANIFEST_NAMES, OPTIONAL_COLUMNS, Column

COLUMNS: Final = (*MANIFEST_COLUMNS, *OPTIONAL_COLUMNS)
"""That a manifest may have, in its order."""
_ZERO_WHERE_UNSAID: Final = frozenset(column.name for column in OPTIONAL_COLUMNS if not column.is_nullable)


@dataclass(frozen=True, slots=True)
class LineColumns:
    """Some lines.

    Attributes:
        batch: Every column that a manifest may have; what is not said is null, or 0.
        says: The optional columns in which one of them has something to say.
    """

    batch: pa.RecordBatch
    says: frozenset[str]


def schema_of(says: Iterable[str]) -> pa.Schema:
    """Of a manifest that has these optional columns, with what pandas reads of it."""
    names = {*MANIFEST_NAMES, *says}
    return _batch(_typed([], [column for column in COLUMNS if column.name in names])).schema


def columns_of(lines: Sequence[Mapping[str, object]]) -> LineColumns:
    """Lines by the columns of each, of whatever values can be made those of its column.

    Raises:
        TypeError, ValueError: One cannot.
    """
    asked = set().union(*lines)  # most lines lack most of them
    says = frozenset(
        column.name
        for column in OPTIONAL_COLUMNS
        if column.name in asked and any(_says(line.get(column.name), column) for line in lines)
    )
    return LineColumns(_batch(_typed(lines, COLUMNS)), says)


def columns_together(arrays: Mapping[str, pa.Array], lines: int) -> LineColumns | None:
    """Lines whose columns are there already, of the types of ``TYPES``; a column that is not has nothing to say.

    None = a value is missing where a manifest must have one, or is beyond all numbers: ``columns_of`` is to say of what kind.
    """
    made, says = [], set()
    for column in COLUMNS:
        array = arrays.get(column.name)
        if array is None:
            array = pa.nulls(lines, TYPES[column.name])
        elif column in OPTIONAL_COLUMNS and _any_says(array, column):
            says.add(column.name)
        if column.name in _ZERO_WHERE_UNSAID and array.null_count:
            array = array.fill_null(0)
        if column.dtype == "float64":
            numbers_N = array.to_numpy(zero_copy_only=False)
            if np.isinf(numbers_N).any():  # of an integer without end Arrow makes one too
                return None
            array = pa.array(numbers_N, from_pandas=True)  # what is no number is empty
        elif column.dtype != "string" and array.null_count:
            return None
        made.append(array)
    return LineColumns(pa.RecordBatch.from_arrays(made, schema=_SCHEMA), frozenset(says))


def _any_says(array: pa.Array, column: Column) -> bool:
    """``_says`` of all values of a column: one that is no number says something."""
    if column.is_nullable:
        return bool(array.null_count < len(array))
    return bool(np.any(array.fill_null(0).to_numpy()))


def _typed(lines: Sequence[Mapping[str, object]], columns: Sequence[Column]) -> pd.DataFrame:
    """Some lines as the manifest has them; 0 where an optional column that must have a value has none."""
    return pd.DataFrame({column.name: _values(lines, column) for column in columns}, copy=False)


def _values(lines: Sequence[Mapping[str, object]], column: Column) -> ExtensionArray | NDArray[Any]:
    """One column, made as its type at once: to change the type of one takes pandas 0.1 ms, whatever the lines are."""
    values: list[Any] = [line.get(column.name) for line in lines]
    if column.name in _ZERO_WHERE_UNSAID:
        values = [0 if value is None or value != value else value for value in values]
    return pd.array(values, dtype="string") if column.dtype == "string" else np.array(values, dtype=column.dtype)


def _batch(frame: pd.DataFrame) -> pa.RecordBatch:
    return pa.RecordBatch.from_pandas(frame, preserve_index=False)


def _says(value: object, column: Column) -> bool:
    """True if a line has something to say in an optional column."""
    return value is not None if column.is_nullable else bool(value)


_SCHEMA: Final = schema_of(column.name for column in OPTIONAL_COLUMNS)
TYPES: Final[Mapping[str, pa.DataType]] = dict(zip(_SCHEMA.names, _SCHEMA.types, strict=True))
"""Of each column, as Arrow has it."""
