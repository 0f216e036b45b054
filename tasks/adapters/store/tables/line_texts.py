"""The version of a manifest's data: a digest of its lines as pandas writes them to CSV, made column by column."""

from __future__ import annotations

import hashlib
import mmap
from array import array
from collections.abc import Callable, Collection, Iterable
from io import BytesIO
from typing import Any, BinaryIO, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from schemas.layout import DEVICE_COLUMNS, MANIFEST_NAMES, OPTIONAL_COLUMNS
from tasks.adapters.store.parts import LINES_PER_GROUP

_LINES_PER_DIGEST: Final = 1000
_NUMBERS: Final = (np.bool_, np.int64, np.float64)
_EMPTY: Final = {"null_handling": "replace", "null_replacement": ""}


def data_version(manifest: pd.DataFrame) -> str:
    """sha256 over what training and evaluation see: images, crops, masks and labels; not where and when they were stored."""
    starts = range(0, max(1, len(manifest)), LINES_PER_GROUP)
    return version_as_they_lie(manifest.iloc[start : start + LINES_PER_GROUP] for start in starts)


def version_as_they_lie(parts: Iterable[pd.DataFrame | pa.RecordBatch], aside: BinaryIO | None = None) -> str:
    """The version of lines in any order: to gather texts of whole lines by image costs less than to gather all columns.

    A million lines are half a gigabyte of text: in memory, or in ``aside``, an empty file.

    Args:
        parts: Frames, or what such are read from.
        aside: Where the texts lie meanwhile.
    """
    text: BinaryIO = BytesIO() if aside is None else aside
    ends, digest = array("q", [0]), hashlib.sha256()
    images: list[pa.Array] = []
    for part in parts:
        said = part.select(_version_columns(part.schema.names)) if isinstance(part, pa.RecordBatch) else part
        said = said if isinstance(said, pa.RecordBatch) else said[_version_columns(said.columns)]
        if not images:
            digest.update(_csv(_framed(said).iloc[:0]))
        end_N, of_lines = _bytes_of(_csv_lines(said))
        ends.frombytes((ends[-1] + end_N[1:].astype(np.int64)).tobytes())
        text.write(of_lines)
        images.append(_images_of(said))
    order = compute.sort_indices(pa.chunked_array(images, pa.string()))
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(_content(text))]
    lines = pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)
    for start in range(0, len(lines), _LINES_PER_DIGEST):
        digest.update(_bytes_of(lines.take(order.slice(start, _LINES_PER_DIGEST)))[1])
    return digest.hexdigest()


def _images_of(part: pd.DataFrame | pa.RecordBatch) -> pa.Array:
    """Their ids in memory of their own: the column itself, and what Arrow casts it to, would keep the whole part."""
    return pa.array(
        part["image_id"].to_pylist() if isinstance(part, pa.RecordBatch) else part["image_id"].tolist(), pa.string()
    )


def _framed(part: pd.DataFrame | pa.RecordBatch) -> pd.DataFrame:
    return part.to_pandas() if isinstance(part, pa.RecordBatch) else part


def _content(file: BinaryIO) -> memoryview | mmap.mmap | bytes:
    """Without a copy of it."""
    if isinstance(file, BytesIO):
        return file.getbuffer()
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.tell() else b""


def _version_columns(names: Collection[str]) -> list[str]:
    """The columns that say what an image shows, of those that a manifest has."""
    columns = [name for name in MANIFEST_NAMES if name not in ("row", "gate_warnings", "batch", "batch_date")]
    # Which share a window holds follows from crop and window: a store that says it is of the same data as one that does not.
    # Nor does what made an image change what it shows.
    said = [one.name for one in OPTIONAL_COLUMNS if not one.name.endswith("_seen_fraction") and one not in DEVICE_COLUMNS]
    return columns + [name for name in said if name in names]


def _csv(part: pd.DataFrame, *, header: bool = True) -> bytes:
    return part.to_csv(index=False, header=header, lineterminator="\n").encode()


def _csv_lines(part: pd.DataFrame | pa.RecordBatch) -> pa.BinaryArray:
    """The lines that pandas writes, to the byte, in a fraction of its time: digests of every store hang on them."""
    columns = part.columns if isinstance(part, pa.RecordBatch) else [part[name] for name in part]
    *texts, last = (_csv_values(column) for column in columns)
    if last is not None and all(text is not None for text in texts):
        ended = compute.binary_join_element_wise(last, "\n", "", **_EMPTY)
        lines = compute.binary_join_element_wise(*texts, ended, ",", **_EMPTY).cast(pa.binary())
        text = bytes(_bytes_of(lines)[1])
        plain = {b",": len(lines) * len(texts), b"\n": len(lines), b'"': 0, b"\r": 0}
        if all(text.count(mark) == count for mark, count in plain.items()):
            return lines
    frame = _framed(part)
    found = [_csv(frame.iloc[[place]], header=False) for place in range(len(frame))]  # a value needs quotes, or is of no kind
    return pa.array(found, pa.binary())


def _bytes_of(lines: pa.BinaryArray | pa.LargeBinaryArray) -> tuple[NDArray[np.signedinteger[Any]], memoryview]:
    """Where each line ends, and before them 0; and the bytes of all. Only of an array that is no part of another."""
    _, ends, text = lines.buffers()
    if not len(lines):
        return np.zeros(1, np.int32), memoryview(b"")
    is_large = pa.types.is_large_binary(lines.type)
    end_N = (np.frombuffer(ends, np.int64) if is_large else np.frombuffer(ends, np.int32))[: len(lines) + 1]
    return end_N, memoryview(text)[: int(end_N[-1])]


def _csv_values(values: pd.Series[Any] | pa.Array) -> pa.Array | None:
    """The texts of a column as CSV has them, null where it is empty; None = of another kind than a manifest's columns."""
    if not isinstance(values, pa.Array):
        if isinstance(values.dtype, pd.StringDtype):
            texts = pa.array(values, from_pandas=True)
            values = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        elif (plain := values.to_numpy()).dtype in _NUMBERS:
            values = pa.array(plain)
        else:
            return None
    as_text = _CSV_TEXTS.get(values.type)
    if as_text is None or (
        values.null_count and values.type in (pa.bool_(), pa.int64())
    ):  # pandas makes other numbers of those
        return None
    return as_text(values)


def _csv_numbers(values: pa.Array) -> pa.Array:
    """Python's shortest texts, each made once."""
    bits = pa.array(values.to_numpy(zero_copy_only=False).view(np.int64))  # by their bits: 0.0 and -0.0 are two texts
    coded = bits.dictionary_encode()
    values_U = coded.dictionary.to_numpy().view(np.float64).tolist()
    return pa.array([repr(value) if value == value else None for value in values_U], pa.string()).take(coded.indices)


_CSV_TEXTS: Final[dict[pa.DataType, Callable[[pa.Array], pa.Array]]] = {
    pa.string(): lambda values: values,
    pa.large_string(): lambda values: values.cast(pa.string()),
    pa.bool_(): lambda values: compute.if_else(values, *(pa.scalar(said, pa.string()) for said in ("True", "False"))),
    pa.int64(): lambda values: values.cast(pa.string()),
    pa.float64(): _csv_numbers,
}
