"""Split: patients are divided, never exams or images, and what leaks is not written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from schemas.config.evaluation import SplitConfig
from schemas.config.ingest import PreprocessConfig
from schemas.config.run import RunConfig, Stage
from schemas.errors import StoreError, ValidationFailed
from schemas.exam import Finding, Laterality, Split
from schemas.layout import MANIFEST_COLUMNS, SPLIT_NAMES, Severity
from schemas.reports.data import IngestReport, SplitReport
from tasks.adapters.checks.expectations import check_splits
from tasks.adapters.inbox.store_ledger import StoreLedger
from tasks.adapters.labels.division import count_splits
from tasks.adapters.pseudonyms import Pseudonyms, place_key
from tasks.adapters.store.exam_store import create_store
from tasks.adapters.store.manifest import exam_records, manifest_with_splits, publish, read_manifest
from tasks.adapters.store.same_patient import read_former_patients, read_same_patients, same_patients, write_same_patients
from tasks.adapters.store.store_settings import read_settings
from tasks.adapters.store.tables.line_texts import data_version
from tasks.adapters.workspace import StoreFolder
from tasks.split import split_patients
from tasks.stage import load_report, save_report

UNKNOWN = 255


def _line(row: int, patient: int, exam: str, side: str, view: str, **labels: int) -> dict[str, object]:
    texts = {column.name: "x" for column in MANIFEST_COLUMNS if column.dtype == "string"}
    numbers = {column.name: 1 for column in MANIFEST_COLUMNS if column.dtype in ("int64", "float64")}
    flags = {column.name: False for column in MANIFEST_COLUMNS if column.dtype == "bool"}
    own = {
        "row": row,
        "image_id": f"I{row}",
        "source_sha256": f"file-{row}",
        "pixel_sha256": f"pixels-{row}",
        "patient_id": f"P{patient:02d}",
        "exam_id": exam,
        "laterality": side,
        "view_position": view,
        "benign": 0,
        "malignant": 0,
        "birads": 1,
    }
    return {**texts, **numbers, **flags, **own, **labels}


def _cohort(patients: int = 20) -> list[dict[str, object]]:
    """Two exams of four views each; patients 0-4 malignant left in their first exam, 5-9 benign right, the rest normal."""
    lines: list[dict[str, object]] = []
    for patient in range(patients):
        for exam in range(2):
            for side in "RL":
                labels = {
                    "malignant": int(patient < 5 and side == "L" and exam == 0),
                    "benign": int(5 <= patient < 10 and side == "R"),
                }
                lines += [
                    _line(len(lines) + i, patient, f"E{patient}-{exam}", side, view, **labels)
                    for i, view in enumerate(("CC", "MLO"))
                ]
    return lines


def divide(config: RunConfig, ingested: IngestReport) -> SplitReport:
    """The stage's work, and its report where the next division finds it."""
    return save_report(config, Stage.SPLIT, split_patients.body(config, ingested))


def _config(workspace: Path, **changes: float) -> RunConfig:
    return RunConfig.model_validate({"workspace_dir": workspace, "ingest": {"source_dir": "s"}, "split": changes})


def _ingested(workspace: Path, lines: list[dict[str, object]], *, key_id: str = "k") -> IngestReport:
    preprocess = PreprocessConfig(window_px=32, jitter_shift_px=0, jitter_size_px=0)
    store = create_store(
        workspace / "exam_store", preprocess=preprocess, preprocess_version="1", rows_per_shard=4, key_id=key_id
    )
    publish(store, lines, [])
    return IngestReport(
        store_dir=store.folder,
        data_version=data_version(read_manifest(store)),
        files_found=len(lines),
        images_published=len(lines),
        images_new=0,
        exams=0,
        exams_incomplete=0,
        quarantined_by_reason={},
        warnings_by_rule={},
        labelled_breasts=0,
        orphan_labels=0,
        unlabelled_breasts=0,
    )


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> tuple[IngestReport, SplitReport]:
    """The cohort's split with seed 0."""
    workspace = tmp_path_factory.mktemp("workspace")
    ingested = _ingested(workspace, _cohort())
    return ingested, divide(_config(workspace), ingested)


def test_every_patient_has_one_split_and_brings_all_exams(divided: tuple[IngestReport, SplitReport]) -> None:
    """20 patients at 15 and 25 %: 12, 3 and 5; each patient's eight images are in one split, the file says which."""
    ingested, report = divided
    splits = pd.read_parquet(report.splits_path)
    assert tuple(splits.columns) == SPLIT_NAMES
    assert splits["patient_id"].is_unique
    assert sorted(splits["patient_id"]) == [f"P{patient:02d}" for patient in range(20)]
    joined = manifest_with_splits(report, pd.read_parquet(ingested.store_dir / "manifest.parquet"))
    assert len(joined) == 160
    assert (joined.groupby("patient_id")["split"].nunique() == 1).all()
    assert {name: count.patients for name, count in report.counts.items()} == splits["split"].value_counts().to_dict()
    assert sum(count.images for count in report.counts.values()) == 160
    assert sum(count.malignant_breasts for count in report.counts.values()) == 5
    assert sum(count.benign_breasts for count in report.counts.values()) == 10
    # Stratified: with five patients of each finding every split has one.
    assert all(count.malignant_breasts >= 1 and count.benign_breasts >= 1 for count in report.counts.values())
    assert report.data_version == ingested.data_version


def test_the_report_lies_beside_the_splits(divided: tuple[IngestReport, SplitReport]) -> None:
    """What split returned can be read again from its folder."""
    _, report = divided
    assert load_report(_config(report.splits_path.parents[1]), Stage.SPLIT, SplitReport) == report


def test_the_same_seed_divides_the_same_and_another_does_not(divided: tuple[IngestReport, SplitReport], tmp_path: Path) -> None:
    """Same data, same seed: the same bytes in the file; the order of the manifest's lines does not matter."""
    ingested, report = divided
    first = report.splits_path.read_bytes()
    shuffled = _ingested(tmp_path, _cohort()[::-1])
    assert divide(_config(tmp_path), shuffled).splits_path.read_bytes() == first
    assert divide(_config(tmp_path, seed=1), ingested).splits_path.read_bytes() != first


def test_an_exam_of_two_patients_is_refused_and_nothing_written(tmp_path: Path) -> None:
    """One StudyInstanceUID under several PatientIDs would put its images into several splits: the run stops."""
    lines = _cohort()
    for line in lines:
        if str(line["patient_id"]) in {f"P{patient:02d}" for patient in range(10, 20)}:
            line["exam_id"] = "E-shared"
    with pytest.raises(ValidationFailed, match=r"The splits leak.*Got: .*: \d+.*Remedy"):
        divide(_config(tmp_path), _ingested(tmp_path, lines))
    assert not (tmp_path / "split").exists()


def test_without_a_published_store_it_says_what_to_run(tmp_path: Path) -> None:
    """The store is gone: a StoreError with its remedy."""
    ingested = _ingested(tmp_path, _cohort(2))
    (tmp_path / "exam_store" / "manifest.parquet").unlink()
    with pytest.raises(StoreError, match="mammo ingest"):
        divide(_config(tmp_path), ingested)


@pytest.mark.parametrize(
    ("benign", "malignant", "findings"),
    [
        (0, 0, frozenset()),
        (1, 0, frozenset({Finding.BENIGN})),
        (1, 1, frozenset({Finding.BENIGN, Finding.MALIGNANT})),
        (UNKNOWN, UNKNOWN, None),
        (0, UNKNOWN, None),  # not known to be without a finding
        (UNKNOWN, 1, frozenset({Finding.MALIGNANT})),  # what is known counts
    ],
)
def test_a_breast_is_known_only_if_every_finding_is(benign: int, malignant: int, findings: frozenset[Finding] | None) -> None:
    """Empty set: none found; None: not known. Never one for the other."""
    manifest = pd.DataFrame([_line(0, 1, "E1", "L", "CC", benign=benign, malignant=malignant)])
    (record,) = exam_records(manifest)
    assert record.findings == {Laterality.LEFT: findings}


def test_exam_records_come_in_the_order_of_their_ids() -> None:
    """One record per exam with its patient and both breasts, whatever the order of the lines."""
    records = exam_records(pd.DataFrame(_cohort(3)[::-1]))
    assert [(record.exam_id, record.patient_id) for record in records] == [
        (f"E{patient}-{exam}", f"P{patient:02d}") for patient in range(3) for exam in range(2)
    ]
    assert all(set(record.findings) == set(Laterality) for record in records)


def test_counts_are_of_breasts_not_of_views() -> None:
    """A malignant breast with two views is one; a split without patients is counted as zeros."""
    lines = [_line(i, 1, "E1", "L", view, malignant=1) for i, view in enumerate(("CC", "MLO"))]
    counts = count_splits(pd.DataFrame(lines).assign(split="train"))
    assert (counts["train"].images, counts["train"].malignant_breasts, counts["train"].benign_breasts) == (2, 1, 0)
    assert set(counts) == {part.value for part in Split}
    assert counts["test"].patients == 0


def test_patients_that_came_later_belong_to_no_split(divided: tuple[IngestReport, SplitReport]) -> None:
    """They are left out until the split is made again, so nobody moves from training to test unseen."""
    _, report = divided
    later = manifest_with_splits(report, pd.DataFrame(_cohort(22)))
    assert set(later["patient_id"]) == {f"P{patient:02d}" for patient in range(20)}


def test_patients_keep_their_split_when_the_cohort_grows(tmp_path: Path) -> None:
    """12 of 20 patients, then all, then 12, then all: nobody moves, also after an absence; a new seed divides anew."""
    few, all_lines = _cohort(12), _cohort(20)

    def table(lines: list[dict[str, object]], **changes: float) -> tuple[dict[str, str], SplitReport]:
        report = divide(_config(tmp_path, **changes), _ingested(tmp_path, lines))
        splits = pd.read_parquet(report.splits_path)
        return dict(zip(splits["patient_id"], splits["split"], strict=True)), report

    first, _ = table(few)
    grown, report = table(all_lines)
    assert first.items() <= grown.items() and len(grown) == 20 and report.patients_kept == 12
    sizes = {part: count.patients for part, count in report.counts.items()}
    assert sizes["train"] == 12 and 3 <= sizes["tuning"] <= 4 and 4 <= sizes["test"] <= 5
    shrunk, report = table(few)
    assert shrunk == grown and report.patients_kept == 12
    assert table(all_lines)[0] == grown
    assert table(all_lines, seed=1)[0] != grown


def test_what_a_split_lacks_for_its_metrics_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a malignant breast three checks are not met; where everybody tests, nobody asks for what trains and tunes."""
    few = [{**line, "malignant": 0} for line in _cohort()]
    divide(_config(tmp_path / "own"), _ingested(tmp_path / "own", few))
    assert "not met: " + "; ".join(f"{part} has malignant breasts" for part in Split) in caplog.text
    caplog.clear()
    divide(_config(tmp_path / "other", external=True), _ingested(tmp_path / "other", few))
    (said,) = [record.getMessage() for record in caplog.records if "not met" in record.getMessage()]
    assert said.endswith("not met: test has malignant breasts")


def test_splits_that_are_gone_are_a_store_error(divided: tuple[IngestReport, SplitReport], tmp_path: Path) -> None:
    """The file was deleted behind the report's back: a remedy, not a traceback of pandas."""
    report = divided[1].model_copy(update={"splits_path": tmp_path / "splits.parquet"})
    with pytest.raises(StoreError, match="mammo split"):
        manifest_with_splits(report, pd.DataFrame(_cohort(2)))


# ------------------------------------------------------------------------------------- one PatientID, several issuers


def test_patients_of_one_patient_id_are_divided_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ten women, each with an exam that lacks the issuer: twenty pseudonyms, and no woman in two splits."""
    lines = _cohort()
    ingested = _ingested(tmp_path, lines)
    persons = same_patients((str(line["patient_id"]), f"P{int(str(line['patient_id'])[1:]) % 10:02d}") for line in lines)
    apart = divide(_config(tmp_path), ingested)
    before = dict(pd.read_parquet(apart.splits_path).to_numpy().tolist())
    assert any(before[f"P{number:02d}"] != before[f"P{number + 10:02d}"] for number in range(10)), "else nothing is proved"

    write_same_patients(StoreFolder(ingested.store_dir), persons)
    together = divide(_config(tmp_path), ingested)
    after = dict(pd.read_parquet(together.splits_path).to_numpy().tolist())
    seen_first = list(Split)
    for number in range(10):
        pair = f"P{number:02d}", f"P{number + 10:02d}"
        assert {after[one] for one in pair} == {min((before[one] for one in pair), key=seen_first.index)}
    assert "leave their split" in caplog.text
    assert failing(ingested, together, persons) == set()
    assert failing(ingested, apart_again(tmp_path, together, before), persons) == {
        "R62: patients of one PatientID are in one split"
    }


def apart_again(workspace: Path, report: SplitReport, splits: dict[str, str]) -> SplitReport:
    """A report of splits that leak."""
    path = workspace / "leaking.parquet"
    pd.DataFrame({"patient_id": list(splits), "split": list(splits.values())}).to_parquet(path, index=False)
    return report.model_copy(update={"splits_path": path})


def failing(ingested: IngestReport, report: SplitReport, persons: dict[str, str]) -> set[str]:
    """Blocking checks of the leakage audit that are not met."""
    manifest = pd.read_parquet(ingested.store_dir / "manifest.parquet")
    checks = check_splits(manifest, pd.read_parquet(report.splits_path), persons)
    return {check.check for check in checks if not check.is_met and check.severity == Severity.BLOCK}


def test_patients_share_a_person_by_their_patient_id_alone() -> None:
    """With an issuer, without, and as an older version stored it; who shares with nobody is not named."""
    lines = [("PA", "P1"), ("P1", "P1"), ("PB", "P2"), ("P2", None), ("PC", "P3"), ("PC", "P3"), ("PD", None)]
    assert same_patients(lines) == {"P1": "P1", "PA": "P1", "P2": "P2", "PB": "P2"}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"patient_id,", b"patient_id,person_id\nP1", b"<html>\n<body>\n"])
def test_a_damaged_list_of_persons_is_not_taken_for_an_empty_one(tmp_path: Path, content: bytes) -> None:
    """One person would be divided between training and test, or called unseen: a sentence says what is damaged."""
    files = StoreFolder(tmp_path)
    for path, read in ((files.same_patient_path, read_same_patients), (files.former_patients_path, read_former_patients)):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=rf"{path.name} is damaged.*Remedy"):
            read(files)


# --------------------------------------------------------------------------------------------------- divided by others


_PSEUDONYMS = Pseudonyms(b"k" * 32)
_TWENTY = {f"P{number:02d}": _PSEUDONYMS.patient_id(f"W{number:02d}") for number in range(20)}


def _given_config(workspace: Path, parts: dict[str, str]) -> RunConfig:
    """The run whose patients are divided by a file with these splits by PatientID."""
    path = workspace / "official.csv"
    path.write_text("patient_id,split\n" + "".join(f"{patient},{part}\n" for patient, part in parts.items()))
    return RunConfig.model_validate(
        {"workspace_dir": workspace, "ingest": {"source_dir": "s"}, "split": {"file": path, "tuning_fraction": 0.2}}
    )


@pytest.fixture
def official(tmp_path: Path) -> tuple[Path, IngestReport]:
    """A workspace of twenty patients under the pseudonyms of a key."""
    place_key(tmp_path / "pseudonym.key", _PSEUDONYMS.key)
    lines = [{**line, "patient_id": _TWENTY[str(line["patient_id"])]} for line in _cohort()]
    ingested = _ingested(tmp_path, lines, key_id=_PSEUDONYMS.key_id)
    StoreLedger.make(ingested.store_dir / "ledger.sqlite", read_settings(StoreFolder(ingested.store_dir)).store_id)
    return tmp_path, ingested


def test_an_official_division_is_followed_and_its_tuning_patients_are_drawn(official: tuple[Path, IngestReport]) -> None:
    """Five test, one is left out, fourteen train four of whom tune; they stay when the file changes."""
    workspace, ingested = official
    parts = {f"W{number:02d}": "test" if number % 4 == 0 else "training" for number in range(20)} | {"W01": "left out"}
    config = _given_config(workspace, parts)
    report = divide(config, ingested)
    splits = pd.read_parquet(report.splits_path).set_index("patient_id")["split"]
    assert set(splits[splits == "test"].index) == {_TWENTY[f"P{number:02d}"] for number in range(0, 20, 4)}
    assert _TWENTY["P01"] not in splits.index
    assert report.counts["tuning"].patients == 4 and report.counts["train"].patients == 10
    assert (report.divided_by, report.patients_left_out, report.file_patients_unknown) == ("file", 1, 0)
    assert report.counts["tuning"].malignant_breasts == 1  # stratified

    key = split_patients.key(config, ingested)
    changed = _given_config(workspace, {**parts, "W01": "training", "W02": "test", "W99": "test"})
    assert split_patients.key(changed, ingested) != key
    again = divide(changed, ingested)
    now = pd.read_parquet(again.splits_path).set_index("patient_id")["split"]
    assert now[_TWENTY["P02"]] == "test" and _TWENTY["P01"] in now.index
    stayed = [patient for patient in splits.index if patient != _TWENTY["P02"]]
    assert (now[stayed] == splits[stayed]).all()
    assert again.file_patients_unknown == 1


def test_external_patients_all_test(divided: tuple[IngestReport, SplitReport]) -> None:
    """The word stands for the section; there is nobody to train on."""
    ingested, first = divided
    config = RunConfig.model_validate(
        {"workspace_dir": first.splits_path.parents[1] / "external", "ingest": {"source_dir": "s"}, "split": "external"}
    )
    report = split_patients.body(config, ingested)
    assert {part: count.patients for part, count in report.counts.items()} == {"train": 0, "tuning": 0, "test": 20}
    assert report.divided_by == "external"


def test_patients_are_divided_in_one_way() -> None:
    """A file and the word external contradict each other."""
    with pytest.raises(ValueError, match="name one of the two"):
        SplitConfig(file=Path("official.csv"), external=True)
