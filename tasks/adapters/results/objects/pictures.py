"""Pictures that every viewer shows: saliency burnt into a Secondary Capture, an exam's views in one, the note that names it."""

from __future__ import annotations

from typing import Any, Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from gmic_model.pictures.burnt_in import burnt_in, side_by_side
from schemas.exam import FINDINGS, Finding
from tasks.adapters.results.exam_result import MANUFACTURER, RESEARCH_USE, Maker, ViewResult, mean_score
from tasks.adapters.results.objects.equipment import derivation, equipment, marked, refer_to_sources

PICTURE_ROWS_PX: Final = 1400
PANEL_ROWS_PX: Final = 800
_HUNG: Final = {("R", "CC"): 0, ("L", "CC"): 1, ("R", "MLO"): 2, ("L", "MLO"): 3}
"""As radiologists hang an exam."""
_MALIGNANT: Final = FINDINGS.index(Finding.MALIGNANT)


def picture_sc(source: Dataset, view: ViewResult, maker: Maker, number: int) -> Dataset:
    """The view with malignant saliency, patches and scores, in the source image's frame."""
    picture_HW3 = _drawn(view, maker, PICTURE_ROWS_PX, breast=None)
    scale = picture_HW3.shape[0] / int(source.Rows)
    spacing = [float(one) / scale for one in source.ImagerPixelSpacing] if source.ImagerPixelSpacing else None
    picture = _captured(
        picture_HW3, source, laterality=source.ImageLaterality or None, pixel_spacing=spacing,
        **equipment(maker, "picture", [source], number, side=source.ImageLaterality),
    )  # fmt: skip
    picture.PatientOrientation = source.PatientOrientation
    picture.Laterality = source.ImageLaterality or None
    refer_to_sources(picture, [source], are_located=True)
    picture.DerivationDescription = derivation(maker, "Saliency")
    return marked(picture, "overlay", source, maker)


def panel_sc(sources: list[Dataset], views: list[ViewResult], maker: Maker) -> Dataset:
    """The exam's views beside each other with the scores of their breasts."""
    ordered = sorted(views, key=lambda view: _HUNG.get((view.laterality.value, view.view_position.value), len(_HUNG)))
    pictures = []
    for view in ordered:
        breast = [other for other in views if other.laterality is view.laterality]
        pictures.append(_drawn(view, maker, PANEL_ROWS_PX, breast=breast))
    panel = _captured(side_by_side(pictures), sources[0], **equipment(maker, "panel", sources))
    panel.PatientOrientation = panel.Laterality = None  # of several views there is none
    refer_to_sources(panel, sources, are_located=False)
    panel.DerivationDescription = derivation(maker, "Views with saliency")
    return marked(panel, "key picture", sources[0], maker)


def key_note(panel: Dataset, source: Dataset, maker: Maker, sources: list[Dataset]) -> Dataset:
    """A Key Object Selection that names the exam's panel: what a reader should open first."""
    content = hd.ko.KeyObjectSelection(
        document_title=Code("113000", "DCM", "Of Interest"),
        referenced_objects=[panel],
        observer_device_context=hd.sr.ObserverContext(
            Code("121007", "DCM", "Device"),
            hd.sr.DeviceObserverIdentifyingAttributes(uid=maker.uid("device"), name=MANUFACTURER),
        ),
        description=f"Views with saliency of {maker.network} {maker.version}. {RESEARCH_USE}.",
    )
    note = hd.ko.KeyObjectSelectionDocument(evidence=[panel], content=content, **equipment(maker, "key", sources))
    return marked(note, "key object", source, maker)


# ---------------------------------------------------------------------------------------------------------------------


def _drawn(view: ViewResult, maker: Maker, rows_px: int, *, breast: list[ViewResult] | None) -> NDArray[np.uint8]:
    rows, columns = view.geometry.source_shape_px
    scale = min(1.0, rows_px / rows)
    scores = view.scores if breast is None else {finding: mean_score(breast, finding) for finding in view.scores}
    said = ", ".join(f"{finding} {score:.3f}" for finding, score in scores.items())
    of = "view" if breast is None else f"breast, mean of {len(breast)}"
    return burnt_in(
        view.grey_HW,
        view.saliency_CIJ[_MALIGNANT : _MALIGNANT + 1],
        view.geometry,
        shape_px=(round(rows * scale), round(columns * scale)),
        boxes=[(f"{patch.attention:.2f}", patch.box_px) for patch in view.patches],
        lines=(
            f"{view.laterality.value} {view.view_position.value}  score of this {of}: {said}",
            f"{maker.network} {maker.version}",
            RESEARCH_USE,
        ),
    )


def _captured(picture_HW3: NDArray[np.uint8], source: Dataset, **given: Any) -> Dataset:
    picture: Dataset = hd.sc.SCImage(
        picture_HW3,
        "RGB",
        8,
        "PATIENT",
        patient_orientation=("L", "P"),  # replaced by the caller: the library's list of directions lacks FL and FR
        study_instance_uid=source.StudyInstanceUID,
        patient_id=source.PatientID,
        patient_name=source.PatientName,
        patient_birth_date=source.PatientBirthDate or None,
        patient_sex=source.PatientSex or None,
        accession_number=source.AccessionNumber or None,
        study_id=source.StudyID or None,
        study_date=source.StudyDate or None,
        study_time=source.StudyTime or None,
        referring_physician_name=source.ReferringPhysicianName or None,
        specific_character_set="ISO_IR 192",
        **given,
    )
    picture.ConversionType = "WSD"
    picture.BurnedInAnnotation = "NO"  # no identity is drawn, and nothing of the original outside the breast's crop
    return picture
