"""Patients are divided once, and an epoch shows what the paper says."""

from __future__ import annotations

import logging
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmic_model.sampling import EpochSampler, draw_folds, measured_exams, split_patients
from schemas.errors import ConfigError, TrainingError
from schemas.exam import ExamRecord, Finding, Laterality, Split

FRACTIONS = {Split.TRAIN: 0.6, Split.TUNING: 0.15, Split.TEST: 0.25}
MALIGNANT, BENIGN, NOTHING = frozenset({Finding.MALIGNANT}), frozenset({Finding.BENIGN}), frozenset[Finding]()


def exam(
    number: int, right: frozenset[Finding] | None, *, patient: str | None = None, left: frozenset[Finding] | None = NOTHING
) -> ExamRecord:
    """An exam of which both breasts are seen."""
    return ExamRecord(
        exam_id=f"E{number}",
        patient_id=patient or f"P{number}",
        findings={Laterality.RIGHT: right, Laterality.LEFT: left},
    )


FOUND = st.sampled_from([MALIGNANT, BENIGN, NOTHING, None, MALIGNANT | BENIGN])


@st.composite
def cohorts(draw: st.DrawFn) -> list[ExamRecord]:
    """Up to 80 exams of up to 80 patients."""
    rows = draw(st.lists(st.tuples(st.integers(0, 79), FOUND, FOUND), max_size=80))
    return [exam(i, right, patient=f"P{patient}", left=left) for i, (patient, right, left) in enumerate(rows)]


@st.composite
def fraction_sets(draw: st.DrawFn) -> dict[Split, float]:
    """Shares that add to 1, in steps of 0.01, training at least 0.01."""
    tuning = draw(st.integers(0, 60))
    test = draw(st.integers(0, 99 - tuning))
    return {Split.TRAIN: (100 - tuning - test) / 100, Split.TUNING: tuning / 100, Split.TEST: test / 100}


def worst(exams: list[ExamRecord], patient_id: str) -> str:
    """The plain oracle of a patient's stratum."""
    own = [one for one in exams if one.patient_id == patient_id]
    found = [breast for one in own for breast in one.findings.values()]
    if any(breast and Finding.MALIGNANT in breast for breast in found):
        return "malignant"
    if any(breast for breast in found):
        return "benign"
    return "none" if any(None not in one.findings.values() for one in own) else "unknown"


@given(cohorts(), fraction_sets(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_every_patient_is_in_exactly_one_split(exams: list[ExamRecord], fractions: dict[Split, float], seed: int) -> None:
    """The keys are the patients, each once, and a split of share 0 gets nobody."""
    splits = split_patients(exams, fractions, seed=seed)
    assert set(splits) == {one.patient_id for one in exams}
    assert all(fractions[split] > 0 for split in splits.values())


@given(cohorts(), st.integers(0, 2**32), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_split_does_not_depend_on_the_order_of_exams(exams: list[ExamRecord], seed: int, shuffler: random.Random) -> None:
    """Folder order differs between machines; the split must not."""
    shuffled = exams.copy()
    shuffler.shuffle(shuffled)
    first, again = split_patients(exams, FRACTIONS, seed=seed), split_patients(shuffled, FRACTIONS, seed=seed)
    assert list(first.items()) == list(again.items())


@given(cohorts(), fraction_sets(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_each_stratum_is_shared_out_within_rounding(exams: list[ExamRecord], fractions: dict[Split, float], seed: int) -> None:
    """A split is off its share of a stratum by less than one patient, except to give each split at least one."""
    splits = split_patients(exams, fractions, seed=seed)
    present = [split for split in Split if fractions[split] > 0]
    strata: dict[str, Counter[Split]] = {}
    for patient_id, split in splits.items():
        strata.setdefault(worst(exams, patient_id), Counter())[split] += 1
    for counts in strata.values():
        patients = counts.total()
        rounded = {split: abs(counts[split] - patients * fractions[split]) < 1 for split in present}
        if patients >= len(present):
            assert all(counts[split] >= 1 for split in present)
        elif 1 not in Counter(splits.values()).values():
            assert all(rounded.values())
        if all(patients * fractions[split] >= 1 for split in present):
            assert all(rounded.values())


@given(cohorts(), fraction_sets(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_no_split_is_empty_where_there_are_patients_enough(
    exams: list[ExamRecord], fractions: dict[Split, float], seed: int
) -> None:
    """Three patients in three strata train, tune and test: rounding alone would have all of them train."""
    splits = split_patients(exams, fractions, seed=seed)
    present = {split for split in Split if fractions[split] > 0}
    assert len(set(splits.values())) == min(len(splits), len(present))


def test_of_a_few_patients_those_with_the_worst_findings_train() -> None:
    """One patient each malignant, benign, without: she without a finding tests first, and earlier splits stay."""
    exams = [exam(0, MALIGNANT), exam(1, BENIGN), exam(2, NOTHING)]
    assert split_patients(exams, FRACTIONS, seed=0) == {"P0": Split.TRAIN, "P1": Split.TUNING, "P2": Split.TEST}
    assert split_patients(exams[1:], FRACTIONS, seed=0) == {"P1": Split.TRAIN, "P2": Split.TEST}
    unknown = [exam(0, MALIGNANT), exam(1, NOTHING), exam(2, None)]
    assert split_patients(unknown, FRACTIONS, seed=0) == {"P0": Split.TRAIN, "P1": Split.TEST, "P2": Split.TUNING}
    kept = dict.fromkeys(("P0", "P1", "P2"), Split.TRAIN)
    assert split_patients(exams, FRACTIONS, seed=0, kept=kept) == kept


def test_small_cohort_gives_each_split_a_malignant_patient() -> None:
    """3 malignant of 20 patients at 60/15/25 %: largest remainder alone would give 2, 0, 1 and no tuning AUROC."""
    exams = [exam(i, MALIGNANT if i < 3 else NOTHING) for i in range(20)]
    splits = split_patients(exams, FRACTIONS, seed=0)
    assert {splits[f"P{i}"] for i in range(3)} == set(Split)


def test_shares_of_a_hundred_patients_are_exact() -> None:
    """20 malignant, 40 benign, 40 without at 60/15/25 %: 12+24+24, 3+6+6, 5+10+10."""
    exams = [exam(i, MALIGNANT if i < 20 else BENIGN if i < 60 else NOTHING) for i in range(100)]
    assert Counter(split_patients(exams, FRACTIONS, seed=3).values()) == {Split.TRAIN: 60, Split.TUNING: 15, Split.TEST: 25}


def test_split_is_fixed_for_ever() -> None:
    """The division is a published fact of a data set: these six stay where they were the day this was written."""
    splits = split_patients([exam(i, NOTHING) for i in range(6)], FRACTIONS, seed=0)
    assert [splits[f"P{i}"].value for i in range(6)] == ["train", "train", "train", "tuning", "test", "train"]


def test_another_seed_divides_otherwise() -> None:
    """The seed reaches the order."""
    exams = [exam(i, NOTHING) for i in range(50)]
    assert split_patients(exams, FRACTIONS, seed=0) != split_patients(exams, FRACTIONS, seed=1)


def test_worst_finding_of_any_exam_decides_the_stratum() -> None:
    """Two patients, each malignant in one of two exams, go to train and test (shares 1.2, 0.3, 0.5), not both to train."""
    exams = [exam(i, MALIGNANT if i % 2 else None, patient=f"P{i // 2}") for i in range(4)]
    exams += [exam(i, NOTHING) for i in range(4, 40)]
    splits = split_patients(exams, FRACTIONS, seed=0)
    assert {splits["P0"], splits["P1"]} == {Split.TRAIN, Split.TEST}


@pytest.mark.parametrize(
    "fractions",
    [{Split.TRAIN: 0.5, Split.TEST: 0.4}, {Split.TRAIN: 1.2, Split.TEST: -0.2}, {Split.TRAIN: float("nan")}, {}],
)
def test_fractions_that_do_not_add_up_are_refused(fractions: dict[Split, float]) -> None:
    """Shares below 0 or not adding to 1 would lose patients silently."""
    with pytest.raises(ConfigError, match=r"add to 1.*Remedy"):
        split_patients([exam(0, NOTHING)], fractions, seed=0)


COHORT = [exam(i, MALIGNANT if i < 4 else BENIGN if i < 10 else NOTHING if i < 60 else None) for i in range(100)]


@pytest.mark.parametrize("ratio, drawn", [(1.0, 10), (0.0, 0), (2.5, 25), (0.25, 3)])
def test_epoch_holds_all_positives_and_the_asked_number_of_negatives(ratio: float, drawn: int) -> None:
    """10 positives; 2.5 of them negatives rounds half up to 3. No index comes twice, none is of unknown label."""
    sampler = EpochSampler(COHORT, negatives_per_positive=ratio, seed=5)
    for epoch in range(5):
        indices = sampler.draw(epoch)
        assert len(indices) == len(set(indices)) == 10 + drawn
        assert set(range(10)) <= set(indices) <= set(range(60))
        assert all(type(index) is int for index in indices)


def test_epochs_differ_and_a_seed_repeats_them() -> None:
    """The negatives are redrawn from (seed, epoch): a fresh sampler of that seed draws the same, however often."""
    first, again, other = (EpochSampler(COHORT, seed=seed) for seed in (5, 5, 6))
    drawn = []
    for epoch in range(4):
        drawn.append(first.draw(epoch))
        assert drawn[-1] == again.draw(epoch) != other.draw(epoch)
    assert len({frozenset(indices) for indices in drawn}) == 4
    assert again.draw(2) == drawn[2]


def test_all_negatives_are_seen_over_many_epochs() -> None:
    """Every known negative has its turn: 50 negatives, 10 an epoch, missed in 60 epochs with probability 0.8^60 = 1.5e-6."""
    sampler = EpochSampler(COHORT, seed=0)
    seen: set[int] = set()
    for epoch in range(60):
        seen |= set(sampler.draw(epoch))
    assert seen == set(range(60))


def test_half_labelled_exam_is_no_negative_but_may_be_positive() -> None:
    """One breast without a finding and one not known: not shown as absent. One with a finding and one not known: shown."""
    exams = [exam(0, MALIGNANT, left=None), exam(1, NOTHING, left=None), exam(2, None, left=None), exam(3, NOTHING)]
    assert set(EpochSampler(exams, negatives_per_positive=9, shortfall=1.0, seed=0).draw(0)) == {0, 3}


def test_shortage_of_negatives_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Fewer known negatives than asked for: all are used once, and the log says so."""
    with caplog.at_level(logging.WARNING):
        sampler = EpochSampler([exam(0, BENIGN), exam(1, BENIGN), exam(2, NOTHING)], seed=0)
    assert sorted(sampler.draw(0)) == [0, 1, 2]
    assert "1 exams without a finding instead of 2" in caplog.text


def registry_exam(number: int, *, is_malignant: bool, knows_benign: bool = False) -> ExamRecord:
    """An exam as a cancer registry labels it: malignant or not, of benign findings nothing."""
    present = MALIGNANT if is_malignant else NOTHING if knows_benign else None
    absent = frozenset(([] if is_malignant else [Finding.MALIGNANT]) + ([Finding.BENIGN] if knows_benign else []))
    return ExamRecord(
        exam_id=f"E{number}",
        patient_id=f"P{number}",
        findings={Laterality.LEFT: present},
        absent={Laterality.LEFT: absent},
    )


def test_labels_of_cancer_alone_give_negatives_too() -> None:
    """20 cancers, 200 exams known to be without cancer and nothing known of benign findings: 20 of them are in an epoch."""
    exams = [registry_exam(i, is_malignant=i < 20) for i in range(220)]
    drawn = EpochSampler(exams, seed=0).draw(0)
    assert len(drawn) == 40 and set(range(20)) <= set(drawn)
    splits = split_patients(exams, FRACTIONS, seed=0)
    assert Counter(splits[f"P{i}"] for i in range(20)) == {Split.TRAIN: 12, Split.TUNING: 3, Split.TEST: 5}


def test_exams_labelled_in_part_fill_up_those_labelled_whole() -> None:
    """10 cancers, 6 exams known to hold nothing, 50 known to be without cancer: all 6 of the first, 4 of the second."""
    exams = [registry_exam(i, is_malignant=i < 10, knows_benign=i < 16) for i in range(66)]
    drawn = EpochSampler(exams, seed=0).draw(0)
    assert len(drawn) == 20 and set(range(16)) <= set(drawn)


def test_a_set_without_normal_exams_has_its_other_finding_as_negatives() -> None:
    """10 malignant and 12 benign exams, none without a finding: each is a negative of the other."""
    exams = [exam(i, MALIGNANT if i < 10 else BENIGN) for i in range(22)]
    assert sorted(EpochSampler(exams, seed=0).draw(0)) == list(range(22))


@pytest.mark.parametrize("benign", [0, 4])
def test_positives_without_negatives_are_refused(benign: int) -> None:
    """10 malignant exams and less than half as many known to be without: nothing could be learnt but *always*."""
    exams = [exam(i, MALIGNANT if i < 10 else BENIGN) for i in range(10 + benign)]
    with pytest.raises(
        TrainingError, match=rf"too few exams known to be without a malignant.*Got: {benign}\..*negatives_shortfall"
    ):
        EpochSampler(exams, seed=0)
    EpochSampler(exams, seed=0, shortfall=1.0)


@pytest.mark.parametrize("exams", [[], [exam(0, NOTHING), exam(1, None)]])
def test_no_exam_with_a_finding_says_what_to_do(exams: list[ExamRecord]) -> None:
    """Nothing to learn from: training must not start."""
    with pytest.raises(TrainingError, match=r"No training exam has a finding.*Remedy: check that the labels file joins"):
        EpochSampler(exams, seed=0)


@settings(max_examples=40, deadline=None)
@given(exams=cohorts(), folds=st.integers(2, 7), seed=st.integers(0, 3))
def test_folds_are_even_in_every_stratum_and_in_all(exams: list[ExamRecord], folds: int, seed: int) -> None:
    """Two folds differ by one patient at the most, of each stratum and of all; the order of the exams decides nothing."""
    dealt = draw_folds(exams, folds, seed=seed)
    assert dealt.keys() == {one.patient_id for one in exams}
    assert draw_folds(exams[::-1], folds, seed=seed) == dealt
    strata: dict[str, list[str]] = {}
    for patient_id in dealt:
        strata.setdefault(worst(exams, patient_id), []).append(patient_id)
    for patients in (*strata.values(), list(dealt)):
        sizes = Counter(dealt[patient_id] for patient_id in patients)
        assert max(sizes.values(), default=0) - min((sizes[fold] for fold in range(1, folds + 1)), default=0) <= 1


def test_whoever_may_be_one_person_is_in_one_fold() -> None:
    """Two pseudonyms of a person are dealt as one."""
    exams = [exam(number, NOTHING) for number in range(12)]
    persons = {"P0": "P0", "P7": "P0"}
    for seed in range(5):
        dealt = draw_folds(exams, 4, seed=seed, person_by_patient=persons)
        assert dealt["P0"] == dealt["P7"]


def test_tuning_is_measured_on_every_positive_and_a_fixed_draw_of_negatives() -> None:
    """Three for each with a finding, whatever the order; nobody of whom nothing is known; all where there are too few."""
    known = [exam(number, MALIGNANT if number < 4 else NOTHING) for number in range(40)]
    exams = [*known, *(exam(number, None, left=None) for number in range(40, 60))]
    drawn = measured_exams(exams, 3.0, seed=5)
    assert len(drawn) == 16 and {f"E{number}" for number in range(4)} < drawn
    assert drawn == measured_exams(exams[::-1], 3.0, seed=5) != measured_exams(exams, 3.0, seed=6)
    everyone = {f"E{number}" for number in range(40)}
    assert drawn < everyone == measured_exams(exams, 100.0, seed=5) and len(measured_exams(exams, 0.0, seed=5)) == 4
