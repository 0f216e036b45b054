"""Sentences on a run, made of its reports: what an answer to a reporting guideline is put together from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from schemas.config.network import GMICConfig, NetworkConfig
from schemas.config.run import RunConfig
from schemas.exam import Split
from schemas.reports.data import IngestReport, SplitReport, ValidationReport
from schemas.reports.evaluation import EvaluationReport, FindingMetrics, OperatingPoint
from schemas.reports.pages import ExplainReport
from schemas.reports.training import TrainReport
from tasks.adapters.pages.render import page_findings
from tasks.adapters.scoring.metrics_table import interval_text


class KnownRun(Protocol):
    """What is known of a run: all of a pipeline's, or what lies beside an evaluation; None = there was no such stage."""

    @property
    def ingest(self) -> IngestReport: ...  # noqa: D102  (a report's own field)
    @property
    def split(self) -> SplitReport: ...  # noqa: D102
    @property
    def evaluation(self) -> EvaluationReport: ...  # noqa: D102
    @property
    def validation(self) -> ValidationReport | None: ...  # noqa: D102
    @property
    def train(self) -> TrainReport | None: ...  # noqa: D102
    @property
    def explanation(self) -> ExplainReport | None: ...  # noqa: D102


def part_of(part: int, whole: int) -> str:
    """A part and its whole."""
    return f"{part:,} of {whole:,}"


def files_refused(report: KnownRun) -> str:
    """Former reports count reasons only."""
    return f"{report.ingest.files_quarantined or sum(report.ingest.quarantined_by_reason.values()):,}"


def split_sizes(report: KnownRun) -> str:
    """Every split with its patients, exams and findings."""
    sizes = [
        f"{split.value} {count.patients:,} patients, {count.exams:,} exams, {count.malignant_breasts:,} malignant and "
        f"{count.benign_breasts:,} benign breasts"
        for split in Split
        if (count := report.split.counts.get(split)) is not None
    ]
    return f"{'; '.join(sizes).capitalize()}." if sizes else "No patient was divided."


def network_sentence(network: NetworkConfig) -> str:
    """Which network, and its numbers."""
    size = f"input {network.image_size[0]} x {network.image_size[1]} pixels"
    if not isinstance(network, GMICConfig):
        return f"Network {network.title}, {size}."
    return (
        f"Globally-Aware Multiple Instance Classifier (Shen et al. 2019), variant {network.title}: {size}, {network.K} patches "
        f"of {network.patch_size[0]} x {network.patch_size[1]}, {network.top_t:.1%} of saliency cells pooled."
    )


def first_weights(report: KnownRun, config: RunConfig) -> Iterator[str]:
    """What the weights were before training."""
    start = None if report.train is None else report.train.start
    if start is not None:
        for part in start.parts:
            yield f"{part.part.capitalize()}: {len(part.taken)} tensors of a file ({part.form}), sha256 {part.sha256[:12]}."
        yield f"Drawn at random, seed {config.train.seed}: {len(start.fresh)} of the network's tensors."
    else:
        yield f"Drawn at random, seed {config.train.seed}, unless pre-training or a file gave them: see the config."


def shown_findings(evaluated: EvaluationReport) -> Sequence[tuple[str, FindingMetrics]]:
    """Findings in the order of a page."""
    return [(finding, evaluated.by_finding[finding]) for finding in page_findings(evaluated.by_finding)]


def areas(evaluated: EvaluationReport) -> tuple[str, ...]:
    """AUROC and AUPRC of each finding, with how many breasts and patients have it."""
    return tuple(
        f"{finding.capitalize()}: AUROC {interval_text(metrics.auroc)}, AUPRC {interval_text(metrics.auprc)}; "
        f"{part_of(metrics.positive_breasts, metrics.breasts)} breasts"
        + (
            f" and {part_of(metrics.positive_patients, metrics.patients)} patients have it."
            if metrics.patients
            else " have it."
        )
        for finding, metrics in shown_findings(evaluated)
    )


def operating_points(evaluated: EvaluationReport) -> Iterator[str]:
    """Sensitivity and specificity at each operating point: what was locked elsewhere first, as nothing was chosen for it."""
    for finding, metrics in shown_findings(evaluated):
        locked = () if metrics.locked is None else metrics.locked.points
        for point in (*locked, *metrics.operating_points):
            yield f"{finding.capitalize()}, {_where(point)}: sensitivity {interval_text(point.sensitivity)}, specificity " + (
                f"{interval_text(point.specificity)}."
            )


def _where(point: OperatingPoint) -> str:
    """A target that was met on the judging breasts is said to be: its numbers are optimistic."""
    if point.criterion == "threshold":
        at = "above every score" if point.threshold is None else f"at threshold {point.threshold:.3g}"
        return at + (f" ({point.basis})" if point.basis else "")
    basis = "; ".join(filter(None, (point.basis, "threshold picked on these test breasts")))
    return f"at {point.criterion} {point.target:.3g} ({basis})"


def lesion_marks(evaluated: EvaluationReport) -> Iterator[str]:
    """How many test images have a mask or a box."""
    for finding, metrics in shown_findings(evaluated):
        boxes = 0 if metrics.boxes is None else metrics.boxes.images
        yield f"{finding.capitalize()}: {metrics.localization_images:,} test images have a mask, {boxes:,} a box and no mask."


def pointing(evaluated: EvaluationReport) -> Iterator[str]:
    """How often the map peaks on a lesion."""
    for finding, metrics in shown_findings(evaluated):
        if metrics.pointing_fraction is not None:
            yield f"{finding.capitalize()}: the peak is on a lesion in {metrics.pointing_fraction:.0%} of images with a mask."


def updates(evaluated: EvaluationReport) -> Iterator[str]:
    """Recalibration of each finding."""
    for finding, metrics in shown_findings(evaluated):
        fit = metrics.recalibration
        if fit is not None and fit.intercept is not None and fit.slope is not None:
            yield (f"{finding.capitalize()}: recalibrated on tuning, intercept {fit.intercept:.3f}, slope {fit.slope:.3f}.")


def group_sizes(evaluated: EvaluationReport, attributes: Sequence[str]) -> Iterator[str]:
    """Numbers of test patients by group, of the first finding that has groups."""
    groups = next((metrics.subgroups for _, metrics in shown_findings(evaluated) if metrics.subgroups), ())
    by_attribute: dict[str, list[str]] = {}
    for group in groups:
        by_attribute.setdefault(group.attribute, []).append(f"{group.group} {group.patients:,}")
    for attribute, names in by_attribute.items():
        if attribute in attributes:
            yield f"Test patients by {attribute}: {', '.join(names)}."
