"""A shard's writer on phantom DICOM files: good images are stored whole, bad ones are refused alone."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from gmic_model.preprocess import PREPROCESS_VERSION, crop_like
from schemas.config.ingest import PhantomConfig, PreprocessConfig
from schemas.errors import DicomError, GateRejection
from schemas.exam import Finding, ViewGeometry
from schemas.layout import LESION_MASK, MANIFEST_NAMES, OPTIONAL_COLUMNS
from tasks.adapters.datasets.phantom_cohort import write_cohort
from tasks.adapters.dicom.dicom_file import read_header, read_pixels
from tasks.adapters.gate.gate_settings import GateSettings
from tasks.adapters.gate.source_file import SourceFile
from tasks.adapters.inbox.shard_writer import (
    HeaderJob,
    PlannedImage,
    ShardJob,
    ShardResult,
    inspect_files,
    refusal,
    write_exam_shard,
)
from tasks.adapters.pseudonyms import open_key, place_key
from tasks.adapters.store.exam_store import ExamStore, create_store, read_row, reserve_rows
from tasks.adapters.store.manifest import lines_of, publish, read_manifest
from tasks.adapters.store.views import seen_breasts, seen_fractions, stored_views

BATCH_COLUMNS = {"batch", "batch_date"}
LABEL_COLUMNS = {"benign", "malignant", "birads", "label_source", "density", "finding_type", "lesion_boxes"}
PREPROCESS = PreprocessConfig(
    window_px=(384, 256), erosion_iterations=12, crop_buffer_px=8, jitter_shift_px=8, jitter_size_px=8
)


@pytest.fixture(scope="module")
def cohort_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exams of two patients, every one with findings: eight images, some with masks."""
    folder = tmp_path_factory.mktemp("cohort")
    config = PhantomConfig(
        output_dir=folder,
        patients=2,
        exams_per_patient=(1, 1),
        image_size_px=(384, 288),
        malignant_fraction=1.0,
        benign_fraction=1.0,
        difficulty=0.2,
        seed=3,
    )
    write_cohort(config)
    return folder


def _masks(cohort_dir: Path) -> dict[str, Path]:
    return {path.stem: path for path in cohort_dir.rglob("*.png")}


def _source_files(folder: Path) -> list[SourceFile]:
    files = []
    for index, path in enumerate(sorted(folder.rglob("*.dcm"))):
        status = path.stat()
        files.append(SourceFile(file_id=f"F{index}", lies_at=path, fingerprint=f"{status.st_size}-{status.st_mtime_ns}"))
    return files


def _job(folder: Path, source_dir: Path, files: Iterable[SourceFile], masks: dict[str, Path] | None = None) -> ShardJob:
    """Eight rows, one shard, the same key each time; masks by file id."""
    key_path = folder / "pseudonym.key"
    place_key(key_path, bytes(range(32)))
    store = create_store(
        folder / "exam_store",
        preprocess=PREPROCESS,
        preprocess_version=PREPROCESS_VERSION,
        rows_per_shard=8,
        key_id=open_key(key_path).key_id,
    )
    reserve_rows(store, 8)
    images = tuple(
        PlannedImage(file=file, row=row, mask_path=(masks or {}).get(file.file_id)) for row, file in enumerate(files)
    )
    return ShardJob(
        store=store,
        shard=0,
        images=images,
        gate=GateSettings(source_dir=source_dir, profile="phantom", key_path=key_path),
        preprocess=PREPROCESS,
    )


def _lines(result: ShardResult) -> list[dict[str, object]]:
    return [dict(line.stored) for line in result.written]


def _published(store: ExamStore, result: ShardResult) -> None:
    labels = {"benign": 255, "malignant": 255, "birads": 255, "label_source": None, "batch": 1, "batch_date": "2026-01-02"}
    publish(store, [{**line, **labels} for line in _lines(result)], [])


def _lesion_masks(files: list[SourceFile], cohort_dir: Path) -> dict[str, Path]:
    masks = _masks(cohort_dir)
    by_file = {file.file_id: masks.get(read_header(file.path).sop_instance_uid or "") for file in files}
    return {file_id: path for file_id, path in by_file.items() if path is not None}


def test_every_image_is_stored_with_its_manifest_line(cohort_dir: Path, tmp_path: Path) -> None:
    """Eight files, eight lines with exactly the layout's names less the label columns, and each row reads as its line says."""
    job = _job(tmp_path, cohort_dir, _source_files(cohort_dir))
    result = write_exam_shard(job)
    assert result.refused == ()
    assert len(result.written) == 8
    assert sorted(line["row"] for line in _lines(result)) == list(range(8))  # type: ignore[type-var]
    assert {line.file_id for line in result.written} == {f"F{index}" for index in range(8)}
    unpublished = {"accession_id", "bare_patient_id", "is_mask_unusable"}
    always = set(MANIFEST_NAMES) - LABEL_COLUMNS - BATCH_COLUMNS | unpublished
    assert all(set(line) - {column.name for column in OPTIONAL_COLUMNS} == always for line in _lines(result))
    _published(job.store, result)
    views = stored_views(job.store, read_manifest(job.store), PREPROCESS.window_px)
    for line in _lines(result):
        pixels_HW = views(int(str(line["row"]))).pixels_HW
        assert pixels_HW.shape == (line["stored_rows_px"], line["stored_columns_px"])
        assert (int(pixels_HW.min()), int(pixels_HW.max())) == (line["pixel_min"], line["pixel_max"])
        assert float(pixels_HW.mean()) == pytest.approx(line["pixel_mean"])


def test_what_the_window_and_the_crop_cut_off_is_published(cohort_dir: Path, tmp_path: Path) -> None:
    """A mask over the whole image reaches beyond the breast's crop: the manifest says how far, the lesion has its size."""
    (file, *_) = _source_files(cohort_dir)
    mask_path = tmp_path / "mask.png"
    cv2.imwrite(str(mask_path), np.full((384, 288), 2, np.uint8))
    small = PREPROCESS.model_copy(update={"window_px": (96, 64)})
    job = replace(_job(tmp_path, cohort_dir, [file], {file.file_id: mask_path}), preprocess=small)
    result = write_exam_shard(job)
    _published(job.store, result)
    (line,) = lines_of(manifest := read_manifest(job.store))
    stored_px = line["stored_rows_px"] * line["stored_columns_px"]
    assert 0.0 < line["breast_seen_fraction"] < 0.9 and line["lesion_seen_fraction"] == round(96 * 64 / (384 * 288), 4)
    assert line["lesions_beyond"] == f"malignant {384 * 288 - stored_px} 0 0"
    lesions = stored_views(job.store, manifest, small.window_px).lesions(line["row"])[Finding.MALIGNANT]
    assert lesions.size_P.tolist() == [384 * 288] and int(lesions.mask_HW.sum()) == 96 * 64
    seen = seen_breasts(seen_fractions(manifest, small.window_px), None)
    assert (seen.images, seen.images_cut, seen.least_seen) == (1, 1, line["breast_seen_fraction"])
    former = seen_breasts(seen_fractions(manifest.drop(columns="breast_seen_fraction"), small.window_px), None)
    assert (former.images_cut, former.images_unknown, former.least_seen) == (0, 1, None)


def test_stored_pixels_are_those_of_the_source_inside_the_crop_box(cohort_dir: Path, tmp_path: Path) -> None:
    """The store's crop, mirrored back, equals the source image's crop box wherever the crop was not blanked."""
    files = _source_files(cohort_dir)
    job = _job(tmp_path, cohort_dir, files)
    result = write_exam_shard(job)
    _published(job.store, result)
    views = stored_views(job.store, read_manifest(job.store), PREPROCESS.window_px)
    for row, file in enumerate(files):
        view = views(row)
        top, bottom, left, right = view.geometry.crop_box_px
        crop_HW = read_pixels(file.path)[top:bottom, left:right]
        crop_HW = crop_HW[:, ::-1] if view.geometry.is_flipped else crop_HW
        kept_HW = view.pixels_HW > 0
        assert kept_HW.mean() > 0.2
        assert (view.pixels_HW[kept_HW] == crop_HW[kept_HW]).all()


def test_masks_lie_in_the_frame_of_the_pixels(cohort_dir: Path, tmp_path: Path) -> None:
    """The stored mask is the source mask through the same crop and flip; images without one hold 0 and say so."""
    files = _source_files(cohort_dir)
    masks = _lesion_masks(files, cohort_dir)
    assert len(masks) >= 1
    job = _job(tmp_path, cohort_dir, files, masks)
    result = write_exam_shard(job)
    _published(job.store, result)
    views = stored_views(job.store, read_manifest(job.store), PREPROCESS.window_px)
    flipped = 0
    for line in _lines(result):
        row = int(str(line["row"]))
        mask_path = masks.get(files[row].file_id)
        assert line["has_lesion_mask"] == (mask_path is not None)
        if mask_path is None:
            assert not read_row(job.store, row, LESION_MASK).any()
            continue
        geometry: ViewGeometry = views(row).geometry
        source_HW = np.asarray(cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED))
        assert (views.lesion_mask(row) == crop_like(source_HW, geometry)).all()
        assert views.lesion_mask(row).any()
        assert views(row).pixels_HW[views.lesion_mask(row) > 0].min() > 0  # a lesion lies in tissue
        flipped += geometry.is_flipped
    assert flipped >= 1, "no mask was mirrored: the frame is not tested"


def test_a_truncated_file_is_refused_and_the_rest_is_written(cohort_dir: Path, tmp_path: Path) -> None:
    """Half a file among eight: one refusal with its fingerprint and reason, seven images as they are without it."""
    source_dir = tmp_path / "source"
    files = []
    for file in _source_files(cohort_dir):
        copy = source_dir / f"{file.file_id}.dcm"
        copy.parent.mkdir(exist_ok=True)
        content = file.path.read_bytes()
        copy.write_bytes(content[: len(content) // 2] if file.file_id == "F3" else content)
    files = _source_files(source_dir)
    whole = write_exam_shard(_job(tmp_path / "whole", cohort_dir, _source_files(cohort_dir)))
    result = write_exam_shard(_job(tmp_path, source_dir, files))
    ((refused, fingerprint),) = result.refused
    assert (refused.file_id, fingerprint) == ("F3", files[3].fingerprint)
    assert refused.reason_codes
    assert refused.refusal.remedy
    assert str(source_dir) not in refused.refusal.text
    digests = {line["row"]: line["pixel_sha256"] for line in _lines(whole)}
    assert {line["row"]: line["pixel_sha256"] for line in _lines(result)} == {
        row: digest for row, digest in digests.items() if row != 3
    }


@pytest.mark.parametrize("fault", ["no picture", "another shape", "colour", "values above 3"])
def test_an_unusable_mask_is_left_out_and_named_by_pseudonym(
    cohort_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """The image goes on without mask; the log names the image's pseudonym, not the file."""
    mask_path = tmp_path / "1.2.3.png"
    if fault == "no picture":
        mask_path.write_bytes(b"no picture")
    else:
        shape = {"another shape": (10, 10), "colour": (384, 288, 3), "values above 3": (384, 288)}[fault]
        cv2.imwrite(str(mask_path), np.full(shape, 255 if fault == "values above 3" else 1, np.uint8))
    files = _source_files(cohort_dir)[:1]
    with caplog.at_level(logging.WARNING):
        result = write_exam_shard(_job(tmp_path, cohort_dir, files, {"F0": mask_path}))
    (line,) = _lines(result)
    assert line["has_lesion_mask"] is False and line["mask_sha256"] is None
    assert str(line["image_id"]) in caplog.text
    assert "1.2.3" not in caplog.text


def test_headers_give_a_record_or_reasons(cohort_dir: Path, tmp_path: Path) -> None:
    """One good file and one that is no DICOM: a record with pseudonyms, and a refusal."""
    good_path, bad_path = tmp_path / "1.dcm", tmp_path / "2.dcm"
    good_path.write_bytes(_source_files(cohort_dir)[0].path.read_bytes())
    bad_path.write_text("not an image" * 1000)
    key_path = tmp_path / "pseudonym.key"
    pseudonyms = open_key(key_path, creates=True)
    gate = GateSettings(source_dir=tmp_path, profile="phantom", key_path=key_path)
    job = HeaderJob(files=tuple(_source_files(tmp_path)), gate=gate)
    assert [item.record.source_sha256 for item in inspect_files(job) if item.record] == [""]
    first, second = inspect_files(replace(job, with_digest=True))
    assert first.refused is None
    assert first.record is not None
    plain_sha256 = hashlib.sha256(good_path.read_bytes()).hexdigest()
    assert first.record.source_sha256 == pseudonyms.source_digest(plain_sha256)
    assert not first.record.patient_id.startswith("PHANTOM")
    assert second.record is None
    assert second.refused is not None
    assert (second.refused.file_id, second.refused.reason_codes) == ("F1", ("F05",))


def test_jobs_show_no_source_path_when_printed(cohort_dir: Path, tmp_path: Path) -> None:
    """Dask logs the arguments of failed work, and a path can spell a name: it is not in their text, but it travels."""
    file = SourceFile(file_id="F0", lies_at=Path("/exams/DOE^JANE/1.dcm"), fingerprint="1-1")
    job = _job(tmp_path, cohort_dir, [file], {"F0": Path("/masks/1.2.840.99.png")})
    assert "DOE" not in repr(job)
    assert "1.2.840" not in repr(job)
    assert "DOE" not in repr(HeaderJob(files=(file,), gate=job.gate))
    assert pickle.loads(pickle.dumps(job)) == job  # noqa: S301  made on this line


def test_refusals_carry_the_gates_reasons() -> None:
    """A gate rejection keeps its codes; any other DICOM error is F14, not readable."""
    file = SourceFile(file_id="F0", lies_at=Path("x"), fingerprint="1-1")
    assert refusal(file, GateRejection("no", reason_codes=("V01", "X20"))).reason_codes == ("V01", "X20")
    assert refusal(file, DicomError("no")).reason_codes == ("F14",)


def test_a_full_disk_is_the_shards_error_not_the_images(cohort_dir: Path, tmp_path: Path) -> None:
    """Trouble with our own store raises; no file is blamed for it."""
    job = _job(tmp_path, cohort_dir, _source_files(cohort_dir)[:1])
    (job.store.folder / "pixels.zarr" / "pixels" / "c").write_text("in the way")
    with pytest.raises(OSError, match="Not a directory"):
        write_exam_shard(job)
