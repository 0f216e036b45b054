"""What became of an exam, from the dates of diagnosis of its breasts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gmic_model.metrics.clinic.programme import programme_report
from tasks.adapters.scoring.clinic.followed_exams import followed_exams
from tasks.adapters.scoring.reviewed.original_read import exam_reads

NONE = np.nan
CASES = {  # exam: (label, days, BI-RADS) of either breast -> cancer within 12 and 24 months, recalled
    "E0": ([(1, 0, 5), (0, NONE, 1)], (1, 1, 1)),
    "E1": ([(1, 365, 1), (0, NONE, 1)], (1, 1, 0)),
    "E2": ([(1, 366, 2), (0, NONE, 0)], (0, 1, 1)),
    "E3": ([(1, 730, 2), (0, NONE, 2)], (0, 1, 0)),
    "E4": ([(1, 731, 2), (0, NONE, 255)], (0, 0, 255)),
    "E5": ([(0, NONE, 1), (0, NONE, 1)], (0, 0, 0)),
    "E6": ([(255, NONE, 1), (0, NONE, 1)], (255, 255, 0)),
    "E7": ([(1, NONE, 4), (0, NONE, 1)], (255, 255, 1)),
    "E8": ([(1, -3, 4), (1, 20, 1)], (255, 255, 1)),
    "E9": ([(1, 100, 255), (255, NONE, 255)], (1, 1, 255)),
}


def _images() -> pd.DataFrame:
    lines = [
        {"exam_id": exam, "laterality": side, "malignant": label, "days_to_diagnosis": days, "birads": birads}
        for exam, (breasts, _) in CASES.items()
        for side, (label, days, birads) in zip("LR", breasts, strict=True)
        for _ in ("CC", "MLO")
    ]
    return pd.DataFrame(lines)


def test_each_exam_has_what_its_breasts_have() -> None:
    """Of two breasts the strongest statement counts; a cancer that was known already, or has no date, makes nothing known."""
    exams = pd.DataFrame({"patient_id": [f"P{exam}" for exam in CASES], "exam_id": list(CASES), "score": 0.5})
    found = followed_exams(exams.iloc[::-1], _images(), (0, 4, 5))
    assert found is not None
    told = zip(found.patient_E, found.cancer_12_E, found.cancer_24_E, found.read_E, strict=True)
    assert {name[1:]: (int(a), int(b), int(c)) for name, a, b, c in told} == {exam: want for exam, (_, want) in CASES.items()}


def test_an_exam_is_without_a_cancer_for_as_long_as_it_was_followed() -> None:
    """Two years are known after 730 days; one year after 365; a breast of which nothing is said is not known."""
    exams = pd.DataFrame({"patient_id": [f"P{exam}" for exam in CASES], "exam_id": list(CASES), "score": 0.5})
    days = {"E3": 730, "E4": 729, "E5": 365, "E1": 10}
    images = _images()
    images["days_of_followup"] = images["exam_id"].map(days).where(images["malignant"] == 0)
    found = followed_exams(exams, images, (0, 4, 5))
    assert found is not None
    told = {
        name[1:]: (int(a), int(b)) for name, a, b in zip(found.patient_E, found.cancer_12_E, found.cancer_24_E, strict=True)
    }
    assert told["E3"] == (0, 1) and told["E4"] == (0, 255) and told["E5"] == (0, 255)
    assert told["E1"] == (1, 1)  # of the other breast a cancer is known, whatever this one's follow-up
    assert told["E2"] == (255, 1)  # nothing is said of its healthy breast's first year


def test_a_category_that_is_no_assessment_is_no_read() -> None:
    """BI-RADS 6 is cancer that was known, and 0 none unless named: no read missed a cancer there, as beside the read."""
    cases = {"A": (6, 1), "B": (0, 1), "C": (6, 4), "D": (1, 2)}
    images = pd.DataFrame(
        [
            {"exam_id": exam, "laterality": side, "malignant": int(side == "L"), "days_to_diagnosis": 9.0, "birads": birads}
            for exam, either in cases.items()
            for side, birads in zip("LR", either, strict=True)
        ]
    )
    images.loc[images["laterality"] == "R", "days_to_diagnosis"] = NONE
    exams = pd.DataFrame({"patient_id": list(cases), "exam_id": list(cases), "score": 0.5})
    for recalled, want in (((4, 5), [255, 255, 1, 0]), ((0, 4, 5), [255, 1, 1, 0]), ((0, 4, 5, 6), [1, 1, 1, 0])):
        found = followed_exams(exams, images, recalled)
        assert found is not None and found.read_E.tolist() == want
        assert exam_reads(images, recalled) == dict(zip(cases, want, strict=True))
    found = followed_exams(exams, images, (4, 5))
    assert found is not None
    counted = programme_report(found, threshold=None, basis="", recalled_birads=(4, 5), confidence=0.95)
    assert (counted.screen_detected, counted.interval_cancers, counted.without_read) == (1, 1, 2)


def test_a_store_without_dates_is_not_measured() -> None:
    """No column, or one that says nothing."""
    exams = pd.DataFrame({"patient_id": ["P"], "exam_id": ["E0"], "score": [0.5]})
    assert followed_exams(exams, _images().drop(columns="days_to_diagnosis"), (0, 4, 5)) is None
    assert followed_exams(exams, _images().assign(days_to_diagnosis=NONE), (0, 4, 5)) is None
