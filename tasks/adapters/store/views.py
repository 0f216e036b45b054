"""The views of an exam as a network wants them, read from the store by row; and which of an exam's views are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.preprocess import PreparedView
from gmic_model.seen_lesions import Lesions, lesions_in_window
from schemas.config.training import StoreReader
from schemas.exam import Finding, Laterality, LesionBeyond, ViewGeometry, ViewPosition
from schemas.layout import LESION_MASK, MASK_BITS, SEEN_ENOUGH
from schemas.reports.data import SeenBreasts
from tasks.adapters.store.exam_store import ExamStore, damaged_row, read_row
from tasks.adapters.store.manifest import lines_of

StoredView = tuple[ViewGeometry, tuple[int, int], float]
"""Geometry, (rows, columns) of the stored crop, tissue fraction."""

_PIXELS: Final = (
    "source_rows_px", "source_columns_px", "crop_top_px", "crop_bottom_px", "crop_left_px", "crop_right_px",
    "best_center_row_px", "best_center_column_px", "stored_rows_px", "stored_columns_px", "quarter_turns",
)  # fmt: skip
_VIEW_COLUMNS: Final[Mapping[str, type]] = {
    **dict.fromkeys(_PIXELS, np.int32),
    "is_flipped": np.bool_,
    "scale": np.float64,
    "tissue_fraction": np.float64,
}
_BEYOND: Final = "lesions_beyond"
VIEWED_COLUMNS: Final = frozenset({*_VIEW_COLUMNS, "row", "view_position", "has_lesion_mask", _BEYOND})
"""What ``stored_views`` asks of a manifest's lines."""


@dataclass(frozen=True)
class StoredViews:
    """Reads prepared views by row, in any thread; holds paths and numbers, and opens the store where it is first read.

    Attributes:
        store: Where the pixels are.
        views: By row.
        reader: Which library reads; the pixels are the same.
        masked_rows: Rows that have a lesion mask.
        beyond: What the stored crops do not hold of lesions, by row.
    """

    store: ExamStore
    views: Mapping[int, StoredView]
    reader: StoreReader = StoreReader.ZARR
    masked_rows: frozenset[int] = frozenset()
    beyond: Mapping[int, tuple[LesionBeyond, ...]] = field(default_factory=dict)

    def __call__(self, row: int) -> PreparedView:
        """The view as ingest prepared it."""
        geometry, (rows_px, columns_px), tissue_fraction = self.views[row]
        pixels_HW = read_row(self.store, row, size_px=(rows_px, columns_px), reader=self.reader)
        return PreparedView(pixels_HW=pixels_HW, geometry=geometry, tissue_fraction=tissue_fraction)

    def lesion_mask(self, row: int) -> NDArray[np.uint8]:
        """Lesion bits (benign 1, malignant 2) in the stored crop's frame.

        Raises:
            StoreError: The stored bytes do not match their checksum, or a mask that the manifest tells of is not there.
        """
        mask_HW: NDArray[np.uint8] = read_row(self.store, row, LESION_MASK, size_px=self.views[row][1])
        if row in self.masked_rows and not mask_HW.any():
            raise damaged_row(self.store, row, LESION_MASK, got="nothing: its shard is missing")
        return mask_HW

    def lesions(self, row: int) -> dict[Finding, Lesions]:
        """The lesions that the view's mask marks, by finding; each with what window and crop cut off.

        Raises:
            StoreError: As ``lesion_mask``.
        """
        geometry, shape_px, _ = self.views[row]
        mask_HW = self.lesion_mask(row) if row in self.masked_rows else np.zeros(shape_px, np.uint8)
        found = {
            finding: lesions_in_window(
                mask_HW & bit, geometry, [one for one in self.beyond.get(row, ()) if one.finding is finding]
            )
            for finding, bit in MASK_BITS.items()
        }
        return {finding: lesions for finding, lesions in found.items() if len(lesions.size_P)}


def stored_views(
    store: ExamStore, manifest: pd.DataFrame, window_px: tuple[int, int], *, reader: StoreReader = StoreReader.ZARR
) -> StoredViews:
    """A reader of the manifest's rows."""
    views = _ViewsOfLines(manifest, window_px)
    masked_rows = frozenset(int(row) for row in manifest.loc[manifest["has_lesion_mask"], "row"])
    beyond = {
        int(line["row"]): tuple(LesionBeyond.of_text(text) for text in line[_BEYOND].split("; "))
        for line in lines_of(marked_beyond(manifest))
    }
    return StoredViews(store, views, reader, masked_rows, beyond)


def seen_fractions(manifest: pd.DataFrame, window_px: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each image's breast inside the window; NaN where an older version cut it and did not say."""
    is_cut_N = (manifest["stored_rows_px"] > window_px[0]) | (manifest["stored_columns_px"] > window_px[1])
    said = manifest["breast_seen_fraction"] if "breast_seen_fraction" in manifest else pd.Series(np.nan, index=manifest.index)
    return np.where(is_cut_N, said.to_numpy(np.float64), 1.0)


def seen_breasts(seen_N: NDArray[np.float64], least_scale: float | None) -> SeenBreasts:
    """What the window holds of the breasts, in numbers.

    Args:
        seen_N: ``seen_fractions``.
        least_scale: Of the images' scales; None = there is none.
    """
    known_N = seen_N[~np.isnan(seen_N)]
    return SeenBreasts(
        images=len(seen_N),
        images_cut=int((known_N < 1.0).sum()),
        images_cut_much=int((known_N < SEEN_ENOUGH).sum()),
        mean_seen=float(known_N.mean()) if known_N.size else None,
        least_seen=float(known_N.min()) if known_N.size else None,
        images_unknown=len(seen_N) - len(known_N),
        least_scale=least_scale,
    )


def marked_beyond(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest's lines whose lesions reach beyond the stored crop; a store that has none has no such column."""
    return manifest[manifest[_BEYOND].notna()] if _BEYOND in manifest else manifest.iloc[:0]


class _ViewsOfLines(Mapping[int, StoredView]):
    """The views of a manifest's lines by row, each made where it is asked for: of a million, what is kept is some columns."""

    def __init__(self, manifest: pd.DataFrame, window_px: tuple[int, int]) -> None:
        named = [name for name in _VIEW_COLUMNS if name in manifest]
        self._columns = {name: manifest[name].to_numpy(_VIEW_COLUMNS[name]) for name in named}
        self._is_mlo_N = (manifest["view_position"] == ViewPosition.MLO.value).to_numpy(bool)
        self._window_px = window_px
        rows_N = manifest["row"].to_numpy(np.int64)
        self._order_N = np.argsort(rows_N, kind="stable")
        self._rows_N = rows_N[self._order_N]

    def __getitem__(self, row: int) -> StoredView:
        place = int(np.searchsorted(self._rows_N, row))
        if place == len(self._rows_N) or self._rows_N[place] != row:
            raise KeyError(row)
        at = self._order_N[place]
        line = {name: column_N[at].item() for name, column_N in self._columns.items()}
        position = ViewPosition.MLO if self._is_mlo_N[at] else ViewPosition.CC
        size_px = line["stored_rows_px"], line["stored_columns_px"]
        return _geometry_of(line, position, self._window_px), size_px, line["tissue_fraction"]

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows_N.tolist())

    def __len__(self) -> int:
        return len(self._rows_N)


def _geometry_of(line: Mapping[str, Any], position: ViewPosition, window_px: tuple[int, int]) -> ViewGeometry:
    return ViewGeometry(
        source_shape_px=(line["source_rows_px"], line["source_columns_px"]),
        crop_box_px=(line["crop_top_px"], line["crop_bottom_px"], line["crop_left_px"], line["crop_right_px"]),
        is_flipped=line["is_flipped"],
        scale=line["scale"],
        best_center_px=(line["best_center_row_px"], line["best_center_column_px"]),
        window_px=window_px,
        view_position=position,
        quarter_turns=line.get("quarter_turns", 0),
    )


def cut_views(lines: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for each image whose breast the window does not hold; lines with ``breast_seen_fraction`` of each image."""
    return tuple(
        f"Of {line['laterality']} {line['view_position']} of exam {line['exam_id']} the network saw "
        + (
            "a part: how much is not recorded."
            if np.isnan(seen)
            else f"{seen:.0%} of the breast: the rest lies outside its window."
        )
        for line in lines
        if not (seen := line["breast_seen_fraction"]) >= SEEN_ENOUGH
    )


def missing_views(lines: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for each exam that lacks standard views."""
    standard = {(side.value, view.value) for side in Laterality for view in ViewPosition}
    present: dict[str, set[tuple[str, str]]] = {}
    for line in lines:
        present.setdefault(str(line["exam_id"]), set()).add((str(line["laterality"]), str(line["view_position"])))
    sentences = []
    for exam_id, found in sorted(present.items()):
        absent = sorted(f"{side}-{view}" for side, view in standard - found)
        if absent:
            sentences.append(
                f"Exam {exam_id} has {len(found)} of 4 standard views: {', '.join(absent)} missing; "
                "a breast's score is the mean of the views that are there."
            )
    return tuple(sentences)
