"""Configs of everything that fits weights: training, pre-training, the hyper-parameter search."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from schemas.config.recipe import AugmentConfig, LabelsConfig, PartsConfig, RecipeConfig, StartConfig
from schemas.config.section import ADDED_LATER, FORMER_DEFAULT, Config, content_sha256

_KEPT_OUT_BEFORE = frozenset(
    {
        "loader_workers",
        "prefetch_batches",
        "keep_checkpoints",
        "checkpoint_steps",
        "checkpoint_activations",
        "tracking",
        "continues",
    }
)
"""What former releases left out of a run's identity, as far as they had it."""

_WHERE_IT_RUNS = _KEPT_OUT_BEFORE | {"store_reader", "num_threads", "device", "compile"}
"""Fields that do not change what is learnt: a run may be continued with other values."""

_NAMED_BY_DIGEST = frozenset({"start"})
"""Fields whose files' digests stand in a run's identity, wherever the files lie."""


class LossForm(StrEnum):
    """Which predictions are trained."""

    PAPER = "paper"  # equation 1: y_loc, y_mil and the saliency regulariser
    JOURNAL = "journal"  # the same and y_fusion, for the released form with its fusion branch


Precision = Literal["fp32", "ieee-fp32", "tf32", "bf16"]
"""In what the network computes. On a CPU all but bf16 are the same; on a GPU fp32 is what torch makes of it unasked:
TensorFloat-32 in convolutions alone."""


class StoreReader(StrEnum):
    """Which library reads the store's pixels; all give the same."""

    AUTO = "auto"  # tensorstore where it is installed
    ZARR = "zarr"
    TENSORSTORE = "tensorstore"  # optional and faster: the extra tensorstore


class MlflowConfig(Config):
    """An MLflow store that is told parameters, each epoch's numbers and the best checkpoint's digest; no identifier."""

    tracking_uri: str = Field(
        pattern=r"^(https?://|sqlite:///|file:/)", description="http(s)://server, sqlite:////folder/file, or file:///folder"
    )
    experiment: str = Field("mammography-gmic", min_length=1, description="Name of the experiment; made if it is not there")

    @model_validator(mode="after")
    def _has_no_password(self) -> MlflowConfig:
        if (
            self.tracking_uri.startswith("http") and "@" in self.tracking_uri
        ):  # a config is shown in the Prefect UI and kept in reports
            raise ValueError(
                "give user and password as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, not in tracking_uri"
            )
        return self


class TrackingConfig(Config):
    """What is kept to watch a training: TensorBoard's files in ``tensorboard/`` of the run's folder; MLflow if asked for."""

    tensorboard: bool = Field(True, description="Write TensorBoard files")
    pictures: NonNegativeInt = Field(2, description="Tuning views drawn with their malignant saliency after each epoch")
    scalar_steps: PositiveInt = Field(20, description="Steps between two points of the loss within an epoch")
    mlflow: MlflowConfig | None = Field(None, description="Also tell an MLflow store (extra mlflow); null = none, no network")


class FitConfig(Config):
    """Optimisation, common to training and pre-training. Everything beyond the paper is off by default."""

    epochs: PositiveInt = Field(40, description="Passes over the sampled exams")
    batch_exams: PositiveInt = Field(4, description="Exams per step, of all processes together; each brings all its views")
    learning_rate: float = Field(1.6e-5, gt=0, description="Adam; the paper searches 10^[-5.5, -3.8]")
    warmup_steps: NonNegativeInt = Field(0, description="Steps over which the learning rate rises linearly to its value")
    accumulation: PositiveInt = Field(
        1,
        description="Parts in which a process works through its exams of a step: less memory; batch statistics per part",
    )
    part_images: PositiveInt | None = Field(
        None,
        json_schema_extra=ADDED_LATER,
        description="Images of a part at most: a step whose exams have more views is worked through in more parts, an exam "
        "that has more in a part of its own; null = as many as its exams have",
    )
    clip_gradient_norm: float | None = Field(None, gt=0, description="Largest norm of a step's gradient; null = no limit")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Keep a running mean of the weights with this decay and evaluate it; null = off"
    )
    precision: Precision = Field(
        "fp32",
        description="bf16: autocast; losses, powers and min-max stay fp32. On a GPU ieee-fp32 rounds as a CPU does, tf32 uses "
        "TensorFloat-32 everywhere, and fp32 is what torch does unasked: TensorFloat-32 in convolutions alone",
    )
    tuning_precision: Precision = Field(
        "fp32", json_schema_extra=ADDED_LATER, description="In what the tuning split is scored after each epoch"
    )
    checkpoint_activations: bool = Field(False, description="Keep blocks' inputs only and compute the rest again: less memory")
    compile: bool = Field(False, description="torch.compile the network: minutes at the start, then faster steps")
    processes: PositiveInt = Field(
        1,
        description="Training processes on this machine: one per GPU, or CPU processes (gloo). What evaluate, "
        "explain and predict score is shared among as many GPUs as train.processes says",
    )
    sync_batch_norm: bool = Field(
        False, description="Batch statistics over all processes; false = each process its own, as the paper's single GPU"
    )
    loader_workers: NonNegativeInt = Field(2, description="Threads of each training process that read ahead; 0 = none")
    prefetch_batches: PositiveInt = Field(2, description="Batches that are read ahead of the one in use")
    store_reader: StoreReader = Field(
        StoreReader.AUTO,
        json_schema_extra={FORMER_DEFAULT: StoreReader.ZARR.value},
        description="auto = tensorstore where it is installed, else zarr: the same pixels",
    )
    num_threads: int | None = Field(
        None,
        description="CPU threads of torch in each process; null = OMP_NUM_THREADS, without it all cores. Another number rounds "
        "otherwise: fix it where a run must be repeatable",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto = a GPU if there is one")
    keep_checkpoints: PositiveInt = Field(2, description="Newest epochs kept (search: 1); the best by each criterion stay too")
    checkpoint_steps: PositiveInt | None = Field(
        None, description="Also write a checkpoint every so many steps within an epoch; null = at the end of each epoch only"
    )
    tracking: TrackingConfig = Field(TrackingConfig(), description="What is kept to watch it")
    seed: NonNegativeInt = Field(0, description="Seed of initial weights, sampling and jitter")
    start: StartConfig = Field(StartConfig(), json_schema_extra=ADDED_LATER, description="Files that the first weights are of")
    augment: AugmentConfig = Field(
        AugmentConfig(),
        json_schema_extra=ADDED_LATER,
        description="Random changes of training images beyond the window's jitter",
    )
    recipe: RecipeConfig = Field(
        RecipeConfig(), json_schema_extra=ADDED_LATER, description="How weights are moved beyond the paper's way"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> FitConfig:
        if self.batch_exams % self.processes:
            raise ValueError(f"batch_exams {self.batch_exams} must be a multiple of processes {self.processes}")
        if self.sync_batch_norm and self.checkpoint_activations:
            raise ValueError("sync_batch_norm and checkpoint_activations do not go together: statistics would count twice")
        if self.accumulation > self.batch_exams // self.processes:
            raise ValueError(
                f"accumulation {self.accumulation} is more than the {self.batch_exams // self.processes} exams "
                "that a process has in a step"
            )
        return self

    def identity(self) -> str:
        """Digest of the fields that change what is learnt, without what the files of ``start`` hold."""
        return next(self.identities())

    def identities(self, fewest_epochs: int | None = None) -> Iterator[str]:
        """The digest as this release takes it and as former ones did; then both of the same training with fewer epochs.

        With batch statistics of the whole step it is all the same how many processes share it. Former releases counted that,
        and some more fields that change nothing.

        Args:
            fewest_epochs: Down to so many; None = no fewer than its own.
        """
        alike = self.model_copy(update={"processes": 1, "sync_batch_norm": False}) if self.sync_batch_norm else self
        is_zarr_named = self.store_reader is StoreReader.ZARR  # it was the default, and naming it changed nothing
        former = self.model_copy(update={"store_reader": StoreReader.AUTO}) if is_zarr_named else self
        contents = alike._content_without(_WHERE_IT_RUNS), former._content_without(_KEPT_OUT_BEFORE)
        fewest = self.epochs if fewest_epochs is None else fewest_epochs
        for epochs in range(self.epochs, fewest - 1, -1):
            for content in contents:
                yield content_sha256({**content, "epochs": epochs})

    def _content_without(self, left_out: frozenset[str]) -> dict[str, Any]:
        fields = type(self).model_fields
        names = (left_out | _NAMED_BY_DIGEST) & fields.keys()
        return self.model_copy(update={name: fields[name].get_default() for name in names}).identity_content()


class TrainConfig(FitConfig):
    """The paper's training (section 2.4 and 3.1)."""

    saliency_weight: float = Field(1e-4, ge=0, description="lambda, weight of the saliency regulariser (eq. 1)")
    saliency_exponent: float = Field(1.0, gt=0, description="beta, exponent of the saliency regulariser (eq. 1)")
    negatives_per_positive: float = Field(1.0, ge=0, description="Random exams without a finding per exam with one, each epoch")
    negatives_shortfall: float = Field(
        0.5,
        ge=0,
        le=1,
        json_schema_extra=ADDED_LATER,
        description="Share of a finding's negatives that an epoch may lack before training refuses",
    )
    tuning_negatives_per_positive: float | None = Field(
        None,
        ge=0,
        json_schema_extra=ADDED_LATER,
        description="After each epoch, measure on all tuning exams with a finding and so many without one for each, drawn "
        "once; null = on all, as the paper",
    )
    loss_form: LossForm | None = Field(
        None, description="paper (eq. 1) or journal (+ y_fusion); null = journal iff model.fusion"
    )
    parts: PartsConfig = Field(
        PartsConfig(), json_schema_extra=ADDED_LATER, description="Fine-tuning: rates and frozen epochs of the two backbones"
    )
    labels: LabelsConfig = Field(LabelsConfig(), json_schema_extra=ADDED_LATER, description="How a label counts in the loss")
    continues: bool = Field(
        False,
        json_schema_extra=ADDED_LATER,
        description="Where images were published since a run of this config began, go on with it and with the patients that it "
        "has seen; false = begin anew, and say so. The flag --continue sets it",
    )


class PretrainTarget(StrEnum):
    """What the localisation network learns before it learns findings."""

    BIRADS = "birads"  # a screening exam's categories 0, 1 and 2 (section 3.1)
    ASSESSMENT = "assessment"  # BI-RADS 1 to 5, as public sets give it
    DENSITY = "density"  # BI-RADS density a to d
    HIDDEN = "hidden"  # tissue that was hidden from it, of all images: no labels


class PretrainConfig(FitConfig):
    """Pre-training of the localisation network: on BI-RADS categories 0, 1 and 2 (section 3.1) if nothing else is named."""

    target: PretrainTarget = Field(
        PretrainTarget.BIRADS,
        json_schema_extra=ADDED_LATER,
        description="What is learnt. birads: categories 0, 1 and 2, as the paper; assessment: BI-RADS 1 to 5 (6 counts as 5); "
        "density: a to d; hidden: tissue that was hidden from the network, of all images, with labels or without",
    )
    epochs: PositiveInt = Field(10, description="Passes over the exams; not stated in the paper")
    learning_rate: float = Field(1e-4, gt=0, description="Adam; not stated in the paper")
    exams_per_epoch: PositiveInt | None = Field(None, description="Exams drawn anew each epoch; null = all with a category")

    @model_validator(mode="after")
    def _mixes_no_categories(self) -> PretrainConfig:
        if self.augment.mixup:
            raise ValueError("augment.mixup mixes findings, which can be there in part; a category of pre-training cannot")
        return self


Range = tuple[float, float]


class SearchedRange(Config):
    """Lowest and highest value of a searched field, on one scale."""

    log10: Range | None = Field(None, description="Powers of ten, drawn evenly by their exponent")
    ln: Range | None = Field(None, description="Powers of e, drawn evenly by their exponent")
    linear: Range | None = Field(None, description="Drawn evenly between the two")
    whole: tuple[int, int] | None = Field(None, description="Whole numbers, both ends included")

    @model_validator(mode="after")
    def _has_one_scale(self) -> SearchedRange:
        given = [name for name, ends in self if ends is not None]
        if len(given) != 1:
            raise ValueError(f"name one scale of log10, ln, linear and whole, not {' and '.join(given) or 'none'}")
        low, high = self.ends
        if low > high:
            raise ValueError(f"the lower end {low} comes first, the higher end {high} second")
        return self

    @property
    def scale(self) -> str:
        """Name of the scale."""
        return next(name for name, ends in self if ends is not None)

    @property
    def ends(self) -> Range:
        """As they were given."""
        ends: Range = getattr(self, self.scale)
        return ends

    @property
    def limits(self) -> Range:
        """In the field's own unit."""
        low, high = self.ends
        if self.log10 is not None:
            return 10.0**low, 10.0**high
        return (math.exp(low), math.exp(high)) if self.ln is not None else (low, high)

    @property
    def is_log(self) -> bool:
        """True if the logarithm is what is drawn evenly."""
        return self.log10 is not None or self.ln is not None


PAPER_RANGES: Final[Mapping[str, SearchedRange]] = MappingProxyType(
    {
        "train.learning_rate": SearchedRange(log10=(-5.5, -3.8)),
        "train.saliency_weight": SearchedRange(log10=(-5.0, -2.8)),
        "train.saliency_exponent": SearchedRange(ln=(-1.6, 1.6)),
        "model.top_t": SearchedRange(ln=(-5.0, -1.5)),
    }
)
"""What the paper searches: the learning rate, lambda, beta and t (section 3.1)."""

_EARLIER_RANGES = {
    "learning_rate_log10": "train.learning_rate",
    "saliency_weight_log10": "train.saliency_weight",
    "saliency_exponent_ln": "train.saliency_exponent",
    "top_t_ln": "model.top_t",
}
"""Names of the paper's ranges before they were paths; read for one release."""


class ThisMachine(Config):
    """Trials side by side on this machine; each is a process of its own."""

    kind: Literal["processes"] = Field("processes", description="Trials side by side on this machine")
    count: PositiveInt = Field(1, description="Trials at the same time")


class GpuWorkers(Config):
    """One trial per GPU. Every trial takes a slot of the Prefect concurrency limit ``gpu``, if the server has one."""

    kind: Literal["gpu"] = Field(description="One trial per GPU")
    devices: tuple[NonNegativeInt, ...] = Field((0,), min_length=1, description="GPUs of this machine, as CUDA numbers them")


SearchWorkers = Annotated[ThisMachine | GpuWorkers, Field(discriminator="kind")]


class SearchConfig(Config):
    """Random search, over the paper's ranges (section 3.1) if no others are named; every other setting is the run's."""

    study: str = Field("paper", pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name of the study and of its folder")
    storage_url: str | None = Field(
        None, description="Database that several machines share, as SQLAlchemy names it; null = SQLite in the workspace"
    )
    trials: PositiveInt = Field(100, description="Trials of the study, of all workers together")
    ranges: dict[str, SearchedRange] = Field(
        dict(PAPER_RANGES), min_length=1, description="Fields that are searched, by path, as train.learning_rate"
    )
    with_published: bool = Field(False, description="Try the five published configurations first (nyukat/GMIC issue 4)")
    pruning: Literal["none", "median"] = Field(
        "none",
        description="median: after pruning_warmup_epochs a trial whose best tuning AUROC so far is below the median of the "
        "completed trials' at the same epoch ends, once pruning_startup_trials have been completed",
    )
    pruning_startup_trials: NonNegativeInt = Field(5, description="Trials to complete first")
    pruning_warmup_epochs: NonNegativeInt = Field(10, description="Epochs that no trial is pruned in")
    ensemble_size: PositiveInt = Field(5, description="Best trials by tuning malignant AUROC that make the ensemble")
    workers: SearchWorkers = Field(ThisMachine(), description="Where trials run")
    stale_after_s: float = Field(
        7200.0, gt=0, description="A trial of another machine that has shown no sign of life for so long is taken over"
    )
    forecast_steps: PositiveInt = Field(3, description="Steps measured before the search, or a long training, starts")
    confirm_above_hours: float = Field(24.0, ge=0, description="A longer forecast, in hours of all workers, needs --yes")
    is_confirmed: bool = Field(False, description="The forecast is accepted, however long; the flag --yes sets it")
    seed: NonNegativeInt = Field(0, description="Seed of the trials' parameters")

    @model_validator(mode="before")
    @classmethod
    def _had_a_field_for_each_range(cls, given: Any) -> Any:
        earlier = set(given) & set(_EARLIER_RANGES) if isinstance(given, Mapping) else set()
        if not earlier:
            return given
        if "ranges" in given:
            raise ValueError(f"name all ranges in search.ranges, without {', '.join(sorted(earlier))}")
        warnings.warn(
            f"search.{', search.'.join(sorted(earlier))}: the next release reads search.ranges only"
            " (docs/how-to/train-and-search.md)",
            FutureWarning,
            stacklevel=2,
        )
        named = {_EARLIER_RANGES[name]: {name.rpartition("_")[2]: given[name]} for name in earlier}
        kept = {name: value for name, value in given.items() if name not in earlier}
        return {**kept, "ranges": {**PAPER_RANGES, **named}}

    @property
    def paths(self) -> tuple[str, ...]:
        """The searched fields in the order in which a trial draws them: the paper's first, so that others change no draw."""
        others = sorted(set(self.ranges) - set(PAPER_RANGES))
        return (*(path for path in PAPER_RANGES if path in self.ranges), *others)

    @model_validator(mode="after")
    def _has_no_password(self) -> SearchConfig:
        if self.storage_url is not None and re.search(r"://[^/@]*:[^/@]*@", self.storage_url):  # as in MlflowConfig
            raise ValueError("leave the password out of storage_url: put it into ~/.pgpass, which PostgreSQL's driver reads")
        return self
