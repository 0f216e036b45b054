"""Table 1: which weights each row takes, what must be trained, and the table people read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gmic_model.learning.learner import new_learner
from schemas.config.network import TableRow
from schemas.config.run import RunConfig
from schemas.errors import StoreError
from schemas.reports.evaluation import AurocDifference, EvaluationReport, FindingMetrics, LocalizationIntervals, ModelSpread
from schemas.reports.report import Interval, Provenance
from schemas.reports.table1 import PAPER_AUROC, Table1Cell, Table1Report, Table1Row
from schemas.reports.training import EnsembleMember, TrainReport
from tasks.adapters.scoring.table1_rows import require_same_breasts, table1_markdown, table1_rows
from tasks.table1 import evaluation_run, localization_checkpoints, row_checkpoints, training_run, variants_to_train

PROVENANCE = Provenance(
    code_version="0", config_sha256="0", data_version="0", preprocess_version="0", seed=0, created_utc="2026-01-01"
)


def _config(tmp_path: Path, **table1: object) -> RunConfig:
    content = {"workspace_dir": tmp_path, "ingest": {"source_dir": tmp_path / "dicom"}, "table1": table1}
    return RunConfig.model_validate(content)


def _trained(tmp_path: Path, name: str) -> list[TrainReport]:
    return [
        TrainReport(
            checkpoint_path=tmp_path / name, checkpoint_sha256="", run_dir=tmp_path, epochs=(), best_epoch=0, train_exams=0,
            provenance=PROVENANCE,
        )
    ]  # fmt: skip


def test_seven_rows_need_four_trainings(tmp_path: Path) -> None:
    """GMIC-loc and GMIC-mil are GMIC's other predictions, GMIC-loc-random is GMIC-random's (paper 3.2)."""
    wanted = [TableRow.RESNET22, TableRow.NOATTN, TableRow.RANDOM, TableRow.GMIC]
    assert variants_to_train(_config(tmp_path)) == wanted
    assert variants_to_train(_config(tmp_path, rows=["gmic-mil"])) == [TableRow.GMIC]


def test_the_baseline_is_trained_without_what_is_said_of_patches(tmp_path: Path) -> None:
    """Neither their file, nor the digits of that, nor their rate: its training process reads the config as it was written."""
    train = {
        "start": {"localization": tmp_path / "f_d", "patches": tmp_path / "f_t", "digests": {"patches": "f37072fd"}},
        "parts": {"patches": {"learning_rate": 1e-5}, "localization": {"frozen_epochs": 2}},
    }
    config = RunConfig.model_validate({**_config(tmp_path).model_dump(), "train": train})
    for variant, has_patches in ((TableRow.RESNET22, False), (TableRow.GMIC, True)):
        run = training_run(config, variant, 0)
        read = RunConfig.model_validate_json(run.model_dump_json())
        assert ([part.value for part, _ in read.train.start.files()] == ["localization", "patches"]) is has_patches
        new_learner(read.model.model_copy(update={"image_size": (64, 48)}), read.train)
        assert read.train.parts.localization.frozen_epochs == 2 and bool(read.train.start.digests) is has_patches


def test_named_checkpoints_are_taken_instead_of_trained(tmp_path: Path) -> None:
    """Those of a row itself before those of the row it is trained as."""
    config = _config(
        tmp_path, checkpoints={"gmic": ["a", "b"], "gmic-loc": ["c"]}, rows=["gmic", "gmic-loc", "gmic-mil", "gmic-random"]
    )
    assert variants_to_train(config) == [TableRow.RANDOM]
    trained = {TableRow.RANDOM: _trained(tmp_path, "random")}
    assert row_checkpoints(config, TableRow.MIL, trained) == (Path("a"), Path("b"))
    assert row_checkpoints(config, TableRow.LOC, trained) == (Path("c"),)
    assert row_checkpoints(config, TableRow.LOC_RANDOM, trained) == (tmp_path / "random",)


def test_localisation_beside_the_papers_is_of_the_weights_that_point_best(tmp_path: Path) -> None:
    """Of each training those of the best malignant F1 on tuning, where they are not the row's own; none if any are named."""
    (ranks,) = _trained(tmp_path, "epoch-2")
    points = ranks.model_copy(update={"localization_checkpoint_path": tmp_path / "epoch-7"})
    config = _config(tmp_path)
    assert localization_checkpoints(config, {TableRow.GMIC: [points, ranks]}) == (tmp_path / "epoch-7", tmp_path / "epoch-2")
    same = ranks.model_copy(update={"localization_checkpoint_path": ranks.checkpoint_path})
    assert localization_checkpoints(config, {TableRow.GMIC: [same, ranks]}) == ()
    assert localization_checkpoints(_config(tmp_path, checkpoints={"gmic": ["a"]}), {}) == ()
    run = evaluation_run(config, TableRow.GMIC, (tmp_path / "epoch-7",), part="-localisation")
    assert run.workspace_dir != evaluation_run(config, TableRow.GMIC, (tmp_path / "epoch-2",)).workspace_dir


def test_the_table_says_whose_localisation_it_is() -> None:
    """Ranking is of the row's weights, localisation of the others, by their digest."""
    undefined = Interval(value=None, low=None, high=None)

    def evaluated(sha256: str, f1: float) -> EvaluationReport:
        where = LocalizationIntervals(
            f1=Interval(value=f1, low=None, high=None), precision=undefined, recall=undefined, pointing=undefined,
            lesions_reached=undefined,
        )  # fmt: skip
        metrics = FindingMetrics(
            breasts=4, positive_breasts=2, auroc=undefined, auprc=undefined, localization_images=3, localization_f1=f1,
            localization_precision=None, localization_recall=None, localization_intervals=where,
        )  # fmt: skip
        members = (EnsembleMember(path=Path(sha256), sha256=sha256),)
        return EvaluationReport(
            scores_path=Path("s"), models=members, model_sha256=sha256, localization_model="model",
            by_finding={"benign": metrics, "malignant": metrics}, exams=1, images=1, provenance=PROVENANCE,
        )  # fmt: skip

    config = RunConfig.model_validate({"workspace_dir": "w", "ingest": {"source_dir": "s"}})
    (row,) = table1_rows(config, {TableRow.GMIC: evaluated("ranks", 0.1)}, evaluated("points", 0.3))
    assert (row.model_sha256, row.localization_sha256) == (("ranks",), "points")
    assert row.by_finding["malignant"].localization_f1.value == 0.3
    (own,) = table1_rows(config, {TableRow.GMIC: evaluated("ranks", 0.1)}, None)
    assert (own.localization_sha256, own.by_finding["malignant"].localization_f1.value) == ("ranks", 0.1)


def test_rows_share_the_store_and_nothing_else(tmp_path: Path) -> None:
    """Each training and evaluation writes below its own folder: none takes another's results for its own."""
    config = _config(tmp_path)
    runs = [training_run(config, variant, seed) for variant in (TableRow.GMIC, TableRow.NOATTN) for seed in (0, 1)]
    runs += [evaluation_run(config, row, (Path("a"),)) for row in (TableRow.GMIC, TableRow.LOC)]
    assert len({run.workspace_dir for run in runs}) == 6
    assert {run.store_dir for run in runs} == {tmp_path / "exam_store"}
    assert [(run.model.title, run.train.seed) for run in runs[:3]] == [
        (TableRow.GMIC, 0), (TableRow.GMIC, 1), (TableRow.NOATTN, 0),
    ]  # fmt: skip
    assert runs[5].evaluate.read_as is TableRow.LOC and runs[5].evaluate.checkpoints == (Path("a"),)


def test_the_papers_numbers_stand_beside_ours(tmp_path: Path) -> None:
    """Mean, interval and spread of a row; the difference to GMIC with its p-value; what is not defined is said."""
    undefined = Interval(value=None, low=None, high=None)

    def row(variant: TableRow, value: float, less: AurocDifference | None) -> Table1Row:
        spread = ModelSpread(mean=Interval(value=value, low=value - 0.1, high=value + 0.1), standard_deviation=0.01)
        benign = ModelSpread(mean=undefined, standard_deviation=None)
        cells = {
            name: Table1Cell(
                paper_auroc=PAPER_AUROC[variant][name], auroc=spread if name == "malignant" else benign, auprc=spread,
                ensemble_auroc=spread.mean, minus_gmic=less, localization_images=0, localization_f1=undefined,
                localization_precision=undefined, localization_recall=undefined,
            )
            for name in ("benign", "malignant")
        }  # fmt: skip
        return Table1Row(variant=variant, trained_as=TableRow.GMIC, models=3, model_sha256=("a", "b", "c"), by_finding=cells)

    less = AurocDifference(difference=-0.05, low=-0.09, high=-0.01, p_value=0.0123)
    report = Table1Report(
        rows=(row(TableRow.LOC, 0.8, less), row(TableRow.GMIC, 0.85, None)), breasts={"malignant": 90},
        positive_breasts={"malignant": 20}, test_patients={"malignant": 45},
        positive_patients={"malignant": 19}, confidence=0.95, resamples=2000, markdown_path=tmp_path / "table1.md",
        provenance=PROVENANCE,
    )  # fmt: skip
    text = table1_markdown(report)
    assert "| gmic-loc | 3 | 0.885 | 0.800 (0.700-0.900) ± 0.010 | 0.777 | not defined (one class only) |" in text
    assert "-0.050 (-0.090 to -0.010), p = 0.012" in text
    assert "| malignant | 0 | no test image has a mask |" in text and "20 of 90 test breasts, 19 of 45 patients" in text


def test_rows_of_different_patients_are_no_table(tmp_path: Path) -> None:
    """A row that left out whom its weights had seen was judged by fewer breasts than the others."""
    evaluated = {}
    for row, patients in ((TableRow.GMIC, ["P1", "P2"]), (TableRow.NOATTN, ["P1"])):
        folder = tmp_path / row.value
        folder.mkdir()
        breasts = pd.DataFrame({"patient_id": patients, "exam_id": patients, "laterality": "L", "model_sha256": "a"})
        breasts.to_parquet(folder / "breast_scores.parquet")
        evaluated[row] = EvaluationReport(
            scores_path=folder / "scores.parquet", model_sha256="a", by_finding={}, exams=1, images=4, provenance=PROVENANCE
        )
    with pytest.raises(StoreError, match=r"different patients.*gmic 2 breasts, gmic-noattn 1 breasts"):
        require_same_breasts(evaluated)
    require_same_breasts({TableRow.GMIC: evaluated[TableRow.GMIC]})


def test_paper_numbers_are_those_of_table_1() -> None:
    """Seven rows; GMIC 0.900 and 0.784, the ResNet-22 0.827 and 0.731."""
    assert set(PAPER_AUROC) == set(TableRow)
    assert list(PAPER_AUROC[TableRow.GMIC].values()) == [0.900, 0.784]
    assert PAPER_AUROC[TableRow.RESNET22]["benign"] == pytest.approx(0.731)
