"""What training, its pre-training and its search say, and the files that name their weights."""

from __future__ import annotations

from pydantic import Field

from schemas.reports.report import ADDED_TO_REPORT, Provenance, Report, ReportPath


class EnsembleMember(Report):
    """One set of weights that is evaluated, alone or with others."""

    path: ReportPath = Field(description="Checkpoint folder; in a file, relative to the file's folder")
    sha256: str = Field(description="SHA-256 of the weights file")
    tuning_malignant_auroc: float | None = Field(None, description="Tuning AUROC for malignant by which the member was chosen")


class EnsembleFile(Report):
    """``ensemble.json``: the models whose mean score is the prediction, best first."""

    checkpoints: tuple[EnsembleMember, ...] = Field(min_length=1)


class SeenPatients(Report):
    """``patients.json`` beside the weights: whom they were trained and tuned on, as digests of pseudonyms, sorted."""

    pseudonym_key_id: str = Field(description="Names the key of the pseudonyms: stores of another key cannot be compared")
    trained: tuple[str, ...] = Field(description="Patients whose exams moved the weights, those of pre-training too")
    tuned: tuple[str, ...] = Field(description="Patients who chose among the weights")


class NumbersOfImages(Report):
    """How a number is distributed over images: counts between edges, and below and above them."""

    edges: tuple[float, ...]
    counts: tuple[int, ...] = Field(description="One more than there are edges")
    missing: int = Field(description="Images that do not say it")


class ImageReference(Report):
    """In a checkpoint's sidecar: what the images were like that the weights learnt from, counted, not one by one."""

    images: int
    exams: int
    numbers: dict[str, NumbersOfImages] = Field(description="By column of the manifest, between tenths")
    categories: dict[str, dict[str, int]] = Field(description="By column of the manifest: how many images are of each kind")


class StartedPart(Report):
    """What one file of weights gave to a network before its first step."""

    part: str = Field(description="What the config asked for: network, localization or patches")
    source: str = Field(description="Name of the file or checkpoint folder, without its place")
    sha256: str = Field(description="SHA-256 of the file; of a checkpoint's weights")
    form: str = Field(description="What the file holds")
    taken: tuple[str, ...] = Field(description="Tensors of the network that are the file's, by our names")
    left: tuple[str, ...] = Field(description="Tensors of the file that the network has no place for, or was not asked to take")
    judged: str | None = Field(
        None,
        json_schema_extra=ADDED_TO_REPORT,
        description="What tuning said of a pre-training, beside who has learnt nothing; None = it is none",
    )


class StartedWeights(Report):
    """Where a network's first weights came from."""

    parts: tuple[StartedPart, ...]
    fresh: tuple[str, ...] = Field(description="Tensors of the network that no file gave: drawn at random")


class EpochRecord(Report):
    """One line of the training curve."""

    epoch: int
    train_loss: float
    tuning_malignant_auroc: float | None
    tuning_benign_auroc: float | None
    images_per_s: float
    is_best: bool
    tuning_localization_f1: float | None = Field(None, description="Mean over findings of the F1 on tuning views with a mask")
    tuning_malignant_f1: float | None = Field(None, description="F1 on tuning views with a mask of a malignant finding")
    is_best_localization: bool = Field(False, description="By malignant F1 (paper 3.3); former releases: by the mean F1")
    memory_mib: float = Field(0.0, description="Most memory taken so far: of the GPU if there is one, else of the process")
    tuning_loss: float | None = Field(
        None,
        json_schema_extra=ADDED_TO_REPORT,
        description="Cross-entropy of the tuning breasts, mean of the findings; breasts with and without one count half each",
    )


class PretrainEpoch(Report):
    """One line of the pre-training curve."""

    epoch: int
    train_loss: float
    tuning_loss: float | None = Field(
        description="Mean cross-entropy of tuning views with a category; of hidden tissue the mean squared error, in units of "
        "an image's own spread; None = there are no such views"
    )
    tuning_accuracy: float | None = Field(description="Share of tuning views whose category is named; None = none has one")
    images_per_s: float
    is_best: bool
    is_best_localization: bool = False
    memory_mib: float = 0.0
    tuning_auroc: float | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="Each category against the others, mean of those that there are"
    )
    baseline_loss: float | None = Field(
        None,
        json_schema_extra=ADDED_TO_REPORT,
        description="Tuning loss of who gives each view the categories' shares, and hidden tissue the mean of what is seen",
    )
    baseline_accuracy: float | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="Tuning accuracy of who always names the commonest category"
    )


class PretrainReport(Report):
    """What ``pretrain`` made."""

    checkpoint_path: ReportPath = Field(description="Weights of the lowest tuning loss")
    checkpoint_sha256: str
    run_dir: ReportPath
    epochs: tuple[PretrainEpoch, ...]
    best_epoch: int
    train_exams: int
    provenance: Provenance
    start: StartedWeights | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="What it began with; None = random weights"
    )


class TrainReport(Report):
    """What ``train`` made."""

    checkpoint_path: ReportPath = Field(description="Best weights by tuning malignant AUROC, safetensors with sidecar")
    checkpoint_sha256: str
    run_dir: ReportPath
    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    train_exams: int
    splits_sha256: str = Field("", description="SHA-256 of the splits it was trained on: only their test part may judge it")
    provenance: Provenance
    localization_checkpoint_path: ReportPath | None = Field(
        None, description="Best weights by malignant F1 on tuning; None = no tuning view has a mask of a malignant finding"
    )
    start: StartedWeights | None = Field(
        None, json_schema_extra=ADDED_TO_REPORT, description="What it began with; None = random weights"
    )


class SearchForecast(Report):
    """What a search will take, from a few measured steps."""

    device: str
    trials: int = Field(description="Trials still to run")
    seconds_per_image: float = Field(description="Seconds of a training step for each image, forward and backward")
    tuning_seconds_per_image: float
    trial_hours: float
    total_hours: float = Field(description="Hours of all workers together: GPU-hours on GPUs")
    wall_hours: float
    disk_gib: float
    disk_free_gib: float


class SearchedModel(Report):
    """One of the best trials."""

    trial: int
    tuning_malignant_auroc: float
    checkpoint_path: ReportPath
    checkpoint_sha256: str
    parameters: dict[str, float]


class SearchReport(Report):
    """What ``search`` found."""

    study_dir: ReportPath
    ensemble_path: ReportPath = Field(description="The best trials' weights, for evaluate.ensemble")
    page_path: ReportPath
    best: tuple[SearchedModel, ...]
    trials_complete: int
    trials_pruned: int
    trials_failed: int
    importance: dict[str, float] = Field(description="Share of the AUROC's variance by parameter; empty = too few trials")
    forecast: SearchForecast | None = Field(description="None = nothing was left to run")
    next_command: str
