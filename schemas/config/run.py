"""Types of every configuration; the values live in YAML. Frozen, no unknown keys, units in names.

One ``RunConfig`` file describes a run from folder to report; each ``mammo`` verb reads the sections it needs. Field
descriptions are what the Prefect UI shows beside its form.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from schemas.config.section import Config as Config
from schemas.config.training import LossForm as LossForm
from schemas.config.training import PretrainConfig as PretrainConfig
from schemas.config.training import SearchConfig as SearchConfig
from schemas.config.training import StoreReader as StoreReader
from schemas.config.training import TrainConfig as TrainConfig

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def _as_pair(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


SizePx = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_as_pair)]
"""(rows, columns); one integer stands for a square."""


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
    channels_last: bool = Field(True, description="Memory layout of activations, where it is faster: the same numbers")

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
    """Which transform of the file is applied to stored values (``gmic_model.pixels.voi``); before MONOCHROME1 is inverted."""

    RAW = "raw"  # none: what the published weights were trained on
    WINDOW = "window"  # the file's first window, with its function
    VOI_LUT = "voi-lut"  # the file's first VOI LUT; its first window where it has none


class PreprocessConfig(Config):
    """From a decoded image to the network window."""

    window_px: SizePx = Field((2944, 1920), description="Network window, rows and columns in pixels")
    voi: VoiMode = Field(VoiMode.RAW, description="Transform of stored values: raw, window or voi-lut")
    crop_mode: CropMode = Field(CropMode.ROBUST, description="How the breast is found: robust, or as the released code")
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

    output_dir: Path = Field(description="Where the files go")
    patients: PositiveInt = Field(60, description="Synthetic patients")
    exams_per_patient: tuple[PositiveInt, PositiveInt] = Field((1, 2), description="Fewest and most exams of a patient")
    image_size_px: SizePx = Field((3328, 2560), description="Rows and columns of the files")
    malignant_fraction: Fraction = Field(0.2, description="Share of exams with a malignant finding")
    benign_fraction: Fraction = Field(0.2, description="Share of exams with a benign finding, drawn independently")
    difficulty: Fraction = Field(0.5, description="0: bold lesions, few distractors; 1: faint lesions, many distractors")
    seed: NonNegativeInt = Field(0, description="Another seed makes another cohort")


class LocalDask(Config):
    """Worker processes on this machine."""

    kind: Literal["local"] = "local"
    n_workers: PositiveInt = Field(2, description="Processes, one thread each")
    memory_limit: str = Field("3GiB", description="Of a process; above it the process is ended and its work redone")


class ExistingDask(Config):
    """A running scheduler, by address."""

    kind: Literal["address"]
    address: str = Field(description="As tcp://10.0.0.5:8786")


class SlurmDask(Config):
    """Jobs of a SLURM cluster; needs the extra ``slurm``. Nodes share the file system of store, inbox and installation."""

    kind: Literal["slurm"]
    queue: str = Field(description="Partition")
    account: str | None = Field(None, description="Account that is charged")
    jobs: PositiveInt = Field(4, description="Jobs submitted")
    cores: PositiveInt = Field(8, description="Cores of a job; each is a worker of one thread")
    memory: str = Field("32GiB", description="Memory of a job, shared evenly by its workers")
    walltime_min: int = Field(
        240, ge=10, description="Wall time of a job; its workers end 5 minutes before, and others take over"
    )
    interface: str | None = Field(None, description="Network interface by which nodes reach this machine; null = Dask's choice")
    local_dir: Path | None = Field(None, description="Scratch folder on a node; null = Dask's choice")
    directives: tuple[str, ...] = Field((), description="Further #SBATCH lines, as --constraint=skylake")


class KubernetesDask(Config):
    """A DaskCluster of the Dask Kubernetes operator; needs the extra ``kubernetes``. Pods mount the store's claim."""

    kind: Literal["kubernetes"]
    image: str = Field(description="Image of deployments/Dockerfile, with a tag that never moves")
    name: str = Field("mammo", pattern=r"^[a-z][a-z0-9-]{0,40}$", description="Name of the DaskCluster")
    namespace: str = Field("default", description="Kubernetes namespace")
    n_workers: PositiveInt = Field(8, description="Worker pods, one thread each")
    cpu: str = Field("1", description="CPU request of a worker pod")
    memory: str = Field("3Gi", description="Memory request and limit of a worker pod")
    volume_claim: str = Field(description="PersistentVolumeClaim with store and inbox, readable and writable by all pods")
    mount_path: Path = Field(Path("/data"), description="Where the claim appears in the pods: the same path as in the flow's")


DaskConfig = Annotated[LocalDask | ExistingDask | SlurmDask | KubernetesDask, Field(discriminator="kind")]


class IngestConfig(Config):
    """From DICOM files to the exam store."""

    source_dir: Path = Field(description="Folder of DICOM files, searched with its subfolders")
    labels_csv: Path | None = Field(None, description="Labels per breast; see docs/labels.md")
    masks_dir: Path | None = Field(None, description="Lesion masks, <SOPInstanceUID>.png: bit 0 benign, bit 1 malignant")
    boxes_csv: Path | None = Field(None, description="Lesion boxes where there are no masks; see docs/labels.md")
    profile: str = Field("clinical-strict", description="Named set of relaxed gate rules for a public data set")
    settle_s: float = Field(
        5.0, ge=0, description="A file touched within this time is taken only if it does not change while ingest waits as long"
    )
    exams_per_shard: PositiveInt = Field(4, description="Exams written by one writer into one zarr shard; 4 views each")
    shards_per_batch: PositiveInt = Field(64, description="Shards in one visible, retryable Prefect task")
    max_failed_fraction: Fraction = Field(0.5, description="Above this share of quarantined files the run fails")
    file_timeout_s: float = Field(60.0, gt=0, description="A file that takes longer to read or decode is refused (F10)")
    lock_wait_s: float = Field(
        0.0, ge=0, description="Wait this long for another run that writes the store; 0 = give up at once"
    )
    file_memory_mib: int = Field(640, ge=64, description="Memory that reading one file may take; more is refused (F11)")
    dask: DaskConfig = Field(LocalDask(), description="Where files are decoded")


class SplitConfig(Config):
    """Patients into train, tuning and test."""

    tuning_fraction: Fraction = Field(0.15, description="Share of patients that choose epoch and thresholds")
    test_fraction: Fraction = Field(0.25, description="Share of patients that judge")
    seed: NonNegativeInt = Field(0, description="Another seed divides otherwise")

    @model_validator(mode="after")
    def _leaves_training_patients(self) -> SplitConfig:
        if self.tuning_fraction + self.test_fraction >= 1.0:
            raise ValueError("tuning_fraction + test_fraction must be below 1: no patient would be left to train on")
        return self


READERS_SPECIFICITY = 0.853
"""Mean specificity of the public reader study's 14 readers, recall above probability 0.02 (docs/reader-study.md)."""


class EvaluateConfig(Config):
    """Breast-level metrics on the test split."""

    checkpoints: tuple[Path, ...] = Field((), description="Weights to evaluate, and their mean; none = what train made")
    ensemble: Path | None = Field(None, description="ensemble.json that names the weights instead (docs/evaluation.md)")
    read_as: GMICVariant | None = Field(
        None, description="Row of Table 1 that the weights stand for: gmic weights give gmic-loc and gmic-mil too"
    )
    bootstrap_resamples: PositiveInt = Field(2000, description="Patient-clustered resamples for the intervals")
    confidence: float = Field(0.95, gt=0, lt=1, description="Of the intervals")
    specificities: tuple[Fraction, ...] = Field((0.80, 0.90, 0.95), description="Operating points: sensitivity at these")
    readers_specificity: Fraction | None = Field(
        READERS_SPECIFICITY, description="Also the sensitivity at the readers' mean specificity; null = leave it out"
    )
    sensitivities: tuple[Fraction, ...] = Field((0.80, 0.90), description="Operating points: specificity at these")
    calibration_bins: PositiveInt = Field(10, description="Bins of the reliability curve, with equal numbers of breasts")
    subgroup_minimum_patients: PositiveInt = Field(
        10, description="A group with fewer patients with, or without, the finding gets counts only"
    )
    subgroup_specificity: Fraction = Field(
        0.90, description="One of ``specificities``: groups are compared at the threshold that keeps it on the whole test split"
    )
    batch_images: PositiveInt = Field(4, description="Images scored at once")
    seed: NonNegativeInt = Field(0, description="Of the resamples")

    @model_validator(mode="after")
    def _names_weights_once(self) -> EvaluateConfig:
        if self.checkpoints and self.ensemble is not None:
            raise ValueError("name the weights in checkpoints or in ensemble, not in both")
        return self

    @property
    def names_weights(self) -> bool:
        """True if the weights are not those of this workspace's training."""
        return bool(self.checkpoints) or self.ensemble is not None


class ExplainConfig(Config):
    """Figure 4 panels, and the gallery: a page for each exam as radiologists hang it."""

    exams: PositiveInt = Field(40, description="Test exams shown at most: the worst errors first, then those with findings")
    failures: int = Field(4, ge=0, description="Worst false negatives, and as many false positives, of each finding reported")
    picture_rows_px: PositiveInt = Field(
        1600, description="Height of a gallery picture, at most; the breast crop is shrunk to it"
    )


class ReportConfig(Config):
    """The page of a whole run."""

    pdf: bool = Field(True, description="Print report.pdf beside the page with headless Chromium, if the machine has one")


class Table1Config(Config):
    """The paper's Table 1 (``mammo reproduce table1``); every other setting is the run's."""

    rows: tuple[GMICVariant, ...] = Field(tuple(GMICVariant), min_length=1, description="Rows of the table")
    seeds: tuple[NonNegativeInt, ...] = Field((0, 1, 2), min_length=1, description="A training of each row for each seed")
    checkpoints: dict[GMICVariant, tuple[Path, ...]] = Field(
        {}, description="Weights taken instead of trained, by the row they were trained as"
    )
    is_store_ready: bool = Field(False, description="Take the workspace's store and splits as they are; ingest nothing")


class Stage(StrEnum):
    """The stages of the pipeline, in order."""

    INGEST = "ingest"
    VALIDATE = "validate"
    SPLIT = "split"
    PRETRAIN = "pretrain"
    TRAIN = "train"
    SEARCH = "search"
    EVALUATE = "evaluate"
    EXPLAIN = "explain"
    REPORT = "report"


class RunConfig(Config):
    """A run from a folder of exams to a report."""

    name: str = Field("run", pattern=r"^[a-z0-9][a-z0-9-]*$", description="Shown in run names and on the report")
    workspace_dir: Path = Field(description="Everything the run writes: store, splits, checkpoints, reports")
    store_dir: Path | None = Field(None, description="Exam store to read instead of the workspace's own; ingest ignores it")
    phantom: PhantomConfig | None = Field(None, description="For the flow phantom only")
    ingest: IngestConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    model: GMICConfig = GMICConfig()
    split: SplitConfig = SplitConfig()
    pretrain: PretrainConfig | None = Field(None, description="BI-RADS pre-training before train and search; null = none")
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    explain: ExplainConfig = ExplainConfig()
    report: ReportConfig = ReportConfig()
    table1: Table1Config = Table1Config()
    checkpoint: Path | None = Field(None, description="Trained weights for predict; null = those of this workspace")
    calibrated: bool = Field(False, description="Predict: breast scores after the temperature kept beside the weights")
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
