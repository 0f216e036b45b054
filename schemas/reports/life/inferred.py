"""``result.json`` of ``mammo infer``: the contract with the program that called it."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from schemas.reports.report import Report

RESULT_FORM: Final = "mammo-infer-result"
RESULT_VERSION: Final = 1

Scores = dict[str, float | None]
"""By finding; None = no number."""


class AnsweredImage(Report):
    """One image that was scored."""

    file: int = Field(ge=1, description="Number of its file among those of the input folder, in the order of their paths")
    image_id: str = Field(description="Pseudonym under the workspace's key")
    exam_id: str = Field(description="Pseudonym under the workspace's key")
    laterality: str
    view_position: str
    scores: Scores
    gate_warnings: str = Field(description="Rules that warned, with blanks between")
    breast_seen: float = Field(description="Share of the breast inside the network's window")


class AnsweredExam(Report):
    """One exam as it stands in the prediction log."""

    exam_id: str
    images: int
    breasts: dict[str, Scores] = Field(description="By side: the mean of its views")
    calibrated_breasts: dict[str, Scores] | None = Field(description="After the recalibration, if the config asks for it")
    thresholds: Scores = Field(
        description="Locked, or the site's own of the device; empty = there is none, so nothing is decided"
    )
    recalled: dict[str, bool] = Field(description="By finding: a breast's score is at or above the threshold")
    gate_warnings: str


class FileNotUsed(Report):
    """A file that gave no score."""

    file: int = Field(ge=1, description="Number of the file, as of an image")
    rules: tuple[str, ...] = Field(description="Rules of the gate that refuse it; none = it was withdrawn here")
    why: str


class InferResult(Report):
    """What became of one input folder. There is a score in it only if ``exit_code`` is 0 or 8."""

    form: str = RESULT_FORM
    version: int = RESULT_VERSION
    notice: str = "Research use only: not for diagnosis"
    exit_code: int = Field(description="Of the command, by its table of exit codes")
    message: str = Field("", description="Why, where the exit code is not 0")
    run: str = Field(description="Stands in every line of the prediction log that this answer has")
    code_version: str
    model: str = Field("", description="SHA-256 of the weights; empty = it did not come to that")
    preprocessing: str = Field("", description="What the images were made with")
    terms: tuple[str, ...] = Field((), description="What the terms of the training data forbid")
    exams: tuple[AnsweredExam, ...] = ()
    images: tuple[AnsweredImage, ...] = ()
    missing: tuple[str, ...] = Field((), description="Views that exams lack, and breasts that the window does not hold")
    not_used: tuple[FileNotUsed, ...] = ()
    copies: int = Field(0, description="Files that hold an image that another file holds too, with all that counts")
    log_number: int = Field(0, description="Last line of the prediction log by then, this answer's or a later one; 0 = none")
    log_sha256: str = Field("", description="Its digest: what `mammo log verify --contains` asks for")
