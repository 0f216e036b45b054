"""The pages: complete in themselves, escaped, honest about what is not defined, with every section."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from gmic_model.metrics.curve_bands import CurveBand
from gmic_model.metrics.ranking import auprc, auroc, bootstrap_interval
from mammo_tests.measures import every_measure, measured_titles, reviewed_measures
from schemas.config.evaluation import EvaluateConfig
from schemas.config.ingest import IngestConfig, PhantomConfig, PreprocessConfig
from schemas.config.network import ResNet22Config
from schemas.config.run import RunConfig
from schemas.config.training import TrainConfig
from schemas.exam import FINDINGS, Finding
from schemas.reports.data import CheckResult, IngestReport, SeenBreasts, SplitCount, SplitReport, ValidationReport
from schemas.reports.evaluation import EvaluationReport, FindingMetrics, JudgedPatients, LockedSettings
from schemas.reports.pages import ExplainedImage, ExplainReport, Failure, FailureKind, ImageScore, PipelineReport, PredictReport
from schemas.reports.report import Interval, Provenance
from schemas.reports.training import EnsembleMember, EpochRecord, StartedPart, StartedWeights, TrainReport
from tasks.adapters.pages.charts.curves import FindingScores, pr_chart, roc_chart
from tasks.adapters.pages.panels import PANEL_WIDTH_PX
from tasks.adapters.pages.report_page import render_prediction, render_report
from tasks.adapters.scoring.metrics_table import INTERVAL_METHOD
from tasks.adapters.scoring.screening import with_screening_metrics

CREATED = datetime(2026, 3, 4, 15, 6, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&"


class _Page(HTMLParser):
    """What a browser would act on: tags, attributes, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _scores(finding: Finding, breasts: int = 120, prevalence: float = 0.15, strength: float = 1.7) -> FindingScores:
    rng = np.random.default_rng(3 + FINDINGS.index(finding))
    label_B = (rng.random(breasts) < prevalence).astype(np.int64)
    return FindingScores(finding=finding, score_B=1 / (1 + np.exp(2 - rng.normal(label_B * strength))), label_B=label_B)


def _finding_metrics(scores: FindingScores, **changes: Any) -> FindingMetrics:
    score_B, label_B = (np.asarray(values) for values in (scores.score_B, scores.label_B))
    return _measured(scores.finding, tuple(score_B.tolist()), tuple(label_B.tolist())).model_copy(update=changes)


@cache
def _measured(finding: Finding, score_of_breast: tuple[float, ...], label_of_breast: tuple[int, ...]) -> FindingMetrics:
    """Drawn once for the same scores: nearly every test starts from these."""
    scores = FindingScores(finding=finding, score_B=np.array(score_of_breast), label_B=np.array(label_of_breast))
    score_B, label_B = np.asarray(scores.score_B), np.asarray(scores.label_B)
    patient_B = np.arange(len(label_B)) // 2
    drawn = {"resamples": 50, "confidence": 0.95, "seed": 0}
    values: dict[str, Any] = {
        "breasts": len(label_B),
        "positive_breasts": int(label_B.sum()),
        "auroc": bootstrap_interval("auroc", score_B, label_B, patient_B, **drawn),  # type: ignore[arg-type]
        "auprc": bootstrap_interval("auprc", score_B, label_B, patient_B, **drawn),  # type: ignore[arg-type]
        "localization_images": 34,
        "localization_f1": 0.207,
        "localization_precision": 0.288,
        "localization_recall": 0.254,
        "pointing_fraction": 0.71,
        "lesions": 38,
        "lesions_reached": 29,
    }
    return _screened(FindingMetrics(**values), scores)


def _screened(metrics: FindingMetrics, scores: FindingScores) -> FindingMetrics:
    """With operating points, calibration and groups, as the evaluation adds them."""
    label_B = np.asarray(scores.label_B)
    breasts = pd.DataFrame(
        {
            "patient_id": [f"P{breast // 2}" for breast in range(len(label_B))],
            "exam_id": [f"E{breast // 2}" for breast in range(len(label_B))],
            "laterality": ["L" if breast % 2 else "R" for breast in range(len(label_B))],
            "score": np.asarray(scores.score_B),
            "label": label_B,
        }
    )
    images = breasts.assign(
        manufacturer=["Small" if breast < 9 else "HOLOGIC" for breast in range(len(label_B))],
        acquisition="ffdm",
        patient_age_years=[40.0 + breast % 31 for breast in range(len(label_B))],
    )
    config = EvaluateConfig(bootstrap_resamples=40)
    return with_screening_metrics(metrics, breasts, breasts, images, config)


def _panel(path: Path, columns: int = 1750) -> Path:
    """A drawing with the proportions of Figure 4: four views and six patches in a row."""
    image_HW3 = np.zeros((columns // 7, columns, 3), dtype=np.uint8)
    for index in range(4):
        left = index * columns // 7
        cv2.ellipse(image_HW3, (left, columns // 14), (columns // 9, columns // 16), 0, -90, 90, (90, 90, 90), -1)
        cv2.circle(image_HW3, (left + columns // 18, columns // 14), columns // 90, (200, 200, 200), -1)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image_HW3)
    return path


def _provenance(**changes: Any) -> Provenance:
    values: dict[str, Any] = {
        "code_version": "0.1.0+g3705e30",
        "config_sha256": "5d" * 32,
        "data_version": "a1b2c3d4" * 8,
        "preprocess_version": "robust-1",
        "seed": 7,
        "created_utc": "2026-03-04T15:02:11Z",
    }
    return Provenance(**(values | changes))


def _explanation(folder: Path) -> ExplainReport:
    images = [
        ExplainedImage(
            image_id=f"I{exam}{side}{view}",
            exam_id=f"E{exam:024x}",
            laterality=side,
            view_position=view,
            panel_path=_panel(folder / f"I{exam}{side}{view}.png"),
            saliency_path=folder / f"I{exam}{side}{view}.npz",
            scores={"benign": 0.12 + 0.1 * exam, "malignant": 0.81 if side == "L" else 0.07},
            labels={"benign": 0, "malignant": 1 if side == "L" else 255},
        )
        for exam in (1, 2, 3)
        for side, view in (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
    ]
    failed = Failure(
        finding="malignant", kind=FailureKind.FALSE_NEGATIVE, exam_id=f"E{3:024x}", laterality="R", score=0.07, threshold=0.4
    )
    return ExplainReport(
        output_dir=folder, images=tuple(images), failures=(failed,), gallery_path=folder / "gallery" / "index.html"
    )


def _epochs() -> tuple[EpochRecord, ...]:
    return tuple(
        EpochRecord(
            epoch=epoch,
            train_loss=1.9 * 0.86**epoch + 0.35,
            tuning_malignant_auroc=0.52 + 0.38 * (1 - 0.8**epoch) - (0.02 if epoch % 4 == 0 else 0.0),
            tuning_benign_auroc=None if epoch == 5 else 0.50 + 0.25 * (1 - 0.85**epoch),
            images_per_s=24.6,
            is_best=epoch == 11,
        )
        for epoch in range(1, 13)
    )


def _checks(count: int = 14) -> tuple[CheckResult, ...]:
    met = [
        CheckResult(
            suite="manifest", check="values are in the allowed set", column=f"column_{index}", severity="critical",
            is_met=True, unexpected_count=0, unexpected_percent=0.0,
        )
        for index in range(count)
    ]  # fmt: skip
    failed = CheckResult(
        suite="manifest", check="values lie between 0.03 and 0.5", column="pixel_spacing_mm", severity="warning",
        is_met=False, unexpected_count=12, unexpected_percent=2.5,
    )  # fmt: skip
    return (*met[:5], failed, *met[5:])


def make_report(folder: Path, **changes: Any) -> PipelineReport:
    """A run as the pipeline reports it; ``changes`` replace stages."""
    values: dict[str, Any] = {
        "ingest": IngestReport(
            store_dir=folder / "store", data_version="a1b2c3d4" * 8, files_found=1498, images_published=1480, images_new=1480,
            exams=372, exams_incomplete=5, quarantined_by_reason={"pixels-truncated": 3, "not-dicom": 11, "view-unknown": 4},
            warnings_by_rule={"spacing-missing": 12}, labelled_breasts=738, orphan_labels=2, unlabelled_breasts=6,
        ),
        "validation": ValidationReport(
            data_version="a1b2c3d4" * 8, images=1480, checks=_checks(), page_path=folder / "checks.html"
        ),
        "split": SplitReport(
            splits_path=folder / "splits.parquet",
            data_version="a1b2c3d4" * 8,
            counts={
                "train": SplitCount(patients=150, exams=226, images=900, benign_breasts=61, malignant_breasts=48),
                "tuning": SplitCount(patients=37, exams=58, images=231, benign_breasts=14, malignant_breasts=11),
                "test": SplitCount(patients=62, exams=88, images=349, benign_breasts=22, malignant_breasts=19),
            },
        ),
        "train": TrainReport(
            checkpoint_path=folder / "best.safetensors", checkpoint_sha256="9f" * 32, run_dir=folder / "train",
            epochs=_epochs(), best_epoch=11, train_exams=226, provenance=_provenance(),
        ),
        "evaluation": EvaluationReport(
            scores_path=folder / "scores.parquet",
            by_finding={
                "benign": _finding_metrics(_scores(Finding.BENIGN), localization_f1=0.133),
                "malignant": _finding_metrics(_scores(Finding.MALIGNANT)),
            },
            exams=88, images=349, provenance=_provenance(seed=8),
        ),
        "explanation": _explanation(folder / "explain"),
        "report_path": folder / "report.html",
    }  # fmt: skip
    return PipelineReport(**(values | changes))


def make_clean_ingest(report: PipelineReport) -> IngestReport:
    """Nothing refused, nothing missing."""
    nothing = {"exams_incomplete": 0, "quarantined_by_reason": {}, "warnings_by_rule": {}, "orphan_labels": 0}
    return report.ingest.model_copy(update=nothing | {"files_found": 1480, "unlabelled_breasts": 0})


def make_config(folder: Path, **changes: Any) -> RunConfig:
    """A run over a phantom cohort."""
    return RunConfig(
        **{
            "name": "demo-cohort",
            "workspace_dir": folder,
            "phantom": PhantomConfig(output_dir=folder / "phantom"),
            "ingest": IngestConfig(source_dir=folder / "phantom", labels_csv=Path("/data/Smith_Jane/labels.csv")),
        }
        | changes
    )


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of ``make_report`` and ``make_config`` as they are: rendered once."""
    folder = tmp_path_factory.mktemp("plain")
    path = render_report(
        make_report(folder),
        config=make_config(folder),
        scores=[_scores(finding) for finding in FINDINGS],
        output_path=folder / "report.html",
        created=CREATED,
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture
def render(tmp_path: Path, plain_page: str) -> Callable[..., str]:
    """Renders and gives the page's text; without any change, that of the plain page. ``config={}`` renders in any case."""

    def page(*, scores: list[FindingScores] | None = None, config: dict[str, Any] | None = None, **changes: Any) -> str:
        if scores is None and config is None and not changes:
            (tmp_path / "report.html").write_text(plain_page, encoding="utf-8")
            return plain_page
        path = render_report(
            make_report(tmp_path, **changes),
            config=make_config(tmp_path, **(config or {})),
            scores=[_scores(finding) for finding in FINDINGS] if scores is None else scores,
            output_path=tmp_path / "report.html",
            created=CREATED,
        )
        return path.read_text(encoding="utf-8")

    return page


def make_prediction(folder: Path, **changes: Any) -> PredictReport:
    """One exam with two of four views, and a refused file."""
    images = [
        ImageScore(
            image_id=f"I{view}", exam_id="E1", laterality="L", view_position=view,
            scores={"benign": 0.2, "malignant": 0.7 if view == "CC" else 0.6},
            gate_warnings="spacing-missing" if view == "CC" else "",
        )
        for view in ("CC", "MLO")
    ]  # fmt: skip
    values: dict[str, Any] = {
        "images": tuple(images),
        "breast_scores": {"E1 L": {"benign": 0.2, "malignant": 0.65}},
        "missing": ("Exam E1 lacks R-CC and R-MLO: the right breast has no score.",),
        "quarantined_by_reason": {"not-dicom": 1},
        "advice": "Files are Secondary Capture: use the cbis-ddsm profile.",
        "panels": tuple(_panel(folder / "panels" / f"I{view}.png") for view in ("CC", "MLO")),
        "scores_path": folder / "scores.parquet",
    }
    return PredictReport(**(values | changes))


def _prediction_page(folder: Path, **changes: Any) -> str:
    path = render_prediction(
        make_prediction(folder, **changes), config=make_config(folder), checkpoint_note="Untrained network.",
        output_path=folder / "prediction.html", created=CREATED,
    )  # fmt: skip
    return path.read_text(encoding="utf-8")


def _assert_is_self_contained(page: str) -> None:
    parsed = _Page(page)
    (policy,) = [meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = [f" script-src 'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}';" for one in scripts]
    sources = f"default-src 'none'; img-src data:; style-src 'unsafe-inline';{''.join(digests)}"
    assert policy == f"{sources} base-uri 'none'; form-action 'none'"
    assert len(scripts) == len(parsed.all("script")) <= 1
    for tag, attributes in parsed.tags:
        assert tag not in {"iframe", "object", "embed", "form", "base"}
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"):
            value = attributes.get(name)
            is_exam_page = (
                tag == "a" and name == "href" and re.fullmatch(r"explain/gallery/[\w%]+\.html|reporting.html", value or "")
            )
            assert value is None or is_exam_page or value.startswith(("#", "data:")), f"<{tag} {name}={value[:60]!r}>"
        assert not [name for name in attributes if name.startswith("on")]
    # The one address is a name: the namespace in which the script makes an SVG element.
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", page.replace("http://www.w3.org/2000/svg", ""))
    assert "@import" not in page and "url(" not in page


def test_report_loads_nothing(render: Callable[..., str]) -> None:
    """No link leaves the page; the policy lets its own script run, by digest, and nothing else."""
    _assert_is_self_contained(render())


def test_prediction_loads_nothing(tmp_path: Path) -> None:
    """The same law for the small page."""
    _assert_is_self_contained(_prediction_page(tmp_path))


def test_an_exam_has_one_place_among_the_predicted(tmp_path: Path) -> None:
    """With both of its breasts, also where another exam came between them: a link to a study leads there."""
    scores = {breast: {"benign": 0.2, "malignant": 0.5} for breast in ("E1 L", "E2 R", "E1 R")}
    page = _prediction_page(tmp_path, breast_scores=scores)
    places = re.findall(r'<tbody id="(\w+)">(.*?)</tbody>', page, flags=re.DOTALL)
    assert [(exam_id, re.findall("Left|Right", rows)) for exam_id, rows in places] == [
        ("E1", ["Left", "Right"]),
        ("E2", ["Right"]),
    ]
    assert page.count('id="E1"') == 1 and "tbody:target" in page


def test_the_report_leads_to_the_page_of_reporting_guidelines(render: Callable[..., str], tmp_path: Path) -> None:
    """From the contents and the model card, where there is one: a former release's report has none."""
    assert render(reporting_path=tmp_path / "reporting.html").count('<a href="reporting.html">') == 2
    assert "reporting.html" not in render()


def test_every_section_is_there_and_linked(render: Callable[..., str]) -> None:
    """Each entry of the contents leads to a section with a heading of its own."""
    page = _Page(render())
    sections = [section["id"] for section in page.all("section")]
    assert sections == [
        "summary", "cohort", "checks", "training", "performance", "operating", "original-read", "calibration", "programme",
        "restated", "decision", "subgroups", "localisation", "measures", "failures", "gallery", "provenance", "card", "config",
    ]  # fmt: skip
    links = [link["href"] for link in page.all("a")]
    assert links[: 1 + len(sections)] == ["#content", *(f"#{section}" for section in sections)]
    assert [section["aria-labelledby"] for section in page.all("section")] == [f"{section}-title" for section in sections]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("nav")) == 1


def test_every_reference_between_elements_holds(render: Callable[..., str], tmp_path: Path) -> None:
    """Ids are unique and every aria-labelledby names one: a screen reader finds each chart's title and description."""
    for text in (render(), _prediction_page(tmp_path)):
        page = _Page(text)
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = [name for _, attributes in page.tags for name in (attributes.get("aria-labelledby") or "").split()]
        assert set(named) <= set(ids)


def test_tables_and_images_say_what_they_are(render: Callable[..., str]) -> None:
    """Each table has a caption, each header cell a scope, each picture a text."""
    page = _Page(render())
    assert len(page.all("caption")) == len(page.all("table")) >= 6
    assert all(header.get("scope") in {"col", "row", "rowgroup"} for header in page.all("th"))
    assert len(page.all("img")) == 8 + 2  # two example exams; the missed breast's two views
    assert all(image.get("alt") for image in page.all("img"))
    charts = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(charts) == len(page.all("desc")) == 7
    assert all(svg.get("role") == "img" or svg.get("aria-hidden") == "true" for svg in page.all("svg"))


def test_numbers_on_the_page_are_those_of_the_report(render: Callable[..., str]) -> None:
    """AUROC with its interval, the cohort's counts, the operating points' definition and the version."""
    text = re.sub(r"\s+", " ", _Page(render()).text)
    scores = _scores(Finding.MALIGNANT)
    metrics = _finding_metrics(scores)
    assert f"{auroc(scores.score_B, scores.label_B):.3f}" in text
    assert f"{auprc(scores.score_B, scores.label_B):.3f}" in text
    assert f"95% interval {metrics.auroc.low:.3f}–{metrics.auroc.high:.3f}" in text
    for part in ("1,498", "18 not published", "11 × not-dicom", "2 label rows that join to no exam", "0.1.0+g3705e30"):
        assert part in text
    assert "Research use only. Not a medical device." in text
    assert "demo-cohort" in text and "2026-03-04 15:06 UTC" in text
    assert "29 of 38" in text and "71%" in text


def test_what_a_clinic_asks_has_its_sections(render: Callable[..., str], tmp_path: Path) -> None:
    """A programme's counts and rates, each stated share, each point of a decision curve; without them the page says why."""
    evaluation = make_report(tmp_path).evaluation
    metrics = every_measure()
    page = _Page(render(evaluation=evaluation.model_copy(update={"by_finding": {"malignant": metrics}}))).text
    assert metrics.programme is not None
    for told in (
        "Of the cancers 506 screen-detected, 507 interval cancers, 508 of exams without a recorded read",
        "501",
        "505",
    ):
        assert told in page
    for told in ("1.23%", "61.1%", "61.20%", "61.30%", "61.4", "61.5", "-6.16", "17.10", "-17.20", "17.3%", "3.21%"):
        assert told in page
    assert "recall all; recall none is 0" in page and "Net benefit, malignant, 3.21% with the finding" in page
    bare = metrics.model_copy(update={"programme": None, "restated": (), "decision_curves": ()})
    page = _Page(render(evaluation=evaluation.model_copy(update={"by_finding": {"malignant": bare}}))).text
    assert "no date of diagnosis is recorded" in page and "the config states no share" in page
    assert "no recalibration makes risks" in page


def test_every_measured_field_is_on_the_page(render: Callable[..., str], tmp_path: Path) -> None:
    """A number that is computed and shown nowhere is a number that nobody can doubt: each has its row."""
    evaluation = make_report(tmp_path).evaluation
    page = render(evaluation=evaluation.model_copy(update={"by_finding": {"malignant": every_measure()}}))
    titles = set(measured_titles())
    assert len(titles) > 30 and {title for title in titles if f'<th scope="row">{html.escape(title)}</th>' not in page} == set()


def test_the_original_read_lesions_and_groups_stand_on_the_page(render: Callable[..., str], tmp_path: Path) -> None:
    """Both rates beside the read's with what the margin says, the free-response curve with its numbers, Holm's p-values."""
    evaluation = make_report(tmp_path).evaluation
    page = render(evaluation=evaluation.model_copy(update={"by_finding": {"malignant": every_measure()}}))
    text = re.sub(r"\s+", " ", _Page(page).text)
    for part in (
        "3,001 breasts: 302 with the finding, 305 recalled; 1,503 patients, 254 with the finding", "85.6% 84.6–86.6",
            "+1.3 +0.3 to +2.3 not inferior", "-11.4 -12.4 to -10.4 inferior",
        "Margin: 5 percentage points", "11 breasts without a read, 12 of BI-RADS 0 or 6, 13 whose label",
        "21 lesions joined over views", "4.61 an image", "0.710 0.700–0.720",
        "2 comparisons, 1 with p after Holm below 0.05", "-0.043 -0.053 to -0.0330.01230.0246",
        "0.076 by chance 0.057", "8% by chance 5.8%",
    ):  # fmt: skip
        assert part in text, part
    (drawn,) = [svg for svg in _Page(page).all("svg") if svg.get("data-chart") == "froc-malignant"]
    told = json.loads(html.unescape(drawn["data-readings"] or ""))
    assert len(told) == 2 and told[0]["points"][3][2].startswith("each image by itself: 0.42 (0.41–0.43) of lesions at 1 false")
    first = every_measure()
    read, tiny = first.original_read, first.group_differences[0].model_copy(update={"p_value": 1e-6, "p_adjusted": 0.04998})
    assert read is not None
    near = Interval(value=-0.01, low=-0.0498, high=0.0002)
    point = read.levels[0].points[0].model_copy(update={"sensitivity_difference": near, "sensitivity_decision": "not inferior"})
    read = read.model_copy(update={"levels": (read.levels[0].model_copy(update={"points": (point,)}),)})
    close = first.model_copy(update={"original_read": read, "group_differences": (tiny,)})
    page = render(evaluation=evaluation.model_copy(update={"by_finding": {"malignant": close}}))
    text = re.sub(r"\s+", " ", _Page(page).text)
    assert "-1.0 -4.98 to +0.02 not inferior" in text and "< 0.00010.04998" in text
    bare = re.sub(r"\s+", " ", _Page(render()).text)
    assert "Not compared: no BI-RADS category is recorded" in bare and "no lesion of the test split is marked" in bare


def test_the_model_card_says_how_often_exams_without_a_finding_are_drawn(render: Callable[..., str]) -> None:
    """As the config has it: as often as those with one, or three for each."""
    three = {"train": TrainConfig(negatives_per_positive=3.0)}
    assert "For each exam with a finding 3 without are drawn, so scores run higher" in render(config=three)
    assert "Exams without a finding are drawn as often as those with one, so scores run higher" in render()


def test_slider_holds_every_threshold_with_its_counts(render: Callable[..., str]) -> None:
    """From recalling nothing to recalling everything; the first shown keeps specificity 0.90; hidden until the script runs."""
    page = render()
    panels = [div for div in _Page(page).all("div") if "data-points" in div]
    assert [panel["data-finding"] for panel in panels] == ["malignant", "benign"]
    assert all("hidden" in panel for panel in panels)
    scores = _scores(Finding.MALIGNANT)
    score_B, label_B = np.asarray(scores.score_B), np.asarray(scores.label_B)
    points = json.loads(html.unescape(panels[0]["data-points"] or ""))
    assert points["threshold"][0] is None and (points["true"][0], points["false"][0]) == (0, 0)
    assert (points["true"][-1], points["false"][-1]) == (points["positives"], points["negatives"])
    for index in (1, 40, 100):
        is_recalled_B = score_B >= points["threshold"][index] - 1e-6
        assert points["true"][index] == (is_recalled_B & (label_B == 1)).sum()
        assert points["false"][index] == (is_recalled_B & (label_B == 0)).sum()
    (slider,) = [one for one in _Page(page).all("input") if one["id"] == "slider-malignant"]
    start = int(slider["value"] or -1)
    negatives = points["negatives"]
    assert points["false"][start] <= 0.1 * negatives < points["false"][start + 1]


def test_groups_show_counts_and_why_there_is_no_more(render: Callable[..., str]) -> None:
    """Nine breasts of one vendor get counts and the reason; what the store does not record is named."""
    text = re.sub(r"\s+", " ", _Page(render()).text)
    assert "10 of each needed" in text and "HOLOGIC" in text
    assert "Not recorded in this store: device model, density, label source, finding type." in text
    assert "1 image" in text and "60 to 69" in text


def test_failures_lead_to_their_exam_pages(render: Callable[..., str]) -> None:
    """The missed breast is shown with both views and a link to its page; the gallery's list is linked too."""
    page = render()
    section = page[page.index('id="failures"') : page.index('id="gallery"')]
    assert "Malignant: false negatives" in section and "score 0.070 below the threshold 0.400" in section
    assert section.count("<img ") == 2 and f'href="explain/gallery/E{3:024x}.html"' in section
    assert 'href="explain/gallery/index.html"' in section
    assert f"E{3:024x}" not in page[page.index('id="gallery"') : page.index('id="provenance"')]


def test_cohort_flow_is_drawn_from_files_to_splits(render: Callable[..., str]) -> None:
    """Found, gated, validated, divided: each box has its count, each arrow to the side a reason."""
    page = render()
    figure = page[page.index('class="flow-figure"') : page.index("The same as a list")]
    words = re.findall(r"<text[^>]*>([^<]*)</text>", figure)
    for text in (
        "1,498 files",
        "1,480 images",
        "11 × not-dicom",
        "Passed the data checks",
        "1 checks warned, images kept",
        "62 patients",
    ):
        assert text in words, words
    assert figure.count('class="flow-box"') == 6 + 3


def test_bands_lie_around_the_curves() -> None:
    """The band's outline runs along its upper end and back along the lower one, in the chart's units."""
    zero_to_one = np.array([0.0, 1.0])
    band = CurveBand(at_G=zero_to_one, value_G=zero_to_one, low_G=np.array([0.0, 0.5]), high_G=np.array([0.5, 1.0]))
    scored = _scores(Finding.MALIGNANT)
    chart = roc_chart([replace(scored, roc_band=band)])
    left, right, top, bottom = chart.left, chart.right, chart.top, chart.bottom
    middle = (top + bottom) / 2
    assert chart.bands == ((f"{left:g},{middle:g} {right:g},{top:g} {right:g},{middle:g} {left:g},{bottom:g}", "malignant"),)
    assert "sensitivity 1.00 (0.50–1.00) at specificity 0.00" in chart.readings_json
    assert roc_chart([scored]).bands == () and pr_chart([scored]).bands == ()


# ------------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def opened(render: Callable[..., str], tmp_path: Path, open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Renders the report and opens it."""

    def open_it(**context: Any) -> Any:
        render()
        return open_page(tmp_path / "report.html", **context)

    return open_it


def test_slider_moves_the_confusion_matrix(opened: Callable[..., Any]) -> None:
    """At the left end nothing is recalled, at the right end everything; each step right recalls more; the four rates follow."""
    page = opened()
    panel = page.locator(".slider[data-finding=malignant]")
    slider = panel.get_by_role("slider")
    points = json.loads(panel.get_attribute("data-points"))

    def shown() -> dict[str, str]:
        names = ("hit", "alarm", "missed", "cleared", "sensitivity", "specificity", "recall", "ppv")
        return {name: panel.locator(f"[data-show={name}]").text_content() for name in names}

    slider.focus()
    page.keyboard.press("Home")
    positives, negatives = points["positives"], points["negatives"]
    assert shown() == {
        "hit": "0", "alarm": "0", "missed": str(positives), "cleared": str(negatives), "sensitivity": "0.0%",
        "specificity": "100.0%", "recall": "0.0%", "ppv": "not defined",
    }  # fmt: skip
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    hit, alarm = points["true"][9], points["false"][9]
    assert shown() == {
        "hit": str(hit), "alarm": str(alarm), "missed": str(positives - hit), "cleared": str(negatives - alarm),
        "sensitivity": f"{100 * hit / positives:.1f}%", "specificity": f"{100 * (negatives - alarm) / negatives:.1f}%",
        "recall": f"{100 * (hit + alarm) / (positives + negatives):.1f}%", "ppv": f"{100 * hit / (hit + alarm):.1f}%",
    }  # fmt: skip
    assert f"threshold {points['threshold'][9]:.3f}" in slider.get_attribute("aria-valuetext")
    page.keyboard.press("End")
    assert (shown()["missed"], shown()["cleared"]) == ("0", "0")


@pytest.mark.parametrize("chart", ["roc", "pr", "calibration-malignant", "loss"])
def test_curves_tell_their_values(opened: Callable[..., Any], chart: str) -> None:
    """Pointed at, or stepped through with the arrow keys, a curve says the value there; the text is one of its own."""
    page = opened()
    svg = page.locator(f"svg[data-chart={chart}]")
    lines = json.loads(svg.get_attribute("data-readings"))
    told = {text for line in lines for _, _, text in line["points"]}
    readout = svg.locator("xpath=../following-sibling::p[1]")
    assert readout.text_content().startswith("Point at a curve")
    svg.scroll_into_view_if_needed()
    box, view = svg.bounding_box(), svg.get_attribute("viewBox").split()
    x, y, _ = lines[0]["points"][len(lines[0]["points"]) // 2]
    scale = box["width"] / float(view[2])
    page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)
    assert readout.text_content() in told
    assert svg.locator(".reading-dot").count() == 1
    svg.locator("xpath=..").focus()
    before = readout.text_content()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert readout.text_content() in told and readout.text_content() != before


def test_report_without_script_still_has_its_tables(opened: Callable[..., Any]) -> None:
    """No slider that does nothing, no empty read-out; curves, operating points and the flow are there."""
    page = opened(java_script_enabled=False)
    assert page.locator(".slider").first.is_hidden() and page.locator(".readout").first.is_hidden()
    assert page.get_by_text("Malignant: operating points").is_visible()
    assert page.locator("svg[data-chart=roc] polyline").count() >= 3 and page.locator(".flow-box").count() == 9


def test_policy_stops_a_script_that_is_not_the_pages_own(opened: Callable[..., Any]) -> None:
    """A script put into the open page does not run, nor does an attribute; a picture from elsewhere is not fetched."""
    page = opened()
    page.evaluate(
        """() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1'; document.body.append(s);
        document.body.insertAdjacentHTML('beforeend', '<img src="data:," onerror="window.bad = 2">'); }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.bad") is None
    assert page.locator(".slider").first.is_visible()  # its own did run


def test_report_and_prediction_are_accessible(
    render: Callable[..., str], tmp_path: Path, accessibility_faults: Callable[[Path], list[str]]
) -> None:
    """axe-core finds nothing serious at 1280 and 1920 pixels, light and dark."""
    evaluation = make_report(tmp_path).evaluation
    by_finding = evaluation.by_finding
    by_finding["malignant"] = by_finding["malignant"].model_copy(update=reviewed_measures())
    render(evaluation=evaluation.model_copy(update={"by_finding": by_finding}))
    _prediction_page(tmp_path)
    assert accessibility_faults(tmp_path / "report.html") == []
    assert accessibility_faults(tmp_path / "prediction.html") == []


def test_hostile_text_stays_text(render: Callable[..., str], tmp_path: Path) -> None:
    """Markup in any value from a file is shown, never run."""
    checks = (
        CheckResult(
            suite=HOSTILE, check=HOSTILE, column=HOSTILE, severity="critical", is_met=False, unexpected_count=1,
            unexpected_percent=1.0, error=HOSTILE,
        ),
    )  # fmt: skip
    ingest = make_report(tmp_path).ingest.model_copy(
        update={"quarantined_by_reason": {HOSTILE: 3}, "warnings_by_rule": {HOSTILE: 1}}
    )
    image = (
        make_report(tmp_path)
        .explanation.images[0]
        .model_copy(update={"exam_id": HOSTILE, "view_position": HOSTILE, "laterality": HOSTILE, "scores": {HOSTILE: 0.5}})
    )
    page = render(
        ingest=ingest,
        validation=ValidationReport(data_version="d", images=1, checks=checks, page_path=Path("checks.html")),
        explanation=ExplainReport(output_dir=tmp_path, images=(image,)),
    )
    prediction = _prediction_page(tmp_path, advice=HOSTILE, missing=(HOSTILE,), breast_scores={f"{HOSTILE} L": {HOSTILE: 0.5}})
    for text in (page, prediction):
        assert "<script>alert" not in text and "<img src=x" not in text
        assert "&lt;script&gt;" in text
        _assert_is_self_contained(text)


def test_folders_outside_the_workspace_are_not_named(render: Callable[..., str], tmp_path: Path) -> None:
    """A source folder's name can hold a patient's: the page shows neither it nor where the workspace lies."""
    page = render(config={})
    assert "Smith" not in page and str(tmp_path) not in page
    assert "&lt;workspace&gt;/phantom" in page and "&lt;outside the workspace&gt;" in page


def test_undefined_metrics_are_said_not_shown_as_numbers(render: Callable[..., str]) -> None:
    """No positive breast: "not defined", no curve, no pair percentage, and a caution."""
    none = Interval(value=None, low=None, high=None)
    blank = FindingScores(finding=Finding.MALIGNANT, score_B=[0.1, 0.2], label_B=[0, 0])
    metrics = _finding_metrics(
        _scores(Finding.MALIGNANT), positive_breasts=0, auroc=none, auprc=none, localization_images=0,
        localization_f1=None, localization_precision=None, localization_recall=None,
    )  # fmt: skip
    evaluation = EvaluationReport(
        scores_path=Path("s"), by_finding={"malignant": metrics}, exams=1, images=4, provenance=_provenance()
    )
    text = re.sub(r"\s+", " ", _Page(render(evaluation=evaluation, scores=[blank])).text)
    assert "not defined (one class only)" in text
    assert "classification performance is not defined" in text
    assert "No test breast has a malignant finding" in text
    assert "not defined (no masks)" in text
    assert "of pairs" not in text


def test_an_interval_may_lack_ends(render: Callable[..., str]) -> None:
    """One malignant patient: the value stands alone."""
    metrics = _finding_metrics(_scores(Finding.MALIGNANT), auroc=Interval(value=0.75, low=None, high=None))
    evaluation = EvaluationReport(
        scores_path=Path("s"), by_finding={"malignant": metrics}, exams=1, images=4, provenance=_provenance()
    )
    text = re.sub(r"\s+", " ", _Page(render(evaluation=evaluation)).text)
    assert "0.750 interval not defined: too few patients" in text


def test_patients_are_called_unseen_only_if_they_were_looked_up(render: Callable[..., str], tmp_path: Path) -> None:
    """Of a former release's evaluation it is not known; whom the weights had seen is counted where it was left out."""
    page = render()
    assert "never saw" not in page and "of other patients" not in page
    assert "not known whether the model saw these patients" in page
    patients = JudgedPatients(is_checked=True, test_left_out=5, tuning_left_out=2)
    page = render(evaluation=make_report(tmp_path).evaluation.model_copy(update={"patients": patients}))
    assert "of patients the model never saw" in page and "not known whether" not in page
    summary = page.partition('id="cohort"')[0]
    assert "5 patients of the test split, 2 of the tuning split" in summary


def test_a_page_is_of_the_weights_that_were_evaluated(render: Callable[..., str], tmp_path: Path) -> None:
    """Weights that the config names: each section says their digest; of what the run trained there is a sentence alone."""
    report = make_report(tmp_path)
    trained, named = report.train.checkpoint_sha256, "4c" * 32
    own = render()
    assert f"epoch 11 were kept, <code>{trained[:12]}" in own and "Training by epoch" in own
    evaluation = report.evaluation.model_copy(
        update={
            "model_sha256": named,
            "models": (EnsembleMember(path=tmp_path, sha256=named),),
            "networks": (ResNet22Config(kind="resnet-22", image_size=(96, 64)),),
        }
    )
    explanation = report.explanation.model_copy(update={"model_sha256": named, "scored_sha256": named})
    page = render(evaluation=evaluation, explanation=explanation, train=make_report_train(data_version="other"))
    assert page.count(trained[:12]) == 1 and f"This run trained weights <code>{trained[:12]}" in page
    for words in ("were kept", "Training by epoch", "different data versions", "Epoch 11", "<code>gmic</code>"):
        assert words not in page, words
    assert "<code>resnet-22</code>; input 96 × 64" in page
    sections = (
        "performance", "operating", "calibration", "subgroups", "localisation", "measures", "failures", "gallery", "card",
    )  # fmt: skip
    for section in sections:
        assert f"Weights {named[:12]}." in page.partition(f'<section id="{section}"')[2].partition("</section>")[0], section


def test_a_page_says_what_the_training_began_with(render: Callable[..., str], tmp_path: Path) -> None:
    """Each file's form, digest and counts, without its name, which could name somebody; and how much was drawn at random."""
    taken, left = (tuple(f"{name}{index}" for index in range(count)) for name, count in (("t", 120), ("l", 2)))
    part = StartedPart(
        part="patches", source="meyer_resnet18.pth", sha256="f3" * 32, form="torchvision's ResNet-18", taken=taken, left=left
    )
    began = make_report(tmp_path).train.model_copy(update={"start": StartedWeights(parts=(part,), fresh=("a", "b", "c"))})
    text = " ".join(_Page(page := render(train=began)).text.split())
    assert "Began with (patches)" in text and f"120 tensors taken, 2 left; sha256 {'f3' * 32}" in text
    assert "torchvision's ResNet-18: 120" in text and "3 tensors" in text.partition("Began at random")[2][:12]
    assert "meyer" not in page and "AUROC 0.5" not in text
    assert "Began with" not in render()
    judged = part.model_copy(update={"judged": "tuning loss 1.352, of who has learnt nothing 1.277; AUROC 0.517"})
    began = began.model_copy(update={"start": StartedWeights(parts=(judged,), fresh=())})
    assert f"sha256 {'f3' * 32}; tuning loss 1.352, of who" in " ".join(_Page(render(train=began)).text.split())


def test_cautions_come_before_numbers(render: Callable[..., str]) -> None:
    """Synthetic data, few positives and mixed versions are told in the summary; a clean clinical run has none of them."""
    text = render(train=make_report_train(data_version="other"))
    assert text.index("The exams are synthetic") < text.index("AUROC</dt>")
    assert "different data versions" in text
    assert "test breasts have a malignant finding" in text
    many = {f: _finding_metrics(_scores(f, breasts=600)) for f in FINDINGS}
    evaluation = EvaluationReport(
        scores_path=Path("s"), by_finding=many, exams=300, images=1200, provenance=_provenance(),
        patients=JudgedPatients(is_checked=True), interval_method=INTERVAL_METHOD, locked=LockedSettings(is_own_site=True),
    )  # fmt: skip
    assert "Before quoting" not in render(evaluation=evaluation, config={"phantom": None})
    for lacks, words in (
        ({"locked": None}, "no locked thresholds"),
        ({"interval_method": ""}, "percentile bootstrap"),
        ({"interval_method": "an earlier text"}, "of an earlier form"),
    ):
        page = render(evaluation=evaluation.model_copy(update=lacks), config={"phantom": None})
        assert words in page and "mammo evaluate CONFIG.yaml --force evaluate" in page.partition('id="cohort"')[0]


def test_terms_and_what_a_table_left_out_are_on_the_page(render: Callable[..., str], tmp_path: Path) -> None:
    """What a set's terms forbid comes before any number; masks and crops that a table leaves out are told among the files."""
    terms = "The terms of EMBED forbid passing on data and weights made of this set."
    ingest = make_report(tmp_path).ingest.model_copy(update={"terms": terms, "files_left_out": 7136})
    text = " ".join(_Page(render(ingest=ingest)).text.split())
    assert text.index(terms) < text.index("AUROC")
    foreign = make_report(tmp_path).evaluation.model_copy(update={"terms": (terms, "The terms of another set forbid it.")})
    page = " ".join(_Page(render(ingest=ingest, evaluation=foreign)).text.split())
    before = page[: page.index("AUROC")]
    assert before.count(terms) == 1 and "The terms of another set forbid it." in before
    assert "7,136 more left out by the subjects file, not opened" in text
    assert "forbid passing on" not in render()


def test_pages_say_how_repeated_views_are_averaged(render: Callable[..., str], tmp_path: Path) -> None:
    """One rule for all: each image counts alike; how many breasts have a view more than once stands beside it."""
    evaluated = make_report(tmp_path).evaluation.model_copy(update={"repeated_view_breasts": 3})
    rule = "each image counts alike, also where a view comes more than once"
    page = " ".join(_Page(render(evaluation=evaluated)).text.split())
    assert f"{rule} (in 3 breasts here, in which that view weighs more)." in page
    first, *others = make_prediction(tmp_path).images
    twice = (first, first.model_copy(update={"image_id": "I2"}), *others)
    assert f"{rule} (in 1 breast here" in " ".join(_Page(_prediction_page(tmp_path, images=twice)).text.split())
    assert f"{rule} (in no breast here)" in " ".join(_Page(_prediction_page(tmp_path)).text.split())


def test_every_count_of_the_ingest_is_on_the_page(render: Callable[..., str], tmp_path: Path) -> None:
    """Masks without an image, copies, files put off: each number of the report has its line with its meaning."""
    counted = [name for name, field in IngestReport.model_fields.items() if field.annotation is int]
    ingest = make_report(tmp_path).ingest.model_copy(update={name: 7000 + place for place, name in enumerate(counted)})
    text = " ".join(_Page(render(ingest=ingest)).text.split())
    assert len(counted) > 15
    for place, name in enumerate(counted):
        assert f"{name.replace('_', ' ').capitalize()}7,{place:03}" in text, "the heading and the number of one row"


def test_every_epoch_says_what_it_was_measured_at(render: Callable[..., str]) -> None:
    """Localisation, memory and by what an epoch was the best: numbers that were computed and shown nowhere."""
    epochs = [one.model_copy(update={"tuning_localization_f1": 0.312, "tuning_malignant_f1": 0.287, "memory_mib": 4321.0,
              "is_best_localization": one.epoch == 11}) for one in _epochs()]  # fmt: skip
    text = " ".join(_Page(render(train=make_report_train().model_copy(update={"epochs": tuple(epochs)}))).text.split())
    assert "0.312" in text and "0.287" in text and "4321" in text and "scores and localisation" in text


def test_pages_say_what_is_cut_and_what_it_costs(render: Callable[..., str], tmp_path: Path) -> None:
    """Which way large breasts are treated, how many images lose how much, and that lesions outside count as missed."""
    seen = SeenBreasts(
        images=1480, images_cut=320, images_cut_much=41, mean_seen=0.97, least_seen=0.49, images_unknown=0, least_scale=1.0
    )
    ingest = make_report(tmp_path).ingest.model_copy(update={"seen": seen})
    page = " ".join(_Page(render(ingest=ingest)).text.split())
    assert "cut at its best centre, as the paper does (preprocess.oversize: cut)" in page
    assert "320 images of 1,480 are cut, 41 of them much; of the one cut most the network saw 49% of the breast" in page
    assert "In 41 of 1480 images the network saw less than 95% of the breast, at the least 49%" in page
    assert "does not hold of a lesion counts as missed" in page
    shrink = PreprocessConfig(oversize="shrink", pixel_spacing_mm=0.1)
    shrunk = seen.model_copy(update={"images_cut": 0, "images_cut_much": 0, "least_seen": 1.0, "least_scale": 0.61})
    page = " ".join(
        _Page(render(ingest=ingest.model_copy(update={"seen": shrunk}), config={"preprocess": shrink})).text.split()
    )
    assert "down to 0.61 stored pixels" in page and "first brought to 0.1 mm a pixel" in page and "The paper cuts" in page
    images = tuple(one.model_copy(update={"breast_seen": 0.49}) for one in make_prediction(tmp_path).images)
    prediction = " ".join(_Page(_prediction_page(tmp_path, images=images, seen=seen)).text.split())
    assert "of the one cut most the network saw 49% of the breast" in prediction and "Breast seen" in prediction


def make_report_train(**changes: Any) -> TrainReport:
    """A training whose provenance differs."""
    return TrainReport(
        checkpoint_path=Path("best.safetensors"), checkpoint_sha256="9f" * 32, run_dir=Path("train"), epochs=_epochs(),
        best_epoch=11, train_exams=226, provenance=_provenance(**changes),
    )  # fmt: skip


def test_failed_checks_come_first_and_blocking_before_warnings(render: Callable[..., str]) -> None:
    """What needs action is on top, what is met is folded away."""
    blocking = CheckResult(
        suite="labels", check="is unique", column="image_id", severity="critical", is_met=False, unexpected_count=2,
        unexpected_percent=0.1,
    )  # fmt: skip
    page = render(
        validation=ValidationReport(data_version="d", images=10, checks=(*_checks(), blocking), page_path=Path("checks.html"))
    )
    section = page[page.index('id="checks"') : page.index('id="training"')]
    assert (
        section.index("image_id") < section.index("pixel_spacing_mm") < section.index("<details>") < section.index("column_0")
    )
    assert "16 checks on 10 images: 14 met, 1 warned, 1 blocked" in section


def test_panels_are_embedded_at_page_width(render: Callable[..., str]) -> None:
    """A panel of 1,750 x 250 px becomes a JPEG of 1,600 px: 1600 * 250 / 1750 = 229 rows."""
    page = render()
    (first, *_) = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    image_HW3 = cv2.imdecode(np.frombuffer(base64.b64decode(first), dtype=np.uint8), cv2.IMREAD_COLOR)
    assert image_HW3 is not None
    assert image_HW3.shape == (229, PANEL_WIDTH_PX, 3)
    assert len(page) < 2_000_000


def test_a_full_page_names_the_panels_it_leaves_out(render: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the budget a panel is named by its file, not dropped in silence."""
    monkeypatch.setattr("tasks.adapters.pages.panels.PAGE_IMAGES_BYTES", 20_000)
    page = render(config={})
    assert 0 < page.count("data:image/jpeg") < 8
    assert page.count("Not embedded, to keep this page small") == 10 - page.count("data:image/jpeg")


def test_a_lost_panel_does_not_lose_the_report(render: Callable[..., str], tmp_path: Path) -> None:
    """A file that is gone or no image leaves a sentence in its place."""
    images = make_report(tmp_path).explanation.images
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    gone = [
        images[0].model_copy(update={"panel_path": tmp_path / "gone.png"}),
        images[1].model_copy(update={"panel_path": broken}),
    ]
    page = render(explanation=ExplainReport(output_dir=tmp_path, images=tuple(gone)))
    assert page.count("The panel&#39;s file cannot be read.") == 2


def test_a_clean_cohort_is_said_to_be_clean(render: Callable[..., str], tmp_path: Path) -> None:
    """No line of zeros: a step that loses nothing says so."""
    page = render(ingest=make_clean_ingest(make_report(tmp_path)))
    for sentence in ("no file refused", "all with four standard views", "every label an exam", "every exam is in a split"):
        assert sentence in page
    assert "<li>0 " not in page


def test_labels_are_words(render: Callable[..., str]) -> None:
    """0, 1 and 255 are shown as absent, present, not known."""
    page = render()
    assert "labelled present" in page and "labelled absent" in page and "labelled not known" in page


def test_a_run_without_epochs_or_scores_still_has_a_page(render: Callable[..., str]) -> None:
    """One epoch, or a checkpoint brought from elsewhere, draws what there is."""
    train = make_report_train().model_copy(update={"epochs": _epochs()[:1], "best_epoch": 1})
    assert "1 epoch on 226 exams" in render(train=train)
    page = render(train=train.model_copy(update={"epochs": ()}), scores=[])
    assert "No test scores were given" in page


def test_rendering_twice_gives_the_same_bytes(render: Callable[..., str]) -> None:
    """The clock is an argument: equal inputs, equal page."""
    assert render(config={}) == render(config={})


def test_prediction_says_what_is_missing(tmp_path: Path) -> None:
    """Scores per breast, missing views, refused files, advice, panels by image, and which weights."""
    text = re.sub(r"\s+", " ", _Page(_prediction_page(tmp_path)).text)
    for part in (
        "0.650", "Exam E1 lacks R-CC and R-MLO", "Rule not-dicom refused 1 file", "use the cbis-ddsm profile", "Left MLO",
        "Untrained network.", "spacing-missing", "Research use only",
    ):  # fmt: skip
        assert part in text


def test_prediction_of_nothing_is_a_page(tmp_path: Path) -> None:
    """Every file refused: no table, but the reasons."""
    text = _prediction_page(tmp_path, images=(), breast_scores={}, panels=(), missing=())
    assert "No image could be scored." in text and "refused 1 file" in text


def test_roc_corners_survive_thinning() -> None:
    """Three breasts, positive above, between: the polyline is the corners of the curve, in plot units 52..438 by 12..394."""
    chart = roc_chart([FindingScores(finding=Finding.MALIGNANT, score_B=[0.9, 0.8, 0.7, 0.6, 0.5], label_B=[1, 1, 0, 0, 1])])
    # (0,0) -> (0,2/3) -> (1,2/3) -> (1,1): y = 394 - 2/3 * 382 = 139.3
    assert chart.series[0].lines == ("52,394 52,139.3 438,139.3 438,12",)


def test_pr_steps_enclose_average_precision() -> None:
    """The area under the drawn line is the reported AUPRC, to the drawing's tenth of a pixel."""
    scores = _scores(Finding.BENIGN)
    (line,) = pr_chart([scores]).series[0].lines
    points = np.array([[float(part) for part in pair.split(",")] for pair in line.split()])
    recall, precision = (points[:, 0] - 52) / 386, (394 - points[:, 1]) / 382
    area = float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())
    assert area == pytest.approx(auprc(scores.score_B, scores.label_B), abs=1e-3)
