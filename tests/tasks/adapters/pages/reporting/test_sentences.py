"""Sentences on a run: numbers as its reports have them, and nothing where they have none."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.run_report import make_config, make_report
from schemas.config.network import GMICConfig, ResNet22Config
from schemas.reports.evaluation import LockedMetrics, RecalibrationFit
from schemas.reports.training import StartedPart, StartedWeights
from tasks.adapters.pages.reporting.sentences import (
    files_refused,
    first_weights,
    group_sizes,
    network_sentence,
    operating_points,
    split_sizes,
    updates,
)


def test_sizes_are_those_of_each_split(tmp_path: Path) -> None:
    """In the order of the splits; without any, that is said; a former report's refusals are counted by reason."""
    report = make_report(tmp_path)
    assert split_sizes(report).startswith("Train 150 patients, 226 exams, 19 malignant and 14 benign breasts; tuning 37")
    assert "test 62 patients, 88 exams" in split_sizes(report)
    nobody = report.split.model_copy(update={"counts": {}})
    assert split_sizes(report.model_copy(update={"split": nobody})) == "No patient was divided."
    assert files_refused(report) == "18"


def test_a_network_is_described_by_its_numbers() -> None:
    """The paper's has patches and a pooled share; another has its title and input."""
    assert "6 patches of 256 x 256, 2.0% of saliency cells pooled" in network_sentence(GMICConfig(top_t=0.02))
    assert network_sentence(ResNet22Config(kind="resnet-22")).startswith("Network resnet-22, input 2944 x 1920")


def test_first_weights_are_of_files_or_drawn(tmp_path: Path) -> None:
    """Each part with its file's form and digest, and what was left to chance."""
    report, config = make_report(tmp_path), make_config(tmp_path)
    assert list(first_weights(report, config)) == [
        "Drawn at random, seed 0, unless pre-training or a file gave them: see the config."
    ]
    part = StartedPart(part="patches", source="r.pth", sha256="cd" * 32, form="torchvision", taken=("a", "b"), left=())
    began = report.train.model_copy(update={"start": StartedWeights(parts=(part,), fresh=("c",))})
    assert list(first_weights(report.model_copy(update={"train": began}), config)) == [
        "Patches: 2 tensors of a file (torchvision), sha256 cdcdcdcdcdcd.",
        "Drawn at random, seed 0: 1 of the network's tensors.",
    ]


def test_groups_and_updates_are_said_where_there_are_any(tmp_path: Path) -> None:
    """Patients of the groups that are asked for; a recalibration that was fitted."""
    evaluated = make_report(tmp_path).evaluation
    assert list(group_sizes(evaluated, ("vendor",))) == ["Test patients by vendor: HOLOGIC 30, not known 30."]
    assert list(group_sizes(evaluated, ("age",))) == [] and list(updates(evaluated)) == []
    fit = RecalibrationFit(
        intercept=-1.5, slope=0.9, breasts=60, positive_breasts=9, patients=30, positive_patients=9, prevalence=0.15
    )
    fitted = evaluated.by_finding["malignant"].model_copy(update={"recalibration": fit})
    assert list(updates(evaluated.model_copy(update={"by_finding": {"malignant": fitted}}))) == [
        "Malignant: recalibrated on tuning, intercept -1.500, slope 0.900."
    ]


def test_a_threshold_that_was_picked_on_the_judging_breasts_is_said_to_be(tmp_path: Path) -> None:
    """What is locked comes first, with where it was fixed; a target that was met on these breasts is called so."""
    evaluated = make_report(tmp_path).evaluation
    of = evaluated.by_finding["malignant"]
    met = of.operating_points[0].model_copy(update={"criterion": "specificity", "target": 0.9, "basis": ""})
    fixed = met.model_copy(update={"criterion": "threshold", "target": 0.41, "threshold": 0.41, "basis": "fixed elsewhere"})
    none = fixed.model_copy(update={"threshold": None})
    locked = LockedMetrics(points=(fixed, none), calibration_locked=None, intercept=None, slope=None)
    said = list(
        operating_points(
            evaluated.model_copy(
                update={"by_finding": {"malignant": of.model_copy(update={"operating_points": (met,), "locked": locked})}}
            )
        )
    )
    assert [one.partition(":")[0] for one in said] == [
        "Malignant, at threshold 0.41 (fixed elsewhere)",
        "Malignant, above every score (fixed elsewhere)",
        "Malignant, at specificity 0.9 (threshold picked on these test breasts)",
    ]
