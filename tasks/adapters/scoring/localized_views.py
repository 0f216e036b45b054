"""How models' saliency and patches lie on lesions: masks where there are, else boxes (paper 3.1, 3.3). No Prefect.

The arithmetic is in ``gmic_model.metrics.lesions.localization``; here is which views have what, and the means over images.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gmic_model.metrics.lesions.localization import (
    ChanceLocalization,
    ContinuousF1,
    LesionCount,
    chance_localization,
    continuous_f1,
    is_pointing_at_lesion,
    lesions_reached,
    mean_localization,
)
from gmic_model.metrics.proportions import mean_interval, ratio_interval
from gmic_model.pixels.frames import boxes_in_crop, mask_to_window
from gmic_model.preprocess import PreparedView
from gmic_model.seen_lesions import Lesions, lesions_beyond, lesions_in_window
from schemas.exam import FINDINGS, Finding, LesionBox, ViewGeometry
from schemas.reports.evaluation import BoxLocalization, FindingMetrics, LesionsSeen, LocalizationIntervals
from tasks.adapters.scoring.scored_views import ScoredView
from tasks.adapters.store.manifest import lines_of
from tasks.adapters.store.views import StoredViews

LESION_BOXES, LESIONS_BEYOND = "lesion_boxes", "lesions_beyond"
"""Manifest columns; a store made before they existed, or without need of them, has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What marks the lesions of one view and finding.

    Attributes:
        lesions: In the network's window, with what lies outside of it.
        is_boxed: True if rectangles stand for the lesions.
        name_P: What each lesion is called in all images of the breast, None = not said; empty = of none it is.
    """

    finding: Finding
    lesions: Lesions
    is_boxed: bool
    name_P: tuple[str | None, ...] = ()

    @property
    def mask_HW(self) -> NDArray[np.bool_]:
        """What of them the network's window holds."""
        return self.lesions.mask_HW


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalizedView:
    """How one model's saliency and patches lie on one view's lesions of one finding.

    Attributes:
        area: Share of the window that the annotation covers.
        seen_P: Share of each lesion that lies in the network's window.
        chance: What a map that knows nothing would have.
    """

    row: int
    finding: Finding
    is_boxed: bool
    metrics: ContinuousF1
    is_pointing: bool
    lesions: LesionCount
    area: float
    seen_P: tuple[float, ...] = ()
    chance: ChanceLocalization | None = None


@dataclass(frozen=True, slots=True)
class BreastsOfMarked:
    """Reads views, and keeps where the breast is in the window of those that are annotated, until it is taken."""

    views: StoredViews
    rows: Collection[int]
    _breast: dict[int, NDArray[np.bool_]] = field(default_factory=dict)

    def __call__(self, row: int) -> PreparedView:
        """The view as ingest prepared it."""
        prepared = self.views(row)
        if row in self.rows:
            self._breast[row] = mask_to_window((prepared.pixels_HW > 0).view(np.uint8), prepared.geometry) > 0
        return prepared

    def take(self, row: int) -> NDArray[np.bool_] | None:
        """Where the breast is; once, and only of an annotated view that was read."""
        return self._breast.pop(row, None)


def annotated_rows(manifest: pd.DataFrame) -> dict[int, Mapping[str, object]]:
    """The manifest's lines, by row, that have a mask or boxes, also where the stored crop holds nothing of what they mark."""
    return {
        int(line["row"]): line for line in lines_of(manifest) if _is_masked(line) or isinstance(line.get(LESION_BOXES), str)
    }


def _is_masked(line: Mapping[str, object]) -> bool:
    return bool(line["has_lesion_mask"]) or isinstance(line.get(LESIONS_BEYOND), str)


def annotations_of(line: Mapping[str, object], views: StoredViews) -> list[Annotation]:
    """The marked findings of a view: by its mask, or by its boxes where it has no mask."""
    row = int(str(line["row"]))
    if _is_masked(line):
        return [Annotation(finding=finding, lesions=found, is_boxed=False) for finding, found in views.lesions(row).items()]
    boxes = [LesionBox.of_text(text) for text in str(line[LESION_BOXES]).split("; ")]
    geometry, shape_px, _ = views.views[row]
    found = []
    for finding in FINDINGS:
        own = [box for box in boxes if box.finding is finding or (box.finding is None and line[finding.value] == 1)]
        if own:
            lesions = _boxed_lesions(own, geometry, shape_px, finding)
            names = _names(own, lesions, geometry, shape_px)
            found.append(Annotation(finding=finding, lesions=lesions, is_boxed=True, name_P=names))
    return found


def _names(
    boxes: Sequence[LesionBox], lesions: Lesions, geometry: ViewGeometry, shape_px: tuple[int, int]
) -> tuple[str | None, ...]:
    """Each lesion's name: that of the first of its boxes that has one."""
    names: list[str | None] = [None] * len(lesions.size_P)
    for box in boxes:
        if box.lesion is not None:
            is_here_HW = mask_to_window(boxes_in_crop([box], geometry, shape_px), geometry) > 0
            for label in np.unique(lesions.label_HW[is_here_HW]).tolist():
                if label and names[label - 1] is None:
                    names[label - 1] = box.lesion
    return tuple(names) if any(names) else ()


def _boxed_lesions(boxes: Sequence[LesionBox], geometry: ViewGeometry, shape_px: tuple[int, int], finding: Finding) -> Lesions:
    """Boxes that overlap are one lesion."""
    top, bottom, left, right = geometry.crop_box_px
    is_inside = all(
        top <= box.top_px and box.bottom_px <= bottom and left <= box.left_px and box.right_px <= right for box in boxes
    )
    source_HW = np.zeros((0, 0) if is_inside else geometry.source_shape_px, np.uint8)
    for box in () if is_inside else boxes:
        source_HW[box.top_px : box.bottom_px, box.left_px : box.right_px] = 1
    beyond = () if is_inside else lesions_beyond(source_HW, geometry, finding)
    return lesions_in_window(boxes_in_crop(boxes, geometry, shape_px), geometry, beyond)


def localize(
    view: ScoredView,
    annotations: Sequence[Annotation],
    patch_size: tuple[int, int],
    breast_HW: NDArray[np.bool_] | None = None,
) -> list[LocalizedView]:
    """One model's view against each of its annotations; none for a network that has no map.

    Args:
        view: What the model gave.
        annotations: Of this view.
        patch_size: (rows, columns) of a patch.
        breast_HW: Where the breast is in the window, for what chance would have; None = not known.
    """
    if not view.saliency_CIJ.size:
        return []
    grid = (view.saliency_CIJ.shape[1], view.saliency_CIJ.shape[2])
    return [
        LocalizedView(
            row=view.row,
            finding=marked.finding,
            is_boxed=marked.is_boxed,
            metrics=continuous_f1(
                view.saliency_CIJ[FINDINGS.index(marked.finding)],
                marked.mask_HW,
                lesion_px=int(marked.lesions.size_P.sum()),
            ),
            is_pointing=is_pointing_at_lesion(view.saliency_CIJ[FINDINGS.index(marked.finding)], marked.mask_HW),
            lesions=lesions_reached(view.corner_K2, patch_size, marked.lesions.label_HW, size_P=marked.lesions.size_P),
            area=float(marked.mask_HW.mean()),
            seen_P=tuple(marked.lesions.seen_fraction_P.tolist()),
            chance=None
            if breast_HW is None
            else chance_localization(breast_HW, marked.mask_HW, grid, lesion_px=int(marked.lesions.size_P.sum())),
        )
        for marked in annotations
    ]


def with_localization(
    metrics: FindingMetrics, finding: Finding, localized: Sequence[LocalizedView], images: pd.DataFrame, confidence: float
) -> FindingMetrics:
    """The finding's metrics with those of its annotated images.

    Args:
        metrics: What was measured so far.
        finding: The finding.
        localized: Of one model.
        images: The images to count, with ``row`` and ``patient_id``.
        confidence: Level of the intervals.
    """
    patient_of_row = dict(zip(images["row"].tolist(), images["patient_id"].astype(str).tolist(), strict=True))
    counted = [view for view in localized if view.finding is finding and view.row in patient_of_row]
    masked, boxed = ([view for view in counted if view.is_boxed is wanted] for wanted in (False, True))
    mean = mean_localization(view.metrics for view in masked)
    return metrics.model_copy(
        update={
            "localization_images": mean.images,
            "localization_f1": mean.f1,
            "localization_precision": mean.precision,
            "localization_recall": mean.recall,
            "pointing_fraction": float(np.mean([view.is_pointing for view in masked])) if masked else None,
            "lesions": sum(view.lesions.total for view in masked),
            "lesions_reached": sum(view.lesions.reached for view in masked),
            "localization_intervals": _mask_intervals(masked, patient_of_row, confidence) if masked else None,
            "boxes": _box_localization(boxed, patient_of_row, confidence) if boxed else None,
            "lesions_seen": _lesions_seen([share for view in counted for share in view.seen_P]),
        }
    )


def mean_f1(localized: Sequence[LocalizedView], finding: Finding, rows: set[int]) -> float | None:
    """Mean continuous F1 of some rows' masks; None = none has one."""
    own = (view.metrics for view in localized if view.finding is finding and view.row in rows and not view.is_boxed)
    return mean_localization(own).f1


# ---------------------------------------------------------------------------------------------------------------------


def _lesions_seen(shares: Sequence[float]) -> LesionsSeen | None:
    if not shares:
        return None
    return LesionsSeen(
        lesions=len(shares),
        cut=sum(0.0 < share < 1.0 for share in shares),
        lost=sum(share == 0.0 for share in shares),
        mean_seen=float(np.mean(shares)),
        least_seen=min(shares),
    )


def lesion_table(localized: Sequence[LocalizedView], images: pd.DataFrame) -> pd.DataFrame:
    """One line per marked lesion of these images: whose it is, and the share of it that the network saw."""
    lines = [
        (view.row, view.finding.value, "box" if view.is_boxed else "mask", lesion, share)
        for view in localized
        for lesion, share in enumerate(view.seen_P, start=1)
    ]
    table = pd.DataFrame(lines, columns=["row", "finding", "marked_by", "lesion", "seen_fraction"])
    return images[["row", "image_id", "exam_id", "patient_id", "laterality", "view_position"]].merge(table, on="row")


def _mask_intervals(
    views: Sequence[LocalizedView], patient_of_row: Mapping[int, str], confidence: float
) -> LocalizationIntervals:
    patient_N = np.array([patient_of_row[view.row] for view in views])
    chances = [view.chance for view in views if view.chance is not None]
    return LocalizationIntervals(
        patients=len(np.unique(patient_N)),
        chance_f1=float(np.mean([chance.f1 for chance in chances])) if chances else None,
        chance_pointing=_chance_pointing(views),
        f1=mean_interval([view.metrics.f1 for view in views], patient_N, confidence=confidence),
        precision=mean_interval([view.metrics.precision for view in views], patient_N, confidence=confidence),
        recall=mean_interval([view.metrics.recall for view in views], patient_N, confidence=confidence),
        pointing=mean_interval([float(view.is_pointing) for view in views], patient_N, confidence=confidence),
        lesions_reached=ratio_interval(
            [view.lesions.reached for view in views],
            [view.lesions.total for view in views],
            patient_N,
            confidence=confidence,
        ),
    )


def _box_localization(views: Sequence[LocalizedView], patient_of_row: Mapping[int, str], confidence: float) -> BoxLocalization:
    patient_N = np.array([patient_of_row[view.row] for view in views])
    return BoxLocalization(
        images=len(views),
        patients=len(np.unique(patient_N)),
        mass_inside=mean_interval([view.metrics.precision for view in views], patient_N, confidence=confidence),
        area_inside=float(np.mean([view.area for view in views])),
        pointing=mean_interval([float(view.is_pointing) for view in views], patient_N, confidence=confidence),
        lesions=sum(view.lesions.total for view in views),
        lesions_reached=sum(view.lesions.reached for view in views),
        chance_pointing=_chance_pointing(views),
    )


def _chance_pointing(views: Sequence[LocalizedView]) -> float | None:
    chances = [view.chance.pointing for view in views if view.chance is not None]
    return float(np.mean(chances)) if chances else None
