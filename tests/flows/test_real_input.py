"""Real mammograms through ``mammo predict`` at full resolution: the path is right, whatever an untrained network says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmic_model.model import GMIC
from gmic_model.pixels.frames import to_source_frame
from gmic_model.preprocess import network_input
from schemas.config.network import GMICConfig
from schemas.exam import ViewGeometry, ViewPosition
from tasks.adapters.dicom.dicom_file import read_header, read_pixels
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import lines_of, read_manifest
from tasks.adapters.store.views import stored_views

pytestmark = pytest.mark.e2e

REFERENCE_DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
WINDOW_PX = (2944, 1920)

Mammo = Callable[..., Any]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the paper's network, with the weights it starts from."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "untrained"
    save_checkpoint(folder, weights=GMIC(GMICConfig()).state_dict(), training={}, model=GMICConfig(), about={})
    return folder


def source_folder(name: str) -> Path:
    """A folder of reference data, or a skip."""
    folder = REFERENCE_DATA / name
    if not folder.is_dir():
        pytest.skip(f"reference data are absent: {name} (MAMMO_REFERENCE_DATA)")
    return folder


def predict(mammo: Mammo, folder: Path, profile: str, checkpoint: Path, workspace: Path) -> tuple[dict[str, Any], str]:
    """The shipped config with flags, as a user would; the report and what was said."""
    flags = ["--dicom", folder, "--profile", profile, "--checkpoint", checkpoint, "--workspace", workspace, "--json"]
    answer = mammo("predict", "predict.yaml", *flags)
    assert answer.code == 0, answer.stderr
    return json.loads(answer.stdout), answer.stderr


def test_four_film_views_get_scores_and_panels(tmp_path: Path, untrained: Path, mammo: Mammo) -> None:
    """CBIS-DDSM under its profile: one exam, four views, two breasts, no view missing; saliency leads back to the breast.

    Films are scanned to their edges: the two mediolateral oblique breasts are longer than the window, and the report says so.
    """
    folder = source_folder("cbis_ddsm")
    report, _ = predict(mammo, folder, "cbis-ddsm", untrained, tmp_path)
    views = {(image["laterality"], image["view_position"]) for image in report["images"]}
    assert views == {("R", "CC"), ("R", "MLO"), ("L", "CC"), ("L", "MLO")}
    assert len(report["breast_scores"]) == 2
    assert {sentence.split(" of exam ")[0] for sentence in report["missing"]} == {"Of R MLO", "Of L MLO"}
    assert all("the rest lies outside its window" in sentence for sentence in report["missing"])
    assert all(0 < score < 1 for breast in report["breast_scores"].values() for score in breast.values())
    assert len(report["panels"]) == 4 and all(cv2.imread(panel) is not None for panel in report["panels"])
    sides = {}
    for path in sorted(folder.glob("*.dcm")):
        header = read_header(path)
        sides["R" if "RIGHT" in header.patient_id else "L", "MLO" if "MLO" in header.patient_id else "CC"] = path
    for image in report["images"]:
        check_geometry(tmp_path, image, read_pixels(sides[image["laterality"], image["view_position"]]))


def test_one_clinical_view_gets_a_score_and_a_sentence(tmp_path: Path, untrained: Path, mammo: Mammo) -> None:
    """GE, JPEG Lossless, clinical-strict: one score, which three views are missing; the breast is on the right-hand side."""
    folder = source_folder("ge_ffdm")
    report, said = predict(mammo, folder, "clinical-strict", untrained, tmp_path)
    (image,) = report["images"]
    assert (image["laterality"], image["view_position"]) == ("R", "MLO")
    (sentence,) = report["missing"]
    assert "has 1 of 4 standard views: L-CC, L-MLO, R-CC missing" in sentence and sentence in said
    assert list(report["breast_scores"]) == [f"{image['exam_id']} R"]
    check_geometry(tmp_path, image, read_pixels(folder / "GH133.dcm"))


def check_geometry(workspace: Path, image: dict[str, Any], source_HW: NDArray[np.uint16]) -> None:
    """What the network saw, led back to the source image by the saved geometry, lies on the breast it came from."""
    name = f"{image['image_id']}-{image['laterality']}-{image['view_position']}"
    saved = np.load(workspace / "predict" / f"{name}.npz")
    geometry = ViewGeometry(
        source_shape_px=tuple(saved["source_shape_px"].tolist()),
        crop_box_px=tuple(saved["crop_box_px"].tolist()),
        is_flipped=bool(saved["is_flipped"]),
        scale=float(saved["scale"]),
        best_center_px=tuple(saved["best_center_px"].tolist()),
        window_px=tuple(saved["window_px"].tolist()),
        view_position=ViewPosition(str(saved["view_position"])),
    )
    assert geometry.source_shape_px == source_HW.shape and geometry.window_px == WINDOW_PX
    assert saved["saliency_CIJ"].shape == (2, 46, 30)
    # PS3.3 C.7.6.1.1.1 and hanging: in these files the right breast has its chest wall at the right-hand edge.
    is_right = image["laterality"] == "R"
    assert geometry.is_flipped is is_right
    small_px = (source_HW.shape[0] // 16, source_HW.shape[1] // 16)
    small_HW = cv2.resize(source_HW.astype(np.float32), small_px[::-1], interpolation=cv2.INTER_AREA)
    left, right = np.array_split(small_HW, 2, axis=1)
    assert bool(right.mean() > left.mean()) is is_right
    store = open_store(workspace / "exam_store")
    manifest = read_manifest(store)
    row = next(line["row"] for line in lines_of(manifest) if line["image_id"] == image["image_id"])
    seen_HW = network_input(stored_views(store, manifest, WINDOW_PX)(row))
    seen_HW -= seen_HW.min()  # background 0, as outside the crop
    seen_CIJ = cv2.resize(seen_HW, (30, 46), interpolation=cv2.INTER_AREA)[None]
    back_HW = to_source_frame(seen_CIJ, geometry, small_px)[0]
    assert correlation(back_HW, small_HW) > 0.9
    assert correlation(np.fliplr(back_HW), small_HW) < 0.5  # the check can fail


def correlation(back_HW: NDArray[np.float32], small_HW: NDArray[np.float32]) -> float:
    """Of what came back with what is there, where something came back: film scans have white frames beside the breast."""
    is_seen_HW = back_HW > 0
    return float(np.corrcoef(back_HW[is_seen_HW], small_HW[is_seen_HW])[0, 1])
