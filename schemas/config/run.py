"""Types of every configuration; the values live in YAML. Frozen, no unknown keys, units in names.

One ``RunConfig`` file describes a run from folder to report; each ``mammo`` verb reads the sections it needs. Field
descriptions are what the Prefect UI shows beside its form.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from schemas.config.evaluation import (
    AcceptanceConfig,
    EvaluateConfig,
    ExplainConfig,
    HealthConfig,
    PromotionConfig,
    ReportConfig,
    Share,
    SplitConfig,
    Table1Config,
    WatchConfig,
)
from schemas.config.field_path import numbers_by_path
from schemas.config.ingest import STORE_ADDRESS, IngestConfig, PhantomConfig, PreprocessConfig, StoreCacheConfig
from schemas.config.network import GMICConfig, NetworkConfig, NetworkSection
from schemas.config.pacs import PacsConfig
from schemas.config.section import ADDED_LATER, Config, nearest_keys
from schemas.config.training import PretrainConfig, SearchConfig, TrainConfig
from schemas.exam import Finding

# ------------------------------------------------------------------------------------------------------------- network


# ---------------------------------------------------------------------------------------------------------------- data


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
    store_dir: Annotated[str, Field(pattern=STORE_ADDRESS, min_length=1)] | Path | None = Field(
        None,
        description="Another store to read, a folder or s3://bucket/prefix: for split, train, evaluate, explain and others "
        "that bring nothing in. ingest ignores it; what ingests and goes on (pipeline, predict, crossvalidate) refuses it",
    )
    store_cache: StoreCacheConfig = Field(
        StoreCacheConfig(), json_schema_extra=ADDED_LATER, description="Images of a store in a bucket that were read"
    )
    phantom: PhantomConfig | None = Field(
        None,
        description="A synthetic cohort, which mammo phantom, demo and reproduce table1 draw; reports of a config that has it "
        "say that the exams are synthetic",
    )
    ingest: IngestConfig = Field(description="From DICOM files to the exam store")
    preprocess: PreprocessConfig = Field(PreprocessConfig(), description="From a decoded image to the network's window")
    model: NetworkConfig = Field(GMICConfig(), description="The network and its numbers")
    split: SplitConfig = Field(SplitConfig(), description="Patients into train, tuning and test")
    pretrain: PretrainConfig | None = Field(None, description="Pre-training before train and search; null = none")
    train: TrainConfig = Field(TrainConfig(), description="Training as in the paper")
    search: SearchConfig = Field(
        SearchConfig(), description="Random search for hyper-parameters; train reads forecast_steps alone"
    )
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="Breast-level metrics on the test split")
    promotion: PromotionConfig = Field(
        PromotionConfig(), json_schema_extra=ADDED_LATER, description="What a model must show before it is put into use"
    )
    accept: AcceptanceConfig = Field(
        AcceptanceConfig(), json_schema_extra=ADDED_LATER, description="What a model must show on this site's exams"
    )
    watch: WatchConfig = Field(
        WatchConfig(), json_schema_extra=ADDED_LATER, description="How devices are watched once a model predicts"
    )
    health: HealthConfig | None = Field(
        None, json_schema_extra=ADDED_LATER, description="A synthetic exam that goes the whole way every hour; null = none"
    )
    explain: ExplainConfig = Field(ExplainConfig(), description="Panels and the gallery")
    report: ReportConfig = Field(ReportConfig(), description="The page of the whole run")
    table1: Table1Config = Field(Table1Config(), description="The paper's Table 1; only mammo reproduce table1 reads it")
    checkpoint: Path | None = Field(
        None, description="Weights that predict and infer use; null = those in use, else trained here"
    )
    calibrated: bool = Field(False, description="Predict, infer: breast scores after the recalibration beside the weights")
    calibrated_prevalence: dict[Finding, Share] = Field(
        {},
        json_schema_extra=ADDED_LATER,
        description="With calibrated: the share of breasts with the finding here, by finding; empty = the tuning split's",
    )
    predicted_panels: bool = Field(
        True,
        json_schema_extra=ADDED_LATER,
        description="Predict: draw each image's panel and keep its maps; false = scores alone, and nothing to return to a PACS",
    )
    pacs: PacsConfig | None = Field(
        None, json_schema_extra=ADDED_LATER, description="Other systems that exams come from and results go to; null = none"
    )
    prediction_log_years: int = Field(
        7,
        ge=1,
        le=100,
        json_schema_extra=ADDED_LATER,
        description="How long the prediction log is kept: mammo prune --delete takes months that are older",
    )
    force: tuple[Stage, ...] = Field(
        (),
        description="Stages to run again although their results are there. Not ingest, whose ledger decides, and which "
        "refuses; search goes on with its study whatever stands here",
    )

    @model_validator(mode="before")
    @classmethod
    def _network_is_built_for_the_window(cls, given: Any) -> Any:
        """``preprocess.window_px`` is the home of the size; a network that names none is built for it."""
        if not isinstance(given, Mapping) or given.get("preprocess") is None:
            return given
        preprocess, model = given["preprocess"], given.get("model", {})
        window_px = preprocess.get("window_px") if isinstance(preprocess, Mapping) else preprocess.window_px
        if window_px is None:
            return given
        if isinstance(model, NetworkSection):
            model = {name: getattr(model, name) for name in model.model_fields_set}
        if isinstance(model, Mapping):
            model = {"image_size": window_px, **model}
        return {**given, "model": model}

    @field_validator("store_dir")
    @classmethod
    def _address_is_whole(cls, value: str | Path | None) -> str | Path | None:
        """What is no address would be a folder of that name."""
        if isinstance(value, Path) and value.parts[:1] == ("s3:",):
            raise ValueError("an address is s3://bucket/prefix, without a user and password")
        return value

    @model_validator(mode="after")
    def _window_is_network_input(self) -> RunConfig:
        if self.preprocess.window_px != self.model.image_size:
            raise ValueError(
                f"preprocess.window_px {self.preprocess.window_px} must equal model.image_size {self.model.image_size}"
            )
        return self

    @model_validator(mode="after")
    def _source_is_a_peer(self) -> RunConfig:
        source, known = self.ingest.fetched_from, {} if self.pacs is None else self.pacs.peers
        if source is not None and source.peer not in known:
            raise ValueError(f"ingest.source.peer {source.peer} is none of pacs.peers: {', '.join(known) or 'there is none'}")
        if self.ingest.bucket_url is not None and self.pacs is not None and self.pacs.listen is not None:
            raise ValueError(
                "pacs.listen takes exams into ingest.source_dir, and ingest.source is a bucket: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _promotions_are_told_a_store(self) -> RunConfig:
        if self.promotion.mlflow_model is not None and self.train.tracking.mlflow is None:
            raise ValueError("promotion.mlflow_model needs the store that train.tracking.mlflow names")
        return self

    @model_validator(mode="after")
    def _one_start_for_the_localization_backbone(self) -> RunConfig:
        if self.pretrain is not None and self.train.start.localization is not None and not self.train.start.from_scratch:
            raise ValueError(
                "pretrain and train.start.localization both begin the localisation backbone: leave one out, or let pretraining "
                "begin with the file (pretrain.start.localization)"
            )
        return self

    @model_validator(mode="after")
    def _searches_numbers_that_exist(self) -> RunConfig:
        """A path may lead into any form of a section; whether this run's network has it is asked when it is searched."""
        numbers = numbers_by_path(RunConfig)
        for path, searched in self.search.ranges.items():
            if path not in numbers:
                near = nearest_keys(path, numbers)
                raise ValueError(f"search.ranges: no number is at {path}" + (f"; near it: {', '.join(near)}" if near else ""))
            if (numbers[path] is int) != (searched.whole is not None):
                raise ValueError(f"search.ranges: {path} takes {'whole' if numbers[path] is int else 'log10, ln or linear'}")
        return self
