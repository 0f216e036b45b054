"""Types of every configuration; the values live in YAML. Frozen, no unknown keys, units in names.

One ``RunConfig`` file describes a run from folder to report; each ``mammo`` verb reads the sections it needs. Field
descriptions are what the Prefect UI shows beside its form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _as_pair(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


SizePx = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_as_pair)]
"""(rows, columns); one integer stands for a square."""


class Config(BaseModel):
    """Frozen; a misspelt key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def sha256(self) -> str:
        """Digest of the canonical JSON: equal configs have equal digests, whatever the YAML looked like."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------------------- network


class GMICVariant(StrEnum):
    """The rows of Table 1: which prediction is ``y`` and how patches are chosen and weighed."""

    GMIC = "gmic"  # (y_mil + y_loc) / 2, or the fusion branch
    LOC = "gmic-loc"  # y_loc
    MIL = "gmic-mil"  # y_mil
    NOATTN = "gmic-noattn"  # y_mil with equal attention
    RANDOM = "gmic-random"  # y_mil of random patches
    LOC_RANDOM = "gmic-loc-random"  # (y_loc + y_random) / 2
    RESNET22 = "resnet-22"  # the baseline: global average pooling of the ResNet-22


class LossForm(StrEnum):
    """Which predictions are trained."""

    PAPER = "paper"  # equation 1: y_loc, y_mil and the saliency regulariser
    JOURNAL = "journal"  # the same and y_fusion, for the released form with its fusion branch


class GMICConfig(Config):
    """The network of the paper's Figure 1. Defaults are the paper's; ``released()`` gives the published checkpoints' form."""

    image_size: SizePx = Field((2944, 1920), description="Network input, rows and columns in pixels")
    patch_size: SizePx = Field((256, 256), description="ROI patch, rows and columns in pixels")
    K: PositiveInt = Field(6, description="ROI patches per image (Algorithm 1)")
    top_t: float = Field(0.03, gt=0.0, le=1.0, description="Fraction of saliency cells pooled into y_loc (paper: t)")
    local_dim: PositiveInt | None = Field(128, description="Patch feature length L; null = the ResNet-18's own 512 (released)")
    local_activation: Literal["none", "relu"] = Field(
        "none", description="After the projection to local_dim (paper: not stated)"
    )
    attention_dim: PositiveInt = Field(128, description="Hidden width of the gated attention")
    fusion: bool = Field(False, description="Released form: y comes from a fusion branch on global and patch features")
    findings: PositiveInt = Field(2, description="Number of findings C: benign, malignant")
    variant: GMICVariant = Field(GMICVariant.GMIC, description="Row of Table 1")
    channels_last: bool = Field(True, description="Memory layout of the weights: the same numbers, 1.5x faster on a CPU")

    @classmethod
    def released(cls, *, top_t: float = 0.02, **changes: Any) -> GMICConfig:
        """The form of the published checkpoints: 512-d patch features and the fusion branch."""
        return cls(**{"local_dim": None, "fusion": True, "top_t": top_t, **changes})


# ---------------------------------------------------------------------------------------------------------------- data


class CropMode(StrEnum):
    """How the breast is found. Recorded by name and version in provenance."""

    ROBUST = "robust"  # tolerates padding values, white frames, burned-in corner marks
    RELEASED = "released"  # as the released code: everything above 0 is breast


class VoiMode(StrEnum):
    """Which transform of the file is applied to stored values (``gmic_model.voi``); before MONOCHROME1 is inverted."""

    RAW = "raw"  # none: what the published weights were trained on
    WINDOW = "window"  # the file's first window, with its function
    VOI_LUT = "voi-lut"  # the file's first VOI LUT; its first window where it has none


class PreprocessConfig(Config):
    """From a decoded image to the network window."""

    window_px: SizePx = Field((2944, 1920), description="Network window, rows and columns in pixels")
    voi: VoiMode = Field(VoiMode.RAW, description="Transform of stored values: raw, window or voi-lut")
    crop_mode: CropMode = CropMode.ROBUST
    erosion_iterations: int = Field(100, ge=0, description="Cross-shaped erosions before the largest component is taken")
    crop_buffer_px: int = Field(50, ge=0, description="Margin kept around the breast")
    oversize: Literal["cut", "shrink"] = Field(
        "cut", description="A breast larger than the window: cut at the best centre, or shrink to fit"
    )
    jitter_shift_px: int = Field(100, ge=0, description="Train-time window shift, at most")
    jitter_size_px: int = Field(100, ge=0, description="Train-time window size change, at most")

    @property
    def canvas_px(self) -> tuple[int, int]:
        """What is stored per image: the window plus every pixel that train-time jitter can reach (GMIC.md 2.5).

        A window moves and grows by its margin on each side, along rows and columns.
        """
        margin_px = self.jitter_shift_px + self.jitter_size_px
        return self.window_px[0] + 2 * margin_px, self.window_px[1] + 2 * margin_px


class PhantomConfig(Config):
    """A labelled synthetic screening cohort."""

    output_dir: Path
    patients: PositiveInt = 60
    exams_per_patient: tuple[PositiveInt, PositiveInt] = Field((1, 2), description="Fewest and most exams of a patient")
    image_size_px: SizePx = (3328, 2560)
    malignant_fraction: Fraction = Field(0.2, description="Share of exams with a malignant finding")
    benign_fraction: Fraction = Field(0.2, description="Share of exams with a benign finding, drawn independently")
    difficulty: Fraction = Field(0.5, description="0: bold lesions, few distractors; 1: faint lesions, many distractors")
    seed: NonNegativeInt = 0


class LocalDask(Config):
    """Worker processes on this machine."""

    kind: Literal["local"] = "local"
    n_workers: PositiveInt = 2
    memory_limit: str = "3GiB"


class ExistingDask(Config):
    """A running scheduler, by address."""

    kind: Literal["address"]
    address: str


DaskConfig = Annotated[LocalDask | ExistingDask, Field(discriminator="kind")]


class IngestConfig(Config):
    """From DICOM files to the exam store."""

    source_dir: Path = Field(description="Folder of DICOM files, searched with its subfolders")
    labels_csv: Path | None = Field(None, description="Labels per breast; see docs/labels.md")
    masks_dir: Path | None = Field(None, description="Lesion masks, <SOPInstanceUID>.png: bit 0 benign, bit 1 malignant")
    profile: str = Field("clinical-strict", description="Named set of relaxed gate rules for a public data set")
    exams_per_shard: PositiveInt = Field(4, description="Exams written by one writer into one zarr shard; 4 views each")
    shards_per_batch: PositiveInt = Field(64, description="Shards in one visible, retryable Prefect task")
    max_failed_fraction: Fraction = Field(0.5, description="Above this share of quarantined files the run fails")
    file_timeout_s: float = Field(60.0, gt=0, description="A file that takes longer to read or decode is refused (F10)")
    file_memory_mib: int = Field(640, ge=64, description="Memory that reading one file may take; more is refused (F11)")
    dask: DaskConfig = LocalDask()


class SplitConfig(Config):
    """Patients into train, tuning and test."""

    tuning_fraction: Fraction = 0.15
    test_fraction: Fraction = 0.25
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _leaves_training_patients(self) -> SplitConfig:
        if self.tuning_fraction + self.test_fraction >= 1.0:
            raise ValueError("tuning_fraction + test_fraction must be below 1: no patient would be left to train on")
        return self


class TrainConfig(Config):
    """The paper's training (section 2.4 and 3.1)."""

    epochs: PositiveInt = 40
    batch_exams: PositiveInt = Field(4, description="Exams per step; each brings all its views")
    learning_rate: float = Field(1.6e-5, gt=0, description="Adam; the paper searches 10^[-5.5, -3.8]")
    saliency_weight: float = Field(1e-4, ge=0, description="lambda, weight of the saliency regulariser (eq. 1)")
    saliency_exponent: float = Field(1.0, gt=0, description="beta, exponent of the saliency regulariser (eq. 1)")
    negatives_per_positive: float = Field(1.0, ge=0, description="Random exams without a finding per exam with one, each epoch")
    loss_form: LossForm | None = Field(
        None, description="paper (eq. 1) or journal (+ y_fusion); null = journal iff model.fusion"
    )
    loader_workers: int = Field(0, ge=0, description="Loader processes; 0 reads in the training process")
    num_threads: int | None = Field(None, description="CPU threads of torch; null = all cores")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    keep_checkpoints: PositiveInt = 2
    seed: NonNegativeInt = 0


class EvaluateConfig(Config):
    """Breast-level metrics on the test split."""

    bootstrap_resamples: PositiveInt = Field(2000, description="Patient-clustered resamples for the intervals")
    confidence: float = Field(0.95, gt=0, lt=1)
    specificities: tuple[Fraction, ...] = Field((0.80, 0.90, 0.95), description="Operating points: sensitivity at these")
    sensitivities: tuple[Fraction, ...] = Field((0.80, 0.90), description="Operating points: specificity at these")
    calibration_bins: PositiveInt = Field(10, description="Bins of the reliability curve, with equal numbers of breasts")
    subgroup_minimum_patients: PositiveInt = Field(
        10, description="A group with fewer patients with, or without, the finding gets counts only"
    )
    subgroup_specificity: Fraction = Field(
        0.90, description="One of ``specificities``: groups are compared at the threshold that keeps it on the whole test split"
    )
    batch_images: PositiveInt = 4
    seed: NonNegativeInt = 0


class ExplainConfig(Config):
    """Figure 4 panels."""

    exams: PositiveInt = Field(6, description="Test exams shown: those with findings first")


class Stage(StrEnum):
    """The stages of the pipeline, in order."""

    INGEST = "ingest"
    VALIDATE = "validate"
    SPLIT = "split"
    TRAIN = "train"
    EVALUATE = "evaluate"
    EXPLAIN = "explain"
    REPORT = "report"


class RunConfig(Config):
    """A run from a folder of exams to a report."""

    name: str = Field("run", pattern=r"^[a-z0-9][a-z0-9-]*$", description="Shown in run names and on the report")
    workspace_dir: Path = Field(description="Everything the run writes: store, splits, checkpoints, reports")
    phantom: PhantomConfig | None = None
    ingest: IngestConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    model: GMICConfig = GMICConfig()
    split: SplitConfig = SplitConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    explain: ExplainConfig = ExplainConfig()
    checkpoint: Path | None = Field(None, description="Trained weights for predict; null = those of this workspace")
    force: tuple[Stage, ...] = Field((), description="Stages to run again although their results are there")

    @model_validator(mode="after")
    def _window_is_network_input(self) -> RunConfig:
        if self.preprocess.window_px != self.model.image_size:
            raise ValueError(
                f"preprocess.window_px {self.preprocess.window_px} must equal model.image_size {self.model.image_size}"
            )
        return self


def nearest_keys(unknown: str, known: Mapping[str, object]) -> list[str]:
    """The known keys most like a misspelt one, best first."""
    return get_close_matches(unknown, list(known), n=2, cutoff=0.5)
