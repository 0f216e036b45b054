"""An image that lies otherwise than upright is stored upright, and what is said of its file still finds the place."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gmic_model.pixels.frames import boxes_in_crop, corners_to_source, mask_to_window, to_source_frame
from gmic_model.preprocess import PREPROCESS_VERSION
from mammo_tests.mammograms import breast, setting, write
from schemas.config.ingest import PreprocessConfig
from schemas.exam import Laterality, LesionBox, ViewPosition
from schemas.layout import MANIFEST_COLUMNS
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.source_file import SourceFile, file_fingerprint
from tasks.adapters.inbox.shard_writer import PlannedImage, ShardJob, write_exam_shard
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.store.exam_store import create_store, reserve_rows
from tasks.adapters.store.manifest import lines_of, publish, read_manifest
from tasks.adapters.store.tables.line_texts import data_version
from tasks.adapters.store.views import stored_views

SETTINGS = PreprocessConfig(window_px=(800, 600), erosion_iterations=20, jitter_shift_px=0, jitter_size_px=0)
LIES = tuple(itertools.product(range(4), (False, True)))
OPPOSITE = str.maketrans("APRLHF", "PALRFH")
UPRIGHT = {
    (Laterality.LEFT, ViewPosition.CC): ("A", "R"), (Laterality.LEFT, ViewPosition.MLO): ("A", "FR"),
    (Laterality.RIGHT, ViewPosition.CC): ("P", "L"), (Laterality.RIGHT, ViewPosition.MLO): ("P", "FL"),
}  # fmt: skip
NO_LABELS = {"benign": 255, "malignant": 255, "birads": 255, "label_source": None, "batch": 1, "batch_date": "2026-01-02"}


def laid(image_HW: NDArray[np.uint16], quarter_turns: int, is_mirrored: bool) -> NDArray[np.uint16]:
    """An upright image, mirrored and then turned clockwise."""
    return np.ascontiguousarray(np.rot90(image_HW[:, ::-1] if is_mirrored else image_HW, -quarter_turns))


def directions(laterality: Laterality, view_position: ViewPosition, quarter_turns: int, is_mirrored: bool) -> list[str]:
    """PatientOrientation of such an image."""
    right, down = UPRIGHT[laterality, view_position]
    right = right.translate(OPPOSITE) if is_mirrored else right
    for _ in range(quarter_turns):
        right, down = down.translate(OPPOSITE), right
    return [right, down]


def box_of(is_lesion_HW: NDArray[np.bool_]) -> LesionBox:
    """The rectangle around a lesion."""
    rows, columns = np.flatnonzero(is_lesion_HW.any(axis=1)), np.flatnonzero(is_lesion_HW.any(axis=0))
    return LesionBox(
        finding=None,
        top_px=int(rows[0]),
        bottom_px=int(rows[-1]) + 1,
        left_px=int(columns[0]),
        right_px=int(columns[-1]) + 1,
    )


@pytest.mark.parametrize("view_position", ViewPosition)
@pytest.mark.parametrize("laterality", Laterality)
def test_whichever_way_it_lies_the_same_is_stored(tmp_path: Path, laterality: Laterality, view_position: ViewPosition) -> None:
    """Eight files of one image, each lying another way: crop and mask are equal; boxes, patches and saliency go both ways."""
    upright_HW = breast(laterality, (900, 800)).copy()
    columns = np.s_[100:160] if laterality is Laterality.LEFT else np.s_[640:700]
    upright_HW[300:340, columns] = 4000
    key_path, images = tmp_path / "pseudonym.key", []
    for row, lie in enumerate(LIES):
        pixels_HW = laid(upright_HW, *lie)
        orientation = directions(laterality, view_position, *lie)
        edit = setting(PatientOrientation=orientation, SOPInstanceUID=f"2.25.{row + 1}")
        path = write(tmp_path / f"{row}.dcm", pixels_HW, laterality=laterality, view_position=view_position, edit=edit)
        cv2.imwrite(str(tmp_path / f"{row}.png"), np.where(pixels_HW == 4000, 2, 0).astype(np.uint8))
        file = SourceFile(file_id=f"F{row}", lies_at=path, fingerprint=file_fingerprint(path.stat()))
        images.append(PlannedImage(file=file, row=row, mask_path=tmp_path / f"{row}.png"))
    store = create_store(
        tmp_path / "exam_store",
        preprocess=SETTINGS,
        preprocess_version=PREPROCESS_VERSION,
        rows_per_shard=len(LIES),
        key_id=open_key(key_path, creates=True).key_id,
    )
    reserve_rows(store, len(LIES))
    gate = GateSettings(source_dir=tmp_path, profile="clinical-strict", key_path=key_path)
    result = write_exam_shard(ShardJob(store=store, shard=0, images=tuple(images), gate=gate, preprocess=SETTINGS))
    assert result.refused == ()
    publish(store, [{**line.stored, **NO_LABELS} for line in result.written], [])
    lines = sorted(lines_of(read_manifest(store)), key=lambda line: line["row"])
    views = stored_views(store, read_manifest(store), SETTINGS.window_px)
    first, first_mask_HW = views(0), views.lesion_mask(0)
    assert (first_mask_HW > 0).sum() == 40 * 60
    for line, lie in zip(lines, LIES, strict=True):
        assert ("L05" in line["gate_warnings"].split()) == (lie != (0, False))
        view, mask_HW = views(line["row"]), views.lesion_mask(line["row"])
        np.testing.assert_array_equal(view.pixels_HW, first.pixels_HW)
        np.testing.assert_array_equal(mask_HW, first_mask_HW)
        source_HW = laid(upright_HW, *lie)
        is_lesion_HW = source_HW == 4000
        box = box_of(is_lesion_HW)
        np.testing.assert_array_equal(boxes_in_crop([box], view.geometry, mask_HW.shape) * np.uint8(2), mask_HW)
        window_HW = mask_to_window(mask_HW, view.geometry)
        back_HW = to_source_frame(window_HW[None], view.geometry, source_HW.shape)[0]
        np.testing.assert_array_equal(back_HW > 0, is_lesion_HW)
        corner = np.argwhere(window_HW)[0]
        edges = corners_to_source(corner[None], (40, 60), view.geometry)[0].tolist()
        assert edges == [box.top_px, box.bottom_px, box.left_px, box.right_px]


def test_upright_images_leave_the_manifest_as_it_was(tmp_path: Path) -> None:
    """The column of quarter turns is there only if an image needs it, and then every line has a number; the data differ."""
    store = create_store(tmp_path, preprocess=SETTINGS, preprocess_version=PREPROCESS_VERSION, rows_per_shard=2, key_id="k")
    kinds = {"string": "x", "bool": False}
    line = {column.name: kinds.get(column.dtype, 1) for column in MANIFEST_COLUMNS}
    publish(store, [line], [])
    plain = read_manifest(store)
    assert "quarter_turns" not in plain
    publish(store, [line, line | {"row": 2, "image_id": "I2", "quarter_turns": 3}], [])
    turned = read_manifest(store)
    assert turned["quarter_turns"].tolist() == [0, 3] and turned["quarter_turns"].dtype == "int64"
    assert data_version(turned) != data_version(turned.assign(quarter_turns=[0, 1]))
