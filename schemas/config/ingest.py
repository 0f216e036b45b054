"""What comes in and how: the synthetic cohort, preprocessing, the source folder, Dask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from schemas.config.pacs import SourceConfig
from schemas.config.section import ADDED_LATER, Config, Fraction, SizePx


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
    pixel_spacing_mm: float | None = Field(
        None,
        ge=0.03,
        le=0.5,
        json_schema_extra=ADDED_LATER,
        description="Bring every image to this pixel spacing before the window is placed; null = pixels as they came",
    )
    jitter_shift_px: int = Field(100, ge=0, description="Train-time window shift, at most")
    jitter_size_px: int = Field(100, ge=0, description="Train-time window size change, at most")

    @property
    def fitting(self) -> str:
        """What is done with a breast larger than the window, as a part of the preprocessing's name; nothing = it is cut."""
        return "" if self.oversize == "cut" else f"+{self.oversize}"

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

    kind: Literal["local"] = Field("local", description="Worker processes on this machine")
    n_workers: PositiveInt = Field(2, description="Processes, one thread each")
    memory_limit: str = Field(
        "3GiB", description="Memory limit of a process; above it the process is ended and its work redone"
    )
    files_without_workers: NonNegativeInt = Field(
        8,
        json_schema_extra=ADDED_LATER,
        description="Up to so many new files the run itself brings in: to start processes for them would cost more",
    )


class ExistingDask(Config):
    """A running scheduler, by address."""

    kind: Literal["address"] = Field(description="A running scheduler, by address")
    address: str = Field(description="Address of the scheduler, as tcp://10.0.0.5:8786")


class SlurmDask(Config):
    """Jobs of a SLURM cluster; needs the extra ``slurm``. Nodes share the file system of store, inbox and installation."""

    kind: Literal["slurm"] = Field(description="Jobs of a SLURM cluster (extra slurm)")
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

    kind: Literal["kubernetes"] = Field(description="Pods of the Dask Kubernetes operator (extra kubernetes)")
    image: str = Field(description="Image of deployments/Dockerfile, with a tag that never moves")
    name: str = Field("mammo", pattern=r"^[a-z][a-z0-9-]{0,40}$", description="Name of the DaskCluster")
    namespace: str = Field("default", description="Kubernetes namespace")
    n_workers: PositiveInt = Field(8, description="Worker pods, one thread each")
    cpu: str = Field("1", description="CPU request of a worker pod")
    memory: str = Field("3Gi", description="Memory request and limit of a worker pod")
    volume_claim: str = Field(description="PersistentVolumeClaim with store and inbox, readable and writable by all pods")
    mount_path: Path = Field(Path("/data"), description="Where the claim appears in the pods: the same path as in the flow's")


DaskConfig = Annotated[LocalDask | ExistingDask | SlurmDask | KubernetesDask, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """What one file may take.

    Attributes:
        timeout_s: Wall-clock time for one file.
        memory_bytes: Address space beyond what the child has when it starts (0.3 GiB, of which 80 MB resident).
        files_per_child: Files after which a child is replaced, whatever they did to its heap.
    """

    timeout_s: float = 60.0
    memory_bytes: int = 640 << 20
    files_per_child: int = 1000


BucketAddress = Annotated[str, Field(pattern=r"^s3://[A-Za-z0-9][A-Za-z0-9._-]*(/[^?#]*)?$")]
"""``s3://bucket/prefix``; who we are there comes from the environment, and is in no config."""

STORE_ADDRESS: Final = r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]{1}(/[A-Za-z0-9._/-]{0,120})?)?$"
"""The same for a store, whose address is also the name of a folder, and so is plain and short; or nothing."""
_PASSWORDS: Final = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
"""What lets somebody in, of what an address of PostgreSQL may say behind its question mark."""


class StoreCacheConfig(Config):
    """Where images of a store in a bucket are kept once they were read."""

    folder: Path | None = Field(None, description="On a fast disk of this machine; null = store_cache in the workspace")
    gigabytes: float = Field(50.0, ge=0, description="At most so much; what was not read for longest goes first; 0 = none")

    @property
    def size_bytes(self) -> int:
        """The same in bytes."""
        return int(self.gigabytes * 1e9)


def _has_password(address: str) -> bool:
    """True if PostgreSQL's driver finds a password in an address, or a person meant one that the driver reads otherwise."""
    names = (name.partition("=")[0] for name in re.split("[?&]", address)[1:])
    is_named = any(unquote(name) in _PASSWORDS for name in names)
    return is_named or re.search(r"://[^/@]*:[^/@]*@|://[^?@]*:[^?@]*@", address) is not None


class IngestConfig(Config):
    """From DICOM files to the exam store."""

    source_dir: Path = Field(description="Folder of DICOM files, with its subfolders; none with a bucket")
    source: SourceConfig | BucketAddress | None = Field(
        None,
        json_schema_extra=ADDED_LATER,
        description="Exams of a PACS that are fetched into source_dir first; or s3://bucket/prefix, whose objects are read "
        "where they lie (docs/how-to/exams-in-a-bucket.md); null = the folder is filled by others",
    )
    store: Annotated[str, Field(pattern=STORE_ADDRESS)] = Field(
        "",
        json_schema_extra=ADDED_LATER,
        description="Where pixels are kept, s3://bucket/prefix; empty = in the workspace. The key stays there always",
    )
    ledger: str = Field(
        "",
        json_schema_extra=ADDED_LATER,
        description="Where the ledger of a store in a bucket is kept, so that another machine can go on: "
        "postgresql://user@host/database, without a password (docs/how-to/scale-out.md); empty = in the workspace",
    )
    labels_csv: Path | None = Field(None, description="Labels per breast; see docs/reference/labels.md")
    subjects_csv: Path | None = Field(
        None,
        json_schema_extra=ADDED_LATER,
        description="Whom and what each file shows, where a table says it and not the header; see docs/reference/subjects.md",
    )
    terms: str = Field(
        "",
        max_length=300,
        json_schema_extra=ADDED_LATER,
        description="Terms of the data that forbid passing on data or weights, in a sentence that the report says",
    )
    masks_dir: Path | None = Field(None, description="Lesion masks, <SOPInstanceUID>.png: bit 0 benign, bit 1 malignant")
    boxes_csv: Path | None = Field(None, description="Lesion boxes where there are no masks; see docs/reference/labels.md")
    profile: str = Field("clinical-strict", description="Named set of relaxed gate rules for a public data set")
    image_types: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9_ ]{1,16}$")], ...] = Field(
        (),
        json_schema_extra=ADDED_LATER,
        description="Third to fifth values of ImageType that this site's devices write on plain mammograms (K12)",
    )
    settle_s: float = Field(
        5.0, ge=0, description="A file touched within this time is taken only if it does not change while ingest waits as long"
    )
    exams_per_shard: PositiveInt = Field(4, description="Exams written by one writer into one zarr shard; 4 views each")
    shards_per_batch: PositiveInt = Field(64, description="Shards in one visible, retryable Prefect task")
    max_failed_fraction: Fraction = Field(
        0.5,
        description="With more than this share of the files refused in one run it ends with code 8, what was accepted being "
        "published; files of another kind (reports, other images) do not count",
    )
    max_deferred_fraction: Fraction = Field(
        0.2,
        json_schema_extra=ADDED_LATER,
        description="Above this share of files that cannot be read at the moment the run ends with code 75 and is retried",
    )
    max_withdrawn_fraction: Fraction = Field(
        0.2,
        json_schema_extra=ADDED_LATER,
        description="A manifest without more than this share of the images published before is not published",
    )
    allow_withdrawals: bool = Field(
        False, json_schema_extra=ADDED_LATER, description="Publish a manifest that withdraws any share of the images"
    )
    file_timeout_s: float = Field(60.0, gt=0, description="A file that takes longer to read or decode is refused (F10)")
    lock_wait_s: float = Field(
        0.0,
        ge=0,
        description="Wait this long for another run that writes the store; 0 = give up at once. A service waits 1 h at least",
    )
    file_memory_mib: int = Field(640, ge=64, description="Memory that reading one file may take; more is refused (F11)")
    dask: DaskConfig = Field(LocalDask(), description="Where files are decoded")

    @property
    def gate_limits(self) -> GateLimits:
        """What reading one file may take."""
        return GateLimits(timeout_s=self.file_timeout_s, memory_bytes=self.file_memory_mib << 20)

    @model_validator(mode="before")
    @classmethod
    def _a_bucket_has_no_folder(cls, given: Any) -> Any:
        """Keys of a bucket are told apart as names below a folder of its address would be, which nobody looks for."""
        if not isinstance(given, Mapping) or not isinstance(bucket := given.get("source"), str):
            return given
        if (folder := given.get("source_dir")) is not None and Path(folder) != Path(bucket):
            raise ValueError("source is a bucket, and source_dir a folder: leave one of them out (source: null)")
        return {**given, "source_dir": bucket}

    @model_validator(mode="after")
    def _store_and_source_lie_apart(self) -> IngestConfig:
        """What a run writes would be taken for exams."""
        store, source = (f"{place.rstrip('/')}/" for place in (self.store, self.bucket_url or ""))
        if self.store and self.bucket_url and (store.startswith(source) or source.startswith(store)):
            raise ValueError(
                "store lies inside source, or source inside store: name two prefixes of which none begins the other"
            )
        return self

    @model_validator(mode="after")
    def _ledger_is_of_a_bucket_and_has_no_password(self) -> IngestConfig:
        """Pixels in a folder are of one machine, and so is what is known of them."""
        if _has_password(self.ledger):
            raise ValueError("leave the password out of ledger: put it into ~/.pgpass, which PostgreSQL's driver reads")
        if self.ledger and not self.ledger.startswith("postgresql://"):  # no pattern: its complaint would show a password
            raise ValueError("ledger is no address of PostgreSQL: postgresql://user@host/database")
        if self.ledger and not self.store:
            raise ValueError("ledger is in a database, and store in a folder of one machine: name a bucket (store: s3://...)")
        return self

    @property
    def bucket_url(self) -> str | None:
        """The bucket that exams lie in; None = they lie in ``source_dir``."""
        return self.source if isinstance(self.source, str) else None

    @property
    def fetched_from(self) -> SourceConfig | None:
        """What is fetched from a PACS first; None = nothing."""
        return None if isinstance(self.source, str) else self.source

    @property
    def place(self) -> str:
        """Where exams lie, in words for people."""
        return self.bucket_url or str(self.source_dir)
