"""Scores as tables: image, breast, exam; every line says which weights, which data and which warnings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from schemas.exam import Finding
from schemas.reports.evaluation import EvaluationReport
from schemas.reports.report import Provenance
from tasks.adapters.scoring.prediction import ScoreParts, begin_scores, scored_before
from tasks.adapters.scoring.score_tables import (
    BREAST,
    breast_table,
    breasts_of,
    breasts_with_repeats,
    exams_of,
    image_table,
    labelled,
    read_breast_scores,
)


def _manifest() -> pd.DataFrame:
    """Exam A: right breast with three views, malignant; left with one, not known to be benign. B: left only, all absent."""
    lines = [
        ("A", "R", 0, 1, ""),
        ("A", "R", 0, 1, "X10"),
        ("A", "R", 0, 1, "R3 X10"),
        ("A", "L", 255, 0, ""),
        ("B", "L", 0, 0, ""),
    ]
    columns = ["exam_id", "laterality", "benign", "malignant", "gate_warnings"]
    table = pd.DataFrame(lines, columns=columns)
    return table.assign(
        row=range(5), image_id=[f"I{row}" for row in range(5)], patient_id="P" + table["exam_id"], view_position="CC"
    )


SCORES_NC = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.4], [0.6, 0.2], [0.5, 0.5]])


@pytest.fixture
def images() -> pd.DataFrame:
    """The scored images of the manifest, rows given in another order."""
    order = [4, 2, 0, 1, 3]
    return image_table(_manifest(), order, SCORES_NC[order], model="model", sha256="abc", data_version="v1")


def test_every_image_line_says_where_its_scores_come_from(images: pd.DataFrame) -> None:
    """Scores find their rows; the digest, the data version and the gate's warnings are on each line."""
    assert images["row"].tolist() == [0, 1, 2, 3, 4] and images["malignant_score"].tolist() == [0.9, 0.8, 0.4, 0.2, 0.5]
    assert set(images["model_sha256"]) == {"abc"} and set(images["data_version"]) == {"v1"}
    assert images.loc[2, "gate_warnings"] == "R3 X10"


def test_only_the_manifests_images_are_in_the_table() -> None:
    """Test and tuning rows are scored together and told apart here."""
    table = image_table(_manifest().iloc[[1, 3]], range(5), SCORES_NC, model="m", sha256="", data_version="")
    assert table["row"].tolist() == [1, 3] and table["benign_score"].tolist() == [0.2, 0.6]


def test_a_breasts_score_is_the_mean_of_its_views(images: pd.DataFrame) -> None:
    """(0.9 + 0.8 + 0.4) / 3 = 0.7; its warnings are those of all its images, once each."""
    breasts = breasts_of(images)
    assert list(zip(breasts["exam_id"], breasts["laterality"], breasts["images"], strict=True)) == [
        ("A", "R", 3), ("A", "L", 1), ("B", "L", 1),
    ]  # fmt: skip
    assert breasts["malignant_score"].tolist() == pytest.approx([0.7, 0.2, 0.5])
    assert breasts["gate_warnings"].tolist() == ["R3 X10", "", ""]


def test_an_exam_is_its_worse_breast(images: pd.DataFrame) -> None:
    """Higher score; present beats not known beats absent: exam A is malignant, and not known to be without benign findings."""
    exams = exams_of(breasts_of(images)).set_index("exam_id")
    assert exams["malignant_score"].to_dict() == pytest.approx({"A": 0.7, "B": 0.5})
    assert exams["benign_score"].to_dict() == pytest.approx({"A": 0.6, "B": 0.5})
    assert exams["malignant"].to_dict() == {"A": 1, "B": 0} and exams["benign"].to_dict() == {"A": 255, "B": 0}
    assert exams["breasts"].to_dict() == {"A": 2, "B": 1}


def test_models_are_kept_apart(images: pd.DataFrame) -> None:
    """Two models' images give two lines per breast and exam, each with its own scores and digest."""
    other = images.assign(model="other", model_sha256="def", malignant_score=images["malignant_score"] / 2)
    breasts = breasts_of(pd.concat([images, other], ignore_index=True))
    assert breasts.groupby("model")["malignant_score"].first().to_dict() == pytest.approx({"model": 0.7, "other": 0.35})
    exams = exams_of(breasts)
    assert len(exams) == 4 and set(zip(exams["model"], exams["model_sha256"], strict=True)) == {
        ("model", "abc"),
        ("other", "def"),
    }


def test_unknown_labels_are_left_out(images: pd.DataFrame) -> None:
    """The left breast of A is in the malignant table and not in the benign one."""
    assert len(breast_table(images, Finding.MALIGNANT)) == 3
    benign = labelled(breasts_of(images), Finding.BENIGN, ("exam_id", "laterality"))
    assert benign["exam_id"].tolist() == ["A", "B"] and benign["label"].tolist() == [0, 0]


def test_the_breast_table_on_disk_is_that_of_the_reported_score(images: pd.DataFrame, tmp_path: Path) -> None:
    """Of an ensemble's file only the mean score's lines are read; they are what the images' scores give."""
    other = images.assign(model="model-1", model_sha256="def", malignant_score=images["malignant_score"] / 2)
    breasts_of(pd.concat([images, other], ignore_index=True)).to_parquet(tmp_path / "breast_scores.parquet")
    made = Provenance(code_version="", config_sha256="", data_version="", preprocess_version="", seed=0, created_utc="")
    evaluated = EvaluationReport(
        scores_path=tmp_path / "scores.parquet", model_sha256="abc", by_finding={}, exams=2, images=5, provenance=made
    )
    for finding in Finding:
        found = labelled(read_breast_scores(evaluated), finding, BREAST)
        pd.testing.assert_frame_equal(found, breast_table(images, finding))


def test_scores_of_other_weights_are_forgotten_before_their_pictures_are_drawn_over(tmp_path: Path) -> None:
    """A prediction that is broken off leaves pictures of both weights: none of them is taken for the former ones' later."""
    line = {"row": 0, "image_id": "I0", "laterality": "L", "view_position": "CC"}
    manifest = pd.DataFrame([line])
    for weights, known in (("former", 0), ("former", 1), ("present", 0)):
        begin_scores(tmp_path, weights)
        assert len(scored_before(tmp_path, manifest, with_panels=False)) == known
        ScoreParts(tmp_path).add([(line, np.array([0.1, 0.2]))])


def test_breasts_with_a_view_more_than_once_are_counted() -> None:
    """Two MLO views of one breast: its score is the mean of three images, and it is one of the breasts that the page counts."""
    images = pd.DataFrame(
        {
            "exam_id": ["E"] * 5 + ["F"],
            "laterality": [*"LLLRR", "L"],
            "view_position": ["CC", "MLO", "MLO", "CC", "MLO", "CC"],
        }
    )
    assert breasts_with_repeats(images) == 1
    assert breasts_with_repeats(images.drop(index=2)) == 0
