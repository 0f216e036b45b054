"""A presentation state for workstations: patches and scores drawn over the untouched original."""

from __future__ import annotations

from typing import Final

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from schemas.exam import Box
from tasks.adapters.results.exam_result import RESEARCH_USE, Maker, ViewResult
from tasks.adapters.results.objects.equipment import equipment, marked

_YELLOW: Final = (255, 220, 0)


def presentation_state(source: Dataset, with_voi: Dataset, view: ViewResult, maker: Maker, number: int) -> Dataset:
    """Grayscale Softcopy Presentation State (PS3.3 A.33.1).

    Args:
        source: The cleaned header.
        with_voi: The same with the image's own window.
        view: What is drawn.
        maker: Whose it is.
        number: Of the view in the exam.
    """
    layer = hd.pr.GraphicLayer(
        "GMIC", order=1, description="Patches, research use only", display_color=hd.color.CIELabColor.from_rgb(*_YELLOW)
    )
    size = (int(source.Rows), int(source.Columns))
    boxes = [(patch, clipped) for patch in view.patches if (clipped := clipped_box(patch.box_px, size)) is not None]
    drawn = [hd.pr.GraphicObject("POLYLINE", outline(box), "PIXEL") for _, box in boxes]
    texts = [
        hd.pr.TextObject(f"{patch.attention:.2f}", "PIXEL", bounding_box=(left + 1, top + 1, right, bottom))
        for patch, (top, bottom, left, right) in boxes
    ]
    said = [RESEARCH_USE, f"{maker.network} {maker.version}"]
    said += [f"score of this view, {finding}: {score:.3f}" for finding, score in view.scores.items()]
    texts.append(
        hd.pr.TextObject("\r\n".join(said), "DISPLAY", bounding_box=(0.02, 0.84, 0.7, 0.98), text_justification="LEFT")
    )
    state = hd.pr.GrayscaleSoftcopyPresentationState(
        [with_voi],
        graphic_annotations=[hd.pr.GraphicAnnotation([with_voi], layer, graphic_objects=drawn, text_objects=texts)],
        graphic_layers=[layer],
        content_label="GMIC",
        content_description=RESEARCH_USE,
        concept_name=Code("130401", "DCM", "Visual explanation"),
        content_creator_name="GMIC^research",
        **equipment(maker, "presentation", [source], number, side=source.ImageLaterality),
    )
    if source.PhotometricInterpretation == "MONOCHROME1":
        state.PresentationLUTShape = "INVERSE"  # the library says IDENTITY of every image: black and white would change places
    state.Laterality = source.ImageLaterality or None  # of a paired organ it is there, if only empty
    return marked(state, "patches", source, maker)


def outline(box: Box) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The corners of a box, (x, y), closed; 0 is the upper left corner of the first pixel."""
    top, bottom, left, right = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], np.float64)


def clipped_box(box: Box, size: tuple[int, int]) -> Box | None:
    """What of a patch lies inside the image; None = nothing."""
    top, bottom, left, right = box
    top, bottom, left, right = max(top, 0), min(bottom, size[0]), max(left, 0), min(right, size[1])
    return (top, bottom, left, right) if top < bottom and left < right else None
