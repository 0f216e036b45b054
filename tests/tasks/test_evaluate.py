"""Evaluate: what a second evaluation says of the first, and whom a network may not be judged on."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from gmic_model.metrics.delong import delong_test
from gmic_model.networks.registry import build_network
from mammo_tests.training_store import divided, make_store, small_config, with_baseline
from schemas.config.evaluation import EvaluateConfig, ExplainConfig
from schemas.config.network import TableRow
from schemas.config.run import RunConfig, Stage
from schemas.errors import CheckpointError, StoreError, TrainingError
from schemas.exam import Split
from schemas.reports.data import SplitReport
from schemas.reports.evaluation import FindingMetrics
from schemas.reports.report import Interval
from schemas.reports.training import TrainReport
from tasks.adapters.models.checkpoints import save_checkpoint
from tasks.adapters.models.locking import read_locked
from tasks.adapters.models.model_files import SIDECAR, drawn_members, members_of, read_recalibration, sealed
from tasks.adapters.models.networks import load_member
from tasks.adapters.models.seen_patients import refuse_other_splits, seen_patients
from tasks.adapters.models.start_files import import_weights
from tasks.adapters.scoring.metrics_table import evaluation_text, metrics_markdown, patients_sentence
from tasks.adapters.scoring.model_ranking import minus_before
from tasks.adapters.scoring.scored_views import score_rows
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import published_rows, read_manifest
from tasks.adapters.store.same_patient import note_former_patients
from tasks.adapters.store.views import stored_views
from tasks.adapters.training.training_data import training_data
from tasks.adapters.workspace import StoreFolder, Workspace, exam_store_dir
from tasks.evaluate import evaluate_network
from tasks.explain import explain_exams
from tasks.stage import NotFinished, save_report, stage, without_work


def _metrics(auroc: float | None) -> dict[str, FindingMetrics]:
    found = Interval(value=auroc, low=0.1, high=0.9)
    given: dict[str, Any] = dict.fromkeys(("localization_f1", "localization_precision", "localization_recall"))
    return {
        "malignant": FindingMetrics(breasts=8, positive_breasts=2, auroc=found, auprc=found, localization_images=0, **given)
    }


def test_the_difference_to_the_evaluation_before_is_paired() -> None:
    """DeLong on the breasts that both scored, with its interval and p; breasts of one evaluation alone do not count."""
    rng = np.random.default_rng(0)
    label_B = np.arange(40) % 2
    breasts = pd.DataFrame(
        {
            "patient_id": [f"P{breast // 2}" for breast in range(40)], "exam_id": [f"E{breast // 2}" for breast in range(40)],
            "laterality": ["L", "R"] * 20, "benign": 255, "malignant": label_B, "benign_score": 0.5,
            "malignant_score": 0.6 * label_B + 0.5 * rng.random(40),
        }
    )  # fmt: skip
    before = breasts.assign(malignant_score=0.2 * label_B + 0.8 * rng.random(40)).iloc[::-1].iloc[:36]
    less = minus_before(breasts, before, 0.95)
    shared = breasts.merge(before, on=["patient_id", "exam_id", "laterality"], suffixes=("", "_then"))
    wanted = delong_test(
        shared["malignant_score"], shared["malignant_score_then"], shared["malignant"],
        patient_B=shared["patient_id"].to_numpy(str), confidence=0.95,
    )  # fmt: skip
    assert wanted is not None and less["malignant"] is not None and less["benign"] is None and len(shared) == 36
    assert less["malignant"].p_value == pytest.approx(wanted.p_value)
    assert less["malignant"].difference == pytest.approx(wanted.difference)
    table = metrics_markdown(_metrics(0.75), less)
    assert f"| {wanted.difference:+.3f} (" in table and f"p = {wanted.p_value:.2g}" in table and "8 (2 positive)" in table
    assert "less the one before" not in metrics_markdown(_metrics(0.75))


def test_a_network_is_not_judged_on_patients_it_may_have_seen(tmp_path: Path) -> None:
    """The splits were made anew after the training: its training patients may be among the test patients now."""
    path = tmp_path / "splits.parquet"
    path.write_bytes(b"first")
    digest = hashlib.sha256(b"first").hexdigest()
    splits, trained = SimpleNamespace(splits_path=path), SimpleNamespace(splits_sha256=digest)
    refuse_other_splits(splits, trained)  # type: ignore[arg-type]
    path.write_bytes(b"second")
    with pytest.raises(StoreError, match="another division of the patients"):
        refuse_other_splits(splits, trained)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- one store, one network, two divisions

_TEST, _TUNING, _TRAIN = Split.TEST, Split.TUNING, Split.TRAIN


@dataclass(frozen=True)
class Judged:
    """A store of twelve patients and two divisions of them.

    Attributes:
        first: P000 to P003 judge, P004 to P007 tune, the rest trains: what the weights were made of.
        second: P002, P003, P006 and P008 judge; P000, P001, P007 and P009 tune.
    """

    workspace: Path
    first: SplitReport
    second: SplitReport

    def config(self, *weights: str, leave_out_seen: bool = False) -> RunConfig:
        """The run that evaluates some weights."""
        checkpoints = tuple(self.workspace / name for name in weights)
        named = EvaluateConfig(checkpoints=checkpoints, bootstrap_resamples=10, leave_out_seen=leave_out_seen)
        return small_config(self.workspace).model_copy(update={"evaluate": named, "explain": ExplainConfig(exams=1)})


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Fresh weights, once with a list of whom they were trained on, once without, as a former release left them.

    The same of the quickest network, for what is not about patches and maps.
    """
    workspace = tmp_path_factory.mktemp("judged")
    config = small_config(workspace)
    version = make_store(config).data_version
    torch.manual_seed(0)
    trained, tuned = ([f"P{number:03d}" for number in numbers] for numbers in (range(8, 12), range(4, 8)))
    listed = seen_patients("key", {}, trained=trained, tuned=tuned)
    for prefix, model in (("", config.model), ("quick ", with_baseline(config).model)):
        weights, others = (build_network(model).state_dict() for _ in range(2))
        for name, tensors, patients in (("listed", weights, listed), ("unlisted", weights, None), ("other", others, listed)):
            folder = workspace / f"{prefix}{name}"
            save_checkpoint(folder, weights=tensors, training={}, model=model, about={}, patients=patients)
    first = (*[_TEST] * 4, *[_TUNING] * 4, *[_TRAIN] * 4)
    second = (_TUNING, _TUNING, _TEST, _TEST, _TRAIN, _TRAIN, _TEST, _TUNING, _TEST, _TUNING, _TRAIN, _TRAIN)
    return Judged(
        workspace, divided(workspace / "first.parquet", first, version), divided(workspace / "second.parquet", second, version)
    )


def test_weights_are_judged_where_nobody_tunes(judged: Judged) -> None:
    """At another site every patient tests: nothing is chosen on them, and no recalibration is left."""
    version = judged.first.data_version
    external = divided(judged.workspace / "external.parquet", [_TEST] * 12, version)
    report = evaluate_network.body(judged.config("unlisted"), external, None)
    assert report.exams == 12 and [each.test_patients for each in report.scorings] == [12]
    malignant = report.by_finding["malignant"]
    assert malignant.breasts == 24 and malignant.recalibration is not None and malignant.recalibration.slope is None
    assert malignant.auroc.value is not None
    # Four exams have one lesion in both views of a breast; of the eight others all 32 images are without.
    level, read = malignant.lesion_level, malignant.original_read
    assert level is not None and (level.images_without, level.joined_lesions, level.single_lesions) == (32, 4, 0)
    assert [(one.lesions, one.units_without) for one in level.counted] == [(8, 32), (4, 16)]
    assert read is not None and [(one.units, one.positive_units) for one in read.levels] == [(24, 4), (12, 4), (12, 4)]
    assert report.by_finding["benign"].original_read is None
    where = malignant.localization_intervals
    assert where is not None and where.chance_f1 is not None and 0.0 < where.chance_f1 < 1.0
    with pytest.raises(TrainingError, match="nobody to train on"):
        training_data(judged.config("unlisted"), external)


def test_another_site_judges_what_the_own_site_fixed(judged: Judged) -> None:
    """Thresholds chosen on the own tuning split are used as they are where every patient is a stranger, and stay as they were.

    Once they lie beside the weights, the evaluation without them is not given out again; the own site's is, for ever.
    Their sensitivity is that of counting; they stand above what is re-chosen here; groups and errors are told at them.
    """
    shutil.copytree(judged.workspace / "listed", judged.workspace / "own", ignore=shutil.ignore_patterns("re*.json"))
    own = evaluate_network.body(judged.config("own"), judged.first, None)
    assert own.locked is not None and own.locked.is_own_site and own.by_finding["malignant"].locked is None
    key_of_own = evaluate_network.key(judged.config("own"), judged.first, None)
    own = evaluate_network.body(judged.config("own"), judged.first, None)
    assert evaluate_network.key(judged.config("own"), judged.first, None) == key_of_own
    travelled = judged.workspace / "travelled"
    shutil.copytree(judged.workspace / "unlisted", travelled)  # a stranger's list of patients says nothing here
    external = divided(judged.workspace / "external.parquet", [_TEST] * 12, judged.first.data_version)
    alone = evaluate_network.body(judged.config("travelled"), external, None)
    assert alone.locked is not None and alone.locked.kept is None and alone.by_finding["malignant"].locked is None
    assert alone.page_path is not None and "no operating_points.json lies beside the weights" in alone.page_path.read_text()

    key_without = evaluate_network.key(judged.config("travelled"), external, None)
    for name in ("operating_points.json", "recalibration.json"):
        shutil.copy(judged.workspace / "own" / name, travelled)
    assert evaluate_network.key(judged.config("travelled"), external, None) != key_without
    as_it_is, as_a_row = (EvaluateConfig(checkpoints=(travelled,), read_as=row) for row in (None, TableRow.LOC))
    members = members_of([travelled])
    assert read_locked(members, as_it_is, is_own_tuning=False).thresholds
    of_row = read_locked(members, as_a_row, is_own_tuning=False)  # scores of another prediction: no threshold of these
    assert not of_row.thresholds and not of_row.recalibrations and "they give others" in of_row.settings.missing
    fixed = (travelled / "operating_points.json").read_bytes()
    for before, is_given_out in ((alone, False), (evaluate_network.body(judged.config("travelled"), external, None), True)):
        report = save_report(judged.config("travelled"), Stage.EVALUATE, before)
        Workspace(judged.workspace).done_path("evaluate").write_text(f"{key_without} of a release that did not read them")
        with without_work(), nullcontext() if is_given_out else pytest.raises(NotFinished):
            assert evaluate_network(judged.config("travelled"), external, None) == report
    assert (travelled / "operating_points.json").read_bytes() == fixed
    malignant, kept = report.by_finding["malignant"], own.by_finding["malignant"].tuning_thresholds
    assert report.locked is not None and report.locked.kept == own.provenance and report.locked.missing == ""
    assert malignant.locked is not None
    assert [point.threshold for point in malignant.locked.points] == [one.threshold for one in kept]
    breasts = pd.read_parquet(report.scores_path.with_name("breast_scores.parquet")).query("malignant == 1")
    for point in malignant.locked.points:
        assert point.sensitivity.value == pytest.approx((breasts["malignant_score"] >= point.threshold).mean())
    assert malignant.subgroup_threshold == kept[1].threshold and "own site" in malignant.subgroup_threshold_basis
    assert report.page_path is not None
    page = report.page_path.read_text()
    assert 0 < page.index("Locked: picked on the tuning split of the weights") < page.index("Re-chosen here, on these test")


def test_what_the_terms_of_weights_forbid_stands_with_their_numbers(judged: Judged) -> None:
    """Weights that another site trained on a set that may not be passed on: page, report and terminal say so."""
    forbidden = "The terms of EMBED forbid passing on data and weights made of this set."
    foreign = judged.workspace / "foreign"
    shutil.copytree(judged.workspace / "quick unlisted", foreign)
    sidecar = json.loads((foreign / SIDECAR).read_text())
    (foreign / SIDECAR).write_bytes(sealed(sidecar | {"provenance": {"terms": [forbidden]}}))
    report = evaluate_network.body(judged.config("foreign", "quick unlisted"), judged.first, None)
    assert report.terms == (forbidden,) and forbidden in evaluation_text(report)
    assert report.page_path is not None
    page = report.page_path.read_text()
    assert 0 < page.index(forbidden) < page.index("Test performance</h2>")
    free = evaluate_network.body(judged.config("quick unlisted"), judged.first, None)
    assert free.terms == () and free.page_path is not None and "forbid passing on" not in free.page_path.read_text()


def test_named_weights_are_evaluated_again_when_the_patients_are_divided_anew(judged: Judged) -> None:
    """Same config, weights and data: the table of the former test patients is not given out for that of the present ones.

    Whom these weights have seen is not known: the report says so, and no recalibration is left beside them.
    """
    config, done_path = judged.config("quick unlisted"), Workspace(judged.workspace).done_path("evaluate")
    report = save_report(config, Stage.EVALUATE, evaluate_network.body(config, judged.first, None))
    assert report.provenance.splits_sha256 == hashlib.sha256(judged.first.splits_path.read_bytes()).hexdigest()
    former = stage(Stage.EVALUATE, version=3, sections=("evaluate",), reads=lambda *_: (report.model_sha256, "data"))
    first, second = (splits.model_copy(update={"data_version": "data"}) for splits in (judged.first, judged.second))
    for key in (evaluate_network.key(config, first, None), former(evaluate_network.body).key(config, first, None)):
        done_path.write_text(f"{key} run")
        with without_work():
            assert evaluate_network(config, first, None) == report
            with pytest.raises(NotFinished):
                evaluate_network(config, second, None)

    assert not report.patients.is_checked
    assert patients_sentence(report.patients).startswith("It is not known whether the weights had seen these patients: 1 of 1")
    assert not (judged.workspace / "quick unlisted" / "recalibration.json").exists()
    kept = read_recalibration(judged.workspace / "evaluate", report.model_sha256)
    assert "not known whether the weights were trained on these" in kept.fitted_on


def test_weights_are_not_judged_by_patients_whom_they_have_seen(judged: Judged) -> None:
    """One of the four test patients was trained on and one tuned on, one tuning patient trained on: refused, or left out."""
    found = "of 4 test patients 1 trained on and 1 tuned on; of 4 tuning patients 1 trained on"
    with pytest.raises(CheckpointError, match=f"have seen patients.*{found}.*--leave-out-seen"):
        evaluate_network.body(judged.config("quick listed"), judged.second, None)
    assert not (judged.workspace / "quick listed" / "recalibration.json").exists()

    report = evaluate_network.body(judged.config("quick listed", leave_out_seen=True), judged.second, None)
    assert (report.patients.is_checked, report.patients.test_left_out, report.patients.tuning_left_out) == (True, 2, 1)
    assert report.exams == 2 and report.images == 8
    for name, patients in (("scores", {"P002", "P003"}), ("tuning_scores", {"P000", "P001", "P007"})):
        assert set(pd.read_parquet(report.scores_path.with_name(f"{name}.parquet"))["patient_id"]) == patients
    assert "2 patients of the test split, 1 of the tuning split" in patients_sentence(report.patients)
    kept = read_recalibration(judged.workspace / "quick listed", report.model_sha256)
    assert kept.by_finding["malignant"].breasts == 6  # of three patients


def test_an_ensemble_is_judged_by_patients_whom_none_of_its_weights_has_seen(judged: Judged) -> None:
    """One of two has seen two of four test patients, of the other, an imported file, nobody knows: refused, or left out.

    What is left was looked up in one list of two, and report and page say so; beside neither weights a recalibration is left.
    """
    source, imported = judged.workspace / "released.safetensors", judged.workspace / "imported"
    torch.manual_seed(3)
    save_file(dict(build_network(judged.config("listed").model).state_dict()), source)
    import_weights(source, imported)  # of a released file the sidecar says the network, whose patches these images do not hold
    sidecar, model = json.loads((imported / SIDECAR).read_text()), judged.config("listed").model
    (imported / SIDECAR).write_bytes(sealed(sidecar | {"model": model.model_dump(mode="json")}))
    file = judged.workspace / "ensemble.json"
    digests = {name: members_of([judged.workspace / name])[0].sha256 for name in ("listed", "imported")}
    file.write_text(json.dumps({"checkpoints": [{"path": name, "sha256": sha256} for name, sha256 in digests.items()]}))
    refusing, leaving_out = (
        judged.config().model_copy(update={"evaluate": EvaluateConfig(ensemble=file, leave_out_seen=is_asked)})
        for is_asked in (False, True)
    )
    with pytest.raises(CheckpointError, match="of 4 test patients 1 trained on and 1 tuned on"):
        evaluate_network.body(refusing, judged.second, None)
    report = evaluate_network.body(leaving_out, judged.second, None)
    assert (report.patients.is_checked, report.patients.test_left_out, report.patients.tuning_left_out) == (False, 2, 1)
    assert set(pd.read_parquet(report.scores_path)["patient_id"]) == {"P002", "P003"}
    said = "It is not known whether the weights had seen these patients: 1 of 2 weights do not say"
    assert said in evaluation_text(report)
    assert report.page_path is not None and said in report.page_path.read_text()
    assert not (imported / "recalibration.json").exists()


def test_a_finished_evaluation_does_not_go_on_calling_patients_unseen(judged: Judged) -> None:
    """A test patient turns out to have been a training patient under a former pseudonym: it is not given out again.

    A new one refuses; another one's former name, which the weights do not know, changes nothing.
    """
    config, files = judged.config("quick other"), StoreFolder(exam_store_dir(judged.config("quick other")))
    report = save_report(config, Stage.EVALUATE, evaluate_network.body(config, judged.first, None))
    Workspace(judged.workspace).done_path("evaluate").write_text(f"{evaluate_network.key(config, judged.first, None)} run")
    assert report.patients.is_checked
    try:
        note_former_patients(files, {("P001", "P777")})
        with without_work():
            assert evaluate_network(config, judged.first, None) == report
            note_former_patients(files, {("P000", "P008")})
            with pytest.raises(NotFinished):
                evaluate_network(config, judged.first, None)
        with pytest.raises(CheckpointError, match="of 4 test patients 1 trained on and 0 tuned on"):
            evaluate_network.body(config, judged.first, None)
    finally:
        files.former_patients_path.unlink()


def test_pictures_are_of_the_weights_that_were_evaluated(judged: Judged) -> None:
    """Of two weights scores and maps are the mean, patches those whose localisation is told; what was trained is not asked."""
    config = judged.config("listed", "other")
    report = evaluate_network.body(config, judged.first, None)
    trained = TrainReport(
        checkpoint_path=judged.workspace / "trained", checkpoint_sha256="7" * 64, run_dir=judged.workspace, epochs=(),
        best_epoch=0, train_exams=0, provenance=report.provenance,
    )  # fmt: skip
    explained = explain_exams.body(config, judged.first, trained, report)
    drawn = report.models[int(report.localization_model[-1]) - 1]
    assert (explained.model_sha256, explained.scored_sha256) == (drawn.sha256, report.model_sha256)
    members = drawn_members(report, None)
    assert members[0] == drawn and set(members) == set(report.models)
    assert explained.mapped_sha256 == tuple(member.sha256 for member in members)
    store = open_store(Workspace(judged.workspace).store_dir)
    views, rows = stored_views(store, read_manifest(store), config.preprocess.window_px), published_rows(store)
    for image in explained.images:
        each = [
            next(score_rows(load_member(member), views, [rows[image.image_id]], batch_images=1, device=torch.device("cpu")))
            for member in members
        ]
        kept = np.load(image.saliency_path)
        np.testing.assert_allclose(kept["saliency_CIJ"], np.mean([view.saliency_CIJ for view in each], axis=0), atol=1e-6)
        np.testing.assert_allclose(kept["attention_K"], each[0].attention_K, atol=1e-6)
    scores = pd.read_parquet(report.scores_path).set_index("image_id")
    assert [image.scores["malignant"] for image in explained.images] == [
        scores.loc[image.image_id, "malignant_score"] for image in explained.images
    ]
    assert explained.gallery_path is not None
    for page in explained.gallery_path.parent.glob("*.html"):
        said = page.read_text()
        assert f"Maps: mean of those of weights {members[0].sha256[:12]}, {members[1].sha256[:12]}" in said
        assert f"Patches: weights {drawn.sha256[:12]}" in said and trained.checkpoint_sha256[:12] not in said
        assert f"together {report.model_sha256[:12]}: model-1 {report.models[0].sha256[:12]}" in said

    alone = report.model_copy(update={"models": report.models[:1], "model_sha256": report.models[0].sha256})
    assert explain_exams.key(config, judged.first, trained, alone) != explain_exams.key(config, judged.first, trained, report)
    with pytest.raises(StoreError, match=r"does not hold the scores that were reported.*mammo evaluate"):
        explain_exams.body(config, judged.first, trained, alone)  # another evaluation wrote over its scores


def test_an_exam_is_not_explained_by_an_evaluation_of_other_splits(judged: Judged) -> None:
    """Its test exams are not those of today: their pages would say scores of then."""
    made = SimpleNamespace(provenance=SimpleNamespace(splits_sha256="0" * 64))
    with pytest.raises(StoreError, match=r"another division of the patients.*mammo evaluate"):
        explain_exams.body(judged.config("listed"), judged.first, None, made)  # type: ignore[arg-type]
