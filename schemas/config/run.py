"""Types of every configuration; the values live in YAML. Frozen, no unknown keys, units in names.

One ``RunConfig`` file describes a run from folder to report; each ``mammo`` verb reads the sections it needs. Field
descriptions are what the Prefect UI shows beside its form.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator

from schemas.config.evaluation import EvaluateConfig, ExplainConfig, ReportConfig, SplitConfig, Table1Config
from schemas.config.ingest import IngestConfig, PhantomConfig, PreprocessConfig
from schemas.config.network import GMICConfig
from schemas.config.section import Config
from schemas.config.training import PretrainConfig, SearchConfig, TrainConfig

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
