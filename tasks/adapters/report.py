"""The pages people read: one self-contained HTML file per run, and one per prediction. ``page_templates`` fills the templates.

A page loads nothing: no font, no link to another file, and a Content-Security-Policy that forbids it. The report's one script
stands in it and is named in the policy by its digest. Every value is escaped. Folders outside the workspace are not named: a
source folder's name can identify a patient.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2

from schemas.config import RunConfig
from schemas.exam import FINDINGS, UNKNOWN_LABEL, Finding, Split
from schemas.reports import ExplainedImage, ImageScore, PipelineReport, PredictReport
from tasks.adapters.evaluation_charts import calibration_chart, slider
from tasks.adapters.page_templates import LATERALITY, render_template, script_digest, script_text
from tasks.adapters.report_charts import (
    Chart,
    FindingScores,
    Whisker,
    loss_chart,
    pr_chart,
    roc_chart,
    tuning_chart,
    whisker,
)
from tasks.adapters.workspace import write_atomically

logger = logging.getLogger(__name__)

PANEL_WIDTH_PX = 1600
PANEL_JPEG_QUALITY = 82
PAGE_IMAGES_BYTES = 10_000_000
"""Bytes of JPEG embedded in one page; base64 adds a third, so a page stays below 15 MB."""
SCRIPT = "operating_point.js"
FEW_BREASTS = 30
"""Below this many positive breasts the page warns that intervals are wide."""
PAGE_FINDINGS = (Finding.MALIGNANT, Finding.BENIGN)
"""The order on the page: what matters most comes first."""

_LABEL = {0: "absent", 1: "present", UNKNOWN_LABEL: "not known"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel as the page shows it.

    Attributes:
        data_uri: The embedded image; None = not embedded, ``note`` says why.
        scores: (finding, score, label in words or None).
    """

    exam_id: str
    title: str
    alt: str
    data_uri: str | None
    width_px: int
    height_px: int
    note: str
    scores: tuple[tuple[str, float | None, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStep:
    """One box of the cohort flow: how many went on, and the sentences on who did not."""

    title: str
    count: int
    unit: str
    left_out: tuple[str, ...]


def render_report(
    report: PipelineReport,
    *,
    config: RunConfig,
    scores: Sequence[FindingScores],
    output_path: Path,
    created: datetime,
) -> Path:
    """Writes the report of a whole run as one HTML file that opens from disk.

    Args:
        report: What the stages reported.
        config: The run's config, shown at the end.
        scores: Breast-level test scores and labels of each finding, for the curves.
        output_path: Where the page goes; replaced atomically.
        created: When the page was made.

    Returns:
        ``output_path``.

    Raises:
        OSError: The page cannot be written.
    """
    ordered = sorted(scores, key=lambda scored: PAGE_FINDINGS.index(scored.finding))
    epochs = report.train.epochs
    page = render_template(
        "report.html.jinja",
        report=report,
        config=config,
        created=created,
        findings=_page_findings(report.evaluation.by_finding),
        whiskers=_whiskers(report),
        cautions=_cautions(report, config),
        flow=_cohort_flow(report),
        splits=[(split, report.split.counts.get(split)) for split in Split],
        failed_checks=[*report.validation.blocking, *report.validation.warnings],
        met_checks=[check for check in report.validation.checks if check.is_met],
        training_charts=(loss_chart(epochs, report.train.best_epoch), tuning_chart(epochs, report.train.best_epoch)),
        test_charts=(roc_chart(ordered), pr_chart(ordered)) if ordered else (),
        sliders=[drawn for drawn in map(slider, ordered) if drawn is not None],
        calibration_charts=_calibration_charts(report),
        script=script_text(SCRIPT),
        script_digest=script_digest(SCRIPT),
        panels=_explained_panels(report.explanation.images),
        config_json=_shown_config(config),
    )
    write_atomically(output_path, page.encode("utf-8"))
    logger.info("report written: %d bytes", len(page))
    return output_path


def render_prediction(
    report: PredictReport, *, config: RunConfig, checkpoint_note: str, output_path: Path, created: datetime
) -> Path:
    """Writes the page of one prediction: scores per breast, what is missing, panels.

    Args:
        report: What was scored.
        config: The run's config.
        checkpoint_note: A sentence on the weights: which ones, trained on what, or that they are untrained.
        output_path: Where the page goes; replaced atomically.
        created: When the page was made.

    Raises:
        OSError: The page cannot be written.
    """
    breasts = []
    for key, scores in report.breast_scores.items():
        exam_id, _, laterality = key.rpartition(" ")
        breasts.append((exam_id, LATERALITY.get(laterality, laterality), scores))
    page = render_template(
        "prediction.html.jinja",
        report=report,
        config=config,
        created=created,
        checkpoint_note=checkpoint_note,
        findings=_page_findings({finding: None for _, _, scores in breasts for finding in scores}),
        breasts=breasts,
        panels=_predicted_panels(report),
        config_json=_shown_config(config),
    )
    write_atomically(output_path, page.encode("utf-8"))
    return output_path


def _page_findings(found: Iterable[str]) -> list[str]:
    names = set(found)
    return [*(finding for finding in PAGE_FINDINGS if finding in names), *sorted(names - set(FINDINGS))]


def _whiskers(report: PipelineReport) -> dict[str, dict[str, Whisker | None]]:
    return {
        finding: {
            "auroc": whisker(metrics.auroc, 0.5),
            "auprc": whisker(metrics.auprc, metrics.positive_breasts / max(1, metrics.breasts)),
        }
        for finding, metrics in report.evaluation.by_finding.items()
    }


def _calibration_charts(report: PipelineReport) -> list[Chart]:
    by_finding = report.evaluation.by_finding
    drawn = [calibration_chart(finding, by_finding[finding]) for finding in _page_findings(by_finding)]
    return [chart for chart in drawn if chart is not None]


def _cautions(report: PipelineReport, config: RunConfig) -> list[str]:
    """Sentences that a reader must have seen before quoting a number."""
    cautions = []
    if config.phantom is not None:
        cautions.append(
            "The exams are synthetic (phantom): these numbers say whether the software works, nothing about patients."
        )
    if report.validation.blocking:
        cautions.append(f"{len(report.validation.blocking)} blocking data checks failed: see data checks.")
    trained, evaluated = report.train.provenance, report.evaluation.provenance
    for what, first, second in (
        ("data", trained.data_version, evaluated.data_version),
        ("code", trained.code_version, evaluated.code_version),
        ("preprocessing", trained.preprocess_version, evaluated.preprocess_version),
    ):
        if first != second:
            cautions.append(f"Training and evaluation used different {what} versions: see provenance.")
    for finding in _page_findings(report.evaluation.by_finding):
        positives = report.evaluation.by_finding[finding].positive_breasts
        if positives == 0:
            cautions.append(f"No test breast has a {finding} finding: its metrics are not defined.")
        elif positives < FEW_BREASTS:
            cautions.append(
                f"Only {positives} test {'breast has' if positives == 1 else 'breasts have'} a {finding} finding: "
                "small differences between runs mean little."
            )
    return cautions


def _cohort_flow(report: PipelineReport) -> tuple[FlowStep, ...]:
    ingest = report.ingest
    refused = ingest.files_found - ingest.images_published
    reasons = sorted(ingest.quarantined_by_reason.items(), key=lambda item: (-item[1], item[0]))
    divided = sum(count.exams for count in report.split.counts.values())
    gate = _told((refused, "not published"), *((count, f"× {reason}") for reason, count in reasons))
    if sum(ingest.quarantined_by_reason.values()) > refused > 0:
        gate = (*gate, "a file can have several reasons")
    warned = _told(*((count, f"× warning {rule}, kept") for rule, count in sorted(ingest.warnings_by_rule.items())))
    incomplete = _told((ingest.exams_incomplete, "without all four standard views, kept"))
    unlabelled = _told(
        (ingest.unlabelled_breasts, "breasts without a label"), (ingest.orphan_labels, "label rows that join to no exam")
    )
    undivided = _told((ingest.exams - divided, "exams in no split"))
    return (
        FlowStep(title="Files found", count=ingest.files_found, unit="files", left_out=()),
        FlowStep(
            title="Published to the store",
            count=ingest.images_published,
            unit="images",
            left_out=(*(gate or ("no file refused",)), *warned),
        ),
        FlowStep(
            title="Grouped into exams",
            count=ingest.exams,
            unit="exams",
            left_out=incomplete or ("all with four standard views",),
        ),
        FlowStep(
            title="Joined to labels",
            count=ingest.labelled_breasts,
            unit="breasts",
            left_out=unlabelled or ("every breast has a label, every label an exam",),
        ),
        FlowStep(title="Divided by patient", count=divided, unit="exams", left_out=undivided or ("every exam is in a split",)),
    )


def _told(*counted: tuple[int, str]) -> tuple[str, ...]:
    """A sentence for each count that is not zero."""
    return tuple(f"{count:,} {what}" for count, what in counted if count > 0)


def _explained_panels(images: Sequence[ExplainedImage]) -> list[Panel]:
    budget = _ImageBudget()
    return [
        budget.panel(
            image.panel_path,
            exam_id=image.exam_id,
            title=f"{LATERALITY.get(image.laterality, image.laterality)} {image.view_position}",
            scores=tuple(
                (finding, image.scores.get(finding), _LABEL.get(image.labels.get(finding, UNKNOWN_LABEL), "not known"))
                for finding in _page_findings({*image.scores, *image.labels})
            ),
        )
        for image in images
    ]


def _predicted_panels(report: PredictReport) -> list[Panel]:
    budget = _ImageBudget()
    panels = []
    for path in report.panels:
        image = _panel_owner(path, report.images)
        if image is None:
            panels.append(budget.panel(path, exam_id="", title=path.stem, scores=()))
            continue
        panels.append(
            budget.panel(
                path,
                exam_id=image.exam_id,
                title=f"{LATERALITY.get(image.laterality, image.laterality)} {image.view_position}",
                scores=tuple((finding, image.scores[finding], None) for finding in _page_findings(image.scores)),
            )
        )
    return panels


def _panel_owner(path: Path, images: Iterable[ImageScore]) -> ImageScore | None:
    """The image whose pseudonym the panel's file name holds."""
    return next((image for image in images if image.image_id in path.stem), None)


@dataclass(slots=True)
class _ImageBudget:
    """Embeds panels until the page is full."""

    used_bytes: int = 0

    def panel(self, path: Path, *, exam_id: str, title: str, scores: tuple[tuple[str, float | None, str | None], ...]) -> Panel:
        jpeg, width_px, height_px = _jpeg(path)
        note = "" if jpeg else "The panel's file cannot be read."
        if jpeg and self.used_bytes + len(jpeg) > PAGE_IMAGES_BYTES:
            jpeg, note = b"", f"Not embedded, to keep this page small: see {path.name} in the explain folder."
        self.used_bytes += len(jpeg)
        said = ", ".join(f"{finding} score {score:.2f}" for finding, score, _ in scores if score is not None)
        return Panel(
            exam_id=exam_id,
            title=title,
            alt=f"{title}: input, saliency maps, patch map and patches" + (f"; {said}" if said else ""),
            data_uri=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}" if jpeg else None,
            width_px=width_px,
            height_px=height_px,
            note=note,
            scores=scores,
        )


def _jpeg(path: Path) -> tuple[bytes, int, int]:
    """The image as JPEG of at most ``PANEL_WIDTH_PX``, its width and height; no bytes if it cannot be read."""
    image_HW3 = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if image_HW3 is None:
        return b"", 0, 0
    rows, columns = image_HW3.shape[:2]
    if columns > PANEL_WIDTH_PX:
        rows, columns = max(1, round(rows * PANEL_WIDTH_PX / columns)), PANEL_WIDTH_PX
        image_HW3 = cv2.resize(image_HW3, (columns, rows), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image_HW3, [cv2.IMWRITE_JPEG_QUALITY, PANEL_JPEG_QUALITY])
    return encoded.tobytes(), columns, rows


def _shown_config(config: RunConfig) -> str:
    """The config as JSON with folders relative to the workspace; others are not named."""
    return json.dumps(_shown(config.model_dump(mode="python"), config.workspace_dir), indent=2, ensure_ascii=False, default=str)


def _shown(value: Any, workspace_dir: Path) -> Any:
    if isinstance(value, dict):
        return {key: _shown(item, workspace_dir) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, workspace_dir) for item in value]
    if isinstance(value, Path):
        is_inside = value.is_relative_to(workspace_dir)
        return str(Path("<workspace>") / value.relative_to(workspace_dir)) if is_inside else "<outside the workspace>"
    return value
